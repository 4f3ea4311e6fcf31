//! The parameters of a query (`a=1&b=2`), as forms write them: `+` is a space, `%XX` is a byte.
//!
//! A name or value that has neither is looked at where it is; nothing is copied for it.

use std::borrow::Cow;

/// Returns the first value of a parameter, decoded; empty for one without `=`.
///
/// Of repeated parameters the first counts, as the Gateway API recommends.
pub fn first<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty() && is(key, name)).then(|| decoded(value))
    })
}

fn is(key: &str, name: &str) -> bool {
    if is_plain(key) { key == name } else { *decoded(key) == *name.as_bytes() }
}

fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'%' | b'+'))
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    if is_plain(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            // A percent sign that begins nothing stands for itself.
            (byte, _) => bytes.push(*byte),
        }
    }
    Cow::Owned(bytes)
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}
