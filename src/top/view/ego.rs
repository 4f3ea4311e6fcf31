//! One service in the middle, its callers at the left, what it calls at the right: what can be read however many
//! services there are.

use ratatui::layout::Rect;

use crate::model::identity::Subject;
use crate::model::view::{EdgeView, InstanceView};
use crate::top::canvas::{Canvas, Scene};
use crate::top::format;
use crate::top::health::{Status, judge_instance};
use crate::top::history::Series;
use crate::top::target::{EdgeId, Target};
use crate::top::theme::Role;
use crate::top::view::edges::{draw_instances, impact, write_traffic};
use crate::top::view::graph::status as status_of;
use crate::top::view::graph::{Graph, status, target};
use crate::top::widget::spark;

/// Cells of the box in the middle.
const FOCUS_WIDTH: u16 = 23;

/// Returns all nodes, the one that needs attention most first: what the cursor goes through.
pub fn order(scene: &Scene<'_>, graph: &Graph<'_>) -> Vec<Target> {
    let mut nodes: Vec<&Subject> = graph.nodes.iter().collect();
    let weight = |subject: &Subject| {
        let service = subject.service().and_then(|name| scene.service(name));
        service.map_or(-1.0, |service| impact(status(scene, subject), &service.traffic))
    };
    nodes.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    nodes.into_iter().map(target).collect()
}

fn centre<'g>(scene: &Scene<'_>, graph: &'g Graph<'_>) -> Option<&'g Subject> {
    let selected = graph.nodes.iter().find(|node| Some(&target(node)) == scene.selected);
    selected.or_else(|| {
        let first = order(scene, graph).into_iter().next()?;
        graph.nodes.iter().find(|node| target(node) == first)
    })
}

fn sides<'m>(scene: &Scene<'_>, graph: &Graph<'m>, subject: &Subject) -> [Vec<&'m EdgeView>; 2] {
    let is_called = |edge: &&&EdgeView| Some(&edge.destination) == subject.service();
    let calls = |edge: &&&EdgeView| edge.source == *subject;
    let mut sides: [Vec<&EdgeView>; 2] = [
        graph.edges.iter().filter(is_called).copied().collect(),
        graph.edges.iter().filter(calls).copied().collect(),
    ];
    for side in &mut sides {
        side.sort_by(|a, b| {
            let weight = |edge: &EdgeView| impact(scene.edge_status(edge), &edge.traffic);
            weight(b).total_cmp(&weight(a))
        });
    }
    sides
}

/// Draws the service and its neighbours.
pub fn draw(scene: &Scene<'_>, graph: &Graph<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(subject) = centre(scene, graph) else { return };
    let [callers, called] = sides(scene, graph, subject);
    let others = graph.nodes.len().saturating_sub(callers.len() + called.len() + 1);
    let mut pen = canvas.pen(area.x + 1, area.y, area.right());
    pen.write("one service  ", Role::Dim).write(&format::subject(subject), Role::Strong).skip(2);
    pen.write_whole(&format!("{others} others folded"), Role::Dim).skip(2);
    pen.write_whole("═ unhealthy  ─ ok  ╌ idle", Role::Dim);
    if area.height < 4 {
        return;
    }
    if area.width < FOCUS_WIDTH + 44 {
        narrow(scene, [&callers, &called], canvas, area);
        return;
    }
    let body = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    let middle = body.x + (body.width - FOCUS_WIDTH) / 2;
    let instances =
        subject.service().and_then(|name| scene.service(name)).map_or(0, |s| s.instances.len() as u16);
    let height = (5 + instances.clamp(1, 6)).min(body.height);
    let top = body.y + (body.height - height) / 2;
    let focus = Rect::new(middle, top, FOCUS_WIDTH, height);
    focus_box(scene, subject, canvas, focus);
    let entry = top + height / 2;
    let left = Rect::new(body.x, body.y, middle - body.x, body.height);
    let right = Rect::new(middle + FOCUS_WIDTH, body.y, body.right() - middle - FOCUS_WIDTH, body.height);
    side(scene, &callers, false, canvas, left, entry);
    side(scene, &called, true, canvas, right, entry);
    canvas.put(body.x + 2, body.y, "CALLED BY", Role::Dim);
    canvas.put(middle + 1, body.y, "FOCUS", Role::Dim);
    canvas.put(right.x + 9, body.y, "CALLS", Role::Dim);
}

