//! The frame: header, tabs, body, footer; and what stands there when there is no data, old data, or no room.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::top::canvas::{Canvas, Scene};
use crate::top::format;
use crate::top::health::Status;
use crate::top::history::{Point, Series, heat_quantile};
use crate::top::state::{Ask, Link, State};
use crate::top::theme::Role;
use crate::top::view;

/// Below this many columns or rows there is one line.
const LINE_ONLY: (u16, u16) = (20, 5);
/// From this many rows the tabs and the footer have a row each.
const ROWED: u16 = 7;
/// From this many columns the header says more.
const WIDE: u16 = 100;

/// Draws the whole screen: the same state gives the same cells.
pub fn draw(state: &State, buffer: &mut Buffer) {
    let area = buffer.area;
    let mut canvas = Canvas::new(buffer, state.theme);
    let selected = Scene::of(state).and_then(|scene| view::selected(&scene));
    let target = selected.as_ref().map(|(_, target)| target);
    let scene = Scene::of(state).map(|scene| Scene { selected: target, ..scene });
    if area.width < LINE_ONLY.0 || area.height < LINE_ONLY.1 {
        header(state, scene.as_ref(), &mut canvas, area);
        return;
    }
    header(state, scene.as_ref(), &mut canvas, Rect { height: 1, ..area });
    let rowed = area.height >= ROWED;
    let (top, bottom) = if rowed { (2, 1) } else { (1, 0) };
    if rowed {
        tabs(state, &mut canvas, Rect::new(area.x, area.y + 1, area.width, 1));
        let line = selected.as_ref().map(|(line, _)| *line);
        footer(state, scene.as_ref(), line, &mut canvas, Rect::new(area.x, area.bottom() - 1, area.width, 1));
    }
    let body = Rect::new(area.x, area.y + top, area.width, area.height - top - bottom);
    match scene {
        Some(scene) => with_data(&scene, &mut canvas, body),
        None if state.place.view + 1 == view::VIEWS.len() => view::help::draw(0, &mut canvas, body),
        None => first_run(state, &mut canvas, body),
    }
}

fn with_data(scene: &Scene<'_>, canvas: &mut Canvas<'_>, body: Rect) {
    let state = scene.state;
    let broken = state.is_stale() && state.pause.is_none();
    let banner = match (broken, body.height) {
        (false, _) => 0,
        (true, 18..) => 5,
        (true, 10..) => 3,
        (true, _) => 1,
    };
    let rest = Rect::new(body.x, body.y + banner, body.width, body.height - banner);
    view::at(&state.place).draw(scene, &mut canvas.within(rest), rest);
    if broken {
        canvas.fade(rest);
        stale(scene, canvas, Rect { height: banner, ..body });
    }
}

// --- header -----------------------------------------------------------------------------------------------------------

/// Returns how the stream is: glyph and word, and in which role.
fn standing(state: &State) -> (String, Role) {
    let clock = |ms| format::clock(ms, state.utc_offset_s);
    match (&state.pause, &state.live, &state.link) {
        (Some(frozen), ..) => (format!("‖ PAUSED {}", clock(frozen.mesh.at_ms)), Role::Accent),
        (None, Some(_), _) if state.is_stale() => {
            (format!("× STALE {}", format::age(state.age_ms())), Role::Bad)
        }
        (None, Some(view), _) => (format!("● LIVE {}", clock(view.at_ms)), Role::Ok),
        (None, None, Link::Lost { .. }) => ("× not connected".to_owned(), Role::Bad),
        (None, None, Link::Dialing { .. } | Link::Live) => ("○ connecting".to_owned(), Role::Accent),
    }
}

fn header(state: &State, scene: Option<&Scene<'_>>, canvas: &mut Canvas<'_>, area: Rect) {
    let (word, role) = standing(state);
    let Some(scene) = scene else {
        let mut pen = canvas.pen(area.x + 1, area.y, area.right());
        pen.write("mesh top", Role::Strong).skip(2).write(&word, role);
        return;
    };
    let wide = area.width >= WIDE;
    let problems = problems(scene, canvas, area);
    let mut pen = canvas.pen(area.x + 1, area.y, area.right().saturating_sub(problems + 1));
    if wide {
        pen.write("mesh ", Role::Dim);
    }
    if area.width >= 40 {
        let name = &scene.mesh.mesh;
        let room = if name.chars().count() > 16 { 9 } else { 16 };
        pen.write(&format::fit(name, room), Role::Strong).skip(1);
    }
    pen.write(&word, role).skip(2);
    for (text, role) in totals(scene, wide) {
        pen.write_whole(&text, role).skip(if wide { 2 } else { 1 });
    }
}

