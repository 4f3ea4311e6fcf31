//! Sending a request: to an endpoint of a service, trying others where that is safe, or to the local service itself.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::Method;
use tokio::time::timeout_at;

use crate::logic::http::framing::Framing;
use crate::logic::http::h1;
use crate::logic::http::head::{RequestHead, Version};
use crate::logic::resilience::deadline::{self, Deadline, Limit};
use crate::logic::route::table::Timeouts;
use crate::model::identity::Subject;
use crate::net::clock;
use crate::proxy::context::ATTEMPTS_MAX;
use crate::proxy::failure::{Failed, Failure, Retry};
use crate::proxy::http::client::{App, Http, Streaming};
use crate::proxy::http::exchange::{Callee, Exchange, Responder, Sides};
use crate::proxy::http::message::{self, Answer};
use crate::proxy::http::payload::Payload;
use crate::proxy::http::websocket::Handshake;
use crate::proxy::ledger::Called;
use crate::proxy::stream::http2::{Outgoing, broken};
use crate::proxy::stream::link::open;
use crate::proxy::stream::sink::Sink;
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::endpoint::{InFlight, Target, now_ns};

/// A call to a service, as every attempt sees it.
pub(crate) struct Call<'a> {
    /// Who calls.
    pub(crate) source: &'a Arc<Subject>,
    /// Which service.
    pub(crate) upstream: &'a Upstream,
    /// By which rule.
    pub(crate) rule: Option<&'a Arc<str>>,
    /// What is asked, as links carry it.
    pub(crate) head: &'a RequestHead,
    /// The limits of the rule.
    pub(crate) timeouts: Timeouts,
    /// When the caller's time is over.
    pub(crate) deadline: Option<Deadline>,
}

/// A response that has begun.
pub(crate) struct Answered<'c> {
    /// Its head.
    pub(crate) answer: Answer,
    /// What goes on.
    pub(crate) exchange: Exchange<'c>,
    /// What it occupies.
    pub(crate) hold: Hold,
    /// When it is cut.
    pub(crate) deadline: Option<Deadline>,
}

