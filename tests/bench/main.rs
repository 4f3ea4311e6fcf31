//! The core of the benchmark, on any machine: what `mesh` costs beside the proxies that a user can install by apt.
//!
//! Two proxies stand between a client and an application, mutual TLS between them, everything on loopback; what is
//! measured is the CPU time of both proxies for each request. Nothing runs unless asked for:
//! `cargo test --test bench -- --run`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a benchmark is a test: it fails by panicking, and prints what it finds"
)]
#![allow(clippy::disallowed_methods, clippy::too_many_lines, reason = "a test reads as one scene")]

#[path = "../e2e/stage/mod.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod stage;
mod accounts;
mod poller;
mod app;
mod load;
mod credentials;
mod peers;
mod contestant;
mod workload;
mod report;
mod change;

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::contestant::Contestant;
use crate::credentials::Credentials;
use crate::report::{Report, Version};
use crate::workload::Workload;

/// Compare the CPU time, latency and memory of mesh with those of other proxies on this machine.
#[derive(Parser)]
#[command(name = "bench")]
struct Options {
    /// Run it; without this flag only the usage is said
    #[arg(long)]
    run: bool,
    /// How often everything is measured; the table has the medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Which workloads
    #[arg(long, value_delimiter = ',', default_values_t = Workload::ALL, value_name = "WORKLOAD")]
    only: Vec<Workload>,
    /// Instead of the other proxies: how soon a change is in force with 1,000 routes and 200 services, and what a request
    /// pays for many routes
    #[arg(long)]
    changes: bool,
    /// Write every single measurement to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Open files for 1,000 clients and then some; programs started here inherit it.
const FILES: u64 = 8192;

fn main() {
    // `cargo test` runs this program too, with whatever filter it was given.
    if !std::env::args().any(|argument| ["--run", "--help", "-h"].contains(&argument.as_str())) {
        println!("The benchmark takes about two minutes, when asked for: cargo test --test bench -- --run");
        return;
    }
    let options = Options::parse();
    if options.changes {
        change::measure(app::start(), options.rounds);
        return;
    }
    let versions = Contestant::ALL.map(|contestant| Version { contestant, version: contestant.version() });
    accounts::assert_kept();
    let cpu = prepare();
    println!("Client, application and proxies on CPU {cpu}; {} rounds.\n", options.rounds);

    let mut report = Report::new(versions.into());
    let credentials = Credentials::new();
    let app = app::start();
    let mut order: Vec<Contestant> = report.installed().collect();
    for round in 1..=options.rounds {
        for contestant in &order {
            let pair = contestant.start(app, &credentials);
            for workload in Workload::ALL.into_iter().filter(|workload| options.only.contains(workload)) {
                if let Some(figures) = workload.measure(&pair) {
                    eprintln!("round {round}: {contestant} {workload}: {figures}");
                    report.add(round, *contestant, workload, figures);
                }
            }
        }
        order.rotate_left(1);
    }

    println!("{}", report.table(&options.only));
    if let Some(file) = options.json {
        fs::write(&file, format!("{:#}\n", report.json())).unwrap();
    }
}

/// Makes this process, and those it starts, comparable: one CPU for all, as waking another one costs a virtual machine
/// more than a proxy does; ahead of other programs where that is allowed; enough open files. Returns the CPU.
fn prepare() -> usize {
    let allowed = sched_getaffinity(None).unwrap();
    let cpu = accounts::idlest(|cpu| allowed.is_set(cpu));
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
    let _ = setpriority_process(None, -10);
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum }).unwrap();
    cpu
}
