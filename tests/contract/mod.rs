//! What others see, as snapshots.

mod disk;
mod store;
mod authority;
pub(crate) mod ca;
mod handshake;
mod records;
mod vault;
mod link;
mod renewer;
mod stream;
mod client;
mod metrics;
mod access;
mod recent;
mod reporter;
pub(crate) mod admin;
mod examples;
mod features;
mod coverage;
mod schema;
mod manifest;
mod api;
mod screens;
mod control;
mod failures;
mod dns;
mod services;
