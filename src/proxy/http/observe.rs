//! What becomes known of one HTTP call while it goes on, and its one entry in the books at the end.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::Method;

use crate::logic::http::fields::Fields;
use crate::logic::http::grpc;
use crate::logic::http::h1::chunk::Piece;
use crate::logic::http::trace::TraceId;
use crate::model::call::{CallRecord, Tried};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::{EdgeProtocol, Side};
use crate::net::clock;
use crate::proxy::context::ATTEMPTS_MAX;
use crate::proxy::failure::{FAILURE, Failure};
use crate::proxy::ledger::{Account, Ledger, Parties};
use crate::proxy::peer::Judged;
use crate::telemetry::metric::{EdgeCell, Outcome};

/// gRPC statuses that are the server's fault (OpenTelemetry's semantic conventions for gRPC servers).
const GRPC_SERVER_FAULTS: [u16; 6] = [2, 4, 12, 13, 14, 15];

/// The header field that names a request, for those who look for it in logs.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// Longest name of a request that is taken over from its caller, bytes.
const REQUEST_ID_MAX: usize = 128;

/// One HTTP call.
pub(crate) struct Observation {
    ledger: Rc<Ledger>,
    side: Side,
    source: Arc<Subject>,
    /// What is spoken.
    pub(crate) protocol: EdgeProtocol,
    /// When the head of the request was there.
    pub(crate) began: Instant,
    method: Method,
    path: Cell<String>,
    trace_id: Option<TraceId>,
    known: RefCell<Known>,
    sent: Cell<u64>,
    received: Cell<u64>,
}

#[derive(Default)]
struct Known {
    cell: Option<Arc<EdgeCell>>,
    service: Option<ServiceName>,
    node: Option<NodeName>,
    rule: Option<Arc<str>>,
    status: u16,
    grpc_status: Option<u16>,
    failure: Option<Failure>,
    /// Why the called proxy says that it made the answer.
    told: Option<&'static str>,
    /// The rule that refused it, or would have.
    judged: Option<(Arc<str>, bool)>,
    /// By which tables it was judged.
    judged_at: Option<u64>,
    /// Its name, where the caller gave it one, or was told one.
    request_id: Option<String>,
    retries: u32,
    tried: Vec<Tried>,
    /// The account of the connection that it became: that counts it.
    tunnel: Option<Rc<Account>>,
    head_us: Option<u64>,
    complete: bool,
}

/// Who calls, and how.
pub(crate) struct Origin<'a> {
    /// Which side sees the call.
    pub(crate) side: Side,
    /// The caller.
    pub(crate) source: Arc<Subject>,
    /// The method that was asked for.
    pub(crate) method: &'a Method,
    /// The path that was asked for, and the query.
    pub(crate) path: &'a str,
    /// The name that the caller gave it.
    pub(crate) request_id: Option<&'a str>,
    /// The trace that it is part of.
    pub(crate) trace_id: Option<TraceId>,
}

/// The end of a call: whoever holds it decides when that is. Dropping it makes the entry.
pub(crate) struct Watch(Rc<Observation>);

impl Watch {
    /// Begins to observe a call.
    pub(crate) fn begin(ledger: &Rc<Ledger>, origin: Origin<'_>, protocol: EdgeProtocol) -> Self {
        let Origin { side, source, method, path, request_id, trace_id } = origin;
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let known = Known { request_id: request_id.map(str::to_owned), ..Known::default() };
        Self(Rc::new(Observation {
            ledger: ledger.clone(),
            side,
            source,
            protocol,
            began: clock::now(),
            method: method.clone(),
            path: Cell::new(ledger.note(path)),
            trace_id,
            known: RefCell::new(known),
            sent: Cell::new(0),
            received: Cell::new(0),
        }))
    }

    /// Returns the call, for those that add to what is known of it.
    pub(crate) fn observation(&self) -> &Rc<Observation> {
        &self.0
    }
}

impl Observation {
    /// Notes which service is called.
    pub(crate) fn service(&self, service: &ServiceName) {
        self.known.borrow_mut().service = Some(service.clone());
    }

    /// Notes by which rule.
    pub(crate) fn rule(&self, rule: &Arc<str>) {
        self.known.borrow_mut().rule = Some(rule.clone());
    }

