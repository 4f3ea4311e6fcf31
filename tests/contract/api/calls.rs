//! What control asks its proxies about calls: who is told, who answers, who waits and for how long.

use axum::http::StatusCode;
use mesh::api::inquiry::{Ask, Inquiry, Told};
use mesh::control::http::access::Caller;
use mesh::control::inquiries::INQUIRIES_MAX;
use serde_json::{Value, json};

use crate::contract::api::{Host, World, line, tomorrow, world};

fn report(sequence: u64) -> Value {
    json!({
        "epoch": 1, "sequence": sequence, "coversMs": 1_000, "edges": [],
        "proxy": {
            "build": "1", "startedMs": 1, "revision": 1, "memoryBytes": 1, "cpuMs": 1, "descriptors": 1,
            "identities": [], "ejected": [],
        },
    })
}

fn call(id: &str) -> Value {
    json!({
        "atMs": 5, "side": "inbound", "source": "shop.default", "destination": "web.default", "protocol": "http",
        "method": "GET", "path": "/", "status": 403, "reason": "RBAC", "rule": "intention default/web",
        "requestId": id, "retries": 0, "latencyUs": 1, "durationUs": 1, "bytesSent": 0, "bytesReceived": 0,
    })
}

impl World {
    /// Reports for a host, and returns what it is asked.
    async fn asked(&self, host: &Host, sequence: u64) -> Vec<Inquiry> {
        let (status, body) =
            self.call(host.caller(tomorrow()), "POST", "/v1/reports", Some(report(sequence))).await;
        assert!(status.is_success(), "{body}");
        if status == StatusCode::NO_CONTENT { Vec::new() } else { serde_json::from_value(body).unwrap() }
    }

    async fn answer(&self, host: &Host, id: u64, told: Value) -> StatusCode {
        self.call(host.caller(tomorrow()), "POST", &format!("/v1/inquiries/{id}"), Some(told)).await.0
    }
}

#[tokio::test]
async fn a_request_is_asked_of_all_proxies_that_report_and_those_that_are_silent_are_named() {
    let world = world().await;
    let (one, two) = (world.joined("host-1", &[]).await, world.joined("host-2", &[]).await);
    assert_eq!((world.asked(&one, 1).await, world.asked(&two, 1).await), (Vec::new(), Vec::new()));

    let asking = world.call(Caller::Local, "GET", "/v1/requests/abc", None);
    let answering = async {
        let inquiry = loop {
            if let [inquiry] = world.asked(&one, 2).await.as_slice() {
                break inquiry.clone();
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(inquiry.ask, Ask::Request("abc".to_owned()));
        let told = json!({ "calls": [call("abc")], "forgottenMs": 7, "startedMs": 3 });
        (world.answer(&one, inquiry.id, told).await, inquiry.id)
    };
    let ((status, trace), (answered, id)) = tokio::join!(asking, answering);

    assert_eq!((status, answered), (StatusCode::OK, StatusCode::NO_CONTENT), "{trace}");
    assert_eq!(
        (&trace["calls"][0]["by"], &trace["calls"][0]["rule"]),
        (&json!("host-1"), &json!("intention default/web"))
    );
    assert_eq!(trace["asked"], json!([{ "node": "host-1", "sinceMs": 7 }]));
    assert_eq!(trace["silent"], json!(["host-2"]));
    let late = serde_json::to_value(Told::default()).unwrap();
    assert_eq!(world.answer(&two, id, late).await, StatusCode::GONE);
    assert_eq!(world.asked(&two, 2).await, Vec::new(), "a question that is over is not asked");
}

#[tokio::test]
async fn who_may_not_see_the_calls_of_others_is_refused() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;

    for path in ["/v1/requests/abc", "/v1/calls"] {
        let (status, problem) = world.call(host.caller(tomorrow()), "GET", path, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    }
    let (status, _) =
        world.call(Caller::Local, "POST", "/v1/inquiries/1", Some(json!({ "calls": [] }))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "only proxies answer");
}

#[tokio::test]
async fn calls_are_followed_as_proxies_tell_of_them_until_nobody_watches() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;

    let mut shown = world.follow(Caller::Local, "/v1/calls?service=web&status=5xx&perSecond=7").await;
    let asked = world.asked(&host, 1).await;
    let [inquiry] = asked.as_slice() else { panic!("{asked:?}") };
    let Ask::Calls { filter, per_second } = &inquiry.ask else { panic!("{inquiry:?}") };
    assert_eq!((filter.service.as_ref().unwrap().to_string().as_str(), *per_second), ("web.default", 7));
    world.answer(&host, inquiry.id, json!({ "calls": [call("a")] })).await;
    world.answer(&host, inquiry.id, json!({ "calls": [], "missed": 2 })).await;

    assert_eq!(line(&mut shown).await.unwrap()["call"]["by"], "host-1");
    assert_eq!(line(&mut shown).await.unwrap(), json!({ "missed": 2 }));
    drop(shown);
    assert_eq!(world.answer(&host, inquiry.id, json!({ "calls": [] })).await, StatusCode::GONE);

    let (wrong, _) = world.call(Caller::Local, "GET", "/v1/calls?status=9xx", None).await;
    assert_eq!(wrong, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn only_so_many_ask_at_a_time() {
    let world = world().await;
    let questions: Vec<_> = (0..INQUIRIES_MAX)
        .map(|_| world.plane.inquiries.ask(Ask::Request("x".to_owned())).unwrap())
        .collect();

    let (status, problem) = world.call(Caller::Local, "GET", "/v1/calls", None).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{problem}");
    drop(questions);
    assert!(world.plane.inquiries.open().is_empty());
}
