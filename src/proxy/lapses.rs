//! The links of one worker whose peers' certificates may end: looked through each second, so that no link needs a timer, no
//! call pays for it, and a time of day that jumps is noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use crate::identity::verifier::Peer;
use crate::logic::link::frame::Code;
use crate::logic::pki::lapse::{Lapse, Standing};
use crate::model::name::NodeName;
use crate::net::clock;
use crate::proxy::failure::Failure;
use crate::proxy::link::Handle;

/// The links.
#[derive(Default)]
pub(crate) struct Lapses {
    entries: RefCell<slab::Slab<Entry>>,
}

struct Entry {
    handle: Handle,
    node: NodeName,
    not_after_ms: u64,
    lapse: Lapse,
    is_cut: bool,
}

impl Lapses {
    /// Begins to look after a link, until it ends.
    pub(crate) fn enter(&self, handle: Handle, peer: &Peer) {
        let (node, not_after_ms) = (peer.node.clone(), peer.not_after_ms);
        let entry = Entry { handle, node, not_after_ms, lapse: Lapse::default(), is_cut: false };
        self.entries.borrow_mut().insert(entry);
    }

    /// Lets nothing new begin where the peer's certificate is over, and cuts what is under way where it has not renewed.
    /// `vouched` says until when control vouches for a node, Unix milliseconds. To be called each second.
    pub(crate) fn sweep(&self, now: Instant, vouched: impl Fn(&NodeName) -> Option<u64>) {
        let now_ms = clock::wall_ms();
        let mut cut: BTreeMap<NodeName, usize> = BTreeMap::new();
        self.entries.borrow_mut().retain(|_, entry| {
            if entry.handle.has_ended() {
                return false;
            }
            if entry.is_cut {
                // It has had a second to tell the peer why.
                entry.handle.give_up();
                return false;
            }
            // Mostly it has long to live, and nobody needs to be asked.
            let vouched_ms = if now_ms > entry.not_after_ms { vouched(&entry.node) } else { None };
            match entry.lapse.look((entry.not_after_ms, vouched_ms), now_ms, now) {
                Standing::Sound => {}
                Standing::Closing => entry.handle.away(),
                Standing::Over => {
                    *cut.entry(entry.node.clone()).or_default() += entry.handle.streams();
                    entry.cut(now_ms);
                }
            }
            true
        });
        // A line for each node, however many links: with our own clock wrong, it may be all of them.
        for (node, streams) in cut.into_iter().filter(|(_, streams)| *streams > 0) {
            tracing::warn!(
                %node,
                streams,
                "the certificate that links began with has ended, and its node has not renewed: what is under way is cut; \
                 'mesh check' there says why, and whether the clocks agree"
            );
        }
    }
}

impl Entry {
    fn cut(&mut self, now_ms: u64) {
        let (node, ago_s) = (&self.node, now_ms.saturating_sub(self.not_after_ms) / 1000);
        let reason = format!("the certificate of node {node} has ended {ago_s} s ago and was not renewed");
        self.handle.cut(Code::Failure(Failure::Lapsed.consequence().code), &reason);
        self.is_cut = true;
    }
}
