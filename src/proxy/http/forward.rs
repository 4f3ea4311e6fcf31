//! Sending a request: to an endpoint of a service, trying others where that is safe, or to the local service itself.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::Method;
use tokio::time::timeout_at;

use crate::logic::http::framing::Framing;
use crate::logic::http::h1;
use crate::logic::http::head::{RequestHead, ResponseHead, Version};
use crate::logic::resilience::deadline::{self, Deadline};
use crate::logic::resilience::fault::{Abort, Fault};
use crate::logic::resilience::limits::Limit;
use crate::logic::resilience::retry::{NO_RETRY, Stop, Verdict};
use crate::logic::resilience::timeouts::{IDLE, TimeoutRules};
use crate::model::view::EdgeProtocol;
use crate::net::clock;
use crate::proxy::failure::{Failed, Failure, Notes};
use crate::proxy::http::client::{App, Http, Lost};
use crate::proxy::http::course::{Call, Course, Ended};
use crate::proxy::http::exchange::{Callee, Exchange, Responder, Sides};
use crate::proxy::http::message::Answer;
use crate::proxy::http::payload::Payload;
use crate::proxy::http::websocket::Handshake;
use crate::proxy::ledger::Called;
use crate::proxy::link::Link;
use crate::proxy::stream::link::open;
use crate::proxy::stream::sink::Sink;
use crate::proxy::stream::source::Source;
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::endpoint::{InFlight, Target, ns_of};
use crate::proxy::upstream::load::Place;

/// A response that has begun. In a box: it is handed through many functions.
pub(crate) struct Answered<'c> {
    /// Its head.
    pub(crate) answer: Answer,
    /// What goes on.
    pub(crate) exchange: Exchange<'c>,
    /// What it occupies.
    pub(crate) hold: Hold,
    /// When it is cut.
    pub(crate) deadline: Option<Deadline>,
    /// For how long nothing need move in what goes on.
    pub(crate) idle: Option<Duration>,
}

impl Answered<'static> {
    /// Makes an answer of our own, without a body, to a request of this method.
    ///
    /// # Errors
    /// When its head says that a body follows.
    pub(crate) fn own(head: ResponseHead, method: &Method) -> Result<Box<Self>, Failed> {
        let answer = Answer::new(head, method, true)?;
        let exchange = Exchange::new(Sink::Ended, Callee::Answering(Source::Nothing), true);
        Ok(Box::new(Self { answer, exchange, hold: Hold::default(), deadline: None, idle: None }))
    }
}

/// What a call occupies until its response has ended.
#[derive(Default)]
#[expect(dead_code, reason = "held, not read")]
pub(crate) struct Hold {
    /// Its place in the count of calls to an endpoint.
    in_flight: Option<InFlight>,
    /// Its places in the counts of calls to the service.
    places: [Option<Place>; 2],
}

/// Sends a request to one endpoint after the other until one gives an answer that is worth passing on, or trying again
/// would not be safe, or is enough.
///
/// # Errors
/// When none answered: the reason of the last.
pub(crate) async fn to_service(
    http: &Http,
    call: &Call<'_>,
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<Box<Answered<'static>>, Failed> {
    let Call { upstream, source, .. } = *call;
    let observation = sides.observation;
    if let Some(rules) = &upstream.traffic.fault {
        Box::pin(fault(rules.decide(http.context.draw()), call, sides, responder)).await?;
    }
    let idle = idle(http, call, observation.protocol == EdgeProtocol::Grpc);
    if let Some(turn) = sides.turn {
        turn.limit(idle);
    }
    let places = places(upstream, call.head)?;
    let budget = &upstream.traffic.retry.budget;
    http.context.budgets.deposit(&upstream.load, budget, ns_of(observation.began));
    let mut course = Course::new(call);
    let mut again = None;
    loop {
        let now = clock::now();
        let Some((index, target)) = course.next(http, upstream, ns_of(now)) else {
            return Err(Failed::new(Failure::NoEndpoint, &upstream.name));
        };
        let (service, rule, protocol) = (&upstream.name, call.rule, observation.protocol);
        let cell = http.context.ledger.outbound(Called { source, service, target, rule, protocol });
        observation.counted(cell, Some(&target.endpoint.node));
        let head = again.as_deref().unwrap_or(call.head);
        let in_flight = target.live.begin(ns_of(now));
        let mut began = now;
        let answered = attempt(http, (call, head, target), &mut began, sides, responder).await;
        let came = answered.as_ref().map(|answered| (&answered.answer, &answered.exchange.callee));
        let ended = Ended::of(came, protocol);
        ended.learn(http, (upstream, target), began, in_flight.probe);
        let answer = came.ok().map(|(answer, _)| answer);
        match course.decide(http, call, (ended, answer, index), sides.payload.is_whole()) {
            Verdict::Again(wait) => {
                let node = &target.endpoint.node;
                tracing::debug!(%service, %node, ?ended, ?wait, "trying again");
                drop((answered, in_flight));
                sides.payload.rewind();
                observation.retried(ended.told(target, clock::now().saturating_duration_since(began)));
                pause(wait, call, sides, responder).await?;
                again = course.is_numbered().then(|| Box::new(course.numbered(call.head)));
            }
            Verdict::Stop(stop) => {
                if stop.is_exhausted() {
                    observation.failed(Failure::Exhausted);
                }
                let mut answered = course.conclude(call, target, stop, answered)?;
                sides.payload.commit();
                answered.hold = Hold { in_flight: Some(in_flight), places };
                return Ok(answered);
            }
        }
    }
}

