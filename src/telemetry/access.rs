//! The access log: one JSON line for each request or connection, written behind the worker's back.
//!
//! A worker formats its line into a buffer of its own; a thread takes the buffers and writes. What finds its buffer full is
//! dropped and counted: a slow disk never slows a call.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::model::call::CallRecord;

/// Most bytes that wait in one worker's buffer: several thousand lines, some milliseconds of full speed.
pub const BUFFER_BYTES_MAX: usize = 1 << 20;
/// A line waits no longer than this before it is written.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// A buffer this full wakes the writer at once.
const FLUSH_BYTES: usize = BUFFER_BYTES_MAX / 4;

/// Where a log is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Standard error.
    Stderr,
    /// The end of a file, which is made if it is not there.
    File(&'a Path),
}

/// The log of the process. Dropping it writes what waits and ends the writer.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    buffers: Mutex<Vec<Arc<Buffer>>>,
    wake: Condvar,
    stop: AtomicBool,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer(Mutex<Vec<u8>>);

/// One worker's way into the log.
#[derive(Debug)]
pub struct AccessWriter {
    shared: Arc<Shared>,
    buffer: Arc<Buffer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AccessLog {
    /// Opens the target and starts the writer thread.
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread can be started: nothing was begun.
    pub fn open(target: Target<'_>) -> io::Result<Arc<Self>> {
        match target {
            Target::Stderr => Self::start(io::stderr()),
            Target::File(path) => {
                Self::start(std::fs::OpenOptions::new().create(true).append(true).open(path)?)
            }
        }
    }

    /// Starts the writer thread over any sink.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut sink: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        let writer = shared.clone();
        let builder = std::thread::Builder::new().name("access-log".to_owned());
        let thread = Some(builder.spawn(move || writer.write_to(&mut sink))?);
        Ok(Arc::new(Self { shared, thread }))
    }

    /// Makes the way into the log for one more worker.
    pub fn writer(&self) -> AccessWriter {
        let buffer = Arc::new(Buffer::default());
        lock(&self.shared.buffers).push(buffer.clone());
        AccessWriter { shared: self.shared.clone(), buffer }
    }

    /// Returns how many records were dropped because the sink was too slow, or failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

impl AccessWriter {
    /// Appends one line, or drops it when the buffer is full. Never waits for the disk.
    pub fn record(&self, record: &CallRecord) {
        let mut buffer = lock(&self.buffer.0);
        let before = buffer.len();
        let written = serde_json::to_writer(&mut *buffer, record).is_ok();
        buffer.push(b'\n');
        if !written || buffer.len() > BUFFER_BYTES_MAX {
            buffer.truncate(before);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if before < FLUSH_BYTES && buffer.len() >= FLUSH_BYTES {
            self.shared.wake.notify_one();
        }
    }
}

impl Shared {
    /// Writes buffers until the log is dropped, and then once more.
    fn write_to(&self, sink: &mut impl Write) {
        let mut taken = Vec::new();
        loop {
            let stop = self.stop.load(Ordering::Acquire);
            let buffers = {
                let mut buffers = lock(&self.buffers);
                if !stop {
                    let waited = self.wake.wait_timeout(buffers, FLUSH_EVERY);
                    buffers = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                let all = buffers.clone();
                // A worker that is gone writes no more: its last lines are written now.
                buffers.retain(|buffer| Arc::strong_count(buffer) > 2);
                all
            };
            for buffer in buffers {
                std::mem::swap(&mut taken, &mut *lock(&buffer.0));
                if sink.write_all(&taken).is_err() {
                    let lines = taken.split(|byte| *byte == b'\n').count() - 1;
                    self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                }
                taken.clear();
            }
            if stop {
                _ = sink.flush();
                return;
            }
        }
    }
}
