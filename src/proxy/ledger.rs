//! One worker's books: where a call is counted, and the account of one TCP connection.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::logic::metric::report::EdgeKey;
use crate::model::call::{CallRecord, Tried};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::{EdgeProtocol, Side};
use crate::net::clock;
use crate::proxy::failure::Failure;
use crate::proxy::upstream::endpoint::{Live, Target};
use crate::telemetry::access::AccessWriter;
use crate::telemetry::metric::{EdgeCell, Outcome, Shard};
use crate::telemetry::recent::Recorder;

/// Cells remembered at most; then all are looked up anew.
const CELLS_MAX: usize = 4_096;
/// Services that are counted by name though no endpoint of them was called; names may come from requests, and further ones
/// share the series of [`EdgeKey::overflow`].
const NOWHERE_MAX: usize = 256;

/// Papers kept at most, and how large one that is kept may be, bytes.
const PAPERS_MAX: usize = 64;
const PAPER_BYTES_MAX: usize = 512;

/// One worker's books.
pub(crate) struct Ledger {
    /// This node.
    pub(crate) node: NodeName,
    shard: Arc<Shard>,
    access: Option<AccessWriter>,
    recent: Recorder,
    /// Texts that calls write on and give back: most of them are thrown away unread.
    papers: RefCell<Vec<String>>,
    cells: RefCell<HashMap<CellId, Known, foldhash::fast::RandomState>>,
    /// At most [`NOWHERE_MAX`].
    nowhere: RefCell<BTreeSet<ServiceName>>,
}

/// Where a call goes, by the addresses of what stands for it: comparing names would cost more than all the counting.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct CellId {
    live: usize,
    source: usize,
    rule: usize,
    protocol: EdgeProtocol,
}

/// A cell, with what its id points to: as long as it is here, the addresses mean the same.
struct Known {
    cell: Arc<EdgeCell>,
    live: Arc<Live>,
    source: Arc<Subject>,
    #[expect(dead_code, reason = "held, not read")]
    rule: Option<Arc<str>>,
}

/// A call to an endpoint, as it is counted.
#[derive(Clone, Copy)]
pub(crate) struct Called<'a> {
    /// Who calls.
    pub(crate) source: &'a Arc<Subject>,
    /// Which service.
    pub(crate) service: &'a ServiceName,
    /// Which endpoint of it.
    pub(crate) target: &'a Target,
    /// By which rule.
    pub(crate) rule: Option<&'a Arc<str>>,
    /// How.
    pub(crate) protocol: EdgeProtocol,
}

impl Ledger {
    /// Opens the books of one worker.
    pub(crate) fn new(
        node: NodeName,
        shard: Arc<Shard>,
        (access, recent): (Option<AccessWriter>, Recorder),
    ) -> Self {
        let (papers, cells, nowhere) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { node, shard, access, recent, papers, cells, nowhere }
    }

    /// Returns where a call to an endpoint is counted.
    pub(crate) fn outbound(&self, called: Called<'_>) -> Arc<EdgeCell> {
        let Called { source, service, target, rule, protocol } = called;
        let id = CellId {
            live: Arc::as_ptr(&target.live).addr(),
            source: Arc::as_ptr(source).addr(),
            rule: rule.map_or(0, |rule| Arc::as_ptr(rule).addr()),
            protocol,
        };
        if let Some(known) = self.cells.borrow().get(&id) {
            return known.cell.clone();
        }
        let cell = self.shard.edge(&EdgeKey {
            side: Side::Outbound,
            source: source.as_ref().clone(),
            destination: service.clone(),
            protocol,
            route: rule.map(ToString::to_string).unwrap_or_default(),
            node: Some(target.endpoint.node.clone()),
        });
        let mut cells = self.cells.borrow_mut();
        if cells.len() >= CELLS_MAX {
            cells.clear();
        }
        let known = Known {
            cell: cell.clone(),
            live: target.live.clone(),
            source: source.clone(),
            rule: rule.cloned(),
        };
        cells.insert(id, known);
        cell
    }

