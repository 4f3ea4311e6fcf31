//! One request going up and its response coming down, at the same time, in one task: who asks, who answers, and what flows
//! between them.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Method;
use tokio::time::{sleep, timeout};

use crate::logic::http::framing::Framing;
use crate::logic::http::h1;
use crate::logic::http::head::{RequestHead, ResponseHead, Version};
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::message::Answer;
use crate::proxy::http::observe::Observation;
use crate::proxy::http::payload::Payload;
use crate::proxy::http::stall::Turn;
use crate::proxy::stream::duplex::End;
use crate::proxy::stream::link::{Arriving, Leaving};
use crate::proxy::stream::pump::{Broke, Pump};
use crate::proxy::stream::reader::{NoHead, Reader};
use crate::proxy::stream::sink::Sink;
use crate::proxy::stream::source::Source;
use crate::proxy::stream::writer::Writer;

/// What was passed on of a response that breaks off is still sent, if the caller takes it within this time.
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

/// Responses before the final one that are passed on for one request: more are no hints but a flood.
const INTERIM_MAX: usize = 64;

/// A request, as it came in.
pub(crate) struct Asked<'a> {
    /// Its head.
    pub(crate) head: RequestHead,
    /// How its body is delimited; chunks stand for any body of unknown length.
    pub(crate) framing: Framing,
    /// Its body.
    pub(crate) body: Source<'a>,
    /// Who is told the answer.
    pub(crate) responder: Responder<'a>,
}

/// What became of an exchange, as far as its connection is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The caller has got a whole answer, or one of our own.
    Answered,
    /// The answer broke off, or the connection is no HTTP any more: it is to be closed.
    Broken,
    /// What was no HTTP any more did not end in good order: whoever is at an end of it is to see that.
    Cut,
}

/// What a caller of HTTP/1 can be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// The version it speaks.
    pub(crate) version: Version,
    /// Whether it asked for the head only.
    pub(crate) head_only: bool,
    /// Whether the connection goes on after this answer.
    pub(crate) keep_alive: bool,
}

/// Who asks, and is told the answer.
pub(crate) enum Responder<'a> {
    /// An application that speaks HTTP/1.
    Http1(&'a mut Writer, &'a mut Manners),
    /// Another proxy, or an application that speaks HTTP/2.
    Link(Leaving),
    /// Nobody: what is answered to a copy is not wanted.
    Nobody,
}

impl<'a> Responder<'a> {
    /// Passes on a response that is not the last one. Who cannot be told so is not.
    pub(crate) fn inform(&mut self, head: &ResponseHead) {
        match self {
            Self::Http1(writer, manners) => {
                if manners.version != Version::Http10 {
                    let version = manners.version;
                    writer.begin(|out| h1::write::response(head, Framing::None, version, true, out));
                }
            }
            Self::Link(leaving) => leaving.inform(head),
            Self::Nobody => {}
        }
    }

    /// Says that the caller's connection ends with the answer.
    pub(crate) fn close(&mut self) {
        if let Self::Http1(_, manners) = self {
            manners.keep_alive = false;
        }
    }

    /// Sends what was passed on already.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        match self {
            Self::Http1(writer, _) => writer.poll_flush(cx),
            Self::Link(_) | Self::Nobody => Poll::Ready(Ok(())),
        }
    }

    /// Waits until the caller does not want the answer any more. An HTTP/1 connection tells it by its reading side.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(..) | Self::Nobody => Poll::Pending,
            Self::Link(leaving) => leaving.poll_gone(cx),
        }
    }

    /// Begins the answer, and returns where its body goes.
    ///
    /// # Errors
    /// When the caller is gone.
    pub(crate) fn begin(self, answer: &mut Answer) -> Result<Sink<'a>, Failed> {
        match self {
            Self::Http1(writer, manners) => {
                let Manners { version, head_only, keep_alive } = *manners;
                writer.begin(|out| {
                    let framing =
                        h1::write::response(&answer.head, answer.announced, version, keep_alive, out);
                    if head_only || answer.head.status == 304 { Framing::None } else { framing }
                });
                Ok(Sink::Tcp(writer))
            }
            Self::Link(mut leaving) => {
                let end = answer.framing.is_empty();
                answer.put_length();
                leaving.answer(&answer.head, end)?;
                Ok(if end { Sink::Ended } else { Sink::Link(leaving) })
            }
            Self::Nobody => Ok(Sink::Nobody),
        }
    }

    /// Begins what is no HTTP any more, after an answer that says so.
    ///
    /// # Errors
    /// When the caller is gone.
    pub(crate) fn switch(self, head: &ResponseHead, protocol: &str) -> Result<Sink<'a>, Failed> {
        match self {
            Self::Http1(writer, manners) => {
                let mut head = head.clone();
                head.fields.set("upgrade", protocol.as_bytes());
                writer.begin(|out| h1::write::response(&head, Framing::None, manners.version, true, out));
                Ok(Sink::Tcp(writer))
            }
            Self::Link(mut leaving) => {
                leaving.answer(head, false)?;
                Ok(Sink::Link(leaving))
            }
            Self::Nobody => Ok(Sink::Nobody),
        }
    }

    /// Begins bytes that are no HTTP, after a yes to CONNECT.
    ///
    /// # Errors
    /// When the caller is gone.
    pub(crate) fn connected(self, head: &ResponseHead) -> Result<Sink<'a>, Failed> {
        match self {
            Self::Http1(writer, manners) => {
                writer.begin(|out| h1::write::response(head, Framing::None, manners.version, true, out));
                Ok(Sink::Tcp(writer))
            }
            Self::Link(mut leaving) => {
                leaving.answer(head, false)?;
                Ok(Sink::Link(leaving))
            }
            Self::Nobody => Ok(Sink::Nobody),
        }
    }
}

