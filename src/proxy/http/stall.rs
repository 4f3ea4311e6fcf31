//! Exchanges in which nothing moves any more: one list for a worker, looked at now and then, so that no request needs a timer
//! of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::model::view::EdgeProtocol;
use crate::net::clock;
use crate::net::patience::Patience;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::observe::Observation;

/// The exchanges of one worker.
pub(crate) struct Stalls {
    patience: Patience,
    under_way: RefCell<Slab<Entry>>,
}

struct Entry {
    observation: Rc<Observation>,
    /// What had moved, and since when nothing more has.
    moved: u64,
    since: Instant,
    /// Whether nothing can happen before the caller has sent more of its request.
    awaits_caller: bool,
    /// How long is too long; `None` for never.
    limit: Option<Duration>,
    over: bool,
    waker: Option<Waker>,
}

/// One exchange's place in the list.
pub(crate) struct Turn<'s> {
    stalls: &'s Stalls,
    key: usize,
}

impl Stalls {
    /// Makes an empty list.
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, under_way: RefCell::default() }
    }

    /// Enters an exchange; nothing has moved in it since then, and for `limit` it need not.
    pub(crate) fn enter(
        &self,
        observation: &Rc<Observation>,
        since: Instant,
        limit: Option<Duration>,
    ) -> Turn<'_> {
        let entry = Entry {
            observation: observation.clone(),
            moved: observation.moved(),
            since,
            awaits_caller: false,
            limit,
            over: false,
            waker: None,
        };
        Turn { stalls: self, key: self.under_way.borrow_mut().insert(entry) }
    }

    /// Gives up those in which nothing has moved for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        for (_, entry) in self.under_way.borrow_mut().iter_mut() {
            let moved = entry.observation.moved();
            if moved != entry.moved {
                (entry.moved, entry.since) = (moved, now);
                continue;
            }
            let limit = if entry.awaits_caller { Some(self.patience.body) } else { entry.limit };
            if limit.is_some_and(|limit| now.saturating_duration_since(entry.since) >= limit) {
                entry.over = true;
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Turn<'_> {
    /// Waits until the exchange is to be given up, and says why. `awaits_caller` says that it waits for more of the request,
    /// and that no answer has begun.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>, awaits_caller: bool) -> Poll<Failed> {
        let mut under_way = self.stalls.under_way.borrow_mut();
        let entry = &mut under_way[self.key];
        if entry.over {
            let (failure, time) = if entry.awaits_caller {
                (Failure::CallerStalled, self.stalls.patience.body)
            } else {
                (Failure::Stalled, entry.limit.unwrap_or_default())
            };
            return Poll::Ready(Failed::new(failure, format!("nothing in {} s", time.as_secs_f32())));
        }
        // A stream of gRPC may wait for its caller as long as it likes.
        entry.awaits_caller = awaits_caller && entry.observation.protocol != EdgeProtocol::Grpc;
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Says that something has moved that is no part of a body.
    pub(crate) fn stir(&self) {
        let entry = &mut self.stalls.under_way.borrow_mut()[self.key];
        (entry.since, entry.over) = (clock::now(), false);
    }

    /// Makes another time the one that is too long; `None` for never.
    pub(crate) fn limit(&self, limit: Option<Duration>) {
        self.stalls.under_way.borrow_mut()[self.key].limit = limit;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.stalls.under_way.borrow_mut().try_remove(self.key);
    }
}
