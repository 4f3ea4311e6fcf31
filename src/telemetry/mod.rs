//! Logs, metrics and access records: how the program tells what it does.
//!
//! - [`log`] is for what an operator would put on a timeline; its filter changes at run time.
//! - [`metric`] counts traffic, one shard to each worker, and holds the table of every metric; [`dns`] counts
//!   questions, [`process`] reads what the kernel knows, [`prometheus`] writes it all as text, and [`scrape`]
//!   answers with it.
//! - [`access`] writes one line for each request or connection; [`recent`] remembers those that somebody may ask for, and
//!   shows them to who watches.

pub mod log;
pub mod process;
pub mod dns;
pub mod metric;
pub mod prometheus;
pub mod scrape;
pub mod access;
pub mod recent;
