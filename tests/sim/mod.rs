//! Clusters in virtual time.

mod world;
mod membership;
mod loopback;
