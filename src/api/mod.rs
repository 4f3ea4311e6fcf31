//! How the planes meet: bodies, errors and streams of the control plane's HTTP API, and its client.

pub mod wire;
pub mod endpoint;
