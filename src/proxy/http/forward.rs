//! Sending a request: to an endpoint of a service, trying others where that is safe, or to the local service itself.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;

use crate::logic::resilience::deadline::{self, Deadline, Limit};
use crate::logic::route::table::Timeouts;
use crate::model::identity::Subject;
use crate::net::clock;
use crate::proxy::context::ATTEMPTS_MAX;
use crate::proxy::failure::{Failed, Failure, Retry};
use crate::proxy::http::body::{Body, Hold};
use crate::proxy::http::client::{Http, broken};
use crate::proxy::http::header;
use crate::proxy::http::observe::Observation;
use crate::proxy::http::replay::Payload;
use crate::proxy::ledger::Called;
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::endpoint::{Target, now_ns};

/// A call to a service, as every attempt sees it.
pub(crate) struct Call<'a> {
    /// Who calls.
    pub(crate) source: &'a Arc<Subject>,
    /// Which service.
    pub(crate) upstream: &'a Upstream,
    /// By which rule.
    pub(crate) rule: Option<&'a Arc<str>>,
    /// What is to be sent after the head.
    pub(crate) payload: &'a Payload,
    /// The limits of the rule.
    pub(crate) timeouts: Timeouts,
    /// When the caller's time is over.
    pub(crate) deadline: Option<Deadline>,
    /// What is known of the call.
    pub(crate) observation: &'a Rc<Observation>,
}

/// A response that has begun.
pub(crate) struct Answered {
    /// The response.
    pub(crate) response: Response<Incoming>,
    /// What it occupies.
    pub(crate) hold: Hold,
    /// When it is cut.
    pub(crate) deadline: Option<Deadline>,
}

/// An attempt that came to nothing.
struct Missed {
    failed: Failed,
    /// The connection was gone before anything was sent: the endpoint is not to blame, and may be tried again.
    unsent: bool,
}

impl From<Failed> for Missed {
    fn from(failed: Failed) -> Self {
        Self { failed, unsent: false }
    }
}

/// Turns the head of a request into what a link carries. `upgrade` is what the caller wants to change to.
pub(crate) fn link_head(parts: &mut Parts, upstream: &Upstream, upgrade: Option<&HeaderValue>) {
    header::set_version(&mut parts.headers, parts.version);
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority.clone_from(&upstream.authority);
    uri.path_and_query = Some(path_of(&parts.uri));
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.version = Version::HTTP_2;
    if let Some(protocol) = upgrade.and_then(|wanted| wanted.to_str().ok()) {
        if let Ok(method) = HeaderValue::from_str(parts.method.as_str()) {
            parts.headers.insert(header::METHOD, method);
        }
        parts.method = Method::CONNECT;
        parts.extensions.insert(Protocol::from(protocol));
    }
}

