//! The path of a connection that is not HTTP.
//!
//! On a link it is a stream. The called proxy says first whether the service has accepted: so a call that failed before it
//! began can go to another endpoint, and both sides know why it failed.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::logic::authorize::request::Asked;
use crate::logic::balance::balancer::{Algorithm, HashKey};
use crate::logic::balance::hash;
use crate::logic::resilience::limits::Limit;
use crate::logic::route::split;
use crate::logic::route::table::{RouteKind, Rule};
use crate::model::call::Tried;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::model::view::{EdgeProtocol, Side};
use crate::net::drain::Phase;
use crate::net::task::{self, Onward};
use crate::net::{clock, dial};
use crate::proxy::context::{ATTEMPTS_MAX, Context};
use crate::proxy::failure::{Failed, Failure, Retry};
use crate::proxy::ledger::{Account, Called, Parties};
use crate::proxy::links::{CONNECT_TIME, LINK_TIME};
use crate::proxy::peer::{Judged, Peer};
use crate::proxy::silence::over;
use crate::proxy::stream::duplex::{End, duplex};
use crate::proxy::stream::link::{Arriving, Leaving, open_tcp};
use crate::proxy::stream::reader::Reader;
use crate::proxy::stream::sink::Sink;
use crate::proxy::stream::source::Source;
use crate::proxy::stream::writer::Writer;
use crate::proxy::upstream::endpoint::{InFlight, Target, now_ns, ns_of};
use crate::proxy::upstream::load::Place;
use crate::proxy::upstream::{Occasion, Upstream};

/// A connection to a service, through the proxy of its node.
pub(crate) struct Opened {
    leaving: Leaving,
    arriving: Arriving,
    /// Counts it.
    pub(crate) account: Rc<Account>,
    /// For how long it may be silent.
    idle: Option<Duration>,
    /// What says that it is there, for as long as it is.
    held: (InFlight, Place),
}

/// A connection to a service that did not come about.
pub(crate) struct Lost {
    /// Why.
    pub(crate) failed: Failed,
    /// Counts it, unless the caller may yet turn out to speak HTTP.
    pub(crate) account: Option<Rc<Account>>,
}

/// A wish for a connection to a service.
#[derive(Clone)]
pub(crate) struct Wish {
    /// Which service.
    pub(crate) service: ServiceName,
    /// Which of its ports, when it has several.
    pub(crate) port: Option<u16>,
    /// Who wishes.
    pub(crate) source: Arc<Subject>,
    /// From which address.
    pub(crate) from: IpAddr,
    /// When the caller came.
    pub(crate) began: Instant,
    /// Whether it is sure that the caller does not speak HTTP.
    pub(crate) certain: bool,
    /// By which rule of a route; known when it is opened.
    pub(crate) rule: Option<Arc<str>>,
}

