//! Validation: what it accepts can be obeyed, and what it refuses is named by its field.

use std::collections::BTreeSet;

use mesh::logic::route::filter::{Filters, Place};
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
        (modifier(json!({"add": [{"name": "host", "value": "x"}]})), format!("{at}.add[0].name")),
        (modifier(json!({"set": [{"name": "a", "value": "1\r\nb: 2"}]})), format!("{at}.set[0].value")),
    ];

    for (rules, path) in cases {
        assert_eq!(errors(&route("r", &rules)), [path], "{rules}");
    }
    assert!(errors(&route("r", &of(json!([request])))).is_empty());
}

#[test]
fn each_field_of_a_filter_is_named_when_it_is_wrong() {
    let of = |kind: &str, field: &str, body: &Value| {
        let mut filter = json!({"type": kind});
        filter[field] = body.clone();
        json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}], "filters": [filter]}])
    };
    let redirect = |body: Value| of("RequestRedirect", "requestRedirect", &body);
    let rewrite = |body: Value| of("URLRewrite", "urlRewrite", &body);
    let mirror = |body: Value| of("RequestMirror", "requestMirror", &body);
    let cors = |body: Value| of("CORS", "cors", &body);
    let cases = [
        (redirect(json!({"hostname": "A.b"})), "requestRedirect.hostname"),
        (redirect(json!({"hostname": "a:80"})), "requestRedirect.hostname"),
        (redirect(json!({"port": 0})), "requestRedirect.port"),
        (redirect(json!({"statusCode": 304})), "requestRedirect.statusCode"),
        (redirect(json!({"path": {"type": "ReplaceFullPath"}})), "requestRedirect.path"),
        (
            redirect(
                json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x", "replaceFullPath": "/y"}}),
            ),
            "requestRedirect.path.replaceFullPath",
        ),
        (rewrite(json!({"hostname": "-a"})), "urlRewrite.hostname"),
        (
            rewrite(json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a b"}})),
            "urlRewrite.path.replaceFullPath",
        ),
        (
            rewrite(json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "a".repeat(1_025)}})),
            "urlRewrite.path.replaceFullPath",
        ),
        (mirror(json!({"backendRef": {"name": "api", "kind": "Gateway"}})), "requestMirror.backendRef.kind"),
        (mirror(json!({"backendRef": {"name": "api"}, "percent": 101})), "requestMirror.percent"),
        (
            mirror(json!({"backendRef": {"name": "api"}, "fraction": {"numerator": 3, "denominator": 2}})),
            "requestMirror.fraction.numerator",
        ),
        (
            mirror(json!({"backendRef": {"name": "api"}, "fraction": {"numerator": 0, "denominator": 0}})),
            "requestMirror.fraction.denominator",
        ),
        (
            mirror(json!({"backendRef": {"name": "api"}, "percent": 1, "fraction": {"numerator": 1}})),
            "requestMirror.fraction",
        ),
        (cors(json!({"allowOrigins": ["a.test"]})), "cors.allowOrigins[0]"),
        (cors(json!({"allowOrigins": ["ftp://a.test"]})), "cors.allowOrigins[0]"),
        (cors(json!({"allowOrigins": ["https://a.*.test"]})), "cors.allowOrigins[0]"),
        (cors(json!({"allowOrigins": ["https://a.test/path"]})), "cors.allowOrigins[0]"),
        (cors(json!({"allowOrigins": ["*", "https://a.test"]})), "cors.allowOrigins"),
        (cors(json!({"allowOrigins": ["https://a.test", "https://a.test"]})), "cors.allowOrigins[1]"),
        (cors(json!({"allowMethods": ["get"]})), "cors.allowMethods[0]"),
        (cors(json!({"allowHeaders": ["a b"]})), "cors.allowHeaders[0]"),
        (cors(json!({"exposeHeaders": ["a:"]})), "cors.exposeHeaders[0]"),
        (cors(json!({"maxAge": 0})), "cors.maxAge"),
    ];

    for (rules, path) in cases {
        assert_eq!(errors(&route("r", &rules)), [format!("spec.rules[0].filters[0].{path}")], "{rules}");
    }
    for origin in ["*", "https://*", "http://*.a.test:8080", "https://a.test", "http://localhost:3000"] {
        assert!(errors(&route("r", &cors(json!({"allowOrigins": [origin]})))).is_empty(), "{origin}");
    }
}

