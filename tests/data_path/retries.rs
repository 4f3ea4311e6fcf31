//! Retries: what is sent again, how often, and what a chain of calls is told of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::data_path::app::{self, bare, scripted};
use crate::data_path::caller::{Got, get, h1, h2, read, request};
use crate::data_path::mesh::{Pair, until, within};

async fn post(pair: &Pair, body: impl Into<Bytes>) -> Got {
    let mut sender = h1(pair.caller.outbound()).await;
    read(within(sender.send_request(request("POST", "web", "/", body))).await.unwrap()).await
}

/// An application that answers 503 at first and then 200, and hands back the number of the attempt.
async fn recovers(failures: usize) -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    scripted(move |number, head| {
        let said = head.lines().find_map(|line| line.strip_prefix("mesh-attempt: ")).unwrap_or("none");
        bare(if number <= failures { 503 } else { 200 }, &format!("x-attempt: {said}\r\n"))
    })
    .await
}

// cases 69, 72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_idempotent_is_retried_by_default_and_says_so() {
    let (app, seen) = recovers(1).await;
    let pair = Pair::new("web", app, "http");

    let first = get(pair.caller.outbound(), "web", "/").await;
    let second = get(pair.caller.outbound(), "web", "/").await;

    assert_eq!((first.status.as_u16(), first.header("x-attempt")), (200, "2"));
    assert_eq!((second.status.as_u16(), second.header("x-attempt")), (200, "none"));
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    assert_eq!(first.header("mesh-no-retry"), "");
    until(|| (pair.caller.counted(|total| total.retries) == 1).then_some(())).await;
}

// case 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_idempotent_is_retried_only_where_a_policy_says_so() {
    let (app, seen) = scripted(|number, _| bare(if number % 2 == 1 { 503 } else { 200 }, "")).await;
    let pair = Pair::new("web", app, "http");

    let unsaid = post(&pair, "small").await;
    assert_eq!((unsaid.status.as_u16(), seen.swap(0, Ordering::SeqCst)), (503, 1));

    pair.mesh.traffic(json!({ "retry": { "codes": [503] } }));
    let small = post(&pair, "small").await;
    assert_eq!((small.status.as_u16(), seen.swap(0, Ordering::SeqCst)), (200, 2));
    let long = post(&pair, vec![b'x'; 100 << 10]).await;
    assert_eq!((long.status.as_u16(), seen.load(Ordering::SeqCst)), (503, 1));
}

// case 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_end_and_whoever_asked_is_told_not_to_repeat_them() {
    let (app, seen) = scripted(|_, _| bare(503, "")).await;
    let pair = Pair::new("web", app, "http");

    let got = get(pair.caller.outbound(), "web", "/").await;
    assert_eq!((got.status.as_u16(), seen.swap(0, Ordering::SeqCst)), (503, 3));
    assert_eq!(got.header("mesh-no-retry"), "URX");
    until(|| {
        let totals = pair.caller.shared.registry.totals();
        totals.iter().any(|(_, total)| total.reasons.get("URX") == Some(&1)).then_some(())
    })
    .await;

    pair.mesh.traffic(json!({ "retry": { "attempts": 0 } }));
    let got = get(pair.caller.outbound(), "web", "/").await;
    assert_eq!((got.status.as_u16(), seen.load(Ordering::SeqCst)), (503, 1));
    assert_eq!(got.header("mesh-no-retry"), "");
}

// case 72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_do_not_multiply_along_a_chain() {
    let (app, seen) = scripted(|_, head| {
        bare(503, if head.contains("GET /enough") { "mesh-no-retry: URX\r\n" } else { "" })
    })
    .await;
    let pair = Pair::new("web", app, "http");
    let mut retry = request("GET", "web", "/", Bytes::new());
    retry.headers_mut().insert("mesh-attempt", "3".parse().unwrap());
    let mut sender = h1(pair.caller.outbound()).await;

    let got = read(within(sender.send_request(retry)).await.unwrap()).await;
    assert_eq!((got.header("mesh-no-retry"), seen.swap(0, Ordering::SeqCst)), ("URX", 1));

    let got = get(pair.caller.outbound(), "web", "/enough").await;
    assert_eq!((got.header("mesh-no-retry"), seen.load(Ordering::SeqCst)), ("URX", 1));
}

