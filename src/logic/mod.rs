//! Every decision of the mesh, pure: no socket, no clock, no thread, no randomness of its own. Deciders are given the time
//! and their randomness, and return a verdict.

pub mod metric;
