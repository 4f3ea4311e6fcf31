//! What processes have used, by the kernel's books.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::stage::process::Process;

/// Returns the CPU time of processes with their threads and children so far.
///
/// From the scheduler's own nanoseconds (`/proc/PID/task/TID/schedstat`), since a tick of `/proc/PID/stat` is 10 ms. The
/// time of a thread that has ended is not in it; the workers of proxies do not end.
pub(crate) fn cpu_time(processes: &[Process]) -> Duration {
    let pids = processes.iter().map(|process| process.pid().as_raw_nonzero().get().to_string());
    Duration::from_nanos(pids.map(|pid| nanoseconds(&pid)).sum())
}

fn nanoseconds(pid: &str) -> u64 {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).ok();
        // A thread may end between the listing and the look.
        let Some(times) = read("schedstat") else { continue };
        sum += times.split(' ').next().unwrap().parse::<u64>().unwrap();
        sum += read("children").unwrap_or_default().split_whitespace().map(nanoseconds).sum::<u64>();
    }
    sum
}

/// Returns the resident memory of processes, in KiB.
pub(crate) fn memory_kib(processes: &[Process]) -> u64 {
    processes.iter().map(|process| process.memory_kib("VmRSS")).sum()
}

/// Returns which CPU of these had the least to do for a second.
pub(crate) fn idlest(allowed: impl Fn(usize) -> bool) -> usize {
    let before = busy_ticks();
    sleep(Duration::from_secs(1));
    let after = busy_ticks().into_iter().filter(|(cpu, _)| allowed(*cpu));
    let work = |(cpu, ticks): &(usize, u64)| ticks.saturating_sub(before.get(cpu).copied().unwrap_or(0));
    after.min_by_key(work).expect("this process runs on some CPU").0
}

/// The ticks that each CPU has not been idle, of `/proc/stat`.
fn busy_ticks() -> BTreeMap<usize, u64> {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.strip_prefix("cpu")?.split(' ');
        let cpu = fields.next()?.parse().ok()?;
        // user nice system idle iowait irq softirq steal
        let ticks: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        Some((cpu, ticks.iter().sum::<u64>() - ticks[3] - ticks[4]))
    });
    lines.collect()
}

/// Fails when this kernel keeps no such books.
pub(crate) fn assert_kept() {
    assert!(fs::exists("/proc/self/schedstat").unwrap(), "this kernel has no /proc/PID/schedstat");
}
