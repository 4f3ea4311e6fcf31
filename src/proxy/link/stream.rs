//! One stream of a link, in two halves that may be used side by side.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};

use crate::logic::http::fields::Fields;
use crate::logic::http::head::ResponseHead;
use crate::logic::link::frame::{Code, DATA_BYTES_MAX, Kind};
use crate::logic::link::head;
use crate::net::clock;
use crate::proxy::link::error::Broken;
use crate::proxy::link::inbox::Event;
use crate::proxy::link::outbox::OUT_BYTES_FULL;
use crate::proxy::link::slot::{Carried, Side, Slot};
use crate::proxy::link::state::{Dialect, Shared, State};

/// A stream of a link: one HTTP exchange or one TCP connection.
///
/// Dropping it before both directions have ended resets it: [`Code::Cancelled`], or [`Code::Enough`] when this side has
/// finished and only the peer has not.
pub struct Stream {
    sender: Sender,
    receiver: Receiver,
}

/// The half of a stream that sends. Dropping it unfinished resets the stream.
pub struct Sender {
    shared: Shared,
    place: usize,
}

/// The half of a stream that receives. What comes after it was dropped is thrown away; the stream goes on until the sender
/// is dropped too.
pub struct Receiver {
    shared: Shared,
    place: usize,
}

impl Stream {
    pub(crate) fn new(shared: &Shared, place: usize) -> Self {
        let (sender, receiver) = (shared.clone(), shared.clone());
        Self { sender: Sender { shared: sender, place }, receiver: Receiver { shared: receiver, place } }
    }

    /// Takes it apart.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Returns both halves.
    pub fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// See [`Sender::head`].
    pub fn head(&mut self, head: &ResponseHead, end: bool) -> Result<(), Broken> {
        self.sender.head(head, end)
    }

    /// See [`Sender::data`].
    pub async fn data(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.sender.data(bytes).await
    }

    /// See [`Sender::finish`].
    pub fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        self.sender.finish(trailers)
    }

    /// See [`Sender::reset`].
    pub fn reset(self, code: Code, reason: &str) {
        self.sender.shared.borrow_mut().reset(self.sender.place, code, reason);
    }

    /// See [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<Event, Broken> {
        self.receiver.recv().await
    }

    /// See [`Receiver::broken`].
    pub async fn broken(&mut self) -> Broken {
        self.receiver.broken().await
    }
}

impl Sender {
    /// Sends the head of a response; with `end`, nothing follows it. Interim heads may come before the final one; they are
    /// dropped when the peer reads too slowly.
    ///
    /// # Errors
    /// When the stream is broken; a head that is too large breaks it.
    pub fn head(&mut self, response: &ResponseHead, end: bool) -> Result<(), Broken> {
        let mut state = self.shared.borrow_mut();
        let id = state.writable(self.place, Kind::Head)?;
        if response.is_interim() && state.out.queued() >= OUT_BYTES_FULL {
            return Ok(());
        }
        let written = state.put_response(id, response, end);
        state.slot(self.place).has_sent_head |= !response.is_interim();
        state.after_head(self.place, written, end)
    }

    /// Sends bytes of the body: waits for the peer to grant them, and for room on the link. May be dropped while it waits:
    /// then a part of them may have been sent.
    ///
    /// # Errors
    /// When the stream is broken.
    pub async fn data(&mut self, mut bytes: Bytes) -> Result<(), Broken> {
        poll_fn(|cx| self.poll_data(cx, &mut bytes, false)).await
    }

    /// Sends bytes of the body and takes what was sent off them; ready when all is. With `end` they end the message, unless
    /// there are none.
    pub fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
        end: bool,
    ) -> Poll<Result<(), Broken>> {
        let mut state = self.shared.borrow_mut();
        while !bytes.is_empty() {
            let room = ready!(state.poll_room(self.place, cx))?;
            let count = room.min(bytes.len());
            let last = end && count == bytes.len();
            let slot = state.slot(self.place);
            slot.has_sent_end |= last;
            let id = slot.id;
            state.put_data(id, &bytes[..count], last);
            state.sent(self.place, count);
            bytes.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the message, with trailer fields if there are some. What was sent before may still be on its way.
    ///
    /// # Errors
    /// When the stream is broken; trailers that are too large break it.
    pub fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        let mut state = self.shared.borrow_mut();
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        let kind = if trailers.is_some() { Kind::Trailers } else { Kind::Data };
        let id = state.writable(self.place, kind)?;
        let written = if let Some(trailers) = trailers {
            state.put_trailers(id, trailers)
        } else {
            state.put_data(id, &[], true);
            Ok(())
        };
        state.after_head(self.place, written, true)
    }

    /// Tells the peer that the stream is over for both directions, and why. Does nothing when it is already.
    pub fn reset(self, code: Code, reason: &str) {
        self.shared.borrow_mut().reset(self.place, code, reason);
    }

    /// Waits until the stream is broken: for whoever waits for something else and would not notice.
    pub async fn broken(&mut self) -> Broken {
        poll_fn(|cx| self.poll_broken(cx)).await
    }

    /// See [`Sender::broken`].
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        poll_broken(self.shared.borrow_mut().slot(self.place), cx, true)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.borrow_mut().drop_sender(self.place);
    }
}

