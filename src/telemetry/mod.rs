//! Logs, metrics and access records: how the program tells what it does.
//!
//! - [`metric`] counts traffic, one shard to each worker, and holds the table of every metric.
//! - [`access`] writes one line for each request or connection.

pub mod metric;
pub mod access;
