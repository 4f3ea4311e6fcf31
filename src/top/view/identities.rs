//! Identities: every certificate in use, when it ends, when it will be renewed, and why it was not.

use ratatui::layout::Rect;

use crate::model::view::IdentityView;
use crate::top::canvas::{Canvas, Scene, View};
use crate::top::filter::Facts;
use crate::top::format;
use crate::top::health::Status;
use crate::top::target::Target;
use crate::top::theme::Role;
use crate::top::widget::spark;
use crate::top::widget::table::{Cell, Column, Listing, Rank, Width};

const HOUR_MS: u64 = 3_600_000;
/// Hours ahead in the chart of expiries.
const HOURS: usize = 24;

/// The table of certificates.
pub static LISTING: Listing<IdentityView> = Listing {
    columns: COLUMNS,
    id: |identity| Target::Identity(identity.status.subject.clone(), identity.node.clone()),
    status,
    facts,
    impact: |scene, identity| {
        let level = if status(scene, identity).is_fault() { 1e18 } else { 0.0 };
        level - identity.status.not_after_ms as f64
    },
    quiet: false,
};

fn left_ms(scene: &Scene<'_>, identity: &IdentityView) -> u64 {
    identity.status.not_after_ms.saturating_sub(scene.mesh.at_ms)
}

fn status(scene: &Scene<'_>, identity: &IdentityView) -> Status {
    let left = left_ms(scene, identity);
    match (&identity.status.last_error, left) {
        (_, 0) => Status::Bad,
        (Some(_), left) if left < HOUR_MS => Status::Bad,
        (Some(_), _) => Status::Warn,
        (None, _) if scene.mesh.at_ms > identity.status.renew_ms + 120_000 => Status::Warn,
        (None, _) => Status::Ok,
    }
}

fn facts(identity: &IdentityView) -> Facts {
    Facts {
        services: vec![format::subject(&identity.status.subject)],
        nodes: vec![identity.node.to_string()],
        text: format!("{} {}", identity.spiffe_id, identity.status.last_error.clone().unwrap_or_default()),
        ..Facts::default()
    }
}

static COLUMNS: &[Column<IdentityView>] = &[
    Column {
        title: "IDENTITY",
        width: Width::Name(20, 46),
        right: false,
        drop: 0,
        cell: |_, identity, _| Cell::new(format::subject(&identity.status.subject), Role::Text),
        rank: Some(|_, identity| Rank::Text(format::subject(&identity.status.subject))),
    },
    Column {
        title: "NODE",
        width: Width::Name(10, 22),
        right: false,
        drop: 1,
        cell: |_, identity, _| Cell::new(identity.node.as_str(), Role::Dim),
        rank: Some(|_, identity| Rank::Text(identity.node.to_string())),
    },
    Column {
        title: "LEFT",
        width: Width::Fixed(7),
        right: true,
        drop: 0,
        cell: |scene, identity, _| {
            let status = status(scene, identity);
            let role = if status.is_fault() { Role::from(status) } else { Role::Text };
            Cell::new(format::age(left_ms(scene, identity)), role)
        },
        rank: Some(|_, identity| Rank::Number(-(identity.status.not_after_ms as f64))),
    },
    Column {
        title: "AGE",
        width: Width::Fixed(8),
        right: true,
        drop: 4,
        cell: |scene, identity, _| {
            Cell::new(format::age(scene.mesh.at_ms.saturating_sub(identity.status.issued_ms())), Role::Dim)
        },
        rank: Some(|_, identity| Rank::Number(-(identity.status.issued_ms() as f64))),
    },
    Column {
        title: "RENEW IN",
        width: Width::Fixed(10),
        right: true,
        drop: 2,
        cell: |scene, identity, _| match identity.status.renew_ms.checked_sub(scene.mesh.at_ms) {
            Some(wait) => Cell::new(format::age(wait), Role::Text),
            None if status(scene, identity).is_fault() => Cell::new("overdue", Role::Warn),
            None => Cell::new("now", Role::Text),
        },
        rank: Some(|_, identity| Rank::Number(-(identity.status.renew_ms as f64))),
    },
    Column {
        title: "ROT",
        width: Width::Fixed(5),
        right: true,
        drop: 5,
        cell: |_, identity, _| Cell::new(identity.status.renewals.to_string(), Role::Dim),
        rank: Some(|_, identity| Rank::Number(f64::from(identity.status.renewals))),
    },
    Column {
        title: "SERIAL",
        width: Width::Fixed(11),
        right: true,
        drop: 6,
        cell: |_, identity, _| Cell::new(format::fit(&identity.status.serial, 9), Role::Dim),
        rank: Some(|_, identity| Rank::Text(identity.status.serial.clone())),
    },
    Column {
        title: "LAST ERROR",
        width: Width::Rest(12),
        right: false,
        drop: 3,
        cell: |_, identity, _| match &identity.status.last_error {
            None => Cell::new(format::NONE, Role::Dim),
            Some(error) => Cell::new(error.clone(), Role::Bad),
        },
        rank: None,
    },
];

/// The view.
#[derive(Debug)]
pub struct Identities;

