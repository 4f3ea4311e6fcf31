//! Tables: columns are data, so a new one is a new entry. Only the lines that are seen are written.

use ratatui::layout::Rect;

use crate::model::view::TrafficView;
use crate::top::canvas::{Canvas, Scene};
use crate::top::filter::Facts;
use crate::top::format;
use crate::top::health::{SAMPLES_MIN, Status};
use crate::top::target::Target;
use crate::top::theme::Role;

/// How wide a column is, its gap included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Always so many cells.
    Fixed(u16),
    /// As wide as its longest text, at least and at most so many cells.
    Name(u16, u16),
    /// What is left, at least so many cells.
    Rest(u16),
}

/// What is written in one place of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell(pub Vec<(String, Role)>);

impl Cell {
    /// Returns a text in one role.
    pub fn new(text: impl Into<String>, role: Role) -> Self {
        Self(vec![(text.into(), role)])
    }

    fn text(&self) -> String {
        self.0.iter().map(|(text, _)| text.as_str()).collect()
    }
}

/// What orders lines: numbers the highest first, texts the first first.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "named for what they hold")]
pub enum Rank {
    Number(f64),
    Text(String),
}

/// One column of a table of `T`.
pub struct Column<T> {
    /// Its title; `TREND` is replaced by the length of time shown.
    pub title: &'static str,
    /// How wide.
    pub width: Width,
    /// Whether its text stands at the right.
    pub right: bool,
    /// Which columns go first where there is no room: the highest; 0 never.
    pub drop: u8,
    /// Writes it for one line, into so many cells.
    pub cell: fn(&Scene<'_>, &T, u16) -> Cell,
    /// Orders lines by it.
    pub rank: Option<fn(&Scene<'_>, &T) -> Rank>,
}

/// All that a table of `T` is: its columns and how its lines are told apart, judged, filtered and ordered.
pub struct Listing<T: 'static> {
    /// The columns; the first is the name.
    pub columns: &'static [Column<T>],
    /// What a line points at.
    pub id: fn(&T) -> Target,
    /// How what it shows is.
    pub status: fn(&Scene<'_>, &T) -> Status,
    /// What a filter may ask of it.
    pub facts: fn(&T) -> Facts,
    /// Orders lines when no column does: the highest first.
    pub impact: fn(&Scene<'_>, &T) -> f64,
    /// Whether what is well has no sign either.
    pub quiet: bool,
}

impl<T> Listing<T> {
    /// Returns the lines to be shown of all there are: filtered and ordered as the state says.
    pub fn rows<'m>(&self, scene: &Scene<'_>, all: impl IntoIterator<Item = &'m T>) -> Vec<&'m T> {
        let state = scene.state;
        let chip = state.chip();
        let mut rows: Vec<&T> = all
            .into_iter()
            .filter(|row| !state.faults_only || (self.status)(scene, row).is_fault())
            .filter(|row| {
                chip.is_none_or(|chip| {
                    let mut facts = (self.facts)(row);
                    facts.status = Some((self.status)(scene, row));
                    chip.filter.admits(&facts)
                })
            })
            .collect();
        let sort = state.sort();
        let ranked =
            sort.column.and_then(|column| self.sortable().nth(column)).and_then(|column| column.rank);
        if let Some(rank) = ranked {
            rows.sort_by_cached_key(|row| Ordered(rank(scene, row)));
        } else {
            rows.sort_by(|a, b| (self.impact)(scene, b).total_cmp(&(self.impact)(scene, a)));
        }
        if sort.reverse {
            rows.reverse();
        }
        if !state.ranks.is_empty() {
            let held = |row: &&T| {
                let id = (self.id)(row);
                state.ranks.iter().position(|target| *target == id).map_or(0, |place| place + 1)
            };
            rows.sort_by_cached_key(held);
        }
        rows
    }

    /// Returns what the lines point at.
    pub fn targets(&self, rows: &[&T]) -> Vec<Target> {
        rows.iter().map(|row| (self.id)(row)).collect()
    }

    /// Returns the columns by which lines can be ordered.
    pub fn sortable(&self) -> impl Iterator<Item = &'static Column<T>> {
        self.columns.iter().filter(|column| column.rank.is_some())
    }

    /// Returns their titles.
    pub fn titles(&self) -> Vec<&'static str> {
        self.sortable().map(|column| column.title).collect()
    }

    /// Draws the titles and the lines around the cursor; returns the rows used.
    pub fn draw(&self, scene: &Scene<'_>, rows: &[&T], canvas: &mut Canvas<'_>, area: Rect) -> u16 {
        if area.height == 0 || area.width < 6 {
            return 0;
        }
        let columns = self.fit(scene, rows, area.width.saturating_sub(3));
        let sorted = scene.state.sort().column.and_then(|column| self.sortable().nth(column));
        let mut x = area.x + 3;
        for (column, width) in &columns {
            let marked = sorted.is_some_and(|sorted| std::ptr::eq(sorted, *column));
            let (title, role) = title_of(scene, column.title, *width, marked);
            match (column.right, column.width) {
                (true, _) => canvas.put_right(x + width, area.y, &title, role),
                (false, Width::Rest(_)) => _ = canvas.put(x + 2, area.y, &title, role),
                (false, Width::Fixed(_) | Width::Name(..)) => _ = canvas.put(x, area.y, &title, role),
            }
            x += width;
        }
        let height = usize::from(area.height - 1);
        let cursor = rows.iter().position(|row| Some(&(self.id)(row)) == scene.selected);
        let first = first_line(cursor.unwrap_or(0), rows.len(), height);
        for (line, row) in rows.iter().skip(first).take(height).enumerate() {
            let y = area.y + 1 + line as u16;
            self.draw_row(scene, row, &columns, canvas, Rect::new(area.x, y, area.width, 1));
            if cursor == Some(first + line) {
                canvas.cell(area.x, y, '▸', Role::Accent);
                canvas.select(Rect::new(area.x, y, area.width, 1));
            }
        }
        1 + rows.len().min(height) as u16
    }

    fn draw_row(
        &self,
        scene: &Scene<'_>,
        row: &T,
        columns: &[(&Column<T>, u16)],
        canvas: &mut Canvas<'_>,
        line: Rect,
    ) {
        let status = (self.status)(scene, row);
        if !(self.quiet && status == Status::Ok) {
            canvas.cell(line.x + 1, line.y, status.glyph(), Role::from(status));
        }
        let mut x = line.x + 3;
        for (column, width) in columns {
            let gap = if matches!(column.width, Width::Rest(_)) && !column.right { 2 } else { 0 };
            let cell = (column.cell)(scene, row, width.saturating_sub(gap));
            let length = cell.0.iter().map(|(text, _)| text.chars().count() as u16).sum::<u16>();
            let start = if column.right { x + width.saturating_sub(length) } else { x + gap };
            let room = if column.right { *width } else { width.saturating_sub(u16::from(gap == 0)) };
            let mut pen = canvas.pen(start, line.y, (start + room).min(x + width));
            for (text, role) in &cell.0 {
                pen.write(text, *role);
            }
            x += width;
        }
    }

    /// Returns the columns that fit into `room` cells, with their widths.
    fn fit(&self, scene: &Scene<'_>, rows: &[&T], room: u16) -> Vec<(&'static Column<T>, u16)> {
        let mut kept: Vec<&'static Column<T>> = self.columns.iter().collect();
        let least = |column: &Column<T>| match column.width {
            Width::Fixed(width) | Width::Name(width, _) => width,
            Width::Rest(width) => width + 2,
        };
        while kept.iter().map(|column| least(column)).sum::<u16>() > room {
            let Some(worst) = kept.iter().map(|column| column.drop).max().filter(|drop| *drop > 0) else {
                break;
            };
            kept.retain(|column| column.drop != worst);
        }
        let mut widths: Vec<(&'static Column<T>, u16)> =
            kept.into_iter().map(|column| (column, least(column))).collect();
        let mut spare = room.saturating_sub(widths.iter().map(|(_, width)| *width).sum());
        for (column, width) in &mut widths {
            if let Width::Name(_, most) = column.width {
                let texts =
                    rows.iter().map(|row| (column.cell)(scene, row, most).text().chars().count() as u16 + 1);
                let wanted = texts.max().unwrap_or(*width).clamp(*width, most.max(*width));
                let more = (wanted - *width).min(spare);
                *width += more;
                spare -= more;
            }
        }
        let rest = widths.iter().filter(|(column, _)| matches!(column.width, Width::Rest(_))).count() as u16;
        for (column, width) in &mut widths {
            if matches!(column.width, Width::Rest(_)) {
                *width += spare / rest.max(1);
            }
        }
        widths
    }

    /// Returns the lines as text, the titles first, without charts.
    pub fn table(&self, scene: &Scene<'_>, rows: &[&T]) -> Vec<Vec<String>> {
        let columns = || self.columns.iter().filter(|column| column.title != "TREND");
        let mut titles = vec!["STATUS".to_owned()];
        titles.extend(columns().map(|column| column.title.to_owned()));
        let mut table = vec![titles];
        for row in rows {
            let mut line = vec![(self.status)(scene, row).word().to_owned()];
            line.extend(columns().map(|column| (column.cell)(scene, row, u16::MAX).text().trim().to_owned()));
            table.push(line);
        }
        table
    }
}

/// Returns the title of a column of `width` cells, and its role; `marked` when lines are ordered by it.
fn title_of(scene: &Scene<'_>, title: &str, width: u16, marked: bool) -> (String, Role) {
    let title = if title == "TREND" {
        let points = width.saturating_sub(2);
        let step = scene.state.history.step(scene.state.data_ms() / 1000, points);
        format!("LAST {}", format::age_short(step * u64::from(points) * 1000))
    } else {
        title.to_owned()
    };
    let title = match (marked, scene.state.sort().reverse) {
        (true, false) => format!("{title}▾"),
        (true, true) => format!("{title}▴"),
        (false, _) => title,
    };
    (format::fit(&title, usize::from(width)), if marked { Role::Accent } else { Role::Dim })
}

/// Returns the first line to show so that the cursor is seen, in the middle where it can be.
pub fn first_line(cursor: usize, lines: usize, height: usize) -> usize {
    cursor.saturating_sub(height / 2).min(lines.saturating_sub(height))
}

struct Ordered(Rank);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (&self.0, &other.0) {
            (Rank::Number(a), Rank::Number(b)) => b.total_cmp(a),
            (Rank::Text(a), Rank::Text(b)) => a.cmp(b),
            (Rank::Number(_), Rank::Text(_)) => std::cmp::Ordering::Less,
            (Rank::Text(_), Rank::Number(_)) => std::cmp::Ordering::Greater,
        }
    }
}

