//! The path of a connection that is not HTTP.
//!
//! On a link, one TLS connection stands for one TCP connection. Before the first byte of it, the calling proxy sends
//! [`OPEN`], and the called one answers with one byte: 0 when the service has accepted, else the code of a
//! [`Failure`]. So a call that failed before it began can go to another endpoint, both sides know why it failed, and a link
//! may be opened before there is a caller for it.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::identity::tls::{Accepted, Alpn, Connected};
use crate::logic::authorize::{Verdict, authorize};
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::model::view::{EdgeProtocol, Side};
use crate::net::splice::splice;
use crate::net::{dial, listen};
use crate::proxy::context::{ATTEMPTS_MAX, CONNECT_TIME, Context, LINK_TIME};
use crate::proxy::failure::{Failed, Failure, Retry};
use crate::proxy::ledger::{Account, Called, Parties};
use crate::proxy::upstream::endpoint::{InFlight, Target, now_ns};

/// What a calling proxy says first.
const OPEN: u8 = 1;
/// What it says instead while it does not know yet whether the caller will speak HTTP: should it, the connection ends
/// without having carried anything, and counts for nothing.
const OPEN_PERHAPS: u8 = 2;
/// What a called proxy answers when the service has accepted.
const ACCEPTED: u8 = 0;
/// A link on which nothing was opened for so long is closed.
const OPEN_TIME: Duration = Duration::from_mins(5);

/// Room for what a service says before its caller does.
const FIRST_BYTES: usize = 1_024;

/// A connection to a service, through the proxy of its node.
pub(crate) struct Opened {
    link: Connected,
    first: Bytes,
    account: Account,
    _in_flight: InFlight,
}

/// A wish for a connection to a service.
#[derive(Clone)]
pub(crate) struct Wish {
    /// Which service.
    pub(crate) service: ServiceName,
    /// Who wishes.
    pub(crate) source: Arc<Subject>,
    /// When the caller came.
    pub(crate) began: Instant,
    /// Whether it is sure that the caller does not speak HTTP.
    pub(crate) certain: bool,
}

/// Opens a connection to a service, trying its endpoints until one accepts.
///
/// # Errors
/// When none did, with the reason of the last; it is counted already.
pub(crate) async fn open(context: &Rc<Context>, wish: Wish) -> Result<Opened, Failed> {
    let tables = context.shared.tables();
    let Some(upstream) = tables.upstream(&wish.service) else {
        return Err(Failed::new(Failure::UnknownService, &wish.service));
    };
    let mut tried = Vec::new();
    let mut last = Failed::new(Failure::NoEndpoint, &wish.service);
    let mut called = None;
    while tried.len() < ATTEMPTS_MAX {
        let picked = upstream.pick(context.draw(), now_ns(), &tried);
        let Some((index, target)) = picked.filter(|(index, _)| !tried.contains(index)) else { break };
        let in_flight = target.live.begin(now_ns());
        match attempt(context, &wish, target).await {
            Ok(link) => {
                target.live.connected();
                let account = wish.account(context, Some(target), tried.len());
                return Ok(Opened { link, first: Bytes::new(), account, _in_flight: in_flight });
            }
            Err(failed) => last = failed,
        }
        if last.failure.blames_endpoint() {
            target.live.failed(now_ns(), context.draw());
        }
        called = Some(target);
        tried.push(index);
        if last.failure.consequence().retry != Retry::Safe {
            break;
        }
    }
    if wish.certain {
        wish.account(context, called, tried.len().saturating_sub(1)).fail(last.failure);
    }
    Err(last)
}

impl Wish {
    fn account(&self, context: &Rc<Context>, target: Option<&Target>, retries: usize) -> Account {
        let (source, service, protocol) = (&self.source, &self.service, EdgeProtocol::Tcp);
        let cell = match target {
            Some(target) => context.ledger.outbound(Called { source, service, target, rule: None, protocol }),
            None => context.ledger.nowhere(source, service, None, protocol),
        };
        let parties = Parties {
            side: Side::Outbound,
            source: source.clone(),
            service: service.clone(),
            node: target.map(|target| target.endpoint.node.clone()),
        };
        let account = Account::open(context.ledger.clone(), cell, parties).began(self.began, retries as u32);
        if self.certain { account } else { account.perhaps() }
    }
}

async fn attempt(context: &Context, wish: &Wish, target: &Target) -> Result<Connected, Failed> {
    let mut link = context.link(&wish.source, &wish.service, &target.endpoint, Alpn::Tcp).await?;
    let at = || format!("{} on {}", wish.service, target.endpoint.node);
    let asked = timeout(LINK_TIME, async {
        link.stream.write_u8(if wish.certain { OPEN } else { OPEN_PERHAPS }).await?;
        link.stream.flush().await?;
        link.stream.read_u8().await
    });
    match asked.await {
        Ok(Ok(ACCEPTED)) => Ok(link),
        Ok(Ok(code)) => {
            let failure = Failure::from_code(code).unwrap_or(Failure::BadResponse);
            Err(Failed::new(failure, format!("{}: said by its proxy", at())))
        }
        Ok(Err(error)) => Err(Failed::new(Failure::Unreachable, format!("{}: {error}", at()))),
        Err(_) => Err(Failed::new(Failure::Unreachable, format!("{}: its proxy does not answer", at()))),
    }
}

