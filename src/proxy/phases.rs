//! Connections that go on until the worker drains, or cuts what is left: one list for a worker, so that none of them needs a
//! subscription of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::net::drain::Phase;

/// How far the end of one worker has come, and who waits for it.
#[derive(Debug)]
pub(crate) struct Phases {
    reached: Cell<Phase>,
    waiting: RefCell<slab::Slab<Option<Waker>>>,
}

/// One connection's place in the list, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    phases: &'p Phases,
    key: usize,
}

impl Default for Phases {
    fn default() -> Self {
        Self { reached: Cell::new(Phase::Serving), waiting: RefCell::default() }
    }
}

impl Phases {
    /// Says that this phase has begun: everyone who waits is woken.
    pub(crate) fn advance(&self, phase: Phase) {
        self.reached.set(phase);
        for (_, waker) in self.waiting.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Enters a connection.
    pub(crate) fn enter(&self) -> Place<'_> {
        Place { phases: self, key: self.waiting.borrow_mut().insert(None) }
    }
}

impl Place<'_> {
    /// Waits until this phase has begun.
    pub(crate) fn reached(&self, phase: Phase) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            if self.phases.reached.get() >= phase {
                return Poll::Ready(());
            }
            if let Some(waker) = self.phases.waiting.borrow_mut().get_mut(self.key)
                && !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.phases.waiting.borrow_mut().try_remove(self.key);
    }
}
