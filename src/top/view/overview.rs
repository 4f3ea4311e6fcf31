//! Overview: what needs attention, then the services by impact, then how long the mesh takes.

use ratatui::layout::Rect;

use crate::model::view::{EdgeProtocol, ServiceView};
use crate::top::canvas::{Canvas, Scene, View};
use crate::top::format;
use crate::top::health::{Status, of_severity};
use crate::top::history::Series;
use crate::top::lint::Lint;
use crate::top::target::Target;
use crate::top::theme::Role;
use crate::top::view::{edges, services};
use crate::top::widget::table::first_line;
use crate::top::widget::{heat, spark};

/// Columns from which charts stand beside the services.
const WIDE: u16 = 110;
/// Columns of those charts.
const CHARTS: u16 = 44;

/// The view.
#[derive(Debug)]
pub struct Overview;

fn attention<'a>(scene: &Scene<'a>) -> Vec<&'a Lint> {
    scene.state.attention().collect()
}

fn rows<'m>(scene: &Scene<'m>) -> Vec<&'m ServiceView> {
    services::LISTING.rows(scene, &scene.mesh.services)
}

impl View for Overview {
    fn title(&self) -> &'static str {
        "Overview"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["o", "home"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        "⏎ open  T topology  x why  s sort"
    }

    fn columns(&self) -> Vec<&'static str> {
        services::LISTING.titles()
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        let lints = attention(scene).iter().map(|lint| Target::Lint(lint.key.clone())).collect();
        vec![lints, services::LISTING.targets(&rows(scene))]
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        let lints = attention(scene);
        let rows = rows(scene);
        let on_lint = matches!(scene.selected, Some(Target::Lint(_)));
        if scene.state.zoom {
            if on_lint {
                draw_attention(scene, &lints, canvas, area);
            } else {
                services::LISTING.draw(scene, &rows, canvas, area);
            }
            return;
        }
        let most = if area.height < 12 { area.height } else { (area.height / 3).max(4) };
        let height = (lints.len().max(1) as u16 + 2).min(most);
        draw_attention(scene, &lints, canvas, Rect::new(area.x, area.y, area.width, height));
        let below = Rect::new(area.x, area.y + height, area.width, area.height - height);
        if below.height < 2 {
            return;
        }
        if below.width >= WIDE && below.height >= 16 {
            draw_wide(scene, &rows, canvas, below);
        } else {
            draw_narrow(scene, &rows, canvas, below);
        }
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        services::LISTING.table(scene, &rows(scene))
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        let attention: Vec<serde_json::Value> = attention(scene)
            .iter()
            .map(|lint| {
                serde_json::json!({
                    "status": lint.status.word(),
                    "subject": lint.subject,
                    "evidence": lint.evidence,
                    "sinceMs": lint.since_ms,
                })
            })
            .collect();
        serde_json::json!({ "attention": attention, "services": rows(scene) })
    }
}

