//! SIGHUP: the command line, the environment and the configuration file are read again. What can change while the
//! process runs takes effect; what else has changed is named, as it needs a new start.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgMatches, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::output;
use crate::net::task;
use crate::telemetry::log::LogHandle;

/// The flag that every long-running process can change.
const LOG: &str = "log";

/// Every flag of a command with its values, wherever they came from.
pub(crate) type Flags = BTreeMap<String, Vec<OsString>>;

/// What a long-running process was told; may hold a token.
pub(crate) struct Told<A> {
    /// As the program understands it.
    pub(crate) args: A,
    /// The same, as it was written.
    pub(crate) flags: Flags,
}

/// Returns the flags of the subcommand that was parsed.
pub(crate) fn flags(command: &Command, matches: &ArgMatches) -> Flags {
    let Some((name, matches)) = matches.subcommand() else { return Flags::new() };
    let Some(command) = command.find_subcommand(name) else { return Flags::new() };
    let values = |id: &str| {
        let raw = matches.try_get_raw(id).ok().flatten();
        raw.map(|values| values.map(OsString::from).collect()).unwrap_or_default()
    };
    let long = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg.get_id().as_str())));
    long.map(|(flag, id)| (flag.to_owned(), values(id))).collect()
}

/// Reads everything again.
pub(crate) type Reread<A> = fn() -> anyhow::Result<Told<A>>;

/// How a process follows what it is told anew.
pub(crate) struct Reload<A> {
    /// Its log, whose filter follows.
    pub(crate) log: LogHandle,
    /// What is in force.
    pub(crate) flags: Flags,
    /// How to read it again.
    pub(crate) reread: Reread<A>,
    /// The flags, besides that of the log, which `take_effect` puts in force.
    pub(crate) live: &'static [&'static str],
    /// Puts those flags in force.
    pub(crate) take_effect: Box<dyn Fn(&A) + Send>,
}

impl<A: LogFilter + Send + 'static> Reload<A> {
    /// Begins to listen for SIGHUP.
    ///
    /// # Errors
    /// When the signal cannot be listened for.
    pub(crate) fn start(mut self) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        task::spawn("reload", async move {
            while hangup.recv().await.is_some() {
                if let Err(error) = self.again() {
                    let error = output::words(&error);
                    tracing::error!(error, "the old configuration stays in force");
                }
            }
        });
        Ok(())
    }

    fn again(&mut self) -> anyhow::Result<()> {
        let next = (self.reread)()?;
        let changed = differing(&self.flags, &next.flags);
        let (live, late): (Vec<&String>, Vec<&String>) =
            changed.iter().partition(|flag| *flag == LOG || self.live.contains(&flag.as_str()));
        self.log.set_filter(next.args.log_filter())?;
        if live.iter().any(|flag| *flag != LOG) {
            (self.take_effect)(&next.args);
        }
        for flag in &live {
            tracing::info!(key = flag, "changed, and in force");
        }
        for flag in &late {
            tracing::warn!(key = flag, "changed, and in force only after a restart");
        }
        tracing::info!(filter = self.log.filter(), changed = changed.len(), "configuration read again");
        // What needs a restart stays as it was: it is named each time until then.
        for flag in live {
            let values = next.flags.get(flag).cloned().unwrap_or_default();
            self.flags.insert(flag.clone(), values);
        }
        Ok(())
    }
}

/// Arguments that say what to log.
pub(crate) trait LogFilter {
    /// Returns the filter.
    fn log_filter(&self) -> &str;
}

/// Returns the flags whose values differ, in alphabetical order.
fn differing(old: &Flags, new: &Flags) -> Vec<String> {
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let mut differing: Vec<_> = names.filter(|name| old.get(*name) != new.get(*name)).cloned().collect();
    differing.sort();
    differing
}

#[cfg(test)]
mod tests {
    use crate::cli::reload::{Flags, differing};

    fn flags(values: &[(&str, &str)]) -> Flags {
        values.iter().map(|(flag, value)| ((*flag).to_owned(), vec![value.into()])).collect()
    }

    #[test]
    fn a_flag_differs_when_it_is_new_gone_or_has_another_value() {
        let old = flags(&[("listen", "a"), ("log", "info"), ("zone", "x")]);
        let new = flags(&[("admin", "b"), ("listen", "a"), ("log", "debug")]);

        assert_eq!(differing(&old, &new), ["admin", "log", "zone"]);
        assert!(differing(&old, &old).is_empty());
    }
}
