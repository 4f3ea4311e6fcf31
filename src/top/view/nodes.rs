//! Nodes: who is there, since when, at which revision, and how they bear it.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use crate::model::endpoint::{MemberState, Role as Duty};
use crate::model::view::{IdentityView, NodeView};
use crate::top::canvas::{Canvas, Scene, View};
use crate::top::filter::Facts;
use crate::top::format;
use crate::top::health::{Status, judge_node};
use crate::top::target::Target;
use crate::top::theme::Role;
use crate::top::view::events;
use crate::top::widget::table::{Cell, Column, Listing, Rank, Width};

/// The table of nodes.
pub static LISTING: Listing<NodeView> = Listing {
    columns: COLUMNS,
    id: |node| Target::Node(node.name.clone()),
    status,
    facts,
    impact: |scene, node| match status(scene, node) {
        Status::Bad => 4.0,
        Status::Warn => 3.0,
        Status::Deny => 2.0,
        Status::Ok => 1.0,
        Status::Idle => 0.0,
    },
    quiet: false,
};

fn status(scene: &Scene<'_>, node: &NodeView) -> Status {
    let behind = node.revision.is_some_and(|revision| revision < scene.mesh.revision);
    let status = judge_node(node);
    if status == Status::Ok && behind { Status::Warn } else { status }
}

fn facts(node: &NodeView) -> Facts {
    Facts {
        nodes: vec![node.name.to_string()],
        zones: node.zone.iter().map(ToString::to_string).collect(),
        kind: duty(node.role).to_owned(),
        text: format!("{} {}", state(node.state), node.build),
        ..Facts::default()
    }
}

fn duty(role: Duty) -> &'static str {
    match role {
        Duty::Control => "control",
        Duty::Proxy => "proxy",
        Duty::Operator => "operator",
    }
}

fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Dead => "dead",
        MemberState::Left => "left",
    }
}

fn config(scene: &Scene<'_>, node: &NodeView) -> Cell {
    let newest = scene.mesh.revision;
    match node.revision {
        None => Cell::new(format::NONE, Role::Dim),
        Some(_) if node.refused.is_some() => Cell::new("refused", Role::Bad),
        Some(revision) if revision >= newest => Cell::new(format!("r{revision} ="), Role::Dim),
        Some(revision) => Cell::new(format!("r{revision} -{}", newest - revision), Role::Warn),
    }
}

fn soonest<'m>(scene: &Scene<'m>, node: &NodeView) -> Option<&'m IdentityView> {
    let own = scene.mesh.identities.iter().filter(|identity| identity.node == node.name);
    own.min_by_key(|identity| identity.status.not_after_ms)
}

