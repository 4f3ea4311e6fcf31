//! Topology: all services in layers where that can be read, else one service with who calls it and whom it calls.
//!
//! The rule: lines for all if at most twenty nets cross, the tracks fit between the columns and the rows into the
//! screen. Otherwise, or when asked to, one service: the selected one, else the worst.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use crate::model::identity::Subject;
use crate::model::view::EdgeView;
use crate::top::canvas::{Canvas, Scene, View};
use crate::top::format;
use crate::top::health::Status;
use crate::top::layout::{Layout, layered};
use crate::top::target::Target;
use crate::top::theme::Role;
use crate::top::view::graph::{Graph, status, target};
use crate::top::view::{ego, services};
use crate::top::widget::lines::{Lines, Weight};

/// More crossings than this cannot be followed with the eye.
const CROSSINGS_MAX: usize = 20;
/// More nodes than this are not worth trying.
const NODES_MAX: usize = 120;
/// Longest name drawn.
const NAME_MAX: usize = 18;

/// A layout that was found readable, and the columns it takes.
struct Plan {
    layout: Layout,
    /// First column of each rank, relative to the drawing.
    starts: Vec<u16>,
    /// Cells of a node's label.
    label: u16,
}

fn plan(scene: &Scene<'_>, graph: &Graph<'_>, width: u16, height: u16) -> Option<Plan> {
    if scene.state.ego || graph.nodes.len() > NODES_MAX || graph.links.is_empty() || height < 5 {
        return None;
    }
    let layout = layered(graph.nodes.len(), &graph.links, usize::from(height))?;
    let longest = graph.nodes.iter().map(|node| format::subject(node).chars().count()).max().unwrap_or(0);
    let label = longest.min(NAME_MAX) as u16 + 2;
    let channels: u16 = layout.tracks.iter().map(|tracks| *tracks as u16 + 4).sum();
    let needed = label * layout.ranks as u16 + channels + 2;
    if needed > width || layout.crossings > CROSSINGS_MAX {
        return None;
    }
    let spare = (width - needed) / (layout.ranks.saturating_sub(1).max(1) as u16);
    let mut starts = vec![1];
    for tracks in &layout.tracks {
        let last = starts.last().copied().unwrap_or(1);
        starts.push(last + label + *tracks as u16 + 4 + spare.min(12));
    }
    Some(Plan { layout, starts, label })
}

/// Rows of the panel about the selection, below the drawing.
fn panel_height(area: Rect) -> u16 {
    if area.height >= 30 {
        11
    } else if area.height >= 16 {
        5
    } else {
        0
    }
}

/// The view.
#[derive(Debug)]
pub struct Topology;

impl Topology {
    fn plan(scene: &Scene<'_>, graph: &Graph<'_>) -> Option<Plan> {
        let (width, height) = scene.state.size;
        let body = height.saturating_sub(3);
        let below = panel_height(Rect::new(0, 0, width, body));
        plan(scene, graph, width, body.saturating_sub(1 + below))
    }
}

impl View for Topology {
    fn title(&self) -> &'static str {
        "Topology"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["topo", "graph", "t"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        "hjkl move  ⏎ open  o one or all  f faults"
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        let graph = Graph::of(scene);
        match Self::plan(scene, &graph) {
            Some(plan) => {
                let mut placed: Vec<(usize, usize, &Subject)> = Vec::new();
                for (node, place) in graph.nodes.iter().zip(&plan.layout.places) {
                    placed.extend(place.map(|(rank, row)| (rank, row, node)));
                }
                placed.sort();
                vec![placed.into_iter().map(|(_, _, node)| target(node)).collect()]
            }
            None => vec![ego::order(scene, &graph)],
        }
    }

    fn start(&self, scene: &Scene<'_>) -> usize {
        let worst = ego::order(scene, &Graph::of(scene)).into_iter().next();
        let lines = self.panels(scene).into_iter().flatten();
        lines.into_iter().position(|line| Some(line) == worst).unwrap_or(0)
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        let graph = Graph::of(scene);
        if graph.nodes.is_empty() {
            services::empty(scene, canvas, area);
            return;
        }
        let below = if scene.state.zoom { 0 } else { panel_height(area) };
        let top = Rect::new(area.x, area.y, area.width, area.height.saturating_sub(below));
        match Self::plan(scene, &graph) {
            Some(plan) => draw_layered(scene, &graph, &plan, canvas, top),
            None => ego::draw(scene, &graph, canvas, top),
        }
        if below > 0 {
            let panel = Rect::new(area.x, area.bottom() - below, area.width, below);
            ego::about(scene, &graph, canvas, panel);
        }
    }

    fn beside(&self, scene: &Scene<'_>, from: &Target, side: i8) -> Option<Target> {
        let graph = Graph::of(scene);
        let here = graph.nodes.iter().position(|node| target(node) == *from)?;
        let mut near: Vec<(usize, &EdgeView)> = graph
            .links
            .iter()
            .zip(&graph.edges)
            .filter_map(|((source, called), edge)| match side {
                -1 if *called == here && *source != here => Some((*source, *edge)),
                1 if *source == here && *called != here => Some((*called, *edge)),
                _ => None,
            })
            .collect();
        near.sort_by(|(_, a), (_, b)| {
            let key = |edge: &EdgeView| (scene.edge_status(edge), edge.traffic.requests_per_second);
            let ((x, p), (y, q)) = (key(b), key(a));
            x.cmp(&y).then(p.total_cmp(&q))
        });
        near.first().and_then(|(node, _)| graph.nodes.get(*node)).map(target)
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        crate::top::view::edges::LISTING.table(scene, &Graph::of(scene).edges)
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        serde_json::json!(Graph::of(scene).edges)
    }
}

