//! Calls that have ended: what became of one, and how they end. Asked of the proxies, for control knows sums only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::{Instant, timeout_at};

use crate::api::endpoint::Right;
use crate::api::inquiry::{Ask, Memory, RequestTrace, Seen, Shown, Told, in_order};
use crate::control::http::access::Caller;
use crate::control::http::answer::{Read, Refused};
use crate::control::http::stream::{self, Gate, Source};
use crate::control::inquiries::{INQUIRIES_MAX, Question};
use crate::control::plane::Plane;
use crate::model::call::{Answered, CallFilter};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::Side;

/// Proxies report once a second, and answer then.
const ANSWERS_TIME: Duration = Duration::from_secs(3);
/// A proxy that did not report for so long is not there to be asked, milliseconds.
const PRESENT_MS: u64 = 10_000;
/// Longest name of a request.
const NAME_BYTES_MAX: usize = 128;
/// Calls a second from each proxy: when nothing is said, and at most.
const PER_SECOND: u32 = 100;
const PER_SECOND_MAX: u32 = 1_000;

fn ask(plane: &Plane, ask: Ask) -> Result<Question, Refused> {
    plane.inquiries.ask(ask).ok_or_else(|| {
        let detail = format!("{INQUIRIES_MAX} others ask the proxies already: try again when one has ended");
        Refused::new(StatusCode::TOO_MANY_REQUESTS, detail)
    })
}

/// Asks every proxy that is here what it remembers under a name.
pub(crate) async fn request(
    State(plane): State<Arc<Plane>>,
    Path(name): Path<String>,
) -> Result<Json<RequestTrace>, Refused> {
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = format!("no request is called so: its id is 1 to {NAME_BYTES_MAX} printable characters");
        return Err(Refused::new(StatusCode::BAD_REQUEST, detail));
    }
    let mut waited: BTreeSet<NodeName> = plane.collector.present(PRESENT_MS).into_iter().collect();
    let mut trace = RequestTrace { calls: Vec::new(), asked: Vec::new(), silent: Vec::new() };
    let mut question = ask(&plane, Ask::Request(name))?;
    let deadline = Instant::now() + ANSWERS_TIME;
    while !waited.is_empty() {
        let Ok(Some((node, told))) = timeout_at(deadline, question.next()).await else { break };
        if !waited.remove(&node) {
            continue;
        }
        trace.calls.extend(told.calls.into_iter().map(|call| Seen { by: node.clone(), call }));
        trace.asked.push(Memory { node, since_ms: told.forgotten_ms.max(told.started_ms) });
    }
    trace.silent.extend(waited);
    trace.asked.sort_by(|a, b| a.node.cmp(&b.node));
    trace.calls = in_order(trace.calls);
    Ok(Json(trace))
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CallsQuery {
    source: Option<Subject>,
    service: Option<ServiceName>,
    side: Option<Side>,
    status: Option<Answered>,
    method: Option<String>,
    path: Option<String>,
    slower_ms: Option<u64>,
    per_second: Option<u32>,
}

/// Calls, as proxies tell of them.
struct Calls(Question);

impl Source for Calls {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (by, told) = self.0.next().await?;
            let lines = lines(&by, told);
            if !lines.is_empty() {
                return Some(lines.into());
            }
        }
    }
}

fn lines(by: &NodeName, told: Told) -> Vec<u8> {
    let missed = (told.missed > 0).then_some(Shown::Missed(told.missed));
    let calls = told.calls.into_iter().map(|call| Shown::Call(Box::new(Seen { by: by.clone(), call })));
    let mut lines = Vec::new();
    for shown in calls.chain(missed) {
        if let Ok(line) = serde_json::to_vec(&shown) {
            lines.extend(line);
            lines.push(b'\n');
        }
    }
    lines
}

/// Shows calls as they end.
pub(crate) async fn follow(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<CallsQuery>,
) -> Result<Response, Refused> {
    let CallsQuery { source, service, side, status, method, path, slower_ms, per_second } = query;
    let filter = CallFilter { source, service, side, status, method, path, slower_ms };
    let per_second = per_second.unwrap_or(PER_SECOND).clamp(1, PER_SECOND_MAX);
    let question = ask(&plane, Ask::Calls { filter, per_second })?;
    Ok(stream::answer(Calls(question), Gate::new(&plane, caller, Right::Administrator)))
}

/// Takes what a proxy answers.
pub(crate) async fn answer(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<u64>,
    Read(told): Read<Told>,
) -> Result<StatusCode, Refused> {
    let node = caller.node()?;
    plane.fleet.hear(node);
    let taken = plane.inquiries.answer(id, node, told);
    taken.map(|()| StatusCode::NO_CONTENT).map_err(|_| Refused::new(StatusCode::GONE, "nobody asks any more"))
}
