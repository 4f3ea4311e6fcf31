//! The path of a request, from top to bottom: [`outbound`] from a local caller to an endpoint, [`inbound`] from a link to
//! the local service. Each stage is a line, in view of the others.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::Method;

use crate::logic::balance::session::SessionRules;
use crate::logic::http::authority;
use crate::logic::http::fields::Fields;
use crate::logic::http::framing::Framing;
use crate::logic::http::h1::request::Refusal;
use crate::logic::http::head::{RequestHead, ResponseHead, Version};
use crate::logic::http::trace;
use crate::logic::request::Head;
use crate::logic::resilience::deadline;
use crate::logic::resilience::retry::{ATTEMPT, NO_RETRY};
use crate::logic::route::split;
use crate::logic::route::table::{Backend, Rule, Timeouts};
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::model::service::Protocol;
use crate::model::view::{EdgeProtocol, Side};
use crate::net::clock;
use crate::net::owner::Holder;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::client::Http;
use crate::proxy::http::course::{Call, session_of};
use crate::proxy::http::exchange::{Asked, Ended, Responder, Sides};
use crate::proxy::http::filtering::{Filtering, Original, Passed};
use crate::proxy::http::finish::{finish, spoken};
use crate::proxy::http::forward::{self, Answered, Delivery};
use crate::proxy::http::message::{self, Answer};
use crate::proxy::http::observe::{Observation, Origin, Watch, request_id};
use crate::proxy::http::payload::Payload;
use crate::proxy::http::websocket::Handshake;
use crate::proxy::http::{permission, reply, tunnel};
use crate::proxy::peer::{At, Peer};
use crate::proxy::stream::link::Leaving;
use crate::proxy::stream::writer::Writer;
use crate::proxy::tables::Tables;
use crate::proxy::tcp::Wish;
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::quota::Serving;

/// How often a call was handed to an address of another host: who gets in a circle is noticed by it.
const HOPS: &str = "mesh-hops";
/// More than any chain of services that pass the count on.
const HOPS_MAX: u32 = 16;

/// Where a local caller's connection leads.
pub(crate) struct Entry {
    /// To one service; `None` for whatever service each request names.
    pub(crate) service: Option<ServiceName>,
    /// To which port of it, where the connection says so.
    pub(crate) port: Option<u16>,
    /// From which address it comes.
    pub(crate) from: IpAddr,
    /// Who owns it, where that matters.
    pub(crate) holder: Option<Holder>,
}

/// Carries one request of a local caller to its service, and the answer back.
pub(crate) async fn outbound(http: &Rc<Http>, entry: &Entry, asked: Asked<'_>) -> Ended {
    let Asked { mut head, framing, body, mut responder } = asked;
    let protocol = spoken(&head);
    let source = http.context.shared.locals().source(entry.holder);
    let origin = origin(http, At::Outbound, &source, &mut head);
    let watch = Watch::begin(&http.context.ledger, origin, protocol);
    let observation = watch.observation();
    let mut payload = Payload::new(body);
    let service = destination(http, entry, &head);
    let answered = match &service {
        Err(failed) => Err(failed.clone()),
        Ok((service, port)) => {
            observation.service(service);
            if head.method == Method::CONNECT {
                let (service, from, began) = (service.clone(), entry.from, observation.began);
                let wish = Wish { service, port: *port, source, from, began, certain: true, rule: None };
                return Box::pin(tunnel::connect(http, wish, (responder, payload), &watch)).await;
            }
            let patience = (observation.began, http.patience(protocol));
            let turn = http.turn(At::Outbound, observation, patience);
            let mut sides = Sides { payload: &mut payload, observation, turn: turn.as_ref() };
            let called = call(
                http,
                (&mut head, framing),
                (service, *port, &source, entry.from),
                &mut sides,
                &mut responder,
            )
            .await;
            observation.went_nowhere(service);
            called
        }
    };
    finish(http, (At::Outbound, &head), answered, (payload, responder), &watch).await
}

/// Answers what a local caller says that is no request, and enters it in the books as one.
pub(crate) async fn refused(http: &Rc<Http>, entry: &Entry, refusal: &Refusal, writer: &mut Writer) {
    let watch = unasked(http, entry);
    reply::refusal(refusal, writer, watch.observation()).await;
}

