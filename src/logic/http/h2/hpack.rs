//! The compression of fields in HTTP/2 (RFC 7541): all of it is read; of it only what needs no memory is written.
//!
//! What is written goes to a program on the same host: bytes are cheap there, and a dynamic table, which costs a search for
//! each field, and an entry on both sides, is not. Names that the static table has are written as their number.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use crate::logic::http::h2::huffman;
use crate::logic::http::h2::table::{self, TABLE_BYTES_MAX, Table};

/// How many bytes may follow the first one of a number: 35 bits, more than any length or index has.
const NUMBER_TAIL_MAX: u32 = 5;
/// Memory for decoded strings up to this size is kept from one block to the next.
const SCRATCH_KEPT_BYTES: usize = 2_048;

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
        self.scratch.capacity() + self.table.allocated()
    }

    fn decode_all(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let mut reader = Reader { rest: block };
        let mut begun = false;
        while let Some(first) = reader.rest.first() {
            // RFC 7541 §6.
            match first.leading_zeros() {
                0 => {
                    let (name, value) = self.table.field(reader.number(7)?).ok_or(Error::Index)?;
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
            index => match table::fixed(index) {
                Some((name, _)) => Name::Written(Text::Plain(name)),
                None => Name::Kept(self.table.name(index).ok_or(Error::Index)?),
            },
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
                field(self.table.text(range.clone()), value);
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
        f.debug_struct("Decoder").field("fields", &self.table.len()).finish_non_exhaustive()
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

/// Writes a field at the end of `to`. The name may be in any case and is written in lower case.
pub fn write_field(name: &[u8], value: &[u8], to: &mut Vec<u8>) {
    if let Some((index, secret)) = table::index_of(name) {
        let kind = if secret { NEVER_INDEXED } else { WITHOUT_INDEXING };
        // No field but those of pseudo-header fields has an index that fits behind the kind.
        to.extend_from_slice(&[kind | 0x0f, index - 0x0f]);
    } else {
        if let Ok(length @ ..0x7f) = u8::try_from(name.len()) {
            to.extend_from_slice(&[WITHOUT_INDEXING, length]);
        } else {
            to.push(WITHOUT_INDEXING);
            write_number(name.len(), 7, 0, to);
        }
        to.extend(name.iter().map(u8::to_ascii_lowercase));
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
