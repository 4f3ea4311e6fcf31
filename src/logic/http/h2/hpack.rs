//! The compression of fields in HTTP/2 (RFC 7541): all of it is read; of it only what needs no memory is written.
//!
//! What is written goes to a program on the same host: bytes are cheap there, and a dynamic table, which costs a search for
//! each field, and an entry on both sides, is not. Names that the static table has are written as their number.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use thiserror::Error;

use crate::logic::http::h2::huffman;

/// The size of the dynamic table that the other side may fill, as RFC 7541 §4.1 counts it, in bytes: what it is without
/// `SETTINGS_HEADER_TABLE_SIZE`.
pub const TABLE_BYTES_MAX: usize = 4_096;
/// What each field counts besides its name and its value, in the table (RFC 7541 §4.1) and in a list of fields (RFC 9113
/// §6.5.2).
pub const ENTRY_BYTES: usize = 32;

/// How many bytes may follow the first one of a number: 35 bits, more than any length or index has.
const NUMBER_TAIL_MAX: u32 = 5;
/// Memory for decoded strings up to this size is kept from one block to the next.
const SCRATCH_KEPT_BYTES: usize = 2_048;
/// So many bytes of evicted entries may be at the beginning of the table's text before the rest is moved there.
const DEAD_BYTES_MIN: usize = 1_024;

/// Why a block cannot be decoded. What the table should hold after it is not known: the connection ends with
/// `COMPRESSION_ERROR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// It ends in the middle of a field.
    #[error("a block of fields is cut off")]
    Cut,
    /// A number has more digits than any that could be right.
    #[error("a number in a block of fields is too large")]
    Number,
    /// A field is named that no table has.
    #[error("a block of fields names one that is not in the table")]
    Index,
    /// A string is not in the Huffman code.
    #[error("a string in a block of fields is not in the Huffman code")]
    Huffman,
    /// The size of the table is changed to more than is allowed, or after a field.
    #[error("a block of fields changes the size of the table too late or to too much")]
    Resize,
}

/// Reads the blocks of one direction of a connection, which must all be given to it, in order.
///
/// Unused it has allocated nothing; between two blocks it holds some kilobytes, and never more than 24.
pub struct Decoder {
    table: Table,
    /// The decoded strings of one field.
    scratch: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Returns one for a connection that begins.
    pub fn new() -> Self {
        Self { table: Table::new(), scratch: Vec::new() }
    }

    /// Decodes a block and gives its fields to `field` in order, as name and value. They can be any bytes.
    ///
    /// # Errors
    /// When the block is at fault. `field` may have been given the fields before it, and this is of no further use.
    pub fn decode(&mut self, block: &[u8], field: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let result = self.decode_all(block, field);
        if self.scratch.capacity() > SCRATCH_KEPT_BYTES {
            self.scratch = Vec::new();
        }
        result
    }

    /// Returns how much memory it has allocated, in bytes.
    pub fn allocated(&self) -> usize {
        self.scratch.capacity()
            + self.table.text.capacity()
            + self.table.entries.capacity() * size_of::<Entry>()
    }

    fn decode_all(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let mut reader = Reader { rest: block };
        let mut begun = false;
        while let Some(first) = reader.rest.first() {
            // RFC 7541 §6.
            match first.leading_zeros() {
                0 => {
                    let (name, value) = self.table.field(reader.number(7)?)?;
                    field(name, value);
                }
                1 => self.literal(&mut reader, 6, true, &mut field)?,
                2 => {
                    let size = reader.number(5)?;
                    if begun || size > TABLE_BYTES_MAX {
                        return Err(Error::Resize);
                    }
                    self.table.resize(size);
                    continue;
                }
                _ => self.literal(&mut reader, 4, false, &mut field)?,
            }
            begun = true;
        }
        Ok(())
    }

    /// Reads a field whose value is written out, and with `kept` adds it to the table.
    fn literal(
        &mut self,
        reader: &mut Reader<'_>,
        prefix: u32,
        kept: bool,
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Error> {
        self.scratch.clear();
        let name = match reader.number(prefix)? {
            0 => Name::Written(reader.string(&mut self.scratch)?),
            index => self.table.name(index)?,
        };
        let value = reader.string(&mut self.scratch)?;
        let value = value.of(&self.scratch);
        match name {
            Name::Written(name) => {
                let name = name.of(&self.scratch);
                field(name, value);
                if kept {
                    self.table.add(name, value);
                }
            }
            Name::Kept(range) => {
                field(&self.table.text[range.clone()], value);
                if kept {
                    self.table.add_again(range, value);
                }
            }
        }
        Ok(())
    }
}

/// Shows no field: some are secret.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("entries", &self.table.entries.len())
            .field("size", &self.table.size)
            .field("size_max", &self.table.size_max)
            .finish_non_exhaustive()
    }
}

/// Where a string is.
enum Text<'b> {
    /// In the block, or in the static table.
    Plain(&'b [u8]),
    /// In the scratch buffer.
    Decoded(Range<usize>),
}

