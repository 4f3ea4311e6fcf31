//! The proxy's own API, on the loopback address and without authentication: health, metrics, configuration, its view of
//! the mesh, the filter of its log.
//!
//! It belongs on a runtime of its own, so that it answers while the data plane is busy.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::host::HostStatus;
use crate::api::problem::Problem;
use crate::logic::metric::view::ViewInput;
use crate::model::endpoint::Catalog;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::model::service::LocalService;
use crate::model::snapshot::Snapshot;
use crate::model::view::MeshView;
use crate::net::owner::Inquiry;
use crate::net::{clock, task};
use crate::proxy::reporter::{Local, Sources};
use crate::proxy::services::Services;
use crate::telemetry::access::AccessLog;
use crate::telemetry::dns::Counts;
use crate::telemetry::log::{FILTER_BYTES_MAX, LogHandle};
use crate::telemetry::metric::{Process, Registry};
use crate::telemetry::prometheus::{Exposition, render};
use crate::telemetry::{process, scrape};

pub use crate::api::host::Unready;

/// How often a watched view is sent.
const VIEW_EVERY: Duration = Duration::from_secs(1);
/// A refusal in words is no longer.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// For answers under way to end when the proxy does.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Finds out how the host stands.
pub type Examine = Box<dyn Fn(Vec<Unready>) -> BoxFuture<'static, Arc<HostStatus>> + Send + Sync>;

/// What the admin API tells of.
pub struct AdminHandles {
    /// What was counted.
    pub registry: Arc<Registry>,
    /// The proxy's own status.
    pub sources: Arc<Sources>,
    /// The proxy's own view of traffic.
    pub local: Arc<Local>,
    /// What gossip knows.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// The snapshot in force; `None` before the first.
    pub snapshot: Box<dyn Fn() -> Option<Arc<Snapshot>> + Send + Sync>,
    /// What is missing before traffic would be served; empty when it is.
    pub unready: Box<dyn Fn() -> Vec<Unready> + Send + Sync>,
    /// The tables that requests read, for people. Without keys and tokens.
    pub tables: Box<dyn Fn() -> Value + Send + Sync>,
    /// The filter of the log; `None` where the process has no log of its own.
    pub log: Option<LogHandle>,
    /// The access log; `None` when it is off.
    pub access: Option<Arc<AccessLog>>,
    /// What the name server was asked.
    pub questions: Arc<Counts>,
    /// The services of this host; `None` where they cannot be changed.
    pub services: Option<Arc<Services>>,
    /// Finds out how the host stands, besides why it would not serve; `None` where nobody does.
    pub examine: Option<Examine>,
}

impl fmt::Debug for AdminHandles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminHandles").field("sources", &self.sources).finish_non_exhaustive()
    }
}

type Handles = State<Arc<AdminHandles>>;

/// Serves until `shutdown`; answers that go on for longer than [`LAST_ANSWERS`] are cut.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    handles: AdminHandles,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let local = listener.local_addr()?;
    let app = router(Arc::new(handles)).layer(Extension(Listening(local)));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let over = watch::Sender::new(false);
    let mut told = over.subscribe();
    let told = async move { drop(told.wait_for(|over| *over).await) };
    let ending = async {
        shutdown.await;
        over.send_replace(true);
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = async { axum::serve(listener, app).with_graceful_shutdown(told).await } => served,
        () = ending => Ok(()),
    }
}

fn router(handles: Arc<AdminHandles>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/config", get(config))
        .route("/view", get(view))
        .route("/host", get(host))
        .route("/log", get(log).put(set_log))
        .route("/services", get(services).put(add_service))
        .route("/services/{name}", delete(remove_service))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(FILTER_BYTES_MAX))
        .layer(middleware::map_response(end_line))
        .with_state(handles)
}

