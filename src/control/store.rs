//! The log of [`State`] on disk: a command is acknowledged when it is flushed, and never lost after that.
//!
//! One thread writes. It takes what has queued up, applies it, appends it in one batch, syncs once, and only then
//! publishes the new state and answers (group commit). Every [`SNAPSHOT_EVERY`] commands the state itself is written and
//! the log before it removed, in one batch. Readers hold an `Arc` of the state and never wait.
//!
//! Rows: `snapshot` is a [`State`], `log/<revision, 8 bytes>` the command that made that revision, both JSON.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::logic::state::{Change, Command, Event, Refusal, State, Written};
use crate::model::resource::{Resource, Revision};
use crate::net::clock;
use crate::net::disk::{self, Batch, Db, Row};

/// The version of what is kept. A newer one is refused; an older one is read.
pub const FORMAT: u32 = 2;
/// Commands between two snapshots: replaying so many takes a few milliseconds.
pub const SNAPSHOT_EVERY: u64 = 1000;
/// Commands that wait for the writer; who comes later waits to queue.
const COMMANDS_MAX: usize = 256;
/// Commands that share one sync.
const BATCH_MAX: usize = 128;
/// Changes of objects that watchers can resume from.
const HISTORY_MAX: usize = 4096;
/// A disk that takes longer is reported as unavailable; the write may still happen.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);
const SNAPSHOT_ROW: &[u8] = b"snapshot";
const LOG_PREFIX: &[u8] = b"log/";

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The map below it.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// Its rows do not make a state.
    #[error("the store in {dir} is damaged ({reason}): move it aside and put a copy of it in its place")]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// No thread could be started.
    #[error("cannot start the thread that writes the store: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The state refused it: nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be written: nothing was, try again.
    #[error("the control plane cannot write its store: {0}")]
    Unwritten(String),
    /// The store has ended, or takes too long: it is unknown whether the command was written.
    #[error("the control plane's store does not answer")]
    Silent,
}

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Committed {
    /// What it did; nothing when all was so already.
    pub events: Vec<Event>,
    /// The state that was published with it: it holds this command, and maybe later ones.
    pub state: Arc<State>,
}

/// One change of an object, kept for watchers.
#[derive(Debug, Clone)]
pub struct ObjectChange {
    /// The revision it made.
    pub revision: Revision,
    /// What happened.
    pub written: Written,
    /// The object as it is, or was before it was deleted.
    pub object: Arc<Resource>,
}

/// The last changes of objects.
#[derive(Debug, Default)]
struct History {
    /// Changes up to this revision are gone.
    floor: Revision,
    changes: VecDeque<ObjectChange>,
}

impl History {
    fn push(&mut self, change: ObjectChange) {
        if self.changes.len() >= HISTORY_MAX {
            self.floor = self.changes.pop_front().map_or(self.floor, |oldest| oldest.revision);
        }
        self.changes.push_back(change);
    }

    fn note(&mut self, revision: Revision, events: &[Event]) {
        for event in events {
            if let Event::Object { written, object } = event {
                self.push(ObjectChange { revision, written: *written, object: Arc::clone(object) });
            }
        }
    }
}

enum Wish {
    Submit(Command, oneshot::Sender<Result<Committed, SubmitError>>),
    Close(oneshot::Sender<()>),
}

/// The open store. Shared by reference; every method takes `&self`.
#[derive(Debug)]
pub struct Store {
    wishes: mpsc::Sender<Wish>,
    state: watch::Receiver<Arc<State>>,
    history: Arc<Mutex<History>>,
    db: Arc<Db>,
}

