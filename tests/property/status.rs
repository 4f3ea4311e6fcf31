//! How routes fare: the conditions and reasons of the specification.

use std::collections::BTreeSet;

use mesh::logic::status::Fates;
use mesh::model::name::ServiceName;
use mesh::model::resource::Resource;
use mesh::model::route_status::{ConditionStatus, ConditionType, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

fn object(value: Value) -> Resource {
    serde_json::from_value(value).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
fn route(kind: &str, name: &str, namespace: &str, parents: Value, rules: Value) -> Resource {
    let api = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    object(json!({
        "apiVersion": format!("gateway.networking.k8s.io/{api}"), "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "generation": 7},
        "spec": {"parentRefs": parents, "rules": rules},
    }))
}

fn known() -> Vec<ServiceName> {
    ["web.default", "api.default"].iter().map(|name| name.parse().unwrap()).collect()
}

/// The conditions of a route's first parent: what holds, and why.
fn conditions(all: &[Resource], of: usize) -> Vec<(ConditionType, bool, Reason)> {
    let status = Fates::new(all, known()).of(&all[of]).unwrap();
    let all = &status.parents[0].conditions;
    assert!(all.iter().all(|condition| condition.observed_generation == 7 && !condition.message.is_empty()));
    let short = all
        .iter()
        .map(|condition| (condition.kind, condition.status == ConditionStatus::True, condition.reason));
    short.collect()
}

const ACCEPTED: (ConditionType, bool, Reason) = (ConditionType::Accepted, true, Reason::Accepted);
const RESOLVED: (ConditionType, bool, Reason) = (ConditionType::ResolvedRefs, true, Reason::ResolvedRefs);
const NOT_FOUND: (ConditionType, bool, Reason) =
    (ConditionType::ResolvedRefs, false, Reason::BackendNotFound);

#[test]
fn a_route_to_what_is_there_is_accepted_and_resolved() {
    let backends = json!([{"backendRefs": [{"name": "api", "port": 80}]}]);
    let fine = route("HTTPRoute", "r", "default", json!([{"name": "web"}]), backends);
    let consumer = route(
        "HTTPRoute",
        "c",
        "shop",
        json!([{"name": "web", "namespace": "default"}]),
        json!([{"backendRefs": [{"name": "api", "namespace": "default"}]}]),
    );

    assert_eq!(conditions(&[fine, consumer.clone()], 0), [ACCEPTED, RESOLVED]);
    assert_eq!(conditions(std::slice::from_ref(&consumer), 0), [ACCEPTED, RESOLVED]);
    let said = Fates::new(std::slice::from_ref(&consumer), known()).of(&consumer).unwrap();
    assert!(said.parents[0].conditions[0].message.contains("callers in namespace shop"));
    assert_eq!(said.parents[0].controller_name, "mesh/control");
}

#[test]
fn what_is_not_there_is_named() {
    let nowhere = route(
        "HTTPRoute",
        "r",
        "default",
        json!([{"name": "gone"}]),
        json!([{"backendRefs": [{"name": "api"}]}]),
    );
    assert_eq!(
        conditions(&[nowhere], 0),
        [(ConditionType::Accepted, false, Reason::NoMatchingParent), RESOLVED]
    );

    let missing = route(
        "GRPCRoute",
        "r",
        "default",
        json!([{"name": "web"}]),
        json!([{"backendRefs": [{"name": "api"}, {"name": "gone"}]}, {"backendRefs": [{"name": "lost", "namespace": "shop"}]}]),
    );
    assert_eq!(conditions(std::slice::from_ref(&missing), 0), [ACCEPTED, NOT_FOUND]);
    let said = Fates::new(std::slice::from_ref(&missing), known()).of(&missing).unwrap();
    let message = &said.parents[0].conditions[1].message;
    assert!(message.contains("gone.default") && message.contains("lost.shop"), "{message}");

    let copy = json!([{"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "gone"}}}], "backendRefs": [{"name": "api"}]}]);
    assert_eq!(
        conditions(&[route("HTTPRoute", "r", "default", json!([{"name": "web"}]), copy)], 0),
        [ACCEPTED, NOT_FOUND]
    );
}

#[test]
fn a_port_that_a_service_does_not_have_matches_nothing() {
    let service = object(json!({
        "apiVersion": "mesh/v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"name": "public", "port": 80}, {"port": 81}]},
    }));
    let of = |parent: Value, backend: Value| {
        let rules = json!([{"backendRefs": [backend]}]);
        vec![route("HTTPRoute", "r", "default", json!([parent]), rules), service.clone()]
    };
    let api = json!({"name": "api", "port": 9});
    let no_parent = (ConditionType::Accepted, false, Reason::NoMatchingParent);

    assert_eq!(conditions(&of(json!({"name": "web", "port": 81}), api.clone()), 0), [ACCEPTED, RESOLVED]);
    assert_eq!(
        conditions(&of(json!({"name": "web", "sectionName": "public"}), api.clone()), 0),
        [ACCEPTED, RESOLVED]
    );
    assert_eq!(conditions(&of(json!({"name": "web", "port": 82}), api.clone()), 0), [no_parent, RESOLVED]);
    assert_eq!(
        conditions(&of(json!({"name": "web", "port": 81, "sectionName": "public"}), api), 0),
        [no_parent, RESOLVED]
    );
    let backend = json!({"name": "web", "port": 82});
    assert_eq!(conditions(&of(json!({"name": "web"}), backend), 0), [ACCEPTED, NOT_FOUND]);
}

#[test]
fn a_route_of_a_less_specific_kind_is_in_conflict_unless_it_is_of_another_port_or_caller() {
    let rules = json!([{"backendRefs": [{"name": "api", "namespace": "default"}]}]);
    let http =
        |namespace: &str, parent: Value| route("HTTPRoute", "h", namespace, json!([parent]), rules.clone());
    let grpc = |parent: Value| route("GRPCRoute", "g", "default", json!([parent]), rules.clone());
    let web = json!({"name": "web"});
    let conflict = (ConditionType::Accepted, false, Reason::Conflicted);

    assert_eq!(conditions(&[http("default", web.clone()), grpc(web.clone())], 0), [conflict, RESOLVED]);
    assert_eq!(conditions(&[http("default", web.clone()), grpc(web.clone())], 1), [ACCEPTED, RESOLVED]);
    let theirs = http("shop", json!({"name": "web", "namespace": "default"}));
    assert_eq!(conditions(&[theirs, grpc(web)], 0), [ACCEPTED, RESOLVED]);
    let service = object(json!({
        "apiVersion": "mesh/v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}, {"port": 81}]},
    }));
    let apart = [
        http("default", json!({"name": "web", "port": 80})),
        grpc(json!({"name": "web", "port": 81})),
        service,
    ];
    assert_eq!(conditions(&apart, 0), [ACCEPTED, RESOLVED]);
}

#[test]
fn a_stored_route_that_this_version_cannot_obey_in_part_says_so() {
    let wrong = json!({"matches": [{"path": {"type": "RegularExpression", "value": "("}}], "backendRefs": [{"name": "api"}]});
    let right = json!({"backendRefs": [{"name": "api"}]});
    let of = |rules: Value| [route("HTTPRoute", "r", "default", json!([{"name": "web"}]), rules)];

    let partial = (ConditionType::PartiallyInvalid, true, Reason::UnsupportedValue);
    assert_eq!(conditions(&of(json!([wrong, right])), 0), [ACCEPTED, RESOLVED, partial]);
    let whole = (ConditionType::Accepted, false, Reason::UnsupportedValue);
    assert_eq!(conditions(&of(json!([wrong])), 0), [whole, RESOLVED]);
}

proptest! {
    #[test]
    fn a_status_survives_the_trip_and_is_said_of_routes_only(
        parents in proptest::collection::btree_set("[a-c]|web", 1..4),
        backends in proptest::collection::vec("api|[a-c]", 0..4),
    ) {
        let parents: Vec<_> = parents.iter().map(|name| json!({"name": name})).collect();
        let backends: Vec<_> = backends.iter().map(|name| json!({"name": name})).collect();
        let mut made = route("HTTPRoute", "r", "default", json!(parents), json!([{"backendRefs": backends}]));
        let status = Fates::new([&made], known()).of(&made).unwrap();
        prop_assert_eq!(status.parents.len(), parents.len());
        let accepted = status.parents.iter().filter(|parent| parent.conditions[0].status == ConditionStatus::True);
        let accepted: BTreeSet<_> = accepted.map(|parent| parent.parent_ref.name.clone()).collect();
        prop_assert!(accepted.iter().all(|name| name == "web"));
        made.set_status(Some(status));
        let text = serde_json::to_string(&made).unwrap();
        prop_assert_eq!(serde_json::from_str::<Resource>(&text).unwrap(), made);
    }
}
