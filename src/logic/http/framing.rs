//! How a body is delimited (RFC 9112 §6).

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