/// Without room for lines: the neighbours as two lists.
fn narrow(scene: &Scene<'_>, sides: [&Vec<&EdgeView>; 2], canvas: &mut Canvas<'_>, area: Rect) {
    let mut y = area.y + 1;
    for (edges, label) in sides.into_iter().zip(["◂", "▸"]) {
        for edge in edges {
            if y >= area.bottom() {
                return;
            }
            let status = scene.edge_status(edge);
            let far = if label == "◂" {
                format::subject(&edge.source)
            } else {
                format::service(&edge.destination)
            };
            let mut pen = canvas.pen(area.x + 1, y, area.right());
            pen.write(label, Role::Dim).skip(1);
            pen.write(&status.glyph().to_string(), Role::from(status)).skip(1);
            pen.write(&format!("{:<14}", format::fit(&far, 14)), Role::Text).skip(1);
            pen.write(&format!("{}/s", format::rate(edge.traffic.requests_per_second)), Role::Text).skip(1);
            pen.write_whole(&format::success(&edge.traffic), Role::Dim);
            y += 1;
        }
    }
}

fn focus_box(scene: &Scene<'_>, subject: &Subject, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "", "");
    let status = status(scene, subject);
    let end = inner.right();
    let mut pen = canvas.pen(inner.x + 1, inner.y, end);
    pen.write(&status.glyph().to_string(), Role::from(status)).skip(1);
    pen.write(&format::subject(subject), Role::Strong);
    canvas.select(Rect::new(inner.x, inner.y, inner.width, 1));
    let Some(service) = subject.service().and_then(|name| scene.service(name)) else {
        if inner.height > 1 {
            canvas.pen(inner.x + 1, inner.y + 1, end).write("calls for itself", Role::Dim);
        }
        return;
    };
    let traffic = &service.traffic;
    let role = if status.is_fault() { Role::from(status) } else { Role::Text };
    let lines = [
        (format!("{}  {} rps", format::success(traffic), format::rate(traffic.requests_per_second)), role),
        (format!("p99 {}", format::percentile(traffic.latency_ms.p99)), Role::Text),
    ];
    for (line, (text, role)) in lines.iter().enumerate() {
        if line as u16 + 1 < inner.height {
            canvas.pen(inner.x + 1, inner.y + 1 + line as u16, end).write(text, *role);
        }
    }
    let mut instances: Vec<&InstanceView> = service.instances.iter().collect();
    instances.sort_by_key(|instance| std::cmp::Reverse(judge_instance(instance)));
    for (line, instance) in instances.into_iter().enumerate() {
        let y = inner.y + 3 + line as u16;
        if y >= inner.bottom() {
            break;
        }
        let more = service.instances.len() - line;
        if y + 1 == inner.bottom() && more > 1 {
            canvas.pen(inner.x + 1, y, end).write(&format!("{more} more instances"), Role::Dim);
            break;
        }
        let status = judge_instance(instance);
        let mut pen = canvas.pen(inner.x + 1, y, end);
        pen.write(instance.node.as_str(), Role::Dim).skip(1);
        pen.write(&format!("{} {}", status.glyph(), status.word()), Role::from(status));
    }
}

/// The parts of a line in one style: along, down, the corners above and below, the joints left and right, both ways.
struct Strokes {
    along: char,
    down: char,
    /// Opens downwards, opens upwards, and passes: on the side away from the focus.
    ends: [char; 3],
    /// Where the line to the focus leaves: in the middle, at the top, at the bottom, alone.
    taps: [char; 4],
}

fn strokes(heavy: bool, right: bool) -> Strokes {
    match (heavy, right) {
        (false, false) => {
            Strokes {
                along: '─', down: '│', ends: ['┐', '┘', '┤'], taps: ['├', '┌', '└', '─']
            }
        }
        (true, false) => Strokes {
            along: '═', down: '║', ends: ['╗', '╝', '╣'], taps: ['╠', '╔', '╚', '═']
        },
        (false, true) => Strokes {
            along: '─', down: '│', ends: ['┌', '└', '├'], taps: ['┤', '┐', '┘', '─']
        },
        (true, true) => Strokes {
            along: '═', down: '║', ends: ['╔', '╚', '╠'], taps: ['╣', '╗', '╝', '═']
        },
    }
}

