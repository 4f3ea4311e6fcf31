//! The field lines of a head: limits, strict line ends, and one pass that takes out what frames the message and what
//! belongs to the connection.

use httparse::Header;

use crate::logic::http::fields::{Fields, is_name, items};
use crate::logic::http::hop::{Known, TRAILERS, is_removable};

/// The size that a head, or a trailer section, may have, in bytes: room for large cookies and tokens, and no more than a
/// connection may keep for one that never ends.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// How many fields a request of a caller, or a trailer section, may have, as others have it (Envoy, hyper). What proxies add
/// to it is not counted: they say heads to each other in their own way.
pub const FIELDS_MAX: usize = 100;

/// How many fields a response may have: more than a request, since a service sets each cookie by a field of its own, and
/// the caller cannot ask for fewer.
pub const RESPONSE_FIELDS_MAX: usize = 256;

/// How many options Connection may name: each costs a search of the fields.
const OPTIONS_MAX: usize = 128;

/// A message that breaks the rules, and which one. The connection that it came by is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Tells whether the end of a head may be in the buffer, of which the first `seen` bytes are known to hold none.
///
/// Parsing starts over with every call, so that a head which arrives byte by byte costs the square of its length. Whoever
/// reads from a connection asks this in between: it looks at the new bytes only.
pub fn may_be_whole(buffer: &[u8], seen: usize) -> bool {
    if seen == 0 || buffer.len() >= HEAD_BYTES_MAX {
        return true;
    }
    // An end may have begun in what was seen.
    let fresh = &buffer[seen.min(buffer.len()).saturating_sub(3)..];
    fresh.windows(2).any(|pair| pair == b"\n\r" || pair == b"\n\n")
}

/// Tells whether each line of a whole head ends with CR LF: the parser takes a bare LF as well, other readers do not.
pub(crate) fn end_with_crlf(head: &[u8], lines: &[Header<'_>]) -> bool {
    let start = head.as_ptr().addr();
    head.ends_with(b"\r\n\r\n")
        && lines.iter().all(|line| head[..line.name.as_ptr().addr() - start].ends_with(b"\r\n"))
}

/// What Transfer-Encoding says, over all of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// There is none.
    Plain,
    /// Chunked, and nothing else.
    Chunked,
    /// Chunked at last, after codings that we do not know.
    Unknown,
    /// It does not end with chunked, or says it twice, or is no list of codings.
    Broken,
}

/// The codings that Transfer-Encoding has named so far.
#[derive(Debug, Clone, Copy, Default)]
struct Codings {
    chunked: usize,
    others: usize,
    chunked_last: bool,
    broken: bool,
}

impl Codings {
    fn add(&mut self, value: &[u8]) {
        // An empty item is not forgiven: readers differ in what they make of it.
        for item in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.broken |= !is_name(item);
            self.chunked_last = item.eq_ignore_ascii_case(b"chunked");
            if self.chunked_last {
                self.chunked += 1;
            } else {
                self.others += 1;
            }
        }
    }

    fn verdict(self) -> Coding {
        match (self.chunked, self.others) {
            (0, 0) => Coding::Plain,
            _ if self.broken || !self.chunked_last || self.chunked > 1 => Coding::Broken,
            (_, 0) => Coding::Chunked,
            _ => Coding::Unknown,
        }
    }
}

/// What Connection lists of the options that have a meaning here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// How many others: names of fields to take away.
    others: usize,
}

/// What one pass over the field lines found. Content-Length, Transfer-Encoding and all that belongs to the connection are
/// not among the fields.
#[derive(Debug)]
pub(crate) struct Scan<'b> {
    head: &'b [u8],
    pub(crate) fields: Fields,
    /// The value of the first Host.
    pub(crate) host: Option<&'b [u8]>,
    /// How often Host is there.
    pub(crate) hosts: usize,
    pub(crate) length: Option<u64>,
    codings: Codings,
    pub(crate) options: Options,
    /// The protocols that Upgrade names, without h2c.
    pub(crate) upgrade: Option<String>,
    /// The value of the last Expect, which stays among the fields.
    pub(crate) expect: Option<&'b [u8]>,
}

