//! `mesh tap`: calls, as they end. Decided at the end, so that it can be asked for how they ended.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;

use crate::api::client::{Client, encoded};
use crate::api::inquiry::{Seen, Shown};
use crate::cli::exit::Exit;
use crate::cli::output::{self, Tone};
use crate::cli::request::outcome;
use crate::logic::duration;
use crate::logic::naming::similar;
use crate::model::call::Answered;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::model::view::{EdgeProtocol, Side};

/// Flags of `mesh tap`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TapArgs {
    /// Only calls to this service
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,
    /// Only calls of this caller: a service, or node/NAME
    #[arg(long, value_name = "SOURCE")]
    source: Option<Subject>,
    /// Only those that ended so: 404, 5xx, failed or denied
    #[arg(long, value_name = "STATUS")]
    status: Option<Answered>,
    /// Only those with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only those whose path begins so
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Only those that took so long to be answered at least: 500ms, 2s
    #[arg(long, value_name = "TIME", value_parser = time)]
    slower: Option<Duration>,
    /// As the caller's proxy saw them, the called one, or both
    #[arg(long, value_enum, default_value = "outbound")]
    side: Which,
    /// So many a second from each proxy at most
    #[arg(long, value_name = "CALLS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// End after so many
    #[arg(short = 'c', long, value_name = "CALLS")]
    count: Option<u64>,
    /// End after this time: 30s, 5m
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    period: Option<Duration>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

/// Which proxies tell of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// The caller's.
    Outbound,
    /// The called service's.
    Inbound,
    /// Each once.
    Both,
}

/// How calls are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A line for each.
    Text,
    /// A JSON object for each, on a line.
    Json,
}

fn time(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("'{text}' is no time: expected 500ms, 2s or 5m"))
}

/// Prints calls as they end, until it is interrupted, the time is over or there were enough.
///
/// # Errors
/// When the control plane cannot be reached, or the stream breaks off.
pub(crate) async fn run(args: TapArgs, client: &Client) -> anyhow::Result<Exit> {
    let shown = client.calls(&query(&args)).await?;
    let until = async {
        match args.period {
            Some(period) => tokio::time::sleep(period).await,
            None => std::future::pending().await,
        }
    };
    output::note("calls appear as they end, about a second after this command began");
    if let Some(service) = &args.service {
        say_if_missing(service, client).await?;
    }
    let mut shown = shown.take_until(Box::pin(until));
    let colour = output::colour(&std::io::stdout());
    let (mut count, mut missed) = (0, 0);
    while let Some(line) = shown.next().await {
        match line? {
            Shown::Call(seen) => {
                match args.output {
                    Form::Json => output::line(&serde_json::to_string(&seen)?)?,
                    Form::Text => output::line(&row(&seen, colour))?,
                }
                count += 1;
                if args.count.is_some_and(|most| count >= most) {
                    break;
                }
            }
            Shown::Missed(calls) => missed += calls,
        }
    }
    if missed > 0 {
        output::note(&format!("{missed} more were not shown: see --rate, or ask for fewer"));
    }
    if count == 0 {
        output::note("no call ended that was asked for");
    }
    Ok(Exit::Done)
}

/// Says that a service is not there, as calls to it may never be seen, and what may have been meant.
async fn say_if_missing(service: &ServiceName, client: &Client) -> anyhow::Result<()> {
    let view = client.view().await?;
    let known = || view.services.iter().filter(|known| !known.instances.is_empty()).map(|known| &known.name);
    if !known().any(|known| known == service) {
        let hint = similar::hint(service, known());
        output::note(&format!("nobody runs {service}: what is called in vain is shown too{hint}"));
    }
    Ok(())
}

fn query(args: &TapArgs) -> String {
    let side = match args.side {
        Which::Outbound => Some(Side::Outbound),
        Which::Inbound => Some(Side::Inbound),
        Which::Both => None,
    };
    let side = side.map(|side| match side {
        Side::Outbound => "outbound".to_owned(),
        Side::Inbound => "inbound".to_owned(),
    });
    let said = [
        ("service", args.service.as_ref().map(ToString::to_string)),
        ("source", args.source.as_ref().map(ToString::to_string)),
        ("side", side),
        ("status", args.status.map(String::from)),
        ("method", args.method.clone()),
        ("path", args.path.clone()),
        ("slowerMs", args.slower.map(|slower| slower.as_millis().to_string())),
        ("perSecond", Some(args.rate.to_string())),
    ];
    let each = said.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
    each.collect::<Vec<_>>().join("&")
}

fn row(seen: &Seen, colour: bool) -> String {
    let call = &seen.call;
    let destination = call.destination.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let asked = match call.protocol {
        EdgeProtocol::Tcp => "connection".to_owned(),
        EdgeProtocol::Http | EdgeProtocol::Grpc => format!("{} {}", call.method, call.path),
    };
    let at = match call.side {
        Side::Outbound => call.node.as_ref().map(|node| format!(" @{node}")).unwrap_or_default(),
        Side::Inbound => format!(" @{} inbound", seen.by),
    };
    let tone = if call.has_failed() { Tone::Bad } else { Tone::Good };
    let ended = tone.paint(&outcome(seen), colour);
    // Writing to a string cannot fail.
    let mut notes = String::new();
    if call.retries > 0 {
        _ = write!(notes, "  retries {}", call.retries);
    }
    if !call.rule.is_empty() {
        let word = if call.audited { "would be refused by" } else { "refused by" };
        _ = write!(notes, "  {word} {}", call.rule);
    }
    if let Some(id) = &call.request_id {
        _ = write!(notes, "  id {id}");
    }
    if let Some(id) = &call.trace_id {
        _ = write!(notes, "  trace {id}");
    }
    let (when, took) = (output::moment(call.at_ms), output::micros(call.latency_us));
    format!("{when} {} -> {destination}{at}  {asked}  {ended}  {took}{notes}", call.source)
}
