//! Carrying bytes both ways between two connections, until both ends have said all.
//!
//! The end of one direction is passed on as such (half-close) while the other goes on.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::logic::http::h1::chunk::Piece;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::stream::pump::{Broke, Pump};
use crate::proxy::stream::sink::Sink;
use crate::proxy::stream::source::Source;

/// One end of a tunnel: what comes from it, and what goes to it.
pub(crate) struct End<'a> {
    source: Source<'a>,
    sink: Sink<'a>,
}

impl<'a> End<'a> {
    /// Takes both directions of a connection, which from here on carries bytes and nothing else.
    pub(crate) fn new(mut source: Source<'a>, mut sink: Sink<'a>) -> Self {
        source.carry_bytes();
        sink.carry_bytes();
        Self { source, sink }
    }
}

/// Carries bytes between `caller` and `callee` until both directions have ended; with one of them ended, the other may be
/// silent for `half_closed`. `progress` is told of bytes as they are passed on: `(from the caller, from the callee)`.
///
/// # Errors
/// When either side failed, or a half-closed connection fell silent. Both sides are broken off then; TCP connections are
/// to be reset.
///
/// No `async fn`: that would hold both ends twice, as arguments and as what is polled.
pub(crate) fn duplex<'e>(
    caller: End<'e>,
    callee: End<'e>,
    half_closed: Duration,
    mut progress: impl FnMut(u64, u64) + 'e,
) -> impl Future<Output = Result<(), Failed>> + 'e {
    let (there, back) = (Pump::default(), Pump::default());
    let mut tunnel = Tunnel { caller, callee, there, back, moved: 0, half_closed, silence: None };
    poll_fn(move |cx| {
        let carried = ready!(tunnel.poll(cx, &mut progress));
        if carried.is_err() {
            tunnel.caller.sink.abort(Failure::Truncated);
            tunnel.callee.sink.abort(Failure::Truncated);
        }
        Poll::Ready(carried)
    })
}

/// Two connections that carry each other's bytes.
struct Tunnel<'e> {
    caller: End<'e>,
    callee: End<'e>,
    there: Pump,
    back: Pump,
    /// Bytes either way.
    moved: u64,
    /// How long one direction may be silent once the other has ended.
    half_closed: Duration,
    /// Since one direction has ended: how much had moved when the timer was set.
    silence: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Tunnel<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut impl FnMut(u64, u64),
    ) -> Poll<Result<(), Failed>> {
        let Self { caller, callee, there, back, moved, half_closed, silence } = self;
        let up = if there.is_done() {
            Poll::Ready(Ok(()))
        } else {
            there.poll(cx, &mut callee.sink, |cx| {
                caller.source.poll_bytes(cx, |count| {
                    *moved += count;
                    progress(count, 0);
                })
            })
        };
        let up = up.map_err(cause)?;
        let down = if back.is_done() {
            Poll::Ready(Ok(()))
        } else {
            back.poll(cx, &mut caller.sink, |cx| {
                callee.source.poll_bytes(cx, |count| {
                    *moved += count;
                    progress(0, count);
                })
            })
        };
        let down = down.map_err(cause)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if caller.sink.poll_gone(cx).is_ready() || callee.sink.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::Truncated.into()));
        }
        if up.is_pending() && down.is_pending() {
            return Poll::Pending;
        }
        let (seen, timer) = silence.get_or_insert_with(|| (*moved, Box::pin(sleep(*half_closed))));
        if *seen != *moved {
            *seen = *moved;
            timer.as_mut().reset(Instant::now() + *half_closed);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(Failed::new(Failure::Truncated, "half-closed connection fell silent")))
    }
}

fn cause(broke: Broke) -> Failed {
    match broke {
        Broke::Source(failed) | Broke::Sink(failed) => Failed { failure: Failure::Truncated, ..failed },
    }
}

impl Source<'_> {
    fn carry_bytes(&mut self) {
        if let Self::Tcp(reader) = self {
            reader.expect_bytes();
        }
    }

    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        mut seen: impl FnMut(u64),
    ) -> Poll<Option<Result<(Piece, bool), Failed>>> {
        let piece = ready!(self.poll_next(cx));
        Poll::Ready(piece.map(|piece| {
            let piece = piece?;
            if let Piece::Data(data) = &piece {
                seen(data.len() as u64);
            }
            Ok((piece, self.is_over()))
        }))
    }
}

impl Sink<'_> {
    fn carry_bytes(&mut self) {
        if let Self::Tcp(writer) = self {
            writer.expect(crate::logic::http::framing::Framing::UntilClose);
        }
    }
}
