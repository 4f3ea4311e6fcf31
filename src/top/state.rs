//! All that is on the screen, and nothing else. Changed only by `update`; read by everything that draws.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::view::{EventView, MeshView};
use crate::top::filter::Filter;
use crate::top::health::Health;
use crate::top::history::{History, Point, Series};
use crate::top::lint::{Lint, settled};
use crate::top::target::{Place, Target};
use crate::top::theme::Theme;

/// Data older than this is stale, ms: three ticks were missed.
pub const FRESH_MS: u64 = 3_000;
/// Places remembered in each direction.
pub const PLACES_MAX: usize = 64;

/// How the stream of views is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Being made; data may be there from before.
    Dialing {
        /// Attempts since the last data.
        attempt: u32,
    },
    /// Data comes.
    Live,
    /// It ended, and will be tried again.
    Lost {
        /// Why.
        reason: String,
        /// Attempts since the last data.
        attempt: u32,
        /// When it will be tried again, by [`State::now_ms`].
        retry_at_ms: u64,
    },
}

/// What a line of input at the bottom is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// `/`: a filter, in force while it is typed.
    Filter,
    /// `:`: a command.
    Command,
}

/// The line of input at the bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What it is for.
    pub ask: Ask,
    /// What was typed.
    pub text: String,
    /// The filter to go back to.
    pub before: String,
}

/// Where the cursor of a place is: on a thing, else at a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// What it was last put on.
    pub target: Option<Target>,
    /// The line that was.
    pub index: usize,
}

/// How a view's lines are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sort {
    /// The column; `None` for the view's own order, worst first.
    pub column: Option<usize>,
    /// Whether upside down.
    pub reverse: bool,
}

/// A filter of one view: as typed, and as understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chip {
    /// As typed.
    pub text: String,
    /// What of it could be understood when it last could.
    pub filter: Filter,
    /// What could not.
    pub error: Option<String>,
}

/// The mesh at the moment the screen is frozen at, and what was thought of it.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// The view.
    pub mesh: Arc<MeshView>,
    /// What needed attention.
    pub lints: Vec<Lint>,
    /// What was thought of services and edges.
    pub health: Health,
}

/// All that is on the screen.
#[derive(Debug, Clone)]
pub struct State {
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Milliseconds since the console started.
    pub now_ms: u64,
    /// Where the data comes from, in words.
    pub origin: String,
    /// What else was tried or could be, for the first screen.
    pub looked_in: Vec<String>,
    /// Offset of the reader's time of day from UTC, seconds.
    pub utc_offset_s: i32,
    /// How the stream is.
    pub link: Link,
    /// The newest view.
    pub live: Option<Arc<MeshView>>,
    /// When it came, by [`State::now_ms`].
    pub arrived_ms: u64,
    /// What everything is frozen at.
    pub pause: Option<Frozen>,
    /// The last ten minutes.
    pub history: History,
    /// What is thought of services and edges.
    pub health: Health,
    /// What needs attention in the newest view.
    pub lints: Vec<Lint>,
    /// Where the console is.
    pub place: Place,
    /// Where it was, the newest last.
    pub back: Vec<Place>,
    /// Where it went back from, the newest last.
    pub forward: Vec<Place>,
    /// Cursors of all places visited.
    pub cursors: BTreeMap<Place, Cursor>,
    /// Orders, by view.
    pub sorts: BTreeMap<usize, Sort>,
    /// Filters, by view.
    pub filters: BTreeMap<usize, Chip>,
    /// The order of lines that is held for a few seconds, so that they do not jump.
    pub ranks: Vec<Target>,
    /// When it was made.
    pub ranked_ms: u64,
    /// The line of input, while there is one.
    pub prompt: Option<Prompt>,
    /// Only what is at fault.
    pub faults_only: bool,
    /// One panel alone.
    pub zoom: bool,
    /// The topology shows one service rather than all.
    pub ego: bool,
    /// The mouse is reported.
    pub mouse: bool,
    /// A word to the reader, and until when.
    pub notice: Option<(String, u64)>,
    /// How it looks.
    pub theme: Theme,
    /// It follows the terminal's background, as nobody has chosen another look.
    pub follows_background: bool,
}