impl Course {
    /// Makes the last attempt's answer, or failure, what the caller gets.
    fn conclude(
        &self,
        call: &Call<'_>,
        target: &Target,
        stop: Stop,
        answered: Result<Box<Answered<'static>>, Failed>,
    ) -> Result<Box<Answered<'static>>, Failed> {
        match answered {
            Ok(mut answered) => {
                if stop.is_exhausted() {
                    let token = Failure::Exhausted.token();
                    answered.answer.head.fields.set(NO_RETRY, token.as_bytes());
                }
                if let Some(rules) = call.session {
                    self.remember(rules, target, &mut answered.answer);
                }
                Ok(answered)
            }
            Err(failed) => {
                let notes = Notes { no_retry: stop.is_exhausted(), ..failed.notes };
                let (service, node) = (&call.upstream.name, &target.endpoint.node);
                let failed = failed.at(format_args!("{service} on {node}, attempt {}", self.attempts));
                Err(Failed { notes, ..failed })
            }
        }
    }
}

/// Does what a policy wants to happen to the call besides.
async fn fault(
    Fault { delay, abort }: Fault,
    call: &Call<'_>,
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<(), Failed> {
    if let Some(delay) = delay {
        sides.observation.failed(Failure::Delayed);
        pause(delay, call, sides, responder).await?;
    }
    let Some(Abort { status, grpc_status }) = abort else { return Ok(()) };
    let notes = Notes { statuses: Some((status, grpc_status)), ..Notes::default() };
    Err(Failed { notes, ..Failed::new(Failure::Faulted, &call.upstream.name) })
}

/// Waits before the next attempt, as long as there is somebody and time to wait.
async fn pause(
    time: Duration,
    call: &Call<'_>,
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<(), Failed> {
    if time.is_zero() {
        return Ok(());
    }
    let mut paused = Box::pin(sides.pause(time, responder));
    within(call.deadline, paused.as_mut()).await?
}

/// Returns for how long nothing need move in a call, or in one that `streams`.
fn idle(http: &Http, call: &Call<'_>, streams: bool) -> Option<Duration> {
    match (streams, call.timeouts) {
        (true, TimeoutRules { idle_stream, .. }) => idle_stream,
        (false, TimeoutRules { idle: Some(IDLE), .. }) => Some(http.context.patience.stall),
        (false, TimeoutRules { idle, .. }) => idle,
    }
}

/// Takes the call's places among what may be under way to the service.
fn places(upstream: &Upstream, head: &RequestHead) -> Result<[Option<Place>; 2], Failed> {
    let enter = |limit| upstream.load.enter(&upstream.traffic.limits, limit, &upstream.name);
    let connection = head.protocol.is_some().then(|| enter(Limit::Connections)).transpose()?;
    Ok([Some(enter(Limit::Requests)?), connection])
}

/// Sends the request to one endpoint and waits for its answer; `began` becomes when it was sent.
async fn attempt(
    http: &Http,
    (call, head, target): (&Call<'_>, &RequestHead, &Target),
    began: &mut Instant,
    sides: &mut Sides<'_, '_>,
    responder: &mut Responder<'_>,
) -> Result<Box<Answered<'static>>, Failed> {
    let deadline = deadline::attempt(call.timeouts.attempt, call.deadline, *began);
    let link = link(http, (call, target), deadline, began).await?;
    let withheld = head.protocol.is_some();
    let end = sides.payload.is_empty() && !withheld;
    let (leaving, arriving) = open(&link, head, end)?;
    let up = if end { Sink::Ended } else { Sink::Link(leaving) };
    let mut exchange = Exchange::new(up, Callee::Link(arriving), withheld);
    let answer = within(deadline, pin!(exchange.head(sides, responder, &head.method))).await??;
    let streams = answer.head.status == 101 || sides.observation.protocol == EdgeProtocol::Grpc;
    let idle = idle(http, call, streams);
    Ok(Box::new(Answered { answer, exchange, hold: Hold::default(), deadline, idle }))
}

/// Finds a link to an endpoint. Who has to wait for one takes a place among those who do, and then begins anew.
async fn link(
    http: &Http,
    (call, target): (&Call<'_>, &Target),
    deadline: Option<Deadline>,
    began: &mut Instant,
) -> Result<Link, Failed> {
    let Upstream { name, load, traffic, .. } = call.upstream;
    let mut finding = pin!(http.context.links.find(call.source, name, target, traffic.timeouts.connect));
    if let Some(found) = finding.as_mut().now_or_never() {
        return found;
    }
    let _place = load.enter(&traffic.limits, Limit::Pending, name)?;
    let found = within(deadline, finding).await?;
    *began = clock::now();
    found
}

/// Waits for something until a deadline. It is pinned by whoever asks: a future that is passed on by value is copied, and
/// kept twice.
pub(crate) async fn within<T>(
    deadline: Option<Deadline>,
    future: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Failed> {
    let Some(deadline) = deadline else { return Ok(future.await) };
    timeout_at(deadline.at.into(), future).await.map_err(|_| {
        Failed::from(match deadline.limit {
            deadline::Limit::Request => Failure::Timeout,
            deadline::Limit::Attempt => Failure::Late,
        })
    })
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
    /// Sends the request over HTTP/2, once more where that is safe.
    ///
    /// # Errors
    /// When the service did not answer.
    pub(crate) async fn over_http2(
        &self,
        http: &Http,
        sides: &mut Sides<'_, '_>,
        responder: &mut Responder<'_>,
    ) -> Result<Box<Answered<'static>>, Failed> {
        let (link, reused) = http.app2(self.addr).await?;
        match self.over_link(&link, sides, responder).await {
            Err(failed) => {
                let lost = (reused && failed.failure == Failure::Reset && !link.is_open())
                    .then_some(Lost { wrote: true });
                if !self.may_resend(&failed, lost, sides.payload) {
                    return Err(failed);
                }
                sides.payload.rewind();
                let (link, _) = http.app2(self.addr).await?;
                self.over_link(&link, sides, responder).await
            }
            answered => answered,
        }
    }

    async fn over_link(
        &self,
        link: &Link,
        sides: &mut Sides<'_, '_>,
        responder: &mut Responder<'_>,
    ) -> Result<Box<Answered<'static>>, Failed> {
        let withheld = self.head.protocol.is_some();
        if withheld && !link.takes_protocols() {
            return Err(Failed::new(Failure::Unsupported, "the service takes no upgrades"));
        }
        let end = sides.payload.is_empty() && !withheld;
        let (leaving, arriving) = open(link, self.head, end)?;
        let up = if end { Sink::Ended } else { Sink::Link(leaving) };
        let mut exchange = Exchange::new(up, Callee::Link(arriving), withheld);
        let mut answer = exchange.head(sides, responder, &self.head.method).await?;
        if withheld && (200..300).contains(&answer.head.status) {
            answer.head.status = 101;
            self.handshake.end(&mut answer.head)?;
        }
        Ok(Box::new(Answered { answer, exchange, hold: Hold::default(), deadline: None, idle: None }))
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
    ) -> Result<Box<Answered<'c>>, Failed> {
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
        Ok(Box::new(Answered { answer, exchange, hold: Hold::default(), deadline: None, idle: None }))
    }

    /// Takes a connection to the service, an idle one if that is allowed.
    ///
    /// # Errors
    /// When it refuses the connection.
    pub(crate) async fn connection(&self, http: &Rc<Http>, reuse: bool) -> Result<App, Failed> {
        http.app(self.addr, reuse && self.head.protocol.is_none()).await
    }

    /// Returns whether the request may be sent once more: when the service has not looked at it, as it says itself
    /// (RFC 9113 §8.7) or as nothing was written; or when it had been sent into a connection that was `lost`, as a service
    /// may close one that it believes idle at that moment, which is no failure of it, and the method is idempotent
    /// (RFC 9110 §9.2.2).
    pub(crate) fn may_resend(&self, failed: &Failed, lost: Option<Lost>, payload: &Payload<'_>) -> bool {
        let unseen = matches!(failed.failure, Failure::NotHere | Failure::Unseen);
        let safe = lost.is_some_and(|lost| !lost.wrote || self.head.method.is_idempotent());
        (unseen || safe) && payload.is_whole()
    }
}
