//! Durations as manifests write them: GEP-2257, a subset of Go's (`1h30m`, `10s`, `500ms`).

use std::time::Duration;

const PARTS_MAX: usize = 4;
const DIGITS_MAX: usize = 5;

/// Parses `([0-9]{1,5}(h|m|s|ms)){1,4}`; the parts add up.
///
/// Returns `None` for anything else: a missing unit, a sign, a fraction, a space, more than five digits or four parts.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..PARTS_MAX {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=DIGITS_MAX).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let (part, after) = if let Some(after) = after.strip_prefix("ms") {
            (Duration::from_millis(number), after)
        } else if let Some(after) = after.strip_prefix('s') {
            (Duration::from_secs(number), after)
        } else if let Some(after) = after.strip_prefix('m') {
            (Duration::from_secs(number * 60), after)
        } else {
            (Duration::from_secs(number * 3_600), after.strip_prefix('h')?)
        };
        total += part;
        rest = after;
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

/// Writes a duration so that [`parse`] reads it, to the millisecond: `1h30m`, `10s`, `500ms`.
pub fn write(duration: Duration) -> String {
    let ms = duration.as_millis();
    let parts = [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1_000 % 60, "s"), (ms % 1_000, "ms")];
    let text: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| number.to_string() + unit)
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}
