//! Real processes of the real binary over real sockets: on port 0 of this host, or on hosts of their own, which are
//! network namespaces made and removed by the test (so these tests run as root).
//!
//! `tests/e2e/peers.sh` installs the services and clients that the scenarios use.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::excessive_nesting,
    clippy::format_collect,
    clippy::large_stack_arrays,
    clippy::too_many_lines,
    reason = "a test reads as one scene"
)]

mod stage;
mod load;
mod program;
mod install;
mod hosts;
mod interception;
mod ways;
mod rebooting;
mod mishaps;
mod checking;
mod systemd;
mod calls;
mod transfer;
mod stuck;
mod failure;
mod removal;
mod stopping;
mod handover;
mod upgrade;
mod joining;
mod authority;
mod keeping;
mod service;
mod policy;
mod traffic;
mod reasons;
mod idling;
mod probing;
mod requests;
mod configuration;
mod console;