/// Draws the counts of problems at the right of the header; returns the columns they take.
fn problems(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) -> u16 {
    let mut x = area.right().saturating_sub(1);
    for status in [Status::Deny, Status::Warn, Status::Bad] {
        let count = scene.state.attention().filter(|lint| lint.status == status).count();
        if count > 0 {
            let text = format!("{} {count}", status.glyph());
            canvas.put_right(x, area.y, &text, Role::from(status));
            x = x.saturating_sub(text.chars().count() as u16 + 1);
        }
    }
    area.right().saturating_sub(x)
}

fn totals(scene: &Scene<'_>, wide: bool) -> Vec<(String, Role)> {
    let mesh = scene.mesh;
    let rps: f64 = mesh.services.iter().map(|service| service.traffic.requests_per_second).sum();
    let failures: f64 = mesh.services.iter().map(|service| service.traffic.failures_per_second).sum();
    let mut parts = Vec::new();
    if wide {
        parts.push((format!("{} r{}", mesh.observer, mesh.revision), Role::Dim));
    }
    parts.push((format!("{} svc", mesh.services.len()), Role::Text));
    parts.push((format!("{} vm", mesh.nodes.len()), Role::Text));
    parts.push((format!("{} rps", format::rate(rps)), Role::Text));
    if rps > 0.0 {
        let ok = if wide { "% ok" } else { "%" };
        parts.push((format!("{}{ok}", format::percent(1.0 - failures / rps)), Role::Text));
    }
    let end = scene.state.data_ms() / 1000;
    let window = u64::from(mesh.window_seconds).clamp(1, 60);
    let point = scene.state.history.point(&Series::Mesh, (end + 1).saturating_sub(window), window, end);
    if let Point::Value(sample) = point
        && let Some(p99) = heat_quantile(&sample.heat, 0.99)
    {
        parts.push((format!("p99 ≤{}", format::latency(f64::from(p99))), Role::Text));
    }
    parts
}

// --- tabs and footer --------------------------------------------------------------------------------------------------

fn tabs(state: &State, canvas: &mut Canvas<'_>, area: Rect) {
    let mut end = area.x + 1;
    for tab in view::tabs(area.width, &state.place) {
        let role = if tab.current { Role::Accent } else { Role::Dim };
        end = canvas.put(area.x + tab.x, area.y, &tab.text, role);
    }
    let mut chips: Vec<(String, Role)> = Vec::new();
    if let Some(chip) = state.chip() {
        let role = if chip.error.is_some() { Role::Bad } else { Role::Accent };
        chips.push((format!("/{}", chip.text), role));
    }
    if state.faults_only {
        chips.push(("faults only".to_owned(), Role::Warn));
    }
    if state.zoom {
        chips.push(("zoom".to_owned(), Role::Dim));
    }
    if chips.is_empty()
        && let Some(mesh) = state.shown()
        && area.width >= WIDE
    {
        chips.push((format!("window {}s", mesh.window_seconds), Role::Dim));
    }
    let mut x = area.right().saturating_sub(1);
    for (text, role) in chips.iter().rev() {
        let room = usize::from(x.saturating_sub(end + 1));
        let text = format::fit(text, room);
        canvas.put_right(x, area.y, &text, *role);
        x = x.saturating_sub(text.chars().count() as u16 + 2);
    }
}

fn footer(
    state: &State,
    scene: Option<&Scene<'_>>,
    line: Option<usize>,
    canvas: &mut Canvas<'_>,
    area: Rect,
) {
    if let Some(prompt) = &state.prompt {
        let sign = if prompt.ask == Ask::Filter { "/" } else { ":" };
        let chip = state.chip().filter(|_| prompt.ask == Ask::Filter);
        let wrong = chip.and_then(|chip| chip.error.as_ref());
        let mut pen = canvas.pen(area.x, area.y, area.right());
        let role = if wrong.is_some() { Role::Bad } else { Role::Text };
        pen.write(sign, Role::Accent).write(&prompt.text, role);
        let x = pen.x();
        canvas.cell(x, area.y, '▏', Role::Accent);
        canvas.select(Rect::new(x, area.y, 1, 1));
        let hint = match (wrong, prompt.ask) {
            (Some(part), _) => format!("not understood: {part}"),
            (None, Ask::Filter) => "svc: src: dst: node: is: rps> err%> p99>   tab completes".to_owned(),
            (None, Ask::Command) => "a view, or theme NAME, save, q   tab completes".to_owned(),
        };
        if usize::from(x) + 4 + hint.chars().count() < usize::from(area.right()) {
            canvas.put_right(area.right().saturating_sub(1), area.y, &hint, Role::Dim);
        }
        return;
    }
    let count = scene.map_or(0, |scene| view::lines(scene).len());
    let position = line.map(|line| format!("{}/{count}", line + 1)).unwrap_or_default();
    let end = area.right().saturating_sub(position.chars().count() as u16 + 2);
    canvas.put_right(area.right().saturating_sub(1), area.y, &position, Role::Dim);
    if let Some((notice, _)) = &state.notice {
        canvas.pen(area.x + 1, area.y, end).write(notice, Role::Accent);
        return;
    }
    let own = scene.map_or("r retry now", |scene| view::at(&state.place).hints(scene));
    let always = "? help  / filter  esc back  space pause  z zoom  q quit";
    let ascii = canvas.theme().is_ascii();
    let mut pen = canvas.pen(area.x + 1, area.y, end);
    for hint in own.split("  ").chain(always.split("  ")).filter(|hint| !hint.is_empty()) {
        let (key, what) = hint.split_once(' ').unwrap_or((hint, ""));
        let key = if ascii { key.replace('⏎', "enter") } else { key.to_owned() };
        let room = end.saturating_sub(pen.x());
        if key.chars().count() + what.chars().count() + 1 > usize::from(room) {
            break;
        }
        pen.write(&key, Role::Accent).skip(1).write(what, Role::Dim).skip(2);
    }
}

