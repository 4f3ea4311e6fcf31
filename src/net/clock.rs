//! The only clock. Everything below is given the time; everything else asks here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::logic::moment;

/// By how much this process takes the time of day for later than the host does, milliseconds.
static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Returns the monotonic time. Under a paused tokio clock it stands still with it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time of day: Unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let host_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    host_ms.saturating_add_signed(OFFSET_MS.load(Ordering::Relaxed))
}

/// Has this process take the time of day for `seconds` later than the host does: what a wrong clock does can be seen without
/// one.
pub fn shift(seconds: i64) {
    OFFSET_MS.store(seconds.saturating_mul(1000), Ordering::Relaxed);
}

/// Returns a time of day (Unix milliseconds) for people and files: RFC 3339, UTC, to the second; empty for one that has no
/// such form.
pub fn rfc3339(unix_ms: u64) -> String {
    moment::rfc3339(unix_ms).unwrap_or_default()
}
