//! Which endpoint takes a call.
//!
//! Read [`ewma`] (how slow an endpoint lately was), then [`pick`] (two random choices, the one with less to do wins).
//! Picking is a function of what is seen and of one draw: nothing here is changed by it, so workers share no lock.

pub mod ewma;
pub mod pick;