impl Store {
    /// Opens the store in `dir`, makes it when missing, and replays its log. Blocks.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let db = Arc::new(Db::open(dir, FORMAT)?);
        let mut history = History::default();
        let (state, pending) = replay(&db, dir, &mut history)?;
        let history = Arc::new(Mutex::new(history));
        let (wishes, inbox) = mpsc::channel(COMMANDS_MAX);
        let (published, seen) = watch::channel(Arc::new(state.clone()));
        let writer = Writer { db: Arc::clone(&db), state, pending, published, history: Arc::clone(&history) };
        thread::Builder::new()
            .name("mesh-store".to_owned())
            .spawn(move || writer.run(inbox))
            .map_err(Error::Thread)?;
        Ok(Self { wishes, state: seen, history, db })
    }

    /// Returns the newest state on disk.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Follows the state: the newest wins, those between may be skipped. Closed when the store has ended.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Returns whether it has ended: nothing can be written any more.
    pub fn has_failed(&self) -> bool {
        self.wishes.is_closed()
    }

    /// Returns the map below, for rows of other sorts; their keys must begin with neither `log/` nor `snapshot`.
    pub fn db(&self) -> &Arc<Db> {
        &self.db
    }

    /// Carries out a command of the control plane itself; it is on disk when this returns.
    pub async fn submit(&self, change: Change) -> Result<Committed, SubmitError> {
        self.submit_for(String::new(), change).await
    }

    /// Carries out a command of `by`, as [`Command::by`] has it; it is on disk when this returns.
    pub async fn submit_for(&self, by: String, change: Change) -> Result<Committed, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let command = Command { at_ms: clock::wall_ms(), by, change };
        let done = async {
            self.wishes.send(Wish::Submit(command, answer)).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(SUBMIT_TIMEOUT, done).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => Err(SubmitError::Silent),
        }
    }

    /// Returns the changes of objects after `revision`, oldest first; `None` when some of them are no longer kept.
    pub fn changes_since(&self, revision: Revision) -> Option<Vec<ObjectChange>> {
        let history = lock(&self.history);
        let newer = |change: &&ObjectChange| change.revision > revision;
        (revision >= history.floor).then(|| history.changes.iter().filter(newer).cloned().collect())
    }

    /// Waits until the writer has ended and let go of its files.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.wishes.send(Wish::Close(answer)).await.is_ok() {
            let _ended = tokio::time::timeout(SUBMIT_TIMEOUT, answered).await;
        }
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_key(revision: Revision) -> Vec<u8> {
    [LOG_PREFIX, &revision.to_be_bytes()].concat()
}

/// Reads the snapshot and the log after it; returns the state and the number of commands in the log.
fn replay(db: &Db, dir: &Path, history: &mut History) -> Result<(State, u64), Error> {
    let damaged = |reason: String| Error::Damaged { dir: dir.to_owned(), reason };
    let mut state = match db.get(SNAPSHOT_ROW)? {
        None => State::default(),
        Some(row) => {
            serde_json::from_slice(&row).map_err(|error| damaged(format!("its snapshot: {error}")))?
        }
    };
    history.floor = state.revision();
    let log = db.scan(LOG_PREFIX)?;
    for (key, row) in &log {
        let next = state.revision() + 1;
        if *key != log_key(next) {
            return Err(damaged(format!("the command of revision {next} is missing")));
        }
        let command: Command = serde_json::from_slice(row)
            .map_err(|error| damaged(format!("the command of revision {next}: {error}")))?;
        let events = state
            .apply(command)
            .map_err(|refusal| damaged(format!("the command of revision {next} is refused: {refusal}")))?;
        if state.revision() != next {
            return Err(damaged(format!("the command of revision {next} does nothing")));
        }
        history.note(next, &events);
    }
    Ok((state, log.len() as u64))
}

/// Reads the state in a map that no store has open. Blocks.
pub fn read(db: &Db, dir: &Path) -> Result<State, Error> {
    replay(db, dir, &mut History::default()).map(|(state, _)| state)
}

/// Returns the rows beside the state.
pub fn rows_beside(db: &Db) -> Result<Vec<Row>, disk::Error> {
    let is_beside = |(key, _): &Row| key != SNAPSHOT_ROW && !key.starts_with(LOG_PREFIX);
    Ok(db.scan(&[])?.into_iter().filter(is_beside).collect())
}

/// Puts a state, and the rows beside it, in the place of everything in a map that no store has open: all of it or nothing.
/// Blocks.
pub fn replace(db: &Db, state: &State, rows: Vec<Row>) -> Result<(), disk::Error> {
    let snapshot = serde_json::to_vec(state).map_err(|error| db.io(error.into()))?;
    let mut batch = Batch::default();
    for (key, _) in db.scan(&[])? {
        batch.remove(&key);
    }
    batch.put(SNAPSHOT_ROW, &snapshot);
    for (key, value) in rows {
        batch.put(&key, &value);
    }
    db.batch(batch)
}