/// Draws the neighbours of one side and the lines between them and the focus, which meet on one bus.
fn side(
    scene: &Scene<'_>,
    edges: &[&EdgeView],
    right: bool,
    canvas: &mut Canvas<'_>,
    area: Rect,
    entry: u16,
) {
    if edges.is_empty() {
        let text = if right { "calls nobody" } else { "nobody calls it" };
        canvas.put(if right { area.x + 9 } else { area.x + 2 }, entry, text, Role::Dim);
        return;
    }
    let each = if usize::from(area.height) > edges.len() * 3 { 3 } else { 2 };
    let room = usize::from(area.height.saturating_sub(1) / each).max(1);
    let shown = edges.len().min(room);
    let height = shown as u16 * each;
    let top = (area.y + 1)
        .max(entry.saturating_sub(height / 2))
        .min(area.bottom().saturating_sub(height).max(area.y));
    let worst = edges.iter().take(shown).map(|edge| scene.edge_status(edge)).max().unwrap_or(Status::Ok);
    let bus_heavy = worst >= Status::Warn;
    let bus_role = if worst.is_fault() { Role::from(worst) } else { Role::Border };
    let bus = if right { area.x + 3 } else { area.right().saturating_sub(5) };
    let rows: Vec<u16> = (0..shown).map(|index| top + index as u16 * each).collect();
    let first = rows.first().copied().unwrap_or(entry).min(entry);
    let last = rows.last().copied().unwrap_or(entry).max(entry);
    let bus_strokes = strokes(bus_heavy, right);
    for y in first..=last {
        canvas.cell(bus, y, bus_strokes.down, bus_role);
    }
    for (edge, y) in edges.iter().zip(&rows) {
        let corner = if first == last {
            bus_strokes.along
        } else if *y == first {
            bus_strokes.ends[0]
        } else if *y == last {
            bus_strokes.ends[1]
        } else {
            bus_strokes.ends[2]
        };
        canvas.cell(bus, *y, corner, bus_role);
        neighbour(scene, edge, right, canvas, area, (bus, *y));
    }
    let both = rows.contains(&entry);
    let tap = match (both, first == last, entry == first, entry == last) {
        (_, true, ..) => bus_strokes.taps[3],
        (true, ..) if bus_heavy => '╬',
        (true, ..) => '┼',
        (false, _, true, _) => bus_strokes.taps[1],
        (false, _, _, true) => bus_strokes.taps[2],
        (false, ..) => bus_strokes.taps[0],
    };
    let tap = match (both, tap, entry == first, entry == last) {
        (true, '╬', true, false) => '╦',
        (true, '╬', false, true) => '╩',
        (true, '┼', true, false) => '┬',
        (true, '┼', false, true) => '┴',
        (_, tap, ..) => tap,
    };
    canvas.cell(bus, entry, tap, bus_role);
    let (from, to) = if right { (area.x, bus) } else { (bus + 1, area.right().saturating_sub(1)) };
    for x in from..to {
        canvas.cell(x, entry, bus_strokes.along, bus_role);
    }
    if !right {
        canvas.cell(area.right().saturating_sub(1), entry, '▸', bus_role);
    }
    if edges.len() > shown {
        let text = format!("+{} more", edges.len() - shown);
        let x = if right { area.x + 9 } else { area.x + 2 };
        canvas.put(x, area.bottom() - 1, &text, Role::Dim);
    }
}

