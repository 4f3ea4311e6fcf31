//! What a proxy remembers of calls that have ended, for those who ask for one by its name, and who watches them end.
//!
//! Only what has a name is remembered: the caller said `x-request-id`, or was told one with an answer that a proxy made.
//! Each worker remembers for itself the last [`REMEMBERED_MAX`] of those that failed, were refused or would have been, were
//! tried again, or were slow; and, apart from them, so that ordinary traffic drives none of them out, the last
//! [`REMEMBERED_MAX`] of those that went well. A call that is not remembered and not watched costs one look at a number.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::model::call::{CallFilter, CallRecord, Weight};

/// Calls that one worker remembers of each of two sorts: about 200 KiB each in all, and 1 MiB where every path is as long as
/// is kept.
pub const REMEMBERED_MAX: usize = 512;
/// What is kept of a path, bytes; what is longer ends with `…`.
pub const PATH_BYTES_MAX: usize = 1_024;
/// Who watches at a time.
pub const TAPS_MAX: usize = 8;
/// Calls that wait for one who watches; further ones are not shown, and counted.
const WAITING_MAX: usize = 1_024;
/// Calls of one name that are told: a name that is used for everything names nothing.
pub const FOUND_MAX: usize = 64;

/// What all workers of a proxy remember, and who watches.
#[derive(Debug, Default)]
pub struct Recent {
    workers: Mutex<Vec<Arc<Mutex<Memory>>>>,
    taps: Arc<Taps>,
}

#[derive(Debug, Default)]
struct Taps {
    /// How many there are: the one look that calls cost which nobody watches.
    count: AtomicUsize,
    list: ArcSwap<Vec<Arc<Watcher>>>,
}

#[derive(Debug, Default)]
struct Memory {
    notable: VecDeque<CallRecord>,
    named: VecDeque<CallRecord>,
    /// When the newest one began that was let go; 0 while all are here.
    forgotten_ms: u64,
}

/// One worker's way into it.
#[derive(Debug)]
pub struct Recorder {
    memory: Arc<Mutex<Memory>>,
    taps: Arc<Taps>,
}

/// One who watches, as workers see it.
#[derive(Debug)]
struct Watcher {
    filter: CallFilter,
    sender: mpsc::Sender<CallRecord>,
    missed: AtomicU64,
    pace: Mutex<Pace>,
}

/// How many calls a second are shown.
#[derive(Debug)]
struct Pace {
    per_second: u32,
    second: u64,
    shown: u32,
}

/// One who watches. Dropping it ends that.
#[derive(Debug)]
pub struct Tap {
    taps: Arc<Taps>,
    watcher: Arc<Watcher>,
    calls: mpsc::Receiver<CallRecord>,
}

/// What is remembered under one name.
#[derive(Debug, Default)]
pub struct Found {
    /// The calls, the first first, at most [`FOUND_MAX`].
    pub calls: Vec<CallRecord>,
    /// Calls that began before this have been forgotten, Unix milliseconds; 0 when none was.
    pub forgotten_ms: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recent {
    /// Makes the way into it for one more worker.
    pub fn recorder(&self) -> Recorder {
        let memory = Arc::new(Mutex::new(Memory::default()));
        lock(&self.workers).push(memory.clone());
        Recorder { memory, taps: self.taps.clone() }
    }

    /// Returns what is remembered of the calls with a name.
    pub fn find(&self, request_id: &str) -> Found {
        let mut found = Found::default();
        for memory in lock(&self.workers).iter() {
            let memory = lock(memory);
            let all = memory.notable.iter().chain(&memory.named);
            let named = all.filter(|call| call.request_id.as_deref() == Some(request_id));
            found.calls.extend(named.cloned());
            found.forgotten_ms = found.forgotten_ms.max(memory.forgotten_ms);
        }
        found.calls.sort_by_key(|call| call.at_ms);
        found.calls.truncate(FOUND_MAX);
        found
    }

    /// Begins to watch the calls that a filter wants, `per_second` at most; `None` when enough others do.
    pub fn tap(&self, filter: CallFilter, per_second: u32) -> Option<Tap> {
        let (sender, calls) = mpsc::channel(WAITING_MAX);
        let pace = Mutex::new(Pace { per_second, second: 0, shown: 0 });
        let watcher = Arc::new(Watcher { filter, sender, missed: AtomicU64::new(0), pace });
        let mut entered = false;
        self.taps.change(|list| {
            entered = list.len() < TAPS_MAX;
            if entered {
                list.push(watcher.clone());
            }
        });
        entered.then(|| Tap { taps: self.taps.clone(), watcher, calls })
    }
}

impl Taps {
    fn change(&self, mut change: impl FnMut(&mut Vec<Arc<Watcher>>)) {
        self.list.rcu(|list| {
            let mut list = list.as_ref().clone();
            change(&mut list);
            list
        });
        self.count.store(self.list.load().len(), Ordering::Relaxed);
    }
}

impl Recorder {
    /// Returns whether somebody watches.
    pub fn is_watched(&self) -> bool {
        self.taps.count.load(Ordering::Relaxed) > 0
    }

    /// Shows a call to those who watch, and remembers it, if it is worth that.
    pub fn record(&self, mut call: CallRecord) {
        shorten(&mut call.path);
        if self.is_watched() {
            for watcher in self.taps.list.load().iter() {
                watcher.show(&call);
            }
        }
        let weight = call.weight();
        if weight == Weight::Ordinary {
            return;
        }
        let mut memory = lock(&self.memory);
        let Memory { notable, named, forgotten_ms } = &mut *memory;
        let kept = if weight == Weight::Notable { notable } else { named };
        if kept.len() >= REMEMBERED_MAX
            && let Some(first) = kept.pop_front()
        {
            *forgotten_ms = (*forgotten_ms).max(first.at_ms);
        }
        kept.push_back(call);
    }
}

fn shorten(path: &mut String) {
    if path.len() > PATH_BYTES_MAX {
        path.truncate(path.floor_char_boundary(PATH_BYTES_MAX));
        path.push('…');
    }
}

impl Watcher {
    fn show(&self, call: &CallRecord) {
        if !self.filter.wants(call) {
            return;
        }
        let ended_ms = call.at_ms.saturating_add(call.duration_us / 1_000);
        let shown = lock(&self.pace).admit(ended_ms / 1_000) && self.sender.try_send(call.clone()).is_ok();
        if !shown {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Pace {
    fn admit(&mut self, second: u64) -> bool {
        if self.second != second {
            (self.second, self.shown) = (second, 0);
        }
        self.shown = self.shown.saturating_add(1);
        self.shown <= self.per_second
    }
}

impl Tap {
    /// Waits for the next calls, adds `most` of them at most, and returns how many it added.
    pub async fn next(&mut self, calls: &mut Vec<CallRecord>, most: usize) -> usize {
        self.calls.recv_many(calls, most).await
    }

    /// Returns how many calls were not shown since this was asked last, as there were too many.
    pub fn missed(&self) -> u64 {
        self.watcher.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.taps.change(|list| list.retain(|one| !Arc::ptr_eq(one, &self.watcher)));
    }
}
