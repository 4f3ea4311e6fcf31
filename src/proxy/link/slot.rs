//! One stream of a link, as both of its halves and the driver see it.

use std::task::{Context, Waker};
use std::time::Instant;

use crate::logic::link::window::{Receiving, Sending};
use crate::proxy::link::error::Broken;
use crate::proxy::link::inbox::Inbox;

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

/// One stream, until its handles are dropped.
pub(crate) struct Slot {
    pub(crate) id: u32,
    pub(crate) carried: Carried,
    /// Where the frame that opened it ends in all that was sent; 0 if the peer opened it.
    pub(crate) opened_to: u64,
    pub(crate) sending: Sending,
    /// Whether the final head of a response was sent, or none is to be.
    pub(crate) has_sent_head: bool,
    pub(crate) has_sent_end: bool,
    pub(crate) receiving: Receiving,
    /// Whether the final head of a response has arrived, or none is to come.
    pub(crate) has_head: bool,
    /// Whether only the head of a response was asked for.
    pub(crate) asks_head: bool,
    /// How many bytes are yet to come, where HTTP/2 has said so.
    pub(crate) due: Option<u64>,
    pub(crate) inbox: Inbox,
    pub(crate) broken: Option<Broken>,
    /// Whether it waits for a turn to send, and whether it has one.
    pub(crate) is_queued: bool,
    pub(crate) has_turn: bool,
    pub(crate) sender: Waiter,
    pub(crate) receiver: Waiter,
    pub(crate) halves: u8,
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
    pub(crate) fn new(id: u32, carried: Carried, sending: Sending, now: Instant) -> Self {
        Self {
            id,
            carried,
            opened_to: 0,
            sending,
            has_sent_head: true,
            has_sent_end: false,
            receiving: Receiving::new(now),
            has_head: false,
            asks_head: false,
            due: None,
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
