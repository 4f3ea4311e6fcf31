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
pub mod motion;
pub mod update;
pub mod screen;
pub mod start;
pub mod export;
pub mod feed;
pub mod output;
pub mod background;
pub mod terminal;
pub mod once;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use crate::model::view::MeshView;
use crate::net::{clock, task};
use crate::top::event::{Event, Wish};
use crate::top::start::{Error, OFFSCREEN, Options, begin};
use crate::top::state::State;
use crate::top::terminal::{Screen, offscreen, read_input};

/// Events waiting to be taken in: a burst of keys; whoever sends more waits.
const EVENTS_MAX: usize = 256;
/// A terminal that is being resized settles within this.
const RESIZE_SETTLE: Duration = Duration::from_millis(30);

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
    if state.follows_background {
        screen.ask_for_background()?;
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
    let mut draw = true;
    loop {
        // While the terminal has not taken the last frame there is no next one: it will show what is newest then.
        if draw && screen.is_idle() {
            screen.draw(state)?;
            draw = false;
        }
        let first = tokio::select! {
            () = screen.idle(), if draw => continue,
            event = events.recv() => match event {
                Some(event) => event,
                None => return Ok(()),
            },
            _ = ticks.tick() => Event::Tick,
            _ = signals.resumed.recv() => {
                screen.resume()?;
                draw = true;
                continue;
            }
            () = Signals::quit(&mut signals.quit) => return Ok(()),
        };
        if matches!(first, Event::Resize(..)) {
            tokio::time::sleep(RESIZE_SETTLE).await;
        }
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
