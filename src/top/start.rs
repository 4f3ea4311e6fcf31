//! What the console is started with, and how it can fail.

use std::io;

use crate::top::filter::{self, Filter};
use crate::top::state::{Chip, State};
use crate::top::target::Place;
use crate::top::theme::Theme;
use crate::top::view;

/// The size of a frame that is not on a terminal.
pub const OFFSCREEN: (u16, u16) = (120, 40);

/// What the console is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data comes from, in words.
    pub origin: String,
    /// Where a control plane was looked for, for the first screen.
    pub looked_in: Vec<String>,
    /// How it looks.
    pub theme: Theme,
    /// Whether that may follow the terminal's background, as nobody chose it.
    pub follows_background: bool,
    /// Offset of the reader's time of day from UTC, seconds.
    pub utc_offset_s: i32,
    /// The view to begin with: a title or alias; the overview when unknown.
    pub view: Option<String>,
    /// The filter to begin with.
    pub filter: Option<String>,
    /// Whether the mouse is reported.
    pub mouse: bool,
}

/// Why the console could not do its work. The terminal is given back in any case.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The terminal cannot be used.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] io::Error),
    /// There is no view of that name.
    #[error("there is no view '{0}': try {all}", all = titles())]
    View(String),
    /// The filter is not one.
    #[error(transparent)]
    Filter(#[from] filter::Error),
    /// No data came.
    #[error("no view of the mesh from {origin}: {reason}")]
    NoData {
        /// Where it should have come from.
        origin: String,
        /// Why it did not.
        reason: String,
    },
}

fn titles() -> String {
    view::VIEWS.iter().map(|view| view.title().to_lowercase()).collect::<Vec<_>>().join(", ")
}

/// Returns the console as it is at the start.
///
/// # Errors
/// When the options name what does not exist.
pub fn begin(options: &Options, size: (u16, u16)) -> Result<State, Error> {
    let mut state = State::new(size, options.theme, options.origin.clone(), options.utc_offset_s);
    state.looked_in.clone_from(&options.looked_in);
    state.mouse = options.mouse;
    state.follows_background = options.follows_background;
    if let Some(name) = &options.view {
        let view = view::named(name).ok_or_else(|| Error::View(name.clone()))?;
        state.place = Place { view, focus: None };
    }
    if let Some(text) = &options.filter {
        let chip = Chip { text: text.clone(), filter: Filter::parse(text)?, error: None };
        state.filters.insert(state.place.view, chip);
    }
    Ok(state)
}
