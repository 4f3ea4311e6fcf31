//! Waiting for something to become true, with a deadline.

use std::time::Duration;

use mesh::net::clock;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until `probe` finds something; fails the test when it has not within the time.
pub(crate) fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = clock::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Seconds, for short.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
