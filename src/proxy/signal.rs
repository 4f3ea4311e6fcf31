//! A value of one worker that many wait for to change: the tables in force, how far its end has come. One list for all of
//! them, so that none needs a subscription of its own: most are over before anything changes.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// What is in force, and who waits for something else.
pub(crate) struct Signal<T> {
    value: Cell<T>,
    waiting: RefCell<slab::Slab<Option<Waker>>>,
}

/// One place in the list, given up when dropped.
pub(crate) struct Place<'s, T> {
    signal: &'s Signal<T>,
    key: usize,
}

impl<T: Copy> Signal<T> {
    /// Makes one for which nobody waits.
    pub(crate) fn new(value: T) -> Self {
        Self { value: Cell::new(value), waiting: RefCell::default() }
    }

    /// Puts another value in force: everyone who waits is woken.
    pub(crate) fn set(&self, value: T) {
        self.value.set(value);
        for (_, waker) in self.waiting.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Enters somebody who is going to wait.
    pub(crate) fn enter(&self) -> Place<'_, T> {
        Place { signal: self, key: self.waiting.borrow_mut().insert(None) }
    }
}

impl<T: Copy> Place<'_, T> {
    /// Waits for a value that is `wanted`, and returns it.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, wanted: impl FnOnce(T) -> bool) -> Poll<T> {
        let value = self.signal.value.get();
        if wanted(value) {
            return Poll::Ready(value);
        }
        if let Some(waker) = self.signal.waiting.borrow_mut().get_mut(self.key)
            && !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<T: Copy + PartialOrd> Place<'_, T> {
    /// Waits for a value that is no less than this one.
    pub(crate) fn reached(&self, least: T) -> impl Future<Output = ()> {
        poll_fn(move |cx| self.poll(cx, |value| value >= least).map(|_| ()))
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.signal.waiting.borrow_mut().try_remove(self.key);
    }
}
