//! Connections of local callers that wait for their next request: they are woken when they have waited too long, and when
//! the proxy drains. One list for a worker, so that a waiting connection needs neither a timer nor a subscription.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::net::clock;

/// The waiting connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    waiting: RefCell<slab::Slab<Waiting>>,
    draining: Cell<bool>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    waker: Option<Waker>,
    over: bool,
}

/// One connection's place in the list, from when it begins to wait until it stops.
#[derive(Debug)]
pub(crate) struct Place<'r> {
    rest: &'r Rest,
    key: usize,
}

impl Rest {
    /// Enters a connection that begins to wait.
    pub(crate) fn enter(&self) -> Place<'_> {
        let waiting = Waiting { since: clock::now(), waker: None, over: false };
        Place { rest: self, key: self.waiting.borrow_mut().insert(waiting) }
    }

    /// Returns whether connections are to be closed after what they are at.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Ends the wait of those that have waited for `patience`.
    pub(crate) fn sweep(&self, now: Instant, patience: Duration) {
        for (_, waiting) in self.waiting.borrow_mut().iter_mut() {
            if now.saturating_duration_since(waiting.since) >= patience {
                waiting.end();
            }
        }
    }

    /// Ends every wait, now and from now on.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        for (_, waiting) in self.waiting.borrow_mut().iter_mut() {
            waiting.end();
        }
    }
}

impl Waiting {
    fn end(&mut self) {
        self.over = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Place<'_> {
    /// Waits until the wait is to end.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rest.draining.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.rest.waiting.borrow_mut();
        let Some(waiting) = waiting.get_mut(self.key) else { return Poll::Ready(()) };
        if waiting.over {
            return Poll::Ready(());
        }
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.rest.waiting.borrow_mut().try_remove(self.key);
    }
}
