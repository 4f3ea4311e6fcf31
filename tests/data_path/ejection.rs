//! Outlier ejection: endpoints that answer badly are left alone, and come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use mesh::proxy::upstream::endpoint::now_ns;
use serde_json::{Value, json};

use crate::data_path::app::{bare, scripted};
use crate::data_path::caller::{get, get_by};
use crate::data_path::cases::scene::Layout;
use crate::data_path::cases::service::Speaks;
use crate::data_path::mesh::{Mesh, Node, within};

/// An instance of `web` that can be made to fail.
struct Instance {
    seen: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
    node: Node,
}

async fn instance(mesh: &Mesh, name: &'static str, fails: bool) -> Instance {
    instance_of(mesh, name, fails, 503).await
}

/// As [`instance`], that fails by another status.
async fn instance_of(mesh: &Mesh, name: &'static str, fails: bool, status: u16) -> Instance {
    let fails = Arc::new(AtomicBool::new(fails));
    let asked = fails.clone();
    let (app, seen): (SocketAddr, _) = scripted(move |_, _| {
        bare(if asked.load(Ordering::SeqCst) { status } else { 200 }, &format!("x-app: {name}\r\n"))
    })
    .await;
    Instance { seen, fails, node: mesh.node(name, &[format!("web={app}/http")], &[]) }
}

/// Two instances, of which one fails, and a node to call them from, which never retries.
async fn scene(outlier: Value) -> (Mesh, Instance, Instance, Node) {
    let mesh = Mesh::new();
    let good = instance(&mesh, "good", false).await;
    let bad = instance(&mesh, "bad", true).await;
    let caller = mesh.node("caller", &[], &[]);
    mesh.traffic(json!({
        "loadBalancing": { "policy": "Random" }, "retry": { "attempts": 0 }, "outlierDetection": outlier
    }));
    (mesh, good, bad, caller)
}

/// Calls until `seen` has been asked so often.
async fn call_until(caller: &Node, seen: &AtomicUsize, count: usize) {
    within(async {
        while seen.load(Ordering::SeqCst) < count {
            get(caller.outbound(), "web", "/").await;
        }
    })
    .await;
}

fn ejected(caller: &Node) -> Vec<String> {
    let ejected = caller.shared.tables().ejected(now_ns());
    ejected.iter().map(|one| format!("{} {}", one.node, one.reason)).collect()
}

// case 73
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_ejected_for_errors_in_a_row_and_returns_when_it_is_well() {
    let (_mesh, _good, bad, caller) =
        scene(json!({ "consecutiveGatewayErrors": 3, "baseEjectionTime": "2s" })).await;

    call_until(&caller, &bad.seen, 3).await;
    assert_eq!(ejected(&caller), ["bad answers with errors"]);
    for _ in 0..20 {
        let got = get(caller.outbound(), "web", "/").await;
        assert_eq!((got.status.as_u16(), got.header("x-app")), (200, "good"));
    }
    assert_eq!(bad.seen.load(Ordering::SeqCst), 3);

    bad.fails.store(false, Ordering::SeqCst);
    call_until(&caller, &bad.seen, 10).await;
    assert!(ejected(&caller).is_empty());
}

