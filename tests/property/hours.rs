//! The memory of the last hours: what is added is found for as long as an hour is remembered, within its bounds.

use std::collections::BTreeMap;

use mesh::logic::metric::asked;
use mesh::logic::metric::hours::{EDGES_MAX, HOURS_MAX, Hours, KINDS_MAX};
use mesh::logic::metric::report::{EdgeCounts, EdgeKey};
use mesh::model::view::{EdgeProtocol, Side};
use proptest::prelude::*;

const HOUR_MS: u64 = 3_600_000;
/// Some moment at the beginning of an hour.
const BEGAN_MS: u64 = 480_000 * HOUR_MS;

fn edge(source: &str) -> EdgeKey {
    EdgeKey {
        side: Side::Outbound,
        source: source.parse().unwrap(),
        destination: "web".parse().unwrap(),
        protocol: EdgeProtocol::Http,
        route: String::new(),
        node: Some("host-1".parse().unwrap()),
    }
}

fn counts(requests: u64, kinds: &[&str]) -> EdgeCounts {
    let asked = kinds.iter().map(|kind| ((*kind).to_owned(), 1)).collect();
    EdgeCounts { requests, asked, ..EdgeCounts::default() }
}

fn calls(hours: &Hours) -> BTreeMap<String, u64> {
    hours.traffic().map(|traffic| (traffic.key.source.to_string(), traffic.calls)).collect()
}

proptest! {
    #[test]
    fn it_is_the_sum_of_the_hours_that_are_remembered(
        adds in prop::collection::vec((0u64..60, 1u64..100, 0usize..3), 1..60),
    ) {
        let mut adds = adds;
        adds.sort_unstable();
        let mut hours = Hours::default();
        for (hour, requests, source) in &adds {
            hours.add(&edge(["a", "b", "c"][*source]), &counts(*requests, &[]), BEGAN_MS + hour * HOUR_MS);
        }
        let newest = adds.last().unwrap().0;
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (hour, requests, source) in &adds {
            if hour + HOURS_MAX as u64 > newest {
                *expected.entry(format!("{}.default", ["a", "b", "c"][*source])).or_default() += requests;
            }
        }

        prop_assert_eq!(calls(&hours), expected);
        let oldest = BEGAN_MS + newest.saturating_sub(HOURS_MAX as u64 - 1) * HOUR_MS;
        let first = BEGAN_MS + adds[0].0 * HOUR_MS;
        prop_assert_eq!(hours.since_ms(), Some(first.max(oldest)));
        let kept = serde_json::to_vec(&hours).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Hours>(&kept).unwrap(), hours);
    }

    #[test]
    fn a_kind_of_request_is_one_and_is_not_too_long(path in "(/[a-z0-9%_.-]{0,50}){0,9}") {
        if let Some(kind) = asked::kind("GET", &path) {
            prop_assert!(kind.len() <= asked::KIND_BYTES_MAX);
            let (method, kept) = asked::request(&kind).unwrap();
            prop_assert_eq!(method, http::Method::GET);
            prop_assert!(kept.starts_with('/'));
            prop_assert_eq!(asked::kind("GET", kept), Some(kind.clone()), "{}", kind);
        }
    }
}

#[test]
fn what_names_one_thing_is_not_part_of_a_kind() {
    for (path, kind) in [
        ("/", "GET /"),
        ("/carts/42/items", "GET /carts/*/items"),
        ("/v1/users/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "GET /v1/users/*"),
        ("/a%20b/c", "GET /*/c"),
        ("/feed/face", "GET /feed/face"),
        ("/1/2/3/4/5/6/7/8", "GET /*/*/*/*/*/*"),
        ("/shop.Cart/Get", "GET /shop.Cart/Get"),
    ] {
        assert_eq!(asked::kind("GET", path).as_deref(), Some(kind), "{path}");
    }
}

#[test]
fn it_is_bounded_in_edges_and_kinds_and_keeps_the_kinds_seen_last() {
    let mut hours = Hours::default();
    for number in 0..EDGES_MAX + 10 {
        hours.add(&edge(&format!("s{number}")), &counts(1, &[]), BEGAN_MS);
    }
    assert_eq!(hours.traffic().count(), EDGES_MAX);

    let mut hours = Hours::default();
    hours.add(&edge("a"), &counts(1, &["GET /old"]), BEGAN_MS);
    for number in 0..KINDS_MAX {
        hours.add(&edge("a"), &counts(1, &[&format!("GET /k{number}x")]), BEGAN_MS + HOUR_MS);
    }
    let traffic = hours.traffic().next().unwrap();
    assert_eq!(traffic.kinds.len(), KINDS_MAX);
    assert!(traffic.kinds.iter().all(|(kind, _)| *kind != "GET /old"), "{traffic:?}");
    assert_eq!(traffic.key.node, None);
}

#[test]
fn what_is_damaged_is_said() {
    assert!(serde_json::from_slice::<Hours>(b"{").is_err());
    assert!(serde_json::from_slice::<Hours>(b"{\"beganMs\":0}").is_err());
}