impl<'b> Text<'b> {
    fn of(self, scratch: &'b [u8]) -> &'b [u8] {
        match self {
            Self::Plain(text) => text,
            Self::Decoded(range) => &scratch[range],
        }
    }
}

/// Where a name is.
enum Name<'b> {
    Written(Text<'b>),
    /// In the text of the dynamic table.
    Kept(Range<usize>),
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.rest.split_first().ok_or(Error::Cut)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Reads a number that begins with the lowest `prefix` bits of the next byte (RFC 7541 §5.1).
    fn number(&mut self, prefix: u32) -> Result<usize, Error> {
        let full = (1_u8 << prefix) - 1;
        let first = self.byte()? & full;
        if first < full {
            return Ok(first.into());
        }
        let mut number = u64::from(full);
        for place in 0..NUMBER_TAIL_MAX {
            let byte = self.byte()?;
            number += u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| Error::Number);
            }
        }
        Err(Error::Number)
    }

    /// Reads a string (RFC 7541 §5.2).
    fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Text<'b>, Error> {
        let is_coded = self.rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.number(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Error::Cut)?;
        self.rest = rest;
        if !is_coded {
            return Ok(Text::Plain(text));
        }
        let start = scratch.len();
        huffman::decode(text, scratch).map_err(|_| Error::Huffman)?;
        Ok(Text::Decoded(start..scratch.len()))
    }
}

/// Where a field of the dynamic table is in its text: the value is behind the name.
#[derive(Clone, Copy)]
struct Entry {
    at: u32,
    name_len: u16,
    value_len: u16,
}

impl Entry {
    fn name(self) -> Range<usize> {
        let at = self.at as usize;
        at..at + usize::from(self.name_len)
    }

    fn value(self) -> Range<usize> {
        let at = self.name().end;
        at..at + usize::from(self.value_len)
    }

    fn size(self) -> usize {
        usize::from(self.name_len) + usize::from(self.value_len) + ENTRY_BYTES
    }
}

/// The static table, and behind it the dynamic one (RFC 7541 §2.3).
struct Table {
    /// The fields one behind the other, the oldest first. Evicted ones are at the beginning until the rest is moved there.
    text: Vec<u8>,
    /// The newest last.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

impl Table {
    fn new() -> Self {
        Self { text: Vec::new(), entries: VecDeque::new(), size: 0, size_max: TABLE_BYTES_MAX }
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Error> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|place| STATIC.get(place)) {
            return Ok((name, value));
        }
        let entry = self.entry(index)?;
        Ok((&self.text[entry.name()], &self.text[entry.value()]))
    }

    fn name(&self, index: usize) -> Result<Name<'static>, Error> {
        match index.checked_sub(1).and_then(|place| STATIC.get(place)) {
            Some((name, _)) => Ok(Name::Written(Text::Plain(name))),
            None => Ok(Name::Kept(self.entry(index)?.name())),
        }
    }

    /// Returns an entry by its index, of which the newest has the lowest.
    fn entry(&self, index: usize) -> Result<Entry, Error> {
        let age = index.checked_sub(STATIC.len()).ok_or(Error::Index)?;
        let place = self.entries.len().checked_sub(age).ok_or(Error::Index)?;
        self.entries.get(place).copied().ok_or(Error::Index)
    }

    fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict();
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        if self.may_hold(name.len(), value.len()) {
            let at = self.text.len();
            self.text.extend_from_slice(name);
            self.put(at, name.len(), value);
        }
    }

    /// Adds a field with the name of one that the table has, and that may have to go for it.
    fn add_again(&mut self, name: Range<usize>, value: &[u8]) {
        if self.may_hold(name.len(), value.len()) {
            let (at, len) = (self.text.len(), name.len());
            self.text.extend_from_within(name);
            self.put(at, len, value);
        }
    }

    /// Tells whether the table can hold a field; if not, there is nothing in the table any more (RFC 7541 §4.4).
    fn may_hold(&mut self, name_len: usize, value_len: usize) -> bool {
        let fits = name_len + value_len + ENTRY_BYTES <= self.size_max;
        if !fits {
            self.text.clear();
            self.entries.clear();
            self.size = 0;
        }
        fits
    }

    /// Makes an entry of the name at the end of the text and this value: both are shorter than [`TABLE_BYTES_MAX`].
    fn put(&mut self, at: usize, name_len: usize, value: &[u8]) {
        self.text.extend_from_slice(value);
        let entry = Entry { at: at as u32, name_len: name_len as u16, value_len: value.len() as u16 };
        self.entries.push_back(entry);
        self.size += entry.size();
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.size_max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.size();
        }
        let dead = self.entries.front().map_or(self.text.len(), |oldest| oldest.at as usize);
        if dead >= DEAD_BYTES_MIN {
            self.text.drain(..dead);
            for entry in &mut self.entries {
                entry.at -= dead as u32;
            }
        }
    }
}

