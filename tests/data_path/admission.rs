//! What is let in: rate limits and concurrency at the called side, limits and faults at the caller's.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::data_path::app;
use crate::data_path::caller::{Got, begin, get, get_by, h2, read, request};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::Speaks;
use crate::data_path::mesh::{Mesh, Node, Pair, within};

async fn grpc(node: &Node) -> Got {
    let mut wanted = request("POST", "web", "http://web/grpc", "");
    wanted.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let mut sender = h2(node.outbound()).await;
    read(within(sender.send_request(wanted)).await.unwrap()).await
}

/// Begins a call that hangs, until it is aborted; the service has it when this returns.
async fn keep_busy(caller: &Node, speaks: Speaks, heard: &mut mpsc::Receiver<&'static str>) -> AbortHandle {
    let wanted = request("GET", "web", "/hang", Bytes::new());
    let hang = tokio::spawn(begin(speaks, caller.outbound(), wanted));
    assert_eq!(within(heard.recv()).await, Some("begun"));
    hang.abort_handle()
}

/// Where caller and service are, and what the caller speaks.
fn callers() -> impl Iterator<Item = (Layout, Speaks)> {
    Layout::BOTH.into_iter().flat_map(|layout| Speaks::BOTH.map(|speaks| (layout, speaks)))
}

// case 65
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_refuses_what_is_above_and_says_when_to_come_back() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");
    pair.mesh.traffic(json!({ "rateLimit": { "total": { "requests": 2, "interval": "1h" } } }));

    for _ in 0..2 {
        assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
    }
    let plain = get(pair.caller.outbound(), "web", "/").await;
    let called = grpc(&pair.caller).await;

    assert_eq!((plain.status.as_u16(), plain.header("mesh-failure")), (429, "RL"));
    let seconds: u64 = plain.header("retry-after").parse().unwrap();
    assert!((1_700..=1_800).contains(&seconds), "{seconds}");
    assert!(plain.text().starts_with("mesh inbound: ") && plain.text().contains("web.default on callee"));
    assert_eq!((called.status.as_u16(), called.header("grpc-status")), (200, "8"));
    assert_eq!(pair.callee.counted(|total| total.failures), 0);

    pair.mesh.apply(json!([]));
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
}

// case 65
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_comes_too_often_takes_nothing_from_others() {
    for (layout, speaks) in callers() {
        let (app, _heard) = app::echo("web").await;
        let scene = Scene::new(layout, app, "http");
        let other = scene.mesh.node("other", &[], &[]);
        scene.mesh.traffic(json!({ "rateLimit": {
            "total": { "requests": 2, "interval": "1h" }, "perSource": { "requests": 1, "interval": "1h" }
        } }));
        let ask = async |node: &Node| get_by(speaks, node.outbound(), "web", "/").await.status.as_u16();

        let mine = [ask(scene.caller()).await, ask(scene.caller()).await, ask(scene.caller()).await];
        let others = [ask(&other).await, ask(&other).await];

        assert_eq!((mine, others), ([200, 429, 429], [200, 429]), "{speaks:?}");
    }
}

// case 66
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_serves_no_more_at_a_time_than_it_may() {
    for (layout, speaks) in callers() {
        let (app, mut heard) = app::echo("web").await;
        let scene = Scene::new(layout, app, "http");
        scene.mesh.traffic(json!({ "concurrency": { "limit": 1 }, "retry": { "attempts": 0 } }));
        let hang = keep_busy(scene.caller(), speaks, &mut heard).await;
        let ask = async || get_by(speaks, scene.outbound(), "web", "/").await;

        let refused = ask().await;
        assert_eq!((refused.status.as_u16(), refused.header("mesh-failure")), (503, "UO"), "{speaks:?}");
        assert!(refused.text().starts_with("mesh inbound: "), "{}", refused.text());

        hang.abort();
        assert_eq!(within(heard.recv()).await, Some("given up"));
        within(async { while ask().await.status.as_u16() != 200 {} }).await;
    }
}

// case 66
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_has_no_more_requests_under_way_than_it_may() {
    for (layout, speaks) in callers() {
        let (app, mut heard) = app::echo("web").await;
        let scene = Scene::new(layout, app, "http");
        scene.mesh.traffic(json!({ "circuitBreaking": { "maxRequests": 1 } }));
        let hang = keep_busy(scene.caller(), speaks, &mut heard).await;
        let ask = async || get_by(speaks, scene.outbound(), "web", "/").await;

        let refused = ask().await;
        assert_eq!((refused.status.as_u16(), refused.header("mesh-failure")), (503, "UO"), "{speaks:?}");
        assert!(refused.text().starts_with("mesh outbound: "), "{}", refused.text());

        hang.abort();
        within(async { while ask().await.status.as_u16() != 200 {} }).await;
    }
}

