//! `mesh stat`: the golden signals of each service, as `linkerd viz stat` prints them.

use clap::Args;
use futures_util::Stream;
use serde::Serialize;

use crate::cli::output::{Cell, Format, Table, Tone};
use crate::cli::traffic::{self, Listing, Percentiles};
use crate::logic::naming::similar;
use crate::model::endpoint::Standing;
use crate::model::name::ServiceName;
use crate::model::view::{MeshView, ServiceView, TrafficView};

/// Flags of `mesh stat`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatArgs {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<ServiceName>,
    /// Only services of this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Print again every second
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// The named service is nowhere in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no service {name}: nobody runs it, and nobody called it in the last ten minutes{hint}")]
pub(crate) struct NoSuchService {
    /// Its name.
    pub(crate) name: ServiceName,
    /// What may have been meant.
    pub(crate) hint: String,
}

/// A service, as scripts read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: ServiceName,
    instances: usize,
    instances_ready: usize,
    requests_per_second: f64,
    success_rate: f64,
    latency_ms: Percentiles,
    connections_open: i64,
    bytes_per_second: f64,
    denied_per_second: f64,
    retries_per_second: f64,
    requests_total: u64,
    failures_total: u64,
    #[serde(skip)]
    traffic: TrafficView,
}

const LISTING: Listing<Row> = Listing { rows, table, name: |row| row.name.to_string() };

/// Prints the services of the first view, or of every one.
///
/// # Errors
/// [`NoSuchService`] when the wanted one is not there; those of the stream and of standard output.
pub(crate) async fn run<E: Into<anyhow::Error>>(
    args: &StatArgs,
    views: impl Stream<Item = Result<MeshView, E>>,
) -> anyhow::Result<()> {
    let keep = |mut rows: Vec<Row>| {
        let hint = args.service.as_ref().map(|name| similar::hint(name, rows.iter().map(|row| &row.name)));
        rows.retain(|row| args.service.as_ref().is_none_or(|service| *service == row.name));
        rows.retain(|row| args.namespace.as_ref().is_none_or(|namespace| namespace == row.name.namespace()));
        match (&args.service, hint) {
            (Some(service), Some(hint)) if rows.is_empty() => {
                Err(NoSuchService { name: service.clone(), hint }.into())
            }
            (Some(_) | None, _) => Ok(rows),
        }
    };
    traffic::print(&LISTING, (args.output, args.watch), views, keep).await
}

fn rows(view: &MeshView) -> Vec<Row> {
    view.services.iter().map(row).collect()
}

fn row(service: &ServiceView) -> Row {
    let traffic = &service.traffic;
    let ready = service.instances.iter().filter(|one| one.standing == Standing::Ready);
    Row {
        name: service.name.clone(),
        instances: service.instances.len(),
        instances_ready: ready.count(),
        requests_per_second: traffic.requests_per_second,
        success_rate: traffic.success_rate,
        latency_ms: traffic.latency_ms.into(),
        connections_open: traffic.connections_open,
        bytes_per_second: traffic.bytes_per_second,
        denied_per_second: traffic.denied_per_second,
        retries_per_second: traffic.retries_per_second,
        requests_total: traffic.requests_total,
        failures_total: traffic.failures_total,
        traffic: traffic.clone(),
    }
}

fn table(rows: &[Row], wide: bool) -> Table {
    traffic::table((&["name", ">meshed"], cells), rows, |row| &row.traffic, wide)
}

fn cells(row: &Row) -> Vec<Cell> {
    let meshed = if row.instances_ready < row.instances { Tone::Warning } else { Tone::Plain };
    vec![row.name.to_string().into(), Cell::new(format!("{}/{}", row.instances_ready, row.instances), meshed)]
}