// case 71
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_retries_together_stay_within_the_budget() {
    let (app, seen) = scripted(|_, _| bare(503, "")).await;
    let pair = Pair::new("web", app, "http");
    pair.mesh.traffic(json!({ "retry": {
        "backoff": "1ms", "budget": { "percent": 20, "interval": "1m", "minRetriesPerSecond": 0 }
    } }));
    // One connection, so one worker, whose budget is its own.
    let mut sender = h1(pair.caller.outbound()).await;

    let mut told = 0;
    for _ in 0..100 {
        within(sender.ready()).await.unwrap();
        let wanted = request("GET", "web", "/", Bytes::new());
        let got = read(within(sender.send_request(wanted)).await.unwrap()).await;
        told += usize::from(got.header("mesh-no-retry") == "URX");
    }

    assert_eq!((seen.load(Ordering::SeqCst), told), (120, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_under_a_request_does_not_surface() {
    // Every second request of a connection is read and never answered.
    let (app, seen) = scripted(|number, _| if number % 2 == 0 { String::new() } else { bare(200, "") }).await;
    let pair = Pair::new("web", app, "http");

    for _ in 0..5 {
        let got = get(pair.caller.outbound(), "web", "/").await;
        assert_eq!(got.status.as_u16(), 200);
    }

    assert!(seen.load(Ordering::SeqCst) > 5);
    assert_eq!(pair.caller.counted(|total| total.failures), 0);
}

// case 70
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_of_grpc_counts_where_the_response_ends_with_its_head() {
    let (app, seen) = scripted(|number, _| {
        let status = if number == 1 { 14 } else { 0 };
        bare(200, &format!("content-type: application/grpc\r\ngrpc-status: {status}\r\n"))
    })
    .await;
    let pair = Pair::new("web", app, "http");
    let call = async || {
        let mut wanted = request("POST", "web", "http://web/pkg.Service/Do", "message");
        wanted.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let mut sender = h2(pair.caller.outbound()).await;
        read(within(sender.send_request(wanted)).await.unwrap()).await
    };

    let unsaid = call().await;
    assert_eq!((unsaid.header("grpc-status"), seen.swap(0, Ordering::SeqCst)), ("14", 1));

    pair.mesh.traffic(json!({ "retry": { "grpcCodes": ["UNAVAILABLE"] } }));
    let said = call().await;
    assert_eq!((said.header("grpc-status"), seen.load(Ordering::SeqCst)), ("0", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_names_endpoint_and_attempt() {
    let pair = Pair::new("web", app::answers("").await, "http");
    pair.mesh.bury("callee");
    let dead = format!("web={}/http", crate::data_path::mesh::nobody()).parse().unwrap();
    pair.mesh.announce(&"dead".parse().unwrap(), crate::data_path::mesh::nobody(), &[dead]);

    let got = get(pair.caller.outbound(), "web", "/").await;

    assert_eq!(got.header("mesh-failure"), "UF");
    assert!(got.text().starts_with("mesh outbound: "), "{}", got.text());
    assert!(got.text().contains("web.default on dead, attempt 1"), "{}", got.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_waits_before_retries_double_up_to_what_a_policy_says() {
    let (app, seen) = scripted(|_, _| bare(503, "")).await;
    let pair = Pair::new("web", app, "http");
    pair.mesh.traffic(json!({ "retry": { "attempts": 4, "backoff": "500ms", "maxBackoff": "500ms" } }));

    let began = Instant::now();
    let got = get(pair.caller.outbound(), "web", "/").await;
    let took = began.elapsed();

    assert_eq!((got.status.as_u16(), seen.load(Ordering::SeqCst)), (503, 5));
    // Half of each wait is certain, half is drawn: 1 to 2 s in all; doubled each time, they would be 3.75 s at least.
    assert!((Duration::from_secs(1)..Duration::from_millis(3_500)).contains(&took), "{took:?}");
}

// case 71
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_paid_for_again_when_the_interval_of_their_budget_is_over() {
    let (app, seen) = scripted(|_, _| bare(503, "")).await;
    let pair = Pair::new("web", app, "http");
    pair.mesh.traffic(json!({ "retry": { "attempts": 1, "backoff": "1ms",
        "budget": { "percent": 0, "interval": "1s", "minRetriesPerSecond": 1 } } }));
    // One connection, so one worker, whose budget is its own.
    let mut sender = h1(pair.caller.outbound()).await;
    let mut ask = async || {
        within(sender.ready()).await.unwrap();
        let wanted = request("GET", "web", "/", Bytes::new());
        read(within(sender.send_request(wanted)).await.unwrap()).await;
        seen.swap(0, Ordering::SeqCst)
    };

    assert_eq!((ask().await, ask().await), (2, 1));
    within(async { while ask().await < 2 {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_can_be_listed_for_idempotent_methods_alone() {
    let (app, seen) = scripted(|_, _| bare(502, "")).await;
    let pair = Pair::new("web", app, "http");
    let attempts = async |methods: serde_json::Value| {
        pair.mesh.traffic(
            json!({ "retry": { "codes": [502], "methods": methods, "attempts": 1, "backoff": "1ms" } }),
        );
        post(&pair, "small").await;
        let posts = seen.swap(0, Ordering::SeqCst);
        get(pair.caller.outbound(), "web", "/").await;
        (posts, seen.swap(0, Ordering::SeqCst))
    };

    assert_eq!(attempts(json!("Idempotent")).await, (1, 2));
    assert_eq!(attempts(json!("Any")).await, (2, 2));
    assert_eq!(attempts(json!(null)).await, (2, 2));
}
