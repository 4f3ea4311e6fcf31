//! Driving the gossip protocol over real sockets: how a node joins, speaks and leaves.
//!
//! Read in this order: [`pass`] says who may speak for a node, [`agent`] is what the planes hold.

pub mod pass;
pub mod agent;
