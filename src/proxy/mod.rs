//! The data plane: every call between services, over mutual TLS.

pub mod reporter;
pub mod admin;
