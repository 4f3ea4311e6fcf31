//! Bodies on streams of HTTP/2, and heads in its types.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::logic::http::fields::Fields;
use crate::logic::http::h1::chunk::Piece;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::stream::ending::Ending;

/// How often it is looked whether a connection is still stuck.
const STUCK_LOOK_EVERY: Duration = Duration::from_millis(5);

/// The body that comes on a stream.
#[derive(Debug)]
pub(crate) struct Incoming(pub(crate) RecvStream);

impl Incoming {
    /// Returns the next piece of the body; `None` when it is complete.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Failed>>> {
        while let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = match data {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(broken(&error)))),
            };
            // Whoever asks for a piece has room for it. An error here means that the stream is gone, which comes next.
            _ = self.0.flow_control().release_capacity(data.len());
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Piece::Data(data))));
            }
        }
        match ready!(self.0.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Piece::Trailers(fields(&trailers))))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(broken(&error)))),
        }
    }

    /// Returns whether the body is complete.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// The body that goes out on a stream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    stream: SendStream<Bytes>,
    /// What waits for the other side's window.
    held: Bytes,
    /// The end, which waits for `held`.
    end: Option<Ending>,
    /// Whether the other side is slow to take what the connection has; not known of every connection.
    stuck: Option<Rc<Cell<bool>>>,
}

impl Outgoing {
    /// Takes the sending half of a stream whose head was sent.
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, held: Bytes::new(), end: None, stuck: None }
    }

    /// As [`Outgoing::new`], on a connection of which it is known whether it is stuck.
    pub(crate) fn on(stream: SendStream<Bytes>, stuck: Rc<Cell<bool>>) -> Self {
        Self { stuck: Some(stuck), ..Self::new(stream) }
    }

    /// Waits until the connection has written what it was given and may write: a reset would take it back.
    pub(crate) async fn written(&self) {
        // The connection has been woken, and writes in its turn.
        tokio::task::yield_now().await;
        while self.stuck.as_ref().is_some_and(|stuck| stuck.get()) {
            tokio::time::sleep(STUCK_LOOK_EVERY).await;
        }
    }

    /// Waits until the next piece can be taken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        while !self.held.is_empty() {
            let room = match ready!(self.stream.poll_capacity(cx)) {
                Some(room) => room.map_err(|error| broken(&error))?,
                None => return Poll::Ready(Err(Failure::CallerGone.into())),
            };
            let part = self.held.split_to(room.min(self.held.len()));
            self.send(part)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes some bytes of the body; with `last` they are the last ones.
    pub(crate) fn data(&mut self, mut data: Bytes, last: bool) -> Result<(), Failed> {
        self.stream.reserve_capacity(data.len());
        if last && self.stream.capacity() >= data.len() {
            return self.stream.send_data(data, true).map_err(|error| broken(&error));
        }
        let room = self.stream.capacity().min(data.len());
        if room > 0 {
            self.send(data.split_to(room))?;
        }
        self.held = data;
        if last {
            self.end(None)?;
        }
        Ok(())
    }

    fn send(&mut self, data: Bytes) -> Result<(), Failed> {
        let last = self.held.is_empty() && matches!(self.end, Some(Ending::Plain));
        if last {
            self.end = None;
        }
        self.stream.send_data(data, last).map_err(|error| broken(&error))
    }

    /// Takes the end of the body.
    pub(crate) fn end(&mut self, trailers: Option<Fields>) -> Result<(), Failed> {
        self.end = Some(trailers.into());
        if self.held.is_empty() { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), Failed> {
        let sent = match self.end.take() {
            None => Ok(()),
            Some(Ending::Plain) => self.stream.send_data(Bytes::new(), true),
            Some(Ending::Trailers(trailers)) => self.stream.send_trailers(header_map(&trailers)),
        };
        sent.map_err(|error| broken(&error))
    }

    /// Gives all that was taken to the connection, which sends it by itself.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        ready!(self.poll_ready(cx))?;
        Poll::Ready(self.finish())
    }

    /// Waits until the other side does not want the body any more.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }

    /// Breaks the body off.
    pub(crate) fn abort(&mut self, failure: Failure) {
        self.stream.send_reset(reset_reason(failure));
    }
}

/// Returns how a stream is reset for a failure.
pub(crate) fn reset_reason(failure: Failure) -> h2::Reason {
    match failure {
        Failure::CallerGone
        | Failure::Timeout
        | Failure::Late
        | Failure::Stalled
        | Failure::CallerStalled => h2::Reason::CANCEL,
        Failure::BadRequest => h2::Reason::PROTOCOL_ERROR,
        Failure::NotHere | Failure::Unseen | Failure::Overloaded => h2::Reason::REFUSED_STREAM,
        Failure::Unsupported
        | Failure::UnknownService
        | Failure::NoRoute
        | Failure::NoBackend
        | Failure::NoEndpoint
        | Failure::NoIdentity
        | Failure::Unreachable
        | Failure::Untrusted
        | Failure::Reset
        | Failure::Truncated
        | Failure::Lapsed
        | Failure::BadResponse
        | Failure::Loop
        | Failure::Denied
        | Failure::RateLimited
        | Failure::Exhausted
        | Failure::Faulted
        | Failure::Delayed => h2::Reason::INTERNAL_ERROR,
    }
}

/// Tells what an error of a stream or connection means for the exchange that met it.
pub(crate) fn broken(error: &h2::Error) -> Failed {
    let unseen = error.is_remote()
        && (error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)));
    // The other side says that it has not looked at the request (RFC 9113 §8.7, §6.8).
    let failure = if unseen { Failure::NotHere } else { Failure::Reset };
    Failed::new(failure, error)
}

/// Returns fields as HTTP/2 has them: names in lower case.
pub(crate) fn header_map(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// Returns the fields of a head or of trailers.
pub(crate) fn fields(headers: &HeaderMap) -> Fields {
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut fields = Fields::with_capacity(headers.len(), bytes);
    for (name, value) in headers {
        fields.append(name.as_str().as_bytes(), value.as_bytes());
    }
    fields
}