    /// Counts a request that was answered without a service that it could be counted for.
    pub(crate) fn unrouted(&self) {
        self.shard.unrouted();
    }

    /// Returns where calls are counted that went to no endpoint, as the service has none or is not known.
    pub(crate) fn nowhere(
        &self,
        source: &Subject,
        service: &ServiceName,
        rule: Option<&Arc<str>>,
        protocol: EdgeProtocol,
    ) -> Arc<EdgeCell> {
        let key = EdgeKey {
            side: Side::Outbound,
            source: source.clone(),
            destination: service.clone(),
            protocol,
            route: rule.map(ToString::to_string).unwrap_or_default(),
            node: None,
        };
        let mut named = self.nowhere.borrow_mut();
        if !named.contains(service) {
            if named.len() >= NOWHERE_MAX {
                return self.shard.edge(&key.overflow());
            }
            named.insert(service.clone());
        }
        self.shard.edge(&key)
    }

    /// Returns where calls from a peer to a local service are counted.
    pub(crate) fn inbound(
        &self,
        peer: &Subject,
        service: &ServiceName,
        protocol: EdgeProtocol,
    ) -> Arc<EdgeCell> {
        self.shard.edge(&EdgeKey {
            side: Side::Inbound,
            source: peer.clone(),
            destination: service.clone(),
            protocol,
            route: String::new(),
            node: Some(self.node.clone()),
        })
    }

    /// Forgets the cells of endpoints and rules that are gone.
    pub(crate) fn sweep(&self) {
        self.cells
            .borrow_mut()
            .retain(|_, known| Arc::strong_count(&known.live) > 1 && Arc::strong_count(&known.source) > 1);
    }

    /// Writes a line to the access log, if there is one, shows the call to those who watch, and remembers it, if it is worth
    /// that.
    pub(crate) fn record(&self, call: CallRecord) {
        if let Some(access) = &self.access {
            access.record(&call);
        }
        self.recent.record(call);
    }

    /// Returns whether somebody wants the record of a call that is `named`, or of one that is not: to make it up costs
    /// something.
    pub(crate) fn wants_record(&self, named: bool) -> bool {
        named || self.access.is_some() || self.recent.is_watched()
    }

    /// Returns a copy of a text that may never be read, on paper that was used before.
    pub(crate) fn note(&self, text: &str) -> String {
        let mut paper = self.papers.borrow_mut().pop().unwrap_or_default();
        paper.push_str(text);
        paper
    }

    /// Takes paper back.
    pub(crate) fn give_back(&self, mut paper: String) {
        let mut papers = self.papers.borrow_mut();
        if papers.len() < PAPERS_MAX && (1..=PAPER_BYTES_MAX).contains(&paper.capacity()) {
            paper.clear();
            papers.push(paper);
        }
    }
}

/// The account of one TCP connection: closed when dropped, and counted once.
pub(crate) struct Account {
    ledger: Rc<Ledger>,
    cell: Arc<EdgeCell>,
    /// Between whom it is.
    pub(crate) parties: Parties,
    began: Instant,
    began_ms: u64,
    /// Endpoints that were called in vain before this one.
    pub(crate) tried: Box<[Tried]>,
    /// Whether it counts only if it carried something.
    perhaps: Cell<bool>,
    /// Whether the record of a request tells of it.
    asked: Cell<bool>,
    failure: Cell<Option<Failure>>,
    /// The rule that refused it, or, with `true`, would have.
    judged: RefCell<Option<(Arc<str>, bool)>>,
    sent: Cell<u64>,
    received: Cell<u64>,
}

/// Between whom a TCP connection is.
pub(crate) struct Parties {
    /// Which proxy counts.
    pub(crate) side: Side,
    /// Who calls.
    pub(crate) source: Arc<Subject>,
    /// Which service.
    pub(crate) service: ServiceName,
    /// On which node.
    pub(crate) node: Option<NodeName>,
    /// By which rule of a route.
    pub(crate) rule: Option<Arc<str>>,
}

