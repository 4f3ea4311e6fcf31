//! The trace that a request is part of, as its fields say: `traceparent` and `tracestate` (W3C trace context, levels 1 and
//! 2), or B3.
//!
//! Spans are made by applications and not here, so what they say of a trace passes as it is. Only a `traceparent` that is
//! none is replaced, as the specification wants of whoever reads it: by the beginning of another trace.

use std::fmt;

use crate::logic::http::fields::Fields;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const B3: &str = "b3";
const B3_TRACE_ID: &str = "x-b3-traceid";

/// The length of all that version 00 says; later ones begin with the same.
const TRACEPARENT_BYTES: usize = 55;
/// A version that there will never be.
const NO_VERSION: u64 = 0xff;

/// The name of a trace. `Display` writes it as it was said: in 32 digits, or, as B3 may, in 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId {
    /// `None` where it has 16 digits.
    high: Option<u64>,
    low: u64,
}

impl TraceId {
    /// Reads 32 or 16 digits, of which one at least is not zero.
    fn parse(digits: &[u8]) -> Option<Self> {
        let id = match digits.len() {
            16 => Self { high: None, low: hex(digits)? },
            32 => Self { high: Some(hex(&digits[..16])?), low: hex(&digits[16..])? },
            _ => return None,
        };
        (id.low != 0 || id.high.is_some_and(|high| high != 0)).then_some(id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(high) = self.high {
            write!(f, "{high:016x}")?;
        }
        write!(f, "{:016x}", self.low)
    }
}

/// A `traceparent` that is none, or one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

/// Reads the value of `traceparent`, and returns the trace that it is of.
///
/// Of versions that are not known yet only what they have in common with the known one is looked at.
///
/// # Errors
/// When it is not valid.
pub fn traceparent(value: &[u8]) -> Result<TraceId, Invalid> {
    parent(value).ok_or(Invalid)
}

fn parent(value: &[u8]) -> Option<TraceId> {
    let (said, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
    if [2, 35, 52].iter().any(|at| said[*at] != b'-') {
        return None;
    }
    let (version, parent, _flags) = (hex(&said[..2])?, hex(&said[36..52])?, hex(&said[53..])?);
    let ends = match version {
        0 => rest.is_empty(),
        NO_VERSION => false,
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    TraceId::parse(&said[3..35]).filter(|_| ends && parent != 0)
}

/// Reads the value of `b3`: trace and span, perhaps followed by whether it is recorded, and by the span above.
pub fn b3(value: &[u8]) -> Option<TraceId> {
    let is_span = |digits: &[u8]| digits.len() == 16 && hex(digits).is_some();
    let mut parts = value.split(|byte| *byte == b'-');
    let id = TraceId::parse(parts.next()?)?;
    let valid = parts.next().is_some_and(is_span)
        && parts.next().is_none_or(|sampled| matches!(sampled, b"0" | b"1" | b"d"))
        && parts.next().is_none_or(is_span)
        && parts.next().is_none();
    valid.then_some(id)
}

/// Returns the trace that the fields of a request tell of: `traceparent`, else B3; `None` where nothing does. Goes along them
/// once, and allocates nothing.
///
/// # Errors
/// When there is a `traceparent` that is none, whatever else there is.
pub fn read(fields: &Fields) -> Result<Option<TraceId>, Invalid> {
    let mut found = None;
    let (mut single, mut several) = (None, None);
    for (name, value) in fields.iter() {
        // Nearly all fields are told apart by their length.
        match name.len() {
            2 if name.eq_ignore_ascii_case(B3.as_bytes()) => single = single.or_else(|| b3(value)),
            11 if name.eq_ignore_ascii_case(TRACEPARENT.as_bytes()) => {
                let before = found.replace(traceparent(value)?);
                if before.is_some() {
                    return Err(Invalid);
                }
            }
            12 if name.eq_ignore_ascii_case(B3_TRACE_ID.as_bytes()) => {
                several = several.or_else(|| TraceId::parse(value));
            }
            _ => {}
        }
    }
    Ok(found.or(single).or(several))
}

/// As [`read`], but what is no `traceparent` is replaced by the beginning of a trace, for whose names `draw` draws. Its
/// `tracestate` goes, which belonged to a trace that nobody knows.
pub fn mend(fields: &mut Fields, draw: impl FnMut() -> u64) -> Option<TraceId> {
    match read(fields) {
        Ok(found) => found,
        Err(Invalid) => Some(begin(fields, draw)),
    }
}

#[cold]
fn begin(fields: &mut Fields, mut draw: impl FnMut() -> u64) -> TraceId {
    // No name is zero.
    let id = TraceId { high: Some(draw()), low: draw().max(1) };
    let parent = draw().max(1);
    // The flags say that whoever is above recorded nothing.
    fields.set(TRACEPARENT, format!("00-{id}-{parent:016x}-00").as_bytes());
    fields.remove(TRACESTATE);
    id
}

/// Reads at most 16 hexadecimal digits, none of them a capital.
fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}
