//! Medians over the rounds, as a table for people and as JSON with every measurement.

use std::fmt::Write as _;

use mesh::net::clock;
use serde_json::{Value, json};

use crate::contestant::Contestant;
use crate::workload::{Figures, Workload};

/// What a contestant says it is; `None` when it is not installed.
pub(crate) struct Version {
    pub(crate) contestant: Contestant,
    pub(crate) version: Option<String>,
}

struct Measurement {
    round: u32,
    contestant: Contestant,
    workload: Workload,
    figures: Figures,
}

/// Everything measured in one run.
pub(crate) struct Report {
    versions: Vec<Version>,
    measurements: Vec<Measurement>,
}

/// A column of the table: a figure of a workload.
struct Column {
    workload: Workload,
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    digits: usize,
    /// Whether it is also shown as a multiple of mesh's.
    compared: bool,
}

const COLUMNS: [Column; 7] = [
    Column { workload: Workload::Saturated, title: "W1 µs", figure: cpu_us, digits: 1, compared: true },
    Column { workload: Workload::Paced, title: "W2 µs", figure: cpu_us, digits: 1, compared: true },
    Column { workload: Workload::Paced, title: "W2 p50 µs", figure: p50_us, digits: 0, compared: false },
    Column { workload: Workload::Paced, title: "W2 p99 µs", figure: p99_us, digits: 0, compared: false },
    Column { workload: Workload::Downloads, title: "W6d µs/MiB", figure: cpu_us, digits: 0, compared: true },
    Column { workload: Workload::Memory, title: "idle MiB", figure: idle_mib, digits: 1, compared: true },
    Column {
        workload: Workload::Memory,
        title: "1,000 clients MiB",
        figure: clients_mib,
        digits: 1,
        compared: true,
    },
];

fn cpu_us(figures: &Figures) -> Option<f64> {
    if let Figures::Cost { cpu_us, .. } = figures { Some(*cpu_us) } else { None }
}

fn p50_us(figures: &Figures) -> Option<f64> {
    if let Figures::Cost { p50_us, .. } = figures { Some(*p50_us) } else { None }
}

fn p99_us(figures: &Figures) -> Option<f64> {
    if let Figures::Cost { p99_us, .. } = figures { Some(*p99_us) } else { None }
}

fn done(figures: &Figures) -> Option<u64> {
    if let Figures::Cost { done, .. } = figures { Some(*done) } else { None }
}

fn idle_mib(figures: &Figures) -> Option<f64> {
    if let Figures::Memory { idle_mib, .. } = figures { Some(*idle_mib) } else { None }
}

fn clients_mib(figures: &Figures) -> Option<f64> {
    if let Figures::Memory { clients_mib, .. } = figures { Some(*clients_mib) } else { None }
}

impl Report {
    pub(crate) fn new(versions: Vec<Version>) -> Self {
        Self { versions, measurements: Vec::new() }
    }

    /// Those that can be measured here.
    pub(crate) fn installed(&self) -> impl Iterator<Item = Contestant> {
        self.versions.iter().filter(|version| version.version.is_some()).map(|version| version.contestant)
    }

    pub(crate) fn add(&mut self, round: u32, contestant: Contestant, workload: Workload, figures: Figures) {
        self.measurements.push(Measurement { round, contestant, workload, figures });
    }