fn draw_layered(scene: &Scene<'_>, graph: &Graph<'_>, plan: &Plan, canvas: &mut Canvas<'_>, area: Rect) {
    let layout = &plan.layout;
    let shown = layout.places.iter().flatten().count();
    let mut pen = canvas.pen(area.x + 1, area.y, area.right());
    pen.write(&format!("layers  {shown} of {}", format::count(graph.nodes.len(), "node")), Role::Dim).skip(2);
    pen.write_whole(&format::count(graph.links.len(), "edge"), Role::Dim).skip(2);
    pen.write_whole(&format::count(layout.crossings, "crossing"), Role::Dim).skip(2);
    if !layout.back.is_empty() {
        pen.write_whole(&format!("↺ {} in a cycle, not drawn", layout.back.len()), Role::Dim).skip(2);
    }
    pen.write_whole("━ from or to the selection, or failing", Role::Dim);
    let free = area.height.saturating_sub(1).saturating_sub(layout.height as u16);
    let origin = Rect::new(area.x, area.y + 1 + free / 2, area.width, area.height.saturating_sub(1));
    let selected = scene.selected;
    let mut lines = Lines::default();
    let mut order: Vec<usize> = (0..graph.edges.len()).collect();
    let rank = |index: usize| -> (Weight, Role) {
        let (Some(edge), Some((source, called))) = (graph.edges.get(index), graph.links.get(index)) else {
            return (Weight::Light, Role::Border);
        };
        let status = scene.edge_status(edge);
        let ends = [source, called].iter().any(|n| graph.nodes.get(**n).map(target).as_ref() == selected);
        match (status, ends) {
            (Status::Bad | Status::Warn | Status::Deny, _) => (Weight::Heavy, Role::from(status)),
            (_, true) => (Weight::Heavy, Role::Accent),
            _ => (Weight::Light, Role::Border),
        }
    };
    order.sort_by_key(|index| (rank(*index).0, *index));
    let mut arrows: BTreeMap<(u16, u16), Role> = BTreeMap::new();
    for index in order {
        let (weight, role) = rank(index);
        draw_path(layout.paths.get(index), plan, origin, (weight, role), &mut lines, &mut arrows);
    }
    lines.draw(canvas);
    for ((x, y), role) in arrows {
        canvas.cell(x, y, '▸', role);
    }
    for (number, (node, place)) in graph.nodes.iter().zip(&layout.places).enumerate() {
        let Some((rank, row)) = place else { continue };
        let x = origin.x + plan.starts.get(*rank).copied().unwrap_or(1);
        let y = origin.y + *row as u16;
        let status = status(scene, node);
        let name = format::fit(&format::subject(node), usize::from(plan.label) - 2);
        let role = if status.is_fault() { Role::from(status) } else { Role::Text };
        let mut pen = canvas.pen(x, y, x + plan.label + 1);
        pen.write(&status.glyph().to_string(), Role::from(status)).skip(1).write(&name, role);
        if layout.back.iter().any(|edge| graph.links.get(*edge).is_some_and(|(from, _)| *from == number)) {
            pen.write("↺", Role::Dim);
        }
        if Some(&target(node)) == selected {
            canvas.cell(x.saturating_sub(1), y, '▸', Role::Accent);
            canvas.select(Rect::new(x, y, plan.label, 1));
        }
    }
}

fn draw_path(
    path: Option<&Vec<crate::top::layout::Hop>>,
    plan: &Plan,
    origin: Rect,
    (weight, role): (Weight, Role),
    lines: &mut Lines,
    arrows: &mut BTreeMap<(u16, u16), Role>,
) {
    let hops = path.map(Vec::as_slice).unwrap_or_default();
    for (number, hop) in hops.iter().enumerate() {
        let start = plan.starts.get(hop.channel).copied().unwrap_or(1) + plan.label;
        let next = plan.starts.get(hop.channel + 1).copied().unwrap_or(start);
        let left = origin.x + start + u16::from(number == 0);
        let end = if number + 1 == hops.len() { origin.x + next - 2 } else { origin.x + next + plan.label };
        let (from, to) = (origin.y + hop.from as u16, origin.y + hop.to as u16);
        let left = if number == 0 { left } else { origin.x + start };
        match hop.track {
            None => lines.horizontal(from, left, end, weight, role),
            Some(track) => {
                let x = origin.x + start + 2 + track as u16;
                lines.horizontal(from, left, x, weight, role);
                lines.vertical(x, from, to, weight, role);
                lines.horizontal(to, x, end, weight, role);
            }
        }
        if number + 1 == hops.len() {
            arrows.insert((end, to), role);
        }
    }
}
