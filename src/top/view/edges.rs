//! Edges: who calls whom; and of one edge, what its two ends saw and what lies between.

use ratatui::layout::Rect;

use crate::model::view::{EdgeProtocol, EdgeView, InstanceView, ServiceView, TrafficView};
use crate::top::canvas::{Canvas, Pen, Scene, View};
use crate::top::filter::Facts;
use crate::top::format;
use crate::top::health::{Status, judge_instance};
use crate::top::history::Series;
use crate::top::target::{EdgeId, Target};
use crate::top::theme::Role;
use crate::top::view::{events, traffic};
use crate::top::widget::table::{Cell, Column, Listing, Rank, Width, success, traffic_facts, unwanted};
use crate::top::widget::{heat, spark};

/// The table of edges.
pub static LISTING: Listing<EdgeView> = Listing {
    columns: COLUMNS,
    id: |edge| Target::Edge(EdgeId::from(edge)),
    status: |scene, edge| scene.edge_status(edge),
    facts,
    impact: |scene, edge| impact(scene.edge_status(edge), &edge.traffic),
    quiet: false,
};

/// Returns what orders traffic: by how it is, then by failures, then by rate.
pub fn impact(status: Status, traffic: &TrafficView) -> f64 {
    let level = match status {
        Status::Bad => 3e9,
        Status::Warn => 2e9,
        Status::Deny => 1e9,
        Status::Ok | Status::Idle => 0.0,
    };
    level + traffic.failures_per_second * 1e4 + traffic.requests_per_second.min(1e6) * 1e-2
}

/// Returns `checkout→payments`.
pub fn name(edge: &EdgeView) -> String {
    format!("{}→{}", format::subject(&edge.source), format::service(&edge.destination))
}

/// Returns the word for what is spoken on an edge.
pub fn protocol(protocol: EdgeProtocol) -> &'static str {
    match protocol {
        EdgeProtocol::Http => "http",
        EdgeProtocol::Grpc => "grpc",
        EdgeProtocol::Tcp => "tcp",
    }
}

fn facts(edge: &EdgeView) -> Facts {
    let mtls = if edge.mtls { " mtls" } else { " plain" };
    let mut facts = traffic_facts(&edge.traffic);
    facts.text.push_str(mtls);
    if edge.traffic.denied_per_second > 0.0 {
        facts.text.push_str(" denied");
    }
    facts.source = format::subject(&edge.source);
    facts.destination = format::service(&edge.destination);
    protocol(edge.protocol).clone_into(&mut facts.kind);
    facts
}

static COLUMNS: &[Column<EdgeView>] = &[
    Column {
        title: "SOURCE→DESTINATION",
        width: Width::Name(20, 44),
        right: false,
        drop: 0,
        cell: |_, edge, _| {
            Cell(vec![
                (format::subject(&edge.source), Role::Text),
                ("→".to_owned(), Role::Dim),
                (format::service(&edge.destination), Role::Text),
            ])
        },
        rank: Some(|_, edge| Rank::Text(name(edge))),
    },
    traffic::ok(),
    traffic::rps(),
    traffic::p50(),
    traffic::p95(),
    traffic::p99(),
    Column {
        title: "MTLS",
        width: Width::Fixed(6),
        right: true,
        drop: 7,
        cell: |_, edge, _| if edge.mtls { Cell::new("√", Role::Dim) } else { Cell::new("no", Role::Warn) },
        rank: Some(|_, edge| Rank::Number(f64::from(u8::from(!edge.mtls)))),
    },
    Column {
        title: "PROTO",
        width: Width::Fixed(7),
        right: true,
        drop: 9,
        cell: |_, edge, _| Cell::new(protocol(edge.protocol), Role::Dim),
        rank: Some(|_, edge| Rank::Text(protocol(edge.protocol).to_owned())),
    },
    traffic::retries(8),
    Column {
        title: "DENY/m",
        width: Width::Fixed(8),
        right: true,
        drop: 10,
        cell: |_, edge, _| unwanted(edge.traffic.denied_per_second * 60.0, Role::Deny),
        rank: Some(|_, edge| Rank::Number(edge.traffic.denied_per_second)),
    },
    Column {
        title: "TREND",
        width: Width::Rest(12),
        right: false,
        drop: 4,
        cell: |scene, edge, width| Cell(spark::rate(scene, &Series::Edge(EdgeId::from(edge)), width.min(60))),
        rank: None,
    },
];

