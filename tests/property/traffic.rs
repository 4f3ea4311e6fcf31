//! Traffic policies: what is accepted is compiled to what it says, and what is refused is named by its field.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh::logic::resilience::concurrency::ConcurrencyRules;
use mesh::logic::traffic::TrafficRules;
use mesh::logic::validate;
use mesh::logic::validate::problem::{Problem, Severity};
use mesh::model::resource::Resource;
use mesh::model::traffic_policy::TrafficPolicySpec;
use proptest::prelude::*;
use serde_json::{Value, json};

fn policy(name: &str, created: Option<&str>, spec: &Value) -> Resource {
    let metadata = json!({"name": name, "creationTimestamp": created});
    let mut value =
        json!({"apiVersion": "mesh/v1", "kind": "TrafficPolicy", "metadata": metadata, "spec": spec});
    if created.is_none() {
        value["metadata"].as_object_mut().unwrap().remove("creationTimestamp");
    }
    serde_json::from_value(value).unwrap()
}

/// A policy for `web` that says one thing.
fn with(field: &str, value: &Value) -> Resource {
    policy("p", None, &json!({"targetRef": {"name": "web"}, field: value}))
}

fn errors(resource: &Resource) -> Vec<String> {
    validate::object(resource).into_iter().filter(Problem::is_error).map(|problem| problem.path).collect()
}

fn compiled(field: &str, value: &Value) -> TrafficRules {
    let spec: TrafficPolicySpec =
        serde_json::from_value(json!({"targetRef": {"name": "web"}, field: value})).unwrap();
    TrafficRules::new(&spec)
}

fn assert_refused(cases: &[(&str, Value, &str)]) {
    for (field, value, path) in cases {
        assert_eq!(errors(&with(field, value)), [format!("spec.{field}{path}")], "{field}: {value}");
    }
}

#[test]
fn fields_of_balancing_are_named_when_they_are_wrong() {
    assert_refused(&[
        ("loadBalancing", json!({"policy": "ConsistentHash"}), ""),
        ("loadBalancing", json!({"consistentHash": {"source": {}}}), ".consistentHash"),
        ("loadBalancing", json!({"policy": "ConsistentHash", "consistentHash": {}}), ".consistentHash"),
        (
            "loadBalancing",
            json!({"policy": "ConsistentHash", "consistentHash": {"header": "a", "cookie": "b"}}),
            ".consistentHash",
        ),
        (
            "loadBalancing",
            json!({"policy": "ConsistentHash", "consistentHash": {"header": "a b"}}),
            ".consistentHash.header",
        ),
        (
            "loadBalancing",
            json!({"policy": "ConsistentHash", "consistentHash": {"source": {}, "maxLoadPercent": 100}}),
            ".consistentHash.maxLoadPercent",
        ),
        (
            "loadBalancing",
            json!({"locality": {"overprovisioningPercent": 99}}),
            ".locality.overprovisioningPercent",
        ),
        ("sessionAffinity", json!({"sessionName": "a;b"}), ".sessionName"),
        ("sessionAffinity", json!({"type": "Header", "sessionName": "Host"}), ".sessionName"),
        ("sessionAffinity", json!({"type": "Header", "sessionName": "mesh-attempt"}), ".sessionName"),
        ("sessionAffinity", json!({"absoluteTimeout": "0s"}), ".absoluteTimeout"),
        ("slowStart", json!({"window": "30"}), ".window"),
        ("slowStart", json!({"window": "30s", "minWeightPercent": 0}), ".minWeightPercent"),
    ]);
}

#[test]
fn fields_of_retries_are_named_when_they_are_wrong() {
    assert_refused(&[
        ("timeouts", json!({"request": "-1s"}), ".request"),
        ("timeouts", json!({"request": "1s", "backendRequest": "2s"}), ".backendRequest"),
        ("timeouts", json!({"idle": "1d"}), ".idle"),
        ("timeouts", json!({"streamIdle": "1ms"}), ".streamIdle"),
        ("timeouts", json!({"connect": "0s"}), ".connect"),
        ("retry", json!({"attempts": 5}), ".attempts"),
        ("retry", json!({"codes": [503, 200]}), ".codes[1]"),
        ("retry", json!({"codes": vec![500; 33]}), ".codes"),
        ("retry", json!({"backoff": "2s", "maxBackoff": "1s"}), ".maxBackoff"),
        ("retry", json!({"budget": {"percent": 101}}), ".budget.percent"),
        ("retry", json!({"budget": {"interval": "1h"}}), ".budget.interval"),
        ("retry", json!({"budget": {"minRetriesPerSecond": 1001}}), ".budget.minRetriesPerSecond"),
    ]);
}

