//! One proxy that goes on in another process: the old one serves until the new one could, and its callers notice nothing.
//!
//! The new process connects to a socket in the data directory and asks for one thing after the other, so that the old one
//! loses nothing by a new one that fails, at any step:
//!
//! | asked for | given | meanwhile the old process |
//! |---|---|---|
//! | sockets | every listening socket, with what waits in its queue | serves |
//! | store | the data directory's store, which one process at a time can open | serves from memory, and puts changes off |
//! | gossip | its sockets, and all that the node knows and last said | serves, and leaves others' gossip unanswered |
//! | traffic | nothing: from here on the new process accepts | accepts no more, and ends when its callers have |
//!
//! To the mesh the node is the same member all the time. Until traffic is given, the new process accepts nothing; if it
//! gives up, ends, or is not ready in time, the old one takes everything back; who hangs with the store in its hands is ended,
//! as nobody could start on the data directory before. Both versions may differ: fields may be added to messages, and what is
//! not known is ignored; sockets that the new process does not know it closes.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::gossip::agent::Estate;
use crate::model::name::NodeName;
use crate::net::clock;
use crate::net::handoff::{Door, Line};
use crate::proxy::words::{Ask, Error, Give, VERSION, Who};

/// The socket that a new process connects to, in the data directory.
pub(crate) const SOCKET_FILE: &str = "handover.sock";
/// Longest time from when the store is given until the new process is ready, unless another is told. After that the old one
/// goes on.
pub const READY_MAX: Duration = Duration::from_secs(30);
/// Longest time for anything before that, and for anything that the old process has to do.
const STEP_MAX: Duration = Duration::from_secs(10);
/// To tell the other side why it is not to be.
const WORDS_MAX: Duration = Duration::from_secs(1);
/// Longest time until a process that was told so lets go of the store, and again until the store is open after its end.
const LET_GO_MAX: Duration = Duration::from_secs(5);

/// Listening sockets, by what they are for.
pub(crate) type Sockets = BTreeMap<String, Vec<OwnedFd>>;

// --- the old process ------------------------------------------------------------------------------------------------

/// A proxy that can be taken over.
pub(crate) trait Giver {
    /// Returns who this is.
    fn who(&self) -> Who;
    /// Starts another process that is to take over, of its own program or of another one; returns its number.
    fn start_successor(&self, program: Option<PathBuf>) -> io::Result<i32>;
    /// Returns every listening socket but those of gossip, with what it is for.
    fn sockets(&self) -> Vec<(String, BorrowedFd<'_>)>;
    /// Closes the store. Serves on from memory.
    fn lend_store(&self) -> impl Future<Output = ()>;
    /// Stops gossiping; `None` when it cannot be left to another process.
    fn lend_gossip(&self) -> impl Future<Output = Option<Estate>>;
    /// Gossips again, as the other process did not take over for `reason`.
    fn take_back(&self, reason: &str);
    /// Opens the store as soon as the other process lets go of it, and writes again. Changes nothing for one that is open.
    fn reopen_store(&self) -> impl Future<Output = ()>;
    /// Returns how long another process may take from when it has the store until it is ready: [`READY_MAX`].
    fn ready_max(&self) -> Duration;
}

/// Waits for a process that takes over, and gives it everything. Returns its number once nothing is to be accepted any more;
/// `follow` is told of it just before, and of who goes on if that was in vain.
pub(crate) async fn give(door: &Door, giver: &impl Giver, follow: impl Fn(i32)) -> i32 {
    let mut has_store = true;
    loop {
        let mut line = tokio::select! {
            line = door.next() => line,
            () = giver.reopen_store(), if !has_store => {
                tracing::info!("the store is back");
                has_store = true;
                continue;
            }
        };
        let pid = line.peer();
        match give_to(&mut line, giver, &follow).await {
            Ok(Given::Everything) => return pid,
            Ok(Given::Answer) => {}
            Err(reason) => {
                tracing::warn!(pid, %reason, "the other process does not take over; this one goes on");
                let reason = reason.to_string();
                let refused = Give::Refused { reason: reason.clone() };
                _ = timeout(WORDS_MAX, line.send(&refused, &[])).await;
                giver.take_back(&reason);
                has_store = reopen(&line, giver).await;
            }
        }
    }
}

/// Opens the store again that the process on the line has had; returns whether it is open.
async fn reopen(line: &Line, giver: &impl Giver) -> bool {
    if timeout(LET_GO_MAX, giver.reopen_store()).await.is_ok() {
        return true;
    }
    if line.end_peer() {
        tracing::warn!(
            pid = line.peer(),
            "the other process hangs and does not let go of the store: ended it"
        );
    }
    let opened = timeout(LET_GO_MAX, giver.reopen_store()).await.is_ok();
    if !opened {
        tracing::error!("the store is not back: serving from memory, and trying on");
    }
    opened
}

/// What a process has got.
#[derive(Debug, PartialEq, Eq)]
enum Given {
    /// What it wanted to know, or have done.
    Answer,
    /// All there is: it is the proxy now.
    Everything,
}

/// Why a process does not take over.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it has ended")]
    Ended,
    #[error("it speaks another version ({0})")]
    Version(u32),
    #[error("it was not ready in time")]
    Late,
    #[error("gossip could not be handed over")]
    Gossip,
    #[error("it does not keep to the order of the steps")]
    Order,
    #[error("{0}")]
    GaveUp(String),
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        if gone.contains(&error.kind()) { Self::Ended } else { Self::Io(error) }
    }
}

