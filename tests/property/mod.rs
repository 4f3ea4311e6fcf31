//! One file for each decider.

mod state;
mod histogram;
mod link;
mod rollup;
mod metric;
mod detect;
mod route;
mod split;
mod filter;
mod balance;
mod balancer;
mod resilience;
mod limits;
mod authorize;
mod compile;
mod validate;
mod trust;
mod rotation;
mod wire;
mod catalog;
mod console;
mod fields;
mod http1;
mod http1_wire;
mod http1_body;
mod flood;
