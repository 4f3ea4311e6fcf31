//! Waiting for something to become true, with a deadline.

use std::sync::atomic::{AtomicBool, Ordering};
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

/// Does `step` again and again while `work` runs, once at least; returns what came of both. Where `work` fails the
/// test, `step` ends too.
pub(crate) fn meanwhile<S: Send, T>(
    mut step: impl FnMut() -> S + Send,
    work: impl FnOnce() -> T,
) -> (T, Vec<S>) {
    struct Ending<'o>(&'o AtomicBool);
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stepping = scope.spawn(|| {
            let mut seen = vec![step()];
            while !over.load(Ordering::Relaxed) {
                seen.push(step());
            }
            seen
        });
        let ending = Ending(&over);
        let done = work();
        drop(ending);
        (done, stepping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Seconds, for short.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
