//! The live console: `mesh top`.
//!
//! The state ([`state`]) is changed by one pure function ([`update`]) and drawn by another ([`screen`]); both see neither
//! clock nor terminal nor network, so that every screen is a function of state and size. [`feed`] and [`terminal`] are
//! the edges; `run` below ties them together. A view is a file in [`view`] and an entry in [`view::VIEWS`].
//!
//! Nothing here exits because the control plane went away: the data ages, and says so.

pub mod format;
pub mod event;
pub mod keys;
pub mod target;
pub mod history;
pub mod health;
pub mod lint;
pub mod filter;
pub mod theme;
pub mod state;
pub mod canvas;
pub mod layout;
pub mod widget;
pub mod view;
pub mod update;
pub mod screen;
pub mod export;
pub mod feed;
pub mod terminal;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use crate::model::view::MeshView;
use crate::net::{clock, task};
use crate::top::canvas::Scene;
use crate::top::event::{Event, Wish};
use crate::top::filter::Filter;
use crate::top::state::{Chip, State};
use crate::top::target::Place;
use crate::top::terminal::{Screen, offscreen, read_input};
use crate::top::theme::Theme;

/// Events waiting to be taken in: a burst of keys; whoever sends more waits.
const EVENTS_MAX: usize = 256;
/// A terminal that is being resized settles within this.
const RESIZE_SETTLE: Duration = Duration::from_millis(30);
/// The size of a frame that is not on a terminal.
const OFFSCREEN: (u16, u16) = (120, 40);

/// What the console is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data comes from, in words.
    pub origin: String,
    /// Where a control plane was looked for, for the first screen.
    pub looked_in: Vec<String>,
    /// How it looks.
    pub theme: Theme,
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

fn begin(options: &Options, size: (u16, u16)) -> Result<State, Error> {
    let mut state = State::new(size, options.theme, options.origin.clone(), options.utc_offset_s);
    state.looked_in.clone_from(&options.looked_in);
    state.mouse = options.mouse;
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

/// Shows the mesh on the terminal until told to quit. `connect` opens a stream of views, again and again as they end.
///
/// # Errors
/// When the options name what does not exist, or the terminal cannot be used or is gone.
pub async fn run<C, F, S, E>(options: Options, connect: C) -> Result<(), Error>
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<S, E>> + Send + 'static,
    S: Stream<Item = Result<MeshView, E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    begin(&options, OFFSCREEN)?;
    let mut signals = Signals::new()?;
    let mut screen = Screen::enter()?;
    let mut state = begin(&options, screen.size()?)?;
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
    let retry = Arc::new(Notify::new());
    let feed = task::spawn("top-feed", feed::follow(connect, sender.clone(), Arc::clone(&retry)));
    read_input(sender)?;
    if state.mouse {
        screen.mouse(true)?;
    }
    let outcome = attend(&mut state, &mut screen, &mut events, &mut signals, &retry).await;
    feed.abort();
    outcome
}

/// The signals a console heeds.
struct Signals {
    quit: [Signal; 4],
    resumed: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let [terminate, hangup, interrupt, quit] =
            [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()];
        Ok(Self {
            quit: [signal(terminate)?, signal(hangup)?, signal(interrupt)?, signal(quit)?],
            resumed: signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
        })
    }

    async fn quit(quit: &mut [Signal; 4]) {
        let [a, b, c, d] = quit;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
            _ = d.recv() => {}
        }
    }
}