impl Receiver {
    /// Waits for what comes next. Taking bytes grants the peer new ones. After the end it returns [`Event::End`] again.
    /// May be dropped while it waits.
    ///
    /// # Errors
    /// When the stream is broken, and all that had arrived was taken.
    pub async fn recv(&mut self) -> Result<Event, Broken> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// See [`Receiver::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Broken>> {
        let mut state = self.shared.borrow_mut();
        let slot = state.slot(self.place);
        if let Some(event) = slot.inbox.take() {
            if let Event::Data(piece) = &event {
                state.took(self.place, piece.len());
            }
            return Poll::Ready(Ok(event));
        }
        if let Some(broken) = &slot.broken {
            return Poll::Ready(Err(broken.clone()));
        }
        slot.receiver.wait(cx);
        Poll::Pending
    }

    /// Looks at a body of which all has arrived, with trailers, and nothing was taken: how it begins, up to where its first
    /// piece ends, how many bytes it has, and its trailers. Returns `None` for any other.
    pub fn look<T>(&self, look: impl FnOnce(&[u8], usize, &Fields) -> Option<T>) -> Option<T> {
        let mut state = self.shared.borrow_mut();
        let inbox = &state.slot(self.place).inbox;
        look(inbox.begin(), inbox.bytes(), inbox.trailers()?)
    }

    /// Waits until the stream is broken, even while bytes wait to be taken: a handler that waits for its service notices at
    /// once that nobody wants the answer.
    pub async fn broken(&mut self) -> Broken {
        poll_fn(|cx| self.poll_broken(cx)).await
    }

    /// See [`Receiver::broken`].
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        poll_broken(self.shared.borrow_mut().slot(self.place), cx, false)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.borrow_mut().drop_receiver(self.place);
    }
}

fn poll_broken(slot: &mut Slot, cx: &Context<'_>, is_sender: bool) -> Poll<Broken> {
    if let Some(broken) = &slot.broken {
        return Poll::Ready(broken.clone());
    }
    let waiter = if is_sender { &mut slot.sender } else { &mut slot.receiver };
    waiter.wait(cx);
    Poll::Pending
}

impl State {
    /// Returns the stream's number if a frame of this kind may be sent on it now.
    ///
    /// The peer would end the whole link for a frame out of order; here, only the stream of whoever sent it ends.
    fn writable(&mut self, place: usize, kind: Kind) -> Result<u32, Broken> {
        let side = self.side;
        let slot = self.slot(place);
        if let Some(broken) = &slot.broken {
            return Err(broken.clone());
        }
        let is_in_order = if kind == Kind::Head {
            side == Side::Accepted && !slot.has_sent_head
        } else {
            slot.has_sent_head && (kind == Kind::Data || slot.carried == Carried::Http)
        };
        if is_in_order && !slot.has_sent_end {
            return Ok(slot.id);
        }
        let reason = "a frame out of order";
        debug_assert!(false, "{kind:?}: {reason}");
        self.reset(place, Code::Internal, reason);
        Err(Broken::Reset { code: Code::Internal, reason: reason.into() })
    }

    /// Counts a head or the end as sent, or breaks the stream when it could not be written.
    fn after_head(
        &mut self,
        place: usize,
        written: Result<(), head::Error>,
        end: bool,
    ) -> Result<(), Broken> {
        if let Err(error) = written {
            let reason = error.to_string();
            self.reset(place, Code::TooLarge, &reason);
            return Err(Broken::Reset { code: Code::TooLarge, reason: reason.into() });
        }
        self.slot(place).has_sent_end |= end;
        self.wake_driver();
        Ok(())
    }

    /// Counts a frame of DATA as sent: whoever had a turn has used it.
    fn sent(&mut self, place: usize, bytes: usize) {
        let slot = self.slot(place);
        slot.sending.sent(bytes);
        slot.has_turn = false;
        if let Dialect::Http2(http2) = &mut self.dialect {
            http2.sending.sent(bytes);
        }
        self.wake_driver();
    }

    fn poll_room(&mut self, place: usize, cx: &Context<'_>) -> Poll<Result<usize, Broken>> {
        self.writable(place, Kind::Data)?;
        if let Some(room) = self.room_now(place) {
            return Poll::Ready(Ok(room));
        }
        let slot = self.slot(place);
        slot.sender.wait(cx);
        // Without a window there is nothing to wait for in line.
        if slot.sending.left() > 0 && !slot.is_queued {
            slot.is_queued = true;
            let (id, had_turn) = (slot.id, slot.has_turn);
            slot.has_turn = false;
            self.out.wait(id, had_turn);
        }
        Poll::Pending
    }

    /// Returns how many bytes may be sent now: not before those who wait, unless it is the stream's turn.
    fn room_now(&mut self, place: usize) -> Option<usize> {
        let window = self.window();
        let is_free = self.out.has_room();
        let is_awaited = self.out.is_awaited();
        let slot = self.slot(place);
        let may = is_free && (slot.has_turn || !is_awaited);
        let room = slot.sending.left().min(DATA_BYTES_MAX).min(window);
        (may && room > 0).then_some(room)
    }

    /// Counts bytes as taken by the reader, and grants new ones when it is time.
    fn took(&mut self, place: usize, bytes: usize) {
        self.unread -= bytes;
        let slot = self.slot(place);
        if !slot.receiving.taken(bytes) || slot.inbox.has_ended() || slot.broken.is_some() {
            return;
        }
        let now = clock::now();
        let id = slot.id;
        let (round_trip, mut budget) = (self.round_trip(), self.budget);
        let credit = self.slot(place).receiving.credit(now, round_trip, &mut budget);
        self.budget = budget;
        self.put_credit(id, credit);
        if self.pulse.is_stale(now) {
            self.put_ping(now);
        }
        self.wake_driver();
    }
}
