//! Numbers, times and names as short text: the same everywhere on the screen, never wider than their column.

use crate::model::identity::Subject;
use crate::model::name::{DEFAULT_NAMESPACE, ServiceName};
use crate::model::view::TrafficView;

/// What stands where there is nothing to say.
pub const NONE: &str = "–";

/// Returns a rate or count: `0`, `0.05`, `4.2`, `1204`, `12.3k`, `1.2M`; at most 6 characters below a million millions.
pub fn rate(value: f64) -> String {
    let value = value.max(0.0);
    if value < 0.005 {
        "0".to_owned()
    } else if value < 0.095 {
        format!("{value:.2}")
    } else if value < 9.95 {
        format!("{value:.1}")
    } else if value < 9_999.5 {
        format!("{value:.0}")
    } else {
        scaled(value, 1000.0, &["", "k", "M", "G", "T"])
    }
}

/// Returns a count: `6`, `1204`, `12.3k`; at most 6 characters below a million millions.
pub fn tally(count: u64) -> String {
    if count < 10_000 { count.to_string() } else { rate(count as f64) }
}

/// Returns bytes: `412B`, `1.2k`, `48M`; at most 5 characters.
pub fn bytes(value: f64) -> String {
    scaled(value.max(0.0), 1024.0, &["B", "k", "M", "G", "T"])
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value >= base * 0.9995 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let suffix = units.get(unit).copied().unwrap_or_default();
    if value < 9.95 && unit > 0 { format!("{value:.1}{suffix}") } else { format!("{value:.0}{suffix}") }
}

/// Returns a share as percent: `94.21`, `100`. Rounded down, so that only perfection reads `100`.
pub fn percent(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    if share >= 1.0 { "100".to_owned() } else { format!("{:.2}", (share * 10_000.0).floor() / 100.0) }
}

/// Returns the share of the calls that got through which did not fail, with its sign: `99.31%`; `-` when none got through.
pub fn success(traffic: &TrafficView) -> String {
    traffic.success().map_or_else(|| NONE.to_owned(), |share| format!("{}%", percent(share)))
}

/// Returns a duration in milliseconds as a latency: `0.4ms`, `41ms`, `1.92s`, `12.3s`; at most 6 characters.
pub fn latency(ms: f64) -> String {
    if ms < 0.995 {
        format!("{:.1}ms", ms.max(0.0))
    } else if ms < 9.95 {
        format!("{ms:.1}ms")
    } else if ms < 999.5 {
        format!("{ms:.0}ms")
    } else if ms < 9_995.0 {
        format!("{:.2}s", ms / 1000.0)
    } else if ms < 99_950.0 {
        format!("{:.1}s", ms / 1000.0)
    } else {
        format!("{:.0}s", (ms / 1000.0).min(9999.0))
    }
}

/// Returns a latency percentile, or a dash.
pub fn percentile(ms: Option<f64>) -> String {
    ms.map_or_else(|| NONE.to_owned(), latency)
}

/// Returns an age or a time left: `38s`, `4m12s`, `3h05m`, `6d`; at most 6 characters.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Returns an age in one unit: `38s`, `4m`, `3h`, `6d`.
pub fn age_short(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Returns the time of day, `12:04:31`, of Unix milliseconds at an offset from UTC in seconds.
pub fn clock(at_ms: u64, offset_s: i32) -> String {
    let day = 86_400;
    let seconds = ((at_ms / 1000) as i64 + i64::from(offset_s)).rem_euclid(day);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60)
}

/// Returns a service's name without the default namespace.
pub fn service(name: &ServiceName) -> String {
    if name.namespace() == DEFAULT_NAMESPACE { name.name().to_owned() } else { name.to_string() }
}

/// Returns a subject's name, a service without the default namespace.
pub fn subject(subject: &Subject) -> String {
    subject.service().map_or_else(|| subject.to_string(), service)
}

/// Returns `text` cut to `width` characters, the last one `…` when something was cut.
pub fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// Returns `text` in lines of `width` characters at most, broken between words where that can be.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        let used = line.chars().count();
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for letter in word.chars() {
            if line.chars().count() >= width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Returns `1 node`, `3 nodes`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
