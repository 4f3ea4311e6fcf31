//! A request's body that can be sent again: what was read of it is kept up to a limit, until a response begins.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::proxy::http::observe::Observation;

/// Bytes kept of one body at most (Linkerd's limit).
pub(crate) const REPLAY_BYTES_MAX: usize = 64 << 10;

/// What a request carries.
#[derive(Clone)]
pub(crate) enum Payload {
    /// Nothing.
    Empty,
    /// A body.
    Kept(Rc<RefCell<Kept>>),
}

/// A body and what was read of it.
pub(crate) struct Kept {
    incoming: Incoming,
    observation: Rc<Observation>,
    hint: SizeHint,
    chunks: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Set when it is too long, or will not be sent again: nothing is kept any more.
    streaming: bool,
    broken: bool,
}

/// The body of one attempt: first what is kept, then what comes.
pub(crate) struct Attempt {
    kept: Rc<RefCell<Kept>>,
    next: usize,
    yielded: u64,
    done: bool,
}

impl Payload {
    /// Takes the body of a request.
    pub(crate) fn new(incoming: Incoming, observation: &Rc<Observation>) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let hint = incoming.size_hint();
        Self::Kept(Rc::new(RefCell::new(Kept {
            incoming,
            observation: observation.clone(),
            hint,
            chunks: Vec::new(),
            bytes: 0,
            trailers: None,
            ended: false,
            streaming: false,
            broken: false,
        })))
    }

    /// Returns whether it can be sent from its beginning.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Kept(kept) => {
                let kept = kept.borrow();
                !kept.streaming && !kept.broken
            }
        }
    }

    /// Returns whether the caller broke off within it.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::Empty => false,
            Self::Kept(kept) => kept.borrow().broken,
        }
    }

    /// Says that it will not be sent again, so that nothing more is kept.
    pub(crate) fn commit(&self) {
        if let Self::Kept(kept) = self {
            kept.borrow_mut().streaming = true;
        }
    }
}

impl Attempt {
    /// Makes the body of one attempt.
    pub(crate) fn new(kept: &Rc<RefCell<Kept>>) -> Self {
        Self { kept: kept.clone(), next: 0, yielded: 0, done: false }
    }

    /// Returns the next frame.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let mut kept = self.kept.borrow_mut();
        if let Some(chunk) = kept.chunks.get(self.next).cloned() {
            self.next += 1;
            self.yielded += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if kept.streaming && !kept.chunks.is_empty() {
            kept.chunks = Vec::new();
            self.next = 0;
        }
        if kept.ended {
            self.done = true;
            return Poll::Ready(kept.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        match ready!(Pin::new(&mut kept.incoming).poll_frame(cx)) {
            None => {
                kept.ended = true;
                self.done = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                kept.broken = true;
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    kept.observation.sent(data.len());
                    self.yielded += data.len() as u64;
                    if kept.keep(data) {
                        self.next += 1;
                    } else {
                        self.next = 0;
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    kept.trailers = Some(trailers.clone());
                    kept.ended = true;
                    self.done = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// Returns whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        let behind = self.next < kept.chunks.len();
        self.done || (!behind && kept.trailers.is_none() && (kept.ended || kept.incoming.is_end_stream()))
    }

    /// Returns how much is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.kept.borrow().hint.exact() {
            Some(total) => SizeHint::with_exact(total.saturating_sub(self.yielded)),
            None => SizeHint::default(),
        }
    }
}

impl Kept {
    /// Keeps a chunk if there is room; returns whether it did.
    fn keep(&mut self, chunk: &Bytes) -> bool {
        self.bytes += chunk.len();
        if self.streaming || self.bytes > REPLAY_BYTES_MAX {
            self.streaming = true;
            self.chunks = Vec::new();
            return false;
        }
        self.chunks.push(chunk.clone());
        true
    }
}
