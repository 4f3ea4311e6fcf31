//! The log of the program itself: text on standard error for people, or JSON lines; its filter can change at run time.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Registry, fmt};

/// What is logged when nothing else is said.
pub const DEFAULT_FILTER: &str = "info";
/// Longest filter that is accepted, in bytes.
pub const FILTER_BYTES_MAX: usize = 4_096;

/// Why the log could not be set up, or its filter not be changed; the old one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("'{filter}' is not a log filter, such as info or mesh=debug,warn: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The filter is longer than [`FILTER_BYTES_MAX`].
    #[error("a log filter has {FILTER_BYTES_MAX} bytes at most")]
    Length,
    /// The process has a log already.
    #[error("the log is already set up: {0}")]
    Twice(#[from] TryInitError),
    /// The log is gone.
    #[error("the log is not there any more: {0}")]
    Gone(#[from] reload::Error),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads and changes the filter of the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    reload: reload::Handle<EnvFilter, Registry>,
    filter: Arc<Mutex<String>>,
}

/// Sets up the log of the process: to be called once, before the first event.
///
/// # Errors
/// When the filter is not one, or the process has a log already: nothing was changed.
pub fn init(format: Format, filter: &str) -> Result<LogHandle, Error> {
    let (layer, reload) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(layer);
    match format {
        Format::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colour = io::stderr().is_terminal() && !plain;
            registry.with(fmt::layer().with_writer(io::stderr).with_ansi(colour)).try_init()?;
        }
        Format::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(false);
            registry.with(lines.with_writer(io::stderr)).try_init()?;
        }
    }
    Ok(LogHandle { reload, filter: Arc::new(Mutex::new(filter.to_owned())) })
}

impl LogHandle {
    /// Returns the filter in force.
    pub fn filter(&self) -> String {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another filter in force.
    ///
    /// # Errors
    /// When it is not one: the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), Error> {
        let filter = filter.trim();
        let mut current = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload.reload(parse(filter)?)?;
        filter.clone_into(&mut current);
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    if filter.len() > FILTER_BYTES_MAX {
        return Err(Error::Length);
    }
    EnvFilter::builder().parse(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })
}
