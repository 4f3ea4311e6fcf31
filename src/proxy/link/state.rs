//! What the driver and the streams of one link share: the streams that are open, and what is to be sent.
//!
//! Everything happens on one thread. A stream that has something to send puts it into the outbox and wakes the driver; the
//! driver puts what arrives into the inbox of a stream and wakes its receiver. Wakers are called while the state is
//! borrowed: they only put a task into a queue.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Method;
use slab::Slab;

use crate::logic::http::h2::frame::WINDOW_MAX;
use crate::logic::http::head::RequestHead;
use crate::logic::link::frame::{Code, Violation};
use crate::logic::link::pulse::Pulse;
use crate::logic::link::window::{Habit, Sending};
use crate::net::patience::HEAD_TIME;
use crate::proxy::link::error::{Broken, Refusal};
use crate::proxy::link::http2::Http2;
use crate::proxy::link::outbox::{OUT_BYTES_FULL, Outbox};
use crate::proxy::link::slot::{Carried, Side, Slot, Waiter};

/// What a link keeps for its next stream it keeps for so long.
const REST_TIME: Duration = Duration::from_secs(1);

/// How long a byte takes to an application on this host and back, all waiting included.
const LOCAL_ROUND_TRIP: Duration = Duration::from_millis(1);

pub(crate) type Shared = Rc<RefCell<State>>;

/// What is spoken on a link.
pub(crate) enum Dialect {
    /// Frames of our own, between proxies.
    Mesh,
    /// HTTP/2, with an application on this host.
    Http2(Box<Http2>),
}

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// The head of a request, and whether nothing follows it.
    Http(RequestHead, bool),
    /// The head of a request that cannot be carried on: the status that it deserves, why, and whether nothing follows it.
    #[expect(missing_docs, reason = "said above")]
    Refused { status: u16, cause: String, end: bool },
    /// The bytes of a connection follow.
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// No stream is opened any more, those under way finish.
    Leaving,
    /// The link is no more.
    Ended,
}

pub(crate) struct State {
    pub(crate) side: Side,
    pub(crate) dialect: Dialect,
    pub(crate) phase: Phase,
    streams_max: usize,
    slots: Slab<Slot>,
    /// Where the stream of a number is in `slots`.
    places: HashMap<u32, usize, foldhash::fast::RandomState>,
    /// The last stream that was opened, by whichever side opens them.
    pub(crate) last: u32,
    pub(crate) out: Outbox,
    /// Bytes of answers that only the peer asked for, since all was sent.
    pub(crate) answers: usize,
    /// Streams that the peer opened and nobody has taken.
    arrivals: VecDeque<(usize, Opening)>,
    /// Whoever waits for the peer to say how it wishes to be spoken to.
    pub(crate) settling: Waiter,
    pub(crate) pulse: Pulse,
    /// What windows may still grow by.
    pub(crate) budget: u64,
    /// What they grew to before.
    habit: Habit,
    /// Bytes in all inboxes.
    pub(crate) unread: usize,
    driver: Waiter,
    /// How long a head of HTTP/2 may take.
    pub(crate) head_time: Duration,
    /// The time of the driver's last turn.
    pub(crate) now: Instant,
    idle_since: Instant,
    /// Memory of the driver's own buffers, in bytes.
    pub(crate) held: usize,
}

impl State {
    pub(crate) fn new(side: Side, streams_max: usize, budget: u64, now: Instant) -> Self {
        Self {
            side,
            dialect: Dialect::Mesh,
            phase: Phase::Open,
            streams_max,
            slots: Slab::new(),
            places: HashMap::default(),
            last: 0,
            out: Outbox::default(),
            answers: 0,
            arrivals: VecDeque::new(),
            settling: Waiter::default(),
            pulse: Pulse::new(now),
            budget,
            habit: Habit::default(),
            unread: 0,
            driver: Waiter::default(),
            head_time: HEAD_TIME,
            now,
            idle_since: now,
            held: 0,
        }
    }

    /// Makes the state of a connection that speaks HTTP/2, and says what is said first.
    pub(crate) fn http2(side: Side, streams_max: usize, budget: u64, now: Instant) -> Self {
        let mut this = Self::new(side, streams_max, budget, now);
        this.dialect = Dialect::Http2(Box::new(Http2::begin(side, (streams_max, now), &mut this.out)));
        this
    }

