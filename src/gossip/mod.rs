//! Driving the gossip protocol over real sockets: how a node joins, speaks and leaves.
//!
//! Read from below: [`pass`] says who may speak for a node, [`bans`] who may not for now, [`seal`] keeps others from hearing and speaking, [`socket`] carries;
//! [`agent`] is what the planes hold, over the thread in [`voice`] and its [`exchange`]s.

pub mod pass;
pub mod bans;
pub mod seal;
pub mod socket;
mod voice;
mod exchange;
pub mod agent;
