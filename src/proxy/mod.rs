//! The data plane: every call between services, over mutual TLS.

pub mod reporter;
pub mod admin;
pub mod failure;
pub mod upstream;
pub mod tables;
pub mod shared;
pub(crate) mod ledger;
pub(crate) mod context;
pub(crate) mod tcp;
pub(crate) mod http;
pub(crate) mod outbound;
pub(crate) mod inbound;
pub mod worker;
