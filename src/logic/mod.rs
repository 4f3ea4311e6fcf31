//! Every decision of the mesh, pure: no socket, no clock, no thread, no randomness of its own. Deciders are given the time
//! and their randomness, and return a verdict.

pub mod http;
pub mod link;
pub mod pki;
pub mod metric;
pub mod gossip;
pub mod duration;
pub mod moment;
pub mod difference;
pub mod request;
pub mod detect;
pub mod balance;
pub mod resilience;
pub mod route;
pub mod traffic;
pub mod defaults;
pub mod authorize;
pub mod bans;
pub mod compile;
pub mod plan;
pub mod roll;
pub mod naming;
pub mod intercept;
pub mod validate;
pub mod status;
pub mod state;
