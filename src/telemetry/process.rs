//! What the kernel says of this process.

use std::fs;

/// What the process uses. A value that cannot be read is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// CPU time so far, of all threads, milliseconds.
    pub cpu_ms: u64,
    /// Open file descriptors.
    pub descriptors: u32,
}

/// Reads it from `/proc/self` (proc(5)): microseconds, growing with the number of descriptors.
pub fn usage() -> Usage {
    let memory_bytes = fs::read_to_string("/proc/self/statm").ok().and_then(|text| resident(&text));
    let cpu_ms = fs::read_to_string("/proc/self/stat").ok().and_then(|text| cpu_ms(&text));
    let descriptors = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1));
    Usage {
        memory_bytes: memory_bytes.unwrap_or(0),
        cpu_ms: cpu_ms.unwrap_or(0),
        descriptors: descriptors.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
    }
}

fn resident(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// User and system time are fields 14 and 15; the name, field 2, may hold anything but ends with the last `)`.
fn cpu_ms(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1_000 / rustix::param::clock_ticks_per_second().max(1))
}
