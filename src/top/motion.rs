//! Moving through lines, panels and places.

use crate::top::canvas::Scene;
use crate::top::state::{Cursor, PLACES_MAX, State};
use crate::top::target::{Place, Target};
use crate::top::view;

/// How long a word to the reader stays, ms.
const NOTICE_MS: u64 = 4_000;
/// Places whose cursor is remembered.
const CURSORS_MAX: usize = 256;

/// Fixes the order of lines as it is now, until the next time.
pub fn hold_order(state: &mut State) {
    state.ranks.clear();
    if let Some(scene) = Scene::of(state) {
        let order = view::lines(&scene);
        state.ranks = order;
    }
    state.ranked_ms = state.now_ms;
}

/// Lets lines be ordered anew.
pub fn release_order(state: &mut State) {
    state.ranks.clear();
    state.ranked_ms = 0;
}

/// Tells the reader something, for a few seconds.
pub fn say(state: &mut State, text: String) {
    state.notice = Some((text, state.now_ms + NOTICE_MS));
}

/// Puts the cursor of the current place on a line.
pub fn put_cursor(state: &mut State, index: usize, target: Option<Target>) {
    if state.cursors.len() >= CURSORS_MAX {
        state.cursors.clear();
    }
    state.cursors.insert(state.place.clone(), Cursor { target, index });
}

/// Moves the cursor down by so many lines, up by negative ones; it stays within.
pub fn move_by(state: &mut State, lines: isize) {
    let Some(scene) = Scene::of(state) else { return };
    let all = view::lines(&scene);
    let from = view::selected(&scene).map_or(0, |(line, _)| line);
    let to = from.saturating_add_signed(lines).min(all.len().saturating_sub(1));
    let target = all.into_iter().nth(to);
    put_cursor(state, to, target);
}

/// Moves the cursor to the first line of the next or previous panel.
pub fn move_panel(state: &mut State, forward: bool) {
    let Some(scene) = Scene::of(state) else { return };
    let panels = view::at(&state.place).panels(&scene);
    let line = view::selected(&scene).map_or(0, |(line, _)| line);
    let mut starts = Vec::new();
    let mut next = 0;
    for panel in panels.iter().filter(|panel| !panel.is_empty()) {
        starts.push(next);
        next += panel.len();
    }
    let current = starts.iter().rposition(|start| *start <= line).unwrap_or(0);
    let count = starts.len().max(1);
    let wanted = if forward { (current + 1) % count } else { (current + count - 1) % count };
    let Some(start) = starts.get(wanted).copied() else { return };
    let target = panels.into_iter().flatten().nth(start);
    put_cursor(state, start, target);
}

/// Moves the cursor to what lies left (`-1`) or right (`1`), or to the panel there.
pub fn move_beside(state: &mut State, side: i8) {
    let Some(scene) = Scene::of(state) else { return };
    let view = view::at(&state.place);
    let from = view::selected(&scene).map(|(_, target)| target);
    let to = from.and_then(|from| view.beside(&scene, &from, side));
    match to {
        Some(target) => {
            let index = view::lines(&scene).iter().position(|line| *line == target).unwrap_or(0);
            put_cursor(state, index, Some(target));
        }
        None if view.columns().is_empty() => {}
        None => move_panel(state, side > 0),
    }
}

/// Goes to a place, and remembers the one before.
pub fn go(state: &mut State, place: Place) {
    if place == state.place {
        return;
    }
    let from = std::mem::replace(&mut state.place, place);
    state.back.push(from);
    if state.back.len() > PLACES_MAX {
        state.back.remove(0);
    }
    state.forward.clear();
    state.zoom = false;
    release_order(state);
}

/// Goes back, or forward again, in the places that were.
pub fn go_in_history(state: &mut State, backward: bool) {
    let found = if backward { state.back.pop() } else { state.forward.pop() };
    let Some(place) = found else { return };
    let from = std::mem::replace(&mut state.place, place);
    let other = if backward { &mut state.forward } else { &mut state.back };
    other.push(from);
    state.zoom = false;
    release_order(state);
}