/// Fields that no table on the way may keep (RFC 7541 §7.1.3).
const SECRET: [&[u8]; 4] = [b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"];

/// Writes a field at the end of `to`. The name may be in any case and is written in lower case.
pub fn write_field(name: &[u8], value: &[u8], to: &mut Vec<u8>) {
    to.reserve(name.len() + value.len() + 8);
    let index = index_of(name);
    let kind = match index {
        Some((_, true)) => NEVER_INDEXED,
        _ => WITHOUT_INDEXING,
    };
    if let Some((index, _)) = index {
        write_number(index.into(), 4, kind, to);
    } else {
        to.push(kind);
        write_number(name.len(), 7, 0, to);
        let at = to.len();
        to.extend_from_slice(name);
        to[at..].make_ascii_lowercase();
    }
    write_string(value, to);
}

/// Writes `:method`.
pub fn write_method(method: &str, to: &mut Vec<u8>) {
    match method {
        "GET" => to.push(INDEXED | 2),
        "POST" => to.push(INDEXED | 3),
        _ => write_indexed_name(2, method.as_bytes(), to),
    }
}

/// Writes `:scheme`, which is `http`: there is no TLS.
pub fn write_scheme(to: &mut Vec<u8>) {
    to.push(INDEXED | 6);
}

/// Writes `:authority`.
pub fn write_authority(authority: &str, to: &mut Vec<u8>) {
    write_indexed_name(1, authority.as_bytes(), to);
}

/// Writes `:path`.
pub fn write_path(path: &str, to: &mut Vec<u8>) {
    if path == "/" { to.push(INDEXED | 4) } else { write_indexed_name(4, path.as_bytes(), to) }
}

/// Writes `:protocol` (RFC 8441 §4).
pub fn write_protocol(protocol: &str, to: &mut Vec<u8>) {
    write_field(b":protocol", protocol.as_bytes(), to);
}

/// Writes `:status`, which has three digits.
pub fn write_status(status: u16, to: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
            return write_indexed_name(8, &digits, to);
        }
    };
    to.push(INDEXED | index);
}

// How a field begins (RFC 7541 §6).
const INDEXED: u8 = 0x80;
const WITHOUT_INDEXING: u8 = 0;
const NEVER_INDEXED: u8 = 0x10;

fn write_indexed_name(index: u8, value: &[u8], to: &mut Vec<u8>) {
    write_number(index.into(), 4, WITHOUT_INDEXING, to);
    write_string(value, to);
}

fn write_string(text: &[u8], to: &mut Vec<u8>) {
    write_number(text.len(), 7, 0, to);
    to.extend_from_slice(text);
}

/// Writes a number behind the highest bits of a byte, which `kind` has (RFC 7541 §5.1).
fn write_number(number: usize, prefix: u32, kind: u8, to: &mut Vec<u8>) {
    let full = (1_usize << prefix) - 1;
    if number < full {
        return to.push(kind | number as u8);
    }
    to.push(kind | full as u8);
    let mut rest = number - full;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// Returns the number of a name in the static table, and whether its values are secret.
fn index_of(name: &[u8]) -> Option<(u8, bool)> {
    let start = *BY_LENGTH.starts.get(name.len())?;
    let end = *BY_LENGTH.starts.get(name.len() + 1)?;
    let begin = name.first()?.to_ascii_lowercase();
    let named = BY_LENGTH.names.get(start.into()..end.into())?;
    let found = named.iter().find(|(first, index, _)| {
        *first == begin && STATIC[usize::from(*index) - 1].0.eq_ignore_ascii_case(name)
    });
    found.map(|(_, index, secret)| (*index, *secret))
}

/// The first entries of the static table, up to this one, are of pseudo-header fields.
const PSEUDO: usize = 14;
const NAME_BYTES_MAX: usize = 27;

/// The names of the static table by length, without pseudo-header fields.
struct ByLength {
    /// First byte, index, and whether the values are secret.
    names: [(u8, u8, bool); STATIC.len() - PSEUDO],
    /// Where the names of a length begin, which is where those of one byte less end.
    starts: [u8; NAME_BYTES_MAX + 2],
}

static BY_LENGTH: ByLength = {
    let mut table =
        ByLength { names: [(0, 0, false); STATIC.len() - PSEUDO], starts: [0; NAME_BYTES_MAX + 2] };
    let mut count = 0;
    let mut length = 0;
    while length <= NAME_BYTES_MAX {
        table.starts[length] = count as u8;
        let mut place = PSEUDO;
        while place < STATIC.len() {
            let name = STATIC[place].0;
            if name.len() == length {
                table.names[count] = (name[0], place as u8 + 1, is_secret(name));
                count += 1;
            }
            place += 1;
        }
        length += 1;
    }
    table.starts[length] = count as u8;
    assert!(count == table.names.len(), "a name is longer than the longest");
    table
};

const fn is_secret(name: &[u8]) -> bool {
    let mut place = 0;
    while place < SECRET.len() {
        if name.eq_ignore_ascii_case(SECRET[place]) {
            return true;
        }
        place += 1;
    }
    false
}

/// RFC 7541 Appendix A. The first has index 1.
static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];
