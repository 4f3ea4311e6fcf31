//! The link between two proxies, `mesh-link/1`: many HTTP exchanges and TCP connections over one connection. Nothing here
//! reads or writes; `proxy::link` does.
//!
//! - [`frame`] is how bytes are cut into frames of streams, and every way in which a peer can break the rules.
//! - [`head`] is how heads and trailers are written inside of frames.
//! - [`window`] is how much either side may send on a stream.
//! - [`pulse`] is when to ask whether the peer is there, and when to give it up.

pub mod frame;
pub mod head;
pub mod window;
pub mod pulse;