/// Who answers.
pub(crate) enum Callee<'c> {
    /// Another proxy, or a local service that speaks HTTP/2.
    Link(Arriving),
    /// A local service that speaks HTTP/1, and what it was asked.
    Http1(&'c mut Reader, Method),
    /// Its answer has begun.
    Answering(Source<'c>),
}

impl<'c> Callee<'c> {
    /// Waits for the next head of a response, informational or final.
    fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method) -> Poll<Result<Answer, Failed>> {
        match self {
            Self::Link(arriving) => {
                let (head, end) = ready!(arriving.poll_head(cx))?;
                if head.is_interim() {
                    return Poll::Ready(Ok(Answer::interim(head)));
                }
                Poll::Ready(Answer::new(head, method, end))
            }
            Self::Http1(reader, method) => {
                let parse = |bytes: &[u8]| h1::response::parse(bytes, method);
                let response = ready!(reader.poll_head(cx, parse)).map_err(no_response)?;
                Poll::Ready(Ok(Answer {
                    head: response.head,
                    framing: response.framing,
                    announced: response.announced,
                    keep_alive: response.keep_alive,
                }))
            }
            Self::Answering(_) => Poll::Ready(Err(Failed::new(Failure::BadResponse, "a second response"))),
        }
    }

    /// Returns the status of a response of gRPC whose head was taken, if the rest is here already.
    pub(crate) fn unary_status(&self) -> Option<u16> {
        match self {
            Self::Link(arriving) => arriving.unary_status(),
            Self::Http1(..) | Self::Answering(_) => None,
        }
    }

    /// Returns where the body comes from that `answer` has announced.
    fn into_source(self, framing: Framing) -> Source<'c> {
        match self {
            Self::Link(arriving) => Source::Link(arriving),
            Self::Http1(reader, _) => {
                reader.expect(h1::body::Body::new(framing));
                Source::Tcp(reader)
            }
            Self::Answering(source) => source,
        }
    }
}

fn no_response(error: NoHead<h1::lines::Malformed>) -> Failed {
    match error {
        NoHead::Broken(error) => Failed::new(Failure::Reset, error),
        NoHead::Truncated => Failed::new(Failure::Reset, "it was closed"),
        NoHead::Refused(malformed) => Failed::new(Failure::BadResponse, malformed),
    }
}

/// One attempt at an answer.
pub(crate) struct Exchange<'c> {
    /// Where the request's body goes.
    pub(crate) up: Sink<'c>,
    /// Who answers.
    pub(crate) callee: Callee<'c>,
    pump: Pump,
    progress: Progress,
}

/// How far the request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Its body goes up.
    Pumping,
    /// Its head goes up, and nothing after it.
    HeadOnly,
    /// Nothing more goes up: all has gone, or nobody takes it.
    Over,
}

/// What is known of both sides while an exchange goes on.
pub(crate) struct Sides<'s, 'a> {
    /// The request's body.
    pub(crate) payload: &'s mut Payload<'a>,
    /// The books.
    pub(crate) observation: &'s Rc<Observation>,
    /// Its place among the exchanges that are given up when nothing moves.
    pub(crate) turn: Option<&'s Turn<'s>>,
}

impl Sides<'_, '_> {
    /// Says that something moves that is no part of a body.
    fn stir(&self) {
        if let Some(turn) = self.turn {
            turn.stir();
        }
    }

    /// Ends in an error when nothing moves any more.
    fn poll_over<T>(&self, cx: &mut Context<'_>, awaits_caller: bool) -> Poll<Result<T, Failed>> {
        match self.turn {
            Some(turn) => turn.poll_over(cx, awaits_caller).map(Err),
            None => Poll::Pending,
        }
    }

    /// Sends what was passed on already, and looks whether the caller is still there.
    ///
    /// # Errors
    /// When it is not.
    fn check(&mut self, cx: &mut Context<'_>, responder: &mut Responder<'_>) -> Result<(), Failed> {
        if responder.poll_flush(cx)?.is_ready()
            && (responder.poll_gone(cx).is_ready() || self.payload.poll_gone(cx, false).is_ready())
        {
            return Err(Failure::CallerGone.into());
        }
        Ok(())
    }

