//! `mesh get` and `mesh describe`: shows objects as they are stored.

use clap::Args;
use futures_util::StreamExt as _;

use crate::api::client::Client;
use crate::cli::apply;
use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Cell, Format, Table};
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::{Kind, Resource};
use crate::net::clock;

/// Which objects a command speaks of.
#[derive(Debug, Clone, Args)]
pub(crate) struct Selection {
    /// A kind, such as httproutes or intentions, or KIND/NAME
    #[arg(value_name = "KIND[/NAME]")]
    pub(crate) kind: String,
    /// The object's name; all of the kind when absent
    pub(crate) name: Option<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub(crate) namespace: String,
}

impl Selection {
    /// Returns the kind and the name, however they were written.
    ///
    /// # Errors
    /// When there is no such kind, or the name is given twice.
    pub(crate) fn parse(&self) -> anyhow::Result<(Kind, Option<&str>)> {
        let (kind, name) = match self.kind.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (self.kind.as_str(), None),
        };
        let kind = kind.parse().map_err(|text: String| refuse(Exit::Usage, text))?;
        match (name, self.name.as_deref()) {
            (Some(_), Some(_)) => {
                Err(refuse(Exit::Usage, "give the name once: KIND/NAME or KIND NAME".to_owned()))
            }
            (one, other) => Ok((kind, one.or(other))),
        }
    }
}

/// Flags of `mesh get`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    selection: Selection,
    /// Objects of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How to print: table, wide, json, yaml or name
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// Go on and print every change
    #[arg(short, long)]
    watch: bool,
}

/// Prints the objects that are asked for.
///
/// # Errors
/// When there is no such object, or the control plane cannot be reached.
pub(crate) async fn run(args: GetArgs, client: &Client) -> anyhow::Result<Exit> {
    let (kind, name) = args.selection.parse()?;
    let namespace = &args.selection.namespace;
    let wanted = |resource: &Resource| {
        let metadata = resource.metadata();
        (args.all_namespaces || metadata.namespace == *namespace)
            && name.is_none_or(|name| metadata.name == name)
    };
    let list = client.list_resources(kind).await?;
    let items: Vec<_> = list.items.into_iter().filter(|resource| wanted(resource)).collect();
    if let (true, Some(name), false) = (items.is_empty(), name, args.watch) {
        let text =
            format!("there is no {kind} '{name}' in namespace {namespace}; see 'mesh get {}'", kind.plural());
        return Err(refuse(Exit::NotFound, text));
    }
    print(&args, &items)?;
    if args.watch {
        let mut changes = client.watch_resources(kind, list.revision).await?;
        while let Some(event) = changes.next().await {
            let event = event?;
            if wanted(&event.object) {
                print(&args, std::slice::from_ref(&event.object))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn print(args: &GetArgs, items: &[Resource]) -> anyhow::Result<()> {
    let single = args.selection.name.is_some() || args.selection.kind.contains('/');
    match (args.output, items) {
        (Format::Json, [one]) if single => output::json(one)?,
        (Format::Yaml, [one]) if single => output::yaml(one)?,
        _ => output::list(args.output, items, |wide| table(items, wide), |item| apply::name(&item.key()))?,
    }
    Ok(())
}

fn table(items: &[Resource], wide: bool) -> Table {
    let mut headers = vec!["name", "namespace", "for", ">generation", ">age"];
    if wide {
        headers.push(">revision");
    }
    let mut table = Table::new(&headers);
    for item in items {
        let metadata = item.metadata();
        let age =
            metadata.creation_timestamp.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let age = age.map(|at| output::age(clock::wall_ms().saturating_sub(at.as_millisecond() as u64)));
        let cells = [
            Cell::from(metadata.name.clone()),
            Cell::from(metadata.namespace.clone()),
            Cell::from(subject(item)),
            Cell::from(metadata.generation.map_or_else(String::new, |generation| generation.to_string())),
            Cell::from(age.unwrap_or_default()),
            Cell::from(metadata.resource_version.clone().unwrap_or_default()),
        ];
        table.row(cells);
    }
    table
}

/// Returns what an object is about, in a few words.
fn subject(resource: &Resource) -> String {
    match resource {
        Resource::HttpRoute(route) => {
            let parents: Vec<_> = route.spec.parent_refs.iter().map(|parent| parent.name.as_str()).collect();
            format!("{} ({} rules)", parents.join(","), route.spec.rules.len())
        }
        Resource::Intention(intention) => {
            let action = format!("{:?}", intention.spec.action).to_ascii_lowercase();
            let sources = intention.spec.sources.iter().map(|source| {
                let node = source.node.as_ref().map(|node| format!("node/{node}"));
                source.service.clone().or(node).unwrap_or_default()
            });
            format!("{action} {} -> {}", sources.collect::<Vec<_>>().join(","), intention.spec.destination)
        }
        Resource::Service(service) => {
            let protocol = service.spec.protocol.map(|protocol| protocol.to_string());
            let check = service.spec.health_check.as_ref().map(|check| {
                let kind = if check.http.is_some() {
                    "http"
                } else if check.grpc.is_some() {
                    "grpc"
                } else {
                    "tcp"
                };
                format!("{kind} health check")
            });
            [protocol, check].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}

/// Flags of `mesh describe`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    selection: Selection,
}

/// Prints one object with where the proxies stand with it.
///
/// # Errors
/// When there is no such object, or the control plane cannot be reached.
pub(crate) async fn describe(args: DescribeArgs, client: &Client) -> anyhow::Result<Exit> {
    let (kind, name) = args.selection.parse()?;
    let Some(name) = name else {
        return Err(refuse(Exit::Usage, "describe needs a name: mesh describe KIND NAME".to_owned()));
    };
    let resource = client.get_resource(kind, &args.selection.namespace, name).await?;
    output::yaml(&resource)?;
    let revision = resource.metadata().resource_version.as_deref().and_then(|text| text.parse().ok());
    let view = client.view().await?;
    let there = view.nodes.iter().filter(|node| node.revision.is_some() && node.revision >= revision).count();
    let proxies = view.nodes.iter().filter(|node| node.role == crate::model::endpoint::Role::Proxy).count();
    output::note(&format!("in force at {there} of {proxies} proxies"));
    Ok(Exit::Done)
}
