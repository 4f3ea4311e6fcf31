//! What a link has to send: the frames of all streams, one after the other in one buffer, and who waits for room in it.
//!
//! Frames of bodies wait for room; heads, credits and the like do not, as there are few of them. Who waits is served in
//! order, one frame for each turn, so that no stream keeps the others from sending.

use std::collections::VecDeque;
use std::mem;

use crate::logic::link::frame::DATA_BYTES_MAX;

/// Bytes waiting to be sent, above which bodies wait.
pub const OUT_BYTES_MAX: usize = 256 << 10;
/// Bytes waiting to be sent, above which no stream is opened and nothing is read that could ask for more answers.
pub const OUT_BYTES_FULL: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// What the driver has taken and not written yet.
    taken: usize,
    /// How many bytes went through `bytes` since the beginning.
    position: u64,
    /// Streams waiting for a turn, by number. Those of streams that ended are skipped.
    waiting: VecDeque<u32>,
}

impl Outbox {
    /// Adds what `write` appends, or nothing when that fails.
    pub(crate) fn write<T, E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Result<T, E> {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        if written.is_err() {
            self.bytes.truncate(start);
        }
        self.position += (self.bytes.len() - start) as u64;
        written
    }

    /// Adds a whole frame.
    pub(crate) fn put(&mut self, header: &[u8], payload: &[u8]) {
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(payload);
        self.position += (header.len() + payload.len()) as u64;
    }

    /// Returns where the next frame begins, counted from the beginning of the link.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns up to where all was given to the connection, counted from the beginning of the link.
    pub(crate) fn written(&self) -> u64 {
        self.position - self.queued() as u64
    }

    /// Returns how many bytes wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.bytes.len() + self.taken
    }

    /// Tells whether a frame of a body may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.queued() < OUT_BYTES_MAX
    }

    /// Tells whether someone waits for a turn.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Lets a stream wait for a turn: after the others, or before them when it had one already.
    pub(crate) fn wait(&mut self, stream: u32, had_turn: bool) {
        if had_turn {
            self.waiting.push_front(stream);
        } else {
            self.waiting.push_back(stream);
        }
    }

    /// Returns whose turn it is.
    pub(crate) fn next_turn(&mut self) -> Option<u32> {
        self.waiting.pop_front()
    }

    /// Returns how many frames of bodies have room.
    pub(crate) fn turns(&self) -> usize {
        OUT_BYTES_MAX.saturating_sub(self.queued()).div_ceil(DATA_BYTES_MAX)
    }

    /// Exchanges all bytes for an empty buffer. They count as waiting until they are [`Outbox::wrote`].
    pub(crate) fn take(&mut self, empty: &mut Vec<u8>) {
        debug_assert!(empty.is_empty() && self.taken == 0);
        mem::swap(&mut self.bytes, empty);
        self.taken = empty.len();
    }

    /// Counts bytes given to the connection.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.taken -= bytes;
    }

    /// Gives back the memory of an empty outbox.
    pub(crate) fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    /// Forgets all that was not sent.
    pub(crate) fn clear(&mut self) {
        self.bytes = Vec::new();
        self.waiting = VecDeque::new();
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
