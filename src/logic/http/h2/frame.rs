//! Frames of HTTP/2 (RFC 9113 §4, §6): their headers, settings, and what is wrong with them.

use thiserror::Error;

/// What a client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The size of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 9;
/// The longest payload that is taken and sent, in bytes: what everybody takes (§4.2).
pub const FRAME_BYTES_MAX: usize = 16 << 10;
/// The window of a connection, and of a stream of a side that says nothing else, in bytes (§6.9.2).
pub const WINDOW_INITIAL: u32 = (1 << 16) - 1;
/// The largest window there is, in bytes (§6.9.1).
pub const WINDOW_MAX: u32 = (1 << 31) - 1;

/// Nothing follows on the stream, of DATA and HEADERS.
pub const END_STREAM: u8 = 0x1;
/// The frame answers one of ours, of SETTINGS and PING.
pub const ACK: u8 = 0x1;
/// The head is complete, of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What a frame is for, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of a body.
    Data = 0,
    /// A head, or the trailer fields.
    Headers = 1,
    /// Nothing that anybody follows any more.
    Priority = 2,
    /// Ends a stream before its time.
    Reset = 3,
    /// How the sender wishes to be spoken to.
    Settings = 4,
    /// A request that nobody made: taken from nobody.
    PushPromise = 5,
    /// Asks whether the other side is there, or answers that.
    Ping = 6,
    /// No more streams are taken.
    GoAway = 7,
    /// Gives back window, of a stream or of the connection.
    WindowUpdate = 8,
    /// More of a head.
    Continuation = 9,
    /// Anything else: passed over (§5.5).
    Unknown = 10,
}

/// Why a stream or a connection ends before its time (§7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the RFC")]
pub enum Reason {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

impl Reason {
    /// Returns its number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// A rule that the other side broke. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// It does not begin as HTTP/2 does.
    #[error("it does not speak HTTP/2")]
    NoPreface,
    /// A frame is longer than it may be, or not as long as its kind is.
    #[error("a frame of impossible length")]
    BadLength,
    /// A frame for the connection on a stream or the other way round, or for a stream that cannot be.
    #[error("a frame where it cannot be")]
    Misplaced,
    /// A frame within a head, or more of a head where there is none.
    #[error("a head that is torn apart")]
    TornHead,
    /// A head, or a frame of anything but a body, whose end does not come.
    #[error("a head that does not end")]
    LateHead,
    /// Padding that is longer than its frame.
    #[error("padding without end")]
    BadPadding,
    /// A setting that cannot be.
    #[error("an impossible setting")]
    BadSetting,
    /// More bytes than the window has, or a window that is larger than one can be.
    #[error("an impossible window")]
    BadWindow,
    /// A head that cannot be unpacked: no later one can be either.
    #[error("a head that cannot be unpacked")]
    BadBlock,
    /// A request from the side that answers them.
    #[error("a request of the wrong side")]
    WrongSide,
    /// Too much that costs its receiver something and carries nothing.
    #[error("a flood")]
    Flood,
}

impl Fault {
    /// Returns the reason that the other side is told.
    pub const fn reason(self) -> Reason {
        match self {
            Self::NoPreface
            | Self::Misplaced
            | Self::TornHead
            | Self::BadPadding
            | Self::BadSetting
            | Self::WrongSide => Reason::Protocol,
            Self::BadLength => Reason::FrameSize,
            Self::BadWindow => Reason::FlowControl,
            Self::BadBlock => Reason::Compression,
            Self::LateHead | Self::Flood => Reason::EnhanceYourCalm,
        }
    }
}

/// The first nine bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The size of the payload, in bytes.
    pub length: usize,
    /// What the frame is for.
    pub kind: Kind,
    /// What its kind has to say in one bit each.
    pub flags: u8,
    /// The stream it belongs to; 0 is the connection.
    pub stream: u32,
}

