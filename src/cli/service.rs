//! `mesh service`: the services of this host, while its proxy runs.

use std::fs;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::api::client::{self, Client};
use crate::api::wire::ServiceRow;
use crate::cli::exit::{Exit, refuse};
use crate::cli::local_proxy::LocalProxy;
use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::model::name::ServiceName;
use crate::model::service::{LocalService, Owner};
use crate::net::clock;
use crate::net::owner::{self, PASSWD};

/// A control plane that is there has signed a certificate by then.
const ISSUE_TIME: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

const AWAITED: &str = "its certificate is still awaited: it gets calls once the control plane has answered; 'mesh service \
                       list' shows when it is held, the log of the proxy why not, and 'mesh check' on the control plane's host \
                       what is wrong there";

/// Flags of `mesh service`.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    proxy: LocalProxy,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Announce a service of this host, from now on and after a restart
    Add {
        /// NAME[.NAMESPACE]=[ADDRESS:]PORT[/PROTOCOL][@OWNER], as for 'mesh proxy --service'
        service: LocalService,
    },
    /// Take back what was added
    Remove {
        /// Its name
        name: ServiceName,
        /// Only the one at this port
        #[arg(long)]
        port: Option<u16>,
    },
    /// Show the services of this host
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
}

/// Carries out `mesh service`.
///
/// # Errors
/// When the proxy is not there, or refuses.
pub(crate) async fn run(args: ServiceArgs) -> anyhow::Result<Exit> {
    let address = args.proxy.admin()?;
    carry_out(args.command, &Client::admin(&address)).await.map_err(|error| match error.downcast_ref() {
        Some(client::Error::Unreachable(why)) => {
            let text = format!("no proxy answers: {why}; is 'mesh proxy' running on this host?");
            refuse(Exit::Unreachable, text)
        }
        Some(_) | None => error,
    })
}

async fn carry_out(command: Command, client: &Client) -> anyhow::Result<Exit> {
    match command {
        Command::Add { service } => {
            if let Some(Owner::User(user)) = &service.owner {
                know(user)?;
            }
            client.add_service(&service).await?;
            output::note(&format!("{} runs here: {service}", service.name));
            if !is_certified(client, &service.name).await? {
                output::warn(AWAITED);
            }
        }
        Command::Remove { name, port } => {
            client.remove_service(&name, port).await?;
            output::note(&format!("{name} does not run here any more"));
        }
        Command::List { output } => {
            let rows = client.local_services().await?;
            output::list(output, &rows, |_| table(&rows), |row| row.name.to_string())?;
        }
    }
    Ok(Exit::Done)
}

/// Makes sure that this host has a user: calls of processes that nobody can be found for leave as somebody else.
fn know(user: &str) -> anyhow::Result<()> {
    // A static program sees the users of the file alone; those that come from elsewhere are given by number.
    match fs::read_to_string(PASSWD) {
        Ok(users) if owner::uid(user, &users).is_none() => {
            let text = format!(
                "this host has no user '{user}' in {PASSWD}, so that calls meant as this service's would leave as the \
                 host's: create the user first, or give the number of one that comes from elsewhere (id -u NAME); \
                 nothing was added"
            );
            Err(refuse(Exit::NotFound, text))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns whether the proxy holds a service's certificate, or gets it at once.
async fn is_certified(client: &Client, name: &ServiceName) -> Result<bool, client::Error> {
    let deadline = clock::now() + ISSUE_TIME;
    loop {
        let rows = client.local_services().await?;
        let is_held = rows.iter().any(|row| row.name == *name && row.certificate);
        if is_held || clock::now() >= deadline {
            return Ok(is_held);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn table(rows: &[ServiceRow]) -> Table {
    let mut table = Table::new(&["NAME", "ADDRESS", "PROTOCOL", "OWNER", "FROM", "CERTIFICATE"]);
    for row in rows {
        let (certificate, tone) = if row.certificate { ("held", Tone::Good) } else { ("awaited", Tone::Bad) };
        table.row([
            Cell::new(row.name.to_string(), Tone::Plain),
            Cell::new(row.address.to_string(), Tone::Plain),
            Cell::new(row.protocol.to_string(), Tone::Plain),
            Cell::new(row.owner.as_deref().unwrap_or("-"), Tone::Plain),
            Cell::new(if row.added { "mesh service add" } else { "configuration" }, Tone::Plain),
            Cell::new(certificate, tone),
        ]);
    }
    table
}
