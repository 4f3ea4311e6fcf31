//! `mesh intercept`: the rules of this host that lead connections to its proxy.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::api::client::Client;
use crate::cli::exit::Exit;
use crate::cli::local_proxy::LocalProxy;
use crate::cli::output;
use crate::logic::intercept::TABLE;
use crate::net::{claim, nft};
use crate::proxy::guard;

/// Flags of `mesh intercept`.
#[derive(Debug, Args)]
pub(crate) struct InterceptArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the rules in force; 'mesh proxy --intercept --dry-run' prints those that it would install
    Show,
    /// Remove the rules that a proxy has left; one that runs installs its own again within ten seconds
    Clear,
    /// Wait on standard input for the end of a proxy, and remove the rules it left
    #[command(hide = true)]
    Guard {
        /// The proxy.
        #[arg(value_parser = instance)]
        instance: String,
        /// Whether its rules are strict
        #[arg(long)]
        strict: bool,
    },
    /// Tell systemd-resolved that the proxy of this host answers names below .mesh, on behalf of a proxy that may not
    #[command(hide = true)]
    Resolved {
        #[command(flatten)]
        proxy: LocalProxy,
    },
}

/// Reads the name of a proxy's rules, which becomes a part of what nft is told.
fn instance(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_name { Ok(text.to_owned()) } else { Err("expected letters and digits".to_owned()) }
}

/// Runs `mesh intercept`.
///
/// # Errors
/// When the host lacks `nft`, or this user may not.
pub(crate) async fn run(args: InterceptArgs) -> anyhow::Result<Exit> {
    match args.command {
        Command::Show => {
            let Some(text) = nft::table(TABLE).await? else {
                output::note("nothing is intercepted on this host");
                return Ok(Exit::NotFound);
            };
            output::write(&text)?;
        }
        Command::Clear => {
            guard::clear().await.context("the rules were not removed")?;
            match claim::holder(guard::CLAIM).await {
                Some((pid, _)) => output::note(&format!(
                    "the rules are removed, and the proxy that intercepts here (process {pid}) installs them again within ten \
                     seconds: 'systemctl stop mesh-proxy', or a start with --intercept off, keeps them away"
                )),
                None => output::note("nothing is intercepted on this host"),
            }
        }
        Command::Resolved { proxy } => resolved(&proxy).await?,
        Command::Guard { instance, strict } => {
            if guard::watch(&instance, strict).await? {
                output::note("mesh: removed the rules for interception that a proxy left when it was killed");
            }
        }
    }
    Ok(Exit::Done)
}

/// Tells systemd-resolved, if it runs, where names below `.mesh` are answered.
async fn resolved(proxy: &LocalProxy) -> anyhow::Result<()> {
    let host = Client::admin(&proxy.admin()?).host().await.context("the proxy of this host")?;
    let Some(server) = host.names.listen.first().filter(|_| host.interception.is_some()) else {
        return Ok(());
    };
    if guard::tell_resolved(*server).await {
        output::note("systemd-resolved asks the proxy for names below .mesh");
    }
    Ok(())
}
