//! What goes to the terminal, written by a thread of its own: a terminal that takes nothing (ctrl-s, a stalled ssh) holds up
//! that thread and nothing else.
//!
//! Frames are differences to the one before, so none may be dropped once it was made. Instead none is made while the last
//! is still under way: whoever draws asks [`Writer::is_idle`] first, and the next frame shows what is newest then.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

/// Bytes that may wait besides a frame, such as texts for the clipboard; more are dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Writes to a terminal without ever waiting for it. Dropping it ends the thread once the terminal took what it was given.
#[derive(Debug)]
pub struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    /// Wakes the thread, and whoever waits for it.
    changed: Condvar,
    /// Wakes whoever wants to draw.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: Vec<u8>,
    writing: bool,
    failed: Option<io::ErrorKind>,
    closed: bool,
}

impl Desk {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.writing
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(out: OwnedFd) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("top-output".to_owned()).spawn(move || write_all(&theirs, &out))?;
        Ok(Self(shared))
    }

    /// Returns whether all that was put has been written.
    pub fn is_idle(&self) -> bool {
        self.0.desk().is_idle()
    }

    /// Gives bytes to be written after those before. Never waits.
    ///
    /// # Errors
    /// When an earlier write failed: the terminal is gone.
    pub fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let mut desk = self.0.desk();
        if let Some(kind) = desk.failed {
            return Err(kind.into());
        }
        if desk.waiting.len() + bytes.len() <= WAITING_BYTES_MAX || desk.is_idle() {
            desk.waiting.extend_from_slice(bytes);
            self.0.changed.notify_all();
        }
        Ok(())
    }

    /// Waits until all that was put has been written.
    pub async fn idle(&self) {
        while !self.is_idle() {
            self.0.idle.notified().await;
        }
    }

    /// Returns what waits for it from elsewhere.
    pub fn settling(&self) -> Settling {
        Settling(Arc::downgrade(&self.0))
    }
}

/// Waits, blocking, for a [`Writer`], which it does not keep alive.
#[derive(Debug, Clone)]
pub struct Settling(Weak<Shared>);

impl Settling {
    /// Waits until all that was put has been written; `false` when that takes longer than `most`.
    pub fn settle(&self, most: Duration) -> bool {
        let Some(shared) = self.0.upgrade() else { return true };
        let waited = shared.changed.wait_timeout_while(shared.desk(), most, |desk| !desk.is_idle());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_idle()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.desk().closed = true;
        self.0.changed.notify_all();
    }
}

/// The thread.
fn write_all(shared: &Shared, out: &OwnedFd) {
    loop {
        let bytes = {
            let wait = |desk: &mut Desk| desk.waiting.is_empty() && !desk.closed;
            let waited = shared.changed.wait_while(shared.desk(), wait);
            let mut desk = waited.unwrap_or_else(PoisonError::into_inner);
            if desk.waiting.is_empty() {
                return;
            }
            desk.writing = true;
            std::mem::take(&mut desk.waiting)
        };
        let written = write(out, &bytes);
        let mut desk = shared.desk();
        desk.writing = false;
        desk.failed = written.err().map(|error| error.kind());
        drop(desk);
        shared.changed.notify_all();
        shared.idle.notify_one();
    }
}

fn write(out: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(out, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use crate::top::output::Writer;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_reader_that_takes_nothing_holds_up_nobody_and_loses_nothing() {
        let (mut reader, out) = std::io::pipe().unwrap();
        let writer = Writer::start(out.into()).unwrap();
        let frame = vec![b'x'; 300_000];

        // More than a pipe holds.
        writer.put(&frame).unwrap();
        writer.put(b"end").unwrap();
        assert!(!writer.settling().settle(Duration::from_millis(50)), "nobody has read it");
        assert!(!writer.is_idle());

        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        tokio::time::timeout(LONG, writer.idle()).await.unwrap();
        drop(writer);
        let read = reading.join().unwrap();
        assert_eq!(read.len(), frame.len() + 3);
        assert!(read.ends_with(b"xend"));
    }

    #[test]
    fn a_terminal_that_is_gone_is_told_with_the_next_bytes() {
        let (reader, out) = std::io::pipe().unwrap();
        let writer = Writer::start(out.into()).unwrap();
        drop(reader);

        writer.put(b"to nobody").unwrap();

        assert!(writer.settling().settle(LONG));
        assert_eq!(writer.put(b"more").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }
}
