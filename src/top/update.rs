//! State and event give the next state and a wish. Pure: no clock, no terminal, no network.

use std::sync::Arc;

use crate::model::view::MeshView;
use crate::top::canvas::Scene;
use crate::top::event::{Event, Key, Wish};
use crate::top::filter::{FIELDS, FILTER_CHARS_MAX, Filter, QUANTITIES};
use crate::top::format;
use crate::top::health::Health;
use crate::top::keys::{Action, action};
use crate::top::lint::lints;
use crate::top::motion::{
    go, go_in_history, hold_order, move_beside, move_by, move_panel, put_cursor, release_order, say,
};
use crate::top::state::{Ask, Chip, Frozen, Link, Prompt, State};
use crate::top::target::{Place, Target};
use crate::top::theme;
use crate::top::view;

/// How long the order of lines is held, ms.
const HOLD_MS: u64 = 5_000;
/// Lines a turn of the wheel moves.
const WHEEL_LINES: isize = 3;

/// What an event led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the screen may look different.
    pub draw: bool,
    /// What is asked of the shell.
    pub wish: Option<Wish>,
}

impl Outcome {
    const DRAW: Self = Self { draw: true, wish: None };
    const NOTHING: Self = Self { draw: false, wish: None };

    fn wish(wish: Wish) -> Self {
        Self { draw: true, wish: Some(wish) }
    }
}

/// Takes in one event that happened at `now_ms`, milliseconds since the console started.
pub fn update(state: &mut State, now_ms: u64, event: Event) -> Outcome {
    let was_stale = state.is_stale();
    state.now_ms = state.now_ms.max(now_ms);
    match event {
        Event::Key(Key::Ctrl('c')) => Outcome::wish(Wish::Quit),
        Event::Key(key) => match state.prompt.take() {
            Some(prompt) => type_key(state, prompt, key),
            None => action(key).map_or(Outcome::NOTHING, |action| act(state, action, key)),
        },
        Event::Wheel(lines) => {
            move_by(state, isize::from(lines) * WHEEL_LINES);
            Outcome::DRAW
        }
        Event::Click(x, y) => click(state, x, y),
        Event::Resize(columns, rows) => {
            state.size = (columns, rows);
            Outcome::DRAW
        }
        Event::Dialing { attempt } => {
            state.link = Link::Dialing { attempt };
            Outcome::DRAW
        }
        Event::Background { light } => {
            if state.follows_background {
                state.theme = state.theme.on(light);
            }
            Outcome::DRAW
        }
        Event::View(mesh) => take(state, mesh),
        Event::Lost { reason, retry_in_ms } => {
            let attempt = match state.link {
                Link::Live => 1,
                Link::Dialing { attempt } | Link::Lost { attempt, .. } => attempt,
            };
            state.link = Link::Lost { reason, attempt, retry_at_ms: state.now_ms + retry_in_ms };
            Outcome::DRAW
        }
        Event::Tick => tick(state, was_stale),
    }
}

fn tick(state: &mut State, was_stale: bool) -> Outcome {
    let expired = state.notice.as_ref().is_some_and(|(_, until)| *until <= state.now_ms);
    if expired {
        state.notice = None;
    }
    let moving = state.pause.is_none() && (state.link != Link::Live || state.is_stale() || was_stale);
    Outcome { draw: expired || moving, wish: None }
}

fn take(state: &mut State, mesh: Arc<MeshView>) -> Outcome {
    let returned = state.live.is_some() && state.link != Link::Live;
    let gap_ms = state.age_ms();
    state.history.record(&mesh);
    state.health.record(&mesh, &state.history);
    state.lints = lints(&mesh, &state.history, &state.health, &state.lints);
    state.live = Some(mesh);
    state.arrived_ms = state.now_ms;
    state.link = Link::Live;
    if returned {
        say(state, format!("live again after {}; the gap stays a gap", format::age(gap_ms)));
    }
    if state.pause.is_none() && state.now_ms >= state.ranked_ms + HOLD_MS {
        hold_order(state);
    }
    Outcome { draw: state.pause.is_none() || returned, wish: None }
}

