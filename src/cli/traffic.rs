//! How numbers of traffic are printed, and how a live view is printed again and again.

use std::io::{self, IsTerminal as _};

use futures_util::{Stream, StreamExt as _};
use serde::Serialize;

use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::model::view::{LatencyView, MeshView, TrafficView};

/// Below this share of success a row is shown as broken, below the next as worth a look.
const SUCCESS_BAD: f64 = 0.98;
const SUCCESS_WARNING: f64 = 0.993;
/// Moves to the upper left corner and erases what is below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Percentiles as scripts read them; `null` without a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl From<LatencyView> for Percentiles {
    fn from(latency: LatencyView) -> Self {
        Self { p50: latency.p50, p95: latency.p95, p99: latency.p99 }
    }
}

/// Headers of the columns of traffic, and of those more that a wide table has.
const HEADERS: [&str; 6] = [">success", ">rps", ">latency_p50", ">latency_p95", ">latency_p99", ">tcp_conn"];
const DENIED_HEADER: &str = ">denied/sec";
const WIDE_HEADERS: [&str; 4] = [">bytes/sec", ">retries/sec", ">requests", ">failures"];

/// Returns the table of `rows`: first what each is, under `headers`, then its traffic. What intentions refused has a column
/// when there is any.
pub(crate) fn table<R>(
    (headers, what): (&[&'static str], impl Fn(&R) -> Vec<Cell>),
    rows: &[R],
    traffic: impl Fn(&R) -> &TrafficView,
    wide: bool,
) -> Table {
    let denied = wide || rows.iter().any(|row| traffic(row).denied_per_second > 0.0);
    let refused: &[&'static str] = if denied { &[DENIED_HEADER] } else { &[] };
    let more: &[&'static str] = if wide { &WIDE_HEADERS } else { &[] };
    let mut table = Table::new(&[headers, &HEADERS, refused, more].concat());
    for row in rows {
        table.row([what(row), cells(traffic(row), denied, wide)].concat());
    }
    table
}

fn cells(traffic: &TrafficView, denied: bool, wide: bool) -> Vec<Cell> {
    let mut cells = vec![success(traffic), rate(traffic.requests_per_second).into()];
    cells.extend(latency(traffic.latency_ms));
    cells.push(traffic.connections_open.to_string().into());
    if denied {
        let tone = if traffic.denied_per_second > 0.0 { Tone::Warning } else { Tone::Plain };
        cells.push(Cell::new(rate(traffic.denied_per_second), tone));
    }
    if wide {
        cells.push(bytes(traffic.bytes_per_second).into());
        cells.push(rate(traffic.retries_per_second).into());
        cells.push(traffic.requests_total.to_string().into());
        cells.push(traffic.failures_total.to_string().into());
    }
    cells
}

/// Returns the share of success of what got through; nothing where no request ended.
fn success(traffic: &TrafficView) -> Cell {
    if traffic.requests_per_second <= 0.0 {
        return Cell::default();
    }
    let Some(share) = traffic.success() else { return "-".into() };
    let tone = match share {
        rate if rate < SUCCESS_BAD => Tone::Bad,
        rate if rate < SUCCESS_WARNING => Tone::Warning,
        _ => Tone::Good,
    };
    Cell::new(format!("{:.2}%", share * 100.0), tone)
}

/// Returns a rate in as few digits as say something.
fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 100.0 => format!("{rate:.0}"),
        rate => format!("{rate:.1}"),
    }
}

/// Returns the three percentiles; nothing without a sample.
fn latency(latency: LatencyView) -> [Cell; 3] {
    [latency.p50, latency.p95, latency.p99].map(|ms| ms.map(duration).unwrap_or_default().into())
}

/// Returns milliseconds in three digits or so.
fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.2}ms"),
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 1_000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1_000.0),
    }
}

/// Returns bytes per second with a decimal unit.
fn bytes(per_second: f64) -> String {
    let units = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
    let mut value = per_second;
    let mut unit = units[0];
    for next in &units[1..] {
        if value < 1_000.0 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    if unit == units[0] { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

/// What a command shows of a view: its rows, and how they look.
pub(crate) struct Listing<R> {
    /// The rows of a view.
    pub(crate) rows: fn(&MeshView) -> Vec<R>,
    /// Their table; `true` for all columns.
    pub(crate) table: fn(&[R], bool) -> Table,
    /// The one name of a row.
    pub(crate) name: fn(&R) -> String,
}

/// Prints the first view, or with `watch` every one: as one line of JSON each, else as a table that replaces the last one
/// on a terminal and follows it elsewhere. `keep` says which rows are wanted.
///
/// # Errors
/// Those of the stream, of `keep`, and of standard output.
pub(crate) async fn print<R, E>(
    listing: &Listing<R>,
    (format, watch): (Format, bool),
    views: impl Stream<Item = Result<MeshView, E>>,
    keep: impl Fn(Vec<R>) -> anyhow::Result<Vec<R>>,
) -> anyhow::Result<()>
where
    R: Serialize,
    E: Into<anyhow::Error>,
{
    tokio::pin!(views);
    let replace = watch && io::stdout().is_terminal();
    while let Some(view) = views.next().await {
        let rows = keep((listing.rows)(&view.map_err(Into::into)?))?;
        match format {
            Format::Json if watch => output::line(&serde_json::to_string(&rows)?)?,
            Format::Table | Format::Wide if replace => {
                let table = (listing.table)(&rows, format == Format::Wide);
                output::write(&format!(
                    "{CLEAR}{}",
                    table.render(output::width(), output::colour(&io::stdout()))
                ))?;
            }
            Format::Table | Format::Wide | Format::Json | Format::Yaml | Format::Name => {
                output::list(format, &rows, |wide| (listing.table)(&rows, wide), listing.name)?;
            }
        }
        if !watch {
            return Ok(());
        }
    }
    anyhow::ensure!(watch, "the control plane ended the stream before it sent a view");
    Ok(())
}
