//! How a body is delimited (RFC 9112 §6).

use thiserror::Error;

use crate::logic::http::fields::{Fields, items};
use crate::logic::http::head::Version;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is no body, and nothing is said about one.
    #[default]
    None,
    /// The body has this many bytes; also for a body that is said to be empty.
    Length(u64),
    /// The body comes in chunks and may have trailer fields.
    Chunked,
    /// The body lasts until the connection closes; only of responses.
    UntilClose,
}

impl Framing {
    /// Tells whether it is certain that no byte of a body follows.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }

    /// Returns how a body that came like this goes on in a response to a caller of `version`: one of unknown length is
    /// sent in chunks if the caller knows them and until close if not.
    #[must_use]
    pub fn towards(self, version: Version) -> Self {
        match (self, version) {
            (Self::Chunked | Self::UntilClose, Version::Http10) => Self::UntilClose,
            (Self::UntilClose, Version::Http11 | Version::Http2) => Self::Chunked,
            (framing, _) => framing,
        }
    }
}

/// What is wrong with the length that a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadLength {
    /// It is not a number.
    #[error("its Content-Length is no number")]
    NoNumber,
    /// There are two, and they differ.
    #[error("it has two lengths")]
    Two,
}

/// Returns the length that fields announce, which may do so more than once; None when they do not.
///
/// # Errors
/// When it is not one number.
pub fn announced(fields: &Fields) -> Result<Option<u64>, BadLength> {
    let mut length = None;
    for value in fields.all("content-length").flat_map(items) {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        let number: u64 = number.ok_or(BadLength::NoNumber)?;
        if length.replace(number).is_some_and(|before| before != number) {
            return Err(BadLength::Two);
        }
    }
    Ok(length)
}
