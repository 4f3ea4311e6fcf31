//! Denials: who calls what the intentions refuse.

use ratatui::layout::Rect;

use crate::model::view::EdgeView;
use crate::top::canvas::{Canvas, Scene, View};
use crate::top::format;
use crate::top::health::{Status, of_severity};
use crate::top::history::Series;
use crate::top::target::{EdgeId, Target};
use crate::top::theme::Role;
use crate::top::view::edges;
use crate::top::widget::spark;
use crate::top::widget::table::{Cell, Column, Listing, Rank, Width, rate, unwanted};

/// The table of refused callers.
pub static LISTING: Listing<EdgeView> = Listing {
    columns: COLUMNS,
    id: |edge| Target::Edge(EdgeId::from(edge)),
    status: |_, edge| if edge.traffic.denied_per_second > 0.0 { Status::Deny } else { Status::Idle },
    facts: |edge| (edges::LISTING.facts)(edge),
    impact: |_, edge| edge.traffic.denied_per_second * 1e9 + edge.traffic.denied_total as f64,
    quiet: false,
};

static COLUMNS: &[Column<EdgeView>] = &[
    Column {
        title: "CALLER",
        width: Width::Name(16, 32),
        right: false,
        drop: 0,
        cell: |_, edge, _| Cell::new(format::subject(&edge.source), Role::Text),
        rank: Some(|_, edge| Rank::Text(format::subject(&edge.source))),
    },
    Column {
        title: "CALLED",
        width: Width::Name(16, 32),
        right: false,
        drop: 0,
        cell: |_, edge, _| Cell::new(format::service(&edge.destination), Role::Text),
        rank: Some(|_, edge| Rank::Text(format::service(&edge.destination))),
    },
    Column {
        title: "RULE",
        width: Width::Name(12, 40),
        right: false,
        drop: 0,
        cell: |_, edge, _| Cell::new(rule(edge), Role::Text),
        rank: Some(|_, edge| Rank::Text(rule(edge))),
    },
    Column {
        title: "DENY/min",
        width: Width::Fixed(10),
        right: true,
        drop: 0,
        cell: |_, edge, _| unwanted(edge.traffic.denied_per_second * 60.0, Role::Deny),
        rank: Some(|_, edge| Rank::Number(edge.traffic.denied_per_second)),
    },
    Column {
        title: "TOTAL",
        width: Width::Fixed(9),
        right: true,
        drop: 1,
        cell: |_, edge, _| Cell::new(format::tally(edge.traffic.denied_total), Role::Text),
        rank: Some(|_, edge| Rank::Number(edge.traffic.denied_total as f64)),
    },
    Column {
        title: "ALLOW/s",
        width: Width::Fixed(9),
        right: true,
        drop: 2,
        cell: |_, edge, _| rate((edge.traffic.requests_per_second - edge.traffic.denied_per_second).max(0.0)),
        rank: Some(|_, edge| Rank::Number(edge.traffic.requests_per_second)),
    },
    Column {
        title: "AUDIT",
        width: Width::Fixed(8),
        right: true,
        drop: 3,
        cell: |_, edge, _| match audited(edge) {
            0 => Cell::new("0", Role::Dim),
            count => Cell::new(format::tally(count), Role::Warn),
        },
        rank: Some(|_, edge| Rank::Number(audited(edge) as f64)),
    },
    Column {
        title: "TREND",
        width: Width::Rest(12),
        right: false,
        drop: 4,
        cell: |scene, edge, width| {
            Cell(spark::denials(scene, &Series::Edge(EdgeId::from(edge)), width.min(60)))
        },
        rank: None,
    },
];

/// Returns how many calls would have been refused.
fn audited(edge: &EdgeView) -> u64 {
    edge.traffic.audited.values().sum()
}

/// Returns the rule that refused the most, or would have, and how many others there are.
fn rule(edge: &EdgeView) -> String {
    let traffic = &edge.traffic;
    let rules = if traffic.denials.is_empty() { &traffic.audited } else { &traffic.denials };
    let Some((most, _)) = rules.iter().max_by_key(|(_, count)| **count) else { return String::new() };
    let most = most.replace("intention ", "");
    match rules.len() {
        1 => most,
        more => format!("{most} +{}", more - 1),
    }
}