static COLUMNS: &[Column<NodeView>] = &[
    Column {
        title: "NODE",
        width: Width::Name(12, 28),
        right: false,
        drop: 0,
        cell: |_, node, _| Cell::new(node.name.as_str(), Role::Text),
        rank: Some(|_, node| Rank::Text(node.name.to_string())),
    },
    Column {
        title: "ROLE",
        width: Width::Fixed(8),
        right: false,
        drop: 8,
        cell: |_, node, _| Cell::new(duty(node.role), Role::Dim),
        rank: Some(|_, node| Rank::Text(duty(node.role).to_owned())),
    },
    Column {
        title: "ZONE",
        width: Width::Fixed(8),
        right: false,
        drop: 6,
        cell: |_, node, _| Cell::new(zone(node), Role::Dim),
        rank: Some(|_, node| Rank::Text(zone(node))),
    },
    Column {
        title: "STATE",
        width: Width::Fixed(9),
        right: false,
        drop: 1,
        cell: |_, node, _| {
            let status = judge_node(node);
            let word = if node.draining && node.state == MemberState::Alive {
                "draining"
            } else {
                state(node.state)
            };
            Cell::new(word, if status == Status::Ok { Role::Dim } else { Role::from(status) })
        },
        rank: Some(|_, node| Rank::Text(state(node.state).to_owned())),
    },
    Column {
        title: "SINCE",
        width: Width::Fixed(6),
        right: true,
        drop: 7,
        cell: |scene, node, _| {
            Cell::new(format::age_short(scene.mesh.at_ms.saturating_sub(node.since_ms)), Role::Text)
        },
        rank: Some(|_, node| Rank::Number(node.since_ms as f64)),
    },
    Column {
        title: "RTT",
        width: Width::Fixed(8),
        right: true,
        drop: 9,
        cell: |_, node, _| Cell::new(format::percentile(node.rtt_ms), Role::Text),
        rank: Some(|_, node| Rank::Number(node.rtt_ms.unwrap_or(-1.0))),
    },
    Column {
        title: "CONFIG",
        width: Width::Fixed(10),
        right: true,
        drop: 2,
        cell: |scene, node, _| config(scene, node),
        rank: Some(|_, node| Rank::Number(-(node.revision.unwrap_or(u64::MAX) as f64))),
    },
    Column {
        title: "BUILD",
        width: Width::Fixed(10),
        right: true,
        drop: 11,
        cell: |_, node, _| Cell::new(format::fit(&node.build, 9), Role::Dim),
        rank: Some(|_, node| Rank::Text(node.build.clone())),
    },
    Column {
        title: "CPU",
        width: Width::Fixed(6),
        right: true,
        drop: 5,
        cell: |_, node, _| optional(node.cpu, |cpu| format!("{:.0}%", cpu * 100.0)),
        rank: Some(|_, node| Rank::Number(node.cpu.unwrap_or(-1.0))),
    },
    Column {
        title: "MEM",
        width: Width::Fixed(6),
        right: true,
        drop: 4,
        cell: |_, node, _| optional(node.memory_bytes, |bytes| format::bytes(bytes as f64)),
        rank: Some(|_, node| Rank::Number(node.memory_bytes.unwrap_or(0) as f64)),
    },
    Column {
        title: "FD",
        width: Width::Fixed(6),
        right: true,
        drop: 10,
        cell: |_, node, _| optional(node.descriptors, |count| count.to_string()),
        rank: Some(|_, node| Rank::Number(node.descriptors.map_or(-1.0, f64::from))),
    },
    Column {
        title: "INST",
        width: Width::Fixed(5),
        right: true,
        drop: 3,
        cell: |_, node, _| Cell::new(node.instances.to_string(), Role::Text),
        rank: Some(|_, node| Rank::Number(node.instances as f64)),
    },
    Column {
        title: "CERT",
        width: Width::Fixed(8),
        right: true,
        drop: 5,
        cell: |scene, node, _| match soonest(scene, node) {
            None => Cell::new(format::NONE, Role::Dim),
            Some(identity) => {
                let left = identity.status.not_after_ms.saturating_sub(scene.mesh.at_ms);
                let role = if identity.status.last_error.is_some() { Role::Bad } else { Role::Text };
                Cell::new(format::age_short(left), role)
            }
        },
        rank: Some(|scene, node| {
            Rank::Number(
                -(soonest(scene, node).map_or(f64::MAX, |identity| identity.status.not_after_ms as f64)),
            )
        }),
    },
    Column {
        title: "ADDRESS",
        width: Width::Fixed(23),
        right: true,
        drop: 12,
        cell: |_, node, _| optional(node.addr, |addr| addr.to_string()),
        rank: None,
    },
];

fn zone(node: &NodeView) -> String {
    node.zone.as_ref().map_or_else(|| format::NONE.to_owned(), |zone| format::fit(zone.as_str(), 7))
}

fn optional<T>(value: Option<T>, text: impl Fn(T) -> String) -> Cell {
    value.map_or_else(|| Cell::new(format::NONE, Role::Dim), |value| Cell::new(text(value), Role::Text))
}

/// The view.
#[derive(Debug)]
pub struct Nodes;

impl View for Nodes {
    fn title(&self) -> &'static str {
        "Nodes"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["node", "n"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        "⏎ open  s sort  f faults"
    }

