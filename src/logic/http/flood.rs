//! Frames of HTTP/2 that cost their receiver something and carry nothing: counted, so that a flood of them is known for one
//! (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316). What h2 does by itself bounds the memory, but not the work.

/// The preface that a client says first (RFC 9113 §3.4), in bytes.
const PREFACE_BYTES: u64 = 24;
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// How many frames that carry nothing a client may send in a second. Cancelled calls and the window updates and pings of a
/// busy client come to some hundreds.
pub const FREE_PER_SECOND: u64 = 2_000;
/// A client may send one such frame more for so many bytes that were sent to it: it grants windows for what it reads.
const BYTES_PER_FRAME: u64 = 32;
/// How many frames can be earned by that at most.
const EARNED_MAX: u64 = 100_000;

/// The frames of one client, as far as they have come.
#[derive(Debug)]
pub struct Meter {
    /// Bytes to pass over before the next header of a frame.
    skip: u64,
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Frames without content that may still come.
    left: u64,
    /// Bytes sent to the client that have not earned it a frame yet.
    sent: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { skip: PREFACE_BYTES, header: [0; HEADER_BYTES], filled: 0, left: FREE_PER_SECOND, sent: 0 }
    }
}

impl Meter {
    /// Takes notice of bytes from the client, however they are cut up; tells whether it has sent more than it may.
    /// [`Meter::renew`] then decides, once it is known how long that took.
    #[must_use]
    pub fn received(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
                self.skip -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (HEADER_BYTES - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                self.frame();
            }
        }
        self.left == 0
    }

    /// Takes notice of bytes sent to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        let earned = self.sent / BYTES_PER_FRAME;
        self.sent %= BYTES_PER_FRAME;
        self.left = (self.left + earned).min(self.left.max(EARNED_MAX));
    }

    /// Begins a new second.
    pub fn renew(&mut self) {
        self.left = self.left.max(FREE_PER_SECOND);
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.skip = u64::from(u32::from_be_bytes([0, a, b, c]));
        let carries = match kind {
            DATA => self.skip > 0 || flags & END_STREAM != 0,
            // One for each request, of which there can only be so many at a time.
            HEADERS => true,
            _ => false,
        };
        if !carries {
            self.left = self.left.saturating_sub(1);
        }
    }
}
