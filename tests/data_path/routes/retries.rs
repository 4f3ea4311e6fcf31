//! Retries and limits of time that routes ask for.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::data_path::app::{self, bare, scripted};
use crate::data_path::caller::{get, h1, read, request};
use crate::data_path::mesh::{Pair, within};
use crate::data_path::routes::scene::http_route;

fn route(pair: &Pair, mut rule: Value, policy: Option<Value>) {
    rule["backendRefs"] = json!([{ "name": "web" }]);
    let mut objects = vec![http_route("web", "default", json!([{ "name": "web" }]), json!([rule]))];
    objects.extend(policy.map(|mut spec| {
        spec["targetRef"] = json!({ "kind": "Service", "name": "web" });
        json!({ "apiVersion": "mesh/v1", "kind": "TrafficPolicy", "metadata": { "name": "web" }, "spec": spec })
    }));
    pair.mesh.apply(json!(objects));
}

// case 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_codes_are_retried_whatever_the_method_as_often_as_the_route_says() {
    let (app, seen) = scripted(|number, _| bare(if number < 7 { 500 } else { 200 }, "")).await;
    let pair = Pair::new("web", app, "http");
    let post = async || {
        let mut sender = h1(pair.caller.outbound()).await;
        read(
            within(sender.send_request(request("POST", "web", "/", Bytes::from_static(b"body"))))
                .await
                .unwrap(),
        )
        .await
    };

    // Without a word of the route, 500 is an answer.
    assert_eq!((post().await.status.as_u16(), seen.swap(0, Ordering::SeqCst)), (500, 1));
    route(&pair, json!({ "retry": { "codes": [500], "attempts": 3, "backoff": "1ms" } }), None);
    let got = post().await;
    assert_eq!(
        (got.status.as_u16(), seen.swap(0, Ordering::SeqCst), got.header("mesh-no-retry")),
        (500, 4, "URX")
    );
    let budget = json!({ "retry": { "budget": { "minRetriesPerSecond": 1000 } } });
    route(&pair, json!({ "retry": { "codes": [500, 503], "attempts": 9, "backoff": "1ms" } }), Some(budget));
    assert_eq!((post().await.status.as_u16(), seen.swap(0, Ordering::SeqCst)), (200, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_route_does_not_say_of_retries_is_as_the_policy_says() {
    let (app, seen) = scripted(|_, _| bare(502, "")).await;
    let pair = Pair::new("web", app, "http");
    let policy = json!({ "retry": { "codes": [502], "attempts": 1, "backoff": "1ms" } });

    route(&pair, json!({ "retry": {} }), Some(policy.clone()));
    get(pair.caller.outbound(), "web", "/").await;
    assert_eq!(seen.swap(0, Ordering::SeqCst), 2);
    route(&pair, json!({ "retry": { "attempts": 2 } }), Some(policy.clone()));
    get(pair.caller.outbound(), "web", "/").await;
    assert_eq!(seen.swap(0, Ordering::SeqCst), 3);
    route(&pair, json!({ "retry": { "codes": [500] } }), Some(policy.clone()));
    get(pair.caller.outbound(), "web", "/").await;
    assert_eq!(seen.swap(0, Ordering::SeqCst), 1);
    route(&pair, json!({ "retry": { "attempts": 0 } }), Some(policy));
    get(pair.caller.outbound(), "web", "/").await;
    assert_eq!(seen.swap(0, Ordering::SeqCst), 1);
}

// case 61
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_time_are_of_the_request_or_of_each_attempt_and_zero_is_none() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    route(&pair, json!({ "timeouts": { "request": "100ms" } }), None);
    let late = get(pair.caller.outbound(), "web", "/hang").await;
    assert_eq!((late.status.as_u16(), late.header("mesh-failure")), (504, "UT"));
    route(&pair, json!({ "timeouts": { "backendRequest": "100ms", "request": "0s" } }), None);
    let late = get(pair.caller.outbound(), "web", "/hang").await;
    assert_eq!(late.status.as_u16(), 504);
    let strict = json!({ "timeouts": { "request": "1ms" } });
    route(&pair, json!({ "timeouts": { "request": "0s" } }), Some(strict));
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
}

// case 61
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_takes_too_long_counts_as_504() {
    let (app, mut heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    route(
        &pair,
        json!({ "retry": { "codes": [504], "attempts": 1, "backoff": "1ms" }, "timeouts": { "backendRequest": "100ms" } }),
        None,
    );

    let mut sender = h1(pair.caller.outbound()).await;
    let got =
        read(within(sender.send_request(request("POST", "web", "/hang", Bytes::new()))).await.unwrap()).await;

    assert_eq!(got.status.as_u16(), 504);
    let mut begun = 0;
    while begun < 2 {
        begun += usize::from(within(heard.recv()).await == Some("begun"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_within_the_limits_of_time_notices_nothing_of_them() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let strict = json!({ "timeouts": { "request": "1ms", "backendRequest": "1ms" } });

    route(&pair, json!({ "timeouts": { "request": "1h", "backendRequest": "30m" } }), Some(strict));

    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_waits_as_long_as_the_route_says() {
    let (app, seen) = scripted(|number, _| bare(if number == 1 { 503 } else { 200 }, "")).await;
    let pair = Pair::new("web", app, "http");
    route(&pair, json!({ "retry": { "codes": [503], "attempts": 1, "backoff": "400ms" } }), None);

    let began = Instant::now();
    let got = get(pair.caller.outbound(), "web", "/").await;

    assert_eq!((got.status.as_u16(), seen.load(Ordering::SeqCst)), (200, 2));
    // Half of it is certain, half is drawn.
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}