/// As [`refused`], of a stream of HTTP/2. There, the answer to what is malformed is a reset (RFC 9113 §8.1.1).
pub(crate) async fn refused_stream(
    http: &Rc<Http>,
    entry: &Entry,
    (status, cause): (u16, &str),
    mut leaving: Leaving,
) {
    let watch = unasked(http, entry);
    let observation = watch.observation();
    let mut failed = Failed::new(Failure::BadRequest, cause);
    if status == 400 {
        observation.failed(failed.failure);
        observation.answered(status, &Fields::default());
        leaving.abort(failed.failure);
        return;
    }
    failed.notes.statuses = Some((status, failed.failure.consequence().grpc_status as u8));
    reply::failure(&failed, Side::Outbound, (Responder::Link(leaving), false), observation).await;
}

/// Begins the entry in the books for what is no request.
fn unasked(http: &Http, entry: &Entry) -> Watch {
    let source = http.context.shared.locals().source(entry.holder);
    // What was asked for is not known.
    let method = Method::from_bytes(b"-").unwrap_or_default();
    let side = At::Outbound.side();
    let origin = Origin { side, source, method: &method, path: "-", request_id: None, trace_id: None };
    let watch = Watch::begin(&http.context.ledger, origin, EdgeProtocol::Http);
    let observation = watch.observation();
    if let Some(service) = &entry.service {
        observation.service(service);
        observation.went_nowhere(service);
    }
    watch
}

/// Finds the way of one request and sends it there, until its answer begins.
async fn call(
    http: &Rc<Http>,
    (head, framing): (&mut RequestHead, Framing),
    (service, port, source, from): (&ServiceName, Option<u16>, &Arc<Subject>, IpAddr),
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<Box<Answered<'static>>, Failed> {
    let tables = http.context.shared.tables();
    let observation = sides.observation;
    let wanted = tables.upstream_at(service, port);
    let wanted = wanted.ok_or_else(|| unknown(&tables, service, port))?;
    message::strip_internal(&mut head.fields, &[ATTEMPT, HOPS, SessionRules::NAME]);

    let Some(routes) = wanted.routes.table(source.service().map(ServiceName::namespace)) else {
        let way = Way { upstream: wanted, rule: None, source, from };
        return send(http, way, (head, framing), sides, responder).await;
    };
    let rule = routes.find(&view(head)).ok_or_else(|| Failed::new(Failure::NoRoute, service))?;
    observation.rule(&rule.label);
    let original = Original { source, from, framing };
    let mut filtering = Filtering { http, service, original };
    let by_rule = match filtering.request(&rule.filters, head, sides) {
        Passed::On(grant) => grant,
        Passed::Answered(answer) => return own(answer, head, sides, responder),
    };
    let kept = rule.session.as_ref().and_then(|rules| kept(rule, rules, head, &tables));
    let chosen = kept.or_else(|| split::choose(rule, http.context.draw()));
    let backend = chosen.ok_or_else(|| Failed::new(Failure::NoBackend, &rule.label))?;
    filtering.service = &backend.service;
    observation.service(&backend.service);
    let by_backend = match filtering.request(&backend.filters, head, sides) {
        Passed::On(grant) => grant,
        Passed::Answered(answer) => return own(answer, head, sides, responder),
    };
    let upstream = tables.upstream_at(&backend.service, backend.port);
    let upstream = upstream.ok_or_else(|| Failed::new(Failure::NoBackend, &backend.service))?;
    let way = Way { upstream, rule: Some(rule), source, from };
    let mut answered = send(http, way, (head, framing), sides, responder).await?;
    let fields = &mut answered.answer.head.fields;
    for (filters, grant) in [(&backend.filters, by_backend), (&rule.filters, by_rule)] {
        filters.on_response(fields);
        if let Some(grant) = grant {
            grant.apply(fields);
        }
    }
    Ok(answered)
}

/// Returns the backend that a request's session belongs to, whatever its weight, if it still has the endpoint.
fn kept<'r>(
    rule: &'r Rule,
    rules: &SessionRules,
    head: &RequestHead,
    tables: &Tables,
) -> Option<&'r Backend> {
    let session = session_of(rules, head)?;
    rule.backends.iter().find(|backend| {
        let upstream = tables.upstream_at(&backend.service, backend.port);
        upstream.is_some_and(|upstream| upstream.has(session.endpoint))
    })
}

/// Answers in place of a backend.
fn own(
    answer: ResponseHead,
    head: &RequestHead,
    sides: &Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<Box<Answered<'static>>, Failed> {
    if !sides.payload.is_ended() {
        responder.close();
    }
    Answered::own(answer, &head.method)
}

/// Which way a request goes.
struct Way<'a> {
    upstream: &'a Upstream,
    rule: Option<&'a Rule>,
    source: &'a Arc<Subject>,
    from: IpAddr,
}

