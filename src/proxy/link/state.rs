//! What the driver and the streams of one link share: the streams that are open, and what is to be sent.
//!
//! Everything happens on one thread. A stream that has something to send puts it into the outbox and wakes the driver; the
//! driver puts what arrives into the inbox of a stream and wakes its receiver. Wakers are called while the state is
//! borrowed: they only put a task into a queue.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::logic::http::head::RequestHead;
use crate::logic::link::frame::{Code, Kind, REASON_BYTES_MAX};
use crate::logic::link::head;
use crate::logic::link::pulse::Pulse;
use crate::logic::link::window::{Habit, Receiving, Sending};
use crate::proxy::link::error::{Broken, Refusal};
use crate::proxy::link::inbox::Inbox;
use crate::proxy::link::outbox::{OUT_BYTES_FULL, Outbox};

/// What a link keeps for its next stream it keeps for so long.
const REST_TIME: Duration = Duration::from_secs(1);

pub(crate) type Shared = Rc<RefCell<State>>;

/// Which side of a link this is: the one that dialled opens streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialled,
    Accepted,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    Http,
    Tcp,
}

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// The head of a request, and whether nothing follows it.
    Http(RequestHead, bool),
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

/// One stream, until its handles are dropped.
pub(crate) struct Slot {
    pub(crate) id: u32,
    pub(crate) carried: Carried,
    /// Where the frame that opened it ends in all that was sent; 0 if the peer opened it.
    opened_to: u64,
    pub(crate) sending: Sending,
    /// Whether the final head of a response was sent, or none is to be.
    pub(crate) has_sent_head: bool,
    pub(crate) has_sent_end: bool,
    pub(crate) receiving: Receiving,
    /// Whether the final head of a response has arrived, or none is to come.
    pub(crate) has_head: bool,
    pub(crate) inbox: Inbox,
    pub(crate) broken: Option<Broken>,
    /// Whether it waits for a turn to send, and whether it has one.
    pub(crate) is_queued: bool,
    pub(crate) has_turn: bool,
    pub(crate) sender: Waiter,
    pub(crate) receiver: Waiter,
    halves: u8,
}

/// Who waits for something, and stays known: a task that waits again needs no new waker.
#[derive(Default)]
pub(crate) struct Waiter {
    waker: Option<Waker>,
    is_waiting: bool,
}

impl Waiter {
    pub(crate) fn wait(&mut self, cx: &Context<'_>) {
        self.is_waiting = true;
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    pub(crate) fn wake(&mut self) {
        if self.is_waiting {
            self.is_waiting = false;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }
}

impl Slot {
    fn new(id: u32, carried: Carried, now: Instant) -> Self {
        Self {
            id,
            carried,
            opened_to: 0,
            sending: Sending::default(),
            has_sent_head: true,
            has_sent_end: false,
            receiving: Receiving::new(now),
            has_head: false,
            inbox: Inbox::default(),
            broken: None,
            is_queued: false,
            has_turn: false,
            sender: Waiter::default(),
            receiver: Waiter::default(),
            halves: 2,
        }
    }

    /// Tells whether nothing more is sent in either direction.
    pub(crate) fn is_over(&self) -> bool {
        self.broken.is_some() || self.has_sent_end && self.inbox.has_ended()
    }

    /// Breaks it off, unless it is over.
    pub(crate) fn break_off(&mut self, broken: Broken) {
        if !self.is_over() {
            self.broken = Some(broken);
            self.sender.wake();
            self.receiver.wake();
        }
    }
}

pub(crate) struct State {
    pub(crate) side: Side,
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
    arriving: Waiter,
    pub(crate) pulse: Pulse,
    /// What windows may still grow by.
    pub(crate) budget: u64,
    /// What they grew to before.
    habit: Habit,
    /// Bytes in all inboxes.
    pub(crate) unread: usize,
    driver: Waiter,
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
            phase: Phase::Open,
            streams_max,
            slots: Slab::new(),
            places: HashMap::default(),
            last: 0,
            out: Outbox::default(),
            answers: 0,
            arrivals: VecDeque::new(),
            arriving: Waiter::default(),
            pulse: Pulse::new(now),
            budget,
            habit: Habit::default(),
            unread: 0,
            driver: Waiter::default(),
            now,
            idle_since: now,
            held: 0,
        }
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
        let mut turns = self.out.turns();
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
        self.arriving.wake();
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
    pub(crate) fn break_unseen(&mut self, last: u32) {
        let reason: Arc<str> = "the peer is going away".into();
        for (_, slot) in &mut self.slots {
            if slot.id > last {
                slot.break_off(Broken::Link { reason: reason.clone(), unseen: true });
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
        if self.slots.is_empty() {
            self.slots = Slab::new();
            self.places = HashMap::default();
            self.arrivals = VecDeque::new();
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
        self.slots.len() >= self.streams_max
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open && self.last < u32::MAX
    }

    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.slots.is_empty().then_some(self.idle_since)
    }

    pub(crate) fn open(&mut self, request: Option<(&RequestHead, bool)>) -> Result<usize, Refusal> {
        if !self.is_open() || self.side != Side::Dialled {
            return Err(Refusal::Closed);
        }
        if self.is_full() || self.out.queued() >= OUT_BYTES_FULL {
            return Err(Refusal::Full);
        }
        let id = self.last + 1;
        let (carried, has_sent_end) = if let Some((request, end)) = request {
            let write = |bytes: &mut Vec<u8>| head::write_request(request, bytes);
            self.out.put_with((Kind::Open, end, id), write).map_err(|_| Refusal::TooLarge)?;
            (Carried::Http, end)
        } else {
            self.out.put(Kind::OpenTcp, false, id, &[]);
            (Carried::Tcp, false)
        };
        self.last = id;
        let mut slot = Slot::new(id, carried, self.now);
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
            self.out.put(Kind::Credit, false, slot.id, &credit.to_be_bytes());
            self.driver.wake();
        }
    }

    /// Lets nobody open streams any more, and tells the peer if it is the one who does.
    pub(crate) fn leave(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving;
            if self.side == Side::Accepted {
                self.out.put(Kind::Away, false, 0, &self.last.to_be_bytes());
            }
            self.wake_driver();
        }
    }

    /// Takes in a stream that the peer opened.
    pub(crate) fn arrive(&mut self, id: u32, opening: Opening) {
        let (carried, end) = match &opening {
            Opening::Http(_, end) => (Carried::Http, *end),
            Opening::Tcp => (Carried::Tcp, false),
        };
        let mut slot = Slot::new(id, carried, self.now);
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
        self.arriving.wake();
    }

    /// Takes the next stream that the peer opened and did not cancel since; None when there will be none.
    pub(crate) fn poll_arrival(&mut self, cx: &Context<'_>) -> Poll<Option<(usize, Opening)>> {
        while let Some((place, opening)) = self.arrivals.pop_front() {
            if self.slots[place].broken.is_none() {
                return Poll::Ready(Some((place, opening)));
            }
            self.remove(place);
        }
        if self.phase == Phase::Ended {
            return Poll::Ready(None);
        }
        self.arriving.wait(cx);
        Poll::Pending
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

    pub(crate) fn put_reset(&mut self, id: u32, code: Code, reason: &str) {
        let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        let write = |bytes: &mut Vec<u8>| {
            bytes.push(code.number());
            bytes.extend_from_slice(reason);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = self.out.put_with((Kind::Reset, false, id), write);
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
