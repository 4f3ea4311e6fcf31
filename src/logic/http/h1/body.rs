//! Reading a body, however it is delimited.

use bytes::BytesMut;

use crate::logic::http::framing::Framing;
use crate::logic::http::h1::chunk::{Decoder, Piece, take};
use crate::logic::http::h1::lines::Malformed;

/// A body as far as it has been read.
#[derive(Debug, Clone)]
pub struct Body {
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// This many bytes are missing; none when it is over.
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl Body {
    /// Returns a body of which nothing has been read.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Decoder::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Takes the next piece from the beginning of `input`, without copying it. `ended` says that nothing will be added to
    /// `input`, since the connection is closed.
    ///
    /// None when more bytes are needed or the body is over. The end of a body in chunks is a [`Piece::Trailers`], also
    /// without trailer fields; of another body it is told by [`Body::is_over`] alone. What follows stays in `input`.
    ///
    /// # Errors
    /// When the body breaks a rule, or has ended before its end. What was read so far must not be passed off as whole.
    pub fn decode(&mut self, input: &mut BytesMut, ended: bool) -> Result<Option<Piece>, Malformed> {
        let piece = match &mut self.state {
            State::Length(0) => return Ok(None),
            State::Length(missing) => {
                let data = take(input, *missing);
                *missing -= data.len() as u64;
                (!data.is_empty()).then_some(Piece::Data(data))
            }
            State::Chunked(decoder) => decoder.decode(input)?,
            State::UntilClose => {
                let data = take(input, u64::MAX);
                (!data.is_empty()).then_some(Piece::Data(data))
            }
        };
        if piece.is_none() && ended && !self.is_over() {
            return self.end();
        }
        Ok(piece)
    }

    /// Tells whether the whole body has been read.
    pub fn is_over(&self) -> bool {
        match &self.state {
            State::Length(missing) => *missing == 0,
            State::Chunked(decoder) => decoder.is_over(),
            State::UntilClose => false,
        }
    }

    /// Returns how many bytes are still to come, when that is known.
    pub fn missing(&self) -> Option<u64> {
        match &self.state {
            State::Length(missing) => Some(*missing),
            State::Chunked(_) | State::UntilClose => None,
        }
    }

    fn end(&mut self) -> Result<Option<Piece>, Malformed> {
        match self.state {
            State::UntilClose => {
                self.state = State::Length(0);
                Ok(None)
            }
            State::Length(_) | State::Chunked(_) => Err(Malformed("the connection closed within a body")),
        }
    }
}