/// Half of what the body shows, in lines.
fn half_page(state: &State) -> isize {
    isize::try_from(state.size.1 / 2).unwrap_or(1).max(1)
}

fn click(state: &mut State, x: u16, y: u16) -> Outcome {
    let tabs = view::tabs(state.size.0, &state.place);
    let width = |tab: &view::Tab| tab.text.chars().count() as u16;
    let hit = tabs.iter().position(|tab| y == 1 && (tab.x..tab.x + width(tab)).contains(&x));
    match hit {
        Some(view) => {
            go(state, Place { view, focus: None });
            Outcome::DRAW
        }
        None => Outcome::NOTHING,
    }
}

// --- keys -------------------------------------------------------------------------------------------------------------

fn act(state: &mut State, action: Action, key: Key) -> Outcome {
    match action {
        Action::Quit => return Outcome::wish(Wish::Quit),
        Action::Suspend => return Outcome::wish(Wish::Suspend),
        Action::Repaint => return Outcome::wish(Wish::Repaint),
        Action::Save => return Outcome::wish(Wish::Save),
        Action::Reverse if state.link != Link::Live => return Outcome::wish(Wish::Retry),
        Action::Mouse => return toggle_mouse(state),
        Action::Copy => return copy(state, command_of(state)),
        Action::Why => return why(state),
        Action::Down => move_by(state, 1),
        Action::Up => move_by(state, -1),
        Action::Left => move_beside(state, -1),
        Action::Right => move_beside(state, 1),
        Action::First => move_by(state, isize::MIN),
        Action::Last => move_by(state, isize::MAX),
        Action::HalfDown => move_by(state, half_page(state)),
        Action::HalfUp => move_by(state, -half_page(state)),
        Action::PageDown => move_by(state, half_page(state) * 2),
        Action::PageUp => move_by(state, -half_page(state) * 2),
        Action::NextPanel => move_panel(state, true),
        Action::PreviousPanel => move_panel(state, false),
        Action::Tab => go_to_tab(state, key),
        Action::LastView => last_view(state),
        Action::Back => go_in_history(state, true),
        Action::Forward => go_in_history(state, false),
        Action::Leave => leave(state),
        Action::Open => open(state),
        Action::Filter => ask(state, Ask::Filter),
        Action::Command => ask(state, Ask::Command),
        Action::Faults => {
            state.faults_only = !state.faults_only;
            release_order(state);
        }
        Action::Sort => next_sort(state),
        Action::Reverse => reverse(state),
        Action::SortName => sort_by(state, &[]),
        Action::SortErrors => sort_by(state, &["OK%", "DENY/min", "LAST ERROR"]),
        Action::SortRate => sort_by(state, &["RPS", "ALLOW/s"]),
        Action::SortLatency => sort_by(state, &["P99", "RTT"]),
        Action::Topology => topology(state),
        Action::Layout => state.ego = !state.ego,
        Action::Pause => toggle_pause(state),
        Action::Earlier => scrub(state, -1),
        Action::Later => scrub(state, 1),
        Action::MinuteEarlier => scrub(state, -60),
        Action::MinuteLater => scrub(state, 60),
        Action::Live => state.pause = None,
        Action::Zoom => state.zoom = !state.zoom,
        Action::Theme => {
            state.theme = state.theme.next();
            state.follows_background = false;
            say(state, format!("theme {}", state.theme.name()));
        }
        Action::Help => help(state),
    }
    Outcome::DRAW
}

fn toggle_mouse(state: &mut State) -> Outcome {
    state.mouse = !state.mouse;
    let word = if state.mouse { "mouse on: shift-drag selects text" } else { "mouse off" };
    say(state, word.to_owned());
    Outcome::wish(Wish::Mouse(state.mouse))
}

fn toggle_pause(state: &mut State) {
    if state.pause.take().is_none() {
        pause(state);
    }
    release_order(state);
}

