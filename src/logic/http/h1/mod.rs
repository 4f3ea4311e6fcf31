//! HTTP/1 on the wire (RFC 9112): strict where two readers could disagree about where a message ends.
//!
//! Lines end with CR and LF; a bare LF, a folded line, whitespace before a colon, and a body that is delimited in two ways
//! are refused, whoever sent them.
//!
//! - [`lines`] goes over the field lines of a head once and finds what the message is delimited by; the limits are there.
//! - [`request`] and [`response`] read heads, [`chunk`] and [`body`] what follows them, [`write`] is the other direction.

pub mod lines;
pub mod request;
pub mod response;
pub mod chunk;
pub mod body;
pub mod write;
