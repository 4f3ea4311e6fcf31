//! Who takes a call, where several could: by weight, by key, and who is left alone for a while.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ::mesh::model::service::LocalService;
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::mpsc;

use crate::data_path::cases::ask::{Ask, ask, get, grpc};
use crate::data_path::cases::scene::Layout;
use crate::data_path::cases::service::{Answer, Heard, Speaks, serve, serve_each};
use crate::data_path::cases::two::{Two, wanted, whole};
use crate::data_path::cases::wire::Wire;
use crate::data_path::mesh::{self, Mesh, Node, within};

/// Applications that are each an instance of a service, and somebody to call them.
struct Several {
    mesh: Mesh,
    nodes: Vec<Node>,
    caller: Option<Node>,
    locals: Vec<LocalService>,
}

impl Several {
    /// Each of `apps` is a service's name and its application: all on one node that calls itself, or on a node each with
    /// another one to call them.
    fn new(layout: Layout, apps: &[(&str, SocketAddr)]) -> Self {
        let mesh = Mesh::new();
        let services: Vec<String> = apps.iter().map(|(name, app)| format!("{name}={app}/http")).collect();
        let (nodes, caller) = match layout {
            Layout::One => (vec![mesh.node("both", &services, &[])], None),
            Layout::Two => {
                let nodes = services.chunks(1).enumerate();
                let nodes = nodes.map(|(at, one)| mesh.node(&format!("node-{at}"), one, &[])).collect();
                (nodes, Some(mesh.node("caller", &[], &[])))
            }
        };
        let locals = services.iter().map(|text| text.parse().unwrap()).collect();
        mesh.apply(json!([]));
        Self { mesh, nodes, caller, locals }
    }

    fn caller(&self) -> &Node {
        self.caller.as_ref().unwrap_or(&self.nodes[0])
    }

    /// Takes an instance away.
    fn remove(&mut self, at: usize) {
        if self.caller.is_some() {
            return self.mesh.bury(&format!("node-{at}"));
        }
        self.locals.remove(at);
        self.nodes[0].shared.set_locals(self.locals.clone());
        let inbound = self.nodes[0].workers.addresses().inbound;
        self.mesh.announce(&"both".parse().unwrap(), inbound, &self.locals);
    }

    /// Splits the calls of `web` among others, by weight.
    fn split(&self, weights: &[(&str, u32)]) {
        let backend = |(name, weight): &(&str, u32)| json!({ "name": name, "port": 80, "weight": weight });
        let backends: Vec<_> = weights.iter().map(backend).collect();
        self.mesh.apply(json!([{
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": "web" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
                "rules": [{ "backendRefs": backends }],
            },
        }]));
    }
}

/// An application that says its name.
async fn named(name: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<Heard>) {
    serve(Speaks::One, Answer { length: true, ..Answer::ok(&[name]) }).await
}

/// Asks so often over one connection, and returns how often each answered; a failure of the mesh by its token.
async fn shares(caller: Speaks, addr: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    match caller {
        Speaks::One => {
            let mut wire = Wire::to(addr).await;
            for _ in 0..count.div_ceil(50) {
                wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n".repeat(50)).await;
                for _ in 0..50 {
                    let told = wire.response().await;
                    let by = if told.status() == 200 {
                        told.text()
                    } else {
                        told.field("mesh-failure").to_owned()
                    };
                    *shares.entry(by).or_default() += 1;
                }
            }
        }
        Speaks::Two => {
            let two = Two::to(addr).await;
            for _ in 0..count.div_ceil(50) {
                let all = (0..50).map(|_| {
                    let mut two = two.clone();
                    async move {
                        let mut response = within(two.get(wanted("GET", "/")).await).await.unwrap();
                        if let Some(token) = response.headers().get("mesh-failure") {
                            return token.to_str().unwrap().to_owned();
                        }
                        String::from_utf8(whole(response.body_mut()).await.unwrap().0).unwrap()
                    }
                });
                for by in join_all(all).await {
                    *shares.entry(by).or_default() += 1;
                }
            }
        }
    }
    shares
}

// case 76
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_split_by_weight_and_none_goes_where_the_weight_is_nothing() {
    let (mut old, mut new) = (0, 0);
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            let (web, _heard) = named("web").await;
            let (v1, _heard) = named("v1").await;
            let (v2, _heard) = named("v2").await;
            let (v3, mut never) = named("v3").await;
            let scene = Several::new(layout, &[("web", web), ("v1", v1), ("v2", v2), ("v3", v3)]);
            let outbound = scene.caller().outbound();
            scene.split(&[("v1", 90), ("v2", 10), ("v3", 0)]);
            let told = shares(caller, outbound, 2_500).await;
            assert_eq!(told.keys().collect::<Vec<_>>(), ["v1", "v2"], "{caller:?}: {told:?}");
            (old, new) = (old + told["v1"], new + told["v2"]);

            scene.split(&[("v1", 0), ("v2", 100)]);
            let told = shares(caller, outbound, 200).await;
            assert_eq!(told, BTreeMap::from([("v2".to_owned(), 200)]), "{caller:?}");
            assert!(never.try_recv().is_err());
        }
    }
    // Of 10,000 calls the standard deviation is 30: two in a hundred are more than six of it.
    assert!(old.abs_diff(9_000) <= 200 && new.abs_diff(1_000) <= 200, "{old} and {new}");
}

