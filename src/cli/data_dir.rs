//! Where state lives when nobody says.

use std::path::PathBuf;

/// Returns where state lives by default: under /var/lib for root, else under the user's state directory.
pub(crate) fn of(role: &str) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return system(role);
    }
    let home = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    home.unwrap_or_else(std::env::temp_dir).join("mesh").join(role)
}

/// Returns where state of the whole host lives: what root runs.
pub(crate) fn system(role: &str) -> PathBuf {
    PathBuf::from("/var/lib/mesh").join(role)
}
