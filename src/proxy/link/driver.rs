//! What moves the bytes of one link: a future that owns the connection, and nothing runs beside it.
//!
//! In each turn it writes what streams have put into the outbox, reads what has arrived, and writes what that brought about.
//! The runtime has one thread and runs tasks in the order in which they were woken: all streams that were woken by one read
//! put their frames before the driver comes to its turn again, and go out in one write.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Sleep, sleep_until};

use crate::logic::http::h2::frame::Fault;
use crate::logic::link::pulse::{Beat, PING_EVERY, PING_IDLE, PING_IDLE_ACCEPTED};
use crate::net::clock;
use crate::proxy::link::error::Error;
use crate::proxy::link::outbox::OUT_BYTES_FULL;
use crate::proxy::link::slot::Side;
use crate::proxy::link::state::{Dialect, Phase, Shared};

/// The size of the buffer that is read into, in bytes.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Less room than this in the buffer and it is exchanged: a TLS record brings up to 16 KiB.
const READ_ROOM_MIN: usize = 16 << 10;
/// How much is read in one turn before others have theirs, in bytes.
const READ_BYTES_MAX: usize = 256 << 10;
/// Answers that only the peer asked for (PONG, RESET) and has not read, in bytes: above, nothing is read from it.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long the peer may take to close its side, after this side has.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

