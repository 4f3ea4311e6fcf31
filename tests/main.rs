//! The fast suite, one binary: the guard of the architecture, properties of deciders, simulations, contracts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::duplicate_mod,
    clippy::excessive_nesting,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::large_stack_arrays,
    clippy::too_many_lines,
    reason = "a test reads as one scene"
)]

#[path = "data/shop.rs"]
mod shop;
mod tidy;
mod property;
mod sim;
mod contract;
mod data_path;
#[path = "fuzz/driver.rs"]
mod fuzz;
