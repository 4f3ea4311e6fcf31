//! What one worker has: its books, its connector, its randomness, and the links it opens.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::task::TaskTracker;

use crate::net::drain::{Drain, Phase};
use crate::net::owner::{Holder, Inquiry};
use crate::net::patience::Patience;
use crate::proxy::budgets::Budgets;
use crate::proxy::ledger::Ledger;
use crate::proxy::links::Links;
use crate::proxy::rest::Rest;
use crate::proxy::shared::Shared;
use crate::proxy::signal::Signal;
use crate::proxy::silence::Silences;
use crate::proxy::upstream::endpoint::ns_of;

/// Endpoints tried for one call at most.
pub(crate) const ATTEMPTS_MAX: usize = 5;

/// One worker's own things. Never leaves its thread.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) drain: Drain,
    /// How long it waits for others.
    pub(crate) patience: Patience,
    /// Everything that a drain waits for.
    pub(crate) tasks: TaskTracker,
    /// The links to other proxies.
    pub(crate) links: Links,
    /// The connections of local callers that wait for their next request.
    pub(crate) rest: Rest,
    /// What may not be silent for too long.
    pub(crate) silences: Rc<Silences>,
    /// How far the end of the worker has come, for who goes on until it drains, or cuts what is left.
    pub(crate) phase: Signal<Phase>,
    /// The generation of the tables that were heard of last, for what is judged again when the policy changes.
    pub(crate) generation: Signal<u64>,
    /// What is counted for each service.
    pub(crate) budgets: Budgets,
    draws: RefCell<SmallRng>,
    /// The way to ask whose a connection is, once that was needed.
    inquiry: RefCell<Option<Inquiry>>,
}

impl Context {
    /// Makes what one worker has.
    pub(crate) fn new(shared: Arc<Shared>, links: Links, drain: Drain, patience: Patience) -> Self {
        let access = shared.access.as_ref().map(|access| access.writer());
        let records = (access, shared.recent.recorder());
        let ledger = Rc::new(Ledger::new(shared.node.clone(), shared.registry.shard(), records));
        let generation = Signal::new(shared.look().generation);
        let draws = RefCell::new(SmallRng::seed_from_u64(rand::random()));
        Self {
            shared,
            ledger,
            drain,
            patience,
            tasks: TaskTracker::new(),
            links,
            rest: Rest::default(),
            silences: Rc::default(),
            phase: Signal::new(Phase::Serving),
            generation,
            budgets: Budgets::default(),
            draws,
            inquiry: RefCell::default(),
        }
    }

    /// Returns randomness for one decision.
    pub(crate) fn draw(&self) -> u64 {
        self.draws.borrow_mut().random()
    }

    /// Returns who owns the connection of a local caller, where that matters. `meant` says where the caller believes that it
    /// leads.
    pub(crate) fn holder(
        &self,
        from: SocketAddr,
        meant: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<Holder> {
        if !self.shared.locals().tells_apart() {
            return None;
        }
        let meant = meant()?;
        let mut inquiry = self.inquiry.borrow_mut();
        let asked = match &mut *inquiry {
            Some(inquiry) => inquiry.holder(from, meant),
            None => Inquiry::open().and_then(|opened| inquiry.insert(opened).holder(from, meant)),
        };
        asked.unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel does not say whose a connection is");
            *inquiry = None;
            None
        })
    }

    /// Closes what nobody used for a while, and forgets what is gone.
    pub(crate) fn sweep(&self, now: Instant) {
        self.links.sweep(now);
        self.links.lapses.sweep(now, |node| self.shared.vouched_ms(node));
        self.ledger.sweep();
        self.rest.sweep(now, self.patience.idle);
        self.silences.sweep(now);
        self.budgets.sweep();
        self.shared.tend(ns_of(now), || self.draw());
    }
}
