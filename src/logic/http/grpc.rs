//! What gRPC says over HTTP, in so far as a proxy must know.

use crate::logic::http::fields::Fields;

/// In front of each message: whether it is compressed, in one byte, and how long it is, in four.
const PREFIX_BYTES: usize = 5;

/// Returns whether a head is of gRPC.
pub fn is_grpc(fields: &Fields) -> bool {
    fields.get("content-type").is_some_and(|value| value.starts_with(b"application/grpc"))
}

/// Returns the status that trailers tell, or the head of a response without a body.
pub fn status(fields: &Fields) -> Option<u16> {
    std::str::from_utf8(fields.get("grpc-status")?).ok()?.parse().ok()
}

/// Tells whether a body of so many bytes, which begins like this, is one message or none.
pub fn is_unary(begin: &[u8], bytes: usize) -> bool {
    let length = || Some(u32::from_be_bytes(*begin.get(1..PREFIX_BYTES)?.first_chunk()?) as usize);
    bytes == 0 || length().is_some_and(|length| bytes.checked_sub(PREFIX_BYTES) == Some(length))
}
