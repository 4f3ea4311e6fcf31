//! A link: one connection over which many streams go. Between two proxies these are HTTP exchanges and TCP connections, in
//! frames of our own; with an application on this host they are the exchanges of HTTP/2.
//!
//! The side that dialled has a [`Link`] and opens streams; the other has [`Arrivals`] and takes them. Both have a
//! [`driver::Driver`] that moves the bytes, in a task of its own or in the one that takes what arrives, and
//! [`stream::Stream`]s that are used by whoever carries a request. All of it lives on one thread and shares one `state`:
//! `slot` is one stream, `outbox` is what is to be sent and `outgoing` how it is said, `inbox` what has arrived for one
//! stream and `incoming` what follows from it, `frames` and `frames_http2` what a frame does, `http2` what such a link knows
//! besides, [`error`] all that goes wrong.

pub mod error;
mod inbox;
mod outbox;
mod slot;
mod http2;
mod state;
mod outgoing;
mod incoming;
mod frames;
mod frames_http2;
pub mod stream;
pub mod driver;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::logic::http::head::RequestHead;
use crate::logic::link::frame::Code;
use crate::logic::link::window::GROWTH_BYTES_MAX;
use crate::net::clock;
use crate::net::patience::HEAD_TIME;
use crate::proxy::link::driver::Driver;
use crate::proxy::link::error::Refusal;
use crate::proxy::link::slot::Side;
use crate::proxy::link::state::{Phase, Shared, State};
use crate::proxy::link::stream::Stream;

pub use crate::proxy::link::inbox::Event;
pub use crate::proxy::link::outbox::{OUT_BYTES_FULL, OUT_BYTES_MAX};
pub use crate::proxy::link::state::Opening;

/// Streams of one link that the accepting side takes; those above are refused. One counts until its handler has let go of
/// it, whatever the peer does to it (CVE-2023-44487). RFC 9113 wants 100 at least; with the first window of each, these are
/// 32 MiB that a peer can make us keep.
pub const STREAMS_MAX: usize = 512;
/// Streams of one link that the dialling side opens: half of what is taken, so that none is refused because a handler is
/// slow to let go of another.
pub const STREAMS_OPENED_MAX: usize = STREAMS_MAX / 2;

/// What one link may have.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at a time.
    pub streams_max: usize,
    /// How much the windows of all its streams may grow beyond their first size, in bytes.
    pub growth_bytes_max: u64,
    /// From the first byte of a head in HTTP/2 to its last: until then nothing else can come.
    pub head_time: Duration,
}

impl Limits {
    /// The limits of the side that dials.
    pub const DIALLED: Self =
        Self { streams_max: STREAMS_OPENED_MAX, growth_bytes_max: GROWTH_BYTES_MAX, head_time: HEAD_TIME };
    /// The limits of the side that accepts.
    pub const ACCEPTED: Self = Self { streams_max: STREAMS_MAX, ..Self::DIALLED };
}

/// What both sides know of a link. Dropping it changes nothing.
#[derive(Clone)]
pub struct Handle {
    shared: Shared,
}

/// The dialling side of a link. When the last clone is dropped, the link ends once its streams have.
#[derive(Clone)]
pub struct Link {
    owner: Rc<Owner>,
}

/// The streams that the peer opens. When it is dropped, no more are taken and the link ends once its streams have.
pub struct Arrivals {
    owner: Owner,
}

/// A stream that the peer opened.
pub struct Arrival {
    /// The stream; of a request, the body comes in it.
    pub stream: Stream,
    /// What it begins with.
    pub opening: Opening,
}

/// Whoever a link is kept open for.
struct Owner {
    handle: Handle,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.handle.away();
    }
}

impl Link {
    /// Makes the dialling side of a link from a connection. The driver is to be spawned on this thread.
    pub fn dial<Io: AsyncRead + AsyncWrite + Unpin>(io: Io, limits: Limits) -> (Self, Driver<Io>) {
        let (handle, driver) = begin(io, State::new, (Side::Dialled, limits));
        (Self { owner: Rc::new(Owner { handle }) }, driver)
    }

    /// Makes a client of HTTP/2 from a connection; as [`Link::dial`]. [`Link::settled`] is to be waited for.
    pub fn dial_http2<Io: AsyncRead + AsyncWrite + Unpin>(io: Io, limits: Limits) -> (Self, Driver<Io>) {
        let (handle, driver) = begin(io, State::http2, (Side::Dialled, limits));
        (Self { owner: Rc::new(Owner { handle }) }, driver)
    }

    /// Waits until the server of HTTP/2 has said how it wishes to be spoken to, or the connection has ended.
    pub async fn settled(&self) {
        poll_fn(|cx| self.handle().shared.borrow_mut().poll_settled(cx)).await;
    }

    /// Tells whether the server of HTTP/2 takes requests for another protocol (RFC 8441).
    pub fn takes_protocols(&self) -> bool {
        self.handle().shared.borrow().takes_protocols()
    }

