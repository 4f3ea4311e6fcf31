//! Text exposition of the metrics, in the Prometheus format 0.0.4.

use std::fmt::{Display, Write as _};

use crate::logic::metric::report::{EdgeKey, ProxyStatus};
use crate::logic::metric::total::{BUCKETS_US, EdgeTotal};
use crate::model::name::NodeName;
use crate::model::view::{EdgeProtocol, Side};
use crate::telemetry::metric::{Kind, METRICS, Metric, Process, Source};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All there is to expose.
#[derive(Debug, Clone, Copy)]
pub struct Exposition<'a> {
    /// Traffic: of one proxy, or of the whole mesh at the control plane.
    pub edges: &'a [(EdgeKey, EdgeTotal)],
    /// Proxies: itself, or all of them at the control plane.
    pub proxies: &'a [(NodeName, ProxyStatus)],
    /// The process that is asked.
    pub process: Process<'a>,
}

/// Returns the text of every metric in [`METRICS`]; those without series have their head only.
pub fn render(exposition: &Exposition<'_>) -> String {
    let edges: Vec<_> = exposition.edges.iter().map(|(key, total)| (edge_labels(key), total)).collect();
    let mut out = String::new();
    for metric in METRICS {
        line(&mut out, format_args!("# HELP {} {}", metric.name, metric.help));
        line(&mut out, format_args!("# TYPE {} {}", metric.name, kind(metric.kind)));
        match metric.source {
            Source::Edge(read) => {
                for (labels, total) in &edges {
                    read(total, &mut |values, number| sample(&mut out, metric, labels, values, number));
                }
            }
            Source::Latency => {
                for (labels, total) in &edges {
                    latency(&mut out, metric, labels, total);
                }
            }
            Source::Proxy(read) => {
                for (node, status) in exposition.proxies {
                    let labels = format!("node=\"{}\"", escaped(node));
                    read(status, &mut |values, number| sample(&mut out, metric, &labels, values, number));
                }
            }
            Source::Process(read) => {
                read(&exposition.process, &mut |values, number| sample(&mut out, metric, "", values, number));
            }
        }
    }
    out
}

/// Writing to a string does not fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    _ = writeln!(out, "{text}");
}

fn sample(out: &mut String, metric: &Metric, labels: &str, values: &[&dyn Display], number: &dyn Display) {
    let mut all = labels.to_owned();
    for (label, value) in metric.labels.iter().zip(values) {
        let comma = if all.is_empty() { "" } else { "," };
        _ = write!(all, "{comma}{label}=\"{}\"", escaped(value));
    }
    if all.is_empty() {
        line(out, format_args!("{} {number}", metric.name));
    } else {
        line(out, format_args!("{}{{{all}}} {number}", metric.name));
    }
}

fn latency(out: &mut String, metric: &Metric, labels: &str, total: &EdgeTotal) {
    let name = metric.name;
    for (limit_us, count) in BUCKETS_US.iter().zip(total.buckets) {
        line(out, format_args!("{name}_bucket{{{labels},le=\"{}\"}} {count}", seconds(*limit_us)));
    }
    line(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {}", total.latencies));
    line(out, format_args!("{name}_sum{{{labels}}} {}", seconds(total.latency_sum_us)));
    line(out, format_args!("{name}_count{{{labels}}} {}", total.latencies));
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn edge_labels(key: &EdgeKey) -> String {
    let side = match key.side {
        Side::Outbound => "outbound",
        Side::Inbound => "inbound",
    };
    let protocol = match key.protocol {
        EdgeProtocol::Http => "http",
        EdgeProtocol::Grpc => "grpc",
        EdgeProtocol::Tcp => "tcp",
    };
    format!(
        "side=\"{side}\",source=\"{}\",destination=\"{}\",protocol=\"{protocol}\",route=\"{}\",node=\"{}\"",
        escaped(&key.source),
        escaped(&key.destination),
        escaped(&key.route),
        key.node.as_ref().map(|node| escaped(node)).unwrap_or_default(),
    )
}

/// A label value: backslash, quote and line feed are escaped.
fn escaped(value: &dyn Display) -> String {
    let text = value.to_string();
    if text.contains(['\\', '"', '\n']) {
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
    } else {
        text
    }
}