#[test]
fn filters_that_exclude_each_other_are_refused() {
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {"port": 81}});
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {"hostname": "a"}});
    let replace = json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}});
    let copy = json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "api"}}});
    let cors = json!({"type": "CORS", "cors": {}});
    let backends = json!([{"name": "api"}]);
    let exact = json!([{"path": {"type": "Exact", "value": "/a"}}]);
    let two = json!([{"path": {"value": "/a"}}, {"path": {"value": "/b"}}]);
    let cases = [
        (json!([{"filters": [redirect, rewrite]}]), "spec.rules[0].filters[1].type"),
        (json!([{"filters": [redirect], "backendRefs": backends}]), "spec.rules[0].filters[0].type"),
        (json!([{"filters": [redirect, redirect]}]), "spec.rules[0].filters[1].type"),
        (json!([{"filters": [cors, cors], "backendRefs": backends}]), "spec.rules[0].filters[1].type"),
        (
            json!([{"matches": exact, "filters": [replace], "backendRefs": backends}]),
            "spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch",
        ),
        (
            json!([{"matches": two, "filters": [replace], "backendRefs": backends}]),
            "spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch",
        ),
        (
            json!([{"matches": exact, "backendRefs": [{"name": "api", "filters": [replace]}]}]),
            "spec.rules[0].backendRefs[0].filters[0].urlRewrite.path.replacePrefixMatch",
        ),
    ];

    for (rules, path) in cases {
        assert_eq!(errors(&route("r", &rules)), [path], "{rules}");
    }
    let fine = json!([{"filters": [copy, copy, cors, replace], "backendRefs": backends}]);
    assert!(errors(&route("r", &fine)).is_empty());
}

#[test]
fn retries_and_sessions_are_what_the_schema_allows() {
    let retry = |body: Value| json!([{"retry": body, "backendRefs": [{"name": "api"}]}]);
    let session = |body: Value| json!([{"sessionPersistence": body, "backendRefs": [{"name": "api"}]}]);
    let permanent = json!({"lifetimeType": "Permanent"});
    let cases = [
        (retry(json!({"codes": [399]})), "retry.codes[0]"),
        (retry(json!({"codes": [500, 500]})), "retry.codes[1]"),
        (retry(json!({"backoff": "1"})), "retry.backoff"),
        (retry(json!({"backoff": "0s"})), "retry.backoff"),
        (session(json!({"sessionName": "a b"})), "sessionPersistence.sessionName"),
        (session(json!({"sessionName": "a".repeat(129)})), "sessionPersistence.sessionName"),
        (session(json!({"sessionName": "mesh-x", "type": "Header"})), "sessionPersistence.sessionName"),
        (session(json!({"absoluteTimeout": "1d"})), "sessionPersistence.absoluteTimeout"),
        (session(json!({"idleTimeout": "1.5s"})), "sessionPersistence.idleTimeout"),
        (session(json!({"cookieConfig": permanent})), "sessionPersistence.cookieConfig.lifetimeType"),
        (session(json!({"type": "Header", "cookieConfig": {}})), "sessionPersistence.cookieConfig"),
    ];

    for (rules, path) in cases {
        assert_eq!(errors(&route("r", &rules)), [format!("spec.rules[0].{path}")], "{rules}");
    }
    let long = json!({"type": "Cookie", "sessionName": "s", "absoluteTimeout": "1h", "idleTimeout": "1m", "cookieConfig": permanent});
    assert!(errors(&route("r", &session(long))).is_empty());
    assert!(
        errors(&route("r", &retry(json!({"codes": [500, 429], "attempts": 30, "backoff": "10ms"}))))
            .is_empty()
    );
}

