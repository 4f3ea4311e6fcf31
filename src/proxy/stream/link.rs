//! The two halves of a stream on a link, as bodies and heads use them.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::logic::http::fields::Fields;
use crate::logic::http::grpc;
use crate::logic::http::h1::chunk::Piece;
use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::logic::link::frame::Code;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::link::error::{Broken, Refusal};
use crate::proxy::link::stream::{Receiver, Sender, Stream};
use crate::proxy::link::{Event, Link};
use crate::proxy::stream::ending::Ending;

/// What a called proxy says first on a TCP connection when the service has accepted it; else it says the code of a
/// [`Failure`], and nothing more.
const ACCEPTED: u8 = 0;

/// What goes out on a stream.
pub(crate) struct Leaving {
    /// `None` once the stream was reset.
    sender: Option<Sender>,
    /// What waits for the other side's window.
    held: Bytes,
    /// The end, which waits for `held`.
    end: Option<Ending>,
}

/// What comes in on a stream.
pub(crate) struct Arriving {
    receiver: Receiver,
    /// What was looked at already.
    held: Option<Piece>,
    over: bool,
}

/// Opens a stream for a request; with `end`, nothing follows its head.
///
/// # Errors
/// When the link does not take it: nothing was sent.
pub(crate) fn open(link: &Link, head: &RequestHead, end: bool) -> Result<(Leaving, Arriving), Failed> {
    link.open_http(head, end).map(halves).map_err(refused)
}

/// Opens a stream for a TCP connection.
///
/// # Errors
/// When the link does not take it: nothing was sent.
pub(crate) fn open_tcp(link: &Link) -> Result<(Leaving, Arriving), Failed> {
    link.open_tcp().map(halves).map_err(refused)
}

fn refused(refusal: Refusal) -> Failed {
    match refusal {
        Refusal::Closed | Refusal::Full => Failed::new(Failure::Unseen, refusal),
        Refusal::Unsayable => Failed::new(Failure::BadRequest, refusal),
    }
}

/// Takes a stream apart.
pub(crate) fn halves(stream: Stream) -> (Leaving, Arriving) {
    let (sender, receiver) = stream.split();
    let leaving = Leaving { sender: Some(sender), held: Bytes::new(), end: None };
    (leaving, Arriving { receiver, held: None, over: false })
}

/// Tells what a broken stream means for the exchange on it.
fn failed(broken: &Broken) -> Failed {
    let failure = match broken {
        Broken::Link { unseen: true, .. } => Failure::Unseen,
        Broken::Reset { code: Code::Refused, .. } => Failure::NotHere,
        Broken::Reset { code: Code::TimedOut, .. } => Failure::Timeout,
        Broken::Reset { code: Code::Failure(code), .. } => {
            Failure::from_code(*code).unwrap_or(Failure::Reset)
        }
        Broken::Link { unseen: false, .. } | Broken::Reset { .. } => Failure::Reset,
    };
    Failed::new(failure, broken)
}

impl Leaving {
    fn sender(&mut self) -> Result<&mut Sender, Failed> {
        self.sender.as_mut().ok_or_else(|| Failure::CallerGone.into())
    }

    /// Sends a head before the final one. One that cannot be sent is not missed.
    pub(crate) fn inform(&mut self, head: &ResponseHead) {
        if let Some(sender) = &mut self.sender {
            _ = sender.head(head, false);
        }
    }

    /// Sends the final head of a response; with `end`, nothing follows it.
    ///
    /// # Errors
    /// When the other side is gone.
    pub(crate) fn answer(&mut self, head: &ResponseHead, end: bool) -> Result<(), Failed> {
        self.sender()?.head(head, end).map_err(|broken| failed(&broken))
    }

    /// Says on a TCP connection whether the service has accepted it.
    pub(crate) fn accept(&mut self, failure: Option<Failure>) {
        self.held = match failure {
            None => Bytes::from_static(&[ACCEPTED]),
            Some(failure) => Bytes::copy_from_slice(&[failure.consequence().code]),
        };
        self.end = failure.map(|_| Ending::Plain);
    }

