//! `mesh default`: what happens to calls that no intention speaks of, and whether calls are refused at all.

use clap::{Args, ValueEnum};

use crate::api::client::Client;
use crate::api::wire::Defaults;
use crate::cli::exit::Exit;
use crate::cli::output::{self, Format, Table};
use crate::model::intention::{Action, Mode};

/// Flags of `mesh default`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DefaultArgs {
    /// What is to happen to them: allow or deny; without it, what does is shown
    #[arg(value_name = "allow|deny", value_parser = action)]
    action: Option<Action>,
    /// Whether what is not allowed is refused (enforce), or only counted and listed (audit), in the whole mesh
    #[arg(long, value_enum)]
    mode: Option<Wanted>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Whether calls are to be refused.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wanted {
    /// What is not allowed is refused.
    Enforce,
    /// Nothing is: what would be is counted.
    Audit,
}

/// Reads an action.
///
/// # Errors
/// A sentence on what was expected.
pub(crate) fn action(text: &str) -> Result<Action, String> {
    match text {
        "allow" => Ok(Action::Allow),
        "deny" => Ok(Action::Deny),
        _ => Err("expected allow or deny".to_owned()),
    }
}

/// Shows the defaults, or changes and then shows them.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub(crate) async fn run(args: DefaultArgs, client: &Client) -> anyhow::Result<Exit> {
    let mut defaults = client.defaults().await?;
    if args.action.is_some() || args.mode.is_some() {
        defaults.action = args.action.unwrap_or(defaults.action);
        defaults.mode = match args.mode {
            None => defaults.mode,
            Some(Wanted::Enforce) => Mode::Enforce,
            Some(Wanted::Audit) => Mode::Audit,
        };
        defaults = client.set_defaults(&defaults).await?;
    }
    match args.output {
        Format::Json => output::json(&defaults)?,
        Format::Yaml => output::yaml(&defaults)?,
        Format::Name => output::line(said(defaults).0)?,
        Format::Table | Format::Wide => {
            let mut table = Table::new(&["action", "mode", "meaning"]);
            let (action, mode, meaning) = said(defaults);
            table.row([action.into(), mode.into(), meaning.into()]);
            output::show(&table)?;
        }
    }
    Ok(Exit::Done)
}

fn said(defaults: Defaults) -> (&'static str, &'static str, &'static str) {
    match (defaults.action, defaults.mode) {
        (Action::Allow, Mode::Enforce) => {
            ("allow", "enforce", "who may call a service is limited only by the intentions on it")
        }
        (Action::Deny, Mode::Enforce) => {
            ("deny", "enforce", "nobody may call a service that no intention lets them call")
        }
        (Action::Allow, Mode::Audit) => {
            ("allow", "audit", "nothing is refused; what intentions would refuse is counted")
        }
        (Action::Deny, Mode::Audit) => {
            ("deny", "audit", "nothing is refused; what no intention allows is counted")
        }
    }
}
