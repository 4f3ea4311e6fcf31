//! `mesh why REQUEST-ID`: what became of one request, as the proxies of both sides saw it.

use std::fmt::Write as _;

use crate::api::client::Client;
use crate::api::inquiry::{RequestTrace, Seen};
use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Tone};
use crate::model::view::{EdgeProtocol, Side};
use crate::net::clock;

/// How the answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// All of it as one JSON object.
    Json,
}

/// Asks the proxies, and prints what they remember. A call that failed is a finding.
///
/// # Errors
/// When the control plane cannot be reached, and when no proxy remembers it.
pub(crate) async fn run(id: &str, client: &Client, form: Form) -> anyhow::Result<Exit> {
    let trace = client.request(id).await?;
    if trace.calls.is_empty() {
        return Err(refuse(Exit::NotFound, forgotten(id, &trace)));
    }
    match form {
        Form::Json => output::json(&trace)?,
        Form::Text => output::write(&page(id, &trace, output::colour(&std::io::stdout())))?,
    }
    if !trace.silent.is_empty() {
        output::warn(&format!("{} did not answer: what it saw of the request is missing", silent(&trace)));
    }
    let failed = trace.calls.iter().any(|seen| seen.call.has_failed());
    Ok(if failed { Exit::Refused } else { Exit::Done })
}

fn silent(trace: &RequestTrace) -> String {
    trace.silent.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Says why nobody knows the request.
fn forgotten(id: &str, trace: &RequestTrace) -> String {
    let mut text = format!("no proxy remembers a request with the id '{id}'");
    match trace.asked.iter().max_by_key(|memory| memory.since_ms) {
        None if trace.silent.is_empty() => text.push_str(", because no proxy has reported lately"),
        None => {}
        Some(shortest) => {
            _ = write!(
                text,
                ", because {} asked, and each remembers the last 512 requests of each worker that failed, were refused, tried \
             again or slow, and the last 512 others, of those with an x-request-id of their own or one that an answer of \
             the mesh told: {} reaches back the least, to {}",
                if trace.asked.len() == 1 {
                    "one was".to_owned()
                } else {
                    format!("{} were", trace.asked.len())
                },
                shortest.node,
                clock::rfc3339(shortest.since_ms),
            );
        }
    }
    if !trace.silent.is_empty() {
        _ = write!(text, "; {} did not answer", silent(trace));
    }
    text
}

fn page(id: &str, trace: &RequestTrace, colour: bool) -> String {
    let head = |title: &str| Tone::Strong.paint(&format!("{title:<11}"), colour);
    let mut text = format!("{}{id}\n", head("request"));
    for seen in &trace.calls {
        text.push('\n');
        text.push_str(&of_call(seen, colour));
    }
    text
}

fn of_call(seen: &Seen, colour: bool) -> String {
    let call = &seen.call;
    let head = |title: &str| Tone::Strong.paint(&format!("{title:<11}"), colour);
    let destination = call.destination.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let asked = match call.protocol {
        EdgeProtocol::Tcp => "a connection".to_owned(),
        EdgeProtocol::Http | EdgeProtocol::Grpc => format!("{} {}", call.method, call.path),
    };
    let mut text = format!("{}{} -> {destination}: {asked}\n", head("call"), call.source);
    let side = match call.side {
        Side::Outbound => "the caller's proxy",
        Side::Inbound => "the called proxy",
    };
    _ = writeln!(text, "{}{}, {side}, at {}", head("seen by"), seen.by, output::moment(call.at_ms));
    if let Some(id) = &call.trace_id {
        _ = writeln!(text, "{}{id}", head("trace"));
    }
    if !call.route.is_empty() {
        _ = writeln!(text, "{}{}", head("route"), call.route);
    }
    for (number, tried) in (1..).zip(&call.tried) {
        let (node, ended, took) = (&tried.node, &tried.ended, output::micros(tried.took_us));
        _ = writeln!(text, "{}{number}: {node}: {ended} after {took}", head("attempt"));
    }
    match (&call.node, call.side) {
        (Some(node), Side::Outbound) => {
            _ = writeln!(text, "{}{}: {node}", head("attempt"), u64::from(call.retries) + 1);
        }
        (None, Side::Outbound) => _ = writeln!(text, "{}no endpoint was tried", head("attempt")),
        (_, Side::Inbound) => {}
    }
    if !call.rule.is_empty() {
        let (tone, word) =
            if call.audited { (Tone::Warning, "would be refused") } else { (Tone::Bad, "refused") };
        _ = writeln!(text, "{}{} by {}", head("intention"), tone.paint(word, colour), call.rule);
    }
    let tone = if call.has_failed() { Tone::Bad } else { Tone::Good };
    let times =
        format!("after {}, over after {}", output::micros(call.latency_us), output::micros(call.duration_us));
    _ = writeln!(text, "{}{} {times}", head("outcome"), tone.paint(&outcome(seen), colour));
    _ = writeln!(text, "{}{} sent, {} received", head("bytes"), call.bytes_sent, call.bytes_received);
    text
}

/// Returns how a call ended, in a few words: a status, and why a proxy made it.
pub(crate) fn outcome(seen: &Seen) -> String {
    let call = &seen.call;
    let status = match (call.protocol, call.status, call.grpc_status) {
        (EdgeProtocol::Tcp, _, _) => "closed".to_owned(),
        (_, 0, _) => "no answer".to_owned(),
        (_, status, None) => status.to_string(),
        (_, status, Some(grpc)) => format!("{status} grpc {grpc}"),
    };
    match &call.reason {
        None => status,
        Some(reason) => format!("{status} {reason}"),
    }
}