    /// Waits until the next piece can be taken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let last = matches!(self.end, Some(Ending::Plain));
        let Some(sender) = &mut self.sender else { return Poll::Ready(Err(Failure::CallerGone.into())) };
        ready!(sender.poll_data(cx, &mut self.held, last)).map_err(|broken| failed(&broken))?;
        // What is empty still holds the whole buffer that it was a part of.
        self.held = Bytes::new();
        if last {
            self.end = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes some bytes; with `last` they are the last ones.
    pub(crate) fn data(&mut self, data: Bytes, last: bool) {
        self.held = data;
        if last {
            self.end = Some(Ending::Plain);
        }
    }

    /// Takes the end.
    pub(crate) fn end(&mut self, trailers: Option<Fields>) {
        self.end = Some(trailers.into());
    }

    /// Gives all that was taken to the link, which sends it by itself.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        ready!(self.poll_ready(cx))?;
        let Some(end) = self.end.take() else { return Poll::Ready(Ok(())) };
        let trailers = if let Ending::Trailers(trailers) = &end { Some(trailers) } else { None };
        Poll::Ready(self.sender()?.finish(trailers).map_err(|broken| failed(&broken)))
    }

    /// Waits until the stream is broken.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sender {
            Some(sender) => sender.poll_broken(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }

    /// Breaks the stream off.
    pub(crate) fn abort(&mut self, failure: Failure) {
        if let Some(sender) = self.sender.take() {
            let consequence = failure.consequence();
            let given_up = failure == Failure::CallerGone;
            let code = if given_up { Code::Cancelled } else { Code::Failure(consequence.code) };
            sender.reset(code, consequence.words);
        }
    }
}

impl Arriving {
    /// Waits for the next head of a response, and whether nothing follows it.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(ResponseHead, bool), Failed>> {
        Poll::Ready(match ready!(self.receiver.poll_recv(cx)) {
            Ok(Event::Head(head, end)) => {
                self.over = end;
                Ok((head, end))
            }
            Ok(Event::Data(_) | Event::Trailers(_) | Event::End) => {
                Err(Failed::new(Failure::BadResponse, "no head comes first"))
            }
            // Here, or where it said something, it was found to break the rules.
            Err(broken @ Broken::Reset { code: Code::Protocol, .. }) => {
                Err(Failed::new(Failure::BadResponse, broken))
            }
            Err(broken) => Err(failed(&broken)),
        })
    }

    /// Returns the next piece; `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Failed>>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(Ok(held)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.receiver.poll_recv(cx)) {
            Ok(Event::Data(data)) => Some(Ok(Piece::Data(data))),
            Ok(Event::Trailers(trailers)) => {
                self.over = true;
                Some(Ok(Piece::Trailers(trailers)))
            }
            Ok(Event::End) => {
                self.over = true;
                None
            }
            Ok(Event::Head(..)) => Some(Err(Failed::new(Failure::BadResponse, "a head within a body"))),
            Err(broken) => Some(Err(failed(&broken))),
        })
    }

    /// Returns the status of a response of gRPC whose head was taken, if the rest is here already: a unary one that failed
    /// mostly is, and what streams is not.
    pub(crate) fn unary_status(&self) -> Option<u16> {
        self.receiver.look(|begin, bytes, trailers| {
            grpc::is_unary(begin, bytes).then(|| grpc::status(trailers)).flatten()
        })
    }

    /// Waits for the first word of the called proxy on a TCP connection: whether the service has accepted.
    ///
    /// # Errors
    /// Why it has not.
    pub(crate) fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let Some(Piece::Data(mut word)) = ready!(self.poll_next(cx)).transpose()? else {
            return Poll::Ready(Err(Failed::new(Failure::BadResponse, "its proxy says nothing")));
        };
        match bytes::Buf::get_u8(&mut word) {
            ACCEPTED => {
                self.held = (!word.is_empty()).then_some(Piece::Data(word));
                Poll::Ready(Ok(()))
            }
            code => {
                let failure = Failure::from_code(code).unwrap_or(Failure::BadResponse);
                Poll::Ready(Err(Failed::new(failure, "said by its proxy")))
            }
        }
    }

    /// Waits until there is something to take, or the end.
    pub(crate) fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.held.is_none() && !self.over {
            self.held = ready!(self.poll_next(cx)).transpose()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns whether it is known that nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.over && self.held.is_none()
    }
}