    /// Returns by which rule.
    pub(crate) fn known_rule(&self) -> Option<Arc<str>> {
        self.known.borrow().rule.clone()
    }

    /// Notes where the call is counted, and which node takes it. Of several attempts the last counts.
    pub(crate) fn counted(&self, cell: Arc<EdgeCell>, node: Option<&NodeName>) {
        let mut known = self.known.borrow_mut();
        if let Some(before) = known.cell.replace(cell) {
            before.closed();
        }
        if let Some(cell) = &known.cell {
            cell.opened();
        }
        known.node = node.cloned();
    }

    /// Returns whether it is known where to count the call.
    pub(crate) fn is_counted(&self) -> bool {
        self.known.borrow().cell.is_some()
    }

    /// Notes one more attempt, and how the one before ended.
    pub(crate) fn retried(&self, before: Tried) {
        let mut known = self.known.borrow_mut();
        known.retries += 1;
        if known.tried.len() < ATTEMPTS_MAX {
            known.tried.push(before);
        }
    }

    /// Says that it became a connection, or would have, that is counted by itself: this tells of both.
    pub(crate) fn tunnelled(&self, account: &Rc<Account>) {
        account.asked();
        self.known.borrow_mut().tunnel = Some(account.clone());
    }

    /// Notes the head of the response.
    pub(crate) fn answered(&self, status: u16, fields: &Fields) {
        let mut known = self.known.borrow_mut();
        known.status = status;
        known.head_us = Some(micros_since(self.began));
        if self.side == Side::Outbound && (status >= 400 || self.protocol == EdgeProtocol::Grpc) {
            known.told = fields.get(FAILURE).and_then(Failure::known_token);
            if known.told.is_some() && known.request_id.is_none() {
                known.request_id = request_id(fields).map(str::to_owned);
            }
        }
        drop(known);
        self.trailers(fields);
    }

    /// Notes what trailers say; those of a response without a body are in its head.
    pub(crate) fn trailers(&self, trailers: &Fields) {
        if self.protocol == EdgeProtocol::Grpc
            && let Some(status) = grpc::status(trailers)
        {
            self.known.borrow_mut().grpc_status = Some(status);
        }
    }

    /// Notes that the call did not end as it should.
    pub(crate) fn failed(&self, failure: Failure) {
        let failure_before = &mut self.known.borrow_mut().failure;
        // That it was slow on purpose is not why it failed.
        if matches!(failure_before, None | Some(Failure::Delayed)) {
            *failure_before = Some(failure);
        }
    }

    /// Notes what the policy says by the tables of a generation.
    pub(crate) fn judged(&self, judged: &Judged, generation: u64) {
        let mut known = self.known.borrow_mut();
        known.judged_at = Some(generation);
        known.judged = match judged {
            Judged::Allowed => None,
            Judged::Audited(rule) => Some((rule.clone(), true)),
            Judged::Refused(rule) => Some((rule.clone(), false)),
        };
    }

    /// Returns by which tables it was judged last.
    pub(crate) fn judged_at(&self) -> Option<u64> {
        self.known.borrow().judged_at
    }

    /// Returns by which name the caller is told of it: the one that it gave, else one that is made up.
    pub(crate) fn name(&self, mut draw: impl FnMut() -> u64) -> String {
        let made_up = || format!("{:016x}{:016x}", draw(), draw());
        self.known.borrow_mut().request_id.get_or_insert_with(made_up).clone()
    }

    /// Returns that name, if it has one.
    pub(crate) fn known_name(&self) -> Option<String> {
        self.known.borrow().request_id.clone()
    }

    /// Notes that everything was passed on.
    pub(crate) fn complete(&self) {
        self.known.borrow_mut().complete = true;
    }

    /// Counts bytes from the caller.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// Notes a piece of the response on its way to the caller.
    pub(crate) fn passed(&self, piece: &Piece) {
        match piece {
            Piece::Data(data) => self.received(data.len()),
            Piece::Trailers(trailers) => self.trailers(trailers),
        }
    }

    /// Returns how many bytes of both bodies have moved.
    pub(crate) fn moved(&self) -> u64 {
        self.sent.get() + self.received.get()
    }

