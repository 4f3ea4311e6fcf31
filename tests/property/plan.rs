//! What a change does to the traffic there is.

use std::collections::BTreeSet;

use mesh::logic::metric::hours::Traffic;
use mesh::logic::metric::report::EdgeKey;
use mesh::logic::plan::{Effect, Planned, plan};
use mesh::model::endpoint::Catalog;
use mesh::model::intention::{Action, Mode};
use mesh::model::resource::Resource;
use mesh::model::snapshot::{GossipKeys, Snapshot};
use mesh::model::view::{EdgeProtocol, Side};
use proptest::prelude::*;
use serde_json::{Value, json};

fn snapshot(objects: &[Value], default_action: Action) -> Snapshot {
    let read = |object: &Value| serde_json::from_value::<Resource>(object.clone()).unwrap();
    Snapshot {
        revision: 1,
        trust_domain: "shop.test".parse().unwrap(),
        bundle: Vec::new(),
        resources: objects.iter().map(read).collect(),
        default_action,
        mode: Mode::Enforce,
        gossip: GossipKeys { ring: Vec::new(), seeds: Vec::new() },
        banned: Vec::new(),
        bans: None,
        draining: Vec::new(),
        controls: Vec::new(),
    }
}

fn edge(source: &str, destination: &str, route: &str, protocol: EdgeProtocol) -> EdgeKey {
    EdgeKey {
        side: Side::Outbound,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        route: route.to_owned(),
        node: None,
    }
}

fn planned(before: &[Value], after: &[Value], traffic: &[(EdgeKey, u64)]) -> Vec<Planned> {
    seen(before, after, traffic, &[])
}

/// As [`planned`], where of every edge some kinds of requests were seen, each once.
fn seen(
    before: &[Value],
    after: &[Value],
    traffic: &[(EdgeKey, u64)],
    kinds: &[&'static str],
) -> Vec<Planned> {
    let snapshots = (snapshot(before, Action::Allow), snapshot(after, Action::Allow));
    let kinds: Vec<_> = kinds.iter().map(|kind| (*kind, 1)).collect();
    let traffic = traffic.iter().map(|(key, calls)| Traffic { key, calls: *calls, kinds: kinds.clone() });
    plan((&snapshots.0, &snapshots.1), &Catalog::default(), &"me".parse().unwrap(), traffic)
}

fn effects(planned: &[Planned]) -> Vec<(String, Effect)> {
    planned.iter().map(|one| (one.source.to_string(), one.effect)).collect()
}

fn intention(name: &str, source: &str, action: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "mesh/v1", "kind": "Intention", "metadata": { "name": name },
        "spec": { "destination": "web", "sources": [{ "service": source }], "action": action, "rules": rules.clone() },
    })
}

fn route(rules: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "r" },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }], "rules": rules.clone() },
    })
}

fn to(backends: &[(&str, u32)]) -> Value {
    backends.iter().map(|(name, weight)| json!({ "name": name, "port": 80, "weight": weight })).collect()
}

#[test]
fn callers_that_an_intention_newly_refuses_are_found_and_those_in_doubt_are_told_apart() {
    let traffic = [
        (edge("a", "web", "", EdgeProtocol::Http), 10),
        (edge("b", "web", "", EdgeProtocol::Http), 20),
        (edge("c", "web", "", EdgeProtocol::Tcp), 30),
        (edge("d", "other", "", EdgeProtocol::Http), 40),
    ];
    let reads = json!([{ "methods": ["GET"] }]);
    let after = [
        intention("all", "a", "allow", &json!([])),
        intention("reads", "b", "allow", &reads),
        intention("tcp", "c", "allow", &reads),
    ];

    let found = planned(&[], &after, &traffic);

    let expected = [("c.default", Effect::Denied), ("b.default", Effect::MaybeDenied)];
    assert_eq!(effects(&found), expected.map(|(source, effect)| (source.to_owned(), effect)));
    assert!(found[0].detail.contains("allow list of intention default/all"), "{found:?}");
}

#[test]
fn shares_that_change_and_rules_that_go_are_found() {
    let before = [route(&json!([
        { "name": "kept", "matches": [{ "path": { "value": "/k" } }], "backendRefs": to(&[("web", 1)]) },
        { "name": "split", "matches": [{ "path": { "value": "/s" } }], "backendRefs": to(&[("web", 3), ("v2", 1)]) },
        { "name": "gone", "backendRefs": to(&[("web", 1)]) },
    ]))];
    let after = [route(&json!([
        { "name": "kept", "matches": [{ "path": { "value": "/k" } }], "backendRefs": to(&[("web", 5)]) },
        { "name": "split", "matches": [{ "path": { "value": "/s" } }], "backendRefs": to(&[("v2", 1)]) },
    ]))];
    let by = |source: &str, destination: &str, rule: &str| {
        (edge(source, destination, rule, EdgeProtocol::Http), 5)
    };
    let traffic = [
        by("a", "web", "r/kept"),
        by("b", "web", "r/split"),
        by("c", "v2", "r/split"),
        by("d", "web", "r/gone"),
    ];

    let found = planned(&before, &after, &traffic);

    let seen: BTreeSet<_> = effects(&found).into_iter().collect();
    let expected =
        [("b.default", Effect::Moved), ("c.default", Effect::Moved), ("d.default", Effect::MaybeLost)];
    assert_eq!(seen, expected.map(|(source, effect)| (source.to_owned(), effect)).into());
    assert!(
        found.iter().any(|one| one.detail.contains("from 75 % to 0 %: backends are v2.default")),
        "{found:?}"
    );
}

