//! Services: rate, success, latency; and of one service, its routes, instances, callers and what it calls.

use ratatui::layout::Rect;

use crate::model::endpoint::Standing;
use crate::model::view::{EdgeView, InstanceView, RouteView, ServiceView};
use crate::top::canvas::{Canvas, Scene, View};
use crate::top::filter::Facts;
use crate::top::format;
use crate::top::history::Series;
use crate::top::target::Target;
use crate::top::theme::Role;
use crate::top::view::edges::{self, draw_instances, impact, write_traffic};
use crate::top::view::events;
use crate::top::view::traffic::{self, Flow as _};
use crate::top::widget::table::{Cell, Column, Listing, Rank, Width, traffic_facts, unwanted};
use crate::top::widget::{heat, spark};

/// The table of services.
pub static LISTING: Listing<ServiceView> = Listing {
    columns: COLUMNS,
    id: |service| Target::Service(service.name.clone()),
    status: |scene, service| scene.service_status(service),
    facts,
    impact: |scene, service| impact(scene.service_status(service), &service.traffic),
    quiet: false,
};

fn facts(service: &ServiceView) -> Facts {
    let mut facts = traffic_facts(&service.traffic);
    facts.services = vec![format::service(&service.name)];
    facts.nodes = service.instances.iter().map(|instance| instance.node.to_string()).collect();
    facts.zones = service.instances.iter().filter_map(|i| i.zone.as_ref().map(ToString::to_string)).collect();
    facts.kind = service.protocol.to_string();
    facts
}

static COLUMNS: &[Column<ServiceView>] = &[
    Column {
        title: "SERVICE",
        width: Width::Name(13, 30),
        right: false,
        drop: 0,
        cell: |_, service, _| Cell::new(format::service(&service.name), Role::Text),
        rank: Some(|_, service| Rank::Text(format::service(&service.name))),
    },
    traffic::ok(),
    traffic::rps(),
    traffic::p50(),
    traffic::p95(),
    traffic::p99(),
    Column {
        title: "INST",
        width: Width::Fixed(6),
        right: true,
        drop: 7,
        cell: |_, service, _| instances(service),
        rank: Some(|_, service| Rank::Number(service.instances.len() as f64)),
    },
    Column {
        title: "ERR/s",
        width: Width::Fixed(7),
        right: true,
        drop: 8,
        cell: |_, service, _| unwanted(service.traffic.failures_per_second, Role::Text),
        rank: Some(|_, service| Rank::Number(service.traffic.failures_per_second)),
    },
    traffic::retries(9),
    Column {
        title: "TREND",
        width: Width::Rest(14),
        right: false,
        drop: 4,
        cell: |scene, service, width| {
            Cell(spark::rate(scene, &Series::Service(service.name.clone()), width.min(60)))
        },
        rank: None,
    },
];

fn instances(service: &ServiceView) -> Cell {
    let all = service.instances.len();
    let ready =
        service.instances.iter().filter(|i| i.standing == Standing::Ready && i.ejected_by.is_empty()).count();
    match (ready, all) {
        (_, 0) => Cell::new("0", Role::Warn),
        (ready, all) if ready == all => Cell::new(all.to_string(), Role::Text),
        (ready, all) => Cell::new(format!("{ready}/{all}"), Role::Warn),
    }
}

static ROUTES: &[Column<RouteView>] = &[
    Column {
        title: "ROUTE",
        width: Width::Name(18, 44),
        right: false,
        drop: 0,
        cell: |_, route, _| match route.route.as_str() {
            "" => Cell::new("(no route)", Role::Dim),
            name => Cell::new(name, Role::Text),
        },
        rank: None,
    },
    traffic::ok(),
    traffic::rps(),
    traffic::p50(),
    traffic::p95(),
    traffic::p99(),
    traffic::retries(7),
];

/// The view.
#[derive(Debug)]
pub struct Services;

impl View for Services {
    fn title(&self) -> &'static str {
        "Services"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["svc", "service", "s"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        "⏎ open  T topology  s sort  x why"
    }

