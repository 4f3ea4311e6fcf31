//! `mesh why`: the decision of every stage about one call, as the proxies would take it; or what became of one that was made.

use std::fmt::Write as _;

use clap::Args;

use crate::api::client::Client;
use crate::api::why::{Why, WhyBackend, WhyEndpoint, WhyHead, WhyRequest};
use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Cell, Table, Tone};
use crate::cli::request::{self, Form};
use crate::logic::naming::similar;
use crate::model::endpoint::Standing;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};

/// Flags of `mesh why`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhyArgs {
    /// Who calls: a service, or node/NAME. Alone: the id of a request that was made, from its answer's x-request-id or the
    /// access log
    #[arg(value_name = "SOURCE|REQUEST-ID")]
    source: String,
    /// Which service
    #[arg(value_name = "DEST")]
    destination: Option<ServiceName>,
    /// The method of the request; without it, the call is a connection whose content nobody knows
    #[arg(value_name = "METHOD", requires = "path")]
    method: Option<String>,
    /// Its path, with or without a query
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// A header field of the request: 'NAME: VALUE' (repeat)
    #[arg(short = 'H', long = "header", value_name = "FIELD", requires = "method", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Which port of the service, where it has several
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// As the proxy of this node decides [default: one where the caller runs]
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| "expected 'NAME: VALUE'".to_owned())?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Asks, and prints the answer. A call that does not go through is a finding.
///
/// # Errors
/// When the control plane cannot be reached or the question is none.
pub(crate) async fn run(args: WhyArgs, client: &Client) -> anyhow::Result<Exit> {
    let WhyArgs { source, destination, method, path, headers, port, node, output: form } = args;
    let Some(destination) = destination else { return request::run(&source, client, form).await };
    let source: Subject = source.parse().map_err(|error| refuse(Exit::Usage, format!("{error}")))?;
    let request = method.zip(path).map(|(method, path)| {
        let method = method.to_ascii_uppercase();
        WhyHead { method, path, headers }
    });
    let question = WhyRequest { source, node, destination, port, request };
    let why = client.why(&question).await?;
    let hint = match (&why.node, why.source.service()) {
        (None, Some(name)) => {
            similar::hint(name, client.view().await?.services.iter().map(|known| &known.name))
        }
        (Some(_) | None, _) => String::new(),
    };
    match form {
        Form::Json => output::json(&why)?,
        Form::Text => output::write(&page(&why, &hint, output::colour(&std::io::stdout())))?,
    }
    Ok(if why.passes { Exit::Done } else { Exit::Refused })
}

/// `hint` says which service may have been meant by a caller that runs nowhere.
fn page(why: &Why, hint: &str, colour: bool) -> String {
    let head = |title: &str| Tone::Strong.paint(&format!("{title:<11}"), colour);
    let asked = why
        .request
        .as_ref()
        .map_or_else(|| "a connection".to_owned(), |request| format!("{} {}", request.method, request.path));
    let mut text = format!("{}{} -> {}: {asked}\n", head("call"), why.source, why.destination);
    let seen = match &why.node {
        Some(node) => format!("as {node} decides, by revision {}", why.revision),
        None => {
            format!(
                "as any node would decide, by revision {}: {} runs nowhere{hint}",
                why.revision, why.source
            )
        }
    };
    _ = writeln!(text, "{}{seen}", head(""));
    match &why.route {
        None if why.request.is_none() => {}
        None => _ = writeln!(text, "{}none is attached to {}", head("route"), why.destination),
        Some(route) => {
            let rule = route.rule.as_deref().unwrap_or("no rule takes it");
            let object = route.object.as_ref().map(|object| format!("  ({object})")).unwrap_or_default();
            _ = writeln!(text, "{}{rule}{object}", head("route"));
            let written = route.written.as_ref().and_then(|written| output::yaml_text(written).ok());
            written.iter().flat_map(|text| text.lines()).for_each(|line| {
                _ = writeln!(text, "{}  {}", head(""), Tone::Dim.paint(line, colour));
            });
        }
    }
    for backend in &why.backends {
        text.push_str(&of_backend(why, backend, colour));
    }
    let tone = if why.passes { Tone::Good } else { Tone::Bad };
    _ = writeln!(text, "{}{}", head("outcome"), tone.paint(&why.outcome, colour));
    text
}

fn of_backend(why: &Why, backend: &WhyBackend, colour: bool) -> String {
    let head = |title: &str| Tone::Strong.paint(&format!("{title:<11}"), colour);
    let mut text = format!("{}{}  {:.1} %\n", head("backend"), backend.service, backend.share * 100.0);
    if let (Some(sent), Some(asked)) = (&backend.request, &why.request)
        && (sent.path != asked.path || sent.headers.len() != asked.headers.len())
    {
        let fields = sent.headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let fields = fields.collect::<Vec<_>>().join(", ");
        _ = writeln!(text, "{}  gets {} {}  {fields}", head(""), sent.method, sent.path);
    }
    let traffic = &backend.traffic;
    let said = traffic.object.as_deref().unwrap_or("the defaults");
    let limit = |ms: Option<u64>| ms.map_or_else(|| "no limit".to_owned(), |ms| format!("{ms} ms"));
    _ = writeln!(
        text,
        "{}{said}: request {}, attempt {}, {} retries",
        head("traffic"),
        limit(traffic.request_timeout_ms),
        limit(traffic.attempt_timeout_ms),
        traffic.retries
    );
    _ = writeln!(text, "{}{}", head("balancing"), traffic.balancing);
    let mut table = Table::new(&["node", "address", ">port", "zone", ">weight", "state"]);
    backend.endpoints.iter().for_each(|at| table.row(row(at)));
    for line in table.render(None, colour).lines().skip(usize::from(backend.endpoints.is_empty())) {
        _ = writeln!(text, "{}  {line}", head(""));
    }
    let intention = &backend.intention;
    let (tone, word) = if intention.allowed { (Tone::Good, "allowed") } else { (Tone::Bad, "refused") };
    let audit = intention.audit.as_ref().map(|rule| format!("; were it enforced, {rule} would refuse it"));
    let audit = audit.unwrap_or_default();
    _ = writeln!(text, "{}{} by {}{audit}", head("intention"), tone.paint(word, colour), intention.by);
    text
}

fn row(at: &WhyEndpoint) -> [Cell; 6] {
    let (state, tone) = match (at.standing, &at.avoided) {
        (_, Some(reason)) => (format!("avoided: {reason}"), Tone::Bad),
        (Standing::Ready, None) => ("ready".to_owned(), Tone::Good),
        (Standing::Suspect, None) => ("suspect: a last resort".to_owned(), Tone::Warning),
        (Standing::Unhealthy, None) => ("unhealthy: a last resort".to_owned(), Tone::Warning),
        (Standing::Draining, None) => ("draining: a last resort".to_owned(), Tone::Warning),
    };
    let zone = at.zone.as_ref().map(|zone| format!("{zone}{}", if at.near { " (own)" } else { "" }));
    [
        at.node.to_string().into(),
        at.addr.to_string().into(),
        at.port.to_string().into(),
        zone.unwrap_or_default().into(),
        at.weight.to_string().into(),
        Cell::new(state, tone),
    ]
}