fn neighbour(
    scene: &Scene<'_>,
    edge: &EdgeView,
    right: bool,
    canvas: &mut Canvas<'_>,
    area: Rect,
    (bus, y): (u16, u16),
) {
    let status = scene.edge_status(edge);
    let traffic = &edge.traffic;
    let idle = status == Status::Idle;
    let along = if idle { '╌' } else { strokes(status >= Status::Warn, right).along };
    let line_role = if status.is_fault() { Role::from(status) } else { Role::Border };
    let name = if right { format::service(&edge.destination) } else { format::subject(&edge.source) };
    let far = if right { Subject::Service(edge.destination.clone()) } else { edge.source.clone() };
    let glyph = status_of(scene, &far);
    let start = if right { bus + 5 } else { area.x + 2 };
    let end = if right { area.right() } else { bus };
    let mut pen = canvas.pen(start, y, end);
    pen.write(&glyph.glyph().to_string(), Role::from(glyph)).skip(1);
    pen.write(&format::fit(&name, 18), Role::Text).skip(1);
    let rate =
        if idle { "idle".to_owned() } else { format!("{}/s", format::rate(traffic.requests_per_second)) };
    let after = pen.x();
    if right {
        pen.at(start + 14).write(&rate, Role::Text);
        for x in bus + 1..start.saturating_sub(2) {
            canvas.cell(x, y, along, line_role);
        }
        canvas.cell(start.saturating_sub(2), y, '▸', line_role);
    } else {
        for x in after..bus {
            canvas.cell(x, y, along, line_role);
        }
        let middle = after + (bus.saturating_sub(after)).saturating_sub(rate.chars().count() as u16) / 2;
        canvas.put(middle, y, &rate, Role::Text);
    }
    if !idle {
        let text =
            format!("{}  p99 {}", format::success(traffic), format::percentile(traffic.latency_ms.p99));
        let role = if status.is_fault() { Role::from(status) } else { Role::Dim };
        let end = if right { area.right() } else { bus };
        canvas.pen(start + 2, y + 1, end).write(&text, role);
    }
}

/// Draws the panel about the selection: its numbers, and its edges, worst first.
pub fn about(scene: &Scene<'_>, graph: &Graph<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(subject) = centre(scene, graph) else { return };
    let [callers, called] = sides(scene, graph, subject);
    let service = subject.service().and_then(|name| scene.service(name));
    let split = if area.width >= 110 { area.width * 3 / 5 } else { area.width };
    if split < area.width {
        let right = Rect::new(area.x + split, area.y, area.width - split, area.height);
        let inner = canvas.frame(right, "instances", "as they see it");
        match service {
            Some(service) if !service.instances.is_empty() => {
                let rows: Vec<&InstanceView> = service.instances.iter().collect();
                draw_instances(scene, service, &rows, canvas, inner);
            }
            _ => {
                canvas.pen(inner.x + 1, inner.y, inner.right()).write("none announced", Role::Dim);
            }
        }
    }
    let area = Rect { width: split, ..area };
    let note = format!("{} in  {} out  ⏎ open", callers.len(), called.len());
    let inner = canvas.frame(area, &format::subject(subject), &note);
    let end = inner.right();
    let mut pen = canvas.pen(inner.x + 1, inner.y, end);
    if let Some(service) = service {
        write_traffic(&mut pen, &service.traffic, status(scene, subject));
        pen.write_whole(&format!("{} inst", service.instances.len()), Role::Dim);
    }
    let ways = callers.iter().map(|edge| ("in ", *edge)).chain(called.iter().map(|edge| ("out", *edge)));
    let mut ways: Vec<(&str, &EdgeView)> = ways.collect();
    ways.sort_by(|(_, a), (_, b)| {
        let weight = |edge: &EdgeView| impact(scene.edge_status(edge), &edge.traffic);
        weight(b).total_cmp(&weight(a))
    });
    for (line, (way, edge)) in ways.iter().take(usize::from(inner.height.saturating_sub(1))).enumerate() {
        let y = inner.y + 1 + line as u16;
        let status = scene.edge_status(edge);
        let far =
            if *way == "in " { format::subject(&edge.source) } else { format::service(&edge.destination) };
        let mut pen = canvas.pen(inner.x + 1, y, end);
        pen.write(way, Role::Dim).skip(1);
        pen.write(&status.glyph().to_string(), Role::from(status)).skip(1);
        pen.write(&format!("{:<20}", format::fit(&far, 20)), Role::Text);
        pen.write(&format!("{:>7}/s", format::rate(edge.traffic.requests_per_second)), Role::Text);
        let role = if status.is_fault() { Role::from(status) } else { Role::Text };
        pen.write(&format!("{:>9}", format::success(&edge.traffic)), role);
        pen.write(&format!("  p99 {:>7}", format::percentile(edge.traffic.latency_ms.p99)), Role::Text);
        pen.write(if edge.mtls { "  mTLS √  " } else { "  no mTLS " }, Role::Dim);
        let room = end.saturating_sub(pen.x()).saturating_sub(1).min(40);
        if room >= 8 {
            for (text, role) in spark::rate(scene, &Series::Edge(EdgeId::from(*edge)), room) {
                pen.write(&text, role);
            }
        }
    }
}
