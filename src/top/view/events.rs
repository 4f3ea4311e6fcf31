//! Events: what changed, newest first, under the errors of the same time.

use ratatui::layout::Rect;

use crate::model::view::{EventView, Severity};
use crate::top::canvas::{Canvas, Scene, View};
use crate::top::filter::Facts;
use crate::top::format;
use crate::top::health::{Status, of_severity};
use crate::top::history::Series;
use crate::top::target::Target;
use crate::top::theme::Role;
use crate::top::widget::spark;
use crate::top::widget::table::{Cell, Column, Listing, Rank, Width};

/// An event with its number among those of the same moment.
struct Numbered {
    event: EventView,
    number: u32,
    clock: String,
}

static LISTING: Listing<Numbered> = Listing {
    columns: COLUMNS,
    id: |row| Target::Event(row.event.at_ms, row.number),
    status: |_, row| {
        let status = of_severity(row.event.severity);
        if status == Status::Ok && row.event.kind == "deny" { Status::Deny } else { status }
    },
    facts: |row| Facts {
        services: vec![row.event.subject.clone()],
        nodes: vec![row.event.subject.clone()],
        kind: row.event.kind.clone(),
        text: row.event.message.clone(),
        ..Facts::default()
    },
    impact: |_, row| row.event.at_ms as f64,
    quiet: true,
};

static COLUMNS: &[Column<Numbered>] = &[
    Column {
        title: "TIME",
        width: Width::Fixed(10),
        right: false,
        drop: 0,
        cell: |_, row, _| Cell::new(row.clock.clone(), Role::Dim),
        rank: Some(|_, row| Rank::Number(row.event.at_ms as f64)),
    },
    Column {
        title: "KIND",
        width: Width::Fixed(12),
        right: false,
        drop: 2,
        cell: |_, row, _| Cell::new(row.event.kind.clone(), Role::Dim),
        rank: Some(|_, row| Rank::Text(row.event.kind.clone())),
    },
    Column {
        title: "SUBJECT",
        width: Width::Name(12, 36),
        right: false,
        drop: 1,
        cell: |_, row, _| Cell::new(row.event.subject.clone(), Role::Text),
        rank: Some(|_, row| Rank::Text(row.event.subject.clone())),
    },
    Column {
        title: "WHAT",
        width: Width::Rest(16),
        right: false,
        drop: 0,
        cell: |_, row, _| {
            let role = match row.event.severity {
                Severity::Info => Role::Text,
                Severity::Warning => Role::Warn,
                Severity::Error => Role::Bad,
            };
            Cell::new(row.event.message.clone(), role)
        },
        rank: None,
    },
];

fn numbered(scene: &Scene<'_>) -> Vec<Numbered> {
    let mut rows: Vec<Numbered> = Vec::new();
    for event in scene.state.events() {
        let number = match rows.last() {
            Some(before) if before.event.at_ms == event.at_ms => before.number + 1,
            _ => 0,
        };
        let clock = format::clock(event.at_ms, scene.state.utc_offset_s);
        rows.push(Numbered { event: event.clone(), number, clock });
    }
    rows
}

/// Returns what an event is about, where the mesh knows it.
pub fn subject(scene: &Scene<'_>, at_ms: u64, number: u32) -> Option<Target> {
    let rows = numbered(scene);
    let row = rows.iter().find(|row| row.event.at_ms == at_ms && row.number == number)?;
    let text = row.event.subject.as_str();
    if let Some((source, called)) = text.split_once(" -> ") {
        let edge = scene.mesh.edges.iter().find(|edge| {
            format::subject(&edge.source) == source.trim()
                && format::service(&edge.destination) == called.trim()
                || edge.source.to_string() == source.trim() && edge.destination.to_string() == called.trim()
        })?;
        return Some(Target::Edge(edge.into()));
    }
    let parts = || text.split(['@', '/', ' ']);
    let node = scene.mesh.nodes.iter().find(|node| parts().any(|part| part == node.name.as_str()));
    if let Some(node) = node {
        return Some(Target::Node(node.name.clone()));
    }
    let service = scene.mesh.services.iter().find(|service| {
        let (short, long) = (format::service(&service.name), service.name.to_string());
        parts().any(|part| part == short || part == long)
    })?;
    Some(Target::Service(service.name.clone()))
}

