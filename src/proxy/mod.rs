//! The data plane: every call between services, over mutual TLS.
//!
//! A host becomes a node in [`membership`]; what control says comes in by `subscriber`, which neighbours are there by
//! gossip, and both together are the [`tables`] that the workers read. A call comes in at `outbound` or `inbound`, is HTTP
//! or bytes (`http`, `tcp`), and leaves by an [`upstream`]; whatever goes wrong is a [`failure`]. `announcer` tells the
//! others what runs here, [`reporter`] tells control what was counted, [`admin`] tells whoever asks on this host. The
//! workers have threads of their own, all else shares another, so that nothing of ours starves requests.

pub mod successor;
pub mod words;
pub mod handover;
pub mod bootstrap;
pub mod membership;
mod entry;
mod prober;
mod subscriber;
mod announcer;
mod answerer;
pub mod services;
pub mod reporter;
pub mod admin;
pub mod failure;
pub mod link;
pub mod upstream;
pub mod tables;
pub mod callers;
pub mod shared;
pub(crate) mod ledger;
pub(crate) mod stream;
pub(crate) mod lapses;
pub(crate) mod links;
pub(crate) mod rest;
pub(crate) mod silence;
pub(crate) mod signal;
pub(crate) mod budgets;
pub(crate) mod context;
pub(crate) mod peer;
pub(crate) mod tcp;
pub(crate) mod http;
pub(crate) mod outbound;
pub(crate) mod inbound;
pub mod worker;
mod ways;
mod resolved;
mod names;
pub mod guard;
pub mod intercept;
mod examiner;
mod assembler;
mod node;
pub mod program;
mod upgrader;
mod addresses;
mod running;

pub use crate::proxy::addresses::Addresses;
pub use crate::proxy::running::{Error, Notices, run};
