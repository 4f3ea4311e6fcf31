//! Answers that go on: newline-delimited JSON, an empty line as heartbeat.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http_body::Body;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// After so long without a byte the stream is given up: heartbeats come every 5 s.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A longer line is no line.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing came for too long.
    #[error("nothing was heard for {SILENCE_MAX:?}")]
    Silence,
    /// The connection broke off.
    #[error("the stream broke off: {0}")]
    Broken(String),
    /// A line is too long or not what it should be: the other end speaks another version.
    #[error("the stream cannot be read: {0}")]
    Line(String),
}

/// Reads the lines of a body as values of `T`. Ends with the body, or after the first error.
pub fn lines<T, B>(body: B) -> impl Stream<Item = Result<T, Error>>
where
    T: DeserializeOwned,
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    stream::unfold(Some((body, BytesMut::new())), |state| async {
        let (mut body, mut buffer) = state?;
        match next(&mut body, &mut buffer).await {
            Ok(Some(value)) => Some((Ok(value), Some((body, buffer)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

async fn next<T, B>(body: &mut B, buffer: &mut BytesMut) -> Result<Option<T>, Error>
where
    T: DeserializeOwned,
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut searched = 0;
    loop {
        let unseen = buffer.get(searched..).unwrap_or_default();
        if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(searched + at);
            buffer.advance(1);
            searched = 0;
            if !line.is_empty() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| Error::Line(error.to_string()));
            }
            continue;
        }
        searched = buffer.len();
        if searched > LINE_BYTES_MAX {
            return Err(Error::Line(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        match timeout(SILENCE_MAX, body.frame()).await {
            Err(_) => return Err(Error::Silence),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(Error::Broken(error.to_string())),
            Ok(Some(Ok(frame))) => buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
        }
    }
}
