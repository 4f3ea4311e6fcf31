//! An accepted TCP connection that the runtime watches only once something has to be waited for.
//!
//! A caller with one request has mostly sent it by the time its connection is accepted, and leaves with the answer: what it
//! says is read, and what it is told is written, at once, and the kernel is never asked to tell of more. Whether such a
//! caller leaves before it is answered is looked at a moment later, for all connections of a thread by one timer: most are
//! answered by then.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::mem::{self, MaybeUninit};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;
use tokio::time::sleep;

use crate::net::{listen, task};

/// A caller that is not answered within this time, or twice as long at most, is watched: its leaving is noticed from then on.
pub const DOUBT_TIME: Duration = Duration::from_millis(10);
/// Read at once from a connection that is not watched, in bytes: a usual head fits.
const READ_BYTES: usize = 4 << 10;

/// A TCP connection. Never leaves its thread.
#[derive(Debug)]
pub struct Connection(State);

#[derive(Debug)]
enum State {
    /// The runtime does not know of it.
    Fresh(std::net::TcpStream, Place),
    Watched(TcpStream),
    /// The runtime could not watch it, so it was closed.
    Lost,
}

/// The connections of one thread that are not watched while they wait for something else.
#[derive(Debug, Default)]
pub struct Doubts {
    waiting: RefCell<Slab<Doubt>>,
    is_ticking: Cell<bool>,
}

#[derive(Debug)]
struct Doubt {
    waker: Waker,
    /// Whether it was there when the timer ran out last.
    is_old: bool,
    is_over: bool,
}

/// A place among them, taken when it is needed, and given back when dropped.
#[derive(Debug)]
struct Place {
    doubts: Rc<Doubts>,
    key: Cell<Option<usize>>,
}

impl Connection {
    /// Takes a connection that was just accepted, and does not block.
    pub fn accepted(stream: std::net::TcpStream, doubts: Rc<Doubts>) -> Self {
        Self(State::Fresh(stream, Place { doubts, key: Cell::default() }))
    }

    /// Returns whether the runtime watches it.
    pub fn is_watched(&self) -> bool {
        matches!(self.0, State::Watched(_))
    }

    /// Lets the runtime watch it.
    ///
    /// # Errors
    /// When the kernel has no room for that: the connection is closed.
    pub fn into_watched(mut self) -> io::Result<TcpStream> {
        self.watch()?;
        match self.0 {
            State::Watched(stream) => Ok(stream),
            State::Fresh(..) | State::Lost => Err(lost()),
        }
    }

    fn watch(&mut self) -> io::Result<()> {
        self.0 = match mem::replace(&mut self.0, State::Lost) {
            State::Fresh(stream, _) => State::Watched(TcpStream::from_std(stream)?),
            other @ (State::Watched(_) | State::Lost) => other,
        };
        Ok(())
    }

    /// Returns the address that the other side has reached.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            State::Fresh(stream, _) => stream.local_addr(),
            State::Watched(stream) => stream.local_addr(),
            State::Lost => Err(lost()),
        }
    }

    /// Returns where it was meant to go before rules of the kernel sent it here; `None` when it was meant to come.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        let local = self.local_addr().ok()?;
        match &self.0 {
            State::Fresh(stream, _) => listen::original_destination(stream, local),
            State::Watched(stream) => listen::original_destination(stream, local),
            State::Lost => None,
        }
    }

    /// Makes its coming close a reset, so that the other side does not take a failure for a regular end.
    pub fn reset_on_close(&self) {
        match &self.0 {
            State::Fresh(stream, _) => listen::reset_on_close(stream),
            State::Watched(stream) => listen::reset_on_close(stream),
            State::Lost => {}
        }
    }

    /// Returns whether nothing waits to be read, and nothing has ended. Asks the kernel only if the connection is said to be
    /// readable.
    pub fn is_quiet(&self) -> bool {
        let peeked = match &self.0 {
            State::Fresh(stream, _) => stream.peek(&mut [0]),
            State::Watched(stream) => match stream.poll_read_ready(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return true,
                Poll::Ready(ready) => ready.and_then(|()| stream.try_read(&mut [0])),
            },
            State::Lost => return false,
        };
        matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until there may be something to read: of a connection that is not watched, it is tried.
    ///
    /// # Errors
    /// When the runtime ends.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            State::Watched(stream) => stream.poll_read_ready(cx),
            State::Fresh(..) | State::Lost => Poll::Ready(Ok(())),
        }
    }

    /// Waits until it is time to look whether the other side is still there, for who waits for something else: of a
    /// connection that is watched, at once.
    pub fn poll_doubt(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.0 {
            State::Fresh(_, place) => place.poll(cx),
            State::Watched(_) | State::Lost => Poll::Ready(()),
        }
    }
}

