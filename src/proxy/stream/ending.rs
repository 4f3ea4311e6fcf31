//! How a body ends.

use crate::logic::http::fields::Fields;

/// How a body ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// With its last byte.
    Plain,
    /// With fields after it.
    Trailers(Fields),
}

impl From<Option<Fields>> for Ending {
    fn from(trailers: Option<Fields>) -> Self {
        trailers.map_or(Self::Plain, Self::Trailers)
    }
}
