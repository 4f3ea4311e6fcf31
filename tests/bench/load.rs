//! The client: keep-alive connections with one request under way on each, as many as go or at a fixed rate.
//!
//! At a fixed rate, request number i is due at a time that does not depend on how the earlier ones fare, and its latency
//! counts from then: a proxy that stalls is charged for those who wait (coordinated omission, after Gil Tene).

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use mesh::net::clock;
use rustix::thread::set_current_timer_slack;

use crate::poller::{Poller, read, write};

/// After the last request is sent, the answers have so long.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
const BUFFER: usize = 256 * 1024;

/// When requests are due.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the one before is answered.
    Saturated,
    /// So many in a second, on the connections in turn.
    PerSecond(u32),
}

/// What became of the requests.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Answered in full with status 200.
    pub(crate) done: u64,
    /// Answered otherwise, broken off, or not answered in time.
    pub(crate) failed: u64,
    /// From when they were due until they were answered in full.
    pub(crate) latencies: Vec<Duration>,
}

/// What to ask for, and on how many connections; they are opened when they are first used.
pub(crate) struct Load {
    entry: SocketAddr,
    request: Vec<u8>,
    body: usize,
    connections: Vec<Connection>,
    poller: Poller,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Connection {
    stream: Option<TcpStream>,
    due: VecDeque<Instant>,
    /// The request under way: when it was due.
    under_way: Option<Instant>,
    /// What is missing of the answer, once its head is read.
    missing: Option<usize>,
    /// How long the last head was: the next one is most likely as long.
    head: usize,
}

impl Load {
    pub(crate) fn new(
        entry: SocketAddr,
        host: &str,
        (path, body): (&str, usize),
        connections: usize,
    ) -> Self {
        Self {
            entry,
            request: format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\n\r\n").into_bytes(),
            body,
            connections: std::iter::repeat_with(Connection::default).take(connections).collect(),
            poller: Poller::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Sends requests for so long, and waits for their answers.
    pub(crate) fn run(&mut self, pace: Pace, during: Duration) -> Outcome {
        // Or the sleeps before requests would be 50 microseconds too long. Not for good: proxies would inherit it.
        set_current_timer_slack(NonZeroU64::new(1)).unwrap();
        let outcome = self.play(pace, during);
        set_current_timer_slack(None).unwrap();
        outcome
    }

    fn play(&mut self, pace: Pace, during: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        let start = clock::now();
        let (end, count) = (start + during, self.connections.len());
        let (mut sent, total) = match pace {
            Pace::Saturated => (0, count as u32),
            Pace::PerSecond(rate) => (0, (f64::from(rate) * during.as_secs_f64()) as u32),
        };
        let due = |number: u32| match pace {
            Pace::Saturated => start,
            Pace::PerSecond(rate) => start + Duration::from_secs(1) * number / rate,
        };
        let mut ready = Vec::new();
        loop {
            let now = clock::now();
            while sent < total && due(sent) <= now {
                let number = sent as usize % count;
                self.connections[number].due.push_back(due(sent));
                self.advance(number, &mut outcome);
                sent += 1;
            }
            let busy = self.connections.iter().any(|connection| connection.under_way.is_some());
            if now > end + LAST_ANSWERS || (sent == total && !busy && now >= end) {
                break;
            }
            let wake = if sent < total { due(sent) } else { end + LAST_ANSWERS };
            let wake = if busy { wake } else { wake.min(end.max(now)) };
            self.poller.wait(Some(wake.saturating_duration_since(clock::now())), &mut ready);
            for number in ready.drain(..) {
                if self.advance(number, &mut outcome) && matches!(pace, Pace::Saturated) && clock::now() < end
                {
                    self.connections[number].due.push_back(clock::now());
                    self.advance(number, &mut outcome);
                }
            }
        }
        self.give_up(&mut outcome);
        outcome
    }

    /// Reads and sends on a connection as far as it goes; returns whether it is idle.
    fn advance(&mut self, number: usize, outcome: &mut Outcome) -> bool {
        let connection = &mut self.connections[number];
        loop {
            if let Some(due) = connection.under_way {
                match connection.receive(&mut self.buffer, self.body) {
                    Ok(false) => return false,
                    Ok(true) => {
                        outcome.done += 1;
                        outcome.latencies.push(clock::now() - due);
                    }
                    Err(_) => {
                        outcome.failed += 1;
                        connection.stream = None;
                    }
                }
                connection.under_way = None;
                connection.missing = None;
            }
            let Some(due) = connection.due.pop_front() else { return true };
            connection.under_way = Some(due);
            if connection.send(self.entry, &self.request, &self.poller, number).is_err() {
                // Found out by the next look at it, as any other end of a connection.
                connection.stream = None;
            }
        }
    }

    /// Counts what was not answered in time, and closes those connections.
    fn give_up(&mut self, outcome: &mut Outcome) {
        for connection in &mut self.connections {
            outcome.failed += connection.due.len() as u64;
            connection.due.clear();
            if connection.under_way.take().is_some() {
                outcome.failed += 1;
                connection.stream = None;
                connection.missing = None;
            }
        }
    }
}

impl Connection {
    fn send(&mut self, entry: SocketAddr, request: &[u8], poller: &Poller, number: usize) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(entry)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            poller.add(&stream, number);
            self.stream = Some(stream);
        }
        let Some(stream) = &self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        match write(stream, request) {
            Some(Ok(count)) if count == request.len() => Ok(()),
            Some(Err(error)) => Err(error),
            // A request is far smaller than the buffer of an idle connection.
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Reads what is there; returns whether the answer is whole.
    fn receive(&mut self, buffer: &mut [u8], body: usize) -> io::Result<bool> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        while let Some(count) = read(stream, buffer) {
            let bytes = &buffer[..count?];
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (missing, fresh) = if let Some(missing) = self.missing {
                (missing, bytes.len())
            } else {
                self.head = head_length(bytes, self.head).ok_or(io::ErrorKind::InvalidData)?;
                (body, bytes.len() - self.head)
            };
            let missing = missing.checked_sub(fresh).ok_or(io::ErrorKind::InvalidData)?;
            if missing == 0 {
                return Ok(true);
            }
            self.missing = Some(missing);
        }
        Ok(false)
    }
}

/// Returns where the head of a good answer ends. Proxies write a head at once, so it is never seen in pieces here.
fn head_length(bytes: &[u8], guess: usize) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    if !bytes.starts_with(b"HTTP/1.1 200") {
        return None;
    }
    if bytes.get(..guess).is_some_and(|head| head.ends_with(END)) {
        return Some(guess);
    }
    bytes.windows(END.len()).position(|window| window == END).map(|at| at + END.len())
}
