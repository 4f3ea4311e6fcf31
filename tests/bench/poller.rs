//! Waiting for many sockets at once: epoll, edge-triggered, with a wait that is exact to microseconds.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// The most sockets that one look reports.
const EVENTS_MAX: usize = 256;

/// A set of sockets, each with a number.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub(crate) fn new() -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        Self { epoll, events: Vec::with_capacity(EVENTS_MAX) }
    }

    /// Adds a socket, which leaves when it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(number as u64), flags).unwrap();
    }

    /// Waits until something happened to a socket, or so long; appends the numbers of those that it happened to.
    pub(crate) fn wait(&mut self, most: Option<Duration>, numbers: &mut Vec<usize>) {
        if let Some(most) = most {
            // epoll's own deadline has steps of a millisecond.
            let most = Timespec::try_from(most).unwrap();
            let _ = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&most));
        }
        self.events.clear();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.events), most.map(|_| &now));
        numbers.extend(self.events.iter().map(|event| event.data.u64() as usize));
    }
}

/// Reads what is there; `None` when there is nothing yet, 0 at the end of the stream.
pub(crate) fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    now_or_never(stream.read(buffer))
}

/// Writes what there is room for; `None` when there is none.
pub(crate) fn write(mut stream: &TcpStream, bytes: &[u8]) -> Option<io::Result<usize>> {
    now_or_never(stream.write(bytes))
}

fn now_or_never(done: io::Result<usize>) -> Option<io::Result<usize>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        done => Some(done),
    }
}
