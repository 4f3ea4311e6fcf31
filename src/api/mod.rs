//! How the planes meet: bodies, refusals and streams of the control plane's HTTP API, and its client.

pub mod endpoint;
pub mod problem;
pub mod wire;
pub mod why;
pub mod inquiry;
pub mod stream;
mod dial;
pub mod client;
pub mod program;
pub mod nodes;
pub mod local;
pub mod host;