// --- what many tables write -------------------------------------------------------------------------------------------

/// Writes the share of success, in the colour of what is thought of it.
pub fn success(traffic: &TrafficView, status: Status) -> Cell {
    let Some(share) = traffic.success() else { return Cell::new(format::NONE, Role::Dim) };
    let role = if status.is_fault() { Role::from(status) } else { Role::Text };
    Cell::new(format::percent(share), role)
}

/// Writes a rate; nothing is dim.
pub fn rate(value: f64) -> Cell {
    Cell::new(format::rate(value), if value > 0.0 { Role::Text } else { Role::Dim })
}

/// Writes a rate that should be zero.
pub fn unwanted(value: f64, role: Role) -> Cell {
    Cell::new(format::rate(value), if value > 0.0 { role } else { Role::Dim })
}

/// Writes a percentile: dim, with a `~`, when there are too few samples to lean on.
pub fn percentile(traffic: &TrafficView, value: Option<f64>) -> Cell {
    match value {
        None => Cell::new(format::NONE, Role::Dim),
        Some(ms) if traffic.latency_ms.samples < SAMPLES_MIN => {
            Cell::new(format!("~{}", format::latency(ms)), Role::Dim)
        }
        Some(ms) => Cell::new(format::latency(ms), Role::Text),
    }
}

/// Returns the facts that traffic gives to a filter.
pub fn traffic_facts(traffic: &TrafficView) -> Facts {
    let latency = traffic.latency_ms;
    Facts {
        rps: Some(traffic.requests_per_second),
        success: traffic.success(),
        latency_ms: [latency.p50, latency.p95, latency.p99],
        denied: Some(traffic.denied_per_second),
        text: traffic.reasons.keys().cloned().collect::<Vec<_>>().join(" "),
        ..Facts::default()
    }
}