    fn columns(&self) -> Vec<&'static str> {
        LISTING.titles()
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        match scene.focus() {
            Some(Target::Service(name)) => scene.service(name).map_or_else(Vec::new, |service| {
                let Sides { callers, called } = Sides::of(scene, service);
                let instance =
                    |i: &InstanceView| Target::Instance(service.name.clone(), i.node.clone(), i.port);
                vec![
                    service
                        .routes
                        .iter()
                        .map(|r| Target::Route(service.name.clone(), r.route.clone()))
                        .collect(),
                    service.instances.iter().map(instance).collect(),
                    edges::LISTING.targets(&callers),
                    edges::LISTING.targets(&called),
                ]
            }),
            _ => vec![LISTING.targets(&LISTING.rows(scene, &scene.mesh.services))],
        }
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        let Some(Target::Service(name)) = scene.focus() else {
            let rows = LISTING.rows(scene, &scene.mesh.services);
            if rows.is_empty() {
                empty(scene, canvas, area);
            } else {
                LISTING.draw(scene, &rows, canvas, area);
            }
            return;
        };
        if let Some(service) = scene.service(name) {
            page(scene, service, canvas, area);
        } else {
            let text = format!("The service {name} is not known here.");
            canvas.pen(area.x + 2, area.y + 1, area.right()).write(&text, Role::Strong);
        }
    }

    fn details(&self, target: &Target) -> bool {
        matches!(target, Target::Service(_))
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        LISTING.table(scene, &LISTING.rows(scene, &scene.mesh.services))
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        serde_json::json!(LISTING.rows(scene, &scene.mesh.services))
    }
}

/// Says why there is no service to show, and what to do.
pub fn empty(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let nodes = scene.mesh.nodes.len();
    let lines: Vec<(String, Role)> = if scene.mesh.services.is_empty() {
        vec![
            (format!("{} joined, 0 services.", format::count(nodes, "node")), Role::Strong),
            ("A service appears when a proxy announces it:".to_owned(), Role::Text),
            (
                "  mesh proxy --join TOKEN --service web=8080     on the host that runs web".to_owned(),
                Role::Accent,
            ),
            (
                "  mesh token create --install                    prints the line with a token".to_owned(),
                Role::Accent,
            ),
        ]
    } else {
        let all = scene.mesh.services.len();
        let text = format!("None of {} passes the filter.", format::count(all, "service"));
        vec![(text, Role::Strong), ("esc clears it; f shows all again".to_owned(), Role::Dim)]
    };
    for (line, (text, role)) in lines.iter().enumerate() {
        let y = area.y + 1 + line as u16;
        if y < area.bottom() {
            canvas.pen(area.x + 2, y, area.right()).write(text, *role);
        }
    }
}

struct Sides<'m> {
    callers: Vec<&'m EdgeView>,
    called: Vec<&'m EdgeView>,
}

impl<'m> Sides<'m> {
    fn of(scene: &Scene<'m>, service: &ServiceView) -> Self {
        let mut callers: Vec<&EdgeView> =
            scene.mesh.edges.iter().filter(|edge| edge.destination == service.name).collect();
        let mut called: Vec<&EdgeView> =
            scene.mesh.edges.iter().filter(|edge| edge.source.service() == Some(&service.name)).collect();
        for list in [&mut callers, &mut called] {
            list.sort_by(|a, b| {
                (edges::LISTING.impact)(scene, b).total_cmp(&(edges::LISTING.impact)(scene, a))
            });
        }
        Self { callers, called }
    }
}

