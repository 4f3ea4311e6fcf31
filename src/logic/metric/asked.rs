//! What kinds of requests there are: method and path, with what looks like a number or a name of one thing taken out, so that
//! they are few.

use http::Method;

/// Segments of a path that are told; of a longer path, the beginning.
const SEGMENTS_MAX: usize = 6;
/// A longer segment names one thing.
const SEGMENT_BYTES_MAX: usize = 40;
/// Longest kind that is kept, bytes.
pub const KIND_BYTES_MAX: usize = 200;
/// Stands for a segment that names one thing.
const ONE: &str = "*";

/// Returns the kind of a request, as in `GET /carts/*/items`; `None` when it would be too long. `path` is without the query.
pub fn kind(method: &str, path: &str) -> Option<String> {
    let mut kind = format!("{method} ");
    for segment in path.trim_start_matches('/').split('/').take(SEGMENTS_MAX) {
        kind.push('/');
        kind.push_str(if names_one(segment) { ONE } else { segment });
    }
    (kind.len() <= KIND_BYTES_MAX).then_some(kind)
}

/// Returns method and path of a kind, for a request of that kind.
pub fn request(kind: &str) -> Option<(Method, &str)> {
    let (method, path) = kind.split_once(' ')?;
    Some((Method::from_bytes(method.as_bytes()).ok()?, path))
}

/// Returns whether a segment is an identifier: digits, hexadecimal digits and dashes with a digit among them, something
/// encoded, or something long.
fn names_one(segment: &str) -> bool {
    let hexadecimal = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-' || byte == b'_';
    let numbered = segment.bytes().all(hexadecimal) && segment.bytes().any(|byte| byte.is_ascii_digit());
    numbered || segment.len() > SEGMENT_BYTES_MAX || segment.contains('%')
}
