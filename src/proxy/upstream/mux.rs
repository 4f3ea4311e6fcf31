//! Multiplexed HTTP/2 connections of one worker, by key: to other proxies, and to local services that speak it.
//!
//! One connection for each key while it has room, more when it has not. Whoever needs one while it is being made waits for
//! that one: there is one attempt at a time for each key.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::oneshot;

use crate::net::{clock, task};
use crate::proxy::failure::{Failed, Failure};

/// Streams on a connection before another is opened; half of what the other side allows, so that it never refuses one.
pub const STREAMS_MAX: usize = 256;
/// Connections for one key at most: about 8,000 calls under way from one worker to one endpoint.
pub const CONNECTIONS_MAX: usize = 32;
/// A connection that carried nothing for so long is closed.
pub const IDLE_TIME: Duration = Duration::from_secs(90);

/// The connections of one worker.
pub struct Mux<K, B> {
    slots: RefCell<HashMap<K, Slot<B>>>,
}

struct Slot<B> {
    open: Vec<Rc<Open<B>>>,
    dialing: Option<Shared<oneshot::Receiver<Option<Failed>>>>,
}

struct Open<B> {
    sender: SendRequest<B>,
    streams: Cell<usize>,
    used: Cell<Instant>,
}

/// Room for one stream on a connection, given back when dropped.
pub struct Stream<B> {
    open: Rc<Open<B>>,
}

impl<K, B> Mux<K, B>
where
    K: Eq + Hash + Clone + 'static,
    B: 'static,
{
    /// Makes one without connections.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { slots: RefCell::default() })
    }

    /// Finds room for one stream, opening a connection by `dial` when there is none.
    ///
    /// # Errors
    /// When the connection cannot be made, or there are too many already.
    pub async fn stream<F>(self: &Rc<Self>, key: &K, dial: impl FnOnce() -> F) -> Result<Stream<B>, Failed>
    where
        F: Future<Output = Result<SendRequest<B>, Failed>> + 'static,
    {
        let mut dial = Some(dial);
        loop {
            let waiting = {
                let mut slots = self.slots.borrow_mut();
                let slot = slots.entry(key.clone()).or_insert_with(Slot::new);
                if let Some(stream) = slot.room() {
                    return Ok(stream);
                }
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
        F: Future<Output = Result<SendRequest<B>, Failed>> + 'static,
    {
        let (done, waiting) = oneshot::channel();
        task::spawn_local("dial", async move {
            let dialed = dial.await;
            let mut slots = self.slots.borrow_mut();
            let slot = slots.entry(key).or_insert_with(Slot::new);
            slot.dialing = None;
            let failed = match dialed {
                Ok(sender) => {
                    let used = Cell::new(clock::now());
                    slot.open.push(Rc::new(Open { sender, streams: Cell::new(0), used }));
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
                let idle = now.saturating_duration_since(open.used.get()) >= IDLE_TIME;
                !open.sender.is_closed() && (open.streams.get() > 0 || !idle)
            });
            !slot.open.is_empty() || slot.dialing.is_some()
        });
    }
}

impl<B: 'static> Slot<B> {
    fn new() -> Self {
        Self { open: Vec::new(), dialing: None }
    }

    /// Takes room on the first connection that has some: the others empty themselves and are closed.
    fn room(&mut self) -> Option<Stream<B>> {
        self.open.retain(|open| !open.sender.is_closed());
        let open = self.open.iter().find(|open| open.streams.get() < STREAMS_MAX)?.clone();
        open.used.set(clock::now());
        open.streams.set(open.streams.get() + 1);
        Some(Stream { open })
    }
}

impl<B> Stream<B> {
    /// Returns what sends on the connection.
    pub fn sender(&self) -> SendRequest<B> {
        self.open.sender.clone()
    }
}

impl<B> Drop for Stream<B> {
    fn drop(&mut self) {
        self.open.streams.set(self.open.streams.get() - 1);
    }
}
