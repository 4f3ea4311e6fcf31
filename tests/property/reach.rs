//! What routes never take because others go before them.

use std::collections::BTreeSet;

use mesh::logic::validate;
use mesh::model::resource::Resource;
use serde_json::{Value, json};

/// A route of a kind for the service `web`, or for one of its ports.
#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
fn route(kind: &str, name: &str, port: Option<u16>, rules: Value) -> Resource {
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    let mut parent = json!({ "group": "", "kind": "Service", "name": "web" });
    if let Some(port) = port {
        parent["port"] = json!(port);
    }
    serde_json::from_value(json!({
        "apiVersion": format!("gateway.networking.k8s.io/{version}"), "kind": kind, "metadata": { "name": name },
        "spec": { "parentRefs": [parent], "rules": rules }
    }))
    .unwrap()
}

fn to_api() -> Value {
    json!([{ "backendRefs": [{ "name": "api" }] }])
}

/// What is doubted: `object field`, and all words of it.
fn doubts(resources: &[Resource]) -> (Vec<String>, String) {
    let known: BTreeSet<_> = ["web", "api"].iter().map(|name| name.parse().unwrap()).collect();
    let problems = validate::set(resources, &known);
    assert!(problems.iter().all(|problem| !problem.is_error()));
    let places = problems.iter().map(|problem| format!("{} {}", problem.object, problem.path)).collect();
    (places, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_route_whose_place_one_of_a_more_specific_kind_takes_is_told_so() {
    let http = route("HTTPRoute", "h", None, to_api());
    let grpc = route("GRPCRoute", "g", None, to_api());
    let tcp = route("TCPRoute", "t", None, to_api());

    let (places, words) = doubts(&[http.clone(), grpc, tcp.clone()]);
    assert_eq!(places, ["HTTPRoute/h spec.parentRefs[0]", "TCPRoute/t spec.parentRefs[0]"]);
    assert!(words.contains("GRPCRoute/g is of a more specific kind"), "{words}");
    assert_eq!(doubts(&[http, tcp]).0, ["TCPRoute/t spec.parentRefs[0]"]);
}

#[test]
fn what_applies_at_one_port_or_to_other_callers_is_no_mistake() {
    let service: Resource = serde_json::from_value(json!({
        "apiVersion": "mesh/v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "ports": [{ "port": 80 }, { "port": 81 }] }
    }))
    .unwrap();
    let everywhere = route("HTTPRoute", "all", None, to_api());
    let one = route("GRPCRoute", "one", Some(80), to_api());
    let other = route("HTTPRoute", "other", Some(81), to_api());
    let mut theirs = route("GRPCRoute", "theirs", None, to_api());
    let metadata = theirs.metadata_mut();
    metadata.namespace = "shop".to_owned();

    assert_eq!(doubts(&[service.clone(), everywhere.clone(), one.clone()]).0, Vec::<String>::new());
    assert_eq!(doubts(&[service.clone(), other.clone(), one.clone()]).0, Vec::<String>::new());
    let same = route("HTTPRoute", "same", Some(80), to_api());
    assert_eq!(doubts(&[service.clone(), same, one]).0, ["HTTPRoute/same spec.parentRefs[0]"]);
    // The first by name goes before at the port that both are for, and applies at the other one as well.
    let (places, _) = doubts(&[service, everywhere, other]);
    assert_eq!(places, ["HTTPRoute/other spec.rules[0]"]);
}

#[test]
fn rules_of_grpc_and_of_tcp_hide_each_other_as_those_of_http_do() {
    let rule =
        |method: Value| json!({ "matches": [{ "method": method }], "backendRefs": [{ "name": "api" }] });
    let grpc = route(
        "GRPCRoute",
        "g",
        None,
        json!([
            rule(json!({ "service": "a.B" })),
            rule(json!({ "service": "a.B", "method": "C" })),
            rule(json!({ "service": "a.B", "method": "" })),
            rule(json!({ "type": "RegularExpression", "service": "a.B" })),
            rule(json!({ "service": "a.B", "method": "C" })),
        ]),
    );
    let (places, words) = doubts(&[grpc]);
    assert_eq!(places, ["GRPCRoute/g spec.rules[2]", "GRPCRoute/g spec.rules[4]"]);
    assert!(words.contains("rule 1 of g has the same matches"), "{words}");

    let backends = json!([{ "name": "api" }]);
    let two = json!([{ "backendRefs": backends }, { "backendRefs": backends }]);
    let tcp = [route("TCPRoute", "a", None, two), route("TCPRoute", "b", None, to_api())];
    assert_eq!(doubts(&tcp).0, ["TCPRoute/a spec.rules[1]", "TCPRoute/b spec.rules[0]"]);
}
