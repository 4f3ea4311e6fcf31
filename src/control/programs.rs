//! Which program every connected proxy runs, and which were told to run another. In memory: a proxy that is told carries it
//! out, or keeps what it has, whether or not anybody still waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::api::program::Order;
use crate::model::name::NodeName;
use crate::net::clock;

/// A proxy that has said nothing of its order for so long does not carry it out, milliseconds: it downloads within this,
/// and its new process is ready a moment later.
const ORDER_MAX_MS: u64 = 11 * 60 * 1000;

/// What is known of one proxy.
#[derive(Debug, Default)]
struct Entry {
    /// Streams of orders that it has open: a second one while it hands over to another process.
    lines: usize,
    build: String,
    program: String,
    /// The last order, until it is carried out.
    given: Option<Given>,
    orders: watch::Sender<Option<Order>>,
}

#[derive(Debug, Clone)]
struct Given {
    order: Order,
    refused: Option<String>,
}

impl Given {
    /// Returns why it is not carried out; `None` while it may be.
    fn refused(&self, now_ms: u64) -> Option<String> {
        let late = now_ms.saturating_sub(self.order.id) > ORDER_MAX_MS;
        let silent = || late.then(|| "nothing was heard of it for too long".to_owned());
        self.refused.clone().or_else(silent)
    }
}

/// What one proxy runs, and is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    /// Version of its program; empty when it never said so.
    pub build: String,
    /// SHA-256 of its program; `None` while it does not listen for orders.
    pub program: Option<String>,
    /// The order that it was given and has not carried out.
    pub order: Option<u64>,
    /// Why it did not.
    pub refused: Option<String>,
}

/// All proxies since this control plane started. Shared: every method takes `&self`.
#[derive(Debug, Default)]
pub struct Programs(Mutex<BTreeMap<NodeName, Entry>>);

/// An open stream of orders; dropping it closes the account.
#[derive(Debug)]
pub struct Line {
    programs: Arc<Programs>,
    node: NodeName,
    /// The orders: the newest that is to be carried out.
    pub orders: watch::Receiver<Option<Order>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(entry) = self.programs.lock().get_mut(&self.node) {
            entry.lines = entry.lines.saturating_sub(1);
        }
    }
}

impl Programs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a proxy runs a program and listens for orders until the result is dropped; returns also whether it has
    /// just carried one out.
    pub fn connect(self: &Arc<Self>, node: &NodeName, build: String, program: String) -> (Line, bool) {
        let mut entries = self.lock();
        let entry = entries.entry(node.clone()).or_default();
        entry.lines += 1;
        let done = entry.given.take_if(|given| given.order.program == program).is_some();
        (entry.build, entry.program) = (build, program);
        let open = entry.given.as_ref().filter(|given| given.refused(clock::wall_ms()).is_none());
        entry.orders.send_replace(open.map(|given| given.order.clone()));
        let orders = entry.orders.subscribe();
        (Line { programs: Arc::clone(self), node: node.clone(), orders }, done)
    }

    /// Gives a proxy the order to run a program, or returns the one that it is at; `None` when it does not listen.
    pub fn order(&self, node: &NodeName, program: &str) -> Option<Order> {
        let mut entries = self.lock();
        let entry = entries.get_mut(node).filter(|entry| entry.lines > 0)?;
        let now_ms = clock::wall_ms();
        let before = entry.given.as_ref();
        if let Some(same) =
            before.filter(|given| given.order.program == program && given.refused(now_ms).is_none())
        {
            return Some(same.order.clone());
        }
        let id = before.map_or(now_ms, |given| now_ms.max(given.order.id + 1));
        let order = Order { id, program: program.to_owned() };
        entry.given = Some(Given { order: order.clone(), refused: None });
        entry.orders.send_replace(Some(order.clone()));
        Some(order)
    }

    /// Notes why a proxy did not carry out an order; returns whether that is news.
    pub fn refuse(&self, node: &NodeName, id: u64, reason: String) -> bool {
        let mut entries = self.lock();
        let given = entries.get_mut(node).and_then(|entry| entry.given.as_mut());
        let Some(given) = given.filter(|given| given.order.id == id && given.refused.is_none()) else {
            return false;
        };
        given.refused = Some(reason);
        true
    }

    /// Returns what is known of a proxy.
    pub fn runs(&self, node: &NodeName) -> Runs {
        let entries = self.lock();
        let Some(entry) = entries.get(node) else { return Runs::default() };
        Runs {
            build: entry.build.clone(),
            program: (entry.lines > 0).then(|| entry.program.clone()),
            order: entry.given.as_ref().map(|given| given.order.id),
            refused: entry.given.as_ref().and_then(|given| given.refused(clock::wall_ms())),
        }
    }

    /// Forgets a proxy, and ends its streams.
    pub fn forget(&self, node: &NodeName) {
        self.lock().remove(node);
    }
}