fn last_view(state: &mut State) {
    if let Some(place) = state.back.last().cloned() {
        go(state, place);
    }
}

fn reverse(state: &mut State) {
    let sort = state.sorts.entry(state.place.view).or_default();
    sort.reverse = !sort.reverse;
    release_order(state);
}

fn go_to_tab(state: &mut State, key: Key) {
    let Key::Char(digit) = key else { return };
    let view = digit.to_digit(10).and_then(|digit| (digit as usize).checked_sub(1));
    if let Some(view) = view.filter(|view| *view < view::VIEWS.len()) {
        go(state, Place { view, focus: None });
    }
}

fn help(state: &mut State) {
    let help = view::VIEWS.len() - 1;
    if state.place.view == help {
        go_in_history(state, true);
    } else {
        go(state, Place { view: help, focus: None });
    }
}

fn leave(state: &mut State) {
    state.notice = None;
    if state.filters.remove(&state.place.view).is_some_and(|chip| !chip.text.is_empty()) {
        release_order(state);
    } else if state.zoom {
        state.zoom = false;
    } else if state.pause.is_some() {
        state.pause = None;
    } else if state.place.view + 1 == view::VIEWS.len() {
        go_in_history(state, true);
    } else if state.place.focus.is_some() {
        go(state, Place { view: state.place.view, focus: None });
    } else if state.faults_only {
        state.faults_only = false;
        release_order(state);
    }
}

fn open(state: &mut State) {
    let Some(scene) = Scene::of(state) else { return };
    let Some((line, target)) = view::selected(&scene) else { return };
    match view::page(&scene, &target) {
        Some(place) => {
            put_cursor(state, line, Some(target));
            go(state, place);
        }
        None => say(state, "there is no page about this line".to_owned()),
    }
}

/// Returns what the cursor or the page is about, lines that stand for something else followed.
fn subject(state: &State) -> Option<Target> {
    let scene = Scene::of(state)?;
    let selected = view::selected(&scene).map(|(_, target)| target);
    let about = match (selected, &state.place.focus) {
        (Some(Target::Line(_)) | None, focus) => focus.clone()?,
        (Some(Target::Instance(..) | Target::Route(..)), Some(focus)) => focus.clone(),
        (Some(target), _) => target,
    };
    if let Target::Lint(key) = &about {
        return state.attention().find(|lint| lint.key == *key).map(|lint| lint.target.clone());
    }
    if let Target::Event(..) = about {
        return view::page(&scene, &about).and_then(|place| place.focus);
    }
    Some(about)
}

fn why(state: &mut State) -> Outcome {
    let command = match subject(state) {
        Some(Target::Edge(edge)) => format!("mesh why {} {}", edge.source, edge.destination),
        Some(Target::Node(node) | Target::Identity(_, node)) => format!("mesh describe node {node}"),
        Some(Target::Service(name) | Target::Instance(name, ..) | Target::Route(name, _)) => {
            format!("mesh describe service {name}")
        }
        Some(Target::Caller(_) | Target::Lint(_) | Target::Event(..) | Target::Line(_)) | None => {
            "mesh check".to_owned()
        }
    };
    copy(state, command)
}

fn copy(state: &mut State, text: String) -> Outcome {
    say(state, format!("copied: {text}"));
    Outcome::wish(Wish::Copy(text))
}

/// Returns the command that prints what the current view shows.
fn command_of(state: &State) -> String {
    let view = view::at(&state.place).title().to_lowercase();
    let filter = state.chip().map(|chip| format!(" --filter '{}'", chip.text)).unwrap_or_default();
    format!("mesh top --once --view {view}{filter}")
}

fn topology(state: &mut State) {
    let subject = match subject(state) {
        Some(Target::Edge(edge)) => Some(Target::Service(edge.destination)),
        Some(Target::Instance(name, ..) | Target::Route(name, _)) => Some(Target::Service(name)),
        Some(target @ (Target::Service(_) | Target::Caller(_))) => Some(target),
        _ => None,
    };
    if let Some(view) = view::named("topology") {
        go(state, Place { view, focus: None });
        if let Some(target) = subject {
            put_cursor(state, 0, Some(target));
        }
    }
}