    // --- the driver -------------------------------------------------------------------------------------------------

    /// Lets the driver be woken by whoever has something for it, once until its next turn.
    pub(crate) fn await_work(&mut self, cx: &Context<'_>) {
        self.driver.wait(cx);
    }

    pub(crate) fn wake_driver(&mut self) {
        self.driver.wake();
    }

    /// Gives turns to those who wait for room, as far as there is some.
    pub(crate) fn give_turns(&mut self) {
        let mut turns = if self.has_window() { self.out.turns() } else { 0 };
        while turns > 0
            && let Some(id) = self.out.next_turn()
        {
            // Numbers of streams that are gone may be left there.
            if let Some(slot) = self.places.get(&id).and_then(|place| self.slots.get_mut(*place))
                && slot.is_queued
            {
                slot.is_queued = false;
                slot.has_turn = true;
                slot.sender.wake();
                turns -= 1;
            }
        }
    }

    /// Tells whether someone waits for a turn, who could use it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.out.is_awaited() && self.has_window()
    }

    /// Tells whether the streams together may send anything.
    fn has_window(&self) -> bool {
        self.window() > 0
    }

    /// Returns how much the streams together may send.
    pub(crate) fn window(&self) -> usize {
        match &self.dialect {
            Dialect::Mesh => usize::MAX,
            Dialect::Http2(http2) => http2.sending.left(),
        }
    }

    /// Counts bytes as written to the connection.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.out.wrote(bytes);
        if let Dialect::Http2(http2) = &mut self.dialect {
            http2.wrote(bytes);
        }
    }

    /// Returns how long a byte takes there and back; None before it is known.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        match &self.dialect {
            Dialect::Mesh => self.pulse.round_trip(),
            Dialect::Http2(_) => Some(LOCAL_ROUND_TRIP),
        }
    }

    /// Ends the link: every stream that is not over is broken.
    pub(crate) fn end(&mut self, reason: &Arc<str>) {
        if self.phase == Phase::Ended {
            return;
        }
        let written = self.out.written();
        for (_, slot) in &mut self.slots {
            slot.break_off(Broken::Link { reason: reason.clone(), unseen: slot.opened_to > written });
        }
        self.phase = Phase::Ended;
        self.out.clear();
        self.settling.wake();
    }

    /// As [`State::end`], because this side wants it.
    pub(crate) fn give_up(&mut self) {
        self.end(&"the link was given up".into());
    }

    /// Breaks off every stream by this code, tells the peer why, and takes no more.
    pub(crate) fn cut(&mut self, code: Code, reason: &str) {
        if self.phase == Phase::Ended {
            return;
        }
        let told: Arc<str> = reason.into();
        for (_, slot) in &mut self.slots {
            slot.break_off(Broken::Reset { code, reason: told.clone() });
        }
        self.leave();
        self.put_reset(0, code, reason);
        self.wake_driver();
    }

    /// Breaks the streams above `last`, which the peer did not take.
    pub(crate) fn break_unseen(&mut self, last: u32, broken: &Broken) {
        for (_, slot) in &mut self.slots {
            if slot.id > last {
                slot.break_off(broken.clone());
            }
        }
    }

    /// Tells whether the peer may close the connection: no stream needs it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.slots.iter().all(|(_, slot)| slot.is_over())
    }

    /// Gives back memory that is not in use.
    pub(crate) fn release(&mut self) {
        self.out.release();
        if self.arrivals.is_empty() {
            self.arrivals = VecDeque::new();
        }
        if self.slots.is_empty() {
            self.slots = Slab::new();
            self.places = HashMap::default();
        }
    }

    /// Tells whether nobody has used it for a while: until then the next one needs what the last one did.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.slots.is_empty() && self.now.saturating_duration_since(self.idle_since) >= REST_TIME
    }

    /// Returns how much memory its buffers have, in bytes.
    pub(crate) fn buffered(&self) -> usize {
        self.held + self.out.capacity() + self.unread
    }

    // --- the link ---------------------------------------------------------------------------------------------------

    pub(crate) fn streams(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        let streams_max = match &self.dialect {
            Dialect::Http2(http2) if self.side == Side::Dialled => {
                self.streams_max.min(http2.peer.streams_max as usize)
            }
            Dialect::Mesh | Dialect::Http2(_) => self.streams_max,
        };
        self.slots.len() >= streams_max
    }

    /// Returns until when a head of HTTP/2 is to end that has begun; None while there is none.
    pub(crate) fn head_due(&self) -> Option<Instant> {
        match &self.dialect {
            Dialect::Mesh => None,
            Dialect::Http2(http2) => http2.begun.map(|begun| begun + self.head_time),
        }
    }

    /// Waits until the peer has said how it wishes to be spoken to, or is gone.
    pub(crate) fn poll_settled(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.has_settled() || self.phase == Phase::Ended {
            return Poll::Ready(());
        }
        self.settling.wait(cx);
        Poll::Pending
    }

    /// Tells whether the peer has begun to speak.
    pub(crate) fn has_settled(&self) -> bool {
        match &self.dialect {
            Dialect::Mesh => true,
            Dialect::Http2(http2) => http2.has_settled,
        }
    }

    pub(crate) fn takes_protocols(&self) -> bool {
        matches!(&self.dialect, Dialect::Http2(http2) if http2.peer.takes_protocols)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open && self.next().is_some()
    }

    /// Returns the number of the next stream that this side opens; None when there are no more.
    fn next(&self) -> Option<u32> {
        match &self.dialect {
            Dialect::Mesh => self.last.checked_add(1),
            // Odd ones are opened by clients (RFC 9113 §5.1.1).
            Dialect::Http2(_) if self.last == 0 => Some(1),
            Dialect::Http2(_) => Some(self.last + 2).filter(|next| *next <= WINDOW_MAX),
        }
    }

    /// Returns the window that a new stream begins with towards the peer.
    fn sending(&self) -> Sending {
        match &self.dialect {
            Dialect::Mesh => Sending::default(),
            Dialect::Http2(http2) => Sending::new(http2.peer.window),
        }
    }

    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.slots.is_empty().then_some(self.idle_since)
    }

    pub(crate) fn open(&mut self, request: Option<(&RequestHead, bool)>) -> Result<usize, Refusal> {
        let next = self.next().filter(|_| self.is_open() && self.side == Side::Dialled);
        let Some(id) = next else { return Err(Refusal::Closed) };
        if self.is_full() || self.out.queued() >= OUT_BYTES_FULL {
            return Err(Refusal::Full);
        }
        let (carried, has_sent_end) = if let Some((request, end)) = request {
            self.put_request(id, request, end).map_err(|_| Refusal::Unsayable)?;
            (Carried::Http, end)
        } else {
            self.put_open_tcp(id);
            (Carried::Tcp, false)
        };
        self.last = id;
        let mut slot = Slot::new(id, carried, self.sending(), self.now);
        slot.asks_head = request.is_some_and(|(request, _)| request.method == Method::HEAD);
        slot.opened_to = self.out.position();
        slot.has_sent_end = has_sent_end;
        // TCP has no head to wait for.
        slot.has_head = carried == Carried::Tcp;
        let place = self.insert(slot);
        self.widen(place);
        self.wake_driver();
        Ok(place)
    }

    /// Grants a new stream what others came to need.
    fn widen(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        let credit = self.habit.begin(&mut slot.receiving, &mut self.budget);
        if credit > 0 {
            let id = slot.id;
            self.put_credit(id, credit);
            self.wake_driver();
        }
    }

    /// Lets nobody open streams any more, and tells the peer if it is the one who does. A caller of HTTP/2 may still do so
    /// until it has heard that: not every one tries again what was under way.
    pub(crate) fn leave(&mut self) {
        if self.phase != Phase::Open {
            return;
        }
        if let Dialect::Http2(http2) = &mut self.dialect
            && self.side == Side::Accepted
        {
            http2.say_goodbye(&mut self.out);
            self.wake_driver();
        } else {
            self.leave_now();
        }
    }

    /// As [`State::leave`], whatever is on its way.
    pub(crate) fn leave_now(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving;
            self.put_away();
            self.wake_driver();
        }
    }

    /// Takes in a stream that the peer opened.
    pub(crate) fn arrive(&mut self, id: u32, opening: Opening, due: Option<u64>) {
        let (carried, end) = match &opening {
            Opening::Http(_, end) | Opening::Refused { end, .. } => (Carried::Http, *end),
            Opening::Tcp => (Carried::Tcp, false),
        };
        let mut slot = Slot::new(id, carried, self.sending(), self.now);
        slot.due = due;
        slot.has_head = true;
        slot.has_sent_head = carried == Carried::Tcp;
        if end {
            slot.inbox.put_end(None);
        }
        let place = self.insert(slot);
        if !end {
            self.widen(place);
        }
        if self.arrivals.capacity() == 0 {
            self.arrivals.reserve_exact(1);
        }
        self.arrivals.push_back((place, opening));
    }

    /// Takes the next stream that the peer opened and did not cancel since; None when there is none.
    pub(crate) fn arrival(&mut self) -> Option<(usize, Opening)> {
        while let Some((place, opening)) = self.arrivals.pop_front() {
            if self.slots[place].broken.is_none() {
                return Some((place, opening));
            }
            self.remove(place);
        }
        None
    }

    /// Refuses the streams that the peer opened and nobody has taken.
    pub(crate) fn refuse_arrivals(&mut self) {
        while let Some((place, _)) = self.arrivals.pop_front() {
            self.reset(place, Code::Refused, "going away");
            self.remove(place);
        }
    }

    // --- streams ----------------------------------------------------------------------------------------------------

    pub(crate) fn slot(&mut self, place: usize) -> &mut Slot {
        &mut self.slots[place]
    }

    /// Makes the windows of all streams larger or smaller.
    pub(crate) fn shift_windows(&mut self, bytes: i64) -> Result<(), Violation> {
        for (_, slot) in &mut self.slots {
            slot.sending.shift(bytes)?;
            slot.sender.wake();
        }
        Ok(())
    }

    /// Returns the stream of a number together with all else; None when it is gone or never was.
    pub(crate) fn find(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(*self.places.get(&id)?)
    }

    /// Resets a stream, unless it is over.
    pub(crate) fn reset(&mut self, place: usize, code: Code, reason: &str) {
        let slot = &mut self.slots[place];
        if slot.is_over() {
            return;
        }
        slot.break_off(Broken::Reset { code, reason: reason.into() });
        let id = slot.id;
        self.put_reset(id, code, reason);
        self.wake_driver();
    }

    /// Lets go of the sending half: a message that was not finished is cancelled.
    pub(crate) fn drop_sender(&mut self, place: usize) {
        if !self.slots[place].has_sent_end {
            self.reset(place, Code::Cancelled, "");
        }
        self.drop_half(place);
    }

    /// Lets go of the receiving half: what comes is dropped, and not asked for any more.
    pub(crate) fn drop_receiver(&mut self, place: usize) {
        let inbox = &mut self.slots[place].inbox;
        self.unread -= inbox.bytes();
        inbox.close();
        self.drop_half(place);
    }

    fn drop_half(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        slot.halves -= 1;
        if slot.halves == 0 {
            // Over in any case if this side did not say all; if it did, the peer need not.
            self.reset(place, Code::Enough, "");
            self.remove(place);
        }
    }

    fn insert(&mut self, slot: Slot) -> usize {
        let id = slot.id;
        // Where TCP connections have links of their own, there is never another one.
        if self.slots.capacity() == 0 {
            self.slots = Slab::with_capacity(1);
        }
        let place = self.slots.insert(slot);
        self.places.insert(id, place);
        place
    }

    fn remove(&mut self, place: usize) {
        let slot = self.slots.remove(place);
        self.places.remove(&slot.id);
        self.unread -= slot.inbox.bytes();
        self.budget += slot.receiving.growth();
        self.habit.learn(&slot.receiving);
        if self.slots.is_empty() {
            self.idle_since = self.now;
            if self.phase != Phase::Open {
                self.wake_driver();
            }
        }
    }
}