impl<'b> Scan<'b> {
    /// Goes over the lines of a head.
    ///
    /// # Errors
    /// When Content-Length is no number, or several; or when Connection has too many options.
    pub(crate) fn of(head: &'b [u8], lines: &[Header<'b>]) -> Result<Self, Malformed> {
        let mut scan = Self {
            head,
            fields: Fields::within(head, lines.len()),
            host: None,
            hosts: 0,
            length: None,
            codings: Codings::default(),
            options: Options::default(),
            upgrade: None,
            expect: None,
        };
        for line in lines {
            scan.take(line.name.as_bytes(), line.value)?;
        }
        if scan.options.others > 0 {
            scan.strip_listed(lines)?;
        }
        Ok(scan)
    }

    /// Returns what Transfer-Encoding says.
    pub(crate) fn coding(&self) -> Coding {
        self.codings.verdict()
    }

    fn take(&mut self, name: &'b [u8], value: &'b [u8]) -> Result<(), Malformed> {
        match Known::of(name) {
            Known::Other => self.fields.append_from(self.head, name, value),
            Known::Idle => {}
            Known::Host => {
                self.host = self.host.or(Some(value));
                self.hosts += 1;
            }
            Known::Expect => {
                self.expect = Some(value);
                self.fields.append_from(self.head, name, value);
            }
            Known::ContentLength => {
                let length = length(value).ok_or(Malformed("content-length is not one number"))?;
                if self.length.is_some_and(|other| other != length) {
                    return Err(Malformed("two different values of content-length"));
                }
                self.length = Some(length);
            }
            Known::TransferEncoding => self.codings.add(value),
            Known::Connection => self.options = options(self.options, value),
            Known::Upgrade => upgrade(&mut self.upgrade, value),
            Known::Te => {
                let trailers = items(value).any(|item| item.eq_ignore_ascii_case(TRAILERS.as_bytes()));
                if trailers && !self.fields.contains("te") {
                    self.fields.append(name, TRAILERS.as_bytes());
                }
            }
        }
        Ok(())
    }

    fn strip_listed(&mut self, lines: &[Header<'b>]) -> Result<(), Malformed> {
        if self.options.others > OPTIONS_MAX {
            return Err(Malformed("too many options of connection"));
        }
        let connections = lines.iter().filter(|line| Known::of(line.name.as_bytes()) == Known::Connection);
        for option in connections.flat_map(|line| items(line.value)).filter(|option| is_removable(option)) {
            self.fields.remove_bytes(option);
        }
        Ok(())
    }
}

/// Reads a length, or a list of equal ones (RFC 9112 §6.3 allows to take those for one).
fn length(value: &[u8]) -> Option<u64> {
    let mut numbers = value.split(|byte| *byte == b',').map(|item| number(item.trim_ascii()));
    let first = numbers.next()??;
    numbers.all(|other| other == Some(first)).then_some(first)
}

/// Reads digits and nothing else: `parse` of the standard library takes a sign.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

fn options(before: Options, value: &[u8]) -> Options {
    let mut options = before;
    for item in items(value) {
        let is = |option: &str| item.eq_ignore_ascii_case(option.as_bytes());
        match item.len() {
            5 if is("close") => options.close = true,
            10 if is("keep-alive") => options.keep_alive = true,
            7 if is("upgrade") => options.upgrade = true,
            _ => options.others += 1,
        }
    }
    options
}

/// Adds what a line of Upgrade names. HTTP/2 without encryption is begun by its preface only: RFC 9113 §3.1 gave up h2c.
fn upgrade(protocols: &mut Option<String>, value: &[u8]) {
    for item in items(value).filter(|item| item.is_ascii() && !item.eq_ignore_ascii_case(b"h2c")) {
        let Ok(item) = str::from_utf8(item) else { continue };
        let all = protocols.get_or_insert_default();
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(item);
    }
}
