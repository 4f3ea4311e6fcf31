//! Latency heat map (Gregg 2010): time to the right, latency upwards by powers of two, brightness by the number of
//! requests.
//!
//! It sweeps like an oscilloscope: new columns overwrite the oldest behind a cursor, so a second changes one column and
//! not the whole map.

use ratatui::layout::Rect;

use crate::top::canvas::{Canvas, Scene};
use crate::top::format;
use crate::top::history::{HEAT_ROWS, Point, Series, heat_limit_ms};
use crate::top::theme::Role;

const LABEL_WIDTH: u16 = 6;

/// Draws the heat of `series` inside a box titled `title`.
pub fn draw(scene: &Scene<'_>, series: &Series, title: &str, canvas: &mut Canvas<'_>, area: Rect) {
    let columns = area.width.saturating_sub(2 + LABEL_WIDTH + 1);
    let end = scene.state.data_ms() / 1000;
    let step = scene.state.history.step(end, columns);
    let inner = canvas.frame(area, title, &format!("1 column {step}s"));
    if inner.height == 0 || columns < 4 {
        return;
    }
    let points = sweep(scene, series, end, step, columns);
    let filled = |row: &usize| points.iter().any(|point| count(point.as_ref(), *row..*row + 1) > 0);
    let low = (0..HEAT_ROWS).find(filled);
    let high = (0..HEAT_ROWS).rev().find(filled);
    let (Some(low), Some(high)) = (low, high) else {
        let gap = points.iter().flatten().any(|point| matches!(point, Point::Gap));
        let why =
            if gap { "no data came in this window" } else { "no requests yet: the map fills as they come" };
        canvas.put(
            inner.x + 1,
            inner.y,
            &format::fit(why, usize::from(inner.width.saturating_sub(2))),
            Role::Dim,
        );
        return;
    };
    let rows = bands(low, high, usize::from(inner.height));
    let most = points
        .iter()
        .flat_map(|point| rows.iter().map(move |band| count(point.as_ref(), band.clone())))
        .max()
        .unwrap_or(1);
    for (line, band) in rows.iter().enumerate() {
        let y = inner.y + line as u16;
        let label = format::latency(f64::from(heat_limit_ms(band.end - 1)));
        canvas.put_right(inner.x + LABEL_WIDTH, y, &label, Role::Dim);
        for (column, point) in points.iter().enumerate() {
            let x = inner.x + LABEL_WIDTH + 1 + column as u16;
            match point {
                None => canvas.cell(x, y, '│', Role::Border),
                Some(Point::Before) => {}
                Some(Point::Gap) => canvas.cell(x, y, '┊', Role::Dim),
                Some(Point::Value(_)) => {
                    let (glyph, level) = shade(count(point.as_ref(), band.clone()), most);
                    canvas.cell(x, y, glyph, Role::Heat(level));
                }
            }
        }
    }
}

/// Returns the points of the columns from left to right; `None` is the cursor.
fn sweep(scene: &Scene<'_>, series: &Series, end: u64, step: u64, columns: u16) -> Vec<Option<Point>> {
    let history = &scene.state.history;
    let width = u64::from(columns);
    let newest = end / step;
    let origin = history.origin().unwrap_or(end) / step;
    let head = newest.saturating_sub(origin) % width;
    (0..width)
        .map(|column| {
            let back = (head + width - column) % width;
            if back == width - 1 && newest.saturating_sub(origin) > head {
                return None;
            }
            Some(match newest.checked_sub(back) {
                Some(index) if index >= origin => history.point(series, index * step, step, end),
                _ => Point::Before,
            })
        })
        .collect()
}

fn count(point: Option<&Point>, band: std::ops::Range<usize>) -> u64 {
    match point {
        Some(Point::Value(sample)) => {
            sample.heat.iter().take(band.end).skip(band.start).map(|count| u64::from(*count)).sum()
        }
        _ => 0,
    }
}

/// Returns the rows of the map from the top: bands of buckets that cover `low..=high`, with room around it if there is.
fn bands(low: usize, high: usize, height: usize) -> Vec<std::ops::Range<usize>> {
    let used = high - low + 1;
    let size = used.div_ceil(height.max(1));
    let lines = if size > 1 { used.div_ceil(size) } else { height.min(used + 2).min(HEAT_ROWS) };
    let spare = (lines * size).saturating_sub(used);
    let bottom = low.saturating_sub(spare / 2).min(HEAT_ROWS.saturating_sub(lines * size));
    (0..lines).rev().map(|line| bottom + line * size..bottom + (line + 1) * size).collect()
}

fn shade(count: u64, most: u64) -> (char, u8) {
    if count == 0 {
        return (' ', 0);
    }
    let level = ((count as f64 / most.max(1) as f64).sqrt() * 7.0).ceil().clamp(1.0, 7.0) as u8;
    let glyph = match level {
        1 => '·',
        2 | 3 => '░',
        4 | 5 => '▒',
        6 => '▓',
        _ => '█',
    };
    (glyph, level)
}
