//! The one body type of the data path: an enum, so that nothing is boxed and nothing is called through a pointer.

use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::proxy::failure::Failure;
use crate::proxy::http::observe::Watch;
use crate::proxy::http::replay::{Attempt, Payload};
use crate::proxy::upstream::endpoint::InFlight;
use crate::proxy::upstream::idle::Lease;
use crate::proxy::upstream::mux::Stream;

/// What requests and responses carry.
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// A request's body, on its way to an endpoint.
    Request(Attempt),
    /// A response's body, on its way to the caller.
    Response(Answer),
    /// A few words of our own.
    Words(Words),
}

/// A response's body with all that ends with it.
pub(crate) struct Answer {
    incoming: Incoming,
    watch: Watch,
    hold: Hold,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes to come, where the response says.
    left: Option<u64>,
    broken: Option<Broken>,
}

type Broken = Box<dyn Error + Send + Sync>;

/// What a call occupies until its response has ended.
#[derive(Default)]
pub(crate) struct Hold {
    /// Its connection to a local service.
    pub(crate) lease: Option<Lease<Body>>,
    /// Its stream on a shared connection.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) stream: Option<Stream<Body>>,
    /// Its place in the count of calls to an endpoint.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) in_flight: Option<InFlight>,
}

/// A body made up by this proxy.
pub(crate) struct Words {
    text: Option<Bytes>,
    watch: Option<Watch>,
}

impl Body {
    /// Makes the body of one attempt to send `payload`.
    pub(crate) fn attempt(payload: &Payload) -> Self {
        match payload {
            Payload::Empty => Self::Empty,
            Payload::Kept(kept) => Self::Request(Attempt::new(kept)),
        }
    }

    /// Makes the body of a response that is passed on; `deadline` cuts it.
    pub(crate) fn response(
        incoming: Incoming,
        watch: Watch,
        hold: Hold,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let left = incoming.size_hint().exact();
        Self::Response(Answer { incoming, watch, hold, deadline, left, broken: None })
    }

    /// Makes a body of our own.
    pub(crate) fn words(text: String, watch: Watch) -> Self {
        let text = (!text.is_empty()).then(|| Bytes::from(text));
        Self::Words(Words { text, watch: Some(watch) })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Request(attempt) => attempt.poll_frame(cx).map_err(Into::into),
            Self::Response(answer) => answer.poll_frame(cx),
            Self::Words(words) => {
                let text = words.text.take();
                if let (Some(text), Some(watch)) = (&text, &words.watch) {
                    watch.observation().received(text.len());
                }
                Poll::Ready(text.map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Request(attempt) => attempt.is_end_stream(),
            Self::Response(answer) => answer.incoming.is_end_stream(),
            Self::Words(words) => words.text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Request(attempt) => attempt.size_hint(),
            Self::Response(answer) => answer.incoming.size_hint(),
            Self::Words(words) => SizeHint::with_exact(words.text.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl Answer {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let observation = self.watch.observation();
        if self.deadline.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            observation.failed(Failure::Timeout);
            return Poll::Ready(Some(Err("the time of the route is over".into())));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    observation.received(data.len());
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    observation.trailers(trailers);
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                observation.failed(Failure::Truncated);
                // hyper drops what it has not written yet when a body fails: it gets a turn to write it first.
                self.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Notes that all has come, and gives the connection back.
    fn end(&mut self) {
        self.watch.observation().complete();
        if let Some(lease) = self.hold.lease.take() {
            lease.finish();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body whose length it knows.
        if self.incoming.is_end_stream() || self.left == Some(0) {
            self.end();
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if let (None, Some(watch)) = (&self.text, &self.watch) {
            watch.observation().complete();
        }
    }
}
