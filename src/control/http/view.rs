//! The mesh as consoles, scripts and checks see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use data_encoding::{BASE64, HEXLOWER};
use tokio::time::{Interval, MissedTickBehavior};

use crate::api::endpoint::Right;
use crate::api::why::{Why, WhyRequest};
use crate::api::wire::{AuthorityCertificate, AuthorityInfo, Status};
use crate::control::http::access::Caller;
use crate::control::http::answer::{Read, Refused};
use crate::control::http::fleet::WatchQuery;
use crate::control::http::stream::{self, Gate, Source};
use crate::control::plane::Plane;
use crate::control::why;
use crate::identity::certificate::{Certificate, sha256};
use crate::model::endpoint::{Catalog, Reach};
use crate::model::identity::Subject;
use crate::net::clock;

/// Time between two views of a stream.
const VIEW_EVERY: Duration = Duration::from_secs(1);

/// A view a second.
struct Views {
    plane: Arc<Plane>,
    ticks: Interval,
}

impl Source for Views {
    async fn next(&mut self) -> Option<Bytes> {
        self.ticks.tick().await;
        Some(self.plane.view_line())
    }
}

pub(crate) async fn view(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<WatchQuery>,
) -> Response {
    if !query.watch {
        return ([(CONTENT_TYPE, "application/json")], plane.view_line()).into_response();
    }
    let mut ticks = tokio::time::interval(VIEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let views = Views { plane: Arc::clone(&plane), ticks };
    stream::answer(views, Gate::new(&plane, caller, Right::Reader))
}

pub(crate) async fn status(State(plane): State<Arc<Plane>>) -> Json<Status> {
    Json(Status {
        mesh: plane.trust_domain.to_string(),
        node: plane.node.clone(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        revision: plane.store.state().policy_revision(),
        now_ms: clock::wall_ms(),
        root_not_after_ms: plane.authority.root_not_after_ms(),
        intermediate_not_after_ms: plane.authority.intermediate_not_after_ms(),
    })
}

pub(crate) async fn authority(State(plane): State<Arc<Plane>>) -> Result<Json<AuthorityInfo>, Refused> {
    let signer = |der: Vec<u8>| {
        let leaf = Certificate::parse(&der).map(|certificate| certificate.leaf);
        let leaf = leaf.map_err(|error| {
            Refused::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("a certificate that signs is unreadable: {error}"),
            )
        })?;
        Ok::<_, Refused>(AuthorityCertificate {
            fingerprint: HEXLOWER.encode(&sha256(&der)),
            not_before_ms: leaf.not_before_ms,
            not_after_ms: leaf.not_after_ms,
            certificate: BASE64.encode(&der),
        })
    };
    let (state, now_ms) = (plane.store.state(), clock::wall_ms());
    let mut valid = BTreeMap::new();
    for issuance in state.issued().values().filter(|issuance| issuance.not_after_ms > now_ms) {
        let kind = match issuance.subject {
            Subject::Control(_) => "control",
            Subject::Node(_) => "node",
            Subject::Operator(_) => "operator",
            Subject::Service(_) => "service",
        };
        *valid.entry(kind.to_owned()).or_default() += 1;
    }
    Ok(Json(AuthorityInfo {
        mesh: plane.trust_domain.to_string(),
        root: signer(plane.authority.root())?,
        has_root_key: plane.authority.has_root_key(),
        intermediate: signer(plane.authority.intermediate())?,
        valid,
        banned: state.banned().keys().cloned().collect(),
    }))
}

pub(crate) async fn catalog(State(plane): State<Arc<Plane>>) -> Json<Catalog> {
    let catalog = Arc::clone(&plane.catalog.borrow());
    Json(catalog.as_ref().clone())
}

pub(crate) async fn reach(State(plane): State<Arc<Plane>>) -> Result<Json<Reach>, Refused> {
    let found = plane.reach().await.ok_or_else(|| {
        let detail = "gossip could not find out in time; the log of the control plane says more";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    Ok(Json(found.as_ref().clone()))
}

pub(crate) async fn why(
    State(plane): State<Arc<Plane>>,
    Read(question): Read<WhyRequest>,
) -> Result<Json<Why>, Refused> {
    let answered = tokio::task::spawn_blocking(move || why::why(&plane, question)).await;
    let interrupted = |_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the question was interrupted");
    let answered = answered.map_err(interrupted)?;
    answered.map(Json).map_err(|reason| Refused::new(StatusCode::BAD_REQUEST, reason))
}
