//! Health and metrics, plain HTTP on an address of their own: no secrets, no changes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::control::plane::Plane;
use crate::net::task;
use crate::telemetry::metric::Process;
use crate::telemetry::prometheus::{Exposition, render};
use crate::telemetry::{process, scrape};

/// Builds the router.
pub fn router(plane: &Arc<Plane>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(plane))
}

async fn index() -> &'static str {
    "mesh control: GET /healthz /readyz /metrics; the API is on another address, with TLS\n"
}

/// The process lives as long as its store can be written.
async fn healthz(State(plane): State<Arc<Plane>>) -> Response {
    if plane.store.has_failed() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the store has failed\n").into_response();
    }
    "ok\n".into_response()
}

/// It listens before it answers here at all; what is left is whether it can write, and is not about to stop.
async fn readyz(State(plane): State<Arc<Plane>>) -> Response {
    let mut reasons = Vec::new();
    if plane.store.has_failed() {
        reasons.push("the store has failed");
    }
    if *plane.closing.borrow() {
        reasons.push("stopping");
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(plane): State<Arc<Plane>>, asked: HeaderMap) -> Response {
    let text = render(&Exposition {
        edges: &plane.collector.totals(),
        proxies: &plane.collector.statuses(),
        process: Process {
            build: env!("CARGO_PKG_VERSION"),
            started_ms: plane.started_ms,
            usage: process::usage(),
            series_overflows: 0,
            unrouted: 0,
            access_dropped: 0,
            panics: task::panics(),
            ..Process::default()
        },
    });
    scrape::answer(&asked, text).map(Body::from)
}
