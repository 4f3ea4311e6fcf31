//! The path of a request, from top to bottom: [`outbound`] from a local caller to an endpoint, [`inbound`] from a link to
//! the local service. Each stage is a line, in view of the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, EXPECT, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol as Changed;
use hyper::upgrade::OnUpgrade;

use crate::logic::authorize::{Verdict, authorize};
use crate::logic::request::Head;
use crate::logic::resilience::deadline;
use crate::logic::route::table::{Backend, Rule, Timeouts};
use crate::logic::route::{filter, split};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::service::Protocol;
use crate::model::view::{EdgeProtocol, Side};
use crate::net::patience::Busy;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::body::Body;
use crate::proxy::http::client::Http;
use crate::proxy::http::forward::{self, Answered, Call, Delivery};
use crate::proxy::http::observe::{Observation, Origin, Watch};
use crate::proxy::http::replay::Payload;
use crate::proxy::http::upgrade::{self, Ends};
use crate::proxy::http::{header, reply};
use crate::proxy::tcp::{self, Wish};
use crate::proxy::upstream::Upstream;
use crate::telemetry::metric::EdgeCell;

/// Where a local caller's connection leads.
pub(crate) enum Entry {
    /// To whatever service each request names.
    Named,
    /// To one service.
    Service(ServiceName),
}

/// A local caller's connection.
pub(crate) struct Caller {
    /// Where it leads.
    pub(crate) entry: Entry,
    /// What it is at; `None` for HTTP/2.
    pub(crate) busy: Option<Busy>,
}

/// The other end of a link, as its handshake has proven.
pub(crate) struct Link {
    /// Who calls.
    pub(crate) peer: Arc<Subject>,
    /// From which node.
    pub(crate) node: NodeName,
    /// Which service is called.
    pub(crate) service: ServiceName,
    /// Which instance of it.
    pub(crate) port: u16,
    /// Where its calls are counted, HTTP and gRPC.
    pub(crate) cells: RefCell<[Option<Arc<EdgeCell>>; 2]>,
}

/// What a request wants to become.
struct Change {
    wanted: HeaderValue,
    caller: OnUpgrade,
}

/// Carries one request of a local caller to its service.
pub(crate) async fn outbound(http: &Rc<Http>, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
    let protocol = spoken(&request);
    let origin = Origin {
        side: Side::Outbound,
        source: http.context.shared.locals().source.clone(),
        busy: caller.busy.clone(),
        method: request.method(),
        uri: request.uri(),
    };
    let source = origin.source.clone();
    let watch = Watch::begin(&http.context.ledger, origin, protocol);
    let observation = watch.observation().clone();
    let service = match destination(http, caller, &request) {
        Ok(service) => service,
        Err(failed) => return reply::failure(&failed, Side::Outbound, watch),
    };
    observation.service(&service);
    if request.method() == Method::CONNECT && request.extensions().get::<Changed>().is_none() {
        return connect(http, caller, &service, &source, (request, watch)).await;
    }
    let version = request.version();
    match call(http, request, &service, &source, &observation).await {
        Ok((answered, change)) => give(http, caller, (answered, change), watch, version),
        Err(failed) => {
            if !observation.is_counted() && failed.failure != Failure::UnknownService {
                let rule = observation.known_rule();
                let cell = http.context.ledger.nowhere(&source, &service, rule.as_ref(), protocol);
                observation.counted(cell, None);
            }
            reply::failure(&failed, Side::Outbound, watch)
        }
    }
}