#[test]
fn a_service_that_gets_its_first_route_loses_what_no_rule_takes() {
    let traffic = [(edge("a", "web", "", EdgeProtocol::Http), 5)];
    let narrow = [route(
        &json!([{ "matches": [{ "path": { "value": "/only" } }], "backendRefs": to(&[("web", 1)]) }]),
    )];
    let wide = [route(&json!([{ "backendRefs": to(&[("v2", 1)]) }]))];
    let empty = [route(&json!([{ "backendRefs": [] }]))];

    assert_eq!(effects(&planned(&[], &narrow, &traffic)), [("a.default".to_owned(), Effect::MaybeLost)]);
    assert_eq!(effects(&planned(&[], &wide, &traffic)), [("a.default".to_owned(), Effect::Moved)]);
    assert_eq!(effects(&planned(&[], &empty, &traffic)), [("a.default".to_owned(), Effect::Lost)]);
}

#[test]
fn of_requests_that_were_seen_it_is_known_which_are_refused_or_lost() {
    let traffic = [(edge("a", "web", "", EdgeProtocol::Http), 100)];
    let kinds = ["GET /read", "GET /read/*", "POST /write", "PUT /write"];
    let reads = json!([{ "methods": ["GET"] }]);

    let found = seen(&[], &[intention("reads", "a", "allow", &reads)], &traffic, &kinds);
    assert_eq!(effects(&found), [("a.default".to_owned(), Effect::Denied)]);
    assert_eq!(found[0].requests, 50);
    assert!(found[0].detail.starts_with("POST /write, PUT /write: "), "{found:?}");
    assert_eq!(seen(&[], &[intention("reads", "a", "allow", &reads)], &traffic, &kinds[..2]), Vec::new());

    let narrow = [route(
        &json!([{ "matches": [{ "path": { "value": "/read" } }], "backendRefs": to(&[("web", 1)]) }]),
    )];
    let found = seen(&[], &narrow, &traffic, &kinds);
    assert_eq!(effects(&found), [("a.default".to_owned(), Effect::Lost)]);
    assert!(found[0].detail.contains("no rule takes it: answered 404"), "{found:?}");
    assert_eq!(seen(&[], &narrow, &traffic, &kinds[..2]), Vec::new());
}

#[test]
fn what_header_fields_may_decide_stays_in_doubt() {
    let traffic = [(edge("a", "web", "", EdgeProtocol::Http), 100)];
    let blue = json!([{ "headers": [{ "name": "x-color", "value": "blue" }] }]);
    let found = seen(&[], &[intention("blue", "a", "allow", &blue)], &traffic, &["GET /"]);
    assert_eq!(effects(&found), [("a.default".to_owned(), Effect::MaybeDenied)]);

    let routes = [route(&json!([{ "matches": blue, "backendRefs": to(&[("web", 1)]) }]))];
    let found = seen(&[], &routes, &traffic, &["GET /"]);
    assert_eq!(effects(&found), [("a.default".to_owned(), Effect::MaybeLost)]);
}

#[test]
fn a_rule_that_goes_is_followed_to_the_one_that_takes_its_requests() {
    let rule = |name: &str, path: &str, backend: &str| json!({ "name": name, "matches": [{ "path": { "value": path } }], "backendRefs": to(&[(backend, 1)]) });
    let before = [route(&json!([rule("a", "/a", "web"), rule("rest", "/", "v2")]))];
    let same = [route(&json!([rule("b", "/a", "web"), rule("rest", "/", "v2")]))];
    let moved = [route(&json!([rule("rest", "/", "v2")]))];
    let gone = [route(&json!([rule("rest", "/b", "v2")]))];
    let traffic = [(edge("a", "web", "r/a", EdgeProtocol::Http), 5)];
    let kinds = ["GET /a/x"];

    assert_eq!(seen(&before, &same, &traffic, &kinds), Vec::new());
    assert_eq!(effects(&seen(&before, &moved, &traffic, &kinds)), [("a.default".to_owned(), Effect::Moved)]);
    assert_eq!(effects(&seen(&before, &gone, &traffic, &kinds)), [("a.default".to_owned(), Effect::Lost)]);
}

proptest! {
    #[test]
    fn what_does_not_change_changes_nothing(
        weights in prop::collection::vec(0u32..3, 1..4),
        rules in prop::collection::vec(prop::sample::select(vec!["allow", "deny"]), 0..3),
    ) {
        let backends: Vec<_> = weights.iter().map(|weight| ("web", *weight)).collect();
        let mut objects = vec![route(&json!([{ "name": "one", "backendRefs": to(&backends) }]))];
        let intentions = rules.iter().enumerate();
        objects.extend(intentions.map(|(index, action)| intention(&format!("i{index}"), "a", action, &json!([]))));
        let traffic = [
            (edge("a", "web", "r/one", EdgeProtocol::Http), 1),
            (edge("b", "web", "", EdgeProtocol::Tcp), 1),
        ];
        prop_assume!(weights.iter().any(|weight| *weight > 0));

        prop_assert_eq!(planned(&objects, &objects, &traffic), Vec::new());
    }
}
