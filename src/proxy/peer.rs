//! The other end of a link: who calls, what it calls, and whether it may.

use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use crate::logic::authorize::request::Asked;
use crate::logic::authorize::{Call, Verdict, authorize};
use crate::logic::resilience::concurrency::ConcurrencyRules;
use crate::logic::resilience::rate::{self, RateRules};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::service::Protocol;
use crate::model::view::{EdgeProtocol, Side};
use crate::proxy::context::Context;
use crate::proxy::failure::{Failed, Failure, Notes};
use crate::proxy::upstream::endpoint::ns_of;
use crate::proxy::upstream::quota::{Quota, Serving};
use crate::telemetry::metric::EdgeCell;

/// The other end of a link, as its handshake has proven.
pub(crate) struct Peer {
    /// Who calls.
    pub(crate) subject: Arc<Subject>,
    /// From which node.
    pub(crate) node: NodeName,
    /// Which service is called.
    pub(crate) service: ServiceName,
    /// Which instance of it.
    pub(crate) port: u16,
    /// Where its calls are counted: HTTP, gRPC, TCP.
    cells: RefCell<[Option<Arc<EdgeCell>>; 3]>,
    /// What the instance lets in; looked up by the first request to which it matters.
    quota: OnceCell<Arc<Quota>>,
    rules: RefCell<Option<(u64, Admission)>>,
}

/// What the policy in force says about the calls of a link.
#[derive(Clone, Copy, Default)]
struct Admission {
    rate: Option<RateRules>,
    concurrency: Option<ConcurrencyRules>,
    /// What is to be spoken with the instance.
    protocol: Option<Protocol>,
}

/// What the policy says about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It may go through.
    Allowed,
    /// It may, as nothing is enforced; which rule would refuse it.
    Audited(Arc<str>),
    /// It may not; which rule refuses it.
    Refused(Arc<str>),
}

/// Which side of a call this proxy is on.
#[derive(Clone, Copy)]
pub(crate) enum At<'p> {
    /// The caller's.
    Outbound,
    /// The called service's.
    Inbound(&'p Peer),
}

impl Peer {
    /// Makes the other end of a link.
    pub(crate) fn new(subject: Subject, node: NodeName, (service, port): (ServiceName, u16)) -> Self {
        Self {
            subject: Arc::new(subject),
            node,
            service,
            port,
            cells: RefCell::default(),
            quota: OnceCell::new(),
            rules: RefCell::default(),
        }
    }

    /// Returns what the policy in force says about letting calls in: looked up once for each policy.
    fn admission(&self, context: &Context) -> Admission {
        let tables = context.shared.look();
        let mut rules = self.rules.borrow_mut();
        match *rules {
            Some((generation, admission)) if generation == tables.generation => admission,
            Some(_) | None => {
                let upstream = tables.upstream(&self.service);
                let admission = upstream.map_or_else(Admission::default, |upstream| Admission {
                    rate: upstream.traffic.rate,
                    concurrency: upstream.traffic.concurrency,
                    protocol: upstream.spoken_at(&context.shared.node, self.port),
                });
                *rules = Some((tables.generation, admission));
                admission
            }
        }
    }

    /// Returns what is to be spoken with the instance that is called, as its `Service` object says, else its node; `None`
    /// when neither has said so yet.
    pub(crate) fn spoken(&self, context: &Context) -> Option<Protocol> {
        self.admission(context).protocol
    }

    fn quota(&self, context: &Context) -> &Arc<Quota> {
        self.quota.get_or_init(|| context.shared.quota(&self.service, self.port))
    }

    /// Asks whether the instance that is called lets one more call in at `now`, as far as its rate limit goes.
    ///
    /// # Errors
    /// When it is called too often.
    pub(crate) fn not_too_often(&self, context: &Context, now: Instant) -> Result<(), Failed> {
        let Some(rules) = self.admission(context).rate else { return Ok(()) };
        self.quota(context).admit(&rules, &self.subject, ns_of(now)).map_err(|wait| {
            let node = &context.ledger.node;
            let cause = format!("{} on {node}; the next call may come in {wait:.1?}", self.service);
            let retry_after_s = u32::try_from(rate::retry_after_s(wait)).unwrap_or(u32::MAX);
            let notes = Notes { retry_after_s: Some(retry_after_s), ..Notes::default() };
            Failed { notes, ..Failed::new(Failure::RateLimited, cause) }
        })
    }

    /// Asks the same for one more request, which has to be one of those that are served at a time besides; `None` when
    /// nobody counts those.
    ///
    /// # Errors
    /// When it is called too often, or serves as many as it can already.
    pub(crate) fn admit(&self, context: &Context, now: Instant) -> Result<Option<Serving>, Failed> {
        self.not_too_often(context, now)?;
        let Some(rules) = self.admission(context).concurrency else { return Ok(None) };
        self.quota(context).serve(rules).map(Some).map_err(|serving| {
            let node = &context.ledger.node;
            let cause = format!("{} on {node} serves {serving} requests and takes no more", self.service);
            Failed::new(Failure::Overloaded, cause)
        })
    }

    /// Returns where its calls are counted.
    pub(crate) fn cell(&self, context: &Context, protocol: EdgeProtocol) -> Arc<EdgeCell> {
        let mut cells = self.cells.borrow_mut();
        let cell = match protocol {
            EdgeProtocol::Http => &mut cells[0],
            EdgeProtocol::Grpc => &mut cells[1],
            EdgeProtocol::Tcp => &mut cells[2],
        };
        cell.get_or_insert_with(|| context.ledger.inbound(&self.subject, &self.service, protocol)).clone()
    }

    /// Judges a call by the policy in force.
    pub(crate) fn judge(&self, context: &Context, asked: Asked<'_>) -> Judged {
        let tables = context.shared.look();
        if tables.policy.banned.contains(&self.node) {
            return Judged::Refused(format!("ban of node {}", self.node).into());
        }
        match authorize(&tables.policy, &Call { peer: &self.subject, destination: &self.service, asked }) {
            Verdict::Allow { audit: None, .. } => Judged::Allowed,
            Verdict::Allow { audit: Some(rule), .. } => Judged::Audited(rule),
            Verdict::Deny { rule } => Judged::Refused(rule),
        }
    }

    /// Waits until the policy does not let this peer make a call any more; returns the rule that refuses it. By the tables
    /// of generation `judged` it is known to.
    pub(crate) async fn forbidden(
        &self,
        context: &Context,
        asked: Asked<'_>,
        mut judged: Option<u64>,
    ) -> Arc<str> {
        let place = context.generation.enter();
        poll_fn(|cx| {
            loop {
                judged = Some(ready!(place.poll(cx, |generation| judged != Some(generation))));
                if let Judged::Refused(rule) = self.judge(context, asked) {
                    return Poll::Ready(rule);
                }
            }
        })
        .await
    }
}

impl At<'_> {
    /// Returns the side.
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Outbound => Side::Outbound,
            Self::Inbound(_) => Side::Inbound,
        }
    }
}