#[test]
fn each_field_of_a_grpc_or_tcp_route_is_named_when_it_is_wrong() {
    let of = |kind: &str, rules: &Value| -> Resource {
        let api = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
        let value = json!({
            "apiVersion": format!("gateway.networking.k8s.io/{api}"), "kind": kind, "metadata": {"name": "r"},
            "spec": {"parentRefs": [{"name": "web"}], "rules": rules},
        });
        serde_json::from_value(value).unwrap()
    };
    let backends = json!([{"name": "api"}]);
    let method = |body: Value| json!([{"matches": [{"method": body}], "backendRefs": backends}]);
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {"hostname": "a"}});
    let grpc = [
        (method(json!({})), "spec.rules[0].matches[0].method"),
        (method(json!({"service": "a/b"})), "spec.rules[0].matches[0].method.service"),
        (method(json!({"service": "a..b"})), "spec.rules[0].matches[0].method.service"),
        (method(json!({"method": "a.b"})), "spec.rules[0].matches[0].method.method"),
        (
            method(json!({"type": "RegularExpression", "method": "("})),
            "spec.rules[0].matches[0].method.method",
        ),
        (json!([{"filters": [rewrite], "backendRefs": backends}]), "spec.rules[0].filters[0].type"),
        (json!([{"name": "a b", "backendRefs": backends}]), "spec.rules[0].name"),
        (
            json!([{"backendRefs": [{"name": "api", "weight": 1_000_001}]}]),
            "spec.rules[0].backendRefs[0].weight",
        ),
    ];
    for (rules, path) in grpc {
        assert_eq!(errors(&of("GRPCRoute", &rules)), [path], "{rules}");
    }
    assert!(
        errors(&of("GRPCRoute", &method(json!({"service": "shop.v1.Cart", "method": "Add_1"})))).is_empty()
    );
    let tcp = [
        (json!([]), "spec.rules"),
        (json!([{"backendRefs": []}]), "spec.rules[0].backendRefs"),
        (
            json!([{"backendRefs": [{"name": "api", "filters": [rewrite]}]}]),
            "spec.rules[0].backendRefs[0].filters[0].type",
        ),
    ];
    for (rules, path) in tcp {
        assert_eq!(errors(&of("TCPRoute", &rules)), [path], "{rules}");
    }
    assert!(errors(&of("TCPRoute", &json!([{"backendRefs": backends}]))).is_empty());
}

#[test]
fn the_ports_of_a_service_have_numbers_and_names_of_their_own() {
    let ports = |ports: Value| service(&json!({"ports": ports}));
    let cases = [
        (json!([{"port": 0}]), "spec.ports[0].port"),
        (json!([{"port": 1, "targetPort": 0}]), "spec.ports[0].targetPort"),
        (json!([{"port": 1}, {"port": 1}]), "spec.ports[1].port"),
        (json!([{"port": 1, "name": "A"}]), "spec.ports[0].name"),
        (json!([{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]), "spec.ports[1].name"),
    ];
    for (list, path) in cases {
        assert_eq!(errors(&ports(list.clone())), [path], "{list}");
    }
    assert!(
        errors(&ports(
            json!([{"port": 80, "targetPort": 8080, "protocol": "http"}, {"port": 81, "name": "b"}])
        ))
        .is_empty()
    );
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
fn the_parents_of_a_route_are_services_each_once() {
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
    // The official schema does not ask for any: it is told that such a route does nothing.
    let alone = validate::object(&of(json!([])));
    assert!(
        alone.iter().all(|problem| !problem.is_error() && problem.path == "spec.parentRefs"),
        "{alone:?}"
    );
    assert_eq!(alone.len(), 1);
    assert_eq!(errors(&of(json!([{"name": "web", "kind": "Gateway"}]))), ["spec.parentRefs[0].kind"]);
    assert!(errors(&of(json!([{"name": "web", "namespace": "shop"}, {"name": "web"}]))).is_empty());
    assert!(errors(&of(json!([{"name": "web", "port": 80}, {"name": "web", "port": 81}, {"name": "web", "sectionName": "a"}]))).is_empty());
    assert_eq!(errors(&of(json!([{"name": "web", "sectionName": "A"}]))), ["spec.parentRefs[0].sectionName"]);
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
        (json!({"http": {"expectedStatuses": ["500-600"]}}), ".http.expectedStatuses[0]".to_owned()),
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
    let backends = json!([{"backendRefs": [{"name": "api"}, {"name": "apy"}]}]);
    let spec = json!({"destination": "gone", "sources": [{"service": "api"}, {"service": "lost"}], "action": "deny"});

    let problems = validate::set(&[route("r", &backends), intention("i", &spec)], &known());

    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["spec.rules[0].backendRefs[1].name", "spec.destination", "spec.sources[1].service"]);
    assert!(problems.iter().all(|problem| !problem.is_error()));
    assert!(problems[0].message.ends_with("; did you mean api.default?"), "{}", problems[0]);
    assert!(!problems[1].message.contains("did you mean"), "{}", problems[1]);
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

#[test]
fn a_way_around_an_intention_is_found() {
    let allow = |destination: &str| {
        intention(
            destination,
            &json!({"destination": destination, "sources": [{"service": "api"}], "action": "allow"}),
        )
    };
    let leads = route("r", &json!([{"backendRefs": [{"name": "web"}, {"name": "api"}]}]));
    let found = |intentions: &[Resource]| {
        let resources: Vec<_> = intentions.iter().chain([&leads]).cloned().collect();
        let problems = validate::set(&resources, &known());
        problems.iter().map(|problem| problem.path.clone()).collect::<Vec<_>>()
    };

    assert_eq!(found(&[allow("web")]), ["spec.rules[0].backendRefs[1].name"]);
    assert!(found(&[]).is_empty());
    assert!(found(&[allow("web"), allow("api")]).is_empty());
    assert!(found(&[allow("api")]).is_empty(), "who is let in at web is judged at api");
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
            let place = Place { namespace: "default", label: "r/0", prefix: None };
            let filters = Filters::new(&[serde_json::from_value(filter).unwrap()], place);
            prop_assert!(filters.response.is_some());
        }
    }
}

