//! Whether there is room for state.

use std::path::Path;

use crate::api::host::DiskStatus;
use crate::cli::check::finding::{Check, Mark, check};
use crate::net::disk;

/// Somebody should look when there is less than this.
const LITTLE: u64 = 256 << 20;

/// Judges the disk of a data directory.
pub(crate) fn judge(found: &DiskStatus) -> Check {
    let place = found.path.display();
    let left = format!("{} MiB are left on the file system of {place}", found.free_bytes >> 20);
    let (mark, finding, hint) = match &found.error {
        Some(error) => (
            Mark::Error,
            Some(format!("{place}: {error}")),
            "put it back from a copy and start mesh again; a proxy without a copy joins anew: 'mesh proxy --join TOKEN', \
             after 'mesh leave NODE' and 'mesh token create' on the control plane",
        ),
        None if found.free_bytes < disk::FREE_MIN => {
            (Mark::Error, Some(left), "nothing is written any more: make room")
        }
        None if found.free_bytes < LITTLE => {
            (Mark::Warning, Some(left), "below 32 MiB nothing is written: make room")
        }
        None => (Mark::Success, None, ""),
    };
    check("there is room on the disk", mark, finding, hint)
}

/// Looks at the file system of a directory, or of the nearest one above it that exists.
pub(crate) fn look(folder: &Path) -> DiskStatus {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    DiskStatus::of(folder, disk::room(there))
}