async fn give_to(line: &mut Line, giver: &impl Giver, follow: &impl Fn(i32)) -> Result<Given, Failed> {
    let pid = line.peer();
    let mut deadline = Instant::from_std(clock::now()) + STEP_MAX;
    let who = giver.who();
    let first = match ask(line, deadline).await {
        // It only wanted to know which process this is.
        Err(Failed::Ended) => return Ok(Given::Answer),
        asked => asked?,
    };
    match first {
        Ask::Who => {
            line.send(&Give::Who(Box::new(who)), &[]).await?;
            return Ok(Given::Answer);
        }
        Ask::Replace { program } => {
            let started = giver.start_successor(program).map_err(Failed::Io)?;
            tracing::info!(pid = started, "started a process to take over");
            line.send(&Give::Started { pid: started }, &[]).await?;
            return Ok(Given::Answer);
        }
        Ask::Sockets { version: VERSION, build } => {
            tracing::info!(pid, build, "another process wants to take over");
        }
        Ask::Sockets { version, .. } => return Err(Failed::Version(version)),
        asked @ (Ask::Store | Ask::Gossip | Ask::Traffic | Ask::GiveUp { .. }) => {
            return Err(asked.unexpected());
        }
    }
    let (names, sockets): (Vec<_>, Vec<_>) = giver.sockets().into_iter().unzip();
    line.send(&Give::Sockets { build: who.build, node: who.node, names }, &sockets).await?;

    expect(line, deadline, |ask| matches!(ask, Ask::Store)).await?;
    deadline = Instant::from_std(clock::now()) + giver.ready_max();
    timeout_at(deadline, giver.lend_store()).await.map_err(|_| Failed::Late)?;
    line.send(&Give::Store, &[]).await?;

    expect(line, deadline, |ask| matches!(ask, Ask::Gossip)).await?;
    let lent = timeout_at(deadline, giver.lend_gossip()).await.map_err(|_| Failed::Late)?;
    let Estate { legacy, udp, tcp } = lent.ok_or(Failed::Gossip)?;
    line.send(&Give::Gossip { legacy: Box::new(legacy) }, &[udp.as_fd(), tcp.as_fd()]).await?;

    expect(line, deadline, |ask| matches!(ask, Ask::Traffic)).await?;
    follow(pid);
    if let Err(error) = line.send(&Give::Traffic, &[]).await {
        follow(i32::try_from(std::process::id()).unwrap_or_default());
        return Err(error.into());
    }
    Ok(Given::Everything)
}

impl Ask {
    /// Returns why it cannot be granted now.
    fn unexpected(self) -> Failed {
        match self {
            Self::GiveUp { reason } => Failed::GaveUp(reason),
            Self::Who
            | Self::Replace { .. }
            | Self::Sockets { .. }
            | Self::Store
            | Self::Gossip
            | Self::Traffic => Failed::Order,
        }
    }
}

async fn ask(line: &mut Line, deadline: Instant) -> Result<Ask, Failed> {
    Ok(timeout_at(deadline, line.receive()).await.map_err(|_| Failed::Late)??.0)
}

async fn expect(line: &mut Line, deadline: Instant, is_it: impl Fn(&Ask) -> bool) -> Result<(), Failed> {
    let asked = ask(line, deadline).await?;
    if is_it(&asked) { Ok(()) } else { Err(asked.unexpected()) }
}

// --- the new process ------------------------------------------------------------------------------------------------

