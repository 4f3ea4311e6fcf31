//! Answers that go on: lines of JSON, an empty line as heartbeat.
//!
//! Nothing is queued: each stream asks its source for the next line only when the reader has room for it, and sources
//! give the newest. A stream ends when the control plane stops, and when its caller loses the right to it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::endpoint::Right;
use crate::control::http::access::Caller;
use crate::control::plane::Plane;

/// Silence after which a heartbeat is sent.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// The media type of streams.
pub const LINES: &str = "application/x-ndjson";

/// What keeps a stream open.
#[derive(Debug)]
pub struct Gate {
    plane: Arc<Plane>,
    caller: Caller,
    right: Right,
    closing: watch::Receiver<bool>,
}

impl Gate {
    /// Makes the gate of one stream.
    pub fn new(plane: &Arc<Plane>, caller: Caller, right: Right) -> Self {
        Self { plane: Arc::clone(plane), caller, right, closing: plane.closing.clone() }
    }

    fn is_open(&self) -> bool {
        !*self.closing.borrow() && self.caller.allow(self.right, &self.plane).is_ok()
    }
}

/// Where lines come from.
pub trait Source: Send + 'static {
    /// Waits for the next lines; `None` ends the stream. Dropped and called again when a heartbeat is due.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The newest value of a watch, as a line, now and whenever it changes.
pub struct Newest<T, F> {
    values: watch::Receiver<T>,
    line: F,
}

impl<T, F> Newest<T, F> {
    /// Begins with the value there is.
    pub fn new(mut values: watch::Receiver<T>, line: F) -> Self {
        values.mark_changed();
        Self { values, line }
    }
}

impl<T, F> Source for Newest<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(&T) -> Bytes + Send + Sync + 'static,
{
    async fn next(&mut self) -> Option<Bytes> {
        self.values.changed().await.ok()?;
        Some((self.line)(&self.values.borrow_and_update()))
    }
}

/// Answers with the lines of a source.
pub fn answer(source: impl Source, gate: Gate) -> Response {
    let lines = stream::unfold((source, gate), |(mut source, mut gate)| async move {
        let due = Instant::now() + HEARTBEAT;
        let lines = tokio::select! {
            _ = gate.closing.wait_for(|closing| *closing) => None,
            lines = source.next() => lines,
            () = tokio::time::sleep_until(due) => Some(Bytes::from_static(b"\n")),
        };
        let lines = lines.filter(|_| gate.is_open())?;
        Some((Ok::<_, std::convert::Infallible>(lines), (source, gate)))
    });
    ([(CONTENT_TYPE, LINES), (CACHE_CONTROL, "no-store")], Body::from_stream(lines)).into_response()
}
