//! Services that call each other in a row, of which the last one fails: how often that is called in the end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::data_path::app::{self, bare, scripted};
use crate::data_path::caller::{Got, h1, read, request};
use crate::data_path::mesh::{Mesh, Node, within};

/// What a service hands on: of the request to what it calls, and of the answer back.
#[derive(Debug, Clone, Copy)]
struct Manners {
    attempt: bool,
    no_retry: bool,
}

/// `a` calls `b` calls `c`, which fails.
struct Chain {
    mesh: Mesh,
    caller: Node,
    _nodes: [Node; 3],
    seen: [Arc<AtomicUsize>; 3],
}

impl Chain {
    async fn new(manners: Manners) -> Self {
        let mesh = Mesh::new();
        let (app, last) = scripted(|_, _| bare(503, "")).await;
        let c = mesh.node("c", &[format!("c={app}/http")], &[]);
        let (b, second) = relay(&mesh, ("b", "c"), manners).await;
        let (a, first) = relay(&mesh, ("a", "b"), manners).await;
        let caller = mesh.node("caller", &[], &[]);
        mesh.apply(json!([]));
        Self { mesh, caller, _nodes: [a, b, c], seen: [first, second, last] }
    }

    /// Puts one policy for retries into force for each of them.
    fn retry(&self, retry: &Value) {
        let policy = |name: &str| {
            json!({
                "apiVersion": "mesh/v1",
                "kind": "TrafficPolicy",
                "metadata": { "name": name },
                "spec": { "targetRef": { "kind": "Service", "name": name }, "retry": retry }
            })
        };
        self.mesh.apply(json!([policy("a"), policy("b"), policy("c")]));
    }

    /// Calls `a` over one connection, and returns how often each of them was called for it.
    async fn call(&self, times: usize) -> [usize; 3] {
        let mut sender = h1(self.caller.outbound()).await;
        for _ in 0..times {
            within(sender.ready()).await.unwrap();
            let wanted = request("GET", "a", "/", Bytes::new());
            assert_eq!(read(within(sender.send_request(wanted)).await.unwrap()).await.status.as_u16(), 503);
        }
        self.seen.each_ref().map(|seen| seen.swap(0, Ordering::SeqCst))
    }
}

/// Starts a service on a node of its own, which asks the next one through that node's proxy whatever it is asked.
async fn relay(
    mesh: &Mesh,
    (name, next): (&'static str, &'static str),
    manners: Manners,
) -> (Node, Arc<AtomicUsize>) {
    let (seen, proxy) = (Arc::new(AtomicUsize::new(0)), Arc::new(OnceLock::new()));
    let (count, outbound) = (seen.clone(), proxy.clone());
    let app = app::raw(move |mut stream| {
        let (count, outbound): (_, Arc<OnceLock<SocketAddr>>) = (count.clone(), outbound.clone());
        async move {
            loop {
                let head = app::read_head(&mut stream).await;
                if !head.ends_with("\r\n\r\n") {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let got =
                    ask(*outbound.get().unwrap(), next, attempt(&head).filter(|_| manners.attempt)).await;
                let told = got.header("mesh-no-retry");
                let fields = if manners.no_retry && !told.is_empty() {
                    format!("mesh-no-retry: {told}\r\n")
                } else {
                    String::new()
                };
                if stream.write_all(bare(got.status.as_u16(), &fields).as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let node = mesh.node(name, &[format!("{name}={app}/http")], &[]);
    proxy.set(node.outbound()).unwrap();
    (node, seen)
}

fn attempt(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("mesh-attempt: "))
}

async fn ask(proxy: SocketAddr, service: &str, attempt: Option<&str>) -> Got {
    let mut wanted = request("GET", service, "/", Bytes::new());
    if let Some(attempt) = attempt {
        wanted.headers_mut().insert("mesh-attempt", attempt.parse().unwrap());
    }
    let mut sender = h1(proxy).await;
    read(within(sender.send_request(wanted)).await.unwrap()).await
}

/// Retries as they are by default, and as many as are wanted of them.
fn rich() -> Value {
    json!({ "budget": { "minRetriesPerSecond": 1_000 } })
}

// cases 71, 72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_last_hop_of_a_chain_retries_where_services_hand_on_what_they_are_told() {
    let chain = Chain::new(Manners { attempt: true, no_retry: true }).await;
    chain.retry(&rich());
    assert_eq!(chain.call(1).await, [1, 1, 3]);
    assert_eq!(chain.call(3).await, [3, 3, 9]);
}

// cases 71, 72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_through_a_chain_has_more_retries_than_one_hop_where_services_hand_on_their_number_alone() {
    let chain = Chain::new(Manners { attempt: true, no_retry: false }).await;
    chain.retry(&rich());
    // What came as the first attempt is made three times, what came as the second twice, as the third once.
    assert_eq!(chain.call(1).await, [3, 3 + 2 + 1, (3 + 2 + 1) + (2 + 1) + 1]);
}

// cases 71, 72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_bounds_each_hop_of_a_chain_whose_services_hand_on_nothing() {
    let chain = Chain::new(Manners { attempt: false, no_retry: false }).await;
    chain.retry(&json!({
        "backoff": "1ms", "budget": { "percent": 20, "interval": "1m", "minRetriesPerSecond": 0 }
    }));

    let [first, second, last] = chain.call(100).await;

    // A fifth of what a hop was asked itself, and what each of its two workers may round up: 1.2, 1.44 and 1.73 times as much,
    // and not 3, 9 and 27 times.
    let most = |asked: usize| asked * 6 / 5 + 2;
    assert!((100..=most(100)).contains(&first), "{first}, {second}, {last}");
    assert!((first..=most(first)).contains(&second), "{first}, {second}, {last}");
    assert!((second..=most(second)).contains(&last), "{first}, {second}, {last}");
}