// case 76
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_is_dead_costs_its_share_and_no_more() {
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            let (web, _heard) = named("web").await;
            let (v1, _heard) = named("v1").await;
            let scene = Several::new(layout, &[("web", web), ("v1", v1), ("v2", mesh::nobody())]);
            scene.split(&[("v1", 50), ("v2", 50)]);
            // Its application refuses: a share of 250 ± 11.
            let told = shares(caller, scene.caller().outbound(), 500).await;
            assert_eq!(told.keys().collect::<Vec<_>>(), ["UF", "v1"], "{caller:?}: {told:?}");
            assert!(told["UF"].abs_diff(250) < 90, "{told:?}");
            // Or it is not there at all.
            if layout == Layout::Two {
                scene.mesh.bury("node-2");
                let told = shares(caller, scene.caller().outbound(), 500).await;
                assert_eq!(told.keys().collect::<Vec<_>>(), ["UH", "v1"], "{caller:?}: {told:?}");
                assert!(told["UH"].abs_diff(250) < 90, "{told:?}");
            }
        }
    }
}

// case 75
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_keys_of_an_endpoint_that_goes_come_to_others() {
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            let mut apps = Vec::new();
            for name in ["one", "two", "three", "four"] {
                apps.push(("web", named(name).await.0));
            }
            let mut scene = Several::new(layout, &apps);
            scene.mesh.traffic(json!({
                "loadBalancing": { "policy": "ConsistentHash", "consistentHash": { "header": "x-user" } }
            }));
            let outbound = scene.caller().outbound();
            let of = async |user: usize| {
                let user = format!("user-{user}");
                let fields = [("x-user", user.as_str())];
                ask(caller, outbound, Ask { fields: &fields, ..get() }).await.text()
            };
            let mut before = Vec::new();
            for user in 0..60 {
                before.push(of(user).await);
            }
            let counts = before.iter().fold(BTreeMap::<&str, usize>::new(), |mut counts, by| {
                *counts.entry(by).or_default() += 1;
                counts
            });
            assert_eq!(counts.len(), 4, "{caller:?}: {counts:?}");

            scene.remove(2);
            for (user, by) in before.iter().enumerate() {
                let now = of(user).await;
                assert!((now == *by) == (by != "three") && now != "three", "{user} of {by} came to {now}");
            }
        }
    }
}

/// What becomes of calls of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Grpc,
}

/// An application that fails while it is told to, and how often it was asked.
async fn fails_when_told(kind: Kind) -> (SocketAddr, Arc<AtomicBool>, Arc<AtomicUsize>) {
    const WELL: &[(&str, &str)] = &[("content-type", "application/grpc"), ("grpc-status", "0")];
    const UNAVAILABLE: &[(&str, &str)] = &[("content-type", "application/grpc"), ("grpc-status", "14")];
    let (fails, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (told, count) = (fails.clone(), seen.clone());
    let (app, _heard) = serve_each(Speaks::One, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let (status, fields) = match (kind, told.load(Ordering::SeqCst)) {
            (Kind::Grpc, true) => (200, UNAVAILABLE),
            (Kind::Plain, true) => (503, &[][..]),
            (_, false) => (200, WELL),
        };
        Answer { status, fields, length: true, ..Answer::ok(&[]) }
    })
    .await;
    (app, fails, seen)
}

// case 73
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_again_and_again_is_left_alone_probed_and_taken_back() {
    // These wait, so all do at the same time.
    let all = Layout::BOTH.into_iter().flat_map(|layout| {
        [(Speaks::One, Kind::Plain), (Speaks::Two, Kind::Grpc)].map(|(caller, kind)| (layout, caller, kind))
    });
    join_all(all.map(async |(layout, caller, kind)| {
        let (one, _, _) = fails_when_told(kind).await;
        let (bad, fails, seen) = fails_when_told(kind).await;
        let (two, _, _) = fails_when_told(kind).await;
        let scene = Several::new(layout, &[("web", one), ("web", bad), ("web", two)]);
        scene.mesh.traffic(json!({
            "loadBalancing": { "policy": "Random" }, "retry": { "attempts": 0 },
            "outlierDetection": { "consecutiveGatewayErrors": 5, "baseEjectionTime": "4s" }
        }));
        let outbound = scene.caller().outbound();
        let is_fine = async || {
            let asked = if kind == Kind::Grpc { grpc() } else { get() };
            let told = ask(caller, outbound, asked).await;
            (told.status, told.field("grpc-status")) == (200, "0")
        };
        let until_seen = async |count: usize| {
            within(async {
                while seen.load(Ordering::SeqCst) < count {
                    is_fine().await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
        };
        fails.store(true, Ordering::SeqCst);
        // One call at a time finds out whether it is well again; if not, it is left alone for longer.
        for count in [5, 6] {
            until_seen(count).await;
            for _ in 0..15 {
                assert!(is_fine().await, "{caller:?}: nobody notices it while it is left alone");
            }
            assert_eq!(seen.load(Ordering::SeqCst), count, "{caller:?}");
        }
        fails.store(false, Ordering::SeqCst);
        until_seen(12).await;
        for _ in 0..15 {
            assert!(is_fine().await, "{caller:?}");
        }
    }))
    .await;
}