// case 73
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failed_probe_ejects_again() {
    let (_mesh, _good, bad, caller) =
        scene(json!({ "consecutiveGatewayErrors": 3, "baseEjectionTime": "1s", "maxEjectionTime": "1h" }))
            .await;

    call_until(&caller, &bad.seen, 4).await;

    assert_eq!(ejected(&caller), ["bad answers with errors"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_ejected_where_a_policy_says_never() {
    let (_mesh, _good, bad, caller) = scene(json!({ "consecutiveGatewayErrors": 0 })).await;

    call_until(&caller, &bad.seen, 20).await;

    assert!(ejected(&caller).is_empty());
}

// case 73
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_endpoint_always_stays_and_when_all_are_out_all_are_called() {
    let (_mesh, good, bad, caller) =
        scene(json!({ "consecutiveGatewayErrors": 3, "maxEjectionPercent": 100, "baseEjectionTime": "1s" }))
            .await;
    good.fails.store(true, Ordering::SeqCst);

    let mut both = false;
    within(async {
        while !both {
            let got = get(caller.outbound(), "web", "/").await;
            assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (503, ""), "{}", got.text());
            both = ejected(&caller).len() == 2;
        }
    })
    .await;
    let before = good.seen.load(Ordering::SeqCst) + bad.seen.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert_ne!(get(caller.outbound(), "web", "/").await.header("x-app"), "");
    }

    assert_eq!(good.seen.load(Ordering::SeqCst) + bad.seen.load(Ordering::SeqCst), before + 10);
}

// case 73
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_that_are_well_make_all_be_called() {
    let (_mesh, _good, bad, caller) = scene(
        json!({ "consecutiveGatewayErrors": 3, "baseEjectionTime": "1h", "maxEjectionTime": "1h", "minHealthPercent": 60 }),
    )
    .await;

    call_until(&caller, &bad.seen, 3).await;
    assert_eq!(ejected(&caller), ["bad answers with errors"]);
    call_until(&caller, &bad.seen, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_rate_far_below_the_others_ejects() {
    let callers = Layout::BOTH.into_iter().flat_map(|layout| Speaks::BOTH.map(|speaks| (layout, speaks)));
    // It takes an interval, so all wait at the same time.
    join_all(callers.map(async |(layout, speaks)| ejects_by_success_rate(layout, speaks).await)).await;
}

async fn ejects_by_success_rate(layout: Layout, speaks: Speaks) {
    let mesh = Mesh::new();
    let names = ["one", "two", "three", "four"];
    let mut instances = Vec::new();
    for name in names {
        instances.push(instance(&mesh, name, false).await);
    }
    let asked = AtomicUsize::new(0);
    // Every third answer fails: never many in a row.
    let (app, _seen) = scripted(move |_, _| {
        bare(
            if asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) { 503 } else { 200 },
            "x-app: flaky\r\n",
        )
    })
    .await;
    let _flaky = mesh.node("flaky", &[format!("web={app}/http")], &[]);
    let own = (layout == Layout::Two).then(|| mesh.node("caller", &[], &[]));
    let caller = own.as_ref().unwrap_or(&instances[0].node);
    mesh.traffic(json!({
        "loadBalancing": { "policy": "RoundRobin" },
        "retry": { "attempts": 0 },
        "outlierDetection": { "interval": "1s", "baseEjectionTime": "1h", "maxEjectionTime": "1h",
            "successRate": { "requestVolume": 5, "minimumHosts": 5 } }
    }));

    within(async {
        while ejected(caller).is_empty() {
            get_by(speaks, caller.outbound(), "web", "/").await;
        }
    })
    .await;

    assert_eq!(ejected(caller), ["flaky answers with errors"], "{layout:?} {speaks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_errors_of_the_server_eject_only_where_a_policy_counts_them() {
    let mesh = Mesh::new();
    let _good = instance(&mesh, "good", false).await;
    let bad = instance_of(&mesh, "bad", true, 500).await;
    let caller = mesh.node("caller", &[], &[]);
    let outlier = |outlier: Value| {
        mesh.traffic(json!({
            "loadBalancing": { "policy": "Random" }, "retry": { "attempts": 0 }, "outlierDetection": outlier
        }));
    };

    outlier(json!({ "consecutiveGatewayErrors": 3 }));
    call_until(&caller, &bad.seen, 10).await;
    assert!(ejected(&caller).is_empty());
    outlier(
        json!({ "consecutiveGatewayErrors": 0, "consecutive5xxErrors": 3, "baseEjectionTime": "1h", "maxEjectionTime": "1h" }),
    );
    within(async {
        while ejected(&caller).is_empty() {
            get(caller.outbound(), "web", "/").await;
        }
    })
    .await;
    assert_eq!(ejected(&caller), ["bad answers with errors"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_ejected_above_the_share_that_a_policy_lets_be() {
    let (mesh, _good, bad, caller) =
        scene(json!({ "consecutiveGatewayErrors": 3, "maxEjectionPercent": 0, "baseEjectionTime": "1h" }))
            .await;

    call_until(&caller, &bad.seen, 10).await;
    assert!(ejected(&caller).is_empty());
    mesh.traffic(json!({
        "loadBalancing": { "policy": "Random" }, "retry": { "attempts": 0 },
        "outlierDetection": { "consecutiveGatewayErrors": 3, "maxEjectionPercent": 50, "baseEjectionTime": "1h", "maxEjectionTime": "1h" }
    }));
    call_until(&caller, &bad.seen, 11).await;
    assert_eq!(ejected(&caller), ["bad answers with errors"]);
}