/// Finds the way of one request and sends it there.
async fn call(
    http: &Rc<Http>,
    mut request: Request<Incoming>,
    service: &ServiceName,
    source: &Arc<Subject>,
    observation: &Rc<Observation>,
) -> Result<(Answered, Option<Change>), Failed> {
    let tables = http.context.shared.tables();
    let wanted = tables.upstream(service);
    let wanted = wanted.ok_or_else(|| Failed::new(Failure::UnknownService, service))?;
    let change = change(&mut request);
    let (mut parts, incoming) = request.into_parts();
    prepare(&mut parts);

    let rule = match &wanted.routes {
        None => None,
        Some(routes) => {
            let rule = routes.find(&head(&parts)).ok_or_else(|| Failed::new(Failure::NoRoute, service))?;
            observation.rule(&rule.label);
            filter::on_request(&rule.filters, &mut parts.headers);
            Some(rule)
        }
    };
    let backend = backend(rule, http.context.draw())?;
    let upstream = match backend {
        None => wanted,
        Some(backend) => {
            observation.service(&backend.service);
            filter::on_request(&backend.filters, &mut parts.headers);
            let known = tables.upstream(&backend.service);
            known.ok_or_else(|| Failed::new(Failure::NoBackend, &backend.service))?
        }
    };
    let payload = match &change {
        Some(_) => Payload::Empty,
        None => Payload::new(incoming, observation),
    };
    let mut answered =
        send(http, (source, upstream, rule), (parts, &payload), change.as_ref(), observation).await?;
    let headers = answered.response.headers_mut();
    if let Some(backend) = backend {
        filter::on_response(&backend.filters, headers);
    }
    if let Some(rule) = rule {
        filter::on_response(&rule.filters, headers);
    }
    Ok((answered, change))
}

async fn send(
    http: &Http,
    (source, upstream, rule): (&Arc<Subject>, &Upstream, Option<&Rule>),
    (mut parts, payload): (Parts, &Payload),
    change: Option<&Change>,
    observation: &Rc<Observation>,
) -> Result<Answered, Failed> {
    let timeouts = rule.map_or(Timeouts::default(), |rule| rule.timeouts);
    let patience = match observation.protocol {
        EdgeProtocol::Grpc => {
            parts.headers.get("grpc-timeout").and_then(|value| deadline::grpc_timeout(value.as_bytes()))
        }
        EdgeProtocol::Http | EdgeProtocol::Tcp => None,
    };
    forward::link_head(&mut parts, upstream, change.map(|change| &change.wanted));
    let call = Call {
        source,
        upstream,
        rule: rule.map(|rule| &rule.label),
        payload,
        timeouts,
        deadline: deadline::request(&timeouts, patience, observation.began),
        observation,
    };
    forward::to_service(http, &call, parts).await
}

/// Returns the backend that takes the request; `None` without a rule, when the service itself does.
fn backend(rule: Option<&Rule>, draw: u64) -> Result<Option<&Backend>, Failed> {
    let Some(rule) = rule else { return Ok(None) };
    let chosen = split::choose(rule, draw);
    chosen.map(Some).ok_or_else(|| Failed::new(Failure::NoBackend, &rule.label))
}

/// Hands a response that has begun to the local caller.
fn give(
    http: &Rc<Http>,
    caller: &Caller,
    (answered, change): (Answered, Option<Change>),
    watch: Watch,
    version: Version,
) -> Response<Body> {
    let Answered { mut response, hold, deadline } = answered;
    let changed = change.filter(|_| response.status() == StatusCode::OK);
    let callee = changed.is_some().then(|| hyper::upgrade::on(&mut response));
    let (mut parts, incoming) = response.into_parts();
    if let Some(status) = parts.headers.remove(header::STATUS)
        && let Ok(status) = StatusCode::from_bytes(status.as_bytes())
    {
        parts.status = status;
    }
    header::strip_hop_by_hop(&mut parts.headers);
    if let (Some(change), Some(callee)) = (changed, callee) {
        let status = if version == Version::HTTP_2 {
            StatusCode::OK
        } else {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, change.wanted);
            StatusCode::SWITCHING_PROTOCOLS
        };
        if let Some(busy) = &caller.busy {
            busy.tunnel();
        }
        watch.observation().answered(StatusCode::SWITCHING_PROTOCOLS.as_u16(), &parts.headers);
        let ends = Ends { caller: change.caller, callee };
        upgrade::tunnel(&http.context, ends, watch, hold, std::future::pending());
        return reply::tunnel(status, parts.headers);
    }
    if version != Version::HTTP_2 {
        header::announce_trailers(&mut parts.headers);
        parts.version = Version::HTTP_11;
    }
    watch.observation().answered(parts.status.as_u16(), &parts.headers);
    let timer = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.at.into())));
    Response::from_parts(parts, Body::response(incoming, watch, hold, timer))
}

