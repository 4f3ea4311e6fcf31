//! The views, in tab order: a new one is a new file and one entry in [`VIEWS`].

pub mod traffic;
pub mod events;
pub mod edges;
pub mod services;
pub mod nodes;
pub mod identities;
pub mod denials;
pub mod graph;
pub mod ego;
pub mod topology;
pub mod overview;
pub mod help;

use crate::top::canvas::{Scene, View};
use crate::top::target::{Place, Target};

/// The views. The digits go to them in this order; the last is the help page.
pub static VIEWS: &[&dyn View] = &[
    &overview::Overview,
    &topology::Topology,
    &services::Services,
    &edges::Edges,
    &nodes::Nodes,
    &identities::Identities,
    &denials::Denials,
    &events::Events,
    &help::Help,
];

/// Returns the view of a place.
pub fn at(place: &Place) -> &'static dyn View {
    VIEWS.get(place.view).copied().unwrap_or(&overview::Overview)
}

/// Returns the index of the view of that title or alias, in any case.
pub fn named(name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    VIEWS
        .iter()
        .position(|view| view.title().to_lowercase() == name || view.aliases().contains(&name.as_str()))
}

/// Returns the page about `target`, following lines that stand for something else; `None` when there is none.
pub fn page(scene: &Scene<'_>, target: &Target) -> Option<Place> {
    let mut target = target.clone();
    if let Target::Lint(key) = &target {
        target = scene.state.attention().find(|lint| lint.key == *key)?.target.clone();
    }
    if let Target::Event(at_ms, number) = target {
        target = events::subject(scene, at_ms, number)?;
    }
    if let Target::Instance(_, node, _) | Target::Identity(_, node) = target {
        target = Target::Node(node);
    }
    let view = VIEWS.iter().position(|view| view.details(&target))?;
    Some(Place { view, focus: Some(target) })
}

/// Returns all that the cursor can stand on in the current place, from top to bottom.
pub fn lines(scene: &Scene<'_>) -> Vec<Target> {
    at(&scene.state.place).panels(scene).into_iter().flatten().collect()
}

/// Returns the line of the cursor and what is there; `None` when there is nothing to stand on.
pub fn selected(scene: &Scene<'_>) -> Option<(usize, Target)> {
    let lines = lines(scene);
    let cursor = scene.state.cursor();
    let index = match (&cursor.target, cursor.index) {
        (None, 0) => at(&scene.state.place).start(scene),
        (_, index) => index,
    };
    let known = cursor.target.and_then(|target| lines.iter().position(|line| *line == target));
    let line = known.unwrap_or(index).min(lines.len().checked_sub(1)?);
    lines.into_iter().nth(line).map(|target| (line, target))
}

/// One tab as it is drawn: its first column, its text, whether it is the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tab {
    /// First column.
    pub x: u16,
    /// What is written.
    pub text: String,
    /// Whether the console is there.
    pub current: bool,
}

/// Returns the tabs for a terminal of `width` columns: whole titles, or short ones, or numbers only.
pub fn tabs(width: u16, place: &Place) -> Vec<Tab> {
    let shown = || VIEWS.iter().take(VIEWS.len() - 1).enumerate();
    let texts = |long: usize, gap: usize| -> Vec<Tab> {
        let mut x = 1;
        shown()
            .map(|(index, view)| {
                let current = index == place.view;
                let title: String =
                    view.title().chars().take(if current { long.max(8) } else { long }).collect();
                let text = if current {
                    format!("[{}{title}]", index + 1)
                } else {
                    format!(" {}{title} ", index + 1)
                };
                let tab = Tab { x, text, current };
                x += (tab.text.chars().count() + gap) as u16;
                tab
            })
            .collect()
    };
    let fits = |tabs: &Vec<Tab>| {
        tabs.last().is_some_and(|tab| usize::from(tab.x) + tab.text.chars().count() <= usize::from(width))
    };
    [(20, 1), (20, 0), (4, 0), (0, 0)]
        .into_iter()
        .map(|(long, gap)| texts(long, gap))
        .find(fits)
        .unwrap_or_default()
}
