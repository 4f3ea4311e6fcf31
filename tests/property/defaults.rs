//! Defaults: said or unsaid, they mean the same, and they are valid.

use std::time::Duration;

use http::Method;
use mesh::logic::http::fields::Fields;
use mesh::logic::request::Head;
use mesh::logic::route::table::{Route, RouteTable};
use mesh::logic::traffic::TrafficRules;
use mesh::logic::validate::problem::Problem;
use mesh::logic::{defaults, duration, validate};
use mesh::model::resource::Resource;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A part of a policy with some of its fields.
fn part(fields: &[(&'static str, Value)]) -> impl Strategy<Value = Value> + use<> {
    let fields = fields.to_vec();
    prop::collection::vec(any::<bool>(), fields.len()).prop_map(move |said| {
        let some = fields
            .iter()
            .zip(said)
            .filter(|(_, said)| *said)
            .map(|((name, value), _)| (*name, value.clone()));
        Value::Object(some.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    })
}

fn policy() -> impl Strategy<Value = Resource> {
    let retry = part(&[
        ("attempts", json!(3)),
        ("codes", json!([502, 503])),
        ("methods", json!("Idempotent")),
        ("grpcCodes", json!(["UNAVAILABLE"])),
        ("backoff", json!("9s")),
        ("maxBackoff", json!("1s")),
        ("budget", json!({})),
    ]);
    let outlier = part(&[
        ("baseEjectionTime", json!("10m")),
        ("maxEjectionTime", json!("5s")),
        ("interval", json!("3s")),
        ("successRate", json!({ "minimumHosts": 3 })),
    ]);
    let limits = part(&[("maxConnections", json!(1)), ("maxRequests", json!(2))]);
    let rate = Just(json!({ "total": { "requests": 7 }, "perSource": { "requests": 3, "interval": "1m" } }));
    let adaptive = part(&[("min", json!(2_000)), ("max", json!(5))])
        .prop_map(|adaptive| json!({ "adaptive": adaptive }));
    let parts = (
        prop::option::of(retry),
        prop::option::of(outlier),
        prop::option::of(limits),
        prop::option::of(rate),
        prop::option::of(adaptive),
        prop::option::of(part(&[
            ("request", json!("9s")),
            ("idle", json!("0s")),
            ("streamIdle", json!("1m")),
        ])),
        prop::option::of(part(&[("minWeightPercent", json!(50))])),
    );
    parts.prop_map(|(retry, outlier, limits, rate, concurrency, timeouts, slow)| {
        let mut spec = json!({ "targetRef": { "name": "web" } });
        let slow = slow.map(|mut slow| {
            slow["window"] = json!("30s");
            slow
        });
        for (name, part) in [
            ("retry", retry),
            ("outlierDetection", outlier),
            ("circuitBreaking", limits),
            ("rateLimit", rate),
            ("concurrency", concurrency),
            ("timeouts", timeouts),
            ("slowStart", slow),
        ] {
            if let Some(part) = part {
                spec[name] = part;
            }
        }
        let object = json!({ "apiVersion": "mesh/v1", "kind": "TrafficPolicy", "metadata": { "name": "p" }, "spec": spec });
        serde_json::from_value(object).unwrap()
    })
}

fn rules(resource: &Resource) -> TrafficRules {
    let Resource::TrafficPolicy(policy) = resource else { panic!("a policy") };
    TrafficRules::new(&policy.spec)
}

/// A route with some of what can be left unsaid.
fn route() -> impl Strategy<Value = Resource> {
    let kinds = prop::sample::select(vec!["HTTPRoute", "GRPCRoute", "TCPRoute"]);
    let rule = (
        prop::sample::select(vec![
            json!([]),
            json!([{}]),
            json!([{ "method": "GET" }]),
            json!([{ "path": { "value": "/a" } }]),
        ]),
        prop::sample::select(vec![
            json!([]),
            json!([{ "type": "RequestRedirect", "requestRedirect": { "port": 8080 } }]),
            json!([{ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "copy" } } }]),
            json!([{ "type": "CORS", "cors": { "allowOrigins": ["*"] } }]),
            json!([{ "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/b" } } }]),
        ]),
        prop::sample::select(vec![
            json!([]),
            json!([{ "name": "web" }]),
            json!([{ "name": "web", "kind": "Service" }]),
        ]),
        prop::sample::select(vec![
            Value::Null,
            json!({}),
            json!({ "type": "Header" }),
            json!({ "sessionName": "s" }),
        ]),
    );
    (kinds, prop::collection::vec(rule, 0..4)).prop_map(|(kind, rules)| {
        let rules = rules.into_iter().map(|(matches, filters, backends, session)| {
            let mut rule = json!({ "backendRefs": backends });
            if kind == "HTTPRoute" {
                rule["matches"] = matches;
                rule["filters"] = filters;
            }
            if kind != "TCPRoute" && !session.is_null() {
                rule["sessionPersistence"] = session;
            }
            rule
        });
        let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
        let object = json!({
            "apiVersion": format!("gateway.networking.k8s.io/{version}"),
            "kind": kind,
            "metadata": { "name": "r" },
            "spec": { "parentRefs": [{ "kind": "Service", "name": "web" }], "rules": rules.collect::<Vec<_>>() },
        });
        serde_json::from_value(object).unwrap()
    })
}

