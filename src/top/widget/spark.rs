//! Sparklines and bars: height is the rate, colour is failure, a gap is a gap.
//!
//! A line has its own scale, on which its usual value stands at half height: steady traffic is a quiet line, and what
//! falls away or doubles is seen.

use crate::top::canvas::Scene;
use crate::top::history::{Point, Series};
use crate::top::theme::Role;

const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
/// From this share of failures a column is drawn as failing.
const FAILING_SHARE: f32 = 0.02;

/// Returns a character for a value on a scale to `peak`: anything above nothing shows.
pub fn step(value: f32, peak: f32) -> char {
    if value <= 0.0 || peak <= 0.0 {
        return '·';
    }
    let height = (value / peak).clamp(0.0, 1.0) * 8.0;
    let index = (height.ceil() as usize).clamp(1, 8) - 1;
    STEPS.get(index).copied().unwrap_or('█')
}

/// Returns the recent rate of `series` in `width` characters with their roles.
pub fn rate(scene: &Scene<'_>, series: &Series, width: u16) -> Vec<(String, Role)> {
    let (points, _) = scene.state.points(series, width);
    let rates: Vec<f32> = points.iter().filter_map(rps).collect();
    let peak = scale(&rates);
    points.iter().map(|point| column(point, peak)).collect()
}

/// Returns the value at full height: the largest, and at least twice the mean.
fn scale(values: &[f32]) -> f32 {
    let most = values.iter().copied().fold(0.0, f32::max);
    let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
    most.max(mean * 2.0)
}

/// Returns the denials of `series`.
pub fn denials(scene: &Scene<'_>, series: &Series, width: u16) -> Vec<(String, Role)> {
    values(scene, series, width, |sample| sample.denied, Role::Deny)
}

/// Returns the failures of `series`.
pub fn failures(scene: &Scene<'_>, series: &Series, width: u16) -> Vec<(String, Role)> {
    values(scene, series, width, |sample| sample.failures, Role::Bad)
}

/// Returns the slowest percentile of `series`.
pub fn slowest(scene: &Scene<'_>, series: &Series, width: u16) -> Vec<(String, Role)> {
    values(scene, series, width, |sample| sample.p99_ms.unwrap_or(0.0), Role::Warn)
}

/// Returns the rate of `series`, whatever fails.
pub fn own_rate(scene: &Scene<'_>, series: &Series, width: u16) -> Vec<(String, Role)> {
    values(scene, series, width, |sample| sample.rps, Role::Accent)
}

fn values(
    scene: &Scene<'_>,
    series: &Series,
    width: u16,
    value: fn(&crate::top::history::Sample) -> f32,
    role: Role,
) -> Vec<(String, Role)> {
    let (points, _) = scene.state.points(series, width);
    let of = |point: &Point| match point {
        Point::Value(sample) => Some(value(sample)),
        Point::Before | Point::Gap => None,
    };
    let known: Vec<f32> = points.iter().filter_map(of).collect();
    let peak = scale(&known);
    points
        .iter()
        .map(|point| match point {
            Point::Before => (" ".to_owned(), Role::Dim),
            Point::Gap => ("┊".to_owned(), Role::Dim),
            Point::Value(sample) if value(sample) <= 0.0 => ("·".to_owned(), Role::Dim),
            Point::Value(sample) => (step(value(sample), peak).to_string(), role),
        })
        .collect()
}

fn rps(point: &Point) -> Option<f32> {
    match point {
        Point::Value(sample) => Some(sample.rps),
        Point::Before | Point::Gap => None,
    }
}

fn column(point: &Point, peak: f32) -> (String, Role) {
    match point {
        Point::Before => (" ".to_owned(), Role::Dim),
        Point::Gap => ("┊".to_owned(), Role::Dim),
        Point::Value(sample) => {
            let failing = sample.failures > 0.0 && sample.failures >= sample.rps * FAILING_SHARE;
            let role = if failing { Role::Bad } else { Role::Dim };
            (step(sample.rps, peak).to_string(), role)
        }
    }
}

/// Returns a horizontal bar of `share` of `width` cells, to an eighth of a cell; anything above nothing shows.
pub fn bar(share: f64, width: u16) -> String {
    let eighths = (share.clamp(0.0, 1.0) * f64::from(width) * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut text = "█".repeat(eighths / 8);
    if let Some(part) = (eighths % 8).checked_sub(1).and_then(|index| EIGHTHS.get(index)) {
        text.push(*part);
    }
    text
}