#[test]
fn fields_of_limits_are_named_when_they_are_wrong() {
    assert_refused(&[
        ("circuitBreaking", json!({"maxConnections": 0}), ".maxConnections"),
        ("circuitBreaking", json!({"maxPendingRequests": 0}), ".maxPendingRequests"),
        ("circuitBreaking", json!({"maxRequests": 1_000_001}), ".maxRequests"),
        ("outlierDetection", json!({"consecutiveGatewayErrors": 1_001}), ".consecutiveGatewayErrors"),
        ("outlierDetection", json!({"consecutive5xxErrors": 1_001}), ".consecutive5xxErrors"),
        ("outlierDetection", json!({"interval": "10m"}), ".interval"),
        ("outlierDetection", json!({"baseEjectionTime": "1m", "maxEjectionTime": "30s"}), ".maxEjectionTime"),
        ("outlierDetection", json!({"maxEjectionPercent": 101}), ".maxEjectionPercent"),
        ("outlierDetection", json!({"successRate": {"minimumHosts": 2}}), ".successRate.minimumHosts"),
        ("concurrency", json!({}), ""),
        ("concurrency", json!({"limit": 1, "adaptive": {}}), ""),
        ("concurrency", json!({"limit": 0}), ".limit"),
        ("concurrency", json!({"adaptive": {"min": 5, "max": 4}}), ".adaptive.max"),
        ("rateLimit", json!({}), ""),
        ("rateLimit", json!({"total": {"requests": 0}}), ".total.requests"),
        ("rateLimit", json!({"perSource": {"requests": 1, "interval": "1ms"}}), ".perSource.interval"),
        ("rateLimit", json!({"perSource": {"requests": 1, "burst": 0}}), ".perSource.burst"),
        ("faultInjection", json!({}), ""),
        ("faultInjection", json!({"delay": {"duration": "1s"}}), ".delay"),
        ("faultInjection", json!({"delay": {"percent": 1, "duration": "0s"}}), ".delay.duration"),
        ("faultInjection", json!({"abort": {"percent": 101}}), ".abort.percent"),
        ("faultInjection", json!({"abort": {"percent": 1, "fraction": {"numerator": 1}}}), ".abort"),
        ("faultInjection", json!({"abort": {"fraction": {"numerator": 101}}}), ".abort.fraction"),
        (
            "faultInjection",
            json!({"abort": {"fraction": {"numerator": 0, "denominator": 0}}}),
            ".abort.fraction",
        ),
        ("faultInjection", json!({"abort": {"percent": 1, "httpStatus": 200}}), ".abort.httpStatus"),
    ]);
}

#[test]
fn only_a_service_is_a_target() {
    for (target, path) in [
        (json!({"name": "Web"}), "spec.targetRef.name"),
        (json!({"name": "web", "kind": "Gateway"}), "spec.targetRef.kind"),
        (json!({"name": "web", "group": "apps"}), "spec.targetRef.group"),
    ] {
        assert_eq!(errors(&policy("p", None, &json!({"targetRef": target}))), [path]);
    }
}

#[test]
fn fields_that_nobody_knows_are_refused() {
    let whole = json!({"targetRef": {"name": "web"}, "mirror": {}});
    let part = json!({"targetRef": {"name": "web"}, "retry": {"tries": 3}});
    let source = json!({"targetRef": {"name": "web"}, "rateLimit": {"perSource": {"rps": 3}}});

    for spec in [whole, part, source] {
        assert!(serde_json::from_value::<TrafficPolicySpec>(spec.clone()).is_err(), "{spec}");
    }
}

