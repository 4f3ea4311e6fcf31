//! An instance of a service whose answers the test decides, and an application that asks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mesh::net::clock;

use crate::stage::place::Place;
use crate::stage::wait::seconds;

/// An HTTP/1 service in threads that answers with its name. Ends with the test.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) port: u16,
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    asked: AtomicUsize,
    status: AtomicU16,
    health: AtomicU16,
    holds_ms: AtomicU64,
}

impl Instance {
    /// Starts it: it is well, and answers at once.
    pub(crate) fn start(place: &Place, name: &'static str) -> Self {
        let listener = place.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            name,
            asked: AtomicUsize::new(0),
            status: AtomicU16::new(200),
            health: AtomicU16::new(200),
            holds_ms: AtomicU64::new(0),
        });
        let instance = Self { port, inner };
        let serving = instance.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        instance
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = [0; 8192];
        loop {
            let got = stream.read(&mut request)?;
            if got == 0 {
                return Ok(());
            }
            let is_probe = request.starts_with(b"GET /healthz ");
            let status = if is_probe { &self.inner.health } else { &self.inner.status };
            let status = status.load(Ordering::SeqCst);
            if !is_probe {
                self.inner.asked.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(self.inner.holds_ms.load(Ordering::SeqCst)));
            }
            let (name, length) = (self.inner.name, self.inner.name.len());
            write!(stream, "HTTP/1.1 {status} So\r\ncontent-length: {length}\r\n\r\n{name}")?;
        }
    }

    /// Returns how many requests have come since this was last asked, those for `/healthz` apart.
    pub(crate) fn asked(&self) -> usize {
        self.inner.asked.swap(0, Ordering::SeqCst)
    }

    /// Answers with this status from here on.
    pub(crate) fn answers(&self, status: u16) {
        self.inner.status.store(status, Ordering::SeqCst);
    }

    /// Answers `/healthz` with this status from here on.
    pub(crate) fn is_well(&self, well: bool) {
        self.inner.health.store(if well { 200 } else { 500 }, Ordering::SeqCst);
    }

    /// Takes so long for an answer from here on.
    pub(crate) fn holds(&self, time: Duration) {
        self.inner.holds_ms.store(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// An answer, and how long it took.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status; 0 when there was no answer.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

impl Answer {
    /// Returns a field of the head, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.trim())
    }

    /// Returns why a proxy made this answer; empty where the service did.
    pub(crate) fn reason(&self) -> &str {
        self.field("mesh-failure").unwrap_or_default()
    }
}

/// Sends `<method> / HTTP/1.1` with a few fields over a connection of its own.
pub(crate) fn ask(to: SocketAddr, service: &str, method: &str, fields: &[&str]) -> Answer {
    let began = clock::now();
    let said = say(to, service, method, fields).unwrap_or_default();
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned(), took: began.elapsed() }
}

fn say(to: SocketAddr, service: &str, method: &str, fields: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, seconds(8))?;
    stream.set_read_timeout(Some(seconds(8)))?;
    let fields: String = fields.iter().flat_map(|field| [*field, "\r\n"]).collect();
    write!(stream, "{method} / HTTP/1.1\r\nHost: {service}.mesh\r\nConnection: close\r\n{fields}\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Connects to a TCP service that speaks first; returns the connection if it does.
pub(crate) fn greeted(to: SocketAddr) -> Option<TcpStream> {
    let mut said = [0; 64];
    let mut stream = TcpStream::connect_timeout(&to, seconds(8)).ok()?;
    stream.set_read_timeout(Some(seconds(8))).unwrap();
    let got = stream.read(&mut said).ok()?;
    said[..got].starts_with(b"220 ").then_some(stream)
}
