//! Defaults: said or unsaid, they mean the same, and they are valid.

use std::time::Duration;

use mesh::logic::traffic::TrafficRules;
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
        prop::option::of(part(&[("request", json!("9s")), ("idle", json!("0s"))])),
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

proptest! {
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
