//! Reports in, the merged view out. What happened and what was refused outlives the process: see [`Memory`].

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::logic::metric::hours::Hours;
use crate::logic::metric::report::{EdgeKey, ProxyStatus, Report};
use crate::logic::metric::rollup::{Refused, Rollup};
use crate::logic::metric::total::EdgeTotal;
use crate::logic::metric::view::ViewInput;
use crate::model::name::NodeName;
use crate::model::view::{EVENTS_MAX, EventView, MeshView};
use crate::net::clock;

/// The last things that happened, oldest first; older ones are let go.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<EventView>>);

/// What outlives the process: a row of the store, written now and then, so that the last seconds before a crash are lost.
/// Bounded as the timeline and the refusals are: some tens of KiB as a rule, half a MiB at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What happened, the newest last.
    pub events: Vec<EventView>,
    /// What intentions refused.
    pub refused: Vec<Refused>,
}

/// The row of a [`Memory`].
pub const MEMORY_ROW: &[u8] = b"collected";

/// What all proxies told. Shared: every method takes `&self`.
#[derive(Debug, Default)]
pub struct Collector {
    /// What happened, as reports tell and as others push it.
    pub events: Events,
    rollup: Mutex<Rollup>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// Appends one.
    pub fn push(&self, event: EventView) {
        let mut events = lock(&self.0);
        if events.len() >= EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// Returns all that are kept, the newest last.
    pub fn all(&self) -> Vec<EventView> {
        lock(&self.0).iter().cloned().collect()
    }
}

impl Collector {
    /// Makes one that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that goes on with the traffic of the last hours.
    pub fn remembering(hours: Hours) -> Self {
        Self { rollup: Mutex::new(Rollup::remembering(hours)), ..Self::default() }
    }

    /// Returns the traffic of the last hours.
    pub fn hours(&self) -> Hours {
        lock(&self.rollup).hours().cloned().unwrap_or_default()
    }

    /// Goes on from what an earlier process knew; for one that has heard nothing yet.
    pub fn recall(&self, memory: Memory) {
        memory.events.into_iter().for_each(|event| self.events.push(event));
        lock(&self.rollup).recall(memory.refused);
    }

    /// Returns what a later process may go on from.
    pub fn memory(&self) -> Memory {
        Memory { events: self.events.all(), refused: lock(&self.rollup).refused() }
    }

    /// Takes a report of `node`, as its certificate names it. Repeats are harmless.
    pub fn report(&self, node: &NodeName, report: &Report) {
        let events = lock(&self.rollup).add(node, report, clock::wall_ms());
        for event in events {
            self.events.push(event);
        }
    }

    /// Returns the mesh as it is now; the collector's events are shown after those of `input`.
    pub fn view(&self, mut input: ViewInput<'_>) -> MeshView {
        input.events.extend(self.events.all());
        lock(&self.rollup).view(&input)
    }

    /// Returns what was counted since the control plane started, by edge, sorted.
    pub fn totals(&self) -> Vec<(EdgeKey, EdgeTotal)> {
        lock(&self.rollup).totals().map(|(key, total)| (key.clone(), total.clone())).collect()
    }

    /// Returns whose proxies reported within the last `window_ms` milliseconds.
    pub fn present(&self, window_ms: u64) -> Vec<NodeName> {
        let since_ms = clock::wall_ms().saturating_sub(window_ms);
        lock(&self.rollup).present(since_ms).cloned().collect()
    }

    /// Returns the last status of every proxy that reports, by node.
    pub fn statuses(&self) -> Vec<(NodeName, ProxyStatus)> {
        lock(&self.rollup).statuses().map(|(node, status)| (node.clone(), status.clone())).collect()
    }
}