/// The view.
#[derive(Debug)]
pub struct Denials;

fn rows<'m>(scene: &Scene<'m>) -> Vec<&'m EdgeView> {
    let denied = |edge: &&EdgeView| {
        edge.traffic.denied_total > 0 || edge.traffic.denied_per_second > 0.0 || audited(edge) > 0
    };
    LISTING.rows(scene, scene.mesh.edges.iter().filter(denied))
}

impl View for Denials {
    fn title(&self) -> &'static str {
        "Denials"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["deny", "pol", "policies", "intentions", "d"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        "⏎ edge  x why  s sort"
    }

    fn columns(&self) -> Vec<&'static str> {
        LISTING.titles()
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        vec![LISTING.targets(&rows(scene))]
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        let rows = rows(scene);
        let denied: f64 = scene.mesh.edges.iter().map(|edge| edge.traffic.denied_per_second).sum();
        let all: f64 = scene.mesh.edges.iter().map(|edge| edge.traffic.requests_per_second).sum();
        let mut pen = canvas.pen(area.x + 1, area.y, area.right());
        let role = if denied > 0.0 { Role::Deny } else { Role::Text };
        pen.write(&format!("{} denied/min", format::rate(denied * 60.0)), role).skip(2);
        pen.write(&format!("{} allowed/s", format::rate((all - denied).max(0.0))), Role::Text).skip(2);
        pen.write_whole(&format!("revision {}", scene.mesh.revision), Role::Dim);
        if rows.is_empty() {
            let why = "Nothing was denied lately.";
            canvas.pen(area.x + 2, area.y + 2, area.right()).write(why, Role::Strong);
            if area.height > 3 {
                let next = "Who may call whom: mesh get intentions";
                canvas.pen(area.x + 2, area.y + 3, area.right()).write(next, Role::Dim);
            }
            return;
        }
        let selected = rows.iter().find(|row| scene.selected == Some(&(LISTING.id)(row)));
        let below = if area.height >= 12 && !scene.state.zoom { (area.height / 3).clamp(5, 14) } else { 0 };
        let table = Rect::new(area.x, area.y + 1, area.width, area.height.saturating_sub(1 + below));
        LISTING.draw(scene, &rows, canvas, table);
        if let Some(edge) = selected.filter(|_| below > 0) {
            log(scene, edge, canvas, Rect::new(area.x, area.bottom() - below, area.width, below));
        }
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        LISTING.table(scene, &rows(scene))
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        serde_json::json!(rows(scene))
    }
}

/// Draws what is known of the selected pair: the command that explains it, and the events that speak of it.
fn log(scene: &Scene<'_>, edge: &EdgeView, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, &edges::name(edge), "denials, newest first");
    let end = inner.right();
    let mut pen = canvas.pen(inner.x + 1, inner.y, end);
    pen.write("which rule decides:  ", Role::Dim);
    pen.write(&format!("mesh why {} {}", edge.source, edge.destination), Role::Accent);
    let refused = edge.traffic.denials.iter().map(|(rule, count)| format!("{rule}: {count} refused"));
    let audited =
        edge.traffic.audited.iter().map(|(rule, count)| format!("{rule}: {count} would be refused"));
    let rules: Vec<_> = refused.chain(audited).take(usize::from(inner.height) / 2).collect();
    for (line, rule) in rules.iter().enumerate() {
        canvas.pen(inner.x + 1, inner.y + 1 + line as u16, end).write(rule, Role::Text);
    }
    let begin = 1 + rules.len() as u16;
    let (source, called) = (format::subject(&edge.source), format::service(&edge.destination));
    let told = scene.state.events().filter(|event| matches!(event.kind.as_str(), "deny" | "audit"));
    let told = told.filter(|event| event.subject.contains(&source) && event.subject.contains(&called));
    for (line, event) in told.take(usize::from(inner.height.saturating_sub(begin))).enumerate() {
        let mut pen = canvas.pen(inner.x + 1, inner.y + begin + line as u16, end);
        let status = of_severity(event.severity);
        pen.write(&format::clock(event.at_ms, scene.state.utc_offset_s), Role::Dim).skip(1);
        pen.write(&event.message, if status.is_fault() { Role::Text } else { Role::Dim });
    }
}