    fn columns(&self) -> Vec<&'static str> {
        LISTING.titles()
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        match scene.focus() {
            Some(Target::Node(name)) => {
                let running =
                    scene.mesh.services.iter().filter(|s| s.instances.iter().any(|i| i.node == *name));
                vec![running.map(|service| Target::Service(service.name.clone())).collect()]
            }
            _ => vec![LISTING.targets(&LISTING.rows(scene, &scene.mesh.nodes))],
        }
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        if let Some(Target::Node(name)) = scene.focus() {
            if let Some(node) = scene.mesh.nodes.iter().find(|node| node.name == *name) {
                page(scene, node, canvas, area);
            } else {
                let text = format!("The node {name} is not known here.");
                canvas.pen(area.x + 2, area.y + 1, area.right()).write(&text, Role::Strong);
            }
            return;
        }
        summary(scene, canvas, area);
        let rows = LISTING.rows(scene, &scene.mesh.nodes);
        let strip = strip_height(scene);
        let tall = area.height >= 28;
        let below = match (scene.state.zoom, tall) {
            (false, true) => SAID + 2,
            (false, false) if area.height >= 14 + strip => strip + 2,
            (true, _) | (false, false) => 0,
        };
        let table = Rect::new(area.x, area.y + 1, area.width, area.height.saturating_sub(1 + below));
        LISTING.draw(scene, &rows, canvas, table);
        if below == 0 {
            return;
        }
        let panel = Rect::new(area.x, area.bottom() - below, area.width, below);
        let selected = rows.iter().find(|row| scene.selected == Some(&(LISTING.id)(row)));
        match selected.filter(|_| tall && area.width >= 100) {
            Some(node) => {
                let half = area.width / 2;
                draw_strip(scene, canvas, Rect { width: half, ..panel });
                says(scene, node, canvas, Rect::new(area.x + half, panel.y, area.width - half, below));
            }
            None => draw_strip(scene, canvas, panel),
        }
    }

    fn details(&self, target: &Target) -> bool {
        matches!(target, Target::Node(_))
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        LISTING.table(scene, &LISTING.rows(scene, &scene.mesh.nodes))
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        serde_json::json!(LISTING.rows(scene, &scene.mesh.nodes))
    }
}

fn summary(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let nodes = &scene.mesh.nodes;
    let mut pen = canvas.pen(area.x + 1, area.y, area.right());
    pen.write(&format::count(nodes.len(), "node"), Role::Text).skip(2);
    for (kind, status) in [
        (MemberState::Alive, Status::Ok),
        (MemberState::Suspect, Status::Warn),
        (MemberState::Dead, Status::Bad),
        (MemberState::Left, Status::Idle),
    ] {
        let count = nodes.iter().filter(|node| node.state == kind).count();
        if count > 0 {
            let role = if status == Status::Ok { Role::Text } else { Role::from(status) };
            pen.write_whole(&format!("{count} {}", state(kind)), role).skip(2);
        }
    }
    let reporting = nodes.iter().filter(|node| node.revision.is_some());
    let current = reporting.clone().filter(|node| node.revision >= Some(scene.mesh.revision)).count();
    let text = format!("revision {} on {current} of {}", scene.mesh.revision, reporting.count());
    pen.write_whole(&text, Role::Dim);
}

fn zones<'m>(scene: &Scene<'m>) -> BTreeMap<String, Vec<&'m NodeView>> {
    let mut zones: BTreeMap<String, Vec<&NodeView>> = BTreeMap::new();
    for node in &scene.mesh.nodes {
        zones.entry(zone(node)).or_default().push(node);
    }
    zones
}

fn strip_height(scene: &Scene<'_>) -> u16 {
    zones(scene).len().min(4) as u16
}

/// Draws one cell a node, one row a zone.
fn draw_strip(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "at a glance", "one cell a node, one row a zone");
    for (line, (zone, nodes)) in zones(scene).iter().take(usize::from(inner.height)).enumerate() {
        let mut pen = canvas.pen(inner.x + 1, inner.y + line as u16, inner.right());
        pen.write(&format!("{zone:<8}"), Role::Dim);
        for node in nodes {
            let status = status(scene, node);
            pen.write(&status.glyph().to_string(), Role::from(status));
        }
    }
}

fn page(scene: &Scene<'_>, node: &NodeView, canvas: &mut Canvas<'_>, area: Rect) {
    let status = status(scene, node);
    let mut pen = canvas.pen(area.x + 1, area.y, area.right());
    pen.write("node ", Role::Dim).write(node.name.as_str(), Role::Strong).skip(2);
    pen.write(&format!("{} {}", status.glyph(), state(node.state)), Role::from(status)).skip(2);
    pen.write_whole(&format!("{} {}", duty(node.role), node.build), Role::Dim);
    let height = (SAID + 2).min(area.height.saturating_sub(2));
    says(scene, node, canvas, Rect::new(area.x, area.y + 1, area.width, height));
    let y = area.y + 1 + height;
    let room = area.bottom().saturating_sub(y);
    if room >= 3 {
        let half = if area.width >= 76 { area.width / 2 } else { area.width };
        let height = if room >= 14 { 9 } else { room };
        running(scene, node, canvas, Rect::new(area.x, y, half, height));
        if half < area.width {
            certificates(scene, node, canvas, Rect::new(area.x + half, y, area.width - half, height));
        }
        if height < room {
            let area = Rect::new(area.x, y + height, area.width, room - height);
            events::related(scene, &[node.name.to_string()], canvas, area);
        }
    }
}

