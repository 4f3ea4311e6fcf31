//! Header fields: an ordered list that keeps the case of names, in one buffer and one list of ranges.
//!
//! A message has some ten to thirty fields and is asked for a handful of them, so a search goes along the list and
//! compares lengths first. Nothing is hashed and no field is allocated by itself.

use std::fmt;
use std::ops::Range;

/// Fields whose values are for one reader only and are not shown by [`fmt::Debug`].
const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];

/// Room for what a proxy adds to the fields of a message, so that adding does not copy them.
const ADDED_FIELDS: usize = 4;
const ADDED_BYTES: usize = 128;

/// Where one field is in the buffer.
#[derive(Clone, Copy)]
struct Entry {
    name_at: u32,
    name_len: u32,
    value_at: u32,
    value_len: u32,
}

impl Entry {
    fn name(self) -> Range<usize> {
        let at = self.name_at as usize;
        at..at + self.name_len as usize
    }

    fn value(self) -> Range<usize> {
        let at = self.value_at as usize;
        at..at + self.value_len as usize
    }
}

/// Ordered header fields (or trailer fields) with the names as they were written.
///
/// A field that occurs more than once is there more than once. Names compare ignoring ASCII case, in [`PartialEq`] too;
/// values compare to the byte. `Debug` shows text, but not what authorizes anyone.
#[derive(Clone, Default)]
pub struct Fields {
    /// What the entries point into; there may be bytes that none of them does.
    text: Vec<u8>,
    entries: Vec<Entry>,
}

impl Fields {
    /// Returns no fields; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns no fields, with room for `fields` of them and for `bytes` of names and values.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), entries: Vec::with_capacity(fields) }
    }

    /// Returns how many fields there are, each repetition counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the size of all names and values together, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.name_len as usize + entry.value_len as usize).sum()
    }

    /// Goes through all fields in order, as name and value.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator {
        self.entries.iter().map(|entry| (&self.text[entry.name()], &self.text[entry.value()]))
    }

    /// Returns the value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.find(name).map(|place| &self.text[self.entries[place].value()])
    }

    /// Goes through the values of all fields of this name, in order.
    pub fn all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f [u8]> {
        self.entries
            .iter()
            .filter(move |entry| is_named(&self.text, **entry, name))
            .map(|entry| &self.text[entry.value()])
    }

    /// Tells whether there is a field of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Tells whether a comma-separated field of this name has this item, ignoring case (as in `Connection: upgrade`).
    pub fn lists(&self, name: &str, item: &str) -> bool {
        self.all(name).flat_map(items).any(|one| one.eq_ignore_ascii_case(item.as_bytes()))
    }

    /// Adds a field at the end. Whitespace around the value is not part of it and is not kept.
    ///
    /// The name and the value must be valid: what comes from a network is checked by [`is_name`] and [`is_value`].
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        debug_assert!(is_name(name), "not a field name: {}", name.escape_ascii());
        debug_assert!(is_value(value), "not a field value: {}", value.escape_ascii());
        let name_at = self.text.len() as u32;
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.entries.push(Entry {
            name_at,
            name_len: name.len() as u32,
            value_at: name_at + name.len() as u32,
            value_len: value.len() as u32,
        });
    }

    /// Returns no fields, with a copy of the text of a whole head for [`Fields::append_from`], and room for `fields` of them
    /// and some more. One copy of all is cheaper than a copy of each.
    pub(crate) fn within(head: &[u8], fields: usize) -> Self {
        let mut all = Self::with_capacity(fields + ADDED_FIELDS, head.len() + ADDED_BYTES);
        all.text.extend_from_slice(head);
        all
    }

    /// Adds a field whose name and value are slices of the `head` that these fields were made with.
    pub(crate) fn append_from(&mut self, head: &[u8], name: &[u8], value: &[u8]) {
        let at = |part: &[u8]| (part.as_ptr().addr() - head.as_ptr().addr()) as u32;
        debug_assert!(is_name(name) && is_value(value) && value.trim_ascii().len() == value.len());
        self.entries.push(Entry {
            name_at: at(name),
            name_len: name.len() as u32,
            value_at: at(value),
            value_len: value.len() as u32,
        });
    }

    /// Puts one field in the place of all of this name: where the first was (its name keeps its case), or at the end.
    ///
    /// The same conditions hold as for [`Fields::append`].
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let Some(place) = self.find(name) else { return self.append(name.as_bytes(), value) };
        let mut entry = self.entries[place];
        let value = value.trim_ascii();
        debug_assert!(is_value(value), "not a field value: {}", value.escape_ascii());
        if value.len() <= entry.value_len as usize {
            let at = entry.value().start;
            self.text[at..at + value.len()].copy_from_slice(value);
        } else {
            entry.value_at = self.text.len() as u32;
            self.text.extend_from_slice(value);
        }
        entry.value_len = value.len() as u32;
        self.entries[place] = entry;

        let mut index = 0;
        let text = &self.text;
        self.entries.retain(|entry| {
            index += 1;
            index <= place + 1 || !is_named(text, *entry, name)
        });
    }

    /// Removes all fields of this name and tells whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_bytes(name.as_bytes())
    }

    /// Removes all fields of a name that came from a message.
    pub(crate) fn remove_bytes(&mut self, name: &[u8]) -> bool {
        let before = self.entries.len();
        self.retain(|other, _| !other.eq_ignore_ascii_case(name));
        self.entries.len() < before
    }

    /// Keeps the fields of which `keep` says so, given name and value.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let text = &self.text;
        self.entries.retain(|entry| keep(&text[entry.name()], &text[entry.value()]));
    }

    /// Removes all fields and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| is_named(&self.text, *entry, name))
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().zip(other.iter()).all(|(ours, theirs)| {
                ours.0.len() == theirs.0.len() && ours.0.eq_ignore_ascii_case(theirs.0) && ours.1 == theirs.1
            })
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.iter() {
            let secret = SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()));
            let value = if secret { b"..." } else { value };
            map.entry(
                &format_args!("{}", name.escape_ascii()),
                &format_args!("\"{}\"", value.escape_ascii()),
            );
        }
        map.finish()
    }
}

fn is_named(text: &[u8], entry: Entry, name: &str) -> bool {
    entry.name_len as usize == name.len() && text[entry.name()].eq_ignore_ascii_case(name.as_bytes())
}

/// Goes through the items of a comma-separated value, without whitespace around them; empty ones are left out.
///
/// A comma between quotes counts as any other: none of the lists that a proxy reads has quotes.
pub fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Tells whether these bytes are a field name: a token of RFC 9110 §5.6.2.
pub fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// Tells whether these bytes may stand in a field value: no CR, LF, NUL nor other control but the tab (RFC 9110 §5.5).
pub fn is_value(bytes: &[u8]) -> bool {
    // No early end: a loop without a branch is done many bytes at a time.
    let bad = |byte: u8| u8::from(byte < 0x20 && byte != b'\t' || byte == 0x7f);
    bytes.iter().fold(0, |any, byte| any | bad(*byte)) == 0
}

pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