/// Opens a connection to a service, trying its endpoints until one accepts.
///
/// # Errors
/// When none did, with the reason of the last.
pub(crate) async fn open(context: &Rc<Context>, wish: Wish) -> Result<Box<Opened>, Lost> {
    let tables = context.shared.tables();
    let Some(asked) = tables.upstream_at(&wish.service, wish.port) else {
        let failed = Failed::new(Failure::UnknownService, &wish.service);
        return Err(wish.lost(context, failed, (None, Vec::new())));
    };
    let rule = wish.rule(asked);
    let wish = Wish { rule: rule.map(|rule| rule.label.clone()), ..wish };
    let (wish, upstream) = match rule {
        None => (wish, asked),
        Some(rule) => {
            let chosen = split::choose(rule, context.draw());
            let found = chosen.and_then(|backend| tables.upstream_at(&backend.service, backend.port));
            let Some(upstream) = found else {
                let failed = Failed::new(Failure::NoBackend, &rule.label);
                return Err(wish.lost(context, failed, (None, Vec::new())));
            };
            (Wish { service: upstream.name.clone(), ..wish }, upstream)
        }
    };
    let rules = &upstream.traffic;
    let place = match upstream.load.enter(&rules.limits, Limit::Connections, &wish.service) {
        Ok(place) => place,
        Err(failed) => return Err(wish.lost(context, failed, (None, Vec::new()))),
    };
    let most = if rules.retry.attempts > 0 { ATTEMPTS_MAX } else { 1 };
    let (mut turns, mut tried, mut before) = (Vec::new(), Vec::new(), None);
    let mut last = Failed::new(Failure::NoEndpoint, &wish.service);
    let mut called = None;
    while turns.len() < most {
        let picked = wish.pick(context, upstream, &turns);
        let Some((index, target)) = picked.filter(|(index, _)| !turns.contains(index)) else { break };
        tried.extend(before.take());
        let began = clock::now();
        let in_flight = target.live.begin(ns_of(began));
        match attempt(context, &wish, target, rules.timeouts.connect).await {
            Ok((leaving, arriving)) => {
                target.live.connected();
                let account = Rc::new(wish.account(context, Some(target), tried));
                let idle = rules.timeouts.idle_stream;
                let held = (in_flight, place);
                return Ok(Box::new(Opened { leaving, arriving, account, idle, held }));
            }
            Err(failed) => last = failed,
        }
        if last.failure.blames_endpoint() {
            upstream.blame(target, now_ns(), context.draw());
        }
        let took = clock::now().saturating_duration_since(began);
        before = Some(Tried::new(&target.endpoint.node, last.failure.token().to_owned(), took));
        called = Some(target);
        turns.push(index);
        if last.failure.consequence().retry != Retry::Safe {
            break;
        }
    }
    Err(wish.lost(context, last, (called, tried)))
}

impl Wish {
    /// Returns the rule of the `TCPRoute` that takes it, if the service has one for this caller.
    fn rule<'u>(&self, asked: &'u Upstream) -> Option<&'u Rule> {
        let namespace = self.source.service().map(ServiceName::namespace);
        let table = asked.routes.table(namespace).filter(|table| table.kind == RouteKind::Tcp)?;
        table.rules().first()
    }

    /// Picks the endpoint that is tried next. Of what makes two calls the same, a connection has only its source.
    fn pick<'u>(
        &self,
        context: &Context,
        upstream: &'u Upstream,
        tried: &[usize],
    ) -> Option<(usize, &'u Target)> {
        let by_source = matches!(
            upstream.traffic.balance.algorithm,
            Algorithm::ConsistentHash { key: HashKey::Source, .. }
        );
        upstream.pick(&Occasion {
            draw: context.draw(),
            now_ns: now_ns(),
            ticket: if upstream.takes_turns() { context.budgets.ticket(&upstream.load) } else { 0 },
            key: by_source.then(|| hash::address(self.from)),
            session: None,
            tried,
        })
    }

    /// Gives it up, after attempts at the endpoint that was `called` last and at those that were `tried` before.
    pub(crate) fn lost(
        &self,
        context: &Rc<Context>,
        failed: Failed,
        (called, tried): (Option<&Target>, Vec<Tried>),
    ) -> Lost {
        let account = self.certain.then(|| {
            let account = self.account(context, called, tried);
            account.fail(failed.failure);
            Rc::new(account)
        });
        Lost { failed, account }
    }

    fn account(&self, context: &Rc<Context>, target: Option<&Target>, tried: Vec<Tried>) -> Account {
        let (source, service, protocol) = (&self.source, &self.service, EdgeProtocol::Tcp);
        let cell = match target {
            Some(target) => context.ledger.outbound(Called {
                source,
                service,
                target,
                rule: self.rule.as_ref(),
                protocol,
            }),
            None => context.ledger.nowhere(source, service, self.rule.as_ref(), protocol),
        };
        let parties = Parties {
            side: Side::Outbound,
            source: source.clone(),
            service: service.clone(),
            node: target.map(|target| target.endpoint.node.clone()),
            rule: self.rule.clone(),
        };
        let account = Account::open(context.ledger.clone(), cell, parties).began(self.began, tried);
        if self.certain { account } else { account.perhaps() }
    }
}

