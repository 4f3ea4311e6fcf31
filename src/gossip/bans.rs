//! The list of bans on its way from node to node: what control signs, who checks it, and how an exchange carries it.
//!
//! Nobody but the authority can ban: a list counts only under its signature, and only if it is of a later revision than the
//! one known. Each message of an exchange says which one its sender has, and carries the list for whoever has an older one.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::gossip::pass::Checker;
use crate::logic::gossip::wire::{decode, encode};
use crate::model::identity::TrustDomain;
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::model::snapshot::{BANNED_MAX, BanList};

/// What the enclosure begins with: no certificate does (DER begins with 0x30).
const MARK: &[u8] = b"mesh bans\0";

/// What a message says of bans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enclosure {
    /// The sender has the list of this revision; 0 for none.
    At(Revision),
    /// The list itself.
    List(BanList),
}

/// Returns what control signs to say that these nodes are banned as of a revision.
pub fn bans_message(mesh: &TrustDomain, revision: Revision, nodes: &[NodeName]) -> Vec<u8> {
    let mut message = b"mesh bans v1\0".to_vec();
    message.extend_from_slice(mesh.to_string().as_bytes());
    message.push(0);
    message.extend_from_slice(&revision.to_be_bytes());
    for node in nodes {
        message.extend_from_slice(node.as_str().as_bytes());
        message.push(0);
    }
    message
}

/// Returns whether the authority of this mesh has signed a list, by an intermediate that `checker` finds good.
pub fn is_genuine(list: &BanList, checker: &Checker, mesh: &TrustDomain, now_ms: u64) -> bool {
    let decoded = |text: &str| BASE64.decode(text.as_bytes()).ok();
    let verify = || {
        let key = checker.issuer_key(&decoded(&list.issuer)?, now_ms)?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key);
        let message = bans_message(mesh, list.revision, &list.nodes);
        key.verify(&message, &decoded(&list.signature)?).ok()
    };
    list.nodes.len() <= BANNED_MAX && verify().is_some()
}

/// Encodes what is said of the list known to a member that has the one of revision `theirs`; `None` when that is not known yet.
pub fn enclose(known: Option<&BanList>, theirs: Option<Revision>) -> Vec<u8> {
    let enclosure = match (known, theirs) {
        (Some(list), Some(theirs)) if theirs < list.revision => Enclosure::List(list.clone()),
        (known, _) => Enclosure::At(known.map_or(0, |list| list.revision)),
    };
    [MARK, &encode(&enclosure)].concat()
}

/// Decodes what a message says of bans; `None` when it is something else.
pub fn disclose(bytes: &[u8]) -> Option<Enclosure> {
    decode(bytes.strip_prefix(MARK)?).ok()
}
