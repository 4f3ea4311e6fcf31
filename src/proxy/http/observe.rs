//! What becomes known of one HTTP call while it goes on, and its one entry in the books at the end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::Method;

use crate::logic::http::fields::Fields;
use crate::logic::http::h1::chunk::Piece;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::{EdgeProtocol, Side};
use crate::net::clock;
use crate::proxy::failure::Failure;
use crate::proxy::ledger::Ledger;
use crate::proxy::peer::Judged;
use crate::telemetry::access::Record;
use crate::telemetry::metric::{EdgeCell, Outcome};

/// gRPC statuses that are the server's fault (OpenTelemetry's semantic conventions for gRPC servers).
const GRPC_SERVER_FAULTS: [u16; 6] = [2, 4, 12, 13, 14, 15];

/// The header field that names a request, for those who look for it in logs.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// One HTTP call.
pub(crate) struct Observation {
    ledger: Rc<Ledger>,
    side: Side,
    source: Arc<Subject>,
    /// What is spoken.
    pub(crate) protocol: EdgeProtocol,
    /// When the head of the request was there.
    pub(crate) began: Instant,
    began_ms: u64,
    method: Method,
    path: Box<str>,
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
    /// The rule that refused it, or would have.
    judged: Option<(Arc<str>, bool)>,
    /// By which tables it was judged.
    judged_at: Option<u64>,
    /// Its name, where somebody was told of it.
    request_id: Option<String>,
    retries: u32,
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
}

/// The end of a call: whoever holds it decides when that is. Dropping it makes the entry.
pub(crate) struct Watch(Rc<Observation>);

impl Watch {
    /// Begins to observe a call.
    pub(crate) fn begin(ledger: &Rc<Ledger>, origin: Origin<'_>, protocol: EdgeProtocol) -> Self {
        let Origin { side, source, method, path } = origin;
        let (method, path, began_ms) = if ledger.records() {
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            (method.clone(), path.into(), clock::wall_ms())
        } else {
            (Method::GET, Box::default(), 0)
        };
        Self(Rc::new(Observation {
            ledger: ledger.clone(),
            side,
            source,
            protocol,
            began: clock::now(),
            began_ms,
            method,
            path,
            known: RefCell::default(),
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

    /// Notes one more attempt.
    pub(crate) fn retried(&self) {
        self.known.borrow_mut().retries += 1;
    }

    /// Notes the head of the response.
    pub(crate) fn answered(&self, status: u16, fields: &Fields) {
        let mut known = self.known.borrow_mut();
        known.status = status;
        known.head_us = Some(micros_since(self.began));
        drop(known);
        self.trailers(fields);
    }

    /// Notes what trailers say; those of a response without a body are in its head.
    pub(crate) fn trailers(&self, trailers: &Fields) {
        if self.protocol == EdgeProtocol::Grpc
            && let Some(status) = trailers.get("grpc-status")
        {
            let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok());
            self.known.borrow_mut().grpc_status = status;
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

    /// Notes by which name the caller is told of it.
    pub(crate) fn named(&self, request_id: String) {
        self.known.borrow_mut().request_id = Some(request_id);
    }

    /// Returns that name.
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

    fn close(&self) {
        let mut known = self.known.borrow_mut();
        if !known.complete {
            match known.failure {
                None | Some(Failure::Delayed) => known.failure = Some(Failure::CallerGone),
                Some(_) => {}
            }
        }
        let took_us = micros_since(self.began);
        let latency_us = known.head_us.unwrap_or(took_us);
        let reason = known.failure.map(Failure::token);
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
                retries: known.retries,
                latency_us,
                bytes_sent: self.sent.get(),
                bytes_received: self.received.get(),
            });
            cell.closed();
        } else {
            self.ledger.unrouted();
        }
        if self.ledger.records() {
            self.ledger.record(&Record {
                at_ms: self.began_ms,
                side: self.side,
                source: &self.source,
                destination: known.service.as_ref(),
                protocol: self.protocol,
                node: known.node.as_ref(),
                route: known.rule.as_deref().unwrap_or(""),
                method: self.method.as_str(),
                path: &self.path,
                status: known.status,
                grpc_status: known.grpc_status,
                reason,
                rule: known.judged.as_ref().map_or("", |(rule, _)| rule),
                audited: known.judged.as_ref().is_some_and(|(_, audited)| *audited),
                request_id: known.request_id.as_deref(),
                retries: known.retries,
                latency_us,
                duration_us: took_us,
                bytes_sent: self.sent.get(),
                bytes_received: self.received.get(),
            });
        }
    }
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
