//! The rollup: every report counts once, in any order; rates and percentiles are those of the merged counts.
#![expect(clippy::float_cmp, reason = "the expected values are exact")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use mesh::logic::metric::histogram::Histogram;
use mesh::logic::metric::report::{EdgeCounts, EdgeDelta, EdgeKey, EjectedEndpoint, ProxyStatus, Report};
use mesh::logic::metric::rollup::{IDLE_MS_MAX, Rollup, SERIES_MAX};
use mesh::logic::metric::view::{FleetEntry, ViewInput};
use mesh::model::endpoint::{Announcement, Catalog, Member, MemberState, NodeRecord, Role};
use mesh::model::name::NodeName;
use mesh::model::service::Protocol;
use mesh::model::view::{EdgeProtocol, IdentityStatus, MeshView, Side};
use proptest::collection::vec;
use proptest::prelude::*;

const START_MS: u64 = 1_700_000_000_000;

fn status() -> ProxyStatus {
    ProxyStatus {
        build: "1.0".to_owned(),
        started_ms: START_MS,
        now_ms: 0,
        revision: 1,
        memory_bytes: 1 << 20,
        cpu_ms: 0,
        descriptors: 10,
        identities: Vec::new(),
        ejected: Vec::new(),
    }
}

fn report(sequence: u64, edges: Vec<EdgeDelta>) -> Report {
    Report { epoch: START_MS, sequence, covers_ms: 1_000, edges, proxy: status() }
}

fn key(side: Side, source: &str, destination: &str, node: Option<&str>) -> EdgeKey {
    EdgeKey {
        side,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: EdgeProtocol::Http,
        route: String::new(),
        node: node.map(|node| node.parse().unwrap()),
    }
}