fn next_sort(state: &mut State) {
    let columns = view::at(&state.place).columns();
    let sort = state.sorts.entry(state.place.view).or_default();
    sort.column = match sort.column {
        None if columns.is_empty() => None,
        None => Some(0),
        Some(column) if column + 1 < columns.len() => Some(column + 1),
        Some(_) => None,
    };
    sort.reverse = false;
    let word = sort.column.and_then(|column| columns.get(column)).copied().unwrap_or("impact, worst first");
    let word = format!("sorted by {word}");
    release_order(state);
    say(state, word);
}

/// Orders by the first column of one of these titles; by the name when none is given.
fn sort_by(state: &mut State, titles: &[&str]) {
    let columns = view::at(&state.place).columns();
    let found = columns.iter().position(|column| titles.is_empty() || titles.contains(column));
    if let Some(column) = found {
        let sort = state.sorts.entry(state.place.view).or_default();
        sort.reverse = sort.column == Some(column) && !sort.reverse;
        sort.column = Some(column);
        release_order(state);
    }
}

/// Freezes everything as it is.
fn pause(state: &mut State) {
    if let Some(mesh) = &state.live {
        let (lints, health) = (state.lints.clone(), state.health.clone());
        state.pause = Some(Frozen { mesh: Arc::clone(mesh), lints, health });
    }
}

/// Freezes everything as it was, earlier or later than what is shown.
fn scrub(state: &mut State, seconds: i64) {
    let Some(at_ms) = state.shown().map(|view| view.at_ms) else { return };
    if let Some(mesh) = state.history.beside(at_ms, seconds).cloned() {
        let mut health = Health::default();
        health.record(&mesh, &state.history);
        let lints = lints(&mesh, &state.history, &health, &state.lints);
        state.pause = Some(Frozen { mesh, lints, health });
        release_order(state);
    }
}

// --- the line of input ------------------------------------------------------------------------------------------------

fn ask(state: &mut State, ask: Ask) {
    let before = state.filters.get(&state.place.view).map(|chip| chip.text.clone()).unwrap_or_default();
    let text = if ask == Ask::Filter { before.clone() } else { String::new() };
    state.prompt = Some(Prompt { ask, text, before });
}

fn type_key(state: &mut State, mut prompt: Prompt, key: Key) -> Outcome {
    match key {
        Key::Enter => return accept(state, &prompt),
        Key::Esc => {
            if prompt.ask == Ask::Filter {
                set_filter(state, prompt.before);
            }
            return Outcome::DRAW;
        }
        Key::Backspace if prompt.text.is_empty() => return Outcome::DRAW,
        Key::Backspace => {
            prompt.text.pop();
        }
        Key::Ctrl('u') => prompt.text.clear(),
        Key::Ctrl('w') => {
            let kept = prompt.text.trim_end().rfind(' ').map_or(0, |space| space + 1);
            prompt.text.truncate(kept);
        }
        Key::Tab => complete(state, &mut prompt),
        Key::Char(c) if prompt.text.chars().count() < FILTER_CHARS_MAX => prompt.text.push(c),
        Key::Down if prompt.ask == Ask::Filter => move_by(state, 1),
        Key::Up if prompt.ask == Ask::Filter => move_by(state, -1),
        Key::Char(_)
        | Key::Ctrl(_)
        | Key::BackTab
        | Key::Up
        | Key::Down
        | Key::Left
        | Key::Right
        | Key::Home
        | Key::End
        | Key::PageUp
        | Key::PageDown => {}
    }
    if prompt.ask == Ask::Filter {
        set_filter(state, prompt.text.clone());
    }
    state.prompt = Some(prompt);
    Outcome::DRAW
}

