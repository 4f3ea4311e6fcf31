//! Which endpoint takes a call.
//!
//! Read [`ewma`] (how slow an endpoint lately was) and [`pick`] (two random choices, the one with less to do wins); then,
//! for services that ask for it, [`round_robin`], [`ring_hash`] by [`hash`], [`slow_start`], [`locality`] (which zone) and
//! [`session`] (the endpoint that a client had before). [`balancer`] puts them together.
//!
//! Picking is a function of what is seen and of one draw: nothing here is changed by it, so workers share no lock.

pub mod ewma;
pub mod pick;
pub mod hash;
pub mod round_robin;
pub mod ring_hash;
pub mod slow_start;
pub mod locality;
pub mod session;
pub mod balancer;