    /// Tells whether no more streams can be opened before others have ended.
    pub fn is_full(&self) -> bool {
        self.handle().shared.borrow().is_full()
    }

    /// Opens a stream with the head of a request; with `end`, nothing follows it. Returns at once.
    pub fn open_http(&self, request: &RequestHead, end: bool) -> Result<Stream, Refusal> {
        self.open(Some((request, end)))
    }

    /// Opens a stream for the bytes of a connection. Returns at once.
    pub fn open_tcp(&self) -> Result<Stream, Refusal> {
        self.open(None)
    }

    fn open(&self, request: Option<(&RequestHead, bool)>) -> Result<Stream, Refusal> {
        let shared = &self.owner.handle.shared;
        let place = shared.borrow_mut().open(request)?;
        Ok(Stream::new(shared, place))
    }

    /// Returns what is known of the link.
    pub fn handle(&self) -> &Handle {
        &self.owner.handle
    }

    /// See [`Handle::streams`].
    pub fn streams(&self) -> usize {
        self.handle().streams()
    }

    /// See [`Handle::is_open`].
    pub fn is_open(&self) -> bool {
        self.handle().is_open()
    }

    /// See [`Handle::idle_since`].
    pub fn idle_since(&self) -> Option<Instant> {
        self.handle().idle_since()
    }

    /// See [`Handle::away`].
    pub fn away(&self) {
        self.handle().away();
    }
}

impl Arrivals {
    /// Makes the accepting side of a link from a connection. The driver is to be polled on this thread, and after it
    /// [`Arrivals::arrived`].
    pub fn accept<Io: AsyncRead + AsyncWrite + Unpin>(io: Io, limits: Limits) -> (Self, Driver<Io>) {
        let (handle, driver) = begin(io, State::new, (Side::Accepted, limits));
        (Self { owner: Owner { handle } }, driver)
    }

    /// Makes a server of HTTP/2 from a connection; as [`Arrivals::accept`].
    pub fn accept_http2<Io: AsyncRead + AsyncWrite + Unpin>(io: Io, limits: Limits) -> (Self, Driver<Io>) {
        let (handle, driver) = begin(io, State::http2, (Side::Accepted, limits));
        (Self { owner: Owner { handle } }, driver)
    }

    /// Returns the next stream that the peer has opened and not cancelled since; None when there is none yet: the driver
    /// has to have a turn first.
    pub fn arrived(&mut self) -> Option<Arrival> {
        let shared = &self.owner.handle.shared;
        let (place, opening) = shared.borrow_mut().arrival()?;
        Some(Arrival { stream: Stream::new(shared, place), opening })
    }

    /// Returns what is known of the link.
    pub fn handle(&self) -> &Handle {
        &self.owner.handle
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        let mut state = self.owner.handle.shared.borrow_mut();
        state.leave_now();
        state.refuse_arrivals();
    }
}

impl Handle {
    /// Returns how many streams are open: not yet dropped on this side.
    pub fn streams(&self) -> usize {
        self.shared.borrow().streams()
    }

    /// Tells whether the peer has said how it wishes to be spoken to: in HTTP/2 it says so first.
    pub fn has_settled(&self) -> bool {
        self.shared.borrow().has_settled()
    }

    /// Tells whether streams may be opened: false when the link is broken or going away.
    pub fn is_open(&self) -> bool {
        self.shared.borrow().is_open()
    }

    /// Ends the link gracefully: no more streams are opened, those under way finish, the connection is closed after them.
    pub fn away(&self) {
        self.shared.borrow_mut().leave();
    }

    /// Ends the link now: every stream is broken off by this code, and the peer is told why. It is to be given up a moment
    /// later, should the peer not listen.
    pub fn cut(&self, code: Code, reason: &str) {
        self.shared.borrow_mut().cut(code, reason);
    }

    /// Ends the link, whatever is still to be said: its driver ends, and with it the connection.
    pub fn give_up(&self) {
        let mut state = self.shared.borrow_mut();
        state.give_up();
        state.wake_driver();
    }

    /// Tells whether the link is no more.
    pub fn has_ended(&self) -> bool {
        self.shared.borrow().phase == Phase::Ended
    }

    /// Returns since when the link has no streams, as of the driver's last turn; None while it has some.
    pub fn idle_since(&self) -> Option<Instant> {
        self.shared.borrow().idle_since()
    }

    /// Returns how long a byte takes there and back, all waiting included; None before it is known.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.borrow().round_trip()
    }

    /// Returns how much memory the buffers of the link and of its streams have, in bytes.
    pub fn buffered(&self) -> usize {
        self.shared.borrow().buffered()
    }
}

fn begin<Io>(
    io: Io,
    make: impl FnOnce(Side, usize, u64, Instant) -> State,
    (side, limits): (Side, Limits),
) -> (Handle, Driver<Io>)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut state = make(side, limits.streams_max, limits.growth_bytes_max, clock::now());
    state.head_time = limits.head_time;
    let shared = Rc::new(RefCell::new(state));
    (Handle { shared: shared.clone() }, Driver::new(io, shared))
}
