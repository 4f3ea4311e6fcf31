//! The path of a request, in the order of its stages.
//!
//! [`observe`] knows what became of it, [`replay`] and [`body`] carry its content, [`header`] what ends at each hop,
//! [`reply`] what we answer ourselves, [`client`] the connections, [`forward`] one way over them, [`upgrade`] what is no
//! request any more, [`pipeline`] the order of it all, [`serve`] the connections it comes on.

pub(crate) mod observe;
pub(crate) mod replay;
pub(crate) mod body;
pub(crate) mod header;
pub(crate) mod reply;
pub(crate) mod client;
pub(crate) mod forward;
pub(crate) mod upgrade;
pub(crate) mod pipeline;
pub(crate) mod serve;