// --- without fresh data -----------------------------------------------------------------------------------------------

/// Returns what is being done about the missing stream.
fn retry(state: &State) -> String {
    match &state.link {
        Link::Lost { retry_at_ms, attempt, .. } => {
            let wait = retry_at_ms.saturating_sub(state.now_ms).div_ceil(1000);
            format!("retry in {wait}s (try {attempt})")
        }
        Link::Dialing { attempt } => format!("connecting… (try {attempt})"),
        Link::Live => "connected, and silent".to_owned(),
    }
}

fn reason(state: &State) -> String {
    match &state.link {
        Link::Lost { reason, .. } => reason.clone(),
        Link::Dialing { .. } => "no answer yet".to_owned(),
        Link::Live => "no data comes, although connected".to_owned(),
    }
}

fn stale(scene: &Scene<'_>, canvas: &mut Canvas<'_>, area: Rect) {
    let state = scene.state;
    let at = format::clock(scene.mesh.at_ms, state.utc_offset_s);
    let title = format!("no data from {}: showing {at}, {} old", state.origin, format::age(state.age_ms()));
    if area.height < 3 {
        let text = format!("× {}  {}", reason(state), retry(state));
        canvas.pen(area.x + 1, area.y, area.right()).write(&text, Role::Bad);
        return;
    }
    let inner = canvas.frame(area, &title, "");
    let end = inner.right();
    let mut pen = canvas.pen(inner.x + 1, inner.y, end);
    pen.write("× ", Role::Bad).write(&reason(state), Role::Text).skip(2).write(&retry(state), Role::Accent);
    if inner.height >= 3 {
        let text = format!(
            "proxies keep serving with revision {}: traffic is not affected by this",
            scene.mesh.revision
        );
        canvas.pen(inner.x + 1, inner.y + 1, end).write(&text, Role::Text);
        let mut pen = canvas.pen(inner.x + 1, inner.y + 2, end);
        pen.write("r", Role::Accent).write(" retry now   ", Role::Dim);
        pen.write("mesh check", Role::Accent).write(" on the control host   ", Role::Dim);
        pen.write_whole("mesh top --proxy ADDR", Role::Accent).write_whole(" asks one proxy", Role::Dim);
    }
}

fn first_run(state: &State, canvas: &mut Canvas<'_>, area: Rect) {
    let lost = matches!(state.link, Link::Lost { .. });
    let title = if lost {
        format!("No mesh at {}: {}", state.origin, reason(state))
    } else {
        format!("Connecting to {}…", state.origin)
    };
    let mut lines: Vec<Vec<(String, Role)>> = Vec::new();
    let strong = |text: &str| (text.to_owned(), Role::Strong);
    lines.push(vec![(title, if lost { Role::Bad } else { Role::Strong })]);
    lines.push(vec![(retry(state), Role::Accent)]);
    if lost {
        lines.push(Vec::new());
        for (number, what, command, note) in [
            ("1", "Start one here      ", "mesh control", "then press r"),
            ("2", "Look at another     ", "mesh top --control https://HOST:7443", ""),
            ("3", "Ask one proxy       ", "mesh top --proxy HOST:15000", ""),
            ("4", "Just look around    ", "mesh demo", "a small shop on this machine"),
        ] {
            lines.push(vec![
                (format!("  {number}  "), Role::Dim),
                strong(what),
                (command.to_owned(), Role::Accent),
                (format!("   {note}"), Role::Dim),
            ]);
        }
        if !state.looked_in.is_empty() {
            lines.push(Vec::new());
            lines.push(vec![("looked in:".to_owned(), Role::Dim)]);
            lines.extend(state.looked_in.iter().map(|place| vec![(format!("  {place}"), Role::Dim)]));
        }
    }
    let height = lines.len() as u16;
    let top = area.y + area.height.saturating_sub(height) / 3;
    for (line, parts) in lines.iter().enumerate() {
        let y = top + line as u16;
        if y >= area.bottom() {
            return;
        }
        let mut pen = canvas.pen(area.x + 2, y, area.right());
        for (text, role) in parts {
            pen.write(text, *role);
        }
    }
}
