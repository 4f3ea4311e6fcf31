//! The mark on this process's own packets, by which rules for interception tell them from those of applications.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::SockRef;

/// The mark: "mesh".
pub const MARK: u32 = 0x6d65_7368;

static MARKING: AtomicBool = AtomicBool::new(false);

/// Begins to mark: what this process intercepts must not be its own.
pub fn begin() {
    MARKING.store(true, Ordering::Relaxed);
}

/// Marks what leaves by a socket, if this process intercepts. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// When the kernel refuses.
pub fn apply<'s>(socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    if MARKING.load(Ordering::Relaxed) { socket.into().set_mark(MARK) } else { Ok(()) }
}
