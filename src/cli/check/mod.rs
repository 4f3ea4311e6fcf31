//! `mesh check`: is the mesh well, is this host, and if not, what to do.

mod finding;
mod certificate;
mod disk;
mod gossip;
mod mesh;
mod host;
mod preflight;

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::api::client::Client;
use crate::cli::check::finding::{Category, Findings, lines};
use crate::cli::check::host::Host;
use crate::cli::connect::{self, ControlAddress};
use crate::cli::exit::Exit;
use crate::cli::local_proxy::LocalProxy;
use crate::cli::output::{self, Format};
use crate::model::token::Token;
use crate::net::clock;

/// Flags of `mesh check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// Check whether this host is fit for mesh, before it is installed
    #[arg(long)]
    pre: bool,
    /// With --pre: also try the way to the control plane of this join token, and compare the clocks; the token stays unused
    #[arg(long, env = "MESH_JOIN", value_name = "TOKEN", hide_env_values = true)]
    join: Option<Token>,
    #[command(flatten)]
    proxy: LocalProxy,
    /// Keep checking until all is well, for at most this long
    #[arg(long, env = "MESH_WAIT", value_name = "DURATION", value_parser = output::duration)]
    wait: Option<Duration>,
    /// How to print: table or json
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// How often to look again while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Checks the mesh and this host, and prints the findings; with `--wait`, until all is well or the time is over.
///
/// # Errors
/// Those of standard output, and what is wrong with the command line. A control plane that cannot be asked is a finding.
pub(crate) async fn run(args: CheckArgs, address: ControlAddress) -> anyhow::Result<Exit> {
    let deadline = clock::now() + args.wait.unwrap_or_default();
    let spinner = output::Spinner::start("checking");
    let (findings, exit) = loop {
        let (categories, failed) = if args.pre {
            (preflight::examine(args.join.as_ref()).await, None)
        } else {
            look(&args.proxy, &address).await?
        };
        let findings = Findings::new(categories);
        let exit = if findings.success { Exit::Done } else { failed.unwrap_or(Exit::Refused) };
        if findings.success || clock::now() >= deadline {
            break (findings, exit);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    drop(spinner);
    match args.output {
        Format::Json => output::json(&findings)?,
        Format::Yaml => output::yaml(&findings)?,
        Format::Table | Format::Wide | Format::Name => {
            lines(&findings).iter().try_for_each(|line| output::line(line))?;
        }
    }
    Ok(exit)
}

/// Examines the mesh, by its control plane or else by this host's proxy, and this host; returns also the exit status when
/// the control plane should have been asked, and could not.
async fn look(proxy: &LocalProxy, address: &ControlAddress) -> anyhow::Result<(Vec<Category>, Option<Exit>)> {
    let asked = mesh_wide(address).await;
    let host = host::examine(proxy).await?;
    match (asked, host) {
        (Ok(mut categories), host) => {
            categories.extend(host.into_iter().flat_map(|host| host.categories));
            Ok((categories, None))
        }
        (Err(error), _) if connect::exit_of(&error) == Exit::Usage => Err(error),
        // Who administers the mesh from elsewhere has the control plane to ask; this host has its proxy.
        (Err(_), Some(Host { status: Some(_), mut categories })) if !address.is_named() => {
            let view = Client::admin(&proxy.admin()?).proxy_view().await.context("the proxy of this host")?;
            categories.extend(mesh::examine_from_proxy(&view, clock::wall_ms()));
            Ok((categories, None))
        }
        (Err(error), host) => {
            let mut categories = vec![mesh::unreachable(&output::words(&error))];
            categories.extend(host.into_iter().flat_map(|host| host.categories));
            Ok((categories, Some(connect::exit_of(&error))))
        }
    }
}

async fn mesh_wide(address: &ControlAddress) -> anyhow::Result<Vec<Category>> {
    let client = connect::client(address).await?;
    let (status, view) = (client.status().await?, client.view().await?);
    let mut categories = mesh::examine(&status, &view, clock::wall_ms());
    categories.extend(gossip::of_control(client.reach().await));
    Ok(categories)
}
