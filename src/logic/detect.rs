//! What a client speaks, from the first bytes of its connection.
//!
//! HTTP/2 is known by the first line of its preface (RFC 9113 §3.4: the method PRI is reserved for it); HTTP/1 by a whole
//! request line (RFC 9112 §3), because text protocols also begin with words: `EHLO host`, or `GET key` of Redis.

/// The first line of the HTTP/2 preface.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// What the version of a request line must begin with.
const VERSION: &[u8] = b"HTTP/1.";
/// The longest method taken for one; the longest registered has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;
/// After so long a target, nothing else than HTTP is plausible, and waiting for its end is not worth the memory.
const TARGET_BYTES_MAX: usize = 1_024;
/// Empty lines before a request that are overlooked (RFC 9112 §2.2 asks for one).
const EMPTY_LINES_MAX: usize = 2;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detection {
    /// An HTTP/1.0 or 1.1 request.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// Something else: carried as it is.
    Opaque,
    /// Too few bytes to tell.
    NeedMore,
}

/// Tells what `prefix`, the first bytes of a connection, is the beginning of.
///
/// Every answer but [`Detection::NeedMore`] is final: more bytes never change it. At most a little over 1 KiB is ever
/// needed.
pub fn detect(prefix: &[u8]) -> Detection {
    if prefix.starts_with(PREFACE) {
        return Detection::Http2;
    }
    if PREFACE.starts_with(prefix) {
        return Detection::NeedMore;
    }
    match skip_empty_lines(prefix) {
        Some(line) => request_line(line),
        None => Detection::NeedMore,
    }
}

/// Returns what follows the overlooked empty lines; `None` when the bytes end inside of one.
fn skip_empty_lines(mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..EMPTY_LINES_MAX {
        rest = match rest {
            [] | [b'\r'] => return None,
            [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] => after,
            line => return Some(line),
        };
    }
    Some(rest)
}

fn request_line(line: &[u8]) -> Detection {
    let Some((method, rest)) = split_at_space(line) else {
        let plausible = line.len() <= METHOD_BYTES_MAX && line.iter().all(|b| is_token(*b));
        return if plausible { Detection::NeedMore } else { Detection::Opaque };
    };
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.iter().all(|b| is_token(*b)) {
        return Detection::Opaque;
    }
    let (target, version) = match split_at_space(rest) {
        Some((target, version)) => (target, Some(version)),
        None => (rest, None),
    };
    let (target, long) = match target.split_at_checked(TARGET_BYTES_MAX) {
        Some((head, _)) => (head, true),
        None => (target, false),
    };
    if !target.iter().all(|b| *b > b' ' && *b != 0x7f) {
        return Detection::Opaque;
    }
    if long {
        return Detection::Http1;
    }
    match version {
        None => Detection::NeedMore,
        Some(_) if target.is_empty() => Detection::Opaque,
        Some(version) if version.starts_with(VERSION) => Detection::Http1,
        Some(version) if VERSION.starts_with(version) => Detection::NeedMore,
        Some(_) => Detection::Opaque,
    }
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
