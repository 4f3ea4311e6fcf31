//! Callers of every kind at once, for as long as a test wants, and an exact account of what became of their calls.
//!
//! A call, stream or conversation that does not end as it should is *lost*: no scenario may lose one. A caller that cannot
//! connect any more is *refused*, and ends: that is what callers of a proxy that stops are to see, and no others. A listener
//! that closes resets what is still in its queue, which is a refusal too; a connection that the proxy has accepted it must not
//! reset, so that every other new one waits until it has, and is lost then.

mod service;
mod http;
mod talk;
mod scene;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::stage::place::Place;
use crate::stage::process::Process;
use crate::stage::wait::{seconds, until};

pub(crate) use crate::load::scene::{Places, Scene};

/// Between two calls of one caller, so that what is tested is the proxy and not the machine.
const PAUSE: Duration = Duration::from_millis(5);
/// A call that takes longer is lost: much, as the machine that this runs on may be busy with other things.
const STEP_MAX: Duration = Duration::from_secs(30);

/// Where calls go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets {
    /// The outbound listener.
    pub(crate) outbound: SocketAddr,
    /// The local port of a TCP service.
    pub(crate) tcp: SocketAddr,
}

/// Why a call did not end as it should.
#[derive(Debug)]
enum Lost {
    /// The connection was refused.
    Refused,
    /// It broke.
    Broken(String),
}

impl Lost {
    /// What became of a connection that had got no answer yet, and that the proxy had accepted for certain, or perhaps not.
    fn first(at: &str, error: &std::io::Error, accepted: bool) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset if !accepted => Self::Refused,
            _ => broken(at)(error),
        }
    }
}

fn broken(what: &str) -> impl FnOnce(&dyn std::fmt::Display) -> Lost {
    move |error| Lost::Broken(format!("{what}: {error}"))
}

/// What became of the calls of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Calls that ended as they should.
    pub(crate) done: usize,
    /// Callers that could not connect any more.
    pub(crate) refused: usize,
    /// Calls that were lost, and how.
    pub(crate) lost: Vec<String>,
}

/// What a caller notes, and when it is to stop.
#[derive(Clone)]
struct Notes {
    kind: &'static str,
    book: Arc<Mutex<BTreeMap<&'static str, Tally>>>,
    over: watch::Receiver<bool>,
}

impl Notes {
    fn tally(&self, change: impl FnOnce(&mut Tally)) {
        change(self.book.lock().unwrap().entry(self.kind).or_default());
    }

    fn done(&self) {
        self.tally(|tally| tally.done += 1);
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// Callers at work.
pub(crate) struct Load {
    runtime: Runtime,
    over: watch::Sender<bool>,
    book: Arc<Mutex<BTreeMap<&'static str, Tally>>>,
    callers: Vec<JoinHandle<()>>,
    grpc: Process,
}

impl Load {
    /// Starts callers of every kind.
    fn start(place: &Place, targets: Targets, grpc: Process) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let place = place.clone();
        runtime.worker_threads(2).enable_all().on_thread_start(move || place.enter());
        let runtime = runtime.build().unwrap();
        let (over, book) = (watch::Sender::new(false), Arc::default());
        let mut load = Self { runtime, over, book, callers: Vec::new(), grpc };
        for _ in 0..3 {
            load.spawn("http/1.1", targets, http::keep_alive);
        }
        load.spawn("http/1.1, slow", targets, http::slow_keep_alive);
        load.spawn("http/2", targets, http::many_streams);
        for _ in 0..3 {
            load.spawn("websocket", targets, talk::websocket);
            load.spawn("tcp", targets, talk::tcp);
        }
        load.spawn("websocket, http/2", targets, talk::websocket_of_http2);
        load
    }

    fn spawn<F>(&mut self, kind: &'static str, targets: Targets, call: fn(Targets, Notes) -> F)
    where
        F: Future<Output = Result<(), Lost>> + Send + 'static,
    {
        let notes = Notes { kind, book: self.book.clone(), over: self.over.subscribe() };
        let caller = self.runtime.spawn(async move {
            while !notes.is_over() {
                match call(targets, notes.clone()).await {
                    Ok(()) => {}
                    Err(Lost::Refused) => return notes.tally(|tally| tally.refused += 1),
                    Err(Lost::Broken(how)) => notes.tally(|tally| tally.lost.push(how)),
                }
            }
        });
        self.callers.push(caller);
    }

    /// Returns how many calls have ended as they should, by kind.
    pub(crate) fn done(&self) -> BTreeMap<&'static str, usize> {
        self.book.lock().unwrap().iter().map(|(kind, tally)| (*kind, tally.done)).collect()
    }

    /// Waits until callers of every kind have ended `more` calls from now on.
    pub(crate) fn goes_on(&self, more: usize) {
        let before = self.done();
        for kind in KINDS {
            let wanted = before.get(kind).copied().unwrap_or(0) + more;
            until(&format!("callers of the kind {kind} go on"), seconds(60), || {
                let done = self.done().get(kind).copied().unwrap_or(0);
                (done >= wanted).then_some(())
            });
        }
    }

    /// Lets callers end what they are at, or until all are refused, and returns what became of all calls.
    pub(crate) fn stop(mut self) -> BTreeMap<&'static str, Tally> {
        self.over.send_replace(true);
        self.runtime.block_on(async {
            for caller in self.callers.drain(..) {
                tokio::time::timeout(STEP_MAX * 2, caller).await.expect("a caller hangs").unwrap();
            }
        });
        kill_process(self.grpc.pid(), Signal::TERM).unwrap();
        until("the gRPC callers end", seconds(60), || self.grpc.ended());
        let log = self.grpc.log();
        let told = log.lines().last().unwrap_or_default();
        let told: serde_json::Value =
            serde_json::from_str(told).unwrap_or_else(|_| panic!("gRPC callers:\n{log}"));
        let count = |name: &str| usize::try_from(told[name].as_u64().unwrap()).unwrap();
        let lost = told["lost"].as_array().unwrap().iter().map(ToString::to_string).collect();
        let grpc = Tally { done: count("done"), refused: count("refused"), lost };
        let mut tallies = self.book.lock().unwrap().clone();
        tallies.insert("grpc", grpc);
        for (kind, Tally { done, refused, lost }) in &tallies {
            eprintln!("{kind}: {done} done, {refused} refused, {} lost", lost.len());
        }
        tallies
    }
}

/// The kinds of callers whose calls are counted while they go on.
const KINDS: [&str; 7] =
    ["http/1.1", "http/1.1, slow", "http/2", "http/2, slow", "websocket", "websocket, http/2", "tcp"];

/// Fails the test if a call was lost, or a kind of callers did nothing.
#[track_caller]
pub(crate) fn assert_nothing_lost(tallies: &BTreeMap<&'static str, Tally>) {
    assert_eq!(tallies.len(), KINDS.len() + 1);
    for (kind, tally) in tallies {
        assert!(tally.lost.is_empty(), "{kind}: {:#?}", &tally.lost[..tally.lost.len().min(10)]);
        assert!(tally.done > 0, "{kind}: nothing was done");
    }
}

/// Fails the test if a caller was refused.
#[track_caller]
pub(crate) fn assert_nobody_refused(tallies: &BTreeMap<&'static str, Tally>) {
    for (kind, tally) in tallies {
        assert_eq!(tally.refused, 0, "{kind}: refused");
    }
}
