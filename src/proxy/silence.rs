//! Exchanges and connections on which nothing moves any more: they are woken when they have been silent for too long. One
//! list for a worker, looked through each second, so that none of them needs a timer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What one worker listens to.
#[derive(Debug, Default)]
pub(crate) struct Silences {
    entries: RefCell<slab::Slab<Entry>>,
}

#[derive(Debug)]
struct Entry {
    limit: Duration,
    since: Instant,
    moved: u64,
    /// Whether something moved since the list was looked through.
    lively: bool,
    waker: Option<Waker>,
    over: bool,
}

/// One place in the list, given up when dropped.
#[derive(Debug)]
pub(crate) struct Silence {
    silences: Rc<Silences>,
    key: usize,
}

impl Silences {
    /// Begins to listen: silence for `limit` is too long.
    pub(crate) fn enter(self: &Rc<Self>, limit: Duration, now: Instant) -> Silence {
        let entry = Entry { limit, since: now, moved: 0, lively: false, waker: None, over: false };
        Silence { key: self.entries.borrow_mut().insert(entry), silences: self.clone() }
    }

    /// Ends what was silent for too long; to be called each second.
    pub(crate) fn sweep(&self, now: Instant) {
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if std::mem::take(&mut entry.lively) {
                entry.since = now;
            } else if now.saturating_duration_since(entry.since) >= entry.limit {
                entry.over = true;
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Silence {
    /// Waits until it was silent for too long. `moved` is how much has moved so far, as whoever moves it knows: to be asked
    /// after each move.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        let mut entries = self.silences.entries.borrow_mut();
        let Some(entry) = entries.get_mut(self.key) else { return Poll::Pending };
        if entry.over {
            return Poll::Ready(());
        }
        if entry.moved != moved {
            entry.moved = moved;
            entry.lively = true;
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Waits until it was silent for too long, if that is ever too long; in a `select!`, after whatever moves.
pub(crate) async fn over(silence: Option<&Silence>, moved: impl Fn() -> u64) {
    match silence {
        Some(silence) => poll_fn(|cx| silence.poll_over(cx, moved())).await,
        None => std::future::pending().await,
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.silences.entries.borrow_mut().try_remove(self.key);
    }
}
