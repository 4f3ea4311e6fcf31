//! Connections of local callers that wait for their next request: they are woken when they have waited too long, and when
//! the proxy drains. One list for a worker, so that a waiting connection needs neither a timer nor a subscription.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::net::clock;

/// Once the proxy drains, a connection that waits is still served for this long after its last request, and told then that
/// it ends: closed at once, it would lose a request that is on its way.
pub(crate) const LAST_CALL: Duration = Duration::from_secs(1);

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

    /// Ends the wait of those that have waited for `patience`; while the proxy drains, for [`LAST_CALL`].
    pub(crate) fn sweep(&self, now: Instant, patience: Duration) {
        let patience = if self.draining.get() { patience.min(LAST_CALL) } else { patience };
        for (_, waiting) in self.waiting.borrow_mut().iter_mut() {
            if now.saturating_duration_since(waiting.since) >= patience {
                waiting.end();
            }
        }
    }

    /// Tells everyone who waits that the proxy drains, now and from now on.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        for (_, waiting) in self.waiting.borrow_mut().iter_mut() {
            waiting.wake();
        }
    }
}

impl Waiting {
    fn end(&mut self) {
        self.over = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Place<'_> {
    /// Waits until the wait is to end, or the proxy drains: for who can tell the caller so without losing anything.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rest.draining.get() { Poll::Ready(()) } else { self.poll_ended(cx) }
    }

    /// Waits until the wait is to end.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
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
