//! Answers what control asks about calls that have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::sleep;

use crate::api::client::{Client, Error};
use crate::api::inquiry::{Ask, CALLS_MAX, Inquiry, Told};
use crate::net::task;
use crate::telemetry::recent::{Recent, Tap};

/// Questions that are known to be answered, or about to be; control says each of them until it is closed.
const KNOWN_MAX: usize = 64;
/// How often calls are told that somebody watches.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// How often it is asked whether somebody still does: once in so many times.
const ROUNDS: u32 = 4;

/// Answers questions. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Answerer {
    recent: Arc<Recent>,
    started_ms: u64,
    known: Arc<Mutex<VecDeque<u64>>>,
}

impl Answerer {
    /// Makes one that answers from what is remembered by a process that began then.
    pub(crate) fn new(recent: Arc<Recent>, started_ms: u64) -> Self {
        Self { recent, started_ms, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to answer those questions of a control plane that are new.
    pub(crate) fn take(&self, client: &Client, inquiries: Vec<Inquiry>) {
        for Inquiry { id, ask } in inquiries.into_iter().take(KNOWN_MAX) {
            let mut known = self.known();
            if known.contains(&id) {
                continue;
            }
            if known.len() >= KNOWN_MAX {
                known.pop_front();
            }
            known.push_back(id);
            drop(known);
            let (this, client) = (self.clone(), client.clone());
            task::spawn("inquiry", async move {
                match this.answer(&client, id, ask).await {
                    // Control has ended it, or has its answer.
                    Ok(()) | Err(Error::Problem(_)) => {}
                    Err(error) => {
                        tracing::debug!(%error, "an answer was lost; it is given again when control asks again");
                        this.known().retain(|one| *one != id);
                    }
                }
            });
        }
    }

    async fn answer(&self, client: &Client, id: u64, ask: Ask) -> Result<(), Error> {
        match ask {
            Ask::Request(name) => {
                let found = self.recent.find(&name);
                let (calls, forgotten_ms) = (found.calls, found.forgotten_ms);
                let told = Told { calls, forgotten_ms, started_ms: self.started_ms, missed: 0 };
                client.answer(id, &told).await
            }
            Ask::Calls { filter, per_second } => match self.recent.tap(filter, per_second) {
                Some(tap) => self.tell(client, id, tap).await,
                None => Ok(()),
            },
        }
    }

    /// Tells of calls until control says that nobody watches.
    async fn tell(&self, client: &Client, id: u64, mut tap: Tap) -> Result<(), Error> {
        let mut told = Told { started_ms: self.started_ms, ..Told::default() };
        for round in 0_u32.. {
            sleep(TELL_EVERY).await;
            tap.next(&mut told.calls, CALLS_MAX).now_or_never();
            told.missed = tap.missed();
            if !told.calls.is_empty() || told.missed > 0 || round % ROUNDS == 0 {
                client.answer(id, &told).await?;
                told.calls.clear();
            }
        }
        Ok(())
    }
}