/// Sends a request that is ready to the service that takes it.
async fn send(
    http: &Http,
    way: Way<'_>,
    (head, framing): (&mut RequestHead, Framing),
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<Box<Answered<'static>>, Failed> {
    let Way { upstream, rule, source, from } = way;
    let observation = sides.observation;
    let said = rule.map_or(Timeouts::default(), |rule| rule.timeouts);
    let timeouts = upstream.traffic.timeouts.with_route(said.request, said.backend_request);
    let patience = match observation.protocol {
        EdgeProtocol::Grpc => head.fields.get("grpc-timeout").and_then(deadline::grpc_timeout),
        EdgeProtocol::Http | EdgeProtocol::Tcp => None,
    };
    if let Framing::Length(length) = framing {
        message::put_length(&mut head.fields, length);
    }
    let call = Call {
        source,
        upstream,
        rule: rule.map(|rule| &rule.label),
        head,
        from,
        timeouts,
        session: rule.and_then(|rule| rule.session.as_ref()).or(upstream.traffic.session.as_ref()),
        retry: match rule.and_then(|rule| rule.retry.as_ref()) {
            Some(retry) => Cow::Owned(retry.over(&upstream.traffic.retry)),
            None => Cow::Borrowed(&upstream.traffic.retry),
        },
        deadline: deadline::request(timeouts.request, patience, observation.began),
    };
    forward::to_service(http, &call, sides, responder).await
}

/// Says why a port of a service is not known.
fn unknown(tables: &Tables, service: &ServiceName, port: Option<u16>) -> Failed {
    let cause = match (tables.upstream(service), port) {
        (Some(_), Some(port)) => format!("{service} has no port {port}"),
        (_, _) => service.to_string(),
    };
    Failed::new(Failure::UnknownService, cause)
}

/// Finds the service that a request is for, and the port of it that it names.
fn destination(http: &Http, entry: &Entry, head: &RequestHead) -> Result<(ServiceName, Option<u16>), Failed> {
    if let Some(service) = &entry.service {
        return Ok((service.clone(), entry.port));
    }
    let Some(authority) = head.authority.as_deref().filter(|authority| !authority.is_empty()) else {
        return Err(Failed::new(Failure::BadRequest, "no Host says which service is meant"));
    };
    let service = http.service(authority).map(|service| (service, authority::port(authority)));
    service.ok_or_else(|| {
        let cause = format!("'{}' is not a name of the mesh", authority.escape_debug());
        Failed::new(Failure::UnknownService, cause)
    })
}

/// Returns who makes a request; a trace that is none is replaced in its head.
fn origin<'h>(http: &Http, at: At<'_>, source: &Arc<Subject>, head: &'h mut RequestHead) -> Origin<'h> {
    let trace_id = trace::mend(&mut head.fields, || http.context.draw());
    Origin {
        side: at.side(),
        source: source.clone(),
        method: &head.method,
        path: &head.path,
        request_id: request_id(&head.fields),
        trace_id,
    }
}

fn view(head: &RequestHead) -> Head<'_> {
    let (path, query) = head.path_and_query();
    Head { method: &head.method, path, query, authority: head.authority.as_deref(), fields: &head.fields }
}