/// Writes `94.21%  212 rps  p50 41ms  p95 880ms  p99 1.92s`.
pub fn write_traffic(pen: &mut Pen<'_, '_>, traffic: &TrafficView, status: Status) {
    let role = if status.is_fault() { Role::from(status) } else { Role::Text };
    pen.write(&format!("{} {}", status.glyph(), status.word()), Role::from(status)).skip(2);
    if let Some(share) = traffic.success() {
        pen.write(&format!("{}% ok", format::percent(share)), role).skip(2);
    }
    pen.write(&format!("{} rps", format::rate(traffic.requests_per_second)), Role::Text).skip(2);
    let latency = traffic.latency_ms;
    for (label, value) in [("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99)] {
        if value.is_some() {
            let value = format::percentile(value);
            if pen.room() > label.len() + value.len() {
                pen.write(label, Role::Dim).skip(1).write(&value, Role::Text).skip(2);
            }
        }
    }
}

/// The view.
#[derive(Debug)]
pub struct Edges;

impl View for Edges {
    fn title(&self) -> &'static str {
        "Edges"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["edge", "e"]
    }

    fn hints(&self, scene: &Scene<'_>) -> &'static str {
        if scene.focus().is_some() {
            "⏎ endpoint's node  x why  T topology"
        } else {
            "⏎ open  x why  T topology"
        }
    }

    fn columns(&self) -> Vec<&'static str> {
        LISTING.titles()
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        match scene.focus() {
            Some(Target::Edge(id)) => {
                let service = scene.service(&id.destination);
                vec![service.map(instances).unwrap_or_default()]
            }
            _ => vec![LISTING.targets(&LISTING.rows(scene, &scene.mesh.edges))],
        }
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        if let Some(Target::Edge(id)) = scene.focus() {
            match scene.edge(id) {
                Some(edge) => page(scene, edge, canvas, area),
                None => gone(id, canvas, area),
            }
            return;
        }
        let rows = LISTING.rows(scene, &scene.mesh.edges);
        if rows.is_empty() {
            empty(scene, canvas, area);
        } else {
            LISTING.draw(scene, &rows, canvas, area);
        }
    }

    fn details(&self, target: &Target) -> bool {
        matches!(target, Target::Edge(_))
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        LISTING.table(scene, &LISTING.rows(scene, &scene.mesh.edges))
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        serde_json::json!(LISTING.rows(scene, &scene.mesh.edges))
    }
}

fn empty(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let (why, next) = if scene.mesh.edges.is_empty() {
        (
            "No calls seen yet.",
            "An edge appears with the first call between two services: curl http://NAME.mesh/",
        )
    } else {
        ("No edge passes the filter.", "esc clears it; f shows all again")
    };
    let end = area.right();
    canvas.pen(area.x + 2, area.y + 1, end).write(why, Role::Strong);
    if area.height > 2 {
        canvas.pen(area.x + 2, area.y + 2, end).write(next, Role::Dim);
    }
}

fn gone(id: &EdgeId, canvas: &mut Canvas<'_>, area: Rect) {
    let text = format!("No call from {} to {} is known.", id.source, id.destination);
    canvas.pen(area.x + 2, area.y + 1, area.right()).write(&text, Role::Strong);
}

fn instances(service: &ServiceView) -> Vec<Target> {
    let target = |i: &InstanceView| Target::Instance(service.name.clone(), i.node.clone(), i.port);
    service.instances.iter().map(target).collect()
}