#[test]
fn the_rules_of_intentions_name_their_wrong_side() {
    let spec = |rule: Value| json!({ "destination": "web", "sources": [{ "service": "api" }], "action": "allow", "rules": [rule] });
    let cases = [
        (json!({ "methods": ["get"] }), "spec.rules[0].methods[0]"),
        (json!({ "methods": ["A B"] }), "spec.rules[0].methods[0]"),
        (json!({ "paths": [{ "value": "a" }] }), "spec.rules[0].paths[0].value"),
        (json!({ "paths": [{ "value": "/a?b" }] }), "spec.rules[0].paths[0].value"),
        (json!({ "paths": [{ "value": "/a/../b" }] }), "spec.rules[0].paths[0].value"),
        (json!({ "headers": [{ "name": "a b", "value": "1" }] }), "spec.rules[0].headers[0].name"),
        (
            json!({ "headers": [{ "name": "a", "type": "Present", "value": "1" }] }),
            "spec.rules[0].headers[0].value",
        ),
        (json!({ "headers": [{ "name": "a", "type": "Prefix" }] }), "spec.rules[0].headers[0].value"),
        (json!({ "grpc": [{}] }), "spec.rules[0].grpc[0]"),
        (json!({ "grpc": [{ "service": "a/b" }] }), "spec.rules[0].grpc[0].service"),
        (json!({ "name": "A B" }), "spec.rules[0].name"),
        (json!({ "methods": vec!["GET"; 17] }), "spec.rules[0].methods"),
    ];
    for (rule, path) in cases {
        let problems = validate::object(&intention("a", &spec(rule.clone())));
        assert_eq!(
            problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(),
            [path],
            "{rule}"
        );
    }
    let good = json!({
        "name": "all", "methods": ["GET", "PROPFIND"], "paths": [{ "value": "/" }, { "type": "Exact", "value": "/a/" }],
        "headers": [{ "name": "X-A", "type": "Present" }], "grpc": [{ "method": "Get" }],
    });
    assert_eq!(validate::object(&intention("a", &spec(good))), []);
}

#[test]
fn rules_about_requests_are_doubted_where_nobody_looks_for_any() {
    let service: Resource = serde_json::from_value(json!({
        "apiVersion": "mesh/v1", "kind": "Service", "metadata": { "name": "web" }, "spec": { "protocol": "tcp" },
    }))
    .unwrap();
    let spec = json!({
        "destination": "web", "sources": [{ "service": "api" }], "action": "allow", "rules": [{ "methods": ["GET"] }],
    });

    let problems = validate::set(&[service, intention("a", &spec)], &known());

    let found: Vec<_> = problems.iter().map(|problem| (problem.is_error(), problem.path.as_str())).collect();
    assert!(found.contains(&(false, "spec.rules")), "{problems:?}");
}