/// Opens a TCP connection for a caller that asked for one by CONNECT.
async fn connect(
    http: &Rc<Http>,
    caller: &Caller,
    service: &ServiceName,
    source: &Arc<Subject>,
    (mut request, watch): (Request<Incoming>, Watch),
) -> Response<Body> {
    let near = hyper::upgrade::on(&mut request);
    let wish = Wish {
        service: service.clone(),
        source: source.clone(),
        began: watch.observation().began,
        certain: true,
    };
    match tcp::open(&http.context, wish).await {
        Ok(opened) => {
            let headers = http::HeaderMap::new();
            watch.observation().answered(StatusCode::OK.as_u16(), &headers);
            upgrade::connect(&http.context, near, opened, watch, caller.busy.as_ref());
            reply::tunnel(StatusCode::OK, headers)
        }
        Err(failed) => reply::failure(&failed, Side::Outbound, watch),
    }
}

/// Finds the service that a request is for.
fn destination(http: &Http, caller: &Caller, request: &Request<Incoming>) -> Result<ServiceName, Failed> {
    let uri = request.uri();
    let opens = request.method() == Method::CONNECT && request.extensions().get::<Changed>().is_none();
    // What is asked to be opened is a host and port and nothing else; only then may a host stand alone (RFC 9112 §3.2.3).
    let alone = uri.authority().is_some() && uri.scheme().is_none();
    if opens != alone || (opens && request.version() == Version::HTTP_10) {
        return Err(Failed::new(Failure::BadRequest, "its target does not fit its method"));
    }
    if let Entry::Service(service) = &caller.entry {
        return Ok(service.clone());
    }
    let host = match (uri.authority(), request.headers().get(HOST)) {
        (Some(authority), _) => authority.host().as_bytes(),
        (None, Some(host)) => host.as_bytes(),
        (None, None) => return Err(Failed::new(Failure::BadRequest, "no Host says which service is meant")),
    };
    if host.is_empty() {
        return Err(Failed::new(Failure::BadRequest, "the Host is empty"));
    }
    http.service(host).ok_or_else(|| {
        let cause = format!("'{}' is not a name of the mesh", String::from_utf8_lossy(host).escape_debug());
        Failed::new(Failure::UnknownService, cause)
    })
}

/// Takes the change of protocol that a request asks for, if it does.
fn change(request: &mut Request<Incoming>) -> Option<Change> {
    let extended = request.extensions_mut().remove::<Changed>();
    let wanted = match extended {
        Some(protocol) => HeaderValue::from_str(protocol.as_str()).ok()?,
        None => header::upgrade(request)?,
    };
    let caller = hyper::upgrade::on(&mut *request);
    if request.method() == Method::CONNECT {
        *request.method_mut() = Method::GET;
    }
    Some(Change { wanted, caller })
}

/// Makes the head of a caller's request fit to be passed on.
fn prepare(parts: &mut Parts) {
    header::strip_internal(&mut parts.headers);
    header::strip_hop_by_hop(&mut parts.headers);
    // hyper sends the 100 itself as soon as the body is read.
    parts.headers.remove(EXPECT);
    // In the absolute form and in HTTP/2 the URI says the host; a field that says something else is wrong (RFC 9112 §3.2.2).
    if let Some(authority) = parts.uri.authority() {
        let text = authority.as_str();
        let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
        if let Ok(host) = HeaderValue::from_str(host) {
            parts.headers.insert(HOST, host);
        }
    }
}

fn head(parts: &Parts) -> Head<'_> {
    let Parts { method, uri, headers, .. } = parts;
    Head { method, path: uri.path(), query: uri.query(), headers }
}

fn spoken<B>(request: &Request<B>) -> EdgeProtocol {
    if header::is_grpc(request.headers()) { EdgeProtocol::Grpc } else { EdgeProtocol::Http }
}

/// Carries one request from a link to the local service.
pub(crate) async fn inbound(http: &Rc<Http>, link: &Rc<Link>, request: Request<Incoming>) -> Response<Body> {
    let protocol = spoken(&request);
    let origin = Origin {
        side: Side::Inbound,
        source: link.peer.clone(),
        busy: None,
        method: request.method(),
        uri: request.uri(),
    };
    let watch = Watch::begin(&http.context.ledger, origin, protocol);
    watch.observation().service(&link.service);
    watch.observation().counted(link.cell(http, protocol), Some(&http.context.ledger.node));
    match deliver(http, link, request, &watch).await {
        Ok((answered, change)) => pass_back(http, link, (answered, change), watch),
        Err(failed) => reply::failure(&failed, Side::Inbound, watch),
    }
}