/// Draws the events that speak of one of `names`, the newest first.
pub fn related(scene: &Scene<'_>, names: &[String], canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "what happened to it", "");
    let about = |event: &&EventView| {
        let mut words = event.subject.split(['@', '/', ' ']);
        words.any(|word| names.iter().any(|name| name == word))
    };
    let mut line = 0;
    for event in scene.state.events().filter(about).take(usize::from(inner.height)) {
        let status = of_severity(event.severity);
        let glyph = if status == Status::Ok { ' ' } else { status.glyph() };
        let mut pen = canvas.pen(inner.x + 1, inner.y + line, inner.right());
        pen.write(&format::clock(event.at_ms, scene.state.utc_offset_s), Role::Dim).skip(1);
        pen.write(&glyph.to_string(), Role::from(status)).skip(1);
        pen.write(&format!("{:<12}", event.kind), Role::Dim);
        pen.write(&event.subject, Role::Text).skip(2).write(&event.message, Role::Dim);
        line += 1;
    }
    if line == 0 && inner.height > 0 {
        canvas.pen(inner.x + 1, inner.y, inner.right()).write("nothing that was told", Role::Dim);
    }
}

/// The view.
#[derive(Debug)]
pub struct Events;

impl View for Events {
    fn title(&self) -> &'static str {
        "Events"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["event", "ev", "log"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        "⏎ go there  f faults  / kind:member"
    }

    fn columns(&self) -> Vec<&'static str> {
        LISTING.titles()
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        let all = numbered(scene);
        vec![LISTING.targets(&LISTING.rows(scene, &all))]
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        let all = numbered(scene);
        let rows = LISTING.rows(scene, &all);
        let above = if area.height >= 14 && !scene.state.zoom { 6 } else { 0 };
        if above > 0 {
            timeline(scene, &all, canvas, Rect::new(area.x, area.y, area.width, above));
        }
        let table = Rect::new(area.x, area.y + above, area.width, area.height - above);
        if rows.is_empty() {
            let why =
                if all.is_empty() { "Nothing has happened yet." } else { "No event passes the filter." };
            canvas.pen(table.x + 2, table.y + 1, table.right()).write(why, Role::Strong);
        } else {
            LISTING.draw(scene, &rows, canvas, table);
        }
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        let all = numbered(scene);
        LISTING.table(scene, &LISTING.rows(scene, &all))
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        let all = numbered(scene);
        let rows: Vec<&EventView> = LISTING.rows(scene, &all).iter().map(|row| &row.event).collect();
        serde_json::json!(rows)
    }
}

/// Draws requests and errors over time, and the worst event of each column beneath.
fn timeline(scene: &Scene<'_>, all: &[Numbered], canvas: &mut Canvas<'_>, area: Rect) {
    let width = area.width.saturating_sub(12);
    let end = scene.state.data_ms() / 1000;
    let step = scene.state.history.step(end, width);
    let span = format::age_short(step * u64::from(width) * 1000);
    let inner = canvas.frame(area, &format!("last {span}"), "┊ no data");
    let charts = [
        ("rps", spark::own_rate(scene, &Series::Mesh, width)),
        ("err/s", spark::failures(scene, &Series::Mesh, width)),
        ("p99", spark::slowest(scene, &Series::Mesh, width)),
    ];
    for (line, (label, chart)) in charts.iter().enumerate() {
        let mut pen = canvas.pen(inner.x + 1, inner.y + line as u16, inner.right());
        pen.write(&format!("{label:<8}"), Role::Dim);
        for (text, role) in chart {
            pen.write(text, *role);
        }
    }
    let y = inner.y + charts.len() as u16;
    canvas.pen(inner.x + 1, y, inner.right()).write("events", Role::Dim);
    for column in 0..width {
        let newest = (end / step.max(1)).saturating_sub(u64::from(width - 1 - column));
        let (from, until) = (newest * step * 1000, (newest + 1) * step * 1000);
        let here = all.iter().filter(|row| (from..until).contains(&row.event.at_ms));
        if let Some(worst) = here.max_by_key(|row| row.event.severity) {
            let status = of_severity(worst.event.severity);
            let role = if status == Status::Ok { Role::Accent } else { Role::from(status) };
            let glyph = if status == Status::Ok { '▴' } else { status.glyph() };
            canvas.cell(inner.x + 9 + column, y, glyph, role);
        }
    }
}
