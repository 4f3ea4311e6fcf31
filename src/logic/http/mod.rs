//! The HTTP message as the data plane carries it, and HTTP/1 on the wire. Nothing here waits, reads or writes: bytes that
//! have arrived go in, messages come out, and the other way round.
//!
//! - [`fields`] are ordered header fields in the case they were written in; [`head`] is what stands above a body, of a
//!   request and of a response; [`framing`] is how a body ends.
//! - [`hop`] is what belongs to one connection and does not travel on.
//! - [`trace`] is what a request says of the trace that it is part of.
//! - [`authority`] is a host and a port as a message names them.
//! - [`h1`] reads and writes HTTP/1.
//! - [`h2`] reads and writes HTTP/2.
//! - [`grpc`] is what gRPC says over HTTP.
//! - [`flood`] counts frames of HTTP/2 that carry nothing.

pub mod fields;
pub mod head;
pub mod framing;
pub mod hop;
pub mod trace;
pub mod authority;
pub mod h1;
pub mod h2;
pub mod grpc;
pub mod flood;