/// Carries one request from a link to the local service, and the answer back.
pub(crate) async fn inbound(http: &Rc<Http>, peer: &Peer, asked: Asked<'_>) {
    let Asked { mut head, framing, body, mut responder } = asked;
    let at = At::Inbound(peer);
    let protocol = spoken(&head);
    let origin = origin(http, at, &peer.subject, &mut head);
    let watch = Watch::begin(&http.context.ledger, origin, protocol);
    let observation = watch.observation();
    observation.service(&peer.service);
    observation.counted(peer.cell(&http.context, protocol), Some(&http.context.ledger.node));
    let mut payload = Payload::new(body);
    let ((addr, http2), mut serving) = match admitted(http, peer, &mut head, observation) {
        Ok(found) => found,
        Err(failed) => {
            finish(http, (at, &head), Err(failed), (payload, responder), &watch).await;
            return;
        }
    };
    let handshake = Handshake::begin(&mut head, http2, || http.context.draw());
    if http2 {
        put_in_http2(&mut head, framing, &mut responder);
    }
    let delivery = Delivery { addr, head: &head, framing, handshake };
    let here = |failed: Failed| failed.at(format_args!("{} on {}", peer.service, http.context.ledger.node));
    if http2 {
        let mut sides = Sides { payload: &mut payload, observation, turn: None };
        let mut answered = {
            let answering = pin!(delivery.over_http2(http, &mut sides, &mut responder));
            permission::unless_forbidden(http, (at, &head), observation, answering).await
        };
        if let Ok(answered) = &mut answered {
            handed_back(&mut answered.answer, &mut serving, observation);
        }
        finish(http, (at, &head), answered.map_err(here), (payload, responder), &watch).await;
        return;
    }
    let mut reuse = true;
    loop {
        let mut app = match delivery.connection(http, reuse).await {
            Ok(app) => app,
            Err(failed) => {
                finish(http, (at, &head), Err(here(failed)), (payload, responder), &watch).await;
                return;
            }
        };
        let mut sides = Sides { payload: &mut payload, observation, turn: None };
        let answered = {
            let answering = pin!(delivery.over_http1(&mut app, &mut sides, &mut responder));
            permission::unless_forbidden(http, (at, &head), observation, answering).await
        };
        let failed = match answered {
            Ok(mut answered) => {
                let keep = answered.answer.keep_alive;
                handed_back(&mut answered.answer, &mut serving, observation);
                match finish(http, (at, &head), Ok(answered), (payload, responder), &watch).await {
                    Ended::Answered if keep && app.is_reusable() => http.keep(addr, app),
                    Ended::Answered | Ended::Broken => {}
                    Ended::Cut => app.writer.reset(),
                }
                return;
            }
            Err(failed) => failed,
        };
        if !delivery.may_resend(&failed, app.lost(&failed), &payload) {
            finish(http, (at, &head), Err(here(failed)), (payload, responder), &watch).await;
            return;
        }
        reuse = false;
        payload.rewind();
    }
}

/// Lets a request in, without what is only for proxies, if it may come, its service is here and has room for it.
fn admitted(
    http: &Http,
    peer: &Peer,
    head: &mut RequestHead,
    observation: &Observation,
) -> Result<((SocketAddr, bool), Option<Serving>), Failed> {
    message::strip_internal(&mut head.fields, &[ATTEMPT, HOPS]);
    permission::ask(http, peer, head, observation)?;
    let local = local(http, peer, head)?;
    Ok((local, peer.admit(&http.context, observation.began)?))
}

/// Puts a request as services of HTTP/2 are asked.
fn put_in_http2(head: &mut RequestHead, framing: Framing, responder: &mut Responder<'_>) {
    // Hardly any of them answers an expectation, which is for connections where a refused body is lost.
    if head.fields.remove("expect") {
        responder.inform(&ResponseHead::new(100));
    }
    if let Framing::Length(length) = framing {
        message::put_length(&mut head.fields, length);
    }
}

/// Notes that the local service has begun to answer, and keeps its answer to what a service may say.
fn handed_back(answer: &mut Answer, serving: &mut Option<Serving>, observation: &Observation) {
    if let Some(served) = serving {
        served.answered(clock::now().saturating_duration_since(observation.began));
        if answer.head.status == 101 {
            // What goes on is no request any more.
            *serving = None;
        }
    }
    message::strip_internal(&mut answer.head.fields, &[NO_RETRY]);
}

/// Finds where the service listens that a link was made for, and whether it is spoken to in HTTP/2.
fn local(http: &Http, peer: &Peer, head: &mut RequestHead) -> Result<(SocketAddr, bool), Failed> {
    let locals = http.context.shared.locals();
    let local =
        locals.find(&peer.service, peer.port).ok_or_else(|| Failed::new(Failure::NotHere, &peer.service))?;
    if http.context.shared.is_own(local.addr) {
        return Err(Failed::new(Failure::Loop, format!("{} at {}", peer.service, local.addr)));
    }
    if !local.addr.ip().is_loopback() {
        // It may be the proxy of another node, from where the call may come back.
        count_hop(&mut head.fields)?;
    }
    let http2 = match peer.spoken(&http.context).unwrap_or(local.protocol) {
        Protocol::H2c | Protocol::Grpc => true,
        Protocol::Detect => head.version == Version::Http2 && head.protocol.is_none(),
        Protocol::Http | Protocol::Tcp => false,
    };
    Ok((local.addr, http2))
}

/// Counts one more time that a call was handed to another host, as services pass the count on with a call of their own.
fn count_hop(fields: &mut Fields) -> Result<(), Failed> {
    let text = fields.get(HOPS).and_then(|value| std::str::from_utf8(value).ok());
    let hops = text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    if hops >= HOPS_MAX {
        return Err(Failed::new(Failure::Loop, format!("it was handed on {hops} times")));
    }
    fields.set(HOPS, (hops + 1).to_string().as_bytes());
    Ok(())
}