/// Asks one endpoint. An idle link that turns out to be gone is replaced once.
async fn attempt(
    context: &Context,
    wish: &Wish,
    target: &Target,
    connect: Duration,
) -> Result<(Leaving, Arriving), Failed> {
    let at = || format!("{} on {}", wish.service, target.endpoint.node);
    let mut again = true;
    loop {
        let link = context.links.find_for_tcp(&wish.source, &wish.service, target, connect).await?;
        let asked = async {
            let (leaving, mut arriving) = open_tcp(&link)?;
            poll_fn(|cx| arriving.poll_accepted(cx)).await?;
            Ok::<_, Failed>((leaving, arriving))
        };
        match timeout(LINK_TIME, asked).await {
            Ok(Ok(halves)) => return Ok(halves),
            Ok(Err(failed)) if failed.failure == Failure::Unseen && again => again = false,
            Ok(Err(failed)) => {
                // That the link broke says the same as that it was never there.
                let failure =
                    if failed.failure == Failure::Reset { Failure::Unreachable } else { failed.failure };
                return Err(Failed::new(failure, format!("{}: {}", at(), failed.cause)));
            }
            Err(_) => {
                return Err(Failed::new(
                    Failure::Unreachable,
                    format!("{}: its proxy does not answer", at()),
                ));
            }
        }
    }
}

impl Opened {
    /// Waits until the service speaks, or ends. What it says comes first when the connection is carried on.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) async fn spoken(&mut self) -> Result<(), Failed> {
        poll_fn(|cx| self.arriving.poll_spoken(cx)).await
    }

    /// Says that the connection will be used after all, or that it will not.
    pub(crate) fn decide(&mut self, used: bool) {
        self.account.decide(used);
    }

    /// Carries bytes between the caller and the service until both have ended.
    ///
    /// # Errors
    /// When the connection broke, or the drain is over; the caller's side should be reset.
    pub(crate) fn carry<'e>(
        self: Box<Self>,
        context: &'e Context,
        caller: End<'e>,
    ) -> impl Future<Output = Result<(), Failed>> + 'e {
        let Self { leaving, arriving, account, idle, held } = *self;
        let silence = idle.map(|limit| context.silences.enter(limit, clock::now()));
        let callee = End::new(Source::Link(arriving), Sink::Link(leaving));
        let mut carrying = carrying(account.clone(), (caller, callee), context.patience.half_closed);
        async move {
            let end = context.phase.enter();
            let carried = tokio::select! {
                // What moves is known before it is asked whether anything does.
                biased;
                carried = &mut carrying => carried,
                () = over(silence.as_ref(), || account.carried()) => Err(Failure::Stalled.into()),
                () = end.reached(Phase::Closing) => Err(Failure::Truncated.into()),
            };
            if let Err(failed) = &carried {
                let is_named = matches!(failed.failure, Failure::Stalled | Failure::Lapsed);
                account.fail(if is_named { failed.failure } else { Failure::Truncated });
            }
            drop(held);
            carried
        }
    }
}

/// Carries bytes, and accounts for them. In a box, where it is made: a connection that is silent for hours is small.
fn carrying<'e>(
    account: Rc<Account>,
    (caller, callee): (End<'e>, End<'e>),
    half_closed: Duration,
) -> Pin<Box<impl Future<Output = Result<(), Failed>> + 'e>> {
    task::boxed(move || {
        duplex(caller, callee, half_closed, move |sent, received| account.moved(sent, received))
    })
}

/// One end of a tunnel that is a TCP connection of this host.
pub(crate) struct Plain {
    reader: Reader,
    writer: Writer,
}

