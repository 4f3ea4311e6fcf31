//! The questions about certificates that need no key: is this one good ([`trust`]), when is it time for the next
//! ([`rotation`]).

pub mod trust;
pub mod rotation;