    /// Returns a table in Markdown, with the multiples of mesh's figures, and below it who is who and what failed.
    pub(crate) fn table(&self, only: &[Workload]) -> String {
        let columns: Vec<&Column> = COLUMNS.iter().filter(|column| only.contains(&column.workload)).collect();
        let titles = columns.iter().map(|column| column.title.to_owned());
        let mut rows = vec![["proxies".to_owned()].into_iter().chain(titles).collect::<Vec<_>>()];
        for Version { contestant, version } in &self.versions {
            let cells = columns.iter().enumerate().map(|(at, column)| match version {
                Some(_) => self.cell(*contestant, column),
                None if at == 0 => "not installed".to_owned(),
                None => String::new(),
            });
            rows.push([contestant.to_string()].into_iter().chain(cells).collect());
        }
        let mut text = aligned(&rows);
        text.push_str("\n(×: multiple of mesh's figure, the median of the rounds' multiples)\n");
        for Version { contestant, version } in &self.versions {
            let _ = writeln!(text, "{contestant}: {}", version.as_deref().unwrap_or("not installed"));
        }
        let alone = self.measurements.iter().filter(|one| one.contestant == Contestant::Direct);
        let alone = alone.filter(|one| one.workload == Workload::Saturated);
        let rounds: Vec<String> =
            alone.filter_map(|one| done(&one.figures)).map(|done| done.to_string()).collect();
        if !rounds.is_empty() {
            let rounds = rounds.join(", ");
            let _ = writeln!(
                text,
                "noise: W1 without proxies, requests in each round, the closer the calmer: {rounds}"
            );
        }
        for Measurement { round, contestant, workload, figures } in &self.measurements {
            let (Figures::Cost { failed, .. } | Figures::Memory { failed, .. }) = figures;
            if *failed > 0 {
                let _ = writeln!(text, "round {round}: {contestant} {workload}: {failed} requests failed");
            }
        }
        text
    }

    fn cell(&self, contestant: Contestant, column: &Column) -> String {
        // Without proxies there is only latency.
        if contestant == Contestant::Direct && column.compared {
            return "-".to_owned();
        }
        let own = self.rounds(contestant, column);
        let base = self.rounds(Contestant::Mesh, column);
        let Some(value) = median(own.clone()) else { return "-".to_owned() };
        let ratios = own.iter().zip(&base).map(|(own, base)| own / base).collect();
        match median(ratios).filter(|_| column.compared && contestant != Contestant::Mesh) {
            Some(ratio) => format!("{value:.*} (×{ratio:.2})", column.digits),
            None => format!("{value:.*}", column.digits),
        }
    }

    /// Returns a figure in each round.
    fn rounds(&self, contestant: Contestant, column: &Column) -> Vec<f64> {
        let of_it = |one: &&Measurement| one.contestant == contestant && one.workload == column.workload;
        self.measurements.iter().filter(of_it).filter_map(|one| (column.figure)(&one.figures)).collect()
    }

    /// Returns every single measurement.
    pub(crate) fn json(&self) -> Value {
        let measurements = self.measurements.iter().map(|one| {
            let mut value = match &one.figures {
                Figures::Cost { cpu_us, p50_us, p99_us, done, failed } => json!({
                    "cpu_us": cpu_us, "p50_us": p50_us, "p99_us": p99_us, "done": done, "failed": failed,
                }),
                Figures::Memory { idle_mib, clients_mib, failed } => {
                    json!({ "idle_mib": idle_mib, "clients_mib": clients_mib, "failed": failed })
                }
            };
            value["round"] = one.round.into();
            value["contestant"] = one.contestant.to_string().into();
            value["workload"] = one.workload.to_string().into();
            value
        });
        let versions = self.versions.iter().map(|one| (one.contestant.to_string(), json!(one.version)));
        json!({
            "ended_ms": clock::wall_ms(),
            "versions": versions.collect::<serde_json::Map<_, _>>(),
            "measurements": measurements.collect::<Vec<_>>(),
        })
    }
}

/// Returns the middle, or the mean of the two in the middle; `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = values.get(half)?;
    Some(if values.len() % 2 == 1 { *upper } else { f64::midpoint(values[half - 1], *upper) })
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("| {cell:<width$} "));
        let _ = writeln!(text, "{}|", cells.collect::<String>());
        if number == 0 {
            let rules = widths.iter().map(|width| format!("| {:-<width$} ", ""));
            let _ = writeln!(text, "{}|", rules.collect::<String>());
        }
    }
    text
}