/// Draws the page of one edge from top to bottom, leaving out from the end what does not fit.
fn page(scene: &Scene<'_>, edge: &EdgeView, canvas: &mut Canvas<'_>, area: Rect) {
    let status = scene.edge_status(edge);
    let mut pen = canvas.pen(area.x + 1, area.y, area.right());
    pen.write("edge ", Role::Dim).write(&name(edge), Role::Strong).skip(2);
    write_traffic(&mut pen, &edge.traffic, status);
    pen.write_whole(protocol(edge.protocol), Role::Dim).skip(1);
    let (mtls, role) = if edge.mtls { ("mTLS √", Role::Ok) } else { ("no mTLS", Role::Warn) };
    pen.write_whole(mtls, role);

    let mut y = area.y + 1;
    let bottom = area.bottom();
    let wide = area.width >= 100;
    let left = if wide { area.width * 3 / 5 } else { area.width };
    if bottom.saturating_sub(y) >= 6 {
        sides(edge, canvas, Rect::new(area.x, y, left, 6));
        if wide {
            reasons(edge, canvas, Rect::new(area.x + left, y, area.width - left, 6));
        }
        y += 6;
    }
    let endpoints = scene.service(&edge.destination).map_or(0, |service| service.instances.len());
    let height = (endpoints as u16 + 3).clamp(4, 10).max(6).min(bottom.saturating_sub(y));
    if height >= 4 {
        let left = if area.width >= 76 { area.width * 3 / 5 } else { area.width };
        endpoints_panel(scene, edge, canvas, Rect::new(area.x, y, left, height));
        if left < area.width {
            connection(edge, canvas, Rect::new(area.x + left, y, area.width - left, height));
        }
        y += height;
    }
    let room = bottom.saturating_sub(y);
    if room >= 4 {
        let series = Series::Edge(EdgeId::from(edge));
        let heat_height = if room >= 15 { (room - 5).min(12) } else { room };
        heat::draw(
            scene,
            &series,
            "latency, caller's side",
            canvas,
            Rect::new(area.x, y, area.width, heat_height),
        );
        y += heat_height;
        if heat_height < room {
            trends(scene, &series, canvas, Rect::new(area.x, y, area.width, 5));
            y += 5;
        }
        if bottom.saturating_sub(y) >= 3 {
            let mut names = vec![format::subject(&edge.source), format::service(&edge.destination)];
            let running = scene.service(&edge.destination).into_iter().flat_map(|service| &service.instances);
            names.extend(running.map(|instance| instance.node.to_string()));
            events::related(scene, &names, canvas, Rect::new(area.x, y, area.width, bottom - y));
        }
    }
}

fn sides(edge: &EdgeView, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "who sees what", "");
    let end = inner.right();
    let titles = format!("{:<13}{:>7}{:>8}{:>8}{:>8}{:>8}", "", "OK%", "RPS", "P50", "P95", "P99");
    canvas.pen(inner.x + 1, inner.y, end).write(&titles, Role::Dim);
    let line = |title: &str, traffic: &TrafficView| {
        let latency = traffic.latency_ms;
        format!(
            "{title:<13}{:>7}{:>8}{:>8}{:>8}{:>8}",
            traffic.success().map_or_else(|| format::NONE.to_owned(), format::percent),
            format::rate(traffic.requests_per_second),
            format::percentile(latency.p50),
            format::percentile(latency.p95),
            format::percentile(latency.p99),
        )
    };
    let mut pen = canvas.pen(inner.x + 1, inner.y + 1, end);
    pen.write(&line("client sees", &edge.traffic), Role::Text).skip(2);
    pen.write_whole(&format::subject(&edge.source), Role::Dim);
    let Some(server) = &edge.server else {
        let text = "server side: not reported, so what lies between cannot be told";
        canvas.pen(inner.x + 1, inner.y + 2, end).write(text, Role::Dim);
        return;
    };
    let mut pen = canvas.pen(inner.x + 1, inner.y + 2, end);
    pen.write(&line("server sees", server), Role::Text).skip(2);
    pen.write_whole(&format::service(&edge.destination), Role::Dim);
    let gap = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => format::latency((a - b).max(0.0)),
        _ => format::NONE.to_owned(),
    };
    let (ours, theirs) = (edge.traffic.latency_ms, server.latency_ms);
    let lost = (edge.traffic.requests_per_second - server.requests_per_second).max(0.0);
    let text = format!(
        "{:<13}{:>7.2}{:>8}{:>8}{:>8}{:>8}",
        "between",
        ((server.success_rate - edge.traffic.success_rate) * 100.0).max(0.0),
        format::rate(lost),
        gap(ours.p50, theirs.p50),
        gap(ours.p95, theirs.p95),
        gap(ours.p99, theirs.p99),
    );
    let role =
        if lost > edge.traffic.requests_per_second * 0.02 && lost > 0.5 { Role::Warn } else { Role::Dim };
    let mut pen = canvas.pen(inner.x + 1, inner.y + 3, end);
    pen.write(&text, role).skip(2);
    pen.write_whole("network, proxies, never arrived", Role::Dim);
}