impl View for Identities {
    fn title(&self) -> &'static str {
        "Identity"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["identities", "certs", "cert", "id", "i"]
    }

    fn hints(&self, _scene: &Scene<'_>) -> &'static str {
        "⏎ its node  s sort  f faults"
    }

    fn columns(&self) -> Vec<&'static str> {
        LISTING.titles()
    }

    fn panels(&self, scene: &Scene<'_>) -> Vec<Vec<Target>> {
        vec![LISTING.targets(&LISTING.rows(scene, &scene.mesh.identities))]
    }

    fn draw(&self, scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
        let all = &scene.mesh.identities;
        let rows = LISTING.rows(scene, all);
        let failing = all.iter().filter(|identity| status(scene, identity).is_fault()).count();
        let mut pen = canvas.pen(area.x + 1, area.y, area.right());
        pen.write(&format::count(all.len(), "certificate"), Role::Text).skip(2);
        pen.write(&format!("trust domain {}", scene.mesh.mesh), Role::Dim).skip(2);
        if failing > 0 {
            pen.write_whole(&format!("! {failing} not renewed"), Role::Warn);
        }
        if all.is_empty() {
            let why = "No proxy has told of a certificate yet: they do with their first report.";
            canvas.pen(area.x + 2, area.y + 2, area.right()).write(why, Role::Dim);
            return;
        }
        let mut y = area.y + 1;
        if area.height >= 16 && !scene.state.zoom {
            expiries(scene, canvas, Rect::new(area.x, y, area.width, 5));
            y += 5;
        }
        let selected = rows.iter().find(|row| scene.selected == Some(&(LISTING.id)(row)));
        let below = if area.height >= 20 && selected.is_some() && !scene.state.zoom { 6 } else { 0 };
        let table = Rect::new(area.x, y, area.width, area.bottom().saturating_sub(y + below));
        LISTING.draw(scene, &rows, canvas, table);
        if let Some(identity) = selected.filter(|_| below > 0) {
            why(scene, identity, canvas, Rect::new(area.x, area.bottom() - below, area.width, below));
        }
    }

    fn table(&self, scene: &Scene<'_>) -> Vec<Vec<String>> {
        LISTING.table(scene, &LISTING.rows(scene, &scene.mesh.identities))
    }

    fn records(&self, scene: &Scene<'_>) -> serde_json::Value {
        serde_json::json!(LISTING.rows(scene, &scene.mesh.identities))
    }
}

/// Draws how many certificates end in each of the next hours.
fn expiries(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let inner = canvas.frame(area, "ends in", "one column an hour, 24 h ahead");
    let mut hours = [0_u32; HOURS];
    let mut later = 0_u32;
    for identity in &scene.mesh.identities {
        let hour = (left_ms(scene, identity) / HOUR_MS) as usize;
        match hours.get_mut(hour) {
            Some(count) => *count += 1,
            None => later += 1,
        }
    }
    let most = hours.iter().max().copied().unwrap_or(1).max(1);
    let cell = if inner.width >= 24 * 3 + 12 { 3 } else { 2 };
    for (hour, count) in hours.iter().enumerate() {
        let x = inner.x + 2 + hour as u16 * cell;
        let role = if hour == 0 && *count > 0 { Role::Warn } else { Role::Accent };
        if *count > 0 {
            let text = if *count > 99 { "99".to_owned() } else { count.to_string() };
            canvas.put(x, inner.y, &format::fit(&text, usize::from(cell) - 1), Role::Text);
            let glyph = spark::step((*count * *count) as f32, (most * most) as f32);
            canvas.cell(x, inner.y + 1, glyph, role);
        } else {
            canvas.cell(x, inner.y, '·', Role::Dim);
        }
        if hour % 6 == 0 {
            let label = if hour == 0 { "now".to_owned() } else { format!("+{hour}h") };
            canvas.put(x, inner.y + 2, &label, Role::Dim);
        }
    }
    let text = format!("later {later}");
    canvas.put_right(inner.right().saturating_sub(1), inner.y, &text, Role::Dim);
}

fn why(scene: &Scene<'_>, identity: &IdentityView, canvas: &mut Canvas<'_>, area: Rect) {
    let held = &identity.status;
    let inner = canvas.frame(area, &identity.spiffe_id, identity.node.as_str());
    let end = inner.right();
    let at = |ms| format::clock(ms, scene.state.utc_offset_s);
    let text = format!(
        "issued at {} ({} ago), valid until {} (in {}), renewed {}",
        at(held.issued_ms()),
        format::age(scene.mesh.at_ms.saturating_sub(held.issued_ms())),
        at(held.not_after_ms),
        format::age(left_ms(scene, identity)),
        format::count(held.renewals as usize, "time"),
    );
    canvas.pen(inner.x + 1, inner.y, end).write(&text, Role::Text);
    canvas.pen(inner.x + 1, inner.y + 1, end).write(&format!("serial {}", held.serial), Role::Dim);
    match &held.last_error {
        None => {
            let text = format!("renews by itself at {}", at(held.renew_ms));
            canvas.pen(inner.x + 1, inner.y + 2, end).write(&text, Role::Dim);
        }
        Some(error) => {
            let text = format!("× renewal failed: {error}");
            canvas.pen(inner.x + 1, inner.y + 2, end).write(&text, Role::Bad);
            let left = format::age(left_ms(scene, identity));
            let text =
                format!("in {left} its calls are refused; next: mesh check, or mesh drain {}", identity.node);
            canvas.pen(inner.x + 1, inner.y + 3, end).write(&text, Role::Text);
        }
    }
}