async fn no_such_path(uri: Uri) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("there is nothing at {}; GET / says what there is\n", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> (StatusCode, String) {
    let words = format!("{method} is not for {}; GET / says what there is\n", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, words)
}

/// Ends a refusal in plain text with a line feed: those that extractors make have none, and terminals want one.
async fn end_line(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if response.status().is_success() || !is_text {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let words = axum::body::to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    let end = if words.ends_with(b"\n") { &b""[..] } else { b"\n" };
    Response::from_parts(parts, Body::from([&words, end].concat()))
}

async fn index() -> &'static str {
    "mesh proxy: GET /healthz /readyz /metrics /config /view /view?watch=true /host /log /services, PUT /log /services, DELETE /services/NAME\n"
}

async fn readyz(State(handles): Handles) -> Response {
    let reasons = (handles.unready)();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(handles): Handles, asked: HeaderMap) -> Response {
    let sources = &handles.sources;
    let status = sources.status();
    let text = render(&Exposition {
        edges: &handles.registry.totals(),
        process: Process {
            build: &sources.build,
            started_ms: sources.started_ms,
            usage: process::usage(),
            series_overflows: handles.registry.overflows(),
            unrouted: handles.registry.unrouted(),
            access_dropped: handles.access.as_ref().map_or(0, |access| access.dropped()),
            panics: task::panics(),
            questions: handles.questions.questions(),
        },
        proxies: &[(sources.node.clone(), status)],
    });
    scrape::answer(&asked, text).map(Body::from)
}

async fn config(State(handles): Handles) -> Response {
    let snapshot = (handles.snapshot)().map(|snapshot| redacted(&snapshot));
    let catalog = handles.catalog.borrow().clone();
    let endpoints: std::collections::BTreeMap<_, _> =
        catalog.by_service().into_iter().map(|(service, at)| (service.to_string(), at)).collect();
    let body = json!({
        "node": handles.sources.node,
        "snapshot": snapshot,
        "tables": (handles.tables)(),
        "endpoints": endpoints,
        "members": catalog.members,
        "identities": (handles.sources.identities)(),
        "ejected": (handles.sources.ejected)(),
    });
    Json(body).into_response()
}

/// The snapshot as people may see it: of the gossip keys, the numbers only.
fn redacted(snapshot: &Snapshot) -> Value {
    let mut shown = serde_json::to_value(snapshot).unwrap_or(Value::Null);
    if let Some(ring) = shown.pointer_mut("/gossip/ring") {
        *ring = snapshot.gossip.ring.iter().map(|(id, _)| json!(id)).collect();
    }
    shown
}

#[derive(Debug, Deserialize)]
struct ViewQuery {
    #[serde(default)]
    watch: bool,
}

async fn view(State(handles): Handles, Query(query): Query<ViewQuery>) -> Response {
    let Some(first) = mesh_view(&handles) else {
        let body = json!({ "ready": false, "reasons": (handles.unready)() });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    };
    if !query.watch {
        return Json(first).into_response();
    }
    let mut ticks = tokio::time::interval(VIEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let lines = futures_util::stream::unfold((handles, ticks), async |(handles, mut ticks)| {
        ticks.tick().await;
        // An empty line is a heartbeat: the reader knows that we are there.
        let mut line =
            mesh_view(&handles).and_then(|view| serde_json::to_vec(&view).ok()).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), (handles, ticks)))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// Returns this proxy's view; `None` before the first snapshot, when not even the mesh is known.
fn mesh_view(handles: &AdminHandles) -> Option<MeshView> {
    let snapshot = (handles.snapshot)()?;
    let catalog = handles.catalog.borrow().clone();
    Some(handles.local.view(ViewInput {
        observer: Subject::Node(handles.sources.node.clone()),
        mesh: &snapshot.trust_domain,
        now_ms: clock::wall_ms(),
        revision: snapshot.revision,
        catalog: &catalog,
        fleet: std::collections::BTreeMap::new(),
        resources: &snapshot.resources,
        events: Vec::new(),
    }))
}

async fn host(State(handles): Handles) -> Result<Json<Arc<HostStatus>>, (StatusCode, &'static str)> {
    let nobody = (StatusCode::NOT_FOUND, "nobody examines this host\n");
    let examine = handles.examine.as_ref().ok_or(nobody)?;
    Ok(Json(examine((handles.unready)()).await))
}

async fn log(State(handles): Handles) -> Response {
    match &handles.log {
        Some(log) => format!("{}\n", log.filter()).into_response(),
        None => (StatusCode::NOT_FOUND, "this process does not own its log\n").into_response(),
    }
}

async fn set_log(State(handles): Handles, filter: String) -> Response {
    let Some(log) = &handles.log else {
        return (StatusCode::NOT_FOUND, "this process does not own its log\n").into_response();
    };
    match log.set_filter(&filter) {
        Ok(()) => {
            tracing::info!(filter = log.filter(), "log filter changed");
            format!("{}\n", log.filter()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// Where the admin API listens.
#[derive(Debug, Clone, Copy)]
struct Listening(SocketAddr);

async fn services(State(handles): Handles) -> Response {
    let Some(services) = &handles.services else { return answer(Err(fixed())) };
    let held = (handles.sources.identities)();
    let is_held =
        |name: &ServiceName| held.iter().any(|identity| identity.subject == Subject::Service(name.clone()));
    Json(services.list(is_held)).into_response()
}

async fn add_service(
    State(handles): Handles,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(listening): Extension<Listening>,
    Json(service): Json<LocalService>,
) -> Response {
    let label = service.to_string();
    let changed = change(&handles, (from, listening), move |services| services.add(service)).await;
    if changed.is_ok() {
        tracing::info!(service = label, "service added");
    }
    answer(changed)
}

#[derive(Debug, Deserialize)]
struct RemoveQuery {
    port: Option<u16>,
}

async fn remove_service(
    State(handles): Handles,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(listening): Extension<Listening>,
    (Path(name), Query(query)): (Path<ServiceName>, Query<RemoveQuery>),
) -> Response {
    let label = name.to_string();
    let changed =
        change(&handles, (from, listening), move |services| services.remove(&name, query.port)).await;
    if changed.is_ok() {
        tracing::info!(service = label, "service removed");
    }
    answer(changed)
}

/// Changes the services for a caller who may: root, or whoever the proxy runs as. The identity of a service is not to be
/// had by anybody who can reach a port.
async fn change(
    handles: &AdminHandles,
    (from, Listening(listening)): (SocketAddr, Listening),
    act: impl FnOnce(&Services) -> Result<(), Problem> + Send + 'static,
) -> Result<(), Problem> {
    let services = handles.services.clone().ok_or_else(fixed)?;
    let changing = tokio::task::spawn_blocking(move || {
        let to = SocketAddr::new(
            if listening.ip().is_unspecified() { from.ip() } else { listening.ip() },
            listening.port(),
        );
        let holder = Inquiry::open().and_then(|mut inquiry| inquiry.holder(from, to)).ok().flatten();
        let own = rustix::process::geteuid().as_raw();
        match holder {
            Some(holder) if holder.uid == 0 || holder.uid == own => act(&services),
            Some(_) | None => Err(Problem {
                title: "Forbidden".to_owned(),
                status: 403,
                detail: "only root, and the user that the proxy runs as, change services on this host: put 'sudo' before 'mesh'".to_owned(),
                errors: Vec::new(),
            }),
        }
    });
    changing.await.unwrap_or_else(|_| Err(fixed()))
}

fn fixed() -> Problem {
    Problem {
        title: "Not Found".to_owned(),
        status: 404,
        detail: "the services of this proxy cannot be changed".to_owned(),
        errors: Vec::new(),
    }
}

fn answer(changed: Result<(), Problem>) -> Response {
    match changed {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
        }
    }
}
