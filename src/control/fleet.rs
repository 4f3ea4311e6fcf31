//! Which proxies are here, which revision each has in force, and why one refused a newer one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::wire::Ack;
use crate::logic::metric::view::FleetEntry;
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::net::clock;

/// A proxy that was heard of so lately is there, whatever gossip says, milliseconds.
const PRESENT_MS: u64 = 15_000;

/// What is known of one proxy.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// Snapshot streams it has open.
    streams: usize,
    acked: Option<Revision>,
    /// The newest revision it refused, and why.
    refused: Option<(Revision, String)>,
    /// When it was last heard of, Unix milliseconds.
    heard_ms: u64,
}

/// All proxies since this control plane started. Shared: every method takes `&self`.
#[derive(Debug, Default)]
pub struct Fleet(Mutex<BTreeMap<NodeName, Entry>>);

/// An open snapshot stream; dropping it closes the account.
#[derive(Debug)]
pub struct Stream {
    fleet: Arc<Fleet>,
    node: NodeName,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(entry) = self.fleet.lock().get_mut(&self.node) {
            entry.streams = entry.streams.saturating_sub(1);
            entry.heard_ms = clock::wall_ms();
        }
    }
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a proxy follows the snapshots, until the result is dropped.
    pub fn connect(self: &Arc<Self>, node: &NodeName) -> Stream {
        let mut entries = self.lock();
        let entry = entries.entry(node.clone()).or_default();
        entry.streams += 1;
        entry.heard_ms = clock::wall_ms();
        Stream { fleet: Arc::clone(self), node: node.clone() }
    }

    /// Notes that a proxy was heard of.
    pub fn hear(&self, node: &NodeName) {
        self.lock().entry(node.clone()).or_default().heard_ms = clock::wall_ms();
    }

    /// Notes what a proxy did with a revision; returns whether that is news.
    pub fn acknowledge(&self, node: &NodeName, ack: &Ack) -> bool {
        let mut entries = self.lock();
        let entry = entries.entry(node.clone()).or_default();
        entry.heard_ms = clock::wall_ms();
        let Some(reason) = &ack.refused else {
            let news = entry.acked != Some(ack.revision);
            entry.acked = Some(ack.revision);
            entry.refused.take_if(|(revision, _)| *revision <= ack.revision);
            return news;
        };
        let refused = Some((ack.revision, reason.clone()));
        let news = entry.refused != refused;
        entry.refused = refused;
        news
    }

    /// Forgets a proxy.
    pub fn forget(&self, node: &NodeName) {
        self.lock().remove(node);
    }

    /// Returns whether a proxy is there, by what this control plane itself hears of it.
    pub fn is_present(&self, node: &NodeName) -> bool {
        let now_ms = clock::wall_ms();
        let present = |entry: &Entry| entry.streams > 0 || now_ms.saturating_sub(entry.heard_ms) < PRESENT_MS;
        self.lock().get(node).is_some_and(present)
    }

    /// Returns whether a proxy follows the snapshots right now.
    pub fn is_connected(&self, node: &NodeName) -> bool {
        self.lock().get(node).is_some_and(|entry| entry.streams > 0)
    }

    /// Returns how every proxy stands to the revisions it was sent.
    pub fn entries(&self) -> BTreeMap<NodeName, FleetEntry> {
        let entry = |entry: &Entry| FleetEntry {
            acked: entry.acked,
            refused: entry
                .refused
                .as_ref()
                .map(|(revision, reason)| format!("revision {revision}: {reason}")),
            refused_revision: entry.refused.as_ref().map(|(revision, _)| *revision),
        };
        self.lock().iter().map(|(node, known)| (node.clone(), entry(known))).collect()
    }

    /// Returns the connected proxies with the revision each has in force.
    pub fn connected(&self) -> BTreeMap<NodeName, Option<Revision>> {
        let entries = self.lock();
        let connected = entries.iter().filter(|(_, entry)| entry.streams > 0);
        connected.map(|(node, entry)| (node.clone(), entry.acked)).collect()
    }
}
