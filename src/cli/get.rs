//! `mesh get` and `mesh describe`: shows objects as they are stored.

use clap::Args;
use futures_util::StreamExt as _;

use crate::api::client::Client;
use crate::api::wire::{ChangeKind, ResourceEvent};
use crate::cli::apply;
use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::cli::selection::{self, Labels, Selection};
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::resource::{Kind, Resource, Revision};
use crate::model::route::ParentRef;
use crate::model::route_status::{Condition, ConditionStatus, ConditionType, ParentStatus};
use crate::net::clock;

/// Flags of `mesh get`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    /// What to show: a kind (grpcroute, httproute, intention, service, tcproute or trafficpolicy)
    /// and, for some of them, names; or KIND/NAME
    #[arg(value_name = "KIND[/NAME] [NAME]", required = true)]
    objects: Vec<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// Objects of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels: LABEL=VALUE, several joined by commas
    #[arg(short = 'l', long, value_name = "LABEL=VALUE", value_parser = selection::labels)]
    selector: Option<Labels>,
    /// How to print: table, wide, json, yaml or name
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// Go on and print every change; as JSON, a line for each
    #[arg(short, long)]
    watch: bool,
}

/// Prints the objects that are asked for.
///
/// # Errors
/// When there is no such object, or the control plane cannot be reached.
pub(crate) async fn run(args: GetArgs, client: &Client) -> anyhow::Result<Exit> {
    let Selection { kind, names } = selection::parse_one(&args.objects)?;
    let namespace = &args.namespace;
    let wanted = |resource: &Resource| {
        let metadata = resource.metadata();
        (args.all_namespaces || metadata.namespace == *namespace)
            && (names.is_empty() || names.contains(&metadata.name))
            && args.selector.as_ref().is_none_or(|labels| labels.are_on(resource))
    };
    let list = client.list_resources(kind).await?;
    let items: Vec<_> = list.items.into_iter().filter(|resource| wanted(resource)).collect();
    let missing = names.iter().find(|name| items.iter().all(|item| item.metadata().name != **name));
    if let (Some(name), false) = (missing, args.watch) {
        let text =
            format!("there is no {kind} '{name}' in namespace {namespace}; see 'mesh get {}'", kind.plural());
        return Err(refuse(Exit::NotFound, text));
    }
    if args.watch {
        return watch(args.output, client, (kind, list.revision), (items, wanted)).await;
    }
    let single = names.len() == 1;
    if items.is_empty() && matches!(args.output, Format::Table | Format::Wide) {
        let place =
            if args.all_namespaces { "any namespace".to_owned() } else { format!("namespace {namespace}") };
        output::note(&format!("no {kind} objects in {place}{}", elsewhere(kind)));
    } else {
        print(args.output, single, &items)?;
    }
    Ok(Exit::Done)
}

/// Prints what there is, then every change for as long as the control plane answers.
async fn watch(
    format: Format,
    client: &Client,
    (kind, since): (Kind, Revision),
    (items, wanted): (Vec<Resource>, impl Fn(&Resource) -> bool),
) -> anyhow::Result<Exit> {
    let there = items.into_iter().map(|object| ResourceEvent {
        revision: since,
        change: ChangeKind::Unchanged,
        object,
    });
    print_changes(format, &there.collect::<Vec<_>>(), true)?;
    let mut changes = client.watch_resources(kind, since).await?;
    while let Some(event) = changes.next().await {
        let event = event?;
        if wanted(&event.object) {
            print_changes(format, std::slice::from_ref(&event), false)?;
        }
    }
    Ok(Exit::Done)
}

fn print_changes(format: Format, events: &[ResourceEvent], first: bool) -> anyhow::Result<()> {
    match format {
        Format::Json => events.iter().try_for_each(|event| {
            output::line(&serde_json::to_string(event)?)?;
            anyhow::Ok(())
        }),
        Format::Yaml => {
            events
                .iter()
                .try_for_each(|event| output::write(&format!("---\n{}", output::yaml_text(event)?)))?;
            Ok(())
        }
        Format::Name => {
            events.iter().try_for_each(|event| output::line(&apply::name(&event.object.key())))?;
            Ok(())
        }
        Format::Table | Format::Wide => {
            let objects: Vec<_> = events.iter().map(|event| event.object.clone()).collect();
            let mut table = table(&objects, true);
            table.column(
                "change",
                events.iter().map(|event| match event.change {
                    ChangeKind::Created => Cell::new("created", Tone::Good),
                    ChangeKind::Updated => Cell::new("changed", Tone::Warning),
                    ChangeKind::Unchanged => Cell::default(),
                    ChangeKind::Deleted => Cell::new("deleted", Tone::Bad),
                }),
            );
            let text = table.render(output::width(), output::colour(&std::io::stdout()));
            let lines = text.split_inclusive('\n').skip(usize::from(!first));
            Ok(output::write(&lines.collect::<String>())?)
        }
    }
}

/// Returns where to find what people may have meant.
fn elsewhere(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "; the services that run in the mesh are shown by 'mesh stat'",
        Kind::GrpcRoute | Kind::HttpRoute | Kind::Intention | Kind::TcpRoute | Kind::TrafficPolicy => "",
    }
}

fn print(format: Format, single: bool, items: &[Resource]) -> anyhow::Result<()> {
    match (format, items) {
        (Format::Json, [one]) if single => output::json(one)?,
        (Format::Yaml, [one]) if single => output::yaml(one)?,
        _ => output::list(format, items, |wide| table(items, wide), |item| apply::name(&item.key()))?,
    }
    Ok(())
}