fn draw_attention(scene: &Scene<'_>, lints: &[&Lint], canvas: &mut Canvas<'_>, area: Rect) {
    let bare = area.height < 3;
    let title = match lints.len() {
        0 => "needs attention".to_owned(),
        count => format!("needs attention  {count}"),
    };
    let inner = if bare {
        area
    } else {
        canvas.frame(area, &title, if lints.is_empty() { "" } else { "⏎ open  x why" })
    };
    if lints.is_empty() {
        let mut pen = canvas.pen(inner.x + 1, inner.y, inner.right());
        pen.write("● ", Role::Ok).write("nothing: ", Role::Text);
        let ready: usize = scene.mesh.services.iter().map(|service| service.instances.len()).sum();
        let calm = format!(
            "{} on {}, certificates current, r{} everywhere",
            format::count(ready, "instance"),
            format::count(scene.mesh.nodes.len(), "node"),
            scene.mesh.revision,
        );
        pen.write(&calm, Role::Dim);
        return;
    }
    let height = usize::from(inner.height);
    let cursor = lints.iter().position(|lint| scene.selected == Some(&Target::Lint(lint.key.clone())));
    let first = first_line(cursor.unwrap_or(0), lints.len(), height);
    let longest = lints.iter().map(|lint| lint.subject.chars().count() as u16).max().unwrap_or(0);
    let subject_width = longest.min(if inner.width >= 100 { 40 } else { 26 }).min(inner.width / 2);
    for (line, lint) in lints.iter().skip(first).take(height).enumerate() {
        let y = inner.y + line as u16;
        let age = format::age(scene.mesh.at_ms.saturating_sub(lint.since_ms));
        let show_age = inner.width >= 50;
        let end = inner.right() - if show_age { age.chars().count() as u16 + 2 } else { 0 };
        canvas.cell(inner.x + 1, y, lint.status.glyph(), Role::from(lint.status));
        let mut pen = canvas.pen(inner.x + 3, y, end);
        let subject = format::fit(&lint.subject, usize::from(subject_width));
        pen.write(&subject, Role::Strong).at(inner.x + 3 + subject_width + 2);
        pen.write(&lint.evidence, Role::Text);
        if show_age {
            canvas.put_right(inner.right().saturating_sub(1), y, &age, Role::Dim);
        }
        if cursor == Some(first + line) {
            canvas.cell(inner.x, y, '▸', Role::Accent);
            canvas.select(Rect::new(inner.x, y, inner.width, 1));
        }
    }
    let hidden = lints.len().saturating_sub(first + height);
    if hidden > 0 && !bare {
        let text = format!(" {hidden} more ");
        canvas.put_right(area.right().saturating_sub(2), area.bottom() - 1, &text, Role::Dim);
    }
}

fn draw_services(scene: &Scene<'_>, rows: &[&ServiceView], canvas: &mut Canvas<'_>, area: Rect) {
    if rows.is_empty() {
        services::empty(scene, canvas, area);
    } else {
        services::LISTING.draw(scene, rows, canvas, area);
    }
}

fn draw_narrow(scene: &Scene<'_>, rows: &[&ServiceView], canvas: &mut Canvas<'_>, area: Rect) {
    let spare = area.height.saturating_sub(rows.len() as u16 + 2).min(12);
    let chart = if area.height >= 14 { (area.height / 4).clamp(5, 10).max(spare) } else { 0 };
    let table = Rect::new(area.x, area.y, area.width, area.height - chart);
    draw_services(scene, rows, canvas, table);
    if chart > 0 {
        let area = Rect::new(area.x, area.bottom() - chart, area.width, chart);
        heat::draw(scene, &Series::Mesh, "latency, mesh", canvas, area);
    }
}

fn draw_wide(scene: &Scene<'_>, rows: &[&ServiceView], canvas: &mut Canvas<'_>, area: Rect) {
    let side = if area.width >= 160 { CHARTS + 20 } else { CHARTS };
    let left = area.width - side;
    let foot = if area.height >= 24 { (area.height / 3).clamp(8, 16) } else { 0 };
    let table = Rect::new(area.x, area.y, left - 1, area.height - foot);
    draw_services(scene, rows, canvas, table);
    let below = Rect::new(area.x, area.bottom() - foot, left, foot);
    let worst = scene.mesh.edges.iter().max_by(|a, b| {
        let weight = |edge| (edges::LISTING.impact)(scene, edge);
        weight(a).total_cmp(&weight(b))
    });
    let worst = worst.filter(|edge| scene.edge_status(edge).is_fault());
    // The events stand where there is the most room for their words.
    let told_below = foot > 0 && worst.is_none();
    let x = area.x + left;
    let answers = 8.min(area.height / 3);
    let told =
        if told_below { 0 } else { area.height.saturating_sub(answers + (area.height / 3).clamp(5, 12)) };
    let chart = area.height - answers - told;
    heat::draw(scene, &Series::Mesh, "latency, mesh", canvas, Rect::new(x, area.y, side, chart));
    draw_answers(scene, canvas, Rect::new(x, area.y + chart, side, answers));
    if told > 0 {
        draw_events(scene, canvas, Rect::new(x, area.bottom() - told, side, told));
    }
    match worst {
        _ if foot == 0 => {}
        Some(edge) => {
            let title = format!("latency, {}", edges::name(edge));
            heat::draw(scene, &Series::Edge(edge.into()), &title, canvas, below);
        }
        None => draw_events(scene, canvas, below),
    }
}