impl Header {
    /// Writes it down.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..3].copy_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        bytes[3] = self.kind as u8;
        bytes[4] = self.flags;
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Reads it, and checks all that can be known without the payload.
    ///
    /// # Errors
    /// When it is too long, too short, or cannot be on that stream.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Fault> {
        let [length @ .., kind, flags, _, _, _, _] = bytes;
        let [_, _, _, _, _, stream @ ..] = bytes;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let stream = u32::from_be_bytes(stream) & WINDOW_MAX;
        let kind = kind_of(kind);
        let header = Self { length, kind, flags, stream };
        if length > FRAME_BYTES_MAX || !header.is_of_its_length() {
            return Err(Fault::BadLength);
        }
        let is_placed = match kind {
            Kind::Data
            | Kind::Headers
            | Kind::Priority
            | Kind::Reset
            | Kind::PushPromise
            | Kind::Continuation => stream != 0,
            Kind::Settings | Kind::Ping | Kind::GoAway => stream == 0,
            Kind::WindowUpdate | Kind::Unknown => true,
        };
        if is_placed { Ok(header) } else { Err(Fault::Misplaced) }
    }

    fn is_of_its_length(self) -> bool {
        match self.kind {
            Kind::Priority => self.length == 5,
            Kind::Reset | Kind::WindowUpdate => self.length == 4,
            Kind::Settings if self.has(ACK) => self.length == 0,
            Kind::Settings => self.length.is_multiple_of(SETTING_BYTES),
            Kind::Ping => self.length == 8,
            Kind::GoAway => self.length >= 8,
            Kind::Data | Kind::Headers | Kind::PushPromise | Kind::Continuation | Kind::Unknown => true,
        }
    }

    /// Tells whether a flag is set.
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Tells whether nothing follows on the stream.
    pub fn ends(self) -> bool {
        self.has(END_STREAM) && matches!(self.kind, Kind::Data | Kind::Headers)
    }

    /// Returns the payload of DATA or HEADERS without padding, and without what once was a priority.
    ///
    /// # Errors
    /// When they are longer than the payload.
    pub fn content(self, payload: &[u8]) -> Result<&[u8], Fault> {
        let mut content = payload;
        if self.has(PADDED) {
            let (padding, rest) = content.split_first().ok_or(Fault::BadPadding)?;
            let length = rest.len().checked_sub(usize::from(*padding)).ok_or(Fault::BadPadding)?;
            content = &rest[..length];
        }
        if self.kind == Kind::Headers && self.has(PRIORITY) {
            content = content.get(5..).ok_or(Fault::BadLength)?;
        }
        Ok(content)
    }
}

const fn kind_of(number: u8) -> Kind {
    match number {
        0 => Kind::Data,
        1 => Kind::Headers,
        2 => Kind::Priority,
        3 => Kind::Reset,
        4 => Kind::Settings,
        5 => Kind::PushPromise,
        6 => Kind::Ping,
        7 => Kind::GoAway,
        8 => Kind::WindowUpdate,
        9 => Kind::Continuation,
        _ => Kind::Unknown,
    }
}

const SETTING_BYTES: usize = 6;
const TABLE_BYTES: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const STREAMS_MAX: u16 = 3;
const INITIAL_WINDOW: u16 = 4;
const FRAME_BYTES: u16 = 5;
const HEAD_BYTES: u16 = 6;
const CONNECT_PROTOCOL: u16 = 8;

/// How a side wishes to be spoken to (§6.5.2), as far as we follow or say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The table that the other side may use to pack heads, in bytes.
    pub table_bytes: u32,
    /// Streams at a time that the other side may open.
    pub streams_max: u32,
    /// The window that a stream begins with, in bytes.
    pub window: u32,
    /// Whether CONNECT may ask for a protocol (RFC 8441).
    pub takes_protocols: bool,
}

impl Default for Settings {
    /// Those of a side that has not spoken.
    fn default() -> Self {
        Self { table_bytes: 4_096, streams_max: u32::MAX, window: WINDOW_INITIAL, takes_protocols: false }
    }
}

impl Settings {
    /// Takes in a payload of SETTINGS.
    ///
    /// # Errors
    /// When one cannot be.
    pub fn read(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (settings, _) = payload.as_chunks::<SETTING_BYTES>();
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                TABLE_BYTES => self.table_bytes = value,
                STREAMS_MAX => self.streams_max = value,
                INITIAL_WINDOW if value > WINDOW_MAX => return Err(Fault::BadWindow),
                INITIAL_WINDOW => self.window = value,
                FRAME_BYTES if !(1 << 14..1 << 24).contains(&value) => return Err(Fault::BadSetting),
                ENABLE_PUSH | CONNECT_PROTOCOL if value > 1 => return Err(Fault::BadSetting),
                CONNECT_PROTOCOL => self.takes_protocols = value == 1,
                // What is allowed to us beyond what we do, and what we know nothing of.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes the SETTINGS of a side that answers requests: `streams` at a time, windows and heads of so many bytes.
pub fn write_server_settings(streams: u32, window: u32, head_bytes: u32, to: &mut Vec<u8>) {
    let settings =
        [(STREAMS_MAX, streams), (INITIAL_WINDOW, window), (HEAD_BYTES, head_bytes), (CONNECT_PROTOCOL, 1)];
    write_settings(&settings, to);
}

/// Writes the SETTINGS of a side that makes requests.
pub fn write_client_settings(window: u32, head_bytes: u32, to: &mut Vec<u8>) {
    write_settings(&[(ENABLE_PUSH, 0), (INITIAL_WINDOW, window), (HEAD_BYTES, head_bytes)], to);
}

fn write_settings(settings: &[(u16, u32)], to: &mut Vec<u8>) {
    let length = settings.len() * SETTING_BYTES;
    to.extend_from_slice(&Header { length, kind: Kind::Settings, flags: 0, stream: 0 }.encode());
    for (name, value) in settings {
        to.extend_from_slice(&name.to_be_bytes());
        to.extend_from_slice(&value.to_be_bytes());
    }
}
