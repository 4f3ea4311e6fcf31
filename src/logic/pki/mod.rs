//! The questions about certificates that need no key.

pub mod trust;
