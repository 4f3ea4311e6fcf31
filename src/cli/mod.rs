//! The command line: one file for each command, and how its output looks.

pub mod output;
pub(crate) mod token;
pub(crate) mod traffic;
pub(crate) mod stat;
pub(crate) mod edges;
pub(crate) mod events;
pub mod manifest;