    /// Waits.
    ///
    /// # Errors
    /// When the caller does not.
    pub(crate) async fn pause(
        &mut self,
        time: Duration,
        responder: &mut Responder<'_>,
    ) -> Result<(), Failed> {
        let mut over = pin!(sleep(time));
        poll_fn(|cx| {
            if over.as_mut().poll(cx).is_ready() {
                self.stir();
                return Poll::Ready(Ok(()));
            }
            self.check(cx, responder)?;
            Poll::Pending
        })
        .await
    }
}

impl<'c> Exchange<'c> {
    /// Begins an attempt; the head of the request was sent. With `withheld` its body is not: what comes after the head is
    /// not for this exchange.
    pub(crate) fn new(up: Sink<'c>, callee: Callee<'c>, withheld: bool) -> Self {
        let progress = if withheld { Progress::HeadOnly } else { Progress::Pumping };
        Self { up, callee, pump: Pump::default(), progress }
    }

    /// Moves the request's body. Only a caller that breaks off is an error: a service that does not want the rest may
    /// have answered all the same.
    fn poll_up(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_, '_>) -> Result<(), Failed> {
        let Sides { payload, observation, .. } = sides;
        let moved = match self.progress {
            Progress::Over => return Ok(()),
            Progress::HeadOnly => self.up.poll_flush(cx).map_err(Broke::Sink),
            Progress::Pumping => self.pump.poll(cx, &mut self.up, |cx| payload.poll_next(cx, observation)),
        };
        match moved {
            Poll::Pending => {}
            Poll::Ready(Ok(()) | Err(Broke::Sink(_))) => self.progress = Progress::Over,
            Poll::Ready(Err(Broke::Source(failed))) => {
                self.up.abort(Failure::CallerGone);
                return Err(failed);
            }
        }
        Ok(())
    }

    /// Waits for the final head of the response; others are passed on.
    ///
    /// # Errors
    /// When the service does not answer, or the caller does not wait for it.
    pub(crate) async fn head(
        &mut self,
        sides: &mut Sides<'_, '_>,
        responder: &mut Responder<'_>,
        method: &Method,
    ) -> Result<Answer, Failed> {
        let mut informed = 0;
        poll_fn(|cx| {
            loop {
                self.poll_up(cx, sides)?;
                if informed > INTERIM_MAX {
                    return Poll::Ready(Err(Failed::new(Failure::BadResponse, "too many come before it")));
                }
                match self.callee.poll_head(cx, method) {
                    Poll::Ready(Ok(answer)) if answer.head.is_interim() => {
                        informed += 1;
                        sides.stir();
                        responder.inform(&answer.head);
                    }
                    Poll::Ready(answer) => return Poll::Ready(answer),
                    Poll::Pending => break,
                }
            }
            sides.check(cx, responder)?;
            let awaits_caller = self.progress == Progress::Pumping && self.pump.is_starving();
            sides.poll_over(cx, awaits_caller)
        })
        .await
    }

    /// Passes the body of the response to `down` until it is complete, and what is left of the request up.
    ///
    /// # Errors
    /// When either side broke off, or the time is over; `down` is broken off then.
    pub(crate) async fn body(
        &mut self,
        framing: Framing,
        sides: &mut Sides<'_, '_>,
        down: &mut Sink<'_>,
    ) -> Result<(), Failed> {
        let callee = std::mem::replace(&mut self.callee, Callee::Answering(Source::Nothing));
        let mut source = callee.into_source(framing);
        let mut pump = Pump::default();
        poll_fn(|cx| {
            self.poll_up(cx, sides)?;
            let observation = sides.observation;
            let moved = pump.poll(cx, down, |cx| {
                let piece = ready!(source.poll_next(cx));
                Poll::Ready(piece.map(|piece| {
                    let piece = piece?;
                    observation.passed(&piece);
                    Ok((piece, source.is_over()))
                }))
            });
            match moved {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Broke::Source(failed))) => {
                    return Poll::Ready(Err(Failed { failure: Failure::Truncated, ..failed }));
                }
                Poll::Ready(Err(Broke::Sink(failed))) => {
                    return Poll::Ready(Err(Failed { failure: Failure::CallerGone, ..failed }));
                }
                Poll::Pending => {}
            }
            let wrote = if let Sink::Tcp(writer) = &mut *down { writer.take_wrote() } else { false };
            if down.poll_gone(cx).is_ready() || sides.payload.poll_gone(cx, wrote).is_ready() {
                return Poll::Ready(Err(Failure::CallerGone.into()));
            }
            sides.poll_over(cx, false)
        })
        .await
    }
}

impl<'c> Exchange<'c> {
    /// Gives up HTTP: what comes and goes from here on are bytes.
    pub(crate) fn into_end(self) -> End<'c> {
        let source = match self.callee {
            Callee::Link(arriving) => Source::Link(arriving),
            Callee::Http1(reader, _) => Source::Tcp(reader),
            Callee::Answering(source) => source,
        };
        End::new(source, self.up)
    }
}

/// Breaks a response off: what was taken of it is sent, its end is not.
pub(crate) async fn break_off(down: &mut Sink<'_>, failure: Failure) {
    if failure != Failure::CallerGone {
        _ = timeout(LAST_WORDS_TIME, poll_fn(|cx| down.poll_flush(cx))).await;
    }
    down.abort(failure);
}