fn lost() -> io::Error {
    ErrorKind::NotConnected.into()
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        Self(State::Watched(stream))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Fresh(stream, _) = &self.0 {
            let turn = ready!(poll_proceed(cx));
            let mut read = [MaybeUninit::uninit(); READ_BYTES];
            let room = READ_BYTES.min(out.remaining());
            match recv(stream, &mut read[..room], RecvFlags::empty()) {
                Ok(((read, _), _)) => {
                    turn.made_progress();
                    out.put_slice(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if would_block(error.kind()) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            self.watch()?;
        }
        match &mut self.0 {
            State::Watched(stream) => Pin::new(stream).poll_read(cx, out),
            State::Fresh(..) | State::Lost => Poll::Ready(Err(lost())),
        }
    }
}

impl Connection {
    /// Writes, at once as long as that goes. With `last`, the end follows and nothing else: the kernel waits for it, and sends
    /// both together.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        if let State::Fresh(stream, _) = &self.0 {
            let turn = ready!(poll_proceed(cx));
            match send_now(stream, slices, last) {
                Err(error) if would_block(error.kind()) => {}
                sent => {
                    turn.made_progress();
                    return Poll::Ready(sent);
                }
            }
            self.watch()?;
        }
        let State::Watched(stream) = &mut self.0 else { return Poll::Ready(Err(lost())) };
        if !last {
            return match slices {
                [only] => Pin::new(stream).poll_write(cx, only),
                several => Pin::new(stream).poll_write_vectored(cx, several),
            };
        }
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || send_now(stream, slices, true)) {
                Err(error) if would_block(error.kind()) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Says that nothing more is sent.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Watched(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Fresh(stream, _) => Poll::Ready(match stream.shutdown(Shutdown::Write) {
                Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
                shut => shut,
            }),
            State::Lost => Poll::Ready(Err(lost())),
        }
    }
}

