//! `mesh edges`: who calls whom, how well, and whether by mutual TLS.

use clap::Args;
use futures_util::Stream;
use serde::Serialize;

use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::cli::traffic::{self, Listing, Percentiles};
use crate::logic::naming::similar;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::model::view::{EdgeProtocol, EdgeView, MeshView, TrafficView};

/// Flags of `mesh edges`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EdgesArgs {
    /// Only edges from or to this service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<ServiceName>,
    /// Only edges from or to this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Print again every second
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// An edge, as scripts read it: these keys and no others.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    source: Subject,
    destination: ServiceName,
    protocol: EdgeProtocol,
    requests_per_second: f64,
    success_rate: f64,
    latency_ms: Percentiles,
    connections_open: i64,
    mtls: bool,
    requests_total: u64,
    failures_total: u64,
    #[serde(skip)]
    traffic: TrafficView,
}

const LISTING: Listing<Row> =
    Listing { rows, table, name: |row| format!("{} -> {}", row.source, row.destination) };

/// Prints the edges of the first view, or of every one.
///
/// # Errors
/// Those of the stream and of standard output.
pub(crate) async fn run<E: Into<anyhow::Error>>(
    args: &EdgesArgs,
    views: impl Stream<Item = Result<MeshView, E>>,
) -> anyhow::Result<()> {
    let touches = |row: &Row, wanted: &dyn Fn(&ServiceName) -> bool| {
        wanted(&row.destination) || row.source.service().is_some_and(wanted)
    };
    let keep = |mut rows: Vec<Row>| {
        if let Some(service) = &args.service {
            let all = rows.iter().flat_map(|row| row.source.service().into_iter().chain([&row.destination]));
            let hint = similar::hint(service, all);
            rows.retain(|row| touches(row, &|name| name == service));
            if rows.is_empty() && !args.watch {
                output::note(&format!("no call from or to {service} was seen in the last ten minutes{hint}"));
            }
        }
        if let Some(namespace) = &args.namespace {
            rows.retain(|row| touches(row, &|name| name.namespace() == namespace));
        }
        Ok(rows)
    };
    traffic::print(&LISTING, (args.output, args.watch), views, keep).await
}

fn rows(view: &MeshView) -> Vec<Row> {
    view.edges.iter().map(row).collect()
}

fn row(edge: &EdgeView) -> Row {
    let traffic = &edge.traffic;
    Row {
        source: edge.source.clone(),
        destination: edge.destination.clone(),
        protocol: edge.protocol,
        requests_per_second: traffic.requests_per_second,
        success_rate: traffic.success_rate,
        latency_ms: traffic.latency_ms.into(),
        connections_open: traffic.connections_open,
        mtls: edge.mtls,
        requests_total: traffic.requests_total,
        failures_total: traffic.failures_total,
        traffic: traffic.clone(),
    }
}

fn table(rows: &[Row], wide: bool) -> Table {
    let headers = ["source", "destination", "protocol", "secured"];
    traffic::table((&headers, cells), rows, |row| &row.traffic, wide)
}

fn cells(row: &Row) -> Vec<Cell> {
    let protocol = match row.protocol {
        EdgeProtocol::Http => "http",
        EdgeProtocol::Grpc => "grpc",
        EdgeProtocol::Tcp => "tcp",
    };
    let secured = if row.mtls { Cell::new("√", Tone::Good) } else { Cell::new("×", Tone::Bad) };
    vec![row.source.to_string().into(), row.destination.to_string().into(), protocol.into(), secured]
}

#[cfg(test)]
mod tests {
    use crate::cli::edges::{row, table};
    use crate::model::view::{EdgeProtocol, EdgeView, LatencyView, TrafficView};

    fn edge(latency_ms: LatencyView) -> EdgeView {
        let traffic = TrafficView {
            requests_per_second: 12.5,
            success_rate: 0.5,
            failures_per_second: 6.25,
            latency_ms,
            connections_open: 3,
            requests_total: 125,
            failures_total: 62,
            ..TrafficView::default()
        };
        EdgeView {
            source: "node/host-1".parse().unwrap(),
            destination: "web".parse().unwrap(),
            protocol: EdgeProtocol::Grpc,
            traffic,
            server: None,
            mtls: true,
        }
    }

    #[test]
    fn scripts_read_these_keys_and_no_others() {
        let latency = LatencyView { p50: Some(1.5), p95: Some(20.0), p99: None, samples: 125 };

        let json = serde_json::to_string(&row(&edge(latency))).unwrap();

        assert_eq!(
            json,
            concat!(
                r#"{"source":"node/host-1","destination":"web.default","protocol":"grpc","requestsPerSecond":12.5,"#,
                r#""successRate":0.5,"latencyMs":{"p50":1.5,"p95":20.0,"p99":null},"connectionsOpen":3,"mtls":true,"#,
                r#""requestsTotal":125,"failuresTotal":62}"#
            )
        );
    }

    #[test]
    fn calls_that_were_all_refused_are_no_successes() {
        let mut refused = edge(LatencyView::default());
        refused.traffic.denied_per_second = refused.traffic.requests_per_second;
        refused.traffic.failures_per_second = 0.0;
        refused.traffic.success_rate = 1.0;

        let text = table(&[row(&refused), row(&edge(LatencyView::default()))], false).render(None, false);

        let cells: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(cells[0].last(), Some(&"DENIED/SEC"), "{text}");
        assert_eq!((cells[1][4], cells[1].last()), ("-", Some(&"12.5")), "{text}");
        assert_eq!((cells[2][4], cells[2].last()), ("50.00%", Some(&"0.0")), "{text}");
    }

    #[test]
    fn people_read_aligned_columns() {
        let latency = LatencyView { p50: Some(0.25), p95: Some(20.4), p99: Some(1_500.0), samples: 125 };

        let text = table(&[row(&edge(latency))], false).render(None, false);

        assert_eq!(
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>(),
            [
                vec![
                    "SOURCE",
                    "DESTINATION",
                    "PROTOCOL",
                    "SECURED",
                    "SUCCESS",
                    "RPS",
                    "LATENCY_P50",
                    "LATENCY_P95",
                    "LATENCY_P99",
                    "TCP_CONN",
                ],
                vec![
                    "node/host-1",
                    "web.default",
                    "grpc",
                    "√",
                    "50.00%",
                    "12.5",
                    "0.25ms",
                    "20ms",
                    "1.5s",
                    "3"
                ],
            ]
        );
    }
}
