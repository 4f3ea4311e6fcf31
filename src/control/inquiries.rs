//! Questions that are open to all proxies: each is told of them with the answer to its next report, a second from now at the
//! latest, and answers by itself. Bounded: so many questions, and so many answers that wait for who has asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::api::inquiry::{Ask, Inquiry, Told};
use crate::model::name::NodeName;

/// Questions that are open at a time.
pub const INQUIRIES_MAX: usize = 16;
/// Answers that wait for one who has asked; a proxy whose answer finds no room tells what it would have been worth.
const ANSWERS_MAX: usize = 256;

/// The open questions. Shared: every method takes `&self`.
#[derive(Debug, Default)]
pub struct Inquiries {
    open: Mutex<BTreeMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    ask: Ask,
    answers: mpsc::Sender<(NodeName, Told)>,
}

/// A question, as long as it is open. Dropping it closes it.
#[derive(Debug)]
pub struct Question {
    all: Arc<Inquiries>,
    id: u64,
    answers: mpsc::Receiver<(NodeName, Told)>,
}

/// Nobody waits for an answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over;

impl Inquiries {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all proxies; `None` when too many questions are open.
    pub fn ask(self: &Arc<Self>, ask: Ask) -> Option<Question> {
        let mut open = self.lock();
        if open.len() >= INQUIRIES_MAX {
            return None;
        }
        // Not a number that a control plane before this one has given to another question.
        let id = rand::random();
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        open.insert(id, Open { ask, answers: sender });
        Some(Question { all: self.clone(), id, answers })
    }

    /// Returns what a proxy is to be asked.
    pub fn open(&self) -> Vec<Inquiry> {
        self.lock().iter().map(|(id, open)| Inquiry { id: *id, ask: open.ask.clone() }).collect()
    }

    /// Takes an answer. What finds no room is let go.
    ///
    /// # Errors
    /// When nobody waits for it.
    pub fn answer(&self, id: u64, node: &NodeName, told: Told) -> Result<(), Over> {
        let answers = self.lock().get(&id).ok_or(Over)?.answers.clone();
        let count = told.calls.len() as u64 + told.missed;
        match answers.try_send((node.clone(), told)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::debug!(%node, count, "who watches does not keep up");
                Ok(())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Over),
        }
    }
}

impl Question {
    /// Waits for the next answer. May be given up and asked again: nothing is lost by that.
    pub async fn next(&mut self) -> Option<(NodeName, Told)> {
        self.answers.recv().await
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}
