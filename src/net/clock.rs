//! The only clock. Everything below is given the time; everything else asks here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns the monotonic time. Under a paused tokio clock it stands still with it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time of day: Unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
