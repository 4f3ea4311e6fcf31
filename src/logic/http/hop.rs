//! What belongs to one connection and is taken off before a message goes on (RFC 9110 §7.6.1).

use crate::logic::http::fields::{Fields, items};

/// The fields that something is decided by, found by their names in one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Te,
    Expect,
    /// Of this connection and of no interest: Keep-Alive, Proxy-Connection, HTTP2-Settings.
    Idle,
    /// End to end, as far as its name says.
    Other,
}

impl Known {
    /// Finds what a field is by its name: by length first, so that most names are compared with nothing.
    pub(crate) fn of(name: &[u8]) -> Self {
        let (known, text): (Self, &[u8]) = match name.len() {
            2 => (Self::Te, b"te"),
            4 => (Self::Host, b"host"),
            6 => (Self::Expect, b"expect"),
            7 => (Self::Upgrade, b"upgrade"),
            10 if name[0].eq_ignore_ascii_case(&b'c') => (Self::Connection, b"connection"),
            10 => (Self::Idle, b"keep-alive"),
            14 if name[0].eq_ignore_ascii_case(&b'c') => (Self::ContentLength, b"content-length"),
            14 => (Self::Idle, b"http2-settings"),
            16 => (Self::Idle, b"proxy-connection"),
            17 => (Self::TransferEncoding, b"transfer-encoding"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(text) { known } else { Self::Other }
    }
}

/// Takes off what belongs to the connection that a message came by: Connection and all that it names, Keep-Alive,
/// Proxy-Connection, Transfer-Encoding, Upgrade, HTTP2-Settings, and TE but for `trailers`.
///
/// What Connection names is believed but for Host and Content-Length, which are not its to take away, and for TE, which
/// must be named there and is looked at by itself. Trailer stays: it speaks of the message. The parsers of `h1` have done
/// this already; it is for fields that came another way.
pub fn strip(fields: &mut Fields) {
    let named: Vec<Vec<u8>> = fields
        .all("connection")
        .flat_map(items)
        .filter(|option| is_removable(option))
        .map(<[u8]>::to_vec)
        .collect();
    for option in &named {
        fields.remove_bytes(option);
    }
    let trailers = fields.lists("te", TRAILERS);
    fields.retain(|name, _| match Known::of(name) {
        Known::Connection | Known::Upgrade | Known::Idle | Known::TransferEncoding => false,
        Known::Te => trailers,
        Known::Host | Known::ContentLength | Known::Expect | Known::Other => true,
    });
    if trailers {
        fields.set("te", TRAILERS.as_bytes());
    }
}

/// The one member of TE that has a meaning beyond one connection: that somebody reads trailer fields.
pub(crate) const TRAILERS: &str = "trailers";

/// Tells whether a connection option names a field that it can take away.
pub(crate) fn is_removable(option: &[u8]) -> bool {
    match Known::of(option) {
        // The first three stay whatever is listed; the others are taken away by their own names.
        Known::Host
        | Known::ContentLength
        | Known::Te
        | Known::TransferEncoding
        | Known::Connection
        | Known::Upgrade
        | Known::Idle => false,
        Known::Expect => true,
        Known::Other => !option.eq_ignore_ascii_case(b"close"),
    }
}
