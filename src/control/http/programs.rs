//! Which program every proxy runs, and having one run this one.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::watch;

use crate::api::endpoint::Right;
use crate::api::program::{Order, OrderRefused, ProgramRow, Programs};
use crate::control::http::access::Caller;
use crate::control::http::answer::{Read, Refused};
use crate::control::http::assets;
use crate::control::http::fleet::{REASON_CHARS_MAX, node_name};
use crate::control::http::stream::{self, Gate, Source};
use crate::control::plane::Plane;
use crate::control::programs::Line;
use crate::control::timeline;
use crate::model::endpoint::Role;
use crate::model::name::NodeName;
use crate::model::view::Severity;

const BUILD: &str = env!("CARGO_PKG_VERSION");
/// Longest name of a version that is kept, characters.
const BUILD_CHARS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
pub(crate) struct RunsQuery {
    #[serde(default)]
    build: String,
    program: String,
}

/// The orders for one proxy.
struct Orders {
    orders: watch::Receiver<Option<Order>>,
    _account: Line,
}

impl Source for Orders {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.orders.changed().await.ok()?;
            let order = self.orders.borrow_and_update().clone();
            if let Some(order) = order {
                let mut line = serde_json::to_vec(&order).ok()?;
                line.push(b'\n');
                return Some(line.into());
            }
        }
    }
}

pub(crate) async fn follow(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Query(runs): Query<RunsQuery>,
) -> Result<Response, Refused> {
    let node = caller.node()?.clone();
    let is_sum = runs.program.len() == 64 && runs.program.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_sum || runs.build.len() > BUILD_CHARS_MAX {
        let detail = "'program' has to be a SHA-256 in hexadecimal, 'build' a version";
        return Err(Refused::new(StatusCode::BAD_REQUEST, detail));
    }
    let RunsQuery { build, program } = runs;
    let message = format!("runs version {build} ({}), as it was told", short(&program));
    let (line, done) = plane.programs.connect(&node, build, program);
    if done {
        timeline::note(&plane.collector.events, Severity::Info, "proxy", &node, message);
    }
    let mut orders = line.orders.clone();
    orders.mark_changed();
    Ok(stream::answer(Orders { orders, _account: line }, Gate::new(&plane, caller, Right::Node)))
}

pub(crate) async fn refuse(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Read(OrderRefused { id, reason }): Read<OrderRefused>,
) -> Result<StatusCode, Refused> {
    let node = caller.node()?;
    let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
    if plane.programs.refuse(node, id, reason.clone()) {
        tracing::warn!(%node, reason, "a proxy keeps its program");
        let message = format!("keeps its program: {reason}");
        timeline::note(&plane.collector.events, Severity::Error, "proxy", node, message);
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn upgrade(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Order>, Refused> {
    let node = node_name(&name)?;
    let sum = assets::own_sum().await?;
    let Some(row) = rows(&plane).into_iter().find(|row| row.node == node) else {
        let detail =
            format!("there is no proxy {node} in this mesh: 'mesh top --view nodes' shows those that are");
        return Err(Refused::new(StatusCode::NOT_FOUND, detail));
    };
    let refused = |detail: String| Refused::new(StatusCode::CONFLICT, detail);
    if row.program.as_deref() == Some(sum) {
        return Err(refused(format!("node {node} runs this program already")));
    }
    let Some(order) = plane.programs.order(&node, sum) else {
        return Err(refused(format!(
            "node {node} cannot be told: it is not connected, or its version does not know how; 'mesh upgrade' on that \
             host does it"
        )));
    };
    let message = format!("is to run version {BUILD} ({}), says {}", short(sum), caller.name());
    tracing::info!(%node, program = sum, by = caller.name(), "a proxy is to run this program");
    timeline::note(&plane.collector.events, Severity::Info, "proxy", &node, message);
    Ok(Json(order))
}

pub(crate) async fn list(State(plane): State<Arc<Plane>>) -> Result<Json<Programs>, Refused> {
    let program = assets::own_sum().await?.to_owned();
    Ok(Json(Programs { build: BUILD.to_owned(), program, proxies: rows(&plane) }))
}

/// Returns every proxy that was let in, sorted by name.
fn rows(plane: &Plane) -> Vec<ProgramRow> {
    let (state, catalog) = (plane.store.state(), Arc::clone(&plane.catalog.borrow()));
    let row = |node: &NodeName| {
        let runs = plane.programs.runs(node);
        let record = catalog.members.get(node).and_then(|member| member.record.as_ref());
        let services = record.map(|record| &record.services);
        let mut services: Vec<_> =
            services.into_iter().flatten().map(|announced| announced.service.clone()).collect();
        services.sort();
        services.dedup();
        let build =
            if runs.program.is_some() { Some(runs.build) } else { record.map(|record| record.build.clone()) };
        ProgramRow {
            node: node.clone(),
            services,
            build: build.unwrap_or_default(),
            program: runs.program,
            order: runs.order,
            refused: runs.refused,
        }
    };
    let proxies = state.nodes().iter().filter(|(_, known)| known.role == Role::Proxy);
    proxies.map(|(node, _)| row(node)).collect()
}

fn short(sum: &str) -> &str {
    sum.get(..12).unwrap_or(sum)
}
