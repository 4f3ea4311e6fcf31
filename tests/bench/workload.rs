//! What the proxies are given to do, and what is noted of it.

use std::fmt::{self, Display};
use std::thread::sleep;
use std::time::Duration;

use clap::ValueEnum;

use crate::accounts::{cpu_time, memory_kib};
use crate::app::{LARGE, LARGE_BYTES, SMALL, SMALL_BYTES};
use crate::contestant::Pair;
use crate::load::{Load, Outcome, Pace};

const WARM_UP: Duration = Duration::from_millis(300);
/// Before memory is looked at.
const SETTLE: Duration = Duration::from_millis(500);
const RATE: Pace = Pace::PerSecond(2_000);
const IDLE_CLIENTS: usize = 1_000;
/// Gently, as it is their number that counts and not a rush: each sends one request.
const ARRIVAL: (Pace, Duration) = (Pace::PerSecond(500), Duration::from_secs(2));

/// A kind of load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// Memory idle, and with 1,000 idle keep-alive clients.
    #[value(name = "W7")]
    Memory,
    /// GET of 128 bytes on 64 connections, as many as go.
    #[value(name = "W1")]
    Saturated,
    /// GET of 128 bytes on 32 connections, 2,000 a second.
    #[value(name = "W2")]
    Paced,
    /// Downloads of 1 MiB on 8 connections, as many as go.
    #[value(name = "W6d")]
    Downloads,
}

/// What was measured of a pair under a load.
pub(crate) enum Figures {
    /// CPU time of both proxies for each request, and latency.
    Cost {
        /// Microseconds.
        cpu_us: f64,
        /// Microseconds.
        p50_us: f64,
        /// Microseconds.
        p99_us: f64,
        /// Requests answered.
        done: u64,
        /// Requests not answered well.
        failed: u64,
    },
    /// Memory of both proxies, resident.
    Memory {
        /// Before anybody connected.
        idle_mib: f64,
        /// With the clients, each after one request.
        clients_mib: f64,
        /// Requests not answered well.
        failed: u64,
    },
}

impl Workload {
    /// All, memory first, since the others leave their mark on it.
    pub(crate) const ALL: [Self; 4] = [Self::Memory, Self::Saturated, Self::Paced, Self::Downloads];

    /// Runs it; `None` where there is nothing to measure.
    pub(crate) fn measure(self, pair: &Pair) -> Option<Figures> {
        let small = (SMALL, SMALL_BYTES);
        let load = |what, connections| Load::new(pair.entry, pair.host, what, connections);
        let cost = |load, pace, seconds| Some(cost(pair, load, pace, Duration::from_secs(seconds)));
        match self {
            Self::Memory if pair.processes.is_empty() => None,
            Self::Memory => Some(memory(pair, load(small, IDLE_CLIENTS))),
            Self::Saturated => cost(load(small, 64), Pace::Saturated, 2),
            Self::Paced => cost(load(small, 32), RATE, 3),
            Self::Downloads => cost(load((LARGE, LARGE_BYTES), 8), Pace::Saturated, 2),
        }
    }
}

fn cost(pair: &Pair, mut load: Load, pace: Pace, during: Duration) -> Figures {
    load.run(pace, WARM_UP);
    let before = cpu_time(&pair.processes);
    let Outcome { done, failed, mut latencies } = load.run(pace, during);
    let cpu = cpu_time(&pair.processes).saturating_sub(before);
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share).ceil() as usize;
        latencies.get(index.saturating_sub(1)).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    let cpu_us = cpu.as_secs_f64() * 1e6 / done as f64;
    Figures::Cost { cpu_us, p50_us: at(0.5), p99_us: at(0.99), done, failed }
}

fn memory(pair: &Pair, mut load: Load) -> Figures {
    let mib = || {
        sleep(SETTLE);
        memory_kib(&pair.processes) as f64 / 1024.0
    };
    let idle_mib = mib();
    let Outcome { failed, .. } = load.run(ARRIVAL.0, ARRIVAL.1);
    Figures::Memory { idle_mib, clients_mib: mib(), failed }
}

impl Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "W7",
            Self::Saturated => "W1",
            Self::Paced => "W2",
            Self::Downloads => "W6d",
        })
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cost { cpu_us, p50_us, p99_us, done, failed } => write!(
                f,
                "{cpu_us:.1} µs CPU, p50 {p50_us:.0} µs, p99 {p99_us:.0} µs, {done} requests, {failed} failed"
            ),
            Self::Memory { idle_mib, clients_mib, failed } => {
                write!(f, "{idle_mib:.1} MiB idle, {clients_mib:.1} MiB with clients, {failed} failed")
            }
        }
    }
}