fn draw_answers(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let window = format!("{}s", scene.mesh.window_seconds);
    let inner = canvas.frame(area, "answers", &window);
    let edges = &scene.mesh.edges;
    let class = |name: &str| -> u64 {
        let http = edges.iter().filter(|edge| edge.protocol != EdgeProtocol::Tcp);
        http.filter_map(|edge| edge.traffic.classes.get(name)).sum()
    };
    let tcp = edges.iter().filter(|edge| edge.protocol == EdgeProtocol::Tcp);
    let classes = [
        ("2xx", class("2xx") + class("3xx"), Role::Ok),
        ("4xx", class("4xx"), Role::Warn),
        ("5xx", class("5xx"), Role::Bad),
        ("none", class("none"), Role::Bad),
        ("tcp", tcp.flat_map(|edge| edge.traffic.classes.values()).sum(), Role::Dim),
    ];
    let total: u64 = classes.iter().map(|(_, count, _)| count).sum();
    let mut y = inner.y;
    for (name, count, role) in classes {
        if y >= inner.bottom() {
            return;
        }
        let share = count as f64 / total.max(1) as f64;
        let mut pen = canvas.pen(inner.x + 1, y, inner.right());
        pen.write(&format!("{name:<5}"), Role::Dim);
        let room = inner.width.saturating_sub(16);
        pen.write(&spark::bar(share, room), role).at(inner.right().saturating_sub(9));
        pen.write(&format!("{:>7.2}%", share * 100.0), Role::Text);
        y += 1;
    }
    if y < inner.bottom() {
        let mtls = edges.iter().filter(|edge| edge.mtls).count();
        let retries: f64 = edges.iter().map(|edge| edge.traffic.retries_per_second).sum();
        let open: i64 = edges.iter().map(|edge| edge.traffic.connections_open).sum();
        let text = format!("mTLS {mtls}/{}  retries {}/s  open {open}", edges.len(), format::rate(retries));
        canvas.pen(inner.x + 1, y, inner.right()).write(&text, Role::Dim);
    }
}

/// Draws the last events, the newest first, each with all its words.
fn draw_events(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "events", "8 all");
    let begin = inner.x + 12;
    let room = usize::from(inner.right().saturating_sub(begin));
    let mut y = inner.y;
    for event in scene.state.events() {
        if y >= inner.bottom() {
            break;
        }
        let status = of_severity(event.severity);
        let glyph = if status == Status::Ok { ' ' } else { status.glyph() };
        let mut pen = canvas.pen(inner.x + 1, y, inner.right());
        pen.write(&format::clock(event.at_ms, scene.state.utc_offset_s), Role::Dim).skip(1);
        pen.write(&glyph.to_string(), Role::from(status));
        let subject = format::fit(&event.subject, room);
        for (index, line) in format::wrap(&format!("{subject} {}", event.message), room).iter().enumerate() {
            if y >= inner.bottom() {
                break;
            }
            let mut pen = canvas.pen(begin, y, inner.right());
            match line.strip_prefix(&subject).filter(|_| index == 0) {
                Some(rest) => _ = pen.write(&subject, Role::Text).write(rest, Role::Dim),
                None => _ = pen.write(line, Role::Dim),
            }
            y += 1;
        }
    }
    if y == inner.y {
        canvas.pen(inner.x + 1, inner.y, inner.right()).write("nothing has happened yet", Role::Dim);
    }
}