/// A process on its way to take over. Dropping it leaves everything to the old one.
#[derive(Debug)]
pub(crate) struct Taker {
    line: Line,
    /// Every listening socket of the old process but those of gossip.
    pub(crate) sockets: Sockets,
}

impl Taker {
    /// Connects to the proxy that runs on a data directory, that of `node` if it must be, and gets its sockets; `None` when
    /// none runs.
    ///
    /// # Errors
    /// When it is another node, or does not hand over.
    pub(crate) async fn connect(
        data_dir: &Path,
        node: Option<&NodeName>,
        build: &str,
    ) -> Result<Option<Self>, Error> {
        let Some(line) = Line::connect(&data_dir.join(SOCKET_FILE)).await? else { return Ok(None) };
        let mut taker = Self { line, sockets: Sockets::new() };
        let ask = Ask::Sockets { version: VERSION, build: build.to_owned() };
        let (given, sockets) = taker.ask(&ask).await?;
        let Give::Sockets { build, node: theirs, names } = given else { return Err(disorder()) };
        if node.is_some_and(|node| theirs != *node) {
            taker.give_up("it is another node").await;
            return Err(Error::OtherNode(theirs));
        }
        tracing::info!(pid = taker.line.peer(), build, sockets = sockets.len(), "taking over");
        for (name, socket) in names.into_iter().zip(sockets) {
            taker.sockets.entry(name).or_default().push(socket);
        }
        Ok(Some(taker))
    }

    /// Asks for the store: it can be opened then.
    ///
    /// # Errors
    /// When the old process goes on.
    pub(crate) async fn store(&mut self) -> Result<(), Error> {
        let given = self.ask(&Ask::Store).await?.0;
        if matches!(given, Give::Store) { Ok(()) } else { Err(disorder()) }
    }

    /// Asks for the node's voice in the gossip.
    ///
    /// # Errors
    /// When the old process goes on.
    pub(crate) async fn gossip(&mut self) -> Result<Estate, Error> {
        let (given, sockets) = self.ask(&Ask::Gossip).await?;
        match (given, <[OwnedFd; 2]>::try_from(sockets)) {
            (Give::Gossip { legacy }, Ok([udp, tcp])) => {
                Ok(Estate { legacy: *legacy, udp: udp.into(), tcp: tcp.into() })
            }
            _ => Err(disorder()),
        }
    }

    /// Asks for the traffic, everything being ready for it: this process is the proxy from here on.
    ///
    /// # Errors
    /// When the old process goes on.
    pub(crate) async fn traffic(&mut self) -> Result<(), Error> {
        let given = self.ask(&Ask::Traffic).await?.0;
        if matches!(given, Give::Traffic) { Ok(()) } else { Err(disorder()) }
    }

    /// Tells the old process that it is to go on, and why. The store must be closed by now.
    pub(crate) async fn give_up(mut self, reason: &str) {
        let give_up = Ask::GiveUp { reason: reason.to_owned() };
        // If it does not hear, it notices.
        _ = timeout(WORDS_MAX, self.line.send(&give_up, &[])).await;
    }

    async fn ask(&mut self, ask: &Ask) -> Result<(Give, Vec<OwnedFd>), Error> {
        answer(&mut self.line, ask).await
    }
}

async fn answer(line: &mut Line, ask: &Ask) -> Result<(Give, Vec<OwnedFd>), Error> {
    let given = timeout(STEP_MAX, async {
        line.send(ask, &[]).await?;
        line.receive().await
    });
    match given.await.map_err(|_| Error::Silent)?? {
        (Give::Refused { reason }, _) => Err(Error::Refused(reason)),
        given => Ok(given),
    }
}

// --- whoever wants one replaced -------------------------------------------------------------------------------------

/// Asks the proxy that runs on a data directory who it is, and returns its process number too; `None` when none runs.
///
/// # Errors
/// When it does not answer.
pub async fn who(data_dir: &Path) -> Result<Option<(i32, Who)>, Error> {
    let Some(mut line) = Line::connect(&data_dir.join(SOCKET_FILE)).await? else { return Ok(None) };
    let Give::Who(who) = answer(&mut line, &Ask::Who).await?.0 else { return Err(disorder()) };
    Ok(Some((line.peer(), *who)))
}

