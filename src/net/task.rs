//! The only spawn. Tasks have a name; a panic in one is logged with it and counted, and ends nothing else.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How a connection goes on once it is known what it carries. In a box of its own: by then, what found it out has given its
/// memory back.
pub type Onward = Pin<Box<dyn Future<Output = ()>>>;

/// Finds out what a connection carries, and goes on with it if it is anything.
pub async fn through<F: Future<Output = Option<Onward>>>(begun: Pin<Box<F>>) {
    let onward = begun.await;
    if let Some(onward) = onward {
        onward.await;
    }
}

/// Returns how many tasks have panicked since the start of the process.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs `future` on the current runtime. The handle may be dropped: the task goes on.
#[expect(clippy::disallowed_methods, reason = "this is the spawn")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(supervised(name, future))
}

/// Runs `future` on the current thread of a local runtime. The handle may be dropped: the task goes on.
pub fn spawn_local<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(supervised(name, future))
}

/// Makes a future in the box that it stays in. One that is made before its box is copied into it as a whole: that of a
/// request is several KiB, most of which is empty as yet.
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}

/// Returns the future's output, or `None` when it panicked. No `async fn`: that would hold the future twice, as what it was
/// given and as what it waits for.
fn supervised<F: Future>(name: &'static str, future: F) -> impl Future<Output = Option<F::Output>> {
    AssertUnwindSafe(future).catch_unwind().map(move |outcome| {
        if outcome.is_err() {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = name, "task panicked");
        }
        outcome.ok()
    })
}
