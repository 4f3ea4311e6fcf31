//! `mesh service`: the services of this host, while its proxy runs.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::api::client::{self, Client};
use crate::api::wire::ServiceRow;
use crate::cli::data_dir;
use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::model::name::ServiceName;
use crate::model::service::LocalService;

/// Where a proxy listens when nobody says.
const DEFAULT_ADMIN: &str = "127.0.0.1:15000";
/// The file in which a proxy says where it listens.
const ADDRESSES_FILE: &str = "addresses.json";

/// Flags of `mesh service`.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// The admin API of the proxy [default: that of the proxy on this host, else 127.0.0.1:15000]
    #[arg(long, global = true, env = "MESH_PROXY", value_name = "ADDRESS")]
    proxy: Option<String>,
    /// Where the proxy keeps its state, if not where it does by default
    #[arg(long, global = true, env = "MESH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
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
    let address = admin(args.proxy, args.data_dir)?;
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

/// Returns the address of the proxy that is meant.
fn admin(named: Option<String>, data_dir: Option<PathBuf>) -> anyhow::Result<String> {
    if let Some(named) = named {
        return Ok(named);
    }
    let is_named = data_dir.is_some();
    let path = data_dir.unwrap_or_else(|| data_dir::of("proxy")).join(ADDRESSES_FILE);
    let text = fs::read_to_string(&path).ok();
    let addresses = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    match addresses.as_ref().and_then(|addresses| addresses.get("admin")?.as_str()) {
        Some(admin) => Ok(admin.to_owned()),
        None if is_named => {
            let text = format!("no proxy runs with this data directory: {} does not exist", path.display());
            Err(refuse(Exit::Unreachable, text))
        }
        None => Ok(DEFAULT_ADMIN.to_owned()),
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
