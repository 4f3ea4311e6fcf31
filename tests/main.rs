//! The fast suite, one binary: the guard of the architecture, properties of deciders, simulations, contracts.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod tidy;
mod property;
mod sim;
mod contract;
mod data_path;