fn send_now(stream: &impl AsFd, slices: &[IoSlice<'_>], last: bool) -> io::Result<usize> {
    let more = if last { SendFlags::MORE } else { SendFlags::empty() };
    let flags = SendFlags::NOSIGNAL | more;
    let sent = match slices {
        [only] => send(stream, only, flags),
        several => sendmsg(stream, several, &mut SendAncillaryBuffer::default(), flags),
    };
    Ok(sent?)
}

/// Tells whether something is to be tried again when the connection is ready.
fn would_block(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Place {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.doubts.waiting.borrow_mut();
        if let Some(doubt) = self.key.get().and_then(|key| waiting.get_mut(key)) {
            if doubt.is_over {
                return Poll::Ready(());
            }
            doubt.waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        let doubt = Doubt { waker: cx.waker().clone(), is_old: false, is_over: false };
        self.key.set(Some(waiting.insert(doubt)));
        if !self.doubts.is_ticking.replace(true) {
            task::spawn_local("doubts", self.doubts.clone().tick());
        }
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.key.get() {
            self.doubts.waiting.borrow_mut().try_remove(key);
        }
    }
}

impl Doubts {
    /// Ends the doubts of those that are there for long enough, until there are none.
    async fn tick(self: Rc<Self>) {
        while self.is_ticking.get() {
            sleep(DOUBT_TIME).await;
            let mut waiting = self.waiting.borrow_mut();
            for (_, doubt) in waiting.iter_mut() {
                if mem::replace(&mut doubt.is_old, true) && !mem::replace(&mut doubt.is_over, true) {
                    doubt.waker.wake_by_ref();
                }
            }
            self.is_ticking.set(!waiting.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read as _, Write as _};
    use std::net::{Shutdown, TcpListener};
    use std::rc::Rc;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::time::{Instant, timeout};

    use crate::net::connection::{Connection, DOUBT_TIME, Doubts};

    /// Runs a future the way a worker does.
    fn on_worker<F: Future<Output = ()> + 'static>(future: F) {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().build_local(LocalOptions::default()).unwrap().block_on(future);
    }

    fn pair() -> (std::net::TcpStream, Connection, Rc<Doubts>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let doubts = Rc::<Doubts>::default();
        (caller, Connection::accepted(accepted, doubts.clone()), doubts)
    }

    async fn send(connection: &mut Connection, text: &[u8], last: bool) -> usize {
        std::future::poll_fn(|cx| connection.poll_send(cx, &[IoSlice::new(text)], last)).await.unwrap()
    }

    #[test]
    fn a_caller_that_is_answered_at_once_is_never_watched() {
        on_worker(async {
            let (mut caller, mut connection, doubts) = pair();
            caller.write_all(b"ask").unwrap();

            let mut asked = Vec::with_capacity(64);
            connection.read_buf(&mut asked).await.unwrap();
            let gone = std::future::poll_fn(|cx| Poll::Ready(connection.poll_doubt(cx).is_ready())).await;
            let sent = send(&mut connection, b"answer", true).await;
            std::future::poll_fn(|cx| connection.poll_shutdown(cx)).await.unwrap();

            assert!(!connection.is_watched());
            assert_eq!((asked.as_slice(), gone, sent), (b"ask".as_slice(), false, 6));
            drop(connection);
            assert!(doubts.waiting.borrow().is_empty());
            let mut answer = String::new();
            caller.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer");
        });
    }

    #[test]
    fn a_caller_that_says_nothing_is_watched() {
        on_worker(async {
            let (mut caller, mut connection, _) = pair();
            let mut asked = Vec::with_capacity(64);

            let silent = timeout(Duration::from_millis(1), connection.read_buf(&mut asked)).await;
            assert!(silent.is_err() && connection.is_watched());
            caller.write_all(b"late").unwrap();
            connection.read_buf(&mut asked).await.unwrap();

            assert_eq!(asked, b"late");
        });
    }

    #[test]
    fn a_caller_that_waits_longer_is_looked_after() {
        on_worker(async {
            let (caller, mut connection, doubts) = pair();
            let began = Instant::now();

            std::future::poll_fn(|cx| connection.poll_doubt(cx)).await;
            let took = began.elapsed();
            caller.shutdown(Shutdown::Write).unwrap();
            let mut asked = Vec::with_capacity(64);
            let count = connection.read_buf(&mut asked).await.unwrap();

            assert!(took >= DOUBT_TIME, "{took:?}");
            assert_eq!(count, 0);
            drop(connection);
            assert!(doubts.waiting.borrow().is_empty());
        });
    }

    #[test]
    fn what_a_reader_does_not_take_is_waited_for() {
        on_worker(async {
            let (mut caller, mut connection, _) = pair();
            let much = vec![7; 64 << 10];
            let mut sent = 0;

            while let Ok(count) =
                timeout(Duration::from_millis(20), send(&mut connection, &much, false)).await
            {
                sent += count;
            }
            assert!(connection.is_watched());
            let mut read = vec![0; sent];
            caller.read_exact(&mut read).unwrap();
            sent = send(&mut connection, b"rest", true).await;
            std::future::poll_fn(|cx| connection.poll_shutdown(cx)).await.unwrap();

            let mut rest = String::new();
            caller.read_to_string(&mut rest).unwrap();
            assert_eq!((sent, rest.as_str()), (4, "rest"));
        });
    }
}
