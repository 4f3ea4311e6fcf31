//! When the gossip keys change, and how: given to all, then used by all, then forgotten by all.
//!
//! A key seals only after every connected proxy has it, and is removed only after nobody seals with it any more. A node
//! that is away meanwhile gets the keys with its next snapshot.

use crate::logic::state::command::Change;
use crate::logic::state::record::GossipKey;

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// How long a key seals.
pub const SEALS_MS: u64 = 30 * DAY_MS;
/// How long a new key is known before it seals: proxies that reconnect meanwhile learn it.
pub const KNOWN_MS: u64 = HOUR_MS;
/// How long an old key opens after it last sealed: packets are under way for less, hosts suspended for longer.
pub const OPENS_MS: u64 = DAY_MS;

/// Returns the next step, if one is due; `settled` says whether every connected proxy has the newest snapshot.
///
/// `draw` becomes the key, 32 bytes in base64, if the step makes one.
pub fn due(ring: &[GossipKey], settled: bool, now_ms: u64, draw: impl FnOnce() -> String) -> Option<Change> {
    let [sealing, others @ ..] = ring else { return None };
    let since = |key: &GossipKey| now_ms.saturating_sub(key.since_ms);
    match others.last() {
        None if since(sealing) >= SEALS_MS => {
            Some(Change::InstallGossipKey { id: sealing.id.wrapping_add(1), key: draw() })
        }
        None => None,
        Some(coming) if coming.since_ms > sealing.since_ms => {
            (settled && since(coming) >= KNOWN_MS).then_some(Change::PromoteGossipKey { id: coming.id })
        }
        Some(going) => {
            (settled && since(sealing) >= OPENS_MS).then_some(Change::RetireGossipKey { id: going.id })
        }
    }
}
