//! Validation: what it accepts can be obeyed, and what it refuses is named by its field.

use std::collections::BTreeSet;

use mesh::logic::route::filter::Filter;
use mesh::logic::route::matcher::Matcher;
use mesh::logic::validate;
use mesh::logic::validate::problem::{Problem, Severity};
use mesh::model::name::ServiceName;
use mesh::model::resource::Resource;
use mesh::model::route::HttpRouteMatch;
use proptest::prelude::*;
use serde_json::{Value, json};

fn route(name: &str, rules: &Value) -> Resource {
    let value = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "web"}], "rules": rules},
    });
    serde_json::from_value(value).unwrap()
}

fn intention(name: &str, spec: &Value) -> Resource {
    let value =
        json!({"apiVersion": "mesh/v1", "kind": "Intention", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

fn service(spec: &Value) -> Resource {
    let value =
        json!({"apiVersion": "mesh/v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

fn errors(resource: &Resource) -> Vec<String> {
    validate::object(resource).into_iter().filter(Problem::is_error).map(|problem| problem.path).collect()
}

fn known() -> BTreeSet<ServiceName> {
    ["web", "api", "db"].iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn each_field_of_a_rule_is_named_when_it_is_wrong() {
    let backends = json!([{"name": "api"}]);
    let long: Vec<Value> = (0..17).map(|index| json!({"name": format!("x-{index}"), "value": "1"})).collect();
    let with = |matches: Value| json!([{"matches": [matches], "backendRefs": backends}]);
    let path = |kind: &str, value: &str| with(json!({"path": {"type": kind, "value": value}}));
    let at_path = "spec.rules[0].matches[0].path.value";
    let cases = [
        (path("Exact", "a"), at_path),
        (path("Exact", "/a//b"), at_path),
        (path("PathPrefix", "/a/../b"), at_path),
        (path("PathPrefix", "/a/."), at_path),
        (path("Exact", "/a%2Fb"), at_path),
        (path("Exact", "/a?b"), at_path),
        (path("Exact", "/é"), at_path),
        (path("Exact", "/%zz"), at_path),
        (path("Exact", &format!("/{}", "a".repeat(1_024))), at_path),
        (path("RegularExpression", "/(a"), at_path),
        (path("RegularExpression", "a)|(b"), at_path),
        (path("RegularExpression", "((a{100}){100}){100}"), at_path),
        (with(json!({"headers": long})), "spec.rules[0].matches[0].headers"),
        (
            with(json!({"headers": [{"name": "a b", "value": "1"}]})),
            "spec.rules[0].matches[0].headers[0].name",
        ),
        (with(json!({"headers": [{"name": "a", "value": ""}]})), "spec.rules[0].matches[0].headers[0].value"),
        (
            with(json!({"headers": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]})),
            "spec.rules[0].matches[0].headers[1].name",
        ),
        (with(json!({"queryParams": long})), "spec.rules[0].matches[0].queryParams"),
        (
            with(json!({"queryParams": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]})),
            "spec.rules[0].matches[0].queryParams[1].name",
        ),
        (
            with(json!({"queryParams": [{"name": "a", "value": ""}]})),
            "spec.rules[0].matches[0].queryParams[0].value",
        ),
        (
            with(json!({"queryParams": [{"name": "a", "value": "(", "type": "RegularExpression"}]})),
            "spec.rules[0].matches[0].queryParams[0].value",
        ),
        (json!([{"backendRefs": [{"name": "Api"}]}]), "spec.rules[0].backendRefs[0].name"),
        (json!([{"backendRefs": [{"name": "api", "kind": "Gateway"}]}]), "spec.rules[0].backendRefs[0].kind"),
        (json!([{"backendRefs": [{"name": "api", "group": "apps"}]}]), "spec.rules[0].backendRefs[0].group"),
        (
            json!([{"backendRefs": [{"name": "api", "weight": 1_000_001}]}]),
            "spec.rules[0].backendRefs[0].weight",
        ),
        (json!([{"timeouts": {"request": "10"}, "backendRefs": backends}]), "spec.rules[0].timeouts.request"),
        (
            json!([{"timeouts": {"request": "1s", "backendRequest": "2s"}, "backendRefs": backends}]),
            "spec.rules[0].timeouts.backendRequest",
        ),
        (json!([{"name": "a b", "backendRefs": backends}]), "spec.rules[0].name"),
    ];

    for (rules, path) in cases {
        assert_eq!(errors(&route("r", &rules)), [path], "{rules}");
    }
}

#[test]
fn filters_are_one_of_each_type_with_the_body_of_their_type() {
    let of = |filters: Value| json!([{"filters": filters, "backendRefs": [{"name": "api"}]}]);
    let change = json!({"set": [{"name": "a", "value": "1"}]});
    let request = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": change});
    let both = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": change, "responseHeaderModifier": change});
    let modifier =
        |change: Value| of(json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": change}]));
    let at = "spec.rules[0].filters[0].requestHeaderModifier";
    let cases = [
        (of(json!([request, request])), "spec.rules[0].filters[1].type".to_owned()),
        (of(json!([{"type": "RequestHeaderModifier"}])), "spec.rules[0].filters[0]".to_owned()),
        (of(json!([both])), "spec.rules[0].filters[0].responseHeaderModifier".to_owned()),
        (modifier(json!({"set": [{"name": "a", "value": "1"}], "remove": ["A"]})), format!("{at}.remove[0]")),
        (modifier(json!({"add": [{"name": "Content-Length", "value": "1"}]})), format!("{at}.add[0].name")),
        (modifier(json!({"set": [{"name": "host", "value": "x"}]})), format!("{at}.set[0].name")),
        (modifier(json!({"set": [{"name": "a", "value": "1\r\nb: 2"}]})), format!("{at}.set[0].value")),
    ];

    for (rules, path) in cases {
        assert_eq!(errors(&route("r", &rules)), [path], "{rules}");
    }
    assert!(errors(&route("r", &of(json!([request])))).is_empty());
}

#[test]
fn numbers_of_things_are_bounded_as_in_the_schema() {
    let rule = |matches: usize| json!({"matches": vec![json!({"method": "GET"}); matches], "backendRefs": [{"name": "api"}]});

    assert!(errors(&route("r", &json!([rule(64), rule(64)]))).is_empty());
    assert_eq!(errors(&route("r", &json!([rule(65)]))), ["spec.rules[0].matches"]);
    assert_eq!(errors(&route("r", &json!([rule(64), rule(64), rule(1)]))), ["spec.rules"]);
    assert_eq!(errors(&route("r", &json!(vec![rule(1); 17]))), ["spec.rules"]);
    let backends = json!([{"backendRefs": vec![json!({"name": "api"}); 17]}]);
    assert_eq!(errors(&route("r", &backends)), ["spec.rules[0].backendRefs"]);
}

#[test]
fn a_route_belongs_to_services_of_its_own_namespace() {
    let of = |parents: Value| -> Resource {
        let value = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
            "spec": {"parentRefs": parents, "rules": [{"backendRefs": [{"name": "api", "namespace": "shop"}]}]},
        });
        serde_json::from_value(value).unwrap()
    };

    assert!(
        errors(&of(json!([{"name": "web", "namespace": "default", "kind": "Service", "group": ""}])))
            .is_empty()
    );
    assert_eq!(errors(&of(json!([]))), ["spec.parentRefs"]);
    assert_eq!(errors(&of(json!([{"name": "web", "kind": "Gateway"}]))), ["spec.parentRefs[0].kind"]);
    assert_eq!(errors(&of(json!([{"name": "web", "namespace": "shop"}]))), ["spec.parentRefs[0].namespace"]);
    assert_eq!(errors(&of(json!([{"name": "web"}, {"name": "web"}]))), ["spec.parentRefs[1]"]);
}

#[test]
fn intentions_name_their_wrong_side() {
    let of = |destination: &str, sources: Value| {
        intention("i", &json!({"destination": destination, "sources": sources, "action": "allow"}))
    };
    let any = json!([{"service": "*"}]);

    for fine in ["web", "web.shop", "*"] {
        assert!(errors(&of(fine, any.clone())).is_empty(), "{fine}");
    }
    for wrong in ["", "*.shop", "a.b.c", "Web", "web.*"] {
        assert_eq!(errors(&of(wrong, any.clone())), ["spec.destination"], "{wrong}");
    }
    assert_eq!(errors(&of("web", json!([]))), ["spec.sources"]);
    assert_eq!(errors(&of("web", json!([{}]))), ["spec.sources[0]"]);
    assert_eq!(errors(&of("web", json!([{"service": "a", "node": "b"}]))), ["spec.sources[0]"]);
    assert_eq!(errors(&of("web", json!([{"service": "*."}]))), ["spec.sources[0].service"]);
    assert_eq!(errors(&of("web", json!([{"node": "-"}]))), ["spec.sources[0].node"]);
}

#[test]
fn health_checks_have_one_probe_and_sane_numbers() {
    let of = |check: Value| service(&json!({"healthCheck": check}));

    for fine in
        [json!({"tcp": {}}), json!({"grpc": {}}), json!({"http": {}, "interval": "1h", "timeout": "1ms"})]
    {
        assert!(errors(&of(fine.clone())).is_empty(), "{fine}");
    }
    let at = "spec.healthCheck";
    let cases = [
        (json!({}), String::new()),
        (json!({"tcp": {}, "grpc": {}}), String::new()),
        (json!({"tcp": {}, "interval": "999ms"}), ".interval".to_owned()),
        (json!({"tcp": {}, "timeout": "0s"}), ".timeout".to_owned()),
        (json!({"tcp": {}, "timeout": "2"}), ".timeout".to_owned()),
        (json!({"tcp": {}, "healthyThreshold": 0}), ".healthyThreshold".to_owned()),
        (json!({"tcp": {}, "unhealthyThreshold": 101}), ".unhealthyThreshold".to_owned()),
        (json!({"http": {"path": "healthz"}}), ".http.path".to_owned()),
        (json!({"http": {"expectedStatuses": [200, 99]}}), ".http.expectedStatuses[1]".to_owned()),
    ];
    for (check, path) in cases {
        assert_eq!(errors(&of(check.clone())), [format!("{at}{path}")], "{check}");
    }
}

#[test]
fn a_rule_with_the_matches_of_an_earlier_one_is_told_that_it_never_applies() {
    let rule = |path: &str| json!({"matches": [{"path": {"value": path}}], "backendRefs": [{"name": "api"}]});
    let one = route("one", &json!([rule("/a"), rule("/a/"), rule("/b")]));
    let two = route("two", &json!([rule("/b"), rule("/c")]));

    let problems = validate::set(&[two, one], &known());

    let found: Vec<_> =
        problems.iter().map(|p| (p.object.name.as_str(), p.path.as_str(), p.severity)).collect();
    assert_eq!(
        found,
        [("one", "spec.rules[1]", Severity::Warning), ("two", "spec.rules[0]", Severity::Warning)]
    );
    assert!(problems[1].message.contains("rule 2 of one"), "{}", problems[1].message);
}

#[test]
fn names_that_no_node_announces_are_doubted() {
    let backends = json!([{"backendRefs": [{"name": "api"}, {"name": "none"}]}]);
    let spec = json!({"destination": "gone", "sources": [{"service": "api"}, {"service": "lost"}], "action": "deny"});

    let problems = validate::set(&[route("r", &backends), intention("i", &spec)], &known());

    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["spec.rules[0].backendRefs[1].name", "spec.destination", "spec.sources[1].service"]);
    assert!(problems.iter().all(|problem| !problem.is_error()));
}

#[test]
fn two_objects_of_one_name_and_opposite_intentions_are_found() {
    let spec =
        |action: &str| json!({"destination": "web", "sources": [{"service": "api"}], "action": action});
    let twice = [intention("a", &spec("allow")), intention("a", &spec("allow"))];
    let opposite = [intention("a", &spec("allow")), intention("b", &spec("deny"))];

    assert!(validate::set(&twice, &known()).iter().any(Problem::is_error));
    let problems = validate::set(&opposite, &known());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("Intention/a"), "{}", problems[0]);
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[/a-z.%*(){}\\[\\]|+?-]{0,12}", ".{0,8}", "/[a-z/]{0,8}", "[a-zA-Z-]{1,8}"]
}

proptest! {
    #[test]
    fn what_is_accepted_can_be_obeyed(
        kind in prop_oneof![Just("Exact"), Just("PathPrefix"), Just("RegularExpression")],
        header_kind in prop_oneof![Just("Exact"), Just("RegularExpression")],
        path in any_text(),
        name in any_text(),
        value in any_text(),
    ) {
        let wanted = json!({
            "path": {"type": kind, "value": path},
            "headers": [{"type": header_kind, "name": name, "value": value}],
        });
        let filter = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": name, "value": value}]}});
        let rules = json!([{"matches": [wanted], "filters": [filter], "backendRefs": [{"name": "api"}]}]);
        if errors(&route("r", &rules)).is_empty() {
            let wanted: HttpRouteMatch = serde_json::from_value(wanted).unwrap();
            prop_assert!(Matcher::new(&wanted).is_some());
            prop_assert!(Filter::new(&serde_json::from_value(filter).unwrap()).is_some());
        }
    }
}