/// Opens a connection and waits for the first word on it; `None` when it is refused.
async fn greeted(addr: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).await.ok().map(|_| stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_has_no_more_connections_open_than_it_may() {
    let pair = Pair::new("web", app::speaks_first().await, "tcp");
    pair.mesh.traffic(json!({ "circuitBreaking": { "maxConnections": 1 } }));
    let port = pair.caller.port("web");

    let one = within(greeted(port)).await;
    assert!(one.is_some());
    assert!(within(greeted(port)).await.is_none());

    drop(one);
    within(async { while greeted(port).await.is_none() {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_made_as_often_as_a_policy_says() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");

    let abort = |percent: u32| {
        json!({ "faultInjection": {
        "abort": { "percent": percent, "httpStatus": 418, "grpcStatus": "INTERNAL" }
    } })
    };
    pair.mesh.traffic(abort(0));
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);

    pair.mesh.traffic(abort(100));
    let plain = get(pair.caller.outbound(), "web", "/").await;
    assert_eq!((plain.status.as_u16(), plain.header("mesh-failure")), (418, "FI"));
    assert_eq!(grpc(&pair.caller).await.header("grpc-status"), "13");

    pair.mesh.traffic(json!({ "faultInjection": { "delay": { "percent": 100, "duration": "100ms" } } }));
    let began = Instant::now();
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
    assert!(began.elapsed() >= Duration::from_millis(100));
    crate::data_path::mesh::until(|| {
        let totals = pair.caller.shared.registry.totals();
        totals.iter().any(|(_, total)| total.reasons.get("DI") == Some(&1)).then_some(())
    })
    .await;
}

// case 65
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_let_in_at_once_and_then_no_more() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    pair.mesh
        .traffic(json!({ "rateLimit": { "perSource": { "requests": 1, "interval": "1h", "burst": 3 } } }));

    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(get(pair.caller.outbound(), "web", "/").await.status.as_u16());
    }

    assert_eq!(statuses, [200, 200, 200, 429]);
}

// case 65
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_counted_as_calls_by_a_rate_limit() {
    let pair = Pair::new("web", app::speaks_first().await, "tcp");
    pair.mesh.traffic(json!({ "rateLimit": { "total": { "requests": 1, "interval": "1h" } } }));
    let port = pair.caller.port("web");

    assert!(within(greeted(port)).await.is_some());
    assert!(within(greeted(port)).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adaptive_limit_stays_within_its_bounds() {
    let (app, mut heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let adaptive = |min: u32, max: u32| json!({ "concurrency": { "adaptive": { "min": min, "max": max } }, "retry": { "attempts": 0 } });
    pair.mesh.traffic(adaptive(1, 1));
    let _hang = keep_busy(&pair.caller, Speaks::One, &mut heard).await;

    let refused = get(pair.caller.outbound(), "web", "/").await;
    assert_eq!((refused.status.as_u16(), refused.header("mesh-failure")), (503, "UO"));
    pair.mesh.traffic(adaptive(2, 2));
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_drawn_by_fractions_too_and_have_statuses_of_their_own() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");
    let share = |numerator: u32| json!({ "numerator": numerator, "denominator": 3 });
    let abort = |numerator: u32| json!({ "faultInjection": { "abort": { "fraction": share(numerator) } } });

    pair.mesh.traffic(abort(0));
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
    pair.mesh.traffic(abort(3));
    let plain = get(pair.caller.outbound(), "web", "/").await;
    assert_eq!((plain.status.as_u16(), plain.header("mesh-failure")), (503, "FI"));
    assert_eq!(grpc(&pair.caller).await.header("grpc-status"), "14");

    let delay = |numerator: u32| {
        let delay = json!({ "fraction": share(numerator), "duration": "1h" });
        json!({ "faultInjection": { "delay": delay }, "timeouts": { "request": "200ms" } })
    };
    pair.mesh.traffic(delay(0));
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
    pair.mesh.traffic(delay(3));
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 504);
}

// case 66
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_wait_for_a_connection_than_may() {
    let (accepted, mut waiting) = mpsc::channel(8);
    // Takes connections and never says a word: whoever wants to speak to a proxy here waits.
    let silent = app::raw(move |stream| {
        let accepted = accepted.clone();
        async move {
            _ = accepted.send(()).await;
            std::future::pending::<()>().await;
            drop(stream);
        }
    })
    .await;
    let mesh = Mesh::new();
    let caller = mesh.node("caller", &[], &[]);
    mesh.announce(&"silent".parse().unwrap(), silent, &["web=127.0.0.1:9/http".parse().unwrap()]);
    mesh.traffic(json!({ "circuitBreaking": { "maxPendingRequests": 1 } }));
    let wanted = request("GET", "web", "/", Bytes::new());
    let first = tokio::spawn(begin(Speaks::One, caller.outbound(), wanted));
    assert_eq!(within(waiting.recv()).await, Some(()));

    for speaks in Speaks::BOTH {
        let refused = get_by(speaks, caller.outbound(), "web", "/").await;

        assert_eq!((refused.status.as_u16(), refused.header("mesh-failure")), (503, "UO"), "{speaks:?}");
        assert!(refused.text().contains("requests that wait for a connection"), "{}", refused.text());
        assert!(!first.is_finished(), "who was there before goes on waiting");
    }
    first.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_for_its_target_and_for_nobody_else() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let policy = |namespace: &str, target: serde_json::Value| {
        json!([{
            "apiVersion": "mesh/v1", "kind": "TrafficPolicy", "metadata": { "name": "p", "namespace": namespace },
            "spec": { "targetRef": target, "faultInjection": { "abort": { "percent": 100, "httpStatus": 418 } } }
        }])
    };

    for (namespace, target, status) in [
        ("default", json!({ "name": "web" }), 418),
        ("default", json!({ "group": "", "kind": "Service", "name": "web" }), 418),
        ("default", json!({ "name": "other" }), 200),
        ("shop", json!({ "name": "web" }), 200),
    ] {
        pair.mesh.apply(policy(namespace, target.clone()));
        let got = get(pair.caller.outbound(), "web", "/").await;
        assert_eq!(got.status.as_u16(), status, "{target} in {namespace}");
    }
}
