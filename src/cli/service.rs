//! `mesh service`: the services of this host, while its proxy runs.

use clap::{Args, Subcommand};

use crate::api::client::{self, Client};
use crate::api::wire::ServiceRow;
use crate::cli::exit::{Exit, refuse};
use crate::cli::local_proxy::LocalProxy;
use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::model::name::ServiceName;
use crate::model::service::LocalService;

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
            client.add_service(&service).await?;
            output::note(&format!("{} runs here: {service}", service.name));
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
