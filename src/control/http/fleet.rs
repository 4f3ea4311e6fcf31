//! What proxies are given and tell, and what is done to nodes.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use crate::api::endpoint::Right;
use crate::api::nodes::Spread;
use crate::api::wire::Ack;
use crate::control::fleet::Stream;
use crate::control::http::access::Caller;
use crate::control::http::answer::{Read, Refused};
use crate::control::http::stream::{self, Gate, Newest, Source};
use crate::control::plane::Plane;
use crate::control::publisher::Published;
use crate::control::timeline;
use crate::logic::metric::report::Report;
use crate::logic::state::Change;
use crate::model::name::NodeName;
use crate::model::view::Severity;

/// Longest reason of a refusal that is kept, characters.
pub(crate) const REASON_CHARS_MAX: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WatchQuery {
    pub(crate) watch: bool,
}

/// Snapshots for one proxy, which counts as connected as long as they flow.
struct Snapshots<S> {
    newest: S,
    _account: Stream,
}

impl<S: Source> Source for Snapshots<S> {
    async fn next(&mut self) -> Option<Bytes> {
        self.newest.next().await
    }
}

pub(crate) async fn snapshot(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<WatchQuery>,
) -> Result<Response, Refused> {
    let node = caller.node()?.clone();
    if !query.watch {
        plane.fleet.hear(&node);
        let line = plane.publisher.newest().line.clone();
        return Ok(([(CONTENT_TYPE, "application/json")], line).into_response());
    }
    let newest = Newest::new(plane.publisher.watch(), |published: &Arc<Published>| published.line.clone());
    let snapshots = Snapshots { newest, _account: plane.fleet.connect(&node) };
    Ok(stream::answer(snapshots, Gate::new(&plane, caller, Right::Node)))
}

pub(crate) async fn acknowledge(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Read(mut ack): Read<Ack>,
) -> Result<StatusCode, Refused> {
    let node = caller.node()?;
    ack.refused = ack.refused.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
    let news = plane.fleet.acknowledge(node, &ack);
    if let (true, Some(reason)) = (news, &ack.refused) {
        let message = format!("refused revision {}: {reason}", ack.revision);
        tracing::warn!(%node, revision = ack.revision, reason, "a proxy refused a revision");
        timeline::note(&plane.collector.events, Severity::Error, "proxy", node, message);
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn report(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Read(report): Read<Report>,
) -> Result<Response, Refused> {
    let node = caller.node()?;
    plane.fleet.hear(node);
    plane.collector.report(node, &report);
    let inquiries = plane.inquiries.open();
    if inquiries.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(inquiries).into_response())
}

pub(crate) fn node_name(text: &str) -> Result<NodeName, Refused> {
    text.parse()
        .map_err(|error: crate::model::name::Error| Refused::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Does something to a node, and waits until the others act on it, for a moment at most.
async fn change(plane: &Plane, change: fn(NodeName) -> Change, name: &str) -> Result<NodeName, Refused> {
    let node = node_name(name)?;
    let committed = plane.submit(change(node.clone())).await?;
    plane.in_force(committed.state.policy_revision(), &node).await;
    Ok(node)
}

/// Says one thing about a node.
pub(crate) async fn mark(
    State(plane): State<Arc<Plane>>,
    Path(name): Path<String>,
    says: fn(NodeName) -> Change,
) -> Result<StatusCode, Refused> {
    change(&plane, says, &name).await.map(|_| StatusCode::NO_CONTENT)
}

/// Bans a node, or takes that back, and tells who has heard of it.
pub(crate) async fn ban(
    State(plane): State<Arc<Plane>>,
    Path(name): Path<String>,
    says: fn(NodeName) -> Change,
) -> Result<Json<Spread>, Refused> {
    let node = node_name(&name)?;
    let committed = plane.submit(says(node.clone())).await?;
    Ok(Json(plane.spread(committed.state.policy_revision(), &node).await))
}

pub(crate) async fn forget(
    State(plane): State<Arc<Plane>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refused> {
    let node = change(&plane, Change::Forget, &name).await?;
    plane.fleet.forget(&node);
    plane.programs.forget(&node);
    Ok(StatusCode::NO_CONTENT)
}