impl State {
    /// Returns the console before anything has happened.
    pub fn new(size: (u16, u16), theme: Theme, origin: String, utc_offset_s: i32) -> Self {
        Self {
            size,
            now_ms: 0,
            origin,
            looked_in: Vec::new(),
            utc_offset_s,
            link: Link::Dialing { attempt: 1 },
            live: None,
            arrived_ms: 0,
            pause: None,
            history: History::default(),
            health: Health::default(),
            lints: Vec::new(),
            place: Place::default(),
            back: Vec::new(),
            forward: Vec::new(),
            cursors: BTreeMap::new(),
            sorts: BTreeMap::new(),
            filters: BTreeMap::new(),
            ranks: Vec::new(),
            ranked_ms: 0,
            prompt: None,
            faults_only: false,
            zoom: false,
            ego: false,
            mouse: false,
            notice: None,
            theme,
            follows_background: false,
        }
    }

    /// Returns the view on the screen: the frozen one, else the newest.
    pub fn shown(&self) -> Option<&Arc<MeshView>> {
        self.pause.as_ref().map(|frozen| &frozen.mesh).or(self.live.as_ref())
    }

    /// Returns what is thought of services and edges in what is shown.
    pub fn health(&self) -> &Health {
        self.pause.as_ref().map_or(&self.health, |frozen| &frozen.health)
    }

    /// Returns how old the newest data is, ms.
    pub fn age_ms(&self) -> u64 {
        self.now_ms.saturating_sub(self.arrived_ms)
    }

    /// Returns whether the newest data is too old to be called live.
    pub fn is_stale(&self) -> bool {
        self.live.is_some() && self.age_ms() > FRESH_MS
    }

    /// Returns the time that the screen shows, Unix milliseconds by the observer's clock.
    pub fn data_ms(&self) -> u64 {
        match (&self.pause, &self.live) {
            (Some(frozen), _) => frozen.mesh.at_ms,
            (None, Some(view)) if self.is_stale() => view.at_ms + self.age_ms(),
            (None, Some(view)) => view.at_ms,
            (None, None) => 0,
        }
    }

    /// Returns the lines that need attention in what is shown.
    pub fn attention(&self) -> impl Iterator<Item = &Lint> {
        let at_ms = self.shown().map_or(0, |view| view.at_ms);
        let lints = self.pause.as_ref().map_or(&self.lints, |frozen| &frozen.lints);
        settled(lints, at_ms)
    }

    /// Returns the events up to the time that is shown, the newest first.
    pub fn events(&self) -> impl Iterator<Item = &EventView> {
        let until = self.pause.as_ref().map_or(u64::MAX, |frozen| frozen.mesh.at_ms);
        let all = self.live.as_ref().map(|view| view.events.as_slice()).unwrap_or_default();
        all.iter().rev().filter(move |event| event.at_ms <= until)
    }

    /// Returns the cursor of the current place.
    pub fn cursor(&self) -> Cursor {
        self.cursors.get(&self.place).cloned().unwrap_or_default()
    }

    /// Returns the order of the current view.
    pub fn sort(&self) -> Sort {
        self.sorts.get(&self.place.view).copied().unwrap_or_default()
    }

    /// Returns the filter of the current view, if there is one.
    pub fn chip(&self) -> Option<&Chip> {
        self.filters.get(&self.place.view).filter(|chip| !chip.text.is_empty())
    }

    /// Returns what `series` did lately, for charts of `columns` that end at the time shown: the points, and the
    /// seconds in each.
    pub fn points(&self, series: &Series, columns: u16) -> (Vec<Point>, u64) {
        let end = self.data_ms() / 1000;
        let step = self.history.step(end, columns);
        (self.history.points(series, end, step, columns), step)
    }
}