async fn attend(
    state: &mut State,
    screen: &mut Screen,
    events: &mut mpsc::Receiver<Event>,
    signals: &mut Signals,
    retry: &Notify,
) -> Result<(), Error> {
    let started = clock::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    screen.draw(state)?;
    loop {
        let first = tokio::select! {
            event = events.recv() => match event {
                Some(event) => event,
                None => return Ok(()),
            },
            _ = ticks.tick() => Event::Tick,
            _ = signals.resumed.recv() => {
                screen.resume()?;
                screen.draw(state)?;
                continue;
            }
            () = Signals::quit(&mut signals.quit) => return Ok(()),
        };
        if matches!(first, Event::Resize(..)) {
            tokio::time::sleep(RESIZE_SETTLE).await;
        }
        let mut draw = false;
        let mut next = Some(first);
        while let Some(event) = next {
            let outcome = update::update(state, elapsed_ms(started), event);
            draw |= outcome.draw;
            if let Some(wish) = outcome.wish
                && grant(wish, state, screen, retry)?
            {
                return Ok(());
            }
            next = events.try_recv().ok();
        }
        if draw {
            screen.draw(state)?;
        }
    }
}

fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(clock::now().saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX)
}

/// Does what the state asks for; returns whether that is to leave.
fn grant(wish: Wish, state: &mut State, screen: &mut Screen, retry: &Notify) -> io::Result<bool> {
    match wish {
        Wish::Quit => return Ok(true),
        Wish::Suspend => screen.suspend()?,
        Wish::Repaint => screen.repaint()?,
        Wish::Retry => retry.notify_one(),
        Wish::Copy(text) => screen.copy(&text)?,
        Wish::Mouse(on) => screen.mouse(on)?,
        Wish::Save => {
            let (columns, rows) = state.size;
            let image = export::svg(&offscreen(state, columns, rows), state.theme);
            let name = format!("mesh-top-{}.svg", state.data_ms() / 1000);
            let said = match std::fs::write(&name, image) {
                Ok(()) => format!("saved {name}"),
                Err(error) => format!("cannot save {name}: {error}"),
            };
            state.notice = Some((said, state.now_ms + 4_000));
        }
    }
    Ok(false)
}

/// What is printed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// The lines of the view: titles first.
    Table,
    /// The lines of the view, or the whole mesh when no view was asked for.
    Json,
    /// The frame as an image.
    Svg,
}

/// What came out of printing once.
#[derive(Debug, Clone, PartialEq)]
pub enum Printed {
    /// Rows of text, the titles first.
    Table(Vec<Vec<String>>),
    /// A JSON value.
    Json(serde_json::Value),
    /// An SVG image.
    Svg(String),
}

/// Returns the first view of the mesh in the wanted form. Waits for it for at most `patience`.
///
/// # Errors
/// When the options name what does not exist, or no data came.
pub async fn once<F, S, E>(
    options: Options,
    connect: F,
    print: Print,
    patience: Duration,
) -> Result<Printed, Error>
where
    F: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<MeshView, E>>,
    E: std::fmt::Display,
{
    let mut state = begin(&options, OFFSCREEN)?;
    let none = |reason: String| Error::NoData { origin: options.origin.clone(), reason };
    let first = async {
        let views = connect.await.map_err(|error| error.to_string())?;
        tokio::pin!(views);
        match views.next().await {
            Some(view) => view.map_err(|error| error.to_string()),
            None => Err(feed::Error::Ended.to_string()),
        }
    };
    let view = tokio::time::timeout(patience, first)
        .await
        .map_err(|_| none(feed::Error::Silent(patience).to_string()))?
        .map_err(none)?;
    update::update(&mut state, 0, Event::View(Arc::new(view)));
    let Some(scene) = Scene::of(&state) else { return Err(none("it was empty".to_owned())) };
    let shown = view::at(&state.place);
    Ok(match print {
        Print::Table => Printed::Table(shown.table(&scene)),
        Print::Json if options.view.is_some() || options.filter.is_some() => {
            Printed::Json(shown.records(&scene))
        }
        Print::Json => Printed::Json(serde_json::json!(scene.mesh)),
        Print::Svg => {
            let (columns, rows) = OFFSCREEN;
            Printed::Svg(export::svg(&offscreen(&state, columns, rows), state.theme))
        }
    })
}
