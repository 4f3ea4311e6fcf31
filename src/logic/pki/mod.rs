//! The questions about certificates that need no key: is this one good ([`trust`]), when is it time for the next
//! ([`rotation`]), and what ends with one ([`lapse`]).

pub mod trust;
pub mod rotation;
pub mod lapse;
