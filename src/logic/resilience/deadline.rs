//! Several limits of time composed into one deadline.

use std::time::{Duration, Instant};

/// Which limit a deadline comes from, so that an answer can name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The whole exchange (`timeouts.request`), or what the caller itself will wait for.
    Request,
    /// One attempt (`timeouts.backendRequest`): another may follow.
    Attempt,
}

/// An instant by which something must be over, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// Why.
    pub limit: Limit,
}

/// Returns when a request that began at `began` must be over; `None` when nothing limits it.
///
/// `own` is what people configured, `caller` what the caller said it will wait for (`grpc-timeout`), both from `began`; the
/// shorter limit wins.
pub fn request(own: Option<Duration>, caller: Option<Duration>, began: Instant) -> Option<Deadline> {
    let limit = match (own, caller) {
        (Some(own), Some(caller)) => Some(own.min(caller)),
        (own, caller) => own.or(caller),
    };
    let at = began.checked_add(limit?)?;
    Some(Deadline { at, limit: Limit::Request })
}

/// Returns when an attempt that begins at `now` must be over: by its own limit or by the request's, whichever is sooner.
pub fn attempt(own: Option<Duration>, request: Option<Deadline>, now: Instant) -> Option<Deadline> {
    let own = own.and_then(|limit| now.checked_add(limit));
    match (own, request) {
        (Some(at), Some(request)) if request.at <= at => Some(request),
        (Some(at), _) => Some(Deadline { at, limit: Limit::Attempt }),
        (None, request) => request,
    }
}

/// Parses a `grpc-timeout`: up to 8 digits and a unit of `H M S m u n` (gRPC over HTTP/2, "Requests").
///
/// Returns `None` for anything else.
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3_600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}