async fn deliver(
    http: &Rc<Http>,
    link: &Link,
    mut request: Request<Incoming>,
    watch: &Watch,
) -> Result<(Answered, Option<Change>), Failed> {
    link.allowed(http)?;
    let locals = http.context.shared.locals();
    let local = locals.find(&link.service, link.port);
    let local = local.ok_or_else(|| Failed::new(Failure::NotHere, &link.service))?;
    let change = change(&mut request);
    let (mut parts, incoming) = request.into_parts();
    let caller = header::take_version(&mut parts.headers);
    if let Some(method) = parts.headers.remove(header::METHOD) {
        parts.method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Failed::new(Failure::BadRequest, "not a method"))?;
    }
    header::strip_internal(&mut parts.headers);
    let version = match (local.protocol, caller) {
        (Protocol::H2c | Protocol::Grpc, _) => Version::HTTP_2,
        (Protocol::Detect, Version::HTTP_2) if change.is_none() => Version::HTTP_2,
        (_, Version::HTTP_10) => Version::HTTP_10,
        (Protocol::Http | Protocol::Tcp | Protocol::Detect, _) => Version::HTTP_11,
    };
    if change.is_some() && version != Version::HTTP_11 {
        return Err(Failed::new(Failure::Unsupported, "the service speaks HTTP/2, which cannot be upgraded"));
    }
    let payload = match &change {
        Some(_) => Payload::Empty,
        None => Payload::new(incoming, watch.observation()),
    };
    let upgrade = change.as_ref().map(|change| &change.wanted);
    let delivery = Delivery { addr: local.addr, version, upgrade, payload: &payload };
    let mut answered = forward::to_app(http, &delivery, parts).await?;
    payload.commit();
    header::strip_internal(answered.response.headers_mut());
    Ok((answered, change))
}

/// Hands a response that has begun to the link.
fn pass_back(
    http: &Rc<Http>,
    link: &Rc<Link>,
    (answered, change): (Answered, Option<Change>),
    watch: Watch,
) -> Response<Body> {
    let Answered { mut response, hold, .. } = answered;
    let status = response.status();
    watch.observation().answered(status.as_u16(), response.headers());
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let Some(change) = change else {
            let failed = Failed::new(Failure::BadResponse, "the service changes to what nobody asked for");
            return reply::failure(&failed, Side::Inbound, watch);
        };
        let callee = hyper::upgrade::on(&mut response);
        let mut headers = std::mem::take(response.headers_mut());
        header::strip_hop_by_hop(&mut headers);
        let ends = Ends { caller: change.caller, callee };
        let (shared, link) = (http.clone(), link.clone());
        upgrade::tunnel(&http.context, ends, watch, hold, async move { link.forbidden(&shared).await });
        return reply::tunnel(StatusCode::OK, headers);
    }
    let (mut parts, incoming) = response.into_parts();
    header::strip_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_2;
    if change.is_some() && status.is_success() {
        parts.headers.insert(header::STATUS, HeaderValue::from(status.as_u16()));
        parts.status = StatusCode::CONFLICT;
    }
    Response::from_parts(parts, Body::response(incoming, watch, hold, None))
}

impl Link {
    fn cell(&self, http: &Http, protocol: EdgeProtocol) -> Arc<EdgeCell> {
        let mut cells = self.cells.borrow_mut();
        let cell = &mut cells[usize::from(protocol == EdgeProtocol::Grpc)];
        cell.get_or_insert_with(|| http.context.ledger.inbound(&self.peer, &self.service, protocol)).clone()
    }

    /// Asks the policy in force.
    fn allowed(&self, http: &Http) -> Result<(), Failed> {
        let tables = http.context.shared.tables();
        if tables.policy.banned.contains(&self.node) {
            return Err(Failed::new(Failure::Denied, format!("node {} is banned", self.node)));
        }
        match authorize(&tables.policy, &self.peer, &self.service) {
            Verdict::Allow { .. } => Ok(()),
            Verdict::Deny { rule } => {
                let cause = format!("{} may not call {}: {rule}", self.peer, self.service);
                Err(Failed::new(Failure::Denied, cause))
            }
        }
    }

    /// Waits until the policy does not let this peer call any more.
    async fn forbidden(&self, http: &Http) {
        let mut changes = http.context.shared.changes();
        while self.allowed(http).is_ok() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