/// The one who writes.
struct Writer {
    db: Arc<Db>,
    /// As it will be once the current batch is on disk.
    state: State,
    /// Commands in the log since the last snapshot.
    pending: u64,
    published: watch::Sender<Arc<State>>,
    history: Arc<Mutex<History>>,
}

/// A command that was applied and waits for the disk.
type Applied = (Vec<Event>, oneshot::Sender<Result<Committed, SubmitError>>);

impl Writer {
    fn run(mut self, mut inbox: mpsc::Receiver<Wish>) {
        while let Some(first) = inbox.blocking_recv() {
            let mut wishes = vec![first];
            while wishes.len() < BATCH_MAX
                && let Ok(next) = inbox.try_recv()
            {
                wishes.push(next);
            }
            let mut closing = None;
            let mut commands = Vec::new();
            for wish in wishes {
                match wish {
                    Wish::Submit(command, answer) => commands.push((command, answer)),
                    Wish::Close(answer) => closing = Some(answer),
                }
            }
            let lasting = self.carry_out(commands);
            if let Some(answer) = closing {
                drop(self);
                let _gone = answer.send(());
                return;
            }
            if !lasting {
                tracing::error!("the store has failed; nothing more is written");
                return;
            }
        }
    }

    /// Applies, appends, syncs, publishes, answers. Returns false when it is unknown what is on disk.
    fn carry_out(
        &mut self,
        commands: Vec<(Command, oneshot::Sender<Result<Committed, SubmitError>>)>,
    ) -> bool {
        let mut batch = Batch::default();
        let mut applied: Vec<Applied> = Vec::new();
        let mut notes = Vec::new();
        for (command, answer) in commands {
            match self.apply(command, &mut batch) {
                Ok(events) => {
                    if !events.is_empty() {
                        notes.push((self.state.revision(), events.clone()));
                    }
                    applied.push((events, answer));
                }
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        if !notes.is_empty()
            && let Err(error) = self.write(batch, notes.len() as u64)
        {
            self.state = State::clone(&self.published.borrow());
            let text = error.to_string();
            tracing::error!(error = text, "cannot write the store");
            for (_, answer) in applied {
                drop(answer.send(Err(SubmitError::Unwritten(text.clone()))));
            }
            return matches!(error, disk::Error::Full(_) | disk::Error::Gone(_));
        }
        if !notes.is_empty() {
            let mut history = lock(&self.history);
            for (revision, events) in &notes {
                history.note(*revision, events);
            }
            drop(history);
            self.published.send_replace(Arc::new(self.state.clone()));
        }
        let state = Arc::clone(&self.published.borrow());
        for (events, answer) in applied {
            drop(answer.send(Ok(Committed { events, state: Arc::clone(&state) })));
        }
        true
    }

    fn apply(&mut self, command: Command, batch: &mut Batch) -> Result<Vec<Event>, SubmitError> {
        let row = serde_json::to_vec(&command).map_err(|error| SubmitError::Unwritten(error.to_string()))?;
        let events = self.state.apply(command)?;
        if !events.is_empty() {
            batch.put(&log_key(self.state.revision()), &row);
        }
        Ok(events)
    }

    /// Writes a batch of `count` commands; after enough of them, the state itself in place of the log.
    fn write(&mut self, batch: Batch, count: u64) -> Result<(), disk::Error> {
        self.db.batch(batch)?;
        self.pending += count;
        if self.pending < SNAPSHOT_EVERY {
            return Ok(());
        }
        let Ok(snapshot) = serde_json::to_vec(&self.state) else {
            return Ok(());
        };
        let mut batch = Batch::default();
        batch.put(SNAPSHOT_ROW, &snapshot);
        for (key, _) in self.db.scan(LOG_PREFIX)? {
            batch.remove(&key);
        }
        match self.db.batch(batch) {
            Ok(()) => {
                self.pending = 0;
                Ok(())
            }
            // The commands are on disk; the log only stays longer.
            Err(disk::Error::Full(_) | disk::Error::Gone(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