thread_local! {
    /// What the last link of this thread read into, for the next one: most read little, and pass it on in the same turn.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// Drives one link until it ends: to be spawned by whoever made it. Dropping it breaks the link.
#[must_use = "a link does nothing unless it is driven"]
pub struct Driver<Io> {
    io: Io,
    shared: Shared,
    arrived: BytesMut,
    leaving: Vec<u8>,
    /// How much of `leaving` is written.
    written: usize,
    needs_flush: bool,
    is_blocked: bool,
    /// Reading was stopped because the peer does not listen.
    is_paused: bool,
    timer: Pin<Box<Sleep>>,
    is_armed: bool,
    /// All is said; what is left is to close.
    is_closing: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Driver<Io> {
    pub(crate) fn new(io: Io, shared: Shared) -> Self {
        let now = clock::now();
        shared.borrow_mut().put_ping(now);
        Self {
            io,
            shared,
            arrived: BytesMut::new(),
            leaving: Vec::new(),
            written: 0,
            needs_flush: false,
            is_blocked: false,
            is_paused: false,
            timer: Box::pin(sleep_until(now.into())),
            is_armed: false,
            is_closing: false,
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let now = clock::now();
        {
            let mut state = self.shared.borrow_mut();
            state.now = now;
            state.await_work(cx);
        }
        if !self.is_closing {
            self.write(cx, now)?;
            let has_ended = self.read(cx, now)?;
            if !self.is_blocked {
                self.write(cx, now)?;
            }
            self.is_closing = self.settle(cx, has_ended)?;
            if self.is_closing {
                self.timer.as_mut().reset((now + FAREWELL_TIME).into());
            }
        }
        if self.is_closing {
            return self.poll_close(cx);
        }
        self.poll_pulse(cx, now)
    }

    /// Writes all there is, as far as the connection takes it.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<()> {
        let was_blocked = self.is_blocked;
        self.is_blocked = false;
        loop {
            if self.written == self.leaving.len() {
                self.leaving.clear();
                self.written = 0;
                let mut state = self.shared.borrow_mut();
                state.out.take(&mut self.leaving);
                if self.leaving.is_empty() {
                    state.answers = 0;
                    break;
                }
            }
            match Pin::new(&mut self.io).poll_write(cx, &self.leaving[self.written..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.written += count;
                    self.needs_flush = true;
                    let mut state = self.shared.borrow_mut();
                    state.wrote(count);
                    if was_blocked {
                        // The peer's host has taken something in.
                        state.pulse.hear(now);
                    }
                }
                Poll::Pending => {
                    self.is_blocked = true;
                    return Ok(());
                }
            }
        }
        if self.needs_flush {
            match Pin::new(&mut self.io).poll_flush(cx)? {
                Poll::Ready(()) => self.needs_flush = false,
                Poll::Pending => self.is_blocked = true,
            }
        }
        Ok(())
    }

    /// Reads what has arrived, as far as others may wait for it. Returns whether the peer has closed its side.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Error> {
        let mut budget = READ_BYTES_MAX;
        let mut has_ended = false;
        if self.arrived.capacity() == 0 {
            self.arrived = SPARE.take();
        }
        loop {
            self.is_paused = !self.may_read();
            if self.is_paused {
                break;
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
            if self.arrived.capacity() - self.arrived.len() < READ_ROOM_MIN {
                self.arrived.reserve(READ_BUFFER_BYTES);
            }
            match pin!(self.io.read_buf(&mut self.arrived)).poll(cx) {
                Poll::Ready(Ok(0)) => {
                    has_ended = true;
                    break;
                }
                Poll::Ready(Ok(count)) => {
                    budget = budget.saturating_sub(count);
                    let mut state = self.shared.borrow_mut();
                    state.pulse.hear(now);
                    match state.dialect {
                        Dialect::Mesh => state.receive_mesh(&mut self.arrived)?,
                        Dialect::Http2(_) => state.receive_http2(&mut self.arrived)?,
                    }
                }
                // TLS without a word of farewell: whether that matters is decided by what was under way.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    has_ended = true;
                    break;
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => break,
            }
        }
        if self.arrived.is_empty() {
            SPARE.set(std::mem::take(&mut self.arrived));
        }
        Ok(has_ended)
    }

    /// Tells whether to read on: not while the peer makes us say things and does not listen.
    ///
    /// The side that dialled always reads what an honest peer sends, so that two links never wait for each other.
    fn may_read(&self) -> bool {
        let state = self.shared.borrow();
        state.answers < ANSWER_BYTES_MAX
            && (state.side == Side::Dialled || state.out.queued() < OUT_BYTES_FULL)
    }

    /// Draws the consequences of a turn. Returns whether the link is to be closed.
    fn settle(&mut self, cx: &mut Context<'_>, has_ended: bool) -> Result<bool, Error> {
        let mut state = self.shared.borrow_mut();
        if has_ended {
            let is_whole = state.is_over() && self.arrived.is_empty();
            return if is_whole { Ok(true) } else { Err(Error::Closed) };
        }
        state.give_turns();
        // Who has a turn need not use it, and reading that was paused goes on once all is written.
        if !self.is_blocked && (state.is_awaited() || self.is_paused) {
            cx.waker().wake_by_ref();
        }
        let is_idle = state.streams() == 0;
        let is_written = self.leaving.is_empty() && state.out.queued() == 0 && !self.needs_flush;
        if is_written && state.is_at_rest() {
            self.leaving = Vec::new();
            state.release();
        }
        state.held = self.leaving.capacity() + self.arrived.capacity();
        Ok(is_idle && is_written && state.phase == Phase::Leaving)
    }

    /// Looks whether the peer is there, when it is time.
    fn poll_pulse(&mut self, cx: &mut Context<'_>, mut now: Instant) -> Poll<Result<(), Error>> {
        let is_busy = self.shared.borrow().streams() > 0;
        // An idle link is looked at more seldom.
        let is_late = is_busy && self.timer.deadline() > (now + PING_EVERY).into();
        let head_due = self.shared.borrow().head_due();
        let is_head_first = head_due.is_some_and(|due| self.timer.deadline() > due.into());
        let mut is_due = is_late || is_head_first || !self.is_armed;
        loop {
            if is_due {
                self.look(now, is_busy)?;
            }
            // Polled each time, as the task may have changed: this costs nothing next to what else a turn does.
            ready!(self.timer.as_mut().poll(cx));
            now = clock::now();
            is_due = true;
        }
    }

    fn look(&mut self, now: Instant, is_busy: bool) -> Result<(), Error> {
        let mut state = self.shared.borrow_mut();
        let head_due = state.head_due();
        if head_due.is_some_and(|due| due <= now) {
            return Err(Fault::LateHead.into());
        }
        let silence = match (is_busy, state.side) {
            (true, _) => PING_EVERY,
            (false, Side::Dialled) => PING_IDLE,
            (false, Side::Accepted) => PING_IDLE_ACCEPTED,
        };
        let mut beat = state.look(now, silence);
        if beat == Beat::Ask {
            state.put_ping(now);
            state.wake_driver();
            beat = state.look(now, silence);
        }
        match beat {
            Beat::Wait(until) => {
                let until = head_due.map_or(until, |due| until.min(due));
                self.timer.as_mut().reset(until.into());
            }
            Beat::Ask | Beat::Dead => return Err(Error::Silent),
        }
        self.is_armed = true;
        // Looks are seldom: what is not in use by now was for a burst.
        if self.leaving.is_empty() {
            self.leaving = Vec::new();
        }
        state.release();
        state.held = self.leaving.capacity() + self.arrived.capacity();
        Ok(())
    }

    /// Closes this side and waits for the peer to close its own: closing a connection that still has bytes to read would
    /// take away from the peer what was sent last.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let has_shut = match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
            Poll::Pending => false,
        };
        loop {
            self.arrived.clear();
            self.arrived.reserve(READ_ROOM_MIN);
            match ready!(pin!(self.io.read_buf(&mut self.arrived)).poll(cx)) {
                Ok(0) | Err(_) if has_shut => return Poll::Ready(Ok(())),
                Ok(0) | Err(_) => return Poll::Pending,
                Ok(_) => {}
            }
        }
    }

    /// Tells the peer which rule it broke, if the connection takes it at once.
    fn accuse(&mut self, cx: &mut Context<'_>, error: &Error) {
        if !self.shared.borrow_mut().put_fault(error) {
            return;
        }
        if self.write(cx, clock::now()).is_ok() && !self.is_blocked {
            // Whatever comes of it: the link has ended already.
            _ = Pin::new(&mut self.io).poll_shutdown(cx);
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Future for Driver<Io> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shared.borrow().phase == Phase::Ended {
            return Poll::Ready(Ok(()));
        }
        let ended = ready!(self.poll_turn(cx));
        if let Err(error) = &ended {
            self.accuse(cx, error);
        }
        let reason: Arc<str> = match &ended {
            Ok(()) => "the link has ended".into(),
            Err(error) => error.to_string().into(),
        };
        let mut state = self.shared.borrow_mut();
        state.end(&reason);
        state.held = 0;
        drop(state);
        Poll::Ready(ended)
    }
}

impl<Io> Drop for Driver<Io> {
    fn drop(&mut self) {
        let mut state = self.shared.borrow_mut();
        state.held = 0;
        state.give_up();
    }
}