impl Plain {
    /// Takes a connection of which `first` was read already.
    pub(crate) fn new(stream: TcpStream, first: BytesMut) -> Self {
        let socket = Rc::new(std::cell::RefCell::new(stream.into()));
        Self { reader: Reader::new(socket.clone(), first), writer: Writer::new(socket) }
    }

    /// Returns both directions.
    pub(crate) fn end(&mut self) -> End<'_> {
        End::new(Source::Tcp(&mut self.reader), Sink::Tcp(&mut self.writer))
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset(&self) {
        self.writer.reset();
    }
}

/// Serves a stream that carries one TCP connection to a local service: connects to that, and returns how it goes on.
pub(crate) async fn serve(
    context: Rc<Context>,
    peer: Rc<Peer>,
    (mut leaving, arriving): (Leaving, Arriving),
) -> Option<Onward> {
    let cell = peer.cell(&context, EdgeProtocol::Tcp);
    let parties = Parties {
        side: Side::Inbound,
        source: peer.subject.clone(),
        service: peer.service.clone(),
        node: Some(context.ledger.node.clone()),
        rule: None,
    };
    // A caller that turns out to speak HTTP gives the stream up before it has carried anything.
    let account = Rc::new(Account::open(context.ledger.clone(), cell, parties).perhaps());
    match connect(&context, &peer, &account).await {
        Ok(app) => {
            leaving.accept(None);
            let caller = Box::new(End::new(Source::Link(arriving), Sink::Link(leaving)));
            Some(task::boxed(|| served((context, peer, account), caller, Plain::new(app, BytesMut::new()))))
        }
        Err(failure) => {
            account.decide(true);
            account.fail(failure);
            leaving.accept(Some(failure));
            _ = timeout(LINK_TIME, poll_fn(|cx| leaving.poll_flush(cx))).await;
            None
        }
    }
}

/// Takes something out of its box, and gives that back at once.
#[expect(clippy::boxed_local, reason = "it is boxed for whoever kept it")]
fn unboxed<T>(boxed: Box<T>) -> T {
    *boxed
}

/// Carries bytes until both ends have ended. The caller comes in a box: a future keeps the room of all that it was given.
#[expect(clippy::manual_async_fn, reason = "that would hold the connection twice")]
fn served(
    (context, peer, account): (Rc<Context>, Rc<Peer>, Rc<Account>),
    caller: Box<End<'static>>,
    mut app: Plain,
) -> impl Future<Output = ()> + 'static {
    async move {
        let mut carrying =
            carrying(account.clone(), (unboxed(caller), app.end()), context.patience.half_closed);
        let end = context.phase.enter();
        let ended = tokio::select! {
            carried = &mut carrying => carried.map_err(|failed| failed.failure),
            rule = peer.forbidden(&context, Asked::Connection, None) => {
                account.judged((&rule, false));
                Err(Failure::Denied)
            }
            () = end.reached(Phase::Closing) => Err(Failure::Truncated),
        };
        drop(carrying);
        match ended {
            Ok(()) => account.decide(true),
            Err(failure) => {
                app.reset();
                account.fail(failure);
            }
        }
    }
}

async fn connect(context: &Context, peer: &Peer, account: &Account) -> Result<TcpStream, Failure> {
    let locals = context.shared.locals();
    let local = locals.find(&peer.service, peer.port).ok_or(Failure::NotHere)?;
    match peer.judge(context, Asked::Connection) {
        Judged::Allowed => {}
        Judged::Audited(rule) => account.judged((&rule, true)),
        Judged::Refused(rule) => {
            account.judged((&rule, false));
            return Err(Failure::Denied);
        }
    }
    peer.not_too_often(context, clock::now()).map_err(|failed| failed.failure)?;
    if context.shared.is_own(local.addr) {
        return Err(Failure::Loop);
    }
    dial::connect(local.addr, CONNECT_TIME).await.map_err(|error| {
        tracing::debug!(service = %peer.service, %error, "local service refused a connection");
        Failure::Unreachable
    })
}