fn table(items: &[Resource], wide: bool) -> Table {
    let fates = items.iter().any(|item| item.status().is_some());
    let mut headers = vec!["name", "namespace", "for", ">generation", ">age"];
    headers.extend(fates.then_some("status"));
    if wide {
        headers.push(">revision");
    }
    let mut table = Table::new(&headers);
    for item in items {
        let metadata = item.metadata();
        let age =
            metadata.creation_timestamp.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let age = age.map(|at| output::age(clock::wall_ms().saturating_sub(at.as_millisecond() as u64)));
        let mut cells = vec![
            Cell::from(metadata.name.clone()),
            Cell::from(metadata.namespace.clone()),
            Cell::from(subject(item)),
            Cell::from(metadata.generation.map_or_else(String::new, |generation| generation.to_string())),
            Cell::from(age.unwrap_or_default()),
        ];
        cells.extend(fates.then(|| fate(item)));
        cells.push(Cell::from(metadata.resource_version.clone().unwrap_or_default()));
        table.row(cells);
    }
    table
}

/// Returns how a route fares, in a word: `ok`, or the reasons why it does not; `mesh describe` says more.
fn fate(resource: &Resource) -> Cell {
    let Some(status) = resource.status() else { return Cell::default() };
    let mut reasons: Vec<String> = Vec::new();
    for condition in status.parents.iter().flat_map(amiss) {
        let reason = format!("{:?}", condition.reason);
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() { Cell::new("ok", Tone::Good) } else { Cell::new(reasons.join(","), Tone::Bad) }
}

/// Returns what is not as it should be with a route and one of its parents.
fn amiss(parent: &ParentStatus) -> impl Iterator<Item = &Condition> {
    parent.conditions.iter().filter(|condition| {
        (condition.status == ConditionStatus::True) == (condition.kind == ConditionType::PartiallyInvalid)
    })
}

/// Returns what an object is about, in a few words.
fn subject(resource: &Resource) -> String {
    match resource {
        Resource::GrpcRoute(route) => routed(&route.spec.parent_refs, route.spec.rules.len()),
        Resource::HttpRoute(route) => routed(&route.spec.parent_refs, route.spec.rules.len()),
        Resource::TcpRoute(route) => routed(&route.spec.parent_refs, route.spec.rules.len()),
        Resource::Intention(intention) => {
            let action = format!("{:?}", intention.spec.action).to_ascii_lowercase();
            let sources = intention.spec.sources.iter().map(|source| {
                let node = source.node.as_ref().map(|node| format!("node/{node}"));
                let namespace = source.namespace.as_ref().map(|namespace| format!("*.{namespace}"));
                source.service.clone().or(node).or(namespace).unwrap_or_default()
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
        Resource::TrafficPolicy(policy) => {
            let spec = &policy.spec;
            // What every service has, policy or not, would be the same in every line.
            let algorithm = spec.load_balancing.as_ref().map(|balancing| format!("{:?}", balancing.policy));
            let parts = [
                ("session affinity", spec.session_affinity.is_some()),
                ("slow start", spec.slow_start.is_some()),
                ("concurrency", spec.concurrency.is_some()),
                ("rate limit", spec.rate_limit.is_some()),
                ("fault injection", spec.fault_injection.is_some()),
            ];
            let said = parts.into_iter().filter(|(_, said)| *said).map(|(part, _)| part.to_owned());
            let said: Vec<_> = algorithm.into_iter().chain(said).collect();
            format!("{} ({})", spec.target_ref.name, said.join(", "))
        }
    }
}

fn routed(parents: &[ParentRef], rules: usize) -> String {
    let names: Vec<_> = parents.iter().map(|parent| parent.name.as_str()).collect();
    let parents = if names.is_empty() { "nothing".to_owned() } else { names.join(",") };
    format!("{parents} ({rules} rule{})", if rules == 1 { "" } else { "s" })
}

/// Flags of `mesh describe`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    /// Which object: KIND NAME or KIND/NAME, of the kinds
    /// grpcroute, httproute, intention, service, tcproute or trafficpolicy
    #[arg(value_name = "KIND[/NAME] [NAME]", required = true)]
    objects: Vec<String>,
    /// The namespace
    #[arg(short, long, env = "MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
}

/// Prints one object with where the proxies stand with it.
///
/// # Errors
/// When there is no such object, or the control plane cannot be reached.
pub(crate) async fn describe(args: DescribeArgs, client: &Client) -> anyhow::Result<Exit> {
    let Selection { kind, names } = selection::parse_one(&args.objects)?;
    let [name] = names.as_slice() else {
        return Err(refuse(Exit::Usage, "describe takes one name: mesh describe KIND NAME".to_owned()));
    };
    let resource = client.get_resource(kind, &args.namespace, name).await?;
    output::yaml(&resource)?;
    let revision = resource.metadata().resource_version.as_deref().and_then(|text| text.parse().ok());
    let view = client.view().await?;
    let there = view.nodes.iter().filter(|node| node.revision.is_some() && node.revision >= revision).count();
    let proxies = view.nodes.iter().filter(|node| node.role == crate::model::endpoint::Role::Proxy).count();
    output::note(&format!("in force at {there} of {proxies} proxies"));
    for parent in resource.status().iter().flat_map(|status| &status.parents) {
        for Condition { kind, reason, message, .. } in amiss(parent) {
            output::note(&format!(
                "{}: {kind:?} is not as it should be ({reason:?}): {message}",
                parent.parent_ref.name
            ));
        }
    }
    Ok(Exit::Done)
}
