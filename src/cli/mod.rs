//! The command tree. One file for each command; this one parses, dispatches, and turns errors into exit codes.

pub mod output;
pub(crate) mod exit;
mod data_dir;
mod local_proxy;
mod config_file;
pub mod manifest;
mod selection;
pub(crate) mod traffic;
pub(crate) mod stat;
pub(crate) mod edges;
pub(crate) mod events;
mod operator;
mod connect;
mod login;
mod rollout;
pub(crate) mod apply;
mod diff;
pub(crate) mod get;
pub(crate) mod delete;
mod edit;
mod default;
mod explain;
mod request;
mod why;
mod tap;
mod history;
pub(crate) mod token;
pub(crate) mod node;
pub(crate) mod check;
pub(crate) mod top;
mod reload;
mod start;
mod intercept;
mod service;
mod roll;
mod upgrade;
mod release;
mod snapshot;
mod ca;
mod demo;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::api::client::Client;
use crate::cli::connect::ControlAddress;
use crate::cli::exit::{Exit, refuse};
use crate::cli::reload::{Flags, Told};

/// A service mesh for plain Linux hosts: one binary, mutual TLS, live in the terminal
#[derive(Debug, Parser)]
#[command(name = "mesh", version, disable_help_subcommand = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane: certificate authority, configuration, API, the merged view of all traffic
    Control(Box<start::ControlArgs>),
    /// Run the data plane of this host: every call between services, over mutual TLS
    Proxy(Box<start::ProxyArgs>),
    /// Watch the mesh live in the terminal
    Top(WithControl<top::TopArgs>),
    /// Run a whole mesh with a small shop on this machine, and watch it
    Demo(demo::DemoArgs),
    /// Make, list and revoke join tokens
    Token(WithControl<token::TokenArgs>),
    /// Administer the mesh from this host, with an operator's token
    Login(login::LoginArgs),
    /// Forget the operator's certificate on this host
    Logout,
    /// Let a node's services have no new calls while other nodes serve them, or take that back
    Drain(WithControl<node::DrainArgs>),
    /// Refuse a node's certificates everywhere, or take that back
    Ban(WithControl<node::BanArgs>),
    /// Remove a node: it can no longer renew its certificates, and its name is free
    Leave(WithControl<node::LeaveArgs>),
    /// Create or change objects from manifests
    Apply(WithControl<apply::ApplyArgs>),
    /// Show what applying manifests would change; exit status 1 when anything would
    Diff(WithControl<diff::DiffArgs>),
    /// Change an object in your editor
    Edit(WithControl<edit::EditArgs>),
    /// Show what an object was: its versions, who wrote them, and when
    History(WithControl<history::HistoryArgs>),
    /// Write an object as it was
    Rollback(WithControl<history::RollbackArgs>),
    /// Show objects
    Get(WithControl<get::GetArgs>),
    /// Show one object with all that is known of it
    Describe(WithControl<get::DescribeArgs>),
    /// Show what can be written in an object: types, defaults, limits and meaning, field by field
    Explain(explain::ExplainArgs),
    /// Delete objects
    Delete(WithControl<delete::DeleteArgs>),
    /// Why a call ends where it does: route, rule, backend, endpoints, intention; or what became of one request, by its id
    Why(WithControl<why::WhyArgs>),
    /// Watch requests and connections end, live
    Tap(WithControl<tap::TapArgs>),
    /// Show or say what happens to calls that no intention speaks of
    Default(WithControl<default::DefaultArgs>),
    /// Is the mesh well, and if not, what to do
    Check(WithControl<check::CheckArgs>),
    /// Traffic by service
    Stat(WithControl<stat::StatArgs>),
    /// Traffic by who calls whom
    Edges(WithControl<edges::EdgesArgs>),
    /// What happened lately
    Events(WithControl<events::EventsArgs>),
    /// Add, remove and show the services of this host while its proxy runs
    Service(service::ServiceArgs),
    /// Show or remove the rules of this host by which its proxy intercepts connections
    Intercept(intercept::InterceptArgs),
    /// Make proxies the version that their control plane runs, without losing a call: that of this host, or --all
    Upgrade(WithControl<upgrade::UpgradeArgs>),
    /// Write a release of this very program into a directory: the program, its installer, their checksums
    Release(release::ReleaseArgs),
    /// Keep the control plane in a file, check such a file, and put the control plane back from it
    Snapshot(WithControl<snapshot::SnapshotArgs>),
    /// Show who signs the mesh's certificates, and export the root
    Ca(WithControl<ca::CaArgs>),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// A command that talks to a control plane.
#[derive(Debug, Args)]
struct WithControl<A: Args> {
    #[command(flatten)]
    address: ControlAddress,
    #[command(flatten)]
    args: A,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let ended = parse(&words).and_then(|(cli, flags)| dispatch(cli.command, flags));
    let exit = ended.unwrap_or_else(|error| report(&error));
    ExitCode::from(exit as u8)
}

/// Says what went wrong and returns the exit status for it.
fn report(error: &anyhow::Error) -> Exit {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // Help and version are errors to clap, and printed on standard output. Nobody reading is no reason to fail.
        let _ = usage.print();
        return if usage.use_stderr() { Exit::Usage } else { Exit::Done };
    }
    if output::is_broken_pipe(error) {
        return Exit::Done;
    }
    output::error(error);
    connect::exit_of(error)
}