fn page(scene: &Scene<'_>, service: &ServiceView, canvas: &mut Canvas<'_>, area: Rect) {
    let mut pen = canvas.pen(area.x + 1, area.y, area.right());
    pen.write("service ", Role::Dim).write(&format::service(&service.name), Role::Strong).skip(2);
    write_traffic(&mut pen, &service.traffic, scene.service_status(service));
    let instances = format!("{} inst", service.instances.len());
    pen.write_whole(&instances, Role::Text).skip(2).write_whole(&service.protocol.to_string(), Role::Dim);

    let mut y = area.y + 2;
    let bottom = area.bottom();
    let routes = service.routes.len() as u16;
    if routes > 0 && bottom.saturating_sub(y) >= 2 {
        let height = (routes + 1).min(bottom - y).min(area.height / 3 + 1);
        draw_routes(scene, service, canvas, Rect::new(area.x, y, area.width, height));
        y += height + 1;
    }
    let wide = area.width >= 100;
    let Sides { callers, called } = Sides::of(scene, service);
    let sides = (callers.len().max(called.len()) as u16 + 3).clamp(4, 9);
    let room = bottom.saturating_sub(y);
    let below = if wide && room >= sides + 6 { sides + if room >= sides + 16 { 5 } else { 0 } } else { 0 };
    let height = (service.instances.len() as u16 + 1).clamp(2, 8).min(room.saturating_sub(below));
    let heat_height = room.saturating_sub(below + height + 1);
    let series = Series::Service(service.name.clone());
    if heat_height >= 5 {
        let title = format!("latency, {}", format::service(&service.name));
        let heat_height = heat_height.min(14);
        let split = if wide && heat_height >= 6 { area.width * 2 / 3 } else { area.width };
        heat::draw(scene, &series, &title, canvas, Rect::new(area.x, y, split, heat_height));
        if split < area.width {
            edges::trends(
                scene,
                &series,
                canvas,
                Rect::new(area.x + split, y, area.width - split, heat_height),
            );
        }
        y += heat_height;
    }
    let rows: Vec<&InstanceView> = service.instances.iter().collect();
    if rows.is_empty() {
        canvas.pen(area.x + 3, y, area.right()).write("no instance is announced", Role::Warn);
    } else {
        draw_instances(scene, service, &rows, canvas, Rect::new(area.x, y, area.width, height));
    }
    y += height;
    let room = bottom.saturating_sub(y);
    if room >= 4 {
        let half = area.width / 2;
        let height = if room >= sides + 3 { sides } else { room };
        let boxes = [
            ("called by", &callers, Rect::new(area.x, y, half, height)),
            ("calls", &called, Rect::new(area.x + half, y, area.width - half, height)),
        ];
        for (title, list, area) in boxes {
            let inner = canvas.frame(area, title, "");
            if list.is_empty() {
                canvas.pen(inner.x + 1, inner.y, inner.right()).write("nobody in this window", Role::Dim);
            } else {
                edges::LISTING.draw(scene, list, canvas, inner);
            }
        }
        y += height;
    }
    if bottom.saturating_sub(y) >= 3 {
        let mut names = vec![format::service(&service.name)];
        names.extend(service.instances.iter().map(|instance| instance.node.to_string()));
        events::related(scene, &names, canvas, Rect::new(area.x, y, area.width, bottom - y));
    }
}

fn draw_routes(scene: &Scene<'_>, service: &ServiceView, canvas: &mut Canvas<'_>, area: Rect) {
    let listing: Listing<RouteView> = Listing {
        columns: ROUTES,
        id: |route| Target::Line(route.route.len()),
        status: |scene, route| route.status(scene),
        facts: |_| Facts::default(),
        impact: |_, _| 0.0,
        quiet: false,
    };
    let rows: Vec<&RouteView> = service.routes.iter().collect();
    let selected = match scene.selected {
        Some(Target::Route(_, name)) => rows.iter().position(|route| route.route == *name),
        _ => None,
    };
    listing.draw(&Scene { selected: None, ..*scene }, &rows, canvas, area);
    if let Some(line) = selected.filter(|line| (*line as u16) + 1 < area.height) {
        let y = area.y + 1 + line as u16;
        canvas.cell(area.x, y, '▸', Role::Accent);
        canvas.select(Rect::new(area.x, y, area.width, 1));
    }
}
