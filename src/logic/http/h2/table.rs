//! The tables that fields of HTTP/2 are named by (RFC 7541 §2.3): one that never changes, and one for each direction of a
//! connection.

use std::collections::VecDeque;
use std::ops::Range;

/// The size of the dynamic table that the other side may fill, as RFC 7541 §4.1 counts it, in bytes: what it is without
/// `SETTINGS_HEADER_TABLE_SIZE`.
pub const TABLE_BYTES_MAX: usize = 4_096;
/// What each field counts besides its name and its value, in the table (RFC 7541 §4.1) and in a list of fields (RFC 9113
/// §6.5.2).
pub const ENTRY_BYTES: usize = 32;

/// So many bytes of evicted entries may be at the beginning of the table's text before the rest is moved there.
const DEAD_BYTES_MIN: usize = 1_024;

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

/// The fixed fields, and behind them those that the other side has added (RFC 7541 §2.3).
pub(crate) struct Table {
    /// The fields one behind the other, the oldest first. Evicted ones are at the beginning until the rest is moved there.
    text: Vec<u8>,
    /// The newest last.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

impl Table {
    /// Returns one that is empty, which allocates nothing.
    pub(crate) fn new() -> Self {
        Self { text: Vec::new(), entries: VecDeque::new(), size: 0, size_max: TABLE_BYTES_MAX }
    }

    /// Returns a field by its index: name and value.
    pub(crate) fn field(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = fixed(index) {
            return Some((name, value));
        }
        let entry = self.entry(index)?;
        Some((&self.text[entry.name()], &self.text[entry.value()]))
    }

    /// Returns where the name is of a field that is not a fixed one.
    pub(crate) fn name(&self, index: usize) -> Option<Range<usize>> {
        self.entry(index).map(Entry::name)
    }

    /// Returns a name.
    pub(crate) fn text(&self, range: Range<usize>) -> &[u8] {
        &self.text[range]
    }

    /// Returns an entry by its index: the newest has the lowest.
    fn entry(&self, index: usize) -> Option<Entry> {
        let age = index.checked_sub(FIXED.len())?;
        self.entries.get(self.entries.len().checked_sub(age)?).copied()
    }

    /// Returns how many fields there are besides the fixed ones.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns how much memory is allocated, in bytes.
    pub(crate) fn allocated(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Changes what it may hold, at most [`TABLE_BYTES_MAX`].
    pub(crate) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict();
    }

    /// Adds a field in front, if it can hold it, and lets go of the oldest ones for it.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        if self.may_hold(name.len(), value.len()) {
            let at = self.text.len();
            self.text.extend_from_slice(name);
            self.put(at, name.len(), value);
        }
    }

    /// As [`Table::add`], with the name of a field that it has, and that may have to go.
    pub(crate) fn add_again(&mut self, name: Range<usize>, value: &[u8]) {
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

/// Returns a fixed field by its index: name and value.
pub(crate) fn fixed(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    FIXED.get(index.checked_sub(1)?).copied()
}

/// Fields that no table on the way may keep (RFC 7541 §7.1.3).
const SECRET: [&[u8]; 4] = [b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"];

/// Returns the index of a fixed field by its name, and whether the values of such fields are secret. The name may be in any
/// case; that of a pseudo-header field is not found.
pub(crate) fn index_of(name: &[u8]) -> Option<(u8, bool)> {
    let start = *BY_LENGTH.starts.get(name.len())?;
    let end = *BY_LENGTH.starts.get(name.len() + 1)?;
    let begin = name.first()?.to_ascii_lowercase();
    let named = BY_LENGTH.names.get(start.into()..end.into())?;
    let found = named.iter().find(|(first, index, _)| {
        let fixed = FIXED[usize::from(*index) - 1].0;
        // Most are in lower case already, which is faster to see.
        *first == begin && (fixed == name || fixed.eq_ignore_ascii_case(name))
    });
    found.map(|(_, index, secret)| (*index, *secret))
}

/// How many of the fixed fields are pseudo-header fields: the first ones.
const PSEUDO: usize = 14;
const NAME_BYTES_MAX: usize = 27;

/// The names of the fixed fields by length, without pseudo-header fields.
struct ByLength {
    /// First byte, index, and whether the values are secret.
    names: [(u8, u8, bool); FIXED.len() - PSEUDO],
    /// Where the names of a length begin, which is where those of one byte less end.
    starts: [u8; NAME_BYTES_MAX + 2],
}

static BY_LENGTH: ByLength = {
    let mut table =
        ByLength { names: [(0, 0, false); FIXED.len() - PSEUDO], starts: [0; NAME_BYTES_MAX + 2] };
    let mut count = 0;
    let mut length = 0;
    while length <= NAME_BYTES_MAX {
        table.starts[length] = count as u8;
        let mut place = PSEUDO;
        while place < FIXED.len() {
            let name = FIXED[place].0;
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
static FIXED: [(&[u8], &[u8]); 61] = [
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
