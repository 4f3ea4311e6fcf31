//! The application behind the proxies: HTTP/1.1 with keep-alive, a small answer and a large one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use crate::poller::{Poller, read, write};

/// The path of [`SMALL_BYTES`].
pub(crate) const SMALL: &str = "/small";
/// The path of [`LARGE_BYTES`].
pub(crate) const LARGE: &str = "/large";
/// The body of the small answer.
pub(crate) const SMALL_BYTES: usize = 128;
/// The body of the large answer.
pub(crate) const LARGE_BYTES: usize = 1024 * 1024;

const LISTENER: usize = 0;
const HEAD_MAX: usize = 16 * 1024;

/// Starts it on a thread of its own, for the life of this process; returns where it listens.
pub(crate) fn start() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::Builder::new().name("app".into()).spawn(move || serve(&listener)).unwrap();
    address
}

fn serve(listener: &TcpListener) {
    let (small, large) = (answer(SMALL_BYTES), answer(LARGE_BYTES));
    let mut poller = Poller::new();
    poller.add(listener, LISTENER);
    let mut connections = BTreeMap::new();
    let mut next = LISTENER;
    let mut ready = Vec::new();
    loop {
        poller.wait(None, &mut ready);
        for number in ready.drain(..) {
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    stream.set_nodelay(true).unwrap();
                    next += 1;
                    poller.add(&stream, next);
                    connections.insert(next, Connection { stream, head: Vec::new(), rest: None });
                }
            } else if let Some(connection) = connections.get_mut(&number)
                && connection.advance(&small, &large).is_none()
            {
                connections.remove(&number);
            }
        }
    }
}

fn answer(body: usize) -> Rc<[u8]> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    bytes.into()
}

struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    /// The answer under way, and how much of it is written.
    rest: Option<(Rc<[u8]>, usize)>,
}

impl Connection {
    /// Reads and writes as far as it goes; `None` at the end of the connection.
    fn advance(&mut self, small: &Rc<[u8]>, large: &Rc<[u8]>) -> Option<()> {
        let mut buffer = [0; 4096];
        loop {
            if let Some((bytes, from)) = &mut self.rest {
                let Some(written) = write(&self.stream, &bytes[*from..]) else { return Some(()) };
                *from += written.ok()?;
                if *from == bytes.len() {
                    self.rest = None;
                }
                continue;
            }
            let Some(count) = read(&self.stream, &mut buffer) else { return Some(()) };
            let count = count.ok().filter(|count| *count > 0)?;
            self.head.extend_from_slice(&buffer[..count]);
            // Proxies send one request at a time, so a request is whole when its last line is.
            if self.head.ends_with(b"\r\n\r\n") {
                let is_large = self.head[4..].starts_with(LARGE.as_bytes());
                self.rest = Some((if is_large { large.clone() } else { small.clone() }, 0));
                self.head.clear();
            } else if self.head.len() > HEAD_MAX {
                return None;
            }
        }
    }
}
