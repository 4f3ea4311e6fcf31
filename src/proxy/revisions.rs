//! Calls that are judged again whenever the policy changes. One list for a worker, so that none of them needs a subscription
//! of its own: most are over before anything changes.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// What one worker knows of the tables in force, and who waits for others.
#[derive(Debug)]
pub(crate) struct Revisions {
    /// The generation of the tables that were heard of last.
    generation: Cell<u64>,
    waiting: RefCell<slab::Slab<Option<Waker>>>,
}

/// One call's place in the list, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place<'r> {
    revisions: &'r Revisions,
    key: usize,
}

impl Revisions {
    /// Makes the list of a worker that begins by the tables of `generation`.
    pub(crate) fn new(generation: u64) -> Self {
        Self { generation: Cell::new(generation), waiting: RefCell::default() }
    }

    /// Says that the tables of `generation` are in force: everyone who waits is woken.
    pub(crate) fn announce(&self, generation: u64) {
        self.generation.set(generation);
        for (_, waker) in self.waiting.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Enters a call.
    pub(crate) fn enter(&self) -> Place<'_> {
        Place { revisions: self, key: self.waiting.borrow_mut().insert(None) }
    }
}

impl Place<'_> {
    /// Waits until other tables are in force than those of generation `known`, and returns theirs.
    pub(crate) fn poll_newer(&self, cx: &mut Context<'_>, known: Option<u64>) -> Poll<u64> {
        let generation = self.revisions.generation.get();
        if known != Some(generation) {
            return Poll::Ready(generation);
        }
        if let Some(waker) = self.revisions.waiting.borrow_mut().get_mut(self.key)
            && !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.revisions.waiting.borrow_mut().try_remove(self.key);
    }
}