    /// Counts bytes to the caller.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
    }

    /// Sees to it that a call to a service which no endpoint was chosen for is counted all the same.
    pub(crate) fn went_nowhere(&self, service: &ServiceName) {
        if !self.is_counted() {
            let rule = self.known_rule();
            let cell = self.ledger.nowhere(&self.source, service, rule.as_ref(), self.protocol);
            self.counted(cell, None);
        }
    }

    /// Learns from the account of a connection what became of it.
    fn learn(&self, account: &Account, known: &mut Known) {
        let Parties { service, node, rule, .. } = &account.parties;
        (known.service, known.node, known.rule) = (Some(service.clone()), node.clone(), rule.clone());
        (known.retries, known.tried) = (account.tried.len() as u32, account.tried.to_vec());
        known.failure = known.failure.or(account.failure());
        let (sent, received) = account.passed();
        self.sent(sent as usize);
        self.received(received as usize);
    }

    fn close(&self) {
        let mut known = self.known.borrow_mut();
        let tunnel = known.tunnel.take();
        if let Some(account) = &tunnel {
            self.learn(account, &mut known);
        }
        if !known.complete {
            match known.failure {
                None | Some(Failure::Delayed) => known.failure = Some(Failure::CallerGone),
                Some(_) => {}
            }
        }
        let took_us = micros_since(self.began);
        let latency_us = known.head_us.unwrap_or(took_us);
        let reason = known.failure.map(Failure::token);
        let path = self.path.take();
        if let Some(cell) = &known.cell {
            let server_fault = known.grpc_status.is_some_and(|status| GRPC_SERVER_FAULTS.contains(&status));
            cell.record(&Outcome {
                status: known.status,
                grpc_status: known.grpc_status,
                reason,
                failed: known.status >= 500
                    || server_fault
                    || known.failure.is_some_and(Failure::counts_as_failed),
                denied: known.failure == Some(Failure::Denied),
                rule: known.judged.as_ref().map(|(rule, audited)| (rule.as_ref(), *audited)),
                asked: Some((self.method.as_str(), &path)),
                retries: known.retries,
                latency_us,
                bytes_sent: self.sent.get(),
                bytes_received: self.received.get(),
            });
            cell.closed();
        } else if tunnel.is_none() {
            self.ledger.unrouted();
        }
        if !self.ledger.wants_record(known.request_id.is_some()) {
            self.ledger.give_back(path);
            return;
        }
        let (rule, audited) = known.judged.take().unwrap_or_default();
        self.ledger.record(CallRecord {
            at_ms: clock::wall_ms().saturating_sub(took_us / 1_000),
            side: self.side,
            source: self.source.clone(),
            destination: known.service.take(),
            protocol: self.protocol,
            node: known.node.take(),
            route: known.rule.take().unwrap_or_default(),
            method: word(&self.method),
            path,
            status: known.status,
            grpc_status: known.grpc_status,
            reason: reason.or(known.told).map(Cow::Borrowed),
            rule,
            audited,
            request_id: known.request_id.take(),
            trace_id: self.trace_id.map(|id| id.to_string()),
            retries: known.retries,
            tried: std::mem::take(&mut known.tried),
            latency_us,
            duration_us: took_us,
            bytes_sent: self.sent.get(),
            bytes_received: self.received.get(),
        });
    }
}

/// Returns the name that a caller gives a request, or a proxy an answer that it made.
pub(crate) fn request_id(fields: &Fields) -> Option<&str> {
    let id = std::str::from_utf8(fields.get(REQUEST_ID)?).ok()?;
    let fits = (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(id)
}

/// Returns the name of a method, without a copy for those that everybody uses.
fn word(method: &Method) -> Cow<'static, str> {
    const USUAL: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::CONNECT,
        Method::TRACE,
    ];
    const WORDS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    let usual = USUAL.iter().zip(WORDS).find(|(usual, _)| *usual == method);
    usual.map_or_else(|| Cow::Owned(method.to_string()), |(_, word)| Cow::Borrowed(word))
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn micros_since(began: Instant) -> u64 {
    let since = clock::now().saturating_duration_since(began);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
