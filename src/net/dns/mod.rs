//! A name server for one host: names of the mesh from a [`crate::logic::naming::zone::Zone`], everything else from the
//! host's own resolvers.
//!
//! [`message`] reads questions and writes answers, [`resolvers`] knows whom the host asks, [`forward`] asks them, and
//! [`server`] listens.

pub mod message;
pub mod resolvers;
pub mod stale;
pub mod forward;
pub mod server;