/// Lines that a node says of itself.
const SAID: u16 = 9;

fn says(scene: &Scene<'_>, node: &NodeView, canvas: &mut Canvas<'_>, area: Rect) {
    let at_ms = scene.mesh.at_ms;
    let since = format!("{} for {}", state(node.state), format::age(at_ms.saturating_sub(node.since_ms)));
    let config = match (&node.refused, node.revision) {
        (Some(why), _) => format!("refused revision {}: {why}", scene.mesh.revision),
        (None, Some(revision)) if revision < scene.mesh.revision => {
            format!("revision {}, newest is {}", revision, scene.mesh.revision)
        }
        (None, Some(revision)) => format!("revision {revision}, the newest"),
        (None, None) => "has not said which revision it obeys".to_owned(),
    };
    let report = node.reported_ms.map_or_else(
        || "none yet".to_owned(),
        |reported| format!("{} ago", format::age(at_ms.saturating_sub(reported))),
    );
    let unknown = || format::NONE.to_owned();
    let lines = [
        ("address", node.addr.map_or_else(unknown, |addr| addr.to_string())),
        ("zone", node.zone.as_ref().map_or_else(unknown, ToString::to_string)),
        ("state", since),
        ("round trip", format::percentile(node.rtt_ms)),
        ("config", config),
        ("last report", report),
        ("cpu", node.cpu.map_or_else(unknown, |cpu| format!("{:.0}% of a core", cpu * 100.0))),
        ("memory", node.memory_bytes.map_or_else(unknown, |bytes| format::bytes(bytes as f64))),
        ("descriptors", node.descriptors.map_or_else(unknown, |count| count.to_string())),
    ];
    let inner = canvas.frame(area, node.name.as_str(), "");
    for (line, (label, value)) in lines.iter().take(usize::from(inner.height)).enumerate() {
        let mut pen = canvas.pen(inner.x + 1, inner.y + line as u16, inner.right());
        let role = if *label == "config" && node.refused.is_some() { Role::Bad } else { Role::Text };
        pen.write(&format!("{label:<13}"), Role::Dim).write(value, role);
    }
}

fn running(scene: &Scene<'_>, node: &NodeView, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "runs", "⏎ open");
    let services = scene.mesh.services.iter().filter(|s| s.instances.iter().any(|i| i.node == node.name));
    let mut line = 0;
    for service in services.take(usize::from(inner.height)) {
        let y = inner.y + line;
        let instances = service.instances.iter().filter(|instance| instance.node == node.name);
        let rps: f64 = instances.map(|instance| instance.traffic.requests_per_second).sum();
        let status = scene.service_status(service);
        let mut pen = canvas.pen(inner.x + 1, y, inner.right());
        pen.write(&status.glyph().to_string(), Role::from(status)).skip(1);
        pen.write(&format!("{:<24}", format::fit(&format::service(&service.name), 23)), Role::Text);
        pen.write(&format!("{:>6} rps", format::rate(rps)), Role::Text);
        if scene.selected == Some(&Target::Service(service.name.clone())) {
            canvas.select(Rect::new(inner.x, y, inner.width, 1));
        }
        line += 1;
    }
    if line == 0 {
        canvas.pen(inner.x + 1, inner.y, inner.right()).write("no service", Role::Dim);
    }
}

fn certificates(scene: &Scene<'_>, node: &NodeView, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "holds", "certificates");
    let own = scene.mesh.identities.iter().filter(|identity| identity.node == node.name);
    for (line, identity) in own.take(usize::from(inner.height)).enumerate() {
        let left = identity.status.not_after_ms.saturating_sub(scene.mesh.at_ms);
        let (glyph, role) = match &identity.status.last_error {
            Some(_) => (Status::Bad.glyph(), Role::Bad),
            None => (Status::Ok.glyph(), Role::Ok),
        };
        let mut pen = canvas.pen(inner.x + 1, inner.y + line as u16, inner.right());
        pen.write(&glyph.to_string(), role).skip(1);
        let name = format::subject(&identity.status.subject);
        pen.write(&format!("{:<24}", format::fit(&name, 23)), Role::Text);
        pen.write(&format!("{} left", format::age_short(left)), Role::Text);
    }
}