fn path_of(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Sends a request to one endpoint after the other until one answers, or trying again would not be safe.
///
/// # Errors
/// When none answered: the reason of the last.
pub(crate) async fn to_service(http: &Http, call: &Call<'_>, head: Parts) -> Result<Answered, Failed> {
    let Call { upstream, observation, source, .. } = *call;
    let method = head.method.clone();
    let mut head = Some(head);
    let mut tried: Vec<usize> = Vec::new();
    for count in 1.. {
        let picked = upstream.pick(http.context.draw(), now_ns(), &tried);
        let Some((index, target)) = picked else {
            return Err(Failed::new(Failure::NoEndpoint, &upstream.name));
        };
        let (service, rule, protocol) = (&upstream.name, call.rule, observation.protocol);
        let cell = http.context.ledger.outbound(Called { source, service, target, rule, protocol });
        observation.counted(cell, Some(&target.endpoint.node));
        // The head is copied only if there is somewhere else to go with it.
        let others = upstream.targets.len() > tried.len() + 1 && count < ATTEMPTS_MAX;
        let outcome = attempt(http, call, target, &mut head, others).await;
        let (missed, answered) = match outcome {
            Ok(answered) => match header::told_failure(answered.response.headers()) {
                None => {
                    call.payload.commit();
                    return Ok(answered);
                }
                Some(told) => (Missed::from(Failed::from(told)), Some(answered)),
            },
            Err(missed) => (missed, None),
        };
        let Missed { failed, unsent } = missed;
        if failed.failure.blames_endpoint() && !unsent && !call.payload.is_broken() {
            target.live.failed(now_ns(), http.context.draw());
        }
        let elsewhere = unsent || (others && may_repeat(failed.failure, &method));
        if count >= ATTEMPTS_MAX || !elsewhere || head.is_none() || !call.payload.is_whole() {
            return answered.ok_or_else(|| {
                let at = format!("{service} on {}: {}", target.endpoint.node, failed.cause);
                Failed::new(failed.failure, at)
            });
        }
        if !unsent {
            tried.push(index);
        }
        tracing::debug!(%service, node = %target.endpoint.node, %failed, "trying another endpoint");
        observation.retried();
    }
    Err(Failure::NoEndpoint.into())
}

fn may_repeat(failure: Failure, method: &Method) -> bool {
    match failure.consequence().retry {
        Retry::Safe => true,
        Retry::Idempotent => method.is_idempotent(),
        Retry::Never => false,
    }
}

async fn attempt(
    http: &Http,
    call: &Call<'_>,
    target: &Target,
    head: &mut Option<Parts>,
    keep: bool,
) -> Result<Answered, Missed> {
    let began = clock::now();
    let in_flight = target.live.begin(now_ns());
    let deadline = deadline::attempt(&call.timeouts, call.deadline, began);
    let stream = within(deadline, http.link(call.source, &call.upstream.name, target)).await??;
    let parts = if keep { head.clone() } else { head.take() };
    let Some(parts) = parts else { return Err(Failed::from(Failure::NoEndpoint).into()) };
    let request = Request::from_parts(parts, Body::attempt(call.payload));
    let mut sender = stream.sender();
    let sent = within(deadline, sender.try_send_request(request)).await?;
    let response = match sent {
        Ok(response) => response,
        Err(mut error) => {
            let unsent = error.take_message().map(|request| *head = Some(request.into_parts().0)).is_some();
            return Err(Missed { failed: broken(error.error()), unsent });
        }
    };
    target.live.answered(nanos_since(began), now_ns());
    let hold = Hold { stream: Some(stream), in_flight: Some(in_flight), lease: None };
    Ok(Answered { response, hold, deadline })
}

/// Waits for something until a deadline.
async fn within<T>(deadline: Option<Deadline>, future: impl Future<Output = T>) -> Result<T, Failed> {
    let Some(deadline) = deadline else { return Ok(future.await) };
    tokio::time::timeout_at(deadline.at.into(), future).await.map_err(|_| {
        let limit = match deadline.limit {
            Limit::Request => "of the request",
            Limit::Attempt => "of this attempt",
        };
        Failed::new(Failure::Timeout, format!("the time {limit}"))
    })
}

fn nanos_since(began: Instant) -> u64 {
    let since = clock::now().saturating_duration_since(began);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A request for a local service, as its proxy received it.
pub(crate) struct Delivery<'a> {
    /// Where the service listens.
    pub(crate) addr: SocketAddr,
    /// What it is spoken to in.
    pub(crate) version: Version,
    /// What the caller wants to change to.
    pub(crate) upgrade: Option<&'a HeaderValue>,
    /// What is to be sent after the head.
    pub(crate) payload: &'a Payload,
}

/// Sends a request to the local service, once; twice when an idle connection turns out to be closed and that is safe.
///
/// # Errors
/// When the service did not answer.
pub(crate) async fn to_app(
    http: &Http,
    delivery: &Delivery<'_>,
    mut head: Parts,
) -> Result<Answered, Failed> {
    app_head(&mut head, delivery);
    let method = head.method.clone();
    if delivery.version == Version::HTTP_2 {
        let stream = http.app_stream(delivery.addr).await?;
        let request = Request::from_parts(head, Body::attempt(delivery.payload));
        let response = stream.sender().send_request(request).await.map_err(|error| broken(&error))?;
        let hold = Hold { stream: Some(stream), ..Hold::default() };
        return Ok(Answered { response, hold, deadline: None });
    }
    let mut lease = http.app_lease(delivery.addr, delivery.upgrade.is_none()).await?;
    let spare = (lease.reused).then(|| head.clone());
    let request = Request::from_parts(head, Body::attempt(delivery.payload));
    let mut sent = lease.sender.try_send_request(request).await;
    if let (Err(error), Some(spare)) = (&mut sent, spare) {
        let unsent = error.take_message().is_some();
        if delivery.payload.is_whole() && (unsent || method.is_idempotent()) && !error.error().is_parse() {
            lease = http.app_lease(delivery.addr, false).await?;
            let request = Request::from_parts(spare, Body::attempt(delivery.payload));
            sent = lease.sender.try_send_request(request).await;
        }
    }
    let response = sent.map_err(|error| {
        let mut failed = broken(error.error());
        failed.cause = format!("local service at {}: {}", delivery.addr, failed.cause).into();
        failed
    })?;
    let hold = Hold { lease: Some(lease), ..Hold::default() };
    Ok(Answered { response, hold, deadline: None })
}

/// Turns the head of a request into what the local service is sent.
fn app_head(parts: &mut Parts, delivery: &Delivery<'_>) {
    use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};

    let headers = &mut parts.headers;
    parts.version = delivery.version;
    if delivery.version == Version::HTTP_2 {
        // The host travels in the field on links; in HTTP/2 it belongs into the URI.
        let authority =
            headers.remove(HOST).and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok());
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.path_and_query = Some(path_of(&parts.uri));
        uri.authority = authority.or_else(|| parts.uri.authority().cloned());
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
        return;
    }
    if !headers.contains_key(HOST)
        && delivery.version == Version::HTTP_11
        && let Some(host) =
            parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        headers.insert(HOST, host);
    }
    parts.uri = Uri::from(path_of(&parts.uri));
    if let Some(protocol) = delivery.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    // hyper drops a body of unknown length from methods that usually have none.
    if !matches!(delivery.payload, Payload::Empty)
        && !headers.contains_key(CONTENT_LENGTH)
        && delivery.version == Version::HTTP_11
    {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
