//! The registry: nothing recorded is lost or counted twice, whoever reads it and when.

use std::collections::BTreeMap;

use mesh::logic::metric::report::{EdgeCounts, EdgeKey};
use mesh::model::view::{EdgeProtocol, Side};
use mesh::telemetry::metric::{IDLE_TAKES_MAX, Outcome, Registry, SERIES_MAX};
use proptest::collection::vec;
use proptest::prelude::*;

fn key(number: usize) -> EdgeKey {
    EdgeKey {
        side: Side::Outbound,
        source: "web".parse().unwrap(),
        destination: format!("s{number}").parse().unwrap(),
        protocol: EdgeProtocol::Http,
        route: String::new(),
        node: None,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Record { shard: usize, edge: usize, outcome: Outcome<'static> },
    Take,
    Read,
    DropShard(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = (prop::sample::select(vec![0, 200, 404, 503]), any::<bool>(), 0_u64..1_000_000).prop_map(
        |(status, failed, latency_us)| Outcome {
            status,
            failed,
            reason: failed.then_some("UF"),
            retries: u32::from(failed),
            latency_us,
            bytes_sent: 3,
            bytes_received: 4,
            ..Outcome::default()
        },
    );
    prop_oneof![
        8 => (0_usize..3, 0_usize..4, outcome).prop_map(|(shard, edge, outcome)| Step::Record { shard, edge, outcome }),
        2 => Just(Step::Take),
        1 => Just(Step::Read),
        1 => (0_usize..3).prop_map(Step::DropShard),
    ]
}

proptest! {
    #[test]
    fn deltas_add_up_to_the_totals_and_to_what_was_recorded(steps in vec(step(), 0..80)) {
        let registry = Registry::new();
        let mut shards: Vec<_> = (0..3).map(|_| registry.shard()).collect();
        let mut expected: BTreeMap<EdgeKey, EdgeCounts> = BTreeMap::new();
        let mut taken: BTreeMap<EdgeKey, EdgeCounts> = BTreeMap::new();
        let take = |taken: &mut BTreeMap<EdgeKey, EdgeCounts>| {
            for delta in registry.take_deltas() {
                taken.entry(delta.key).or_default().merge(&delta.counts);
            }
        };

        for step in steps {
            match step {
                Step::Record { shard, edge, outcome } => {
                    shards[shard].edge(&key(edge)).record(&outcome);
                    let counts = expected.entry(key(edge)).or_default();
                    counts.requests += 1;
                    counts.failures += u64::from(outcome.failed);
                    counts.retries += u64::from(outcome.retries);
                    counts.bytes_sent += outcome.bytes_sent;
                    counts.bytes_received += outcome.bytes_received;
                    *counts.statuses.entry(outcome.status).or_default() += 1;
                    if outcome.failed {
                        *counts.reasons.entry("UF".to_owned()).or_default() += 1;
                    }
                    counts.latency.record(outcome.latency_us);
                }
                Step::Take => take(&mut taken),
                Step::Read => _ = registry.totals(),
                Step::DropShard(shard) => shards[shard] = registry.shard(),
            }
        }
        take(&mut taken);

        let totals: BTreeMap<_, _> = registry.totals().into_iter().map(|(key, total)| (key, total.requests)).collect();
        let requests: BTreeMap<_, _> = expected.iter().map(|(key, counts)| (key.clone(), counts.requests)).collect();
        prop_assert_eq!(totals, requests);
        prop_assert_eq!(taken, expected);
    }
}

// case 90
#[test]
fn further_edges_are_counted_together() {
    let registry = Registry::new();
    let shard = registry.shard();

    for number in 0..SERIES_MAX + 50 {
        shard.edge(&key(number)).record(&Outcome::default());
    }

    let totals = registry.totals();
    assert_eq!(totals.len(), SERIES_MAX + 1);
    assert_eq!(registry.overflows(), 50);
    let other = totals.iter().find(|(key, _)| key.destination.to_string() == "other.overflow").unwrap();
    assert_eq!(other.1.requests, 50);
}

// case 90
#[test]
fn idle_series_are_forgotten_but_not_those_with_something_open() {
    let registry = Registry::new();
    let shard = registry.shard();
    shard.edge(&key(1)).record(&Outcome::default());
    shard.edge(&key(2)).opened();
    let held = shard.edge(&key(3));
    held.record(&Outcome::default());

    for _ in 0..=IDLE_TAKES_MAX {
        registry.take_deltas();
    }

    let names: Vec<_> = registry.totals().into_iter().map(|(key, _)| key.destination.to_string()).collect();
    assert_eq!(names, ["s2.default"]);
    held.record(&Outcome::default());
    assert_eq!(registry.take_deltas().len(), 1);
}
