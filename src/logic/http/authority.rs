//! A host and a port as a message names them: `host[:port]` (RFC 3986 §3.2, without user information).

use std::net::Ipv6Addr;

/// Checks `host[:port]` and returns it, without the colon if nothing follows it.
///
/// None when the host is empty or has bytes that a host cannot have, or when the port is no number up to 65535. User
/// information (`user@`) is refused: RFC 9110 §4.2.4.
pub fn parse(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    let (host, port) = split(text)?;
    if !is_host(host) || !port.is_empty() && !is_port(port) {
        return None;
    }
    if port.is_empty() { Some(text.strip_suffix(':').unwrap_or(text)) } else { Some(text) }
}

/// Returns the port that a valid authority names; None when it names none.
pub fn port(authority: &str) -> Option<u16> {
    split(authority)?.1.parse().ok()
}

/// Returns the host of a valid authority, an IPv6 address with its brackets.
pub fn host(authority: &str) -> &str {
    split(authority).map_or(authority, |(host, _)| host)
}

/// Splits at the colon before the port, which is not one inside brackets.
fn split(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('[') {
        let (host, rest) = text.split_at(text.find(']')? + 1);
        return if rest.is_empty() { Some((host, "")) } else { Some((host, rest.strip_prefix(':')?)) };
    }
    Some(text.split_once(':').unwrap_or((text, "")))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let fits = host.bytes().all(|byte| HOST_BYTES[usize::from(byte)]);
    !host.is_empty() && fits && (!host.contains('%') || escapes_are_whole(host.as_bytes()))
}

/// The bytes of `reg-name`: unreserved, sub-delims, and the percent sign of an escape.
const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"-._~%!$&'()*+,;=";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        table[byte] |= (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

fn escapes_are_whole(host: &[u8]) -> bool {
    host.split(|byte| *byte == b'%')
        .skip(1)
        .all(|after| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit))
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}
