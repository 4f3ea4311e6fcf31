//! Connections of one worker that carry many streams each: links to other proxies, and HTTP/2 to local services.
//!
//! Whoever needs one while it is being made waits for the same one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use crate::net::{clock, task};
use crate::proxy::failure::{Failed, Failure};

/// Connections for one key at most: about 8,000 calls under way from one worker to one endpoint.
pub const CONNECTIONS_MAX: usize = 32;
/// A connection that carried nothing for so long is closed. Longer than one of HTTP/1 ([`super::idle`]), which has to be gone
/// before the server closes it: who ends one of these says so first, and what it has not looked at (GOAWAY), so that nothing
/// is lost; and it is dearer to make.
pub const IDLE_TIME: Duration = Duration::from_secs(90);

/// A connection that carries many streams.
pub trait Carrier: Clone {
    /// Returns whether it takes new streams.
    fn is_open(&self) -> bool;
    /// Returns whether another one is to be opened for the next stream.
    fn is_full(&self) -> bool;
    /// Returns whether it carries no stream.
    fn is_idle(&self) -> bool;
}

/// The connections of one worker.
pub struct Mux<K, C> {
    slots: RefCell<HashMap<K, Slot<C>, foldhash::fast::RandomState>>,
}

struct Slot<C> {
    open: Vec<Open<C>>,
    dialing: Option<Shared<oneshot::Receiver<Option<Failed>>>>,
}

struct Open<C> {
    carrier: C,
    used: Cell<Instant>,
}

impl<K, C> Mux<K, C>
where
    K: Eq + Hash + Clone + 'static,
    C: Carrier + 'static,
{
    /// Makes one without connections.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { slots: RefCell::default() })
    }

    /// Finds a connection with room for a stream, opening one by `dial` when there is none. The stream must be opened
    /// before anything else is awaited.
    ///
    /// # Errors
    /// When the connection cannot be made, or there are too many already.
    pub async fn connection<F>(self: &Rc<Self>, key: &K, dial: impl FnOnce() -> F) -> Result<C, Failed>
    where
        F: Future<Output = Result<C, Failed>> + 'static,
    {
        let mut dial = Some(dial);
        loop {
            let waiting = {
                let mut slots = self.slots.borrow_mut();
                if let Some(open) = slots.get_mut(key).and_then(Slot::room) {
                    return Ok(open);
                }
                let slot = slots.entry(key.clone()).or_insert_with(Slot::new);
                slot.open.retain(|open| open.carrier.is_open());
                match (&slot.dialing, dial.take()) {
                    (Some(dialing), kept) => {
                        dial = kept;
                        dialing.clone()
                    }
                    (None, Some(dial)) if slot.open.len() < CONNECTIONS_MAX => {
                        let dialing = self.clone().open(key.clone(), dial());
                        slot.dialing = Some(dialing.clone());
                        dialing
                    }
                    (None, _) => {
                        let cause = format!("{} connections are full", slot.open.len());
                        return Err(Failed::new(Failure::Overloaded, cause));
                    }
                }
            };
            match waiting.await {
                Ok(None) => {}
                Ok(Some(failed)) => return Err(failed),
                Err(_) => return Err(Failure::Unreachable.into()),
            }
        }
    }

    /// Makes a connection in a task of its own: whoever asked first may leave, others may wait for it too.
    fn open<F>(self: Rc<Self>, key: K, dial: F) -> Shared<oneshot::Receiver<Option<Failed>>>
    where
        F: Future<Output = Result<C, Failed>> + 'static,
    {
        let (done, waiting) = oneshot::channel();
        task::spawn_local("dial", async move {
            let dialed = dial.await;
            let mut slots = self.slots.borrow_mut();
            let slot = slots.entry(key).or_insert_with(Slot::new);
            slot.dialing = None;
            let failed = match dialed {
                Ok(carrier) => {
                    slot.open.push(Open { carrier, used: Cell::new(clock::now()) });
                    None
                }
                Err(failed) => Some(failed),
            };
            _ = done.send(failed);
        });
        waiting.shared()
    }

    /// Closes what was not used for [`IDLE_TIME`], and forgets keys without connections.
    pub fn sweep(&self, now: Instant) {
        self.slots.borrow_mut().retain(|_, slot| {
            slot.open.retain(|open| {
                if !open.carrier.is_idle() {
                    open.used.set(now);
                }
                let idle = now.saturating_duration_since(open.used.get()) >= IDLE_TIME;
                open.carrier.is_open() && !idle
            });
            !slot.open.is_empty() || slot.dialing.is_some()
        });
    }
}

impl<C: Carrier> Slot<C> {
    fn new() -> Self {
        Self { open: Vec::new(), dialing: None }
    }

    /// Returns the first connection that has room: the others empty themselves and are closed.
    fn room(&mut self) -> Option<C> {
        let usable = |open: &&Open<C>| open.carrier.is_open() && !open.carrier.is_full();
        let open = self.open.iter().find(usable)?;
        open.used.set(clock::now());
        Some(open.carrier.clone())
    }
}
