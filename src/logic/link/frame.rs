//! Frames: how many streams share one connection, as HTTP/2 (RFC 9113) and yamux do it, with less.
//!
//! A frame is eight bytes, numbers in network order, and a payload:
//!
//! ```text
//! length u24 | flags and kind u8 | stream u32 | payload
//! ```
//!
//! The side that dialled opens streams, numbered 1, 2, 3 and so on; stream 0 is the link itself. The length is checked
//! against the kind before the payload is waited for, so that no peer makes us hold more than a frame of its kind has.

use thiserror::Error;

/// The size of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 8;
/// The longest payload of DATA, in bytes: with its header it fills one TLS record (RFC 8446 §5.1).
pub const DATA_BYTES_MAX: usize = (16 << 10) - HEADER_BYTES;
/// The longest payload of OPEN, HEAD and TRAILERS, in bytes.
pub const HEAD_BYTES_MAX: usize = 96 << 10;
/// The longest reason that RESET gives, in bytes.
pub const REASON_BYTES_MAX: usize = 255;

const END: u8 = 0x80;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens a stream with the head of a request.
    Open,
    /// Opens a stream of bytes.
    OpenTcp,
    /// The head of a response; interim ones may come before the final one.
    Head,
    /// Bytes of a body or of a connection.
    Data,
    /// The trailer fields, which end a body.
    Trailers,
    /// Gives back window: how many more bytes of DATA may be sent (u32).
    Credit,
    /// Ends a stream in both directions before its time: a [`Code`] and a short reason. On stream 0: ends the link.
    Reset,
    /// Asks whether the peer is there (u64).
    Ping,
    /// Answers [`Kind::Ping`] with its number.
    Pong,
    /// Nothing is accepted any more: the last stream that was (u32). Streams up to it go on.
    Away,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Open,
        Self::OpenTcp,
        Self::Head,
        Self::Data,
        Self::Trailers,
        Self::Credit,
        Self::Reset,
        Self::Ping,
        Self::Pong,
        Self::Away,
    ];

    const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// Tells whether a payload may be so long.
    fn takes(self, length: usize) -> bool {
        match self {
            Self::Open | Self::Head | Self::Trailers => (1..=HEAD_BYTES_MAX).contains(&length),
            Self::OpenTcp => length == 0,
            Self::Data => length <= DATA_BYTES_MAX,
            Self::Credit | Self::Away => length == 4,
            Self::Reset => (1..=1 + REASON_BYTES_MAX).contains(&length),
            Self::Ping | Self::Pong => length == 8,
        }
    }

    /// Tells whether the frame speaks of the link (stream 0), of a stream (any other), or may do both.
    fn is_on(self, stream: u32) -> bool {
        match self {
            Self::Ping | Self::Pong | Self::Away => stream == 0,
            Self::Reset => true,
            Self::Open | Self::OpenTcp | Self::Head | Self::Data | Self::Trailers | Self::Credit => {
                stream != 0
            }
        }
    }

    /// Tells whether the end of a direction is where it may be: TRAILERS always end theirs, an empty DATA is for nothing
    /// else.
    fn may_end(self, end: bool, length: usize) -> bool {
        match self {
            Self::Open | Self::Head => true,
            Self::Data => end || length > 0,
            Self::Trailers => end,
            Self::OpenTcp | Self::Credit | Self::Reset | Self::Ping | Self::Pong | Self::Away => !end,
        }
    }
}

/// The first eight bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub kind: Kind,
    /// Whether the sender sends nothing more on this stream.
    pub end: bool,
    /// The stream it belongs to; 0 is the link.
    pub stream: u32,
    /// The size of the payload, in bytes.
    pub length: usize,
}

impl Header {
    /// Writes it down.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let kind = self.kind.number() | if self.end { END } else { 0 };
        ((self.length as u64) << 40 | u64::from(kind) << 32 | u64::from(self.stream)).to_be_bytes()
    }

    /// Reads it, and checks all that can be known without the payload.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Violation> {
        let header = u64::from_be_bytes(bytes);
        let (length, kind, stream) = ((header >> 40) as usize, (header >> 32) as u8, header as u32);
        let end = kind & END != 0;
        let number = usize::from(kind & !END);
        let known = number.checked_sub(1).and_then(|place| Kind::ALL.get(place));
        let kind = *known.ok_or(Violation::UnknownKind)?;
        if !kind.takes(length) {
            return Err(Violation::BadLength);
        }
        if !kind.is_on(stream) || !kind.may_end(end, length) {
            return Err(Violation::Misplaced);
        }
        Ok(Self { kind, end, stream, length })
    }
}

/// Why a stream was ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Whoever opened the stream, or serves it, does not want it any more.
    Cancelled,
    /// What came back is whole and the rest of what is sent is not needed.
    Enough,
    /// Nobody looked at the stream: it is safe to try again.
    Refused,
    /// What came in the stream is malformed.
    Protocol,
    /// The sender could not do its work. Also every code that is not known.
    Internal,
    /// The sender's own source broke within the message.
    Truncated,
    /// The sender's patience is over.
    TimedOut,
    /// A head or a message is larger than the sender takes.
    TooLarge,
    /// The sender has a failure of its own list to tell, by its number there: 191 at most.
    Failure(u8),
}

/// From here on codes are [`Code::Failure`].
const FAILURES: u8 = 64;

impl Code {
    /// Returns the code's number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Cancelled => 1,
            Self::Enough => 2,
            Self::Refused => 3,
            Self::Protocol => 4,
            Self::Internal => 5,
            Self::Truncated => 6,
            Self::TimedOut => 7,
            Self::TooLarge => 8,
            Self::Failure(number) => FAILURES.saturating_add(number),
        }
    }

    /// Returns the code of this number on the wire.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Cancelled,
            2 => Self::Enough,
            3 => Self::Refused,
            4 => Self::Protocol,
            6 => Self::Truncated,
            7 => Self::TimedOut,
            8 => Self::TooLarge,
            FAILURES.. => Self::Failure(number - FAILURES),
            _ => Self::Internal,
        }
    }
}

/// A rule that the peer broke. The link ends with it: what follows in its bytes cannot be trusted to mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A frame of no known kind.
    #[error("a frame of unknown kind")]
    UnknownKind,
    /// A payload longer or shorter than its kind has.
    #[error("a frame of impossible length")]
    BadLength,
    /// A frame for the link on a stream or the other way round, or an end where none can be.
    #[error("a frame where it cannot be")]
    Misplaced,
    /// A frame that the other side of a link sends.
    #[error("a frame of the wrong side")]
    WrongSide,
    /// Streams are not numbered one by one.
    #[error("a stream out of turn")]
    OutOfTurn,
    /// A frame for a stream that was never opened.
    #[error("a frame for a stream that was never opened")]
    NeverOpened,
    /// More bytes than the window has.
    #[error("more bytes than were granted")]
    Overrun,
    /// More window than one can have, or none.
    #[error("an impossible credit")]
    BadCredit,
    /// A second final head, bytes before the head or after the end, trailers of a TCP connection and the like.
    #[error("a frame out of order")]
    OutOfOrder,
    /// A PONG that answers nothing.
    #[error("an answer to no question")]
    Unasked,
}