fn set_filter(state: &mut State, text: String) {
    let chip: &mut Chip = state.filters.entry(state.place.view).or_default();
    match Filter::parse(&text) {
        Ok(filter) => {
            chip.filter = filter;
            chip.error = None;
        }
        Err(error) => chip.error = Some(error.0),
    }
    chip.text = text;
    release_order(state);
}

fn accept(state: &mut State, prompt: &Prompt) -> Outcome {
    match prompt.ask {
        Ask::Filter => {
            set_filter(state, prompt.text.trim().to_owned());
            if let Some(error) = state.chip().and_then(|chip| chip.error.clone()) {
                say(state, crate::top::filter::Error(error).to_string());
            }
            Outcome::DRAW
        }
        Ask::Command => command(state, prompt.text.trim()),
    }
}

fn command(state: &mut State, text: &str) -> Outcome {
    let (word, rest) = text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim()));
    match word {
        "" => {}
        "q" | "quit" | "exit" => return Outcome::wish(Wish::Quit),
        "live" => state.pause = None,
        "pause" => pause(state),
        "retry" => return Outcome::wish(Wish::Retry),
        "save" => return Outcome::wish(Wish::Save),
        "filter" => set_filter(state, rest.to_owned()),
        "theme" => match theme::names().position(|name| name == rest) {
            Some(_) => {
                state.follows_background = false;
                while state.theme.name() != rest {
                    state.theme = state.theme.next();
                }
            }
            None => {
                say(state, format!("no theme '{rest}': {}", theme::names().collect::<Vec<_>>().join(", ")));
            }
        },
        _ => match view::named(word) {
            Some(view) => {
                let focus = (!rest.is_empty()).then(|| named_target(state, view, rest)).flatten();
                if focus.is_none() && !rest.is_empty() {
                    say(state, format!("nothing called '{rest}' there"));
                }
                go(state, Place { view, focus });
            }
            None => {
                say(state, format!("no view or command '{word}': try :services, :edges, :nodes, :theme, :q"));
            }
        },
    }
    Outcome::DRAW
}

/// Returns the line of `view` whose name is, or begins with, `name`, where it has a page.
fn named_target(state: &State, view: usize, name: &str) -> Option<Target> {
    let scene = Scene::of(state)?;
    let mut named: Vec<(String, Target)> = Vec::new();
    named.extend(
        scene.mesh.services.iter().map(|s| (format::service(&s.name), Target::Service(s.name.clone()))),
    );
    named.extend(scene.mesh.nodes.iter().map(|n| (n.name.to_string(), Target::Node(n.name.clone()))));
    named.extend(scene.mesh.edges.iter().map(|edge| (view::edges::name(edge), Target::Edge(edge.into()))));
    let shown = view::VIEWS.get(view)?;
    named.retain(|(_, target)| shown.details(target));
    let name = name.replace("->", "→");
    let exact = named.iter().find(|(text, _)| *text == name);
    exact.or_else(|| named.iter().find(|(text, _)| text.starts_with(&name))).map(|(_, target)| target.clone())
}

/// Completes the last word of the line of input with the first thing that begins with it.
fn complete(state: &State, prompt: &mut Prompt) {
    let start = prompt.text.rfind([' ', ':']).map_or(0, |at| at + 1);
    let (done, word) = prompt.text.split_at(start);
    if word.is_empty() {
        return;
    }
    let mut words: Vec<String> = match prompt.ask {
        Ask::Filter => FIELDS.iter().chain(&QUANTITIES).map(ToString::to_string).collect(),
        Ask::Command => {
            let titles = view::VIEWS.iter().map(|view| view.title().to_lowercase());
            titles.chain(theme::names().map(str::to_owned)).chain(["theme".to_owned()]).collect()
        }
    };
    if let Some(mesh) = state.shown() {
        words.extend(mesh.services.iter().map(|service| format::service(&service.name)));
        words.extend(mesh.nodes.iter().map(|node| node.name.to_string()));
    }
    if let Some(found) = words.into_iter().find(|candidate| candidate.starts_with(word)) {
        prompt.text = format!("{done}{found}");
    }
}