fn reasons(edge: &EdgeView, canvas: &mut Canvas<'_>, area: Rect) {
    let (traffic, protocol) = (&edge.traffic, edge.protocol);
    let inner = canvas.frame(area, "answers in the window", "");
    let total: u64 = traffic.classes.values().sum();
    let mut lines: Vec<(String, u64, Role)> = Vec::new();
    for (class, count) in traffic.classes.iter().filter(|(_, count)| **count > 0) {
        let role = match class.as_str() {
            "none" if protocol == EdgeProtocol::Tcp => Role::Dim,
            "5xx" | "none" => Role::Bad,
            "4xx" => Role::Warn,
            _ => Role::Dim,
        };
        let ended = protocol == EdgeProtocol::Tcp && class == "none";
        let label = if ended { "ended".to_owned() } else { class.clone() };
        lines.push((label, *count, role));
    }
    for (reason, count) in traffic.reasons.iter().filter(|(_, count)| **count > 0) {
        lines.push((reason.clone(), *count, Role::Bad));
    }
    if lines.is_empty() {
        canvas.pen(inner.x + 1, inner.y, inner.right()).write("none", Role::Dim);
    }
    for (line, (label, count, role)) in lines.iter().take(usize::from(inner.height)).enumerate() {
        let y = inner.y + line as u16;
        let share = *count as f64 / total.max(1) as f64;
        let mut pen = canvas.pen(inner.x + 1, y, inner.right().saturating_sub(1));
        pen.write(&format!("{:<18}", format::fit(label, 18)), Role::Text);
        pen.write(&format!("{:>7} ", format::tally(*count)), Role::Text);
        let room = inner.right().saturating_sub(1).saturating_sub(pen.x());
        pen.write(&spark::bar(share, room.min(24)), *role);
    }
}

fn endpoints_panel(scene: &Scene<'_>, edge: &EdgeView, canvas: &mut Canvas<'_>, area: Rect) {
    let title = format!("endpoints of {}", format::service(&edge.destination));
    let inner = canvas.frame(area, &title, "as they see it");
    match scene.service(&edge.destination) {
        Some(service) if !service.instances.is_empty() => {
            let rows: Vec<&InstanceView> = service.instances.iter().collect();
            draw_instances(scene, service, &rows, canvas, inner);
        }
        _ => {
            let text = "none announced: nothing answers to this name";
            canvas.pen(inner.x + 1, inner.y, inner.right()).write(text, Role::Warn);
        }
    }
}