/// Parses the words of a command line. A `--config` file in it, or in the environment, gives the defaults of its flags.
fn parse(words: &[OsString]) -> anyhow::Result<(Cli, Flags)> {
    let command = Cli::command();
    let matches = command.clone().try_get_matches_from(words);
    let first = matches.as_ref().ok().and_then(clap::ArgMatches::subcommand);
    let file = first.and_then(|(name, flags)| {
        let has_file = command.find_subcommand(name)?.get_arguments().any(|arg| arg.get_id() == "config");
        has_file.then(|| flags.get_one::<PathBuf>("config").map(|path| (name.to_owned(), path.clone())))?
    });
    let matches = match file {
        None => matches?,
        Some((name, path)) => {
            let mut failed = None;
            let command = command.mut_subcommand(name, |sub| {
                config_file::apply(sub.clone(), &path).unwrap_or_else(|error| {
                    failed = Some(error);
                    sub
                })
            });
            match failed {
                Some(error) => return Err(refuse(Exit::Usage, output::words(&error))),
                None => command.try_get_matches_from(words)?,
            }
        }
    };
    Ok((Cli::from_arg_matches(&matches)?, reload::flags(&Cli::command(), &matches)))
}

/// Parses the words of this process's command line again: those of `mesh control`.
fn reread_control() -> anyhow::Result<Told<start::ControlArgs>> {
    let (command, flags) = reparse()?;
    let Command::Control(args) = command else { bail!("this process is no control plane") };
    Ok(Told { args: *args, flags })
}

/// Parses the words of this process's command line again: those of `mesh proxy`.
fn reread_proxy() -> anyhow::Result<Told<start::ProxyArgs>> {
    let (command, flags) = reparse()?;
    let Command::Proxy(args) = command else { bail!("this process is no proxy") };
    Ok(Told { args: *args, flags })
}

fn reparse() -> anyhow::Result<(Command, Flags)> {
    let words: Vec<OsString> = std::env::args_os().collect();
    parse(&words).map(|(cli, flags)| (cli.command, flags))
}

fn dispatch(command: Command, flags: Flags) -> anyhow::Result<Exit> {
    match command {
        Command::Control(args) => start::control(Told { args: *args, flags }, reread_control),
        Command::Proxy(args) => start::proxy(Told { args: *args, flags }, reread_proxy),
        Command::Demo(args) => wait_for(demo::run(args)),
        Command::Explain(args) => explain::run(&args),
        Command::Login(args) => wait_for(login::run(args)),
        Command::Logout => login::logout(),
        Command::Top(with) => wait_for(top::run(with.args, with.address)),
        Command::Check(with) => wait_for(check::run(with.args, with.address)),
        Command::Token(with) => {
            ask(with, |args, client| async move { token::run(args, &client).await.map(|()| Exit::Done) })
        }
        Command::Drain(with) => {
            ask(with, |args, client| async move { node::drain(args, &client).await.map(|()| Exit::Done) })
        }
        Command::Ban(with) => {
            ask(with, |args, client| async move { node::ban(args, &client).await.map(|()| Exit::Done) })
        }
        Command::Leave(with) => {
            ask(with, |args, client| async move { node::leave(args, &client).await.map(|()| Exit::Done) })
        }
        Command::Apply(with) => ask(with, |args, client| async move { apply::run(args, &client).await }),
        Command::Diff(with) => ask(with, |args, client| async move { diff::run(args, &client).await }),
        Command::Edit(with) => ask(with, |args, client| async move { edit::run(args, &client).await }),
        Command::History(with) => ask(with, |args, client| async move { history::run(args, &client).await }),
        Command::Rollback(with) => {
            ask(with, |args, client| async move { history::rollback(args, &client).await })
        }
        Command::Get(with) => ask(with, |args, client| async move { get::run(args, &client).await }),
        Command::Describe(with) => {
            ask(with, |args, client| async move { get::describe(args, &client).await })
        }
        Command::Delete(with) => ask(with, |args, client| async move { delete::run(args, &client).await }),
        Command::Why(with) => ask(with, |args, client| async move { why::run(args, &client).await }),
        Command::Tap(with) => ask(with, |args, client| async move { tap::run(args, &client).await }),
        Command::Default(with) => ask(with, |args, client| async move { default::run(args, &client).await }),
        Command::Stat(with) => ask(with, |args, client| async move {
            stat::run(&args, connect::views(&client, args.watch).await?).await.map(|()| Exit::Done)
        }),
        Command::Edges(with) => ask(with, |args, client| async move {
            edges::run(&args, connect::views(&client, args.watch).await?).await.map(|()| Exit::Done)
        }),
        Command::Events(with) => ask(with, |args, client| async move {
            events::run(&args, connect::views(&client, args.watch).await?).await.map(|()| Exit::Done)
        }),
        Command::Service(args) => wait_for(service::run(args)),
        Command::Intercept(args) => wait_for(intercept::run(args)),
        Command::Upgrade(with) => wait_for(upgrade::run(with.args, with.address)),
        Command::Release(args) => release::run(&args),
        Command::Ca(with) => {
            ask(with, |args, client| async move { ca::run(args, &client).await.map(|()| Exit::Done) })
        }
        Command::Snapshot(with) => wait_for(snapshot::run(with.args, with.address)),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mesh", &mut script);
            output::write(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
        Command::Version => {
            output::line(&format!("mesh {}", env!("CARGO_PKG_VERSION")))?;
            Ok(Exit::Done)
        }
    }
}

/// Runs a future to its end on this thread.
fn wait_for(future: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(future)
}

/// Runs a command that asks a control plane.
fn ask<A, F>(with: WithControl<A>, command: impl FnOnce(A, Client) -> F) -> anyhow::Result<Exit>
where
    A: Args,
    F: Future<Output = anyhow::Result<Exit>>,
{
    wait_for(async { command(with.args, connect::client(&with.address).await?).await })
}