/// What a route says of each rule, in an order that does not depend on it.
fn table(resource: &Resource) -> String {
    let table = RouteTable::new(Route::of(resource));
    let fields = Fields::new();
    let paths = ["/", "/a", "/a/b", "/c"];
    let methods = [Method::GET, Method::POST];
    let heads = paths.iter().flat_map(|path| methods.iter().map(move |method| (method, path)));
    let found = heads.map(|(method, path)| {
        let head = Head { method, path, query: None, authority: None, fields: &fields };
        table.find(&head).map(|rule| rule.label.to_string())
    });
    format!("{:#?} {:?}", table.rules(), found.collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_is_filled_into_a_route_means_the_same_and_is_as_valid(route in route()) {
        let mut filled = route.clone();
        defaults::fill(&mut filled);
        let mut twice = filled.clone();
        defaults::fill(&mut twice);

        prop_assert_eq!(table(&filled), table(&route));
        prop_assert_eq!(&twice, &filled);
        let errors = |route: &Resource| validate::object(route).into_iter().filter(Problem::is_error).count();
        prop_assert_eq!(errors(&filled), errors(&route), "{:#?}", validate::object(&filled));
    }

    #[test]
    fn what_is_filled_in_means_the_same_and_is_as_valid(policy in policy()) {
        let mut filled = policy.clone();
        defaults::fill(&mut filled);
        let mut twice = filled.clone();
        defaults::fill(&mut twice);

        prop_assert_eq!(rules(&filled), rules(&policy));
        prop_assert_eq!(&twice, &filled);
        if validate::object(&policy).is_empty() {
            prop_assert_eq!(validate::object(&filled), Vec::new());
        }
    }

    #[test]
    fn a_duration_is_read_as_it_was_written(ms in 0u64..300_000_000) {
        let written = duration::write(Duration::from_millis(ms));
        prop_assert_eq!(duration::parse(&written), Some(Duration::from_millis(ms)), "{}", written);
    }
}

#[test]
fn what_every_service_has_is_shown_of_a_policy_that_says_nothing() {
    let object = |kind: &str, spec: Value| {
        let object =
            json!({ "apiVersion": "mesh/v1", "kind": kind, "metadata": { "name": "x" }, "spec": spec });
        let mut resource: Resource = serde_json::from_value(object).unwrap();
        defaults::fill(&mut resource);
        serde_json::to_value(resource).unwrap()["spec"].take()
    };
    let policy = object("TrafficPolicy", json!({ "targetRef": { "name": "web" } }));
    for (path, expected) in [
        ("/targetRef/kind", json!("Service")),
        ("/targetRef/group", json!("")),
        ("/loadBalancing/policy", json!("PeakEwma")),
        ("/loadBalancing/locality/mode", json!("Prefer")),
        (
            "/timeouts",
            json!({ "request": "0s", "backendRequest": "0s", "idle": "5m", "streamIdle": "0s", "connect": "1s" }),
        ),
        ("/retry/attempts", json!(2)),
        ("/retry/codes", json!([503])),
        ("/retry/methods", json!("Idempotent")),
        ("/retry/grpcCodes", json!([])),
        ("/retry/budget/percent", json!(20)),
        ("/circuitBreaking/maxRequests", json!(16_384)),
        ("/outlierDetection/consecutiveGatewayErrors", json!(5)),
        ("/outlierDetection/successRate/requestVolume", json!(100)),
    ] {
        assert_eq!(policy.pointer(path), Some(&expected), "{path} in {policy:#}");
    }
    let fault = json!({ "targetRef": { "name": "web" }, "faultInjection": { "abort": { "percent": 1 } } });
    let abort = &object("TrafficPolicy", fault)["faultInjection"]["abort"];
    assert_eq!((&abort["httpStatus"], &abort["grpcStatus"]), (&json!(503), &json!("UNAVAILABLE")));

    let service = object("Service", json!({ "ports": [{ "port": 80 }, { "port": 81, "targetPort": 9 }] }));
    assert_eq!(service.pointer("/ports/0/targetPort"), Some(&json!(80)));
    assert_eq!(service.pointer("/ports/1/targetPort"), Some(&json!(9)));
    for statuses in [json!({}), json!({ "expectedStatuses": [] })] {
        let service = object("Service", json!({ "healthCheck": { "http": statuses } }));
        let probe = json!({ "path": "/", "expectedStatuses": ["200-299"] });
        assert_eq!(service.pointer("/healthCheck/http"), Some(&probe));
    }
    let intention = json!({ "destination": "web", "sources": [{ "service": "*" }], "action": "deny" });
    assert_eq!(object("Intention", intention)["mode"], "enforce");
}
