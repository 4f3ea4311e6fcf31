//! Streams of views become events, whatever happens to the streams: a lost one is told, waited for and made again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::model::view::MeshView;
use crate::top::event::Event;

/// The first wait before a lost stream is made again, and the longest.
const BACKOFF_LEAST: Duration = Duration::from_millis(250);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// How long a connection may take, and how long a stream may be silent: three heartbeats.
const DIAL_MAX: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A view larger than this is not one.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// A header of a response longer than this is not one.
const HEADER_BYTES_MAX: u64 = 64 << 10;

/// Why there is no stream, or no longer one. Whoever reads the stream makes it again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("{}", plain(.0))]
    Io(#[from] std::io::Error),
    /// Nothing came for too long.
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    /// The other side refused, with this status line.
    #[error("it answered '{0}'")]
    Refused(String),
    /// What came is no view.
    #[error("it sent something that is not a view of a mesh: {0}")]
    NotAView(#[from] serde_json::Error),
    /// The other side ended the stream.
    #[error("it ended the stream")]
    Ended,
}

/// Returns the words of an error of the system, without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
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
        let reason = match connect().await {
            Err(error) => error.to_string(),
            Ok(views) => match pass_on(views, &events).await {
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

/// Opens the stream of views of one proxy: `GET /view?watch=true` of its admin API, one JSON object a line.
///
/// HTTP/1.0 is spoken, so that the body is the bytes up to the end and needs no further framing.
///
/// # Errors
/// When the proxy cannot be reached in time or does not answer with status 200.
pub async fn proxy(addr: &str) -> Result<impl Stream<Item = Result<MeshView, Error>> + use<>, Error> {
    let dial = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request =
            format!("GET /view?watch=true HTTP/1.0\r\nhost: {addr}\r\naccept: application/x-ndjson\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reader = BufReader::new(stream);
        let mut header = (&mut reader).take(HEADER_BYTES_MAX);
        let mut status = String::new();
        header.read_line(&mut status).await?;
        if status.split(' ').nth(1) != Some("200") {
            return Err(Error::Refused(status.trim().to_owned()));
        }
        let mut line = String::new();
        while header.read_line(&mut line).await? > 0 && line.trim() != "" {
            line.clear();
        }
        Ok(reader)
    };
    let reader = timeout(DIAL_MAX, dial).await.map_err(|_| Error::Silent(DIAL_MAX))??;
    Ok(futures_util::stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match next_view(&mut reader).await {
            Ok(view) => Some((Ok(view), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

async fn next_view(reader: &mut BufReader<TcpStream>) -> Result<MeshView, Error> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut *reader).take(LINE_BYTES_MAX);
        let read = timeout(SILENCE_MAX, bounded.read_until(b'\n', &mut line));
        if read.await.map_err(|_| Error::Silent(SILENCE_MAX))?? == 0 {
            return Err(Error::Ended);
        }
        if !line.trim_ascii().is_empty() {
            return Ok(serde_json::from_slice(&line)?);
        }
    }
}