#[test]
fn a_policy_for_a_service_that_has_an_older_one_is_not_in_force() {
    let spec = |service: &str| json!({"targetRef": {"name": service}});
    let old = policy("z", Some("2026-01-01T00:00:00Z"), &spec("web"));
    let new = policy("a", Some("2026-02-01T00:00:00Z"), &spec("web"));
    let other = policy("b", None, &spec("api"));
    let known: BTreeSet<_> = ["web".parse().unwrap()].into();

    let problems = validate::set(&[new, old, other], &known);

    let found: Vec<_> = problems
        .iter()
        .map(|problem| (problem.object.name.as_str(), problem.path.as_str(), problem.severity))
        .collect();
    let at = "spec.targetRef.name";
    assert_eq!(found, [("b", at, Severity::Warning), ("a", at, Severity::Warning)]);
    assert!(problems[0].message.contains("no node announces"), "{}", problems[0]);
    assert!(problems[1].message.contains("TrafficPolicy/z is older"), "{}", problems[1]);
}

#[test]
fn what_is_said_of_a_pair_moves_the_other_when_it_must() {
    let backoff = |value| compiled("retry", &value).retry.backoff;
    assert_eq!(backoff(json!({"backoff": "100ms"})).cap, Duration::from_secs(1));
    assert_eq!(backoff(json!({"maxBackoff": "10ms"})).base, Duration::from_millis(10));
    let ejection = |value| compiled("outlierDetection", &value).outlier.ejection;
    assert_eq!(ejection(json!({"baseEjectionTime": "1h"})).cap, Duration::from_hours(1));
    assert_eq!(ejection(json!({"maxEjectionTime": "5s"})).base, Duration::from_secs(5));
    let concurrency = |value| compiled("concurrency", &json!({"adaptive": value})).concurrency;
    assert_eq!(concurrency(json!({"max": 3})), Some(ConcurrencyRules::Adaptive { min: 3, max: 3 }));
    assert_eq!(
        concurrency(json!({"min": 5_000})),
        Some(ConcurrencyRules::Adaptive { min: 5_000, max: 5_000 })
    );
}

#[test]
fn an_empty_policy_says_nothing() {
    let empty: TrafficPolicySpec = serde_json::from_value(json!({"targetRef": {"name": "web"}})).unwrap();

    assert_eq!(TrafficRules::new(&empty), TrafficRules::default());
    for field in ["loadBalancing", "timeouts", "retry", "circuitBreaking", "outlierDetection"] {
        assert_eq!(compiled(field, &json!({})), TrafficRules::default(), "{field}: {{}}");
    }
}

proptest! {
    #[test]
    fn times_and_numbers_of_any_size_are_compiled_or_refused(
        times in proptest::collection::vec("[0-9]{1,5}(ms|s|m|h)", 5),
        numbers in proptest::collection::vec(any::<u32>(), 8),
    ) {
        let spec = json!({
            "targetRef": {"name": "web"},
            "timeouts": {"request": times[0], "backendRequest": times[1], "idle": times[2], "connect": times[3]},
            "retry": {"attempts": numbers[0], "backoff": times[4], "budget": {"percent": numbers[1]}},
            "outlierDetection": {"baseEjectionTime": times[0], "maxEjectionPercent": numbers[2]},
            "rateLimit": {"total": {"requests": numbers[3], "interval": times[1], "burst": numbers[4]}},
            "slowStart": {"window": times[2], "minWeightPercent": numbers[5]},
            "circuitBreaking": {"maxRequests": numbers[6]},
            "concurrency": {"adaptive": {"min": numbers[7]}},
        });
        let resource = policy("p", None, &spec);
        let Resource::TrafficPolicy(object) = &resource else { unreachable!() };
        let rules = TrafficRules::new(&object.spec);
        if errors(&resource).is_empty() {
            prop_assert!(rules.retry.backoff.base <= rules.retry.backoff.cap);
            prop_assert!(rules.outlier.ejection.base <= rules.outlier.ejection.cap);
            prop_assert_eq!(rules.retry.attempts, numbers[0]);
            prop_assert!(rules.rate.and_then(|rate| rate.total).is_some_and(|rate| rate.every_ns >= 1));
        }
    }
}
