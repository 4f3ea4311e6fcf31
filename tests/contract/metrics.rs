//! The Prometheus text: form, escaping, and that every metric of the table is there.

use std::collections::BTreeMap;

use mesh::logic::metric::report::{EdgeCounts, EdgeKey, EjectedEndpoint, ProxyStatus};
use mesh::logic::metric::total::EdgeTotal;
use mesh::model::view::{EdgeProtocol, IdentityStatus, Side};
use mesh::telemetry::metric::{Kind, METRICS, Process};
use mesh::telemetry::process;
use mesh::telemetry::prometheus::{Exposition, render};

fn sample() -> String {
    let key = EdgeKey {
        side: Side::Outbound,
        source: "web".parse().unwrap(),
        destination: "api.shop".parse().unwrap(),
        protocol: EdgeProtocol::Grpc,
        route: "a\"b\\c\nd".to_owned(),
        node: Some("host-2".parse().unwrap()),
    };
    let mut total = EdgeTotal::default();
    total.add(&EdgeCounts {
        requests: 3,
        failures: 1,
        statuses: BTreeMap::from([(200, 2), (503, 1)]),
        grpc_statuses: BTreeMap::from([(0, 2)]),
        reasons: BTreeMap::from([("UF".to_owned(), 1)]),
        bytes_sent: 10,
        opened: 2,
        latency: [500, 2_500, 7_000_000].into_iter().collect(),
        ..EdgeCounts::default()
    });
    let identity = IdentityStatus {
        subject: "api.shop".parse().unwrap(),
        serial: "01".to_owned(),
        not_before_ms: 0,
        not_after_ms: 1_500,
        renew_ms: 1_000,
        renewals: 4,
        last_error: None,
    };
    let ejected = EjectedEndpoint {
        service: "db".parse().unwrap(),
        node: "host-3".parse().unwrap(),
        reason: "5 failures".to_owned(),
    };
    let status = ProxyStatus {
        build: "1.2.3".to_owned(),
        started_ms: 1,
        now_ms: 0,
        revision: 42,
        memory_bytes: 1,
        cpu_ms: 1,
        descriptors: 1,
        identities: vec![identity],
        ejected: vec![ejected],
    };
    render(&Exposition {
        edges: &[(key, total)],
        proxies: &[("host-1".parse().unwrap(), status)],
        process: Process { build: "1.2.3", started_ms: 2_000, panics: 5, ..Process::default() },
    })
}

// case 90
#[test]
fn samples_have_labels_that_are_escaped() {
    let text = sample();

    let edge = r#"side="outbound",source="web.default",destination="api.shop",protocol="grpc",route="a\"b\\c\nd",node="host-2""#;
    for line in [
        format!("mesh_requests_total{{{edge},status=\"200\"}} 2"),
        format!("mesh_request_failures_total{{{edge}}} 1"),
        format!("mesh_grpc_responses_total{{{edge},grpc_status=\"0\"}} 2"),
        format!("mesh_failure_replies_total{{{edge},reason=\"UF\"}} 1"),
        format!("mesh_bytes_total{{{edge},direction=\"sent\"}} 10"),
        format!("mesh_request_duration_seconds_bucket{{{edge},le=\"0.001\"}} 1"),
        format!("mesh_request_duration_seconds_bucket{{{edge},le=\"0.003\"}} 2"),
        format!("mesh_request_duration_seconds_bucket{{{edge},le=\"50\"}} 3"),
        format!("mesh_request_duration_seconds_bucket{{{edge},le=\"+Inf\"}} 3"),
        format!("mesh_request_duration_seconds_sum{{{edge}}} 7.003"),
        format!("mesh_request_duration_seconds_count{{{edge}}} 3"),
        "mesh_identity_expiry_timestamp_seconds{node=\"host-1\",subject=\"api.shop\"} 1.5".to_owned(),
        "mesh_endpoint_ejected{node=\"host-1\",service=\"db.default\",endpoint=\"host-3\"} 1".to_owned(),
        "mesh_revision{node=\"host-1\"} 42".to_owned(),
        "mesh_build_info{version=\"1.2.3\"} 1".to_owned(),
        "mesh_task_panics_total 5".to_owned(),
        "process_start_time_seconds 2".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "missing {line} in\n{text}");
    }
}

#[test]
fn every_metric_has_one_head_followed_by_its_samples() {
    let text = sample();

    let mut metric = None;
    let mut heads = Vec::new();
    let mut series = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            let name = head.split(' ').next().unwrap();
            metric = METRICS.iter().find(|metric| metric.name == name);
            heads.push(name);
        } else if !line.starts_with("# TYPE ") {
            let metric = metric.expect("a sample follows its head");
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(name.starts_with(metric.name), "{line} under {}", metric.name);
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
        }
    }

    assert_eq!(heads, METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>());
    assert!(text.ends_with('\n'));
}

#[test]
fn names_say_what_the_number_is() {
    for metric in METRICS {
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}", metric.name);
    }
}

#[test]
fn the_kernel_knows_what_this_process_uses() {
    let usage = process::usage();

    assert!(usage.memory_bytes > 100_000, "{usage:?}");
    assert!(usage.descriptors >= 3, "{usage:?}");
}
