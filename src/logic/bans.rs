//! Who is banned, when control and the other members tell of different moments: the later one counts.

use std::sync::Arc;

use crate::model::name::NodeName;
use crate::model::snapshot::{BanList, Snapshot};

/// Returns whether a list counts in the place of the one known.
pub fn is_newer(list: &BanList, known: Option<&BanList>) -> bool {
    known.is_none_or(|known| known.revision < list.revision)
}

/// Returns the list that counts.
pub fn newest(one: Option<BanList>, other: Option<BanList>) -> Option<BanList> {
    match (one, other) {
        (one, Some(other)) if is_newer(&other, one.as_ref()) => Some(other),
        (one, _) => one,
    }
}

/// Returns the banned nodes: those of the snapshot, or of the list that members told when it shows a later revision.
pub fn in_force<'a>(snapshot: &'a Snapshot, told: Option<&'a BanList>) -> &'a [NodeName] {
    told.filter(|told| told.revision > snapshot.revision).map_or(&snapshot.banned, |told| &told.nodes)
}

/// Says to a node that it is banned, and what to do.
pub fn told(node: &NodeName) -> String {
    format!(
        "this node ({node}) is banned from the mesh: 'mesh ban --undo {node}' on the control plane's host takes it back"
    )
}

/// Returns the snapshot with those nodes banned that are.
pub fn amend(snapshot: &Arc<Snapshot>, told: Option<&BanList>) -> Arc<Snapshot> {
    let banned = in_force(snapshot, told);
    if *banned == snapshot.banned {
        return Arc::clone(snapshot);
    }
    Arc::new(Snapshot { banned: banned.to_vec(), ..Snapshot::clone(snapshot) })
}