/// What a call occupies until its response has ended.
#[derive(Default)]
#[expect(dead_code, reason = "held, not read")]
pub(crate) struct Hold {
    /// Its place in the count of calls to an endpoint.
    in_flight: Option<InFlight>,
    /// Its place on a connection to a local service.
    streaming: Option<Streaming>,
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

/// Sends a request to one endpoint after the other until one answers, or trying again would not be safe.
///
/// # Errors
/// When none answered: the reason of the last.
pub(crate) async fn to_service(
    http: &Http,
    call: &Call<'_>,
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<Answered<'static>, Failed> {
    let Call { upstream, source, .. } = *call;
    let observation = sides.observation;
    let mut tried: Vec<usize> = Vec::new();
    for count in 1.. {
        let picked = upstream.pick(http.context.draw(), now_ns(), &tried);
        let Some((index, target)) = picked else {
            return Err(Failed::new(Failure::NoEndpoint, &upstream.name));
        };
        let (service, rule, protocol) = (&upstream.name, call.rule, observation.protocol);
        let cell = http.context.ledger.outbound(Called { source, service, target, rule, protocol });
        observation.counted(cell, Some(&target.endpoint.node));
        let (missed, answered) = match attempt(http, call, target, sides, responder).await {
            Ok(answered) => match message::told_failure(&answered.answer.head.fields) {
                None => {
                    sides.payload.commit();
                    return Ok(answered);
                }
                Some(told) => (Missed::from(Failed::from(told)), Some(answered)),
            },
            Err(missed) => (missed, None),
        };
        let Missed { failed, unsent } = missed;
        if failed.failure.blames_endpoint() && !unsent {
            target.live.failed(now_ns(), http.context.draw());
        }
        let others = upstream.targets.len() > tried.len() + 1;
        let elsewhere = unsent || (others && may_repeat(failed.failure, &call.head.method));
        if count >= ATTEMPTS_MAX || !elsewhere || !sides.payload.is_whole() {
            return answered.ok_or_else(|| {
                let at = format!("{service} on {}: {}", target.endpoint.node, failed.cause);
                Failed::new(failed.failure, at)
            });
        }
        if !unsent {
            tried.push(index);
        }
        tracing::debug!(%service, node = %target.endpoint.node, %failed, "trying another endpoint");
        sides.payload.rewind();
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
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<Answered<'static>, Missed> {
    let began = clock::now();
    let in_flight = target.live.begin(now_ns());
    let deadline = deadline::attempt(&call.timeouts, call.deadline, began);
    let find = pin!(http.context.links.find(call.source, &call.upstream.name, target));
    let link = within(deadline, find).await??;
    let withheld = call.head.protocol.is_some();
    let end = sides.payload.is_empty() && !withheld;
    let opened = open(&link, call.head, end);
    let (leaving, arriving) = opened.map_err(|failed| Missed { failed, unsent: true })?;
    let up = if end { Sink::Ended } else { Sink::Link(leaving) };
    let mut exchange = Exchange::new(up, Callee::Link(arriving), withheld);
    let head = exchange.head(sides, responder, &call.head.method);
    let answer = within(deadline, pin!(head))
        .await?
        .map_err(|failed| Missed { unsent: failed.failure == Failure::Unseen, failed })?;
    target.live.answered(nanos_since(began), now_ns());
    let hold = Hold { in_flight: Some(in_flight), streaming: None };
    Ok(Answered { answer, exchange, hold, deadline })
}

/// Waits for something until a deadline. It is pinned by whoever asks: a future that is passed on by value is copied, and
/// kept twice.
pub(crate) async fn within<T>(
    deadline: Option<Deadline>,
    future: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Failed> {
    let Some(deadline) = deadline else { return Ok(future.await) };
    timeout_at(deadline.at.into(), future).await.map_err(|_| {
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
    /// What is asked.
    pub(crate) head: &'a RequestHead,
    /// How the request's body is delimited.
    pub(crate) framing: Framing,
    /// What is to be done when it becomes a WebSocket.
    pub(crate) handshake: Handshake,
}

impl Delivery<'_> {
    /// Sends the request over HTTP/2, once more if the service says that it has not looked at it (RFC 9113 §8.7).
    ///
    /// # Errors
    /// When the service did not answer.
    pub(crate) async fn over_http2(
        &self,
        http: &Http,
        sides: &mut Sides<'_, '_>,
        responder: &mut Responder<'_>,
    ) -> Result<Answered<'static>, Failed> {
        match self.once_over_http2(http, sides, responder).await {
            Err(failed) if failed.failure == Failure::NotHere && sides.payload.is_whole() => {
                sides.payload.rewind();
                self.once_over_http2(http, sides, responder).await
            }
            answered => answered,
        }
    }

    async fn once_over_http2(
        &self,
        http: &Http,
        sides: &mut Sides<'_, '_>,
        responder: &mut Responder<'_>,
    ) -> Result<Answered<'static>, Failed> {
        let request = message::http2_request(self.head, self.framing)
            .ok_or_else(|| Failed::new(Failure::BadRequest, "HTTP/2 cannot say what is asked for"))?;
        let (mut sender, streaming) = http.app2(self.addr).await?;
        let withheld = self.head.protocol.is_some();
        if withheld && !sender.is_extended_connect_protocol_enabled() {
            return Err(Failed::new(Failure::Unsupported, "the service takes no upgrades"));
        }
        let end = sides.payload.is_empty() && !withheld;
        let (response, stream) = sender.send_request(request, end).map_err(|error| broken(&error))?;
        let up = if end { Sink::Ended } else { Sink::Http2(Outgoing::new(stream)) };
        let mut exchange = Exchange::new(up, Callee::Http2(response), withheld);
        let mut answer = exchange.head(sides, responder, &self.head.method).await?;
        if withheld && (200..300).contains(&answer.head.status) {
            answer.head.status = 101;
            self.handshake.end(&mut answer.head)?;
        }
        let hold = Hold { in_flight: None, streaming: Some(streaming) };
        Ok(Answered { answer, exchange, hold, deadline: None })
    }

    /// Sends the request over an HTTP/1 connection.
    ///
    /// # Errors
    /// When the service did not answer. The payload tells whether the request can be sent again.
    pub(crate) async fn over_http1<'c>(
        &self,
        app: &'c mut App,
        sides: &mut Sides<'_, '_>,
        responder: &mut Responder<'_>,
    ) -> Result<Answered<'c>, Failed> {
        let framing = self.framing.towards(Version::Http11);
        app.writer.begin(|out| {
            h1::write::request(self.head, framing, out);
            framing
        });
        let withheld = self.head.protocol.is_some();
        let (up, callee) =
            (Sink::Tcp(&mut app.writer), Callee::Http1(&mut app.reader, self.head.method.clone()));
        let mut exchange = Exchange::new(up, callee, withheld);
        let mut answer = exchange.head(sides, responder, &self.head.method).await?;
        self.handshake.end(&mut answer.head)?;
        Ok(Answered { answer, exchange, hold: Hold::default(), deadline: None })
    }

    /// Takes a connection to the service, an idle one if that is allowed.
    ///
    /// # Errors
    /// When it refuses the connection.
    pub(crate) async fn connection(&self, http: &Rc<Http>, reuse: bool) -> Result<App, Failed> {
        http.app(self.addr, reuse && self.head.protocol.is_none()).await
    }

    /// Returns whether the request may be sent again over a new connection, after an idle one has failed.
    pub(crate) fn may_resend(&self, failed: &Failed, app: &mut App, payload: &Payload<'_>) -> bool {
        let lost = failed.failure == Failure::Reset;
        lost && payload.is_whole() && (self.head.method.is_idempotent() || !app.writer.take_wrote())
    }
}
