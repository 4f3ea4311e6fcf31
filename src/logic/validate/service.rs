//! Can the instances of one service be probed as its `Service` object says.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;

use crate::logic::duration;
use crate::logic::validate::problem::Problems;
use crate::model::name::is_label;
use crate::model::service_spec::{HealthCheck, HttpProbe, ServicePort, ServiceSpec};

const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);
const THRESHOLD: RangeInclusive<u32> = 1..=100;
const STATUS: RangeInclusive<u16> = 100..=599;
const STATUSES_MAX: usize = 32;
const PORTS_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 1_024;
const GRPC_SERVICE_BYTES_MAX: usize = 256;

/// Adds what is wrong in the body of a `Service`.
pub fn check(spec: &ServiceSpec, problems: &mut Problems) {
    if let Some(check) = &spec.health_check {
        health_check(check, problems);
    }
    ports(&spec.ports, problems);
}

fn ports(ports: &[ServicePort], problems: &mut Problems) {
    problems.at_most("spec.ports", ports.len(), PORTS_MAX);
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        for (field, number) in [("port", Some(port.port)), ("targetPort", port.target_port)] {
            if number == Some(0) {
                problems.error(format!("{at}.{field}"), "0 is not a port: expected 1 to 65535");
            }
        }
        if !numbers.insert(port.port) {
            problems.error(format!("{at}.port"), format!("{} is there twice", port.port));
        }
        let Some(name) = &port.name else { continue };
        if !is_label(name) {
            problems.error(
                format!("{at}.name"),
                format!("'{name}' is not a name: expected 1 to 63 of a-z, 0-9 and '-'"),
            );
        } else if !names.insert(name) {
            problems.error(format!("{at}.name"), format!("there is already a port '{name}'"));
        }
    }
}

fn health_check(check: &HealthCheck, problems: &mut Problems) {
    let at = "spec.healthCheck";
    let given = [check.http.is_some(), check.grpc.is_some(), check.tcp.is_some()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        problems.error(at, "a health check has exactly one of 'http', 'grpc' and 'tcp'");
    }
    if let Some(http) = &check.http {
        http_probe(http, problems);
    }
    if let Some(grpc) = &check.grpc
        && grpc.service.len() > GRPC_SERVICE_BYTES_MAX
    {
        problems.error(
            format!("{at}.grpc.service"),
            format!("{} bytes are too long: {GRPC_SERVICE_BYTES_MAX} at most", grpc.service.len()),
        );
    }
    period(&check.interval, &INTERVAL, "interval", "1s to 1h", problems);
    period(&check.timeout, &TIMEOUT, "timeout", "1ms to 1m", problems);
    let thresholds =
        [("healthyThreshold", check.healthy_threshold), ("unhealthyThreshold", check.unhealthy_threshold)];
    for (field, value) in thresholds {
        if !THRESHOLD.contains(&value) {
            problems.error(format!("{at}.{field}"), format!("{value} is not allowed: expected 1 to 100"));
        }
    }
}

fn http_probe(probe: &HttpProbe, problems: &mut Problems) {
    let at = "spec.healthCheck.http";
    let path = &probe.path;
    let valid = path.starts_with('/') && path.len() <= PATH_BYTES_MAX && PathAndQuery::try_from(path).is_ok();
    if !valid {
        problems.error(
            format!("{at}.path"),
            format!("'{path}' is not a path: expected one that begins with '/'"),
        );
    }
    problems.at_most(&format!("{at}.expectedStatuses"), probe.expected_statuses.len(), STATUSES_MAX);
    for (index, status) in probe.expected_statuses.iter().enumerate() {
        if !STATUS.contains(&status.first) || !STATUS.contains(&status.last) {
            problems.error(
                format!("{at}.expectedStatuses[{index}]"),
                format!("{status} is not a status code: expected 100 to 599"),
            );
        }
    }
}

fn period(
    text: &str,
    range: &RangeInclusive<Duration>,
    field: &str,
    expected: &str,
    problems: &mut Problems,
) {
    if !duration::parse(text).is_some_and(|period| range.contains(&period)) {
        problems.error(
            format!("spec.healthCheck.{field}"),
            format!("'{text}' is not allowed: expected a duration of {expected}"),
        );
    }
}