/// Has the proxy that runs on a data directory start its program again, or another `program`, to take over; returns the new
/// process' number. It is the proxy once [`runs`] says so.
///
/// # Errors
/// When none runs, or the program cannot be started.
pub async fn replace(data_dir: &Path, program: Option<PathBuf>) -> Result<i32, Error> {
    let line = Line::connect(&data_dir.join(SOCKET_FILE)).await?;
    let mut line = line.ok_or_else(|| Error::Refused("it has ended".to_owned()))?;
    let Give::Started { pid } = answer(&mut line, &Ask::Replace { program }).await?.0 else {
        return Err(disorder());
    };
    Ok(pid)
}

/// Returns which process is the proxy of a data directory; `None` when none is.
///
/// # Errors
/// When it is another user's.
pub async fn runs(data_dir: &Path) -> Result<Option<i32>, Error> {
    Ok(Line::connect(&data_dir.join(SOCKET_FILE)).await?.map(|line| line.peer()))
}

fn disorder() -> Error {
    Error::Refused("it does not keep to the order of the steps".to_owned())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::TcpListener;
    use std::os::fd::{AsFd as _, BorrowedFd};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use tempfile::TempDir;

    use crate::gossip::agent::{Estate, Legacy};
    use crate::logic::gossip::wire::Identity;
    use crate::model::name::NodeName;
    use crate::net::handoff::{Door, Line};
    use crate::proxy::handover::{Giver, READY_MAX, SOCKET_FILE, Taker, give_to, replace, runs, who};
    use crate::proxy::successor::Successor;
    use crate::proxy::words::{Ask, Error, Give, VERSION, Who};

    fn host() -> NodeName {
        "host-1".parse().unwrap()
    }

    /// A proxy that notes what it is asked to do.
    struct Fake {
        listener: TcpListener,
        lent: RefCell<Vec<&'static str>>,
        /// Whether its gossip does not stop.
        keeps: Cell<bool>,
        followed: Cell<i32>,
        folder: TempDir,
        door: Door,
    }

    impl Fake {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let door = Door::open(&folder.path().join(SOCKET_FILE)).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (lent, keeps, followed) = (RefCell::default(), Cell::new(false), Cell::new(0));
            Self { listener, lent, keeps, followed, folder, door }
        }

        fn folder(&self) -> &Path {
            self.folder.path()
        }

        /// Serves one process; returns why it did not take over.
        async fn serve(&self) -> Option<String> {
            let mut line = self.door.next().await;
            let given = give_to(&mut line, self, &|pid| self.followed.set(pid)).await;
            given.err().map(|failed| failed.to_string())
        }
    }

    impl Giver for Fake {
        fn who(&self) -> Who {
            let (build, program) = ("2".to_owned(), "/bin/false".into());
            Who { node: host(), build, program, controls: Vec::new(), pins: Vec::new() }
        }

        fn start_successor(&self, program: Option<PathBuf>) -> std::io::Result<i32> {
            let program = program.unwrap_or(self.who().program);
            Ok(Successor { program, words: Vec::new() }.start()?.0)
        }

        fn sockets(&self) -> Vec<(String, BorrowedFd<'_>)> {
            vec![
                ("outbound".to_owned(), self.listener.as_fd()),
                ("outbound".to_owned(), self.listener.as_fd()),
            ]
        }

        async fn lend_store(&self) {
            self.lent.borrow_mut().push("store");
        }

        async fn lend_gossip(&self) -> Option<Estate> {
            self.lent.borrow_mut().push("gossip");
            if self.keeps.get() {
                return std::future::pending().await;
            }
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let me = Identity { node: host(), epoch: 7, life: 1, addr: tcp.local_addr().unwrap() };
            let legacy = Legacy { me, version: 3, salt: [1; 4], said: None, known: String::new() };
            Some(Estate { legacy, udp: std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), tcp })
        }

        fn take_back(&self, _reason: &str) {}

        async fn reopen_store(&self) {}

        fn ready_max(&self) -> Duration {
            READY_MAX
        }
    }

    async fn take(folder: &Path) -> Result<Option<Taker>, Error> {
        Taker::connect(folder, Some(&host()), "1").await
    }

    #[tokio::test]
    async fn everything_is_given_step_by_step() {
        let proxy = Fake::new();
        let taking = async {
            let mut taker = take(proxy.folder()).await.unwrap().unwrap();
            assert_eq!(taker.sockets["outbound"].len(), 2);
            assert!(proxy.lent.borrow().is_empty());
            taker.store().await.unwrap();
            assert_eq!(*proxy.lent.borrow(), ["store"]);
            let estate = taker.gossip().await.unwrap();
            assert_eq!((estate.legacy.me.epoch, estate.legacy.version), (7, 3));
            assert_eq!(estate.tcp.local_addr().unwrap(), estate.legacy.me.addr);
            assert_eq!(proxy.followed.get(), 0);
            taker.traffic().await.unwrap();
        };

        let (failed, ()) = tokio::join!(proxy.serve(), taking);

        assert_eq!(failed, None);
        assert_eq!(proxy.followed.get(), i32::try_from(std::process::id()).unwrap());
    }

    #[tokio::test]
    async fn it_says_who_it_is_and_starts_its_program_again() {
        let proxy = Fake::new();
        let (failed, told) = tokio::join!(proxy.serve(), who(proxy.folder()));
        let (pid, told) = told.unwrap().unwrap();
        assert_eq!((failed, told.build.as_str()), (None, "2"));
        assert_eq!(pid, i32::try_from(std::process::id()).unwrap());

        let (failed, started) = tokio::join!(proxy.serve(), replace(proxy.folder(), None));
        assert!(failed.is_none() && started.unwrap() > 0);
        assert_eq!(runs(proxy.folder()).await.unwrap(), Some(pid));
        assert!(proxy.lent.borrow().is_empty());
    }

    #[tokio::test]
    async fn where_no_proxy_runs_there_is_nothing_to_take() {
        let folder = tempfile::tempdir().unwrap();

        assert!(take(folder.path()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_process_that_gives_up_says_why() {
        let proxy = Fake::new();
        let taking = async {
            let mut taker = take(proxy.folder()).await.unwrap().unwrap();
            taker.store().await.unwrap();
            taker.give_up("the port is taken").await;
        };

        let (failed, ()) = tokio::join!(proxy.serve(), taking);

        assert_eq!(failed.unwrap(), "the port is taken");
        assert_eq!(proxy.followed.get(), 0);
    }

    #[tokio::test]
    async fn a_process_that_ends_is_noticed() {
        let proxy = Fake::new();
        let taking = async {
            let mut taker = take(proxy.folder()).await.unwrap().unwrap();
            taker.store().await.unwrap();
            taker.gossip().await.unwrap();
        };

        let (failed, ()) = tokio::join!(proxy.serve(), taking);

        assert_eq!(failed.unwrap(), "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_hangs_is_not_waited_for_for_ever() {
        let proxy = Fake::new();
        let taking = async {
            let mut taker = take(proxy.folder()).await.unwrap().unwrap();
            taker.store().await.unwrap();
            taker
        };

        let (failed, _taker) = tokio::join!(proxy.serve(), taking);

        assert_eq!(failed.unwrap(), "it was not ready in time");
    }

    #[tokio::test(start_paused = true)]
    async fn gossip_that_does_not_stop_is_not_waited_for_for_ever() {
        let proxy = Fake::new();
        proxy.keeps.set(true);
        let taking = async {
            let mut taker = take(proxy.folder()).await.unwrap().unwrap();
            taker.store().await.unwrap();
            assert!(matches!(taker.gossip().await, Err(Error::Silent)));
            taker
        };

        let (failed, _taker) = tokio::join!(proxy.serve(), taking);

        assert_eq!(failed.unwrap(), "it was not ready in time");
    }

    #[tokio::test]
    async fn another_node_and_another_version_get_nothing() {
        let proxy = Fake::new();
        let other: NodeName = "host-2".parse().unwrap();
        let (failed, taken) = tokio::join!(proxy.serve(), Taker::connect(proxy.folder(), Some(&other), "1"));
        assert_eq!(failed.unwrap(), "it is another node");
        assert!(matches!(taken, Err(Error::OtherNode(node)) if node == host()));

        let asking = async {
            let mut line = Line::connect(&proxy.folder().join(SOCKET_FILE)).await.unwrap().unwrap();
            line.send(&Ask::Sockets { version: VERSION + 1, build: "3".to_owned() }, &[]).await.unwrap();
            line
        };
        let (failed, _line) = tokio::join!(proxy.serve(), asking);
        assert_eq!(failed.unwrap(), format!("it speaks another version ({})", VERSION + 1));
        assert!(proxy.lent.borrow().is_empty());
    }

    #[test]
    fn what_a_later_version_adds_to_a_message_is_ignored() {
        let ask = r#"{"ask":"sockets","version":1,"build":"9","more":true}"#;
        let give = r#"{"give":"store","more":[1]}"#;

        assert!(matches!(serde_json::from_str(ask).unwrap(), Ask::Sockets { version: 1, .. }));
        assert!(matches!(serde_json::from_str(give).unwrap(), Give::Store));
    }
}
