//! What a proxy remembers of calls: those with a name, the bad ones longer; and what those see who watch.

use mesh::api::inquiry::{Seen, in_order};
use mesh::model::call::{Answered, CallFilter, CallRecord, Tried};
use mesh::model::view::Side;
use mesh::telemetry::recent::{PATH_BYTES_MAX, REMEMBERED_MAX, Recent, TAPS_MAX};

use crate::contract::access::record;

fn call(id: Option<&str>, status: u16) -> CallRecord {
    CallRecord { request_id: id.map(str::to_owned), status, ..record("/a") }
}

#[test]
fn a_call_is_found_by_its_name_on_every_worker_the_first_first() {
    let recent = Recent::default();
    let (one, other) = (recent.recorder(), recent.recorder());

    one.record(CallRecord { at_ms: 2, ..call(Some("x"), 200) });
    other.record(CallRecord { at_ms: 1, side: Side::Outbound, ..call(Some("x"), 403) });
    one.record(call(Some("y"), 200));
    one.record(call(None, 500));

    let found = recent.find("x");
    assert_eq!(found.calls.iter().map(|call| call.at_ms).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(found.forgotten_ms, 0);
    assert!(recent.find("z").calls.is_empty());
}

#[test]
fn the_two_sides_of_a_call_stand_together_whatever_their_clocks_say() {
    let node = |name: &str| name.parse().unwrap();
    let seen = |by: &str, side, at_ms, destination: &str, to: &str| {
        let destination = Some(destination.parse().unwrap());
        let call = CallRecord { at_ms, side, destination, node: Some(node(to)), ..call(Some("x"), 200) };
        Seen { by: node(by), call }
    };
    let first = seen("a", Side::Outbound, 12, "api", "c");
    let tried = Tried { node: node("b"), ended: "UF".to_owned(), took_us: 1 };
    let first = Seen { call: CallRecord { tried: vec![tried], retries: 1, ..first.call }, ..first };
    // Told by who called it, a moment before it was called; the host of the second attempt is behind by more.
    let (failed, answered) =
        (seen("b", Side::Inbound, 11, "api", "b"), seen("c", Side::Inbound, 5, "api", "c"));
    let (second, there) = (seen("c", Side::Outbound, 13, "db", "d"), seen("d", Side::Inbound, 13, "db", "d"));
    let alone = seen("e", Side::Inbound, 20, "api", "e");

    let wanted = vec![first, answered, failed, second, there, alone];
    let mut calls = wanted.clone();
    for _ in 0..wanted.len() {
        calls.rotate_left(1);
        assert_eq!(in_order(calls.clone()), wanted);
        calls.swap(0, 3);
        assert_eq!(in_order(calls.clone()), wanted);
    }
}

#[test]
fn ordinary_traffic_drives_no_failure_out_and_failures_only_each_other() {
    let recent = Recent::default();
    let recorder = recent.recorder();
    let bad = [
        call(Some("failed"), 503),
        CallRecord { rule: "intention default/web".into(), ..call(Some("denied"), 403) },
        CallRecord { retries: 1, ..call(Some("retried"), 200) },
        CallRecord { latency_us: 1_000_000, ..call(Some("slow"), 200) },
    ];
    for call in &bad {
        recorder.record(call.clone());
    }

    for number in 0..REMEMBERED_MAX * 2 {
        recorder.record(CallRecord { at_ms: 10 + number as u64, ..call(Some(&format!("n{number}")), 200) });
    }

    for call in &bad {
        let id = call.request_id.as_deref().unwrap();
        assert_eq!(recent.find(id).calls, std::slice::from_ref(call), "{id}");
    }
    assert!(recent.find("n0").calls.is_empty());
    assert_eq!(recent.find("n0").forgotten_ms, 10 + REMEMBERED_MAX as u64 - 1);
    assert_eq!(recent.find(&format!("n{REMEMBERED_MAX}")).calls.len(), 1);

    for _ in 0..REMEMBERED_MAX {
        recorder.record(call(Some("later"), 503));
    }
    assert!(recent.find("failed").calls.is_empty());
}

#[test]
fn a_path_is_kept_as_far_as_there_is_room() {
    let recent = Recent::default();

    recent.recorder().record(CallRecord { path: "é".repeat(PATH_BYTES_MAX), ..call(Some("x"), 200) });

    let path = recent.find("x").calls[0].path.clone();
    assert!(path.len() <= PATH_BYTES_MAX + '…'.len_utf8(), "{}", path.len());
    assert!(path.ends_with("é…"), "{path}");
}

#[tokio::test]
async fn who_watches_sees_what_was_asked_for_and_how_much_was_not_shown() {
    let recent = Recent::default();
    let recorder = recent.recorder();
    assert!(!recorder.is_watched());
    let failed = CallFilter { status: Some(Answered::Failed), ..CallFilter::default() };
    let mut tap = recent.tap(failed, 2).unwrap();
    assert!(recorder.is_watched());

    recorder.record(call(None, 200));
    for _ in 0..5 {
        recorder.record(call(None, 503));
    }

    let mut seen = Vec::new();
    assert_eq!(tap.next(&mut seen, 10).await, 2);
    assert!(seen.iter().all(|call| call.status == 503));
    assert_eq!((tap.missed(), tap.missed()), (3, 0));
    drop(tap);
    assert!(!recorder.is_watched());
}

#[test]
fn only_so_many_watch_at_a_time() {
    let recent = Recent::default();
    let mut taps: Vec<_> = (0..TAPS_MAX).map(|_| recent.tap(CallFilter::default(), 1).unwrap()).collect();

    assert!(recent.tap(CallFilter::default(), 1).is_none());
    taps.pop();
    assert!(recent.tap(CallFilter::default(), 1).is_some());
}

#[test]
fn a_filter_wants_what_meets_all_that_it_says() {
    let base = CallRecord { path: "/carts/1".to_owned(), ..call(None, 404) };
    let wants =
        |filter: serde_json::Value| serde_json::from_value::<CallFilter>(filter).unwrap().wants(&base);
    for (filter, expected) in [
        (serde_json::json!({}), true),
        (serde_json::json!({ "source": "shop", "service": "web", "side": "inbound", "status": "4xx" }), true),
        (serde_json::json!({ "status": "404", "method": "get", "path": "/carts", "slowerMs": 1 }), true),
        (serde_json::json!({ "source": "other" }), false),
        (serde_json::json!({ "service": "other" }), false),
        (serde_json::json!({ "side": "outbound" }), false),
        (serde_json::json!({ "status": "5xx" }), false),
        (serde_json::json!({ "status": "denied" }), false),
        (serde_json::json!({ "method": "POST" }), false),
        (serde_json::json!({ "path": "/cars" }), false),
        (serde_json::json!({ "slowerMs": 2 }), false),
    ] {
        assert_eq!(wants(filter.clone()), expected, "{filter}");
    }
    for status in ["6xx", "99", "600", "bad", "xx", ""] {
        assert!(status.parse::<Answered>().is_err(), "{status}");
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let tried = Tried { node: "host-1".parse().unwrap(), ended: "UF".to_owned(), took_us: 5 };
    let full = CallRecord {
        node: Some("host-2".parse().unwrap()),
        route: "r/one".into(),
        reason: Some("RBAC".into()),
        rule: "intention default/web".into(),
        audited: true,
        grpc_status: Some(7),
        tried: vec![tried],
        ..call(Some("x"), 403)
    };
    for call in [full, call(None, 200)] {
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(serde_json::from_str::<CallRecord>(&text).unwrap(), call, "{text}");
    }
}
