//! Streams of views become events, whatever happens to the streams: a lost one is told, waited for and made again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::model::view::MeshView;
use crate::top::event::Event;

/// The first wait before a lost stream is made again, and the longest.
const BACKOFF_LEAST: Duration = Duration::from_millis(250);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// How long a stream may be silent: three heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Why there is no stream any more, beside what its maker says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing came for too long.
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    /// The other side ended the stream.
    #[error("it ended the stream")]
    Ended,
}

/// Turns the streams that `connect` makes into events, for ever; returns when nobody receives them.
///
/// Waits between attempts grow from 0.25 s to 10 s with decorrelated jitter (Brooker, AWS Architecture Blog 2015);
/// `retry` ends a wait at once.
pub async fn follow<C, F, S, E>(mut connect: C, events: mpsc::Sender<Event>, retry: Arc<Notify>)
where
    C: FnMut() -> F,
    F: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<MeshView, E>>,
    E: std::fmt::Display,
{
    let mut attempt = 1;
    let mut wait = BACKOFF_LEAST;
    loop {
        if events.send(Event::Dialing { attempt }).await.is_err() {
            return;
        }
        let reason = match timeout(SILENCE_MAX, connect()).await {
            Err(_) => Error::Silent(SILENCE_MAX).to_string(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(views)) => match pass_on(views, &events).await {
                None => return,
                Some((reason, came)) => {
                    if came {
                        (attempt, wait) = (0, BACKOFF_LEAST);
                    }
                    reason
                }
            },
        };
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if events.send(Event::Lost { reason, retry_in_ms }).await.is_err() {
            return;
        }
        let asked = timeout(wait, retry.notified()).await.is_ok();
        attempt += 1;
        wait = if asked { BACKOFF_LEAST } else { longer(wait) };
    }
}

/// Passes views on until their stream is over: returns why, and whether any came; `None` when nobody receives them.
async fn pass_on<S, E>(views: S, events: &mpsc::Sender<Event>) -> Option<(String, bool)>
where
    S: Stream<Item = Result<MeshView, E>>,
    E: std::fmt::Display,
{
    tokio::pin!(views);
    let mut came = false;
    loop {
        let reason = match timeout(SILENCE_MAX, views.next()).await {
            Ok(Some(Ok(view))) => {
                came = true;
                events.send(Event::View(Arc::new(view))).await.ok()?;
                continue;
            }
            Ok(Some(Err(error))) => error.to_string(),
            Ok(None) => Error::Ended.to_string(),
            Err(_) => Error::Silent(SILENCE_MAX).to_string(),
        };
        return Some((reason, came));
    }
}

fn longer(wait: Duration) -> Duration {
    let most = (wait * 3).min(BACKOFF_MOST);
    rand::random_range(BACKOFF_LEAST..=most.max(BACKOFF_LEAST + Duration::from_millis(1)))
        .max(wait.min(BACKOFF_MOST / 2))
}