/// Draws a table of the instances of a service.
pub fn draw_instances(
    scene: &Scene<'_>,
    service: &ServiceView,
    rows: &[&InstanceView],
    canvas: &mut Canvas<'_>,
    area: Rect,
) {
    if area.height == 0 {
        return;
    }
    let wide = area.width >= 84;
    let name_width = if wide { 22 } else { 14 };
    let end = area.right();
    let mut pen = canvas.pen(area.x + 3, area.y, end);
    pen.write(&format!("{:<name_width$}", "NODE"), Role::Dim);
    pen.write(&format!("{:>7}{:>7}{:>8}", "OK%", "RPS", "P99"), Role::Dim);
    if wide {
        pen.write("  ADDRESS              ", Role::Dim);
    }
    pen.skip(2).write("STATE", Role::Dim);
    let selected = rows.iter().position(|instance| {
        scene.selected == Some(&Target::Instance(service.name.clone(), instance.node.clone(), instance.port))
    });
    let height = usize::from(area.height - 1);
    let first = crate::top::widget::table::first_line(selected.unwrap_or(0), rows.len(), height);
    for (line, instance) in rows.iter().skip(first).take(height).enumerate() {
        let y = area.y + 1 + line as u16;
        let status = judge_instance(instance);
        canvas.cell(area.x + 1, y, status.glyph(), Role::from(status));
        let mut pen = canvas.pen(area.x + 3, y, end);
        let node = format::fit(instance.node.as_str(), name_width - 1);
        pen.write(&format!("{node:<name_width$}"), Role::Text);
        let ok = success(&instance.traffic, status);
        for (text, role) in &ok.0 {
            pen.write(&format!("{text:>7}"), *role);
        }
        pen.write(&format!("{:>7}", format::rate(instance.traffic.requests_per_second)), Role::Text);
        pen.write(&format!("{:>8}", format::percentile(instance.traffic.latency_ms.p99)), Role::Text);
        if wide {
            pen.write(&format!("  {:<21}", instance.addr), Role::Dim);
        }
        let (word, role) = standing(instance);
        pen.skip(2).write(&word, role);
        if selected == Some(first + line) {
            canvas.cell(area.x, y, '▸', Role::Accent);
            canvas.select(Rect::new(area.x, y, area.width, 1));
        }
    }
}

/// Returns how willing an instance is, in words.
pub fn standing(instance: &InstanceView) -> (String, Role) {
    use crate::model::endpoint::Standing;
    match instance.standing {
        Standing::Ready if !instance.ejected_by.is_empty() => {
            (format!("ejected by {}", instance.ejected_by.len()), Role::Bad)
        }
        Standing::Ready => ("ready".to_owned(), Role::Dim),
        Standing::Suspect => ("suspect".to_owned(), Role::Warn),
        Standing::Unhealthy => ("unhealthy".to_owned(), Role::Bad),
        Standing::Draining => ("draining".to_owned(), Role::Idle),
    }
}

fn connection(edge: &EdgeView, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "connection", "");
    let traffic = &edge.traffic;
    let lines = [
        ("open", format!("{}  {}/s", traffic.connections_open, format::bytes(traffic.bytes_per_second))),
        ("errors", format!("{}/s", format::rate(traffic.failures_per_second))),
        ("retries", format!("{}/s", format::rate(traffic.retries_per_second))),
        ("denied", format!("{}/min", format::rate(traffic.denied_per_second * 60.0))),
        ("client", edge.source.to_string()),
        ("server", edge.destination.to_string()),
        ("total", format!("{} of {} failed", traffic.failures_total, traffic.requests_total)),
    ];
    for (line, (label, value)) in lines.iter().take(usize::from(inner.height)).enumerate() {
        let mut pen = canvas.pen(inner.x + 1, inner.y + line as u16, inner.right());
        pen.write(&format!("{label:<8}"), Role::Dim).write(value, Role::Text);
    }
}

/// Draws rate, errors and slowest percentile of a series, one line each.
pub fn trends(scene: &Scene<'_>, series: &Series, canvas: &mut Canvas<'_>, area: Rect) {
    let width = area.width.saturating_sub(12);
    let (_, step) = scene.state.points(series, width);
    let span = format::age_short(step * u64::from(width) * 1000);
    let inner = canvas.frame(area, &format!("last {span}"), "┊ no data");
    let charts = [
        ("rps", spark::own_rate(scene, series, width)),
        ("err/s", spark::failures(scene, series, width)),
        ("p99", spark::slowest(scene, series, width)),
    ];
    for (line, (label, chart)) in charts.iter().take(usize::from(inner.height)).enumerate() {
        let mut pen = canvas.pen(inner.x + 1, inner.y + line as u16, inner.right());
        pen.write(&format!("{label:<8}"), Role::Dim);
        for (text, role) in chart {
            pen.write(text, *role);
        }
    }
}