impl Opened {
    /// Waits until the service speaks, or ends. What it says comes first when the connection is carried on.
    pub(crate) async fn spoken(&mut self) -> io::Result<()> {
        let mut first = BytesMut::with_capacity(FIRST_BYTES);
        self.link.stream.read_buf(&mut first).await?;
        self.first = first.freeze();
        Ok(())
    }

    /// Says that the connection will be used after all, or that it will not.
    pub(crate) fn decide(&mut self, used: bool) {
        self.account.decide(used);
    }

    /// Carries bytes between the caller and the service until both have ended.
    ///
    /// # Errors
    /// When the connection broke, or the drain is over; the caller's side should be reset.
    pub(crate) async fn carry<S>(mut self, context: &Context, caller: &mut S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let account = &self.account;
        let copied = {
            let progress = |sent, received| account.moved(sent, received);
            let first = std::mem::take(&mut self.first);
            let copying = pin!(async {
                if !first.is_empty() {
                    caller.write_all(&first).await?;
                    account.moved(0, first.len() as u64);
                }
                splice(caller, &mut self.link.stream, progress).await
            });
            let mut drain = context.drain.clone();
            tokio::select! {
                copied = copying => copied,
                () = drain.closing() => Err(io::ErrorKind::ConnectionAborted.into()),
            }
        };
        if copied.is_err() {
            account.fail(Failure::Truncated);
            listen::reset_on_close(self.link.stream.get_ref().0);
        }
        copied
    }
}

/// Serves a link that carries one TCP connection to a local service.
pub(crate) async fn serve(context: &Rc<Context>, mut accepted: Accepted) {
    let mut drain = context.drain.clone();
    let opened = tokio::select! {
        opened = timeout(OPEN_TIME, accepted.stream.read_u8()) => opened,
        () = drain.draining() => return,
    };
    let Ok(Ok(word @ (OPEN | OPEN_PERHAPS))) = opened else { return };
    let peer = Arc::new(accepted.peer.id.subject.clone());
    let cell = context.ledger.inbound(&peer, &accepted.target, EdgeProtocol::Tcp);
    let parties = Parties {
        side: Side::Inbound,
        source: peer.clone(),
        service: accepted.target.clone(),
        node: Some(context.ledger.node.clone()),
    };
    let account = Account::open(context.ledger.clone(), cell, parties);
    let account = if word == OPEN { account } else { account.perhaps() };
    if let Err(failure) = converse(context, &mut accepted, &account).await {
        account.fail(failure);
        listen::reset_on_close(accepted.stream.get_ref().0);
    }
}

/// Connects to the local service and carries bytes until both have ended.
async fn converse(context: &Context, accepted: &mut Accepted, account: &Account) -> Result<(), Failure> {
    let app = match connect(context, accepted).await {
        Ok(app) => app,
        Err(failure) => {
            // Said in full before the end, so that a reset does not overtake it.
            _ = accepted.stream.write_u8(failure.consequence().code).await;
            _ = accepted.stream.shutdown().await;
            account.fail(failure);
            return Ok(());
        }
    };
    let mut app = app;
    let told = async {
        accepted.stream.write_u8(ACCEPTED).await?;
        accepted.stream.flush().await
    };
    told.await.map_err(|_| Failure::CallerGone)?;
    let cut = async {
        let mut changes = context.shared.changes();
        while may_call(context, &accepted.peer.id.subject, &accepted.peer.node, &accepted.target) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut drain = context.drain.clone();
    let ended = {
        let progress = |sent, received| account.moved(sent, received);
        let copying = pin!(splice(&mut accepted.stream, &mut app, progress));
        tokio::select! {
            copied = copying => copied.map_err(|_| Failure::Truncated),
            () = cut => Err(Failure::Denied),
            () = drain.closing() => Err(Failure::Truncated),
        }
    };
    if ended.is_err() {
        listen::reset_on_close(&app);
    }
    ended
}

async fn connect(context: &Context, accepted: &Accepted) -> Result<tokio::net::TcpStream, Failure> {
    let locals = context.shared.locals();
    let local = locals.find(&accepted.target, accepted.port).ok_or(Failure::NotHere)?;
    if !may_call(context, &accepted.peer.id.subject, &accepted.peer.node, &accepted.target) {
        return Err(Failure::Denied);
    }
    dial::connect(local.addr, CONNECT_TIME).await.map_err(|error| {
        tracing::debug!(service = %accepted.target, %error, "local service refused a connection");
        Failure::Unreachable
    })
}

/// Returns whether the policy in force lets a peer call a service.
pub(crate) fn may_call(
    context: &Context,
    peer: &Subject,
    node: &crate::model::name::NodeName,
    service: &ServiceName,
) -> bool {
    let tables = context.shared.tables();
    let policy = &tables.policy;
    !policy.banned.contains(node) && matches!(authorize(policy, peer, service), Verdict::Allow { .. })
}