/// `failures` of the requests, whose latencies are given, failed.
fn counts(latencies_us: &[u64], failures: u64) -> EdgeCounts {
    let requests = latencies_us.len() as u64;
    EdgeCounts {
        requests,
        failures,
        statuses: BTreeMap::from([(200, requests - failures), (503, failures)]),
        latency: latencies_us.iter().copied().collect(),
        ..EdgeCounts::default()
    }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn view_at(rollup: &Rollup, now_ms: u64, catalog: &Catalog) -> MeshView {
    rollup.view(&ViewInput {
        observer: "control/host-1".parse().unwrap(),
        mesh: &"mesh.test".parse().unwrap(),
        now_ms,
        revision: 3,
        catalog,
        fleet: BTreeMap::from([(
            node("host-2"),
            FleetEntry { acked: Some(2), refused: Some("no".to_owned()), refused_revision: Some(3) },
        )]),
        resources: &[],
        events: Vec::new(),
    })
}

fn view(rollup: &Rollup, now_ms: u64) -> MeshView {
    view_at(rollup, now_ms, &Catalog::default())
}

/// `(node, latencies, failures)` of one report each.
fn traffic() -> impl Strategy<Value = Vec<(u8, Vec<u64>, u64)>> {
    let one = (0_u8..3, vec(0_u64..10_000_000, 1..20)).prop_flat_map(|(node, latencies)| {
        let requests = latencies.len() as u64;
        (Just(node), Just(latencies), 0..=requests)
    });
    vec(one, 1..30)
}

proptest! {
    #[test]
    fn repeated_and_late_reports_count_once(traffic in traffic(), order in vec(any::<prop::sample::Index>(), 0..60)) {
        let reports: Vec<_> = traffic
            .iter()
            .enumerate()
            .map(|(at, (from, latencies, failures))| {
                let edge = key(Side::Outbound, "web", "api", Some("host-9"));
                let delta = EdgeDelta { key: edge, counts: counts(latencies, *failures) };
                (node(&format!("host-{from}")), report(at as u64, vec![delta]))
            })
            .collect();
        let mut rollup = Rollup::new();

        let mut arrived = BTreeSet::new();
        for index in order.iter().map(|index| index.index(reports.len())) {
            arrived.insert(index);
            rollup.add(&reports[index].0, &reports[index].1, START_MS);
        }

        let heard: Vec<_> = arrived.iter().map(|at| &traffic[*at]).collect();
        let requests: u64 = heard.iter().map(|(_, latencies, _)| latencies.len() as u64).sum();
        let failures: u64 = heard.iter().map(|(_, _, failures)| *failures).sum();
        let all: Histogram = heard.iter().flat_map(|(_, latencies, _)| latencies.iter().copied()).collect();
        let shown = view(&rollup, START_MS + 1_000);
        prop_assert_eq!(shown.edges.len(), usize::from(!arrived.is_empty()));
        for edge in shown.edges {
            prop_assert_eq!(edge.traffic.requests_total, requests);
            prop_assert_eq!(edge.traffic.failures_total, failures);
            prop_assert_eq!(edge.traffic.latency_ms.samples, requests);
            prop_assert_eq!(edge.traffic.latency_ms.p99, all.quantile_us(0.99).map(|us| us as f64 / 1_000.0));
            prop_assert_eq!(edge.traffic.heat.iter().sum::<u64>(), requests);
            prop_assert_eq!(edge.traffic.classes.values().sum::<u64>(), requests);
        }
    }

    #[test]
    fn a_steady_rate_reads_steady(per_second in 1_usize..50, seconds in 12_u64..40) {
        let mut rollup = Rollup::new();
        let edge = key(Side::Outbound, "web", "api", None);
        for second in 0..seconds {
            let delta = EdgeDelta { key: edge.clone(), counts: counts(&vec![1_000; per_second], 0) };
            rollup.add(&node("host-1"), &report(second, vec![delta]), START_MS + second * 1_000 + 300);
        }

        let shown = view(&rollup, START_MS + seconds * 1_000);

        prop_assert_eq!(shown.window_seconds, 10);
        prop_assert_eq!(shown.edges[0].traffic.requests_per_second, per_second as f64);
        prop_assert_eq!(shown.edges[0].traffic.requests_total, per_second as u64 * seconds);
    }

    #[test]
    fn what_is_open_is_never_negative(steps in vec((0_u64..5, 0_u64..5), 1..20)) {
        let mut rollup = Rollup::new();
        let edge = key(Side::Outbound, "web", "api", None);
        let mut open = 0_u64;
        for (at, (opened, closed)) in steps.iter().enumerate() {
            open = (open + opened).saturating_sub(*closed);
            let counts = EdgeCounts { opened: *opened, closed: *closed, ..EdgeCounts::default() };
            let delta = EdgeDelta { key: edge.clone(), counts };
            rollup.add(&node("host-1"), &report(at as u64, vec![delta]), START_MS);
        }

        let shown = view(&rollup, START_MS);

        prop_assert_eq!(shown.edges[0].traffic.connections_open, i64::try_from(open).unwrap());
    }
}

#[test]
fn a_report_that_comes_late_makes_neither_a_peak_nor_a_hole() {
    for seconds in [1_u64, 4, 10, 60] {
        let mut rollup = Rollup::new();
        let calls = vec![5_000; 12 * seconds as usize];
        let delta = EdgeDelta { key: key(Side::Outbound, "web", "api", None), counts: counts(&calls, 0) };
        let late = Report { covers_ms: seconds * 1_000, ..report(1, vec![delta]) };

        rollup.add(&node("host-1"), &late, START_MS);

        let edge = view(&rollup, START_MS + 1_000).edges.remove(0);
        assert_eq!(edge.traffic.requests_total, 12 * seconds);
        assert_eq!(edge.traffic.requests_per_second, 12.0, "after {seconds} s");
        assert_eq!(edge.traffic.latency_ms.samples, 12 * seconds.min(10));
    }
}

#[test]
fn what_was_refused_goes_on_in_another_process() {
    let mut rollup = Rollup::new();
    let edge = key(Side::Inbound, "web", "api", Some("host-1"));
    let denied = || EdgeCounts {
        denied: 3,
        denials: BTreeMap::from([("intention default/x".to_owned(), 3)]),
        ..counts(&[5; 3], 0)
    };
    let delta = || vec![EdgeDelta { key: edge.clone(), counts: denied() }];
    rollup.add(&node("host-1"), &report(1, delta()), START_MS);
    let mut next = Rollup::new();

    next.recall(rollup.refused());
    let before = view(&next, START_MS + 1_000).edges.remove(0);
    next.add(&node("host-1"), &report(2, delta()), START_MS + 2_000);

    assert_eq!((before.traffic.denied_total, before.traffic.requests_per_second), (3, 0.0));
    let after = view(&next, START_MS + 3_000).edges.remove(0);
    assert_eq!(after.traffic.denied_total, 6);
    assert_eq!(after.traffic.denials["intention default/x"], 6);
}

#[test]
fn an_earlier_process_of_a_node_changes_nothing() {
    let mut rollup = Rollup::new();
    let delta = || EdgeDelta { key: key(Side::Outbound, "web", "api", None), counts: counts(&[5], 0) };
    rollup.add(&node("host-1"), &Report { epoch: START_MS + 1, ..report(1, vec![delta()]) }, START_MS);

    rollup.add(&node("host-1"), &report(9, vec![delta()]), START_MS);

    assert_eq!(view(&rollup, START_MS + 1_000).edges[0].traffic.requests_total, 1);
}

#[test]
fn what_a_process_serves_out_after_another_took_over_is_counted_once() {
    let mut rollup = Rollup::new();
    let delta = || EdgeDelta { key: key(Side::Outbound, "web", "api", None), counts: counts(&[5], 0) };
    let opened = |opened, closed| EdgeDelta {
        key: key(Side::Outbound, "web", "api", None),
        counts: EdgeCounts { opened, closed, ..EdgeCounts::default() },
    };
    let next = |sequence, edges| Report { epoch: START_MS + 1, ..report(sequence, edges) };
    rollup.add(&node("host-1"), &report(1, vec![delta(), opened(2, 0)]), START_MS);
    rollup.add(&node("host-1"), &next(1, vec![delta(), opened(3, 0)]), START_MS);

    for _ in 0..2 {
        rollup.add(&node("host-1"), &report(2, vec![delta(), opened(0, 2)]), START_MS);
    }
    let view = view(&rollup, START_MS + 1_000);
    assert_eq!(view.edges[0].traffic.requests_total, 3);
    assert_eq!(view.edges[0].traffic.connections_open, 3, "those of the process that is there");
}

#[test]
fn connections_of_a_proxy_that_restarted_or_went_silent_are_not_open() {
    let mut rollup = Rollup::new();
    let opened = EdgeCounts { opened: 3, ..EdgeCounts::default() };
    let delta = || EdgeDelta { key: key(Side::Outbound, "web", "api", None), counts: opened.clone() };
    rollup.add(&node("host-1"), &report(1, vec![delta()]), START_MS);
    rollup.add(&node("host-2"), &report(1, vec![delta()]), START_MS);
    assert_eq!(view(&rollup, START_MS).edges[0].traffic.connections_open, 6);

    rollup.add(&node("host-1"), &Report { epoch: START_MS + 1, ..report(1, vec![]) }, START_MS + 10_000);

    assert_eq!(view(&rollup, START_MS + 10_000).edges[0].traffic.connections_open, 3);
    assert_eq!(view(&rollup, START_MS + 20_000).edges[0].traffic.connections_open, 0);
}

#[test]
fn an_edge_is_shown_from_both_sides_and_is_mutual_tls_once_an_endpoint_was_called() {
    let mut rollup = Rollup::new();
    let edges = vec![
        EdgeDelta { key: key(Side::Outbound, "web", "api", Some("host-2")), counts: counts(&[9_000; 4], 1) },
        EdgeDelta { key: key(Side::Outbound, "web", "gone", None), counts: counts(&[10], 1) },
    ];
    rollup.add(&node("host-1"), &report(1, edges), START_MS);
    let denied = EdgeCounts { denied: 2, ..counts(&[3_000; 5], 0) };
    let edges = vec![EdgeDelta { key: key(Side::Inbound, "web", "api", Some("host-7")), counts: denied }];
    rollup.add(&node("host-2"), &report(1, edges), START_MS);

    let shown = view_at(&rollup, START_MS + 1_000, &two_hosts());

    let [api, gone] = shown.edges.as_slice() else { panic!("{:?}", shown.edges) };
    assert_eq!(api.destination.to_string(), "api.default");
    assert!(api.mtls && !gone.mtls);
    assert_eq!((api.traffic.requests_total, api.traffic.denied_total), (4, 2));
    assert_eq!(api.traffic.success_rate, 0.75);
    assert_eq!(api.server.as_ref().unwrap().requests_total, 5);
    assert!(gone.server.is_none());
    let [api, gone] = shown.services.as_slice() else { panic!("{:?}", shown.services) };
    assert_eq!((api.traffic.requests_total, gone.traffic.requests_total), (5, 1));
    assert_eq!(api.protocol, Protocol::Http);
    assert_eq!(api.routes[0].traffic.requests_total, 4);
    // The reporter's name counts, not the one it claims.
    assert_eq!(api.instances[0].node, node("host-2"));
    assert_eq!(api.instances[0].traffic.requests_total, 5);
}

#[test]
fn nodes_and_identities_come_from_catalogue_fleet_and_reports() {
    let mut rollup = Rollup::new();
    let identity = IdentityStatus {
        subject: "api".parse().unwrap(),
        serial: "01".to_owned(),
        not_before_ms: START_MS,
        not_after_ms: START_MS + 1_000,
        renew_ms: START_MS + 500,
        renewals: 0,
        last_error: None,
    };
    let mut first = report(1, vec![]);
    first.proxy.identities = vec![identity];
    let mut second = report(2, vec![]);
    second.proxy = ProxyStatus { cpu_ms: 500, ..first.proxy.clone() };
    rollup.add(&node("host-2"), &first, START_MS);
    rollup.add(&node("host-2"), &second, START_MS + 1_000);

    let shown = view_at(&rollup, START_MS + 1_000, &two_hosts());

    let [silent, host] = shown.nodes.as_slice() else { panic!("{:?}", shown.nodes) };
    assert_eq!((silent.reported_ms, silent.revision), (None, None));
    assert_eq!((host.revision, host.refused.as_deref()), (Some(2), Some("no")));
    assert_eq!(host.cpu, Some(0.5));
    assert_eq!(host.instances, 1);
    assert_eq!(shown.identities[0].spiffe_id, "spiffe://mesh.test/ns/default/svc/api");
}

#[test]
fn ejections_and_refusals_make_events_once() {
    let mut rollup = Rollup::new();
    let denied = EdgeCounts { denied: 2, ..EdgeCounts::default() };
    let delta = || EdgeDelta { key: key(Side::Inbound, "web", "api", None), counts: denied.clone() };
    let ejected = EjectedEndpoint {
        service: "db".parse().unwrap(),
        node: node("host-3"),
        reason: "5 failures".to_owned(),
    };
    rollup.add(&node("host-2"), &report(1, vec![]), START_MS);
    let mut out = report(2, vec![delta()]);
    out.proxy.ejected = vec![ejected];
    let again = Report { sequence: 3, ..out.clone() };

    let first: Vec<_> =
        rollup.add(&node("host-2"), &out, START_MS).into_iter().map(|event| event.kind).collect();
    let second = rollup.add(&node("host-2"), &again, START_MS + 1_000);
    let third = rollup.add(&node("host-2"), &report(4, vec![]), START_MS + 2_000);

    assert_eq!(first, ["outlier", "deny"]);
    assert_eq!(second, []);
    assert_eq!(third[0].message, "host-2 uses it again");
}

#[test]
fn further_refusals_are_told_later_with_their_rule_and_host_and_by_the_called_side_only() {
    let mut rollup = Rollup::new();
    let delta = |side: Side, denied: u64| {
        let rules = [("intention default/web".to_owned(), denied)];
        let denials = if side == Side::Inbound { BTreeMap::from(rules) } else { BTreeMap::new() };
        let key = EdgeKey { protocol: EdgeProtocol::Tcp, ..key(side, "web", "api", None) };
        EdgeDelta { key, counts: EdgeCounts { denied, denials, ..EdgeCounts::default() } }
    };
    let mut told = |host: &str, sequence: u64, edges: Vec<EdgeDelta>, at_s: u64| {
        let events = rollup.add(&node(host), &report(sequence, edges), START_MS + at_s * 1_000);
        events.into_iter().map(|event| event.message).collect::<Vec<_>>()
    };

    let caller = told("host-1", 1, vec![delta(Side::Outbound, 1)], 0);
    let first = told("host-2", 1, vec![delta(Side::Inbound, 1)], 0);
    let soon: Vec<_> =
        (1..=8).flat_map(|at| told("host-2", 1 + at, vec![delta(Side::Inbound, 3)], at)).collect();
    let later = told("host-2", 10, vec![], 10);
    let nothing = told("host-2", 11, vec![], 30);

    assert_eq!(caller, Vec::<String>::new());
    assert_eq!(first, ["intention default/web refused 1 call to api.default on host-2"]);
    assert_eq!(soon, Vec::<String>::new());
    assert_eq!(later, ["intention default/web refused 24 more calls to api.default on host-2"]);
    assert_eq!(nothing, Vec::<String>::new());
}

#[test]
fn series_are_bounded_and_idle_ones_are_forgotten() {
    let mut rollup = Rollup::new();
    let many = |from: usize, count: usize| {
        let edges = (from..from + count).map(|number| {
            let service = format!("s{number}");
            EdgeDelta { key: key(Side::Outbound, "web", &service, None), counts: counts(&[], 0) }
        });
        edges
            .map(|edge| EdgeDelta { counts: EdgeCounts { requests: 1, ..edge.counts }, ..edge })
            .collect::<Vec<_>>()
    };

    rollup.add(&node("host-1"), &report(1, many(0, SERIES_MAX)), START_MS);
    rollup.add(&node("host-1"), &report(2, many(SERIES_MAX, 100)), START_MS);

    assert_eq!(rollup.totals().count(), SERIES_MAX + 1);
    let overflow = rollup.totals().find(|(key, _)| key.destination.namespace() == "overflow").unwrap();
    assert_eq!(overflow.1.requests, 100);

    rollup.add(&node("host-1"), &report(3, many(5, 1)), START_MS + IDLE_MS_MAX);

    assert_eq!(rollup.totals().count(), 1);
}

/// host-1 without services, host-2 with api.
fn two_hosts() -> Catalog {
    let addr: SocketAddr = "127.0.0.1:15008".parse().unwrap();
    let member = |name: &str, services: Vec<Announcement>| {
        let record = NodeRecord {
            node: node(name),
            epoch: 1,
            version: 1,
            role: Role::Proxy,
            addr,
            zone: None,
            build: "1.0".to_owned(),
            draining: false,
            services,
        };
        let state = MemberState::Alive;
        (
            node(name),
            Member {
                record: Some(record),
                state,
                gossip: addr,
                since_ms: START_MS,
                rtt_us: None,
                vouched_ms: None,
            },
        )
    };
    let api = Announcement {
        service: "api".parse().unwrap(),
        port: 9000,
        protocol: Protocol::Http,
        weight: 100,
        healthy: true,
    };
    Catalog { members: BTreeMap::from([member("host-1", vec![]), member("host-2", vec![api])]) }
}