impl Account {
    /// Opens the account of a connection that begins, or fails to, now.
    pub(crate) fn open(ledger: Rc<Ledger>, cell: Arc<EdgeCell>, parties: Parties) -> Self {
        cell.opened();
        Self {
            ledger,
            cell,
            parties,
            began: clock::now(),
            began_ms: clock::wall_ms(),
            tried: Box::default(),
            perhaps: Cell::new(false),
            asked: Cell::new(false),
            failure: Cell::new(None),
            judged: RefCell::default(),
            sent: Cell::new(0),
            received: Cell::new(0),
        }
    }

    /// Moves the beginning back to when the caller came, and says which endpoints were tried in vain since.
    pub(crate) fn began(mut self, at: Instant, tried: Vec<Tried>) -> Self {
        self.began = at;
        self.tried = tried.into();
        self
    }

    /// Leaves it to the record of the request that asked for the connection to tell of it.
    pub(crate) fn asked(&self) {
        self.asked.set(true);
    }

    /// Makes it count only if it carries something: it may turn out that nobody wanted the connection.
    pub(crate) fn perhaps(self) -> Self {
        self.perhaps.set(true);
        self
    }

    /// Says that the connection is wanted, or that it is not.
    pub(crate) fn decide(&self, wanted: bool) {
        self.perhaps.set(!wanted);
    }

    /// Counts bytes as they pass.
    pub(crate) fn moved(&self, sent: u64, received: u64) {
        self.cell.transferred(sent, received);
        self.sent.set(self.sent.get() + sent);
        self.received.set(self.received.get() + received);
    }

    /// Returns how many bytes have passed from the caller, and to it.
    pub(crate) fn passed(&self) -> (u64, u64) {
        (self.sent.get(), self.received.get())
    }

    /// Returns how many bytes have passed.
    pub(crate) fn carried(&self) -> u64 {
        self.sent.get() + self.received.get()
    }

    /// Notes which rule refuses it, or, when `audited`, would have.
    pub(crate) fn judged(&self, (rule, audited): (&Arc<str>, bool)) {
        *self.judged.borrow_mut() = Some((rule.clone(), audited));
    }

    /// Says that the connection did not end as it should.
    pub(crate) fn fail(&self, failure: Failure) {
        self.failure.set(Some(failure));
    }

    /// Returns why it did not.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.perhaps.get() && self.sent.get() == 0 && self.received.get() == 0 {
            self.cell.closed();
            return;
        }
        let failure = self.failure.get();
        let reason = failure.map(Failure::token);
        let took = clock::now().saturating_duration_since(self.began);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let judged = self.judged.take();
        let rule = judged.as_ref().map(|(rule, audited)| (rule.as_ref(), *audited));
        self.cell.record(&Outcome {
            rule,
            reason,
            failed: failure.is_some_and(Failure::counts_as_failed),
            denied: failure == Some(Failure::Denied),
            retries: self.tried.len() as u32,
            latency_us: took_us,
            ..Outcome::default()
        });
        self.cell.closed();
        if self.asked.get() || !self.ledger.wants_record(false) {
            return;
        }
        let Parties { side, source, service, node, rule } = &self.parties;
        let audited = judged.as_ref().is_some_and(|(_, audited)| *audited);
        let call = CallRecord {
            at_ms: self.began_ms,
            side: *side,
            source: source.clone(),
            destination: Some(service.clone()),
            protocol: EdgeProtocol::Tcp,
            node: node.clone(),
            route: rule.clone().unwrap_or_default(),
            method: Cow::Borrowed(""),
            path: String::new(),
            status: 0,
            grpc_status: None,
            reason: reason.map(Cow::Borrowed),
            rule: judged.map(|(rule, _)| rule).unwrap_or_default(),
            audited,
            request_id: None,
            trace_id: None,
            retries: self.tried.len() as u32,
            tried: std::mem::take(&mut self.tried).into(),
            latency_us: took_us,
            duration_us: took_us,
            bytes_sent: self.sent.get(),
            bytes_received: self.received.get(),
        };
        self.ledger.record(call);
    }
}
