//! Two ends of a link, or one end and a peer that says what it likes.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use mesh::logic::http::fields::Fields;
use mesh::logic::http::head::{RequestHead, ResponseHead};
use mesh::logic::link::frame::{HEADER_BYTES, Header, Kind};
use mesh::logic::link::head::{write_request, write_response};
use mesh::proxy::link::error::{Broken, Error};
use mesh::proxy::link::stream::Stream;
use mesh::proxy::link::{Arrival, Arrivals, Event, Limits, Link};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

/// How much a connection in memory holds, unless it is said otherwise.
pub(crate) const PIPE: usize = 64 << 10;

pub(crate) type Ended = JoinHandle<Result<(), Error>>;

/// Plays a scene on one thread; time stands still unless everyone waits.
pub(crate) fn play<F: Future<Output = ()>>(scene: F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let limit = Duration::from_hours(1);
    LocalSet::new().block_on(&runtime, async { timeout(limit, scene).await.expect("the scene hangs") });
}

pub(crate) struct Pair {
    pub(crate) link: Link,
    pub(crate) arrivals: Arrivals,
    pub(crate) dialled: Ended,
    pub(crate) accepted: Ended,
}

/// Makes both ends of a link.
pub(crate) fn pair(pipe: usize) -> Pair {
    let (near, far) = duplex(pipe);
    let (link, driver) = Link::dial(near, Limits::DIALLED);
    let dialled = spawn_local(driver);
    let (arrivals, driver) = Arrivals::accept(far, Limits::ACCEPTED);
    Pair { link, arrivals, dialled, accepted: spawn_local(driver) }
}

/// Waits for what arrives.
pub(crate) trait Next {
    /// Returns the next stream that the peer opens; None when there will be none, because the link has ended.
    async fn next(&mut self) -> Option<Arrival>;
}

impl Next for Arrivals {
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            if let Some(arrival) = self.arrived() {
                return Some(arrival);
            }
            if self.handle().has_ended() {
                return None;
            }
            // The driver is a task of its own.
            sleep(Duration::from_micros(1)).await;
        }
    }
}

/// Opens a TCP stream and returns both of its ends.
pub(crate) async fn tcp(pair: &mut Pair) -> (Stream, Stream) {
    let near = pair.link.open_tcp().unwrap();
    (near, pair.arrivals.next().await.unwrap().stream)
}

/// Opens an exchange and returns both of its ends.
pub(crate) async fn http(pair: &mut Pair) -> (Stream, Stream) {
    let near = pair.link.open_http(&request("/"), false).unwrap();
    (near, pair.arrivals.next().await.unwrap().stream)
}

/// Lets everyone do what they can without time passing.
pub(crate) async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

/// Tells whether a future is not ready yet.
pub(crate) async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

pub(crate) fn request(path: &str) -> RequestHead {
    let mut fields = Fields::new();
    fields.append(b"X-Case", b"kept");
    RequestHead {
        path: path.to_owned(),
        authority: Some("shop:80".to_owned()),
        fields,
        ..RequestHead::default()
    }
}

pub(crate) fn response(status: u16) -> ResponseHead {
    ResponseHead::new(status)
}

pub(crate) fn bytes(length: usize) -> Bytes {
    (0..length).map(|place| (place * 7 % 251) as u8).collect()
}

/// Receives all that is left of a body, to its end.
pub(crate) async fn rest(stream: &mut Stream) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    loop {
        match stream.recv().await? {
            Event::Data(piece) => body.extend_from_slice(&piece),
            Event::End => return Ok(body),
            other => panic!("not bytes: {other:?}"),
        }
    }
}

/// Answers each request with its own body and trailers.
pub(crate) async fn echo(arrival: Arrival) -> Result<(), Broken> {
    let mut stream = arrival.stream;
    stream.head(&response(200), false)?;
    loop {
        match stream.recv().await? {
            Event::Data(piece) => stream.data(piece).await?,
            Event::Trailers(fields) => return stream.finish(Some(&fields)),
            Event::End => return stream.finish(None),
            Event::Head(..) => panic!("a head from a caller"),
        }
    }
}

// --- a peer that says what it likes ---------------------------------------------------------------------------------

pub(crate) struct Peer {
    pub(crate) io: DuplexStream,
}

/// Makes the accepting end of a link to a peer that dials.
pub(crate) fn accepting(pipe: usize) -> (Peer, Arrivals, Ended) {
    let (near, far) = duplex(pipe);
    let (arrivals, driver) = Arrivals::accept(far, Limits::ACCEPTED);
    (Peer { io: near }, arrivals, spawn_local(driver))
}

/// Makes the dialling end of a link to a peer that accepts.
pub(crate) fn dialling(pipe: usize) -> (Peer, Link, Ended) {
    let (near, far) = duplex(pipe);
    let (link, driver) = Link::dial(near, Limits::DIALLED);
    (Peer { io: far }, link, spawn_local(driver))
}

/// Returns one frame.
pub(crate) fn frame(kind: Kind, end: bool, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header { kind, end, stream, length: payload.len() }.encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns the frame that opens a stream with a request.
pub(crate) fn open(stream: u32, end: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    write_request(&request("/"), &mut payload).unwrap();
    frame(Kind::Open, end, stream, &payload)
}

/// Returns the frame of a response's head.
pub(crate) fn answer(stream: u32, end: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    write_response(&response(200), &mut payload).unwrap();
    frame(Kind::Head, end, stream, &payload)
}

impl Peer {
    pub(crate) async fn say(&mut self, frames: &[u8]) {
        // A link that has ended does not listen.
        _ = self.io.write_all(frames).await;
    }

    /// Returns the next frame that is no PING, and answers those.
    pub(crate) async fn hear(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            let mut header = [0; HEADER_BYTES];
            self.io.read_exact(&mut header).await.ok()?;
            let header = Header::decode(header).unwrap();
            let mut payload = vec![0; header.length];
            self.io.read_exact(&mut payload).await.ok()?;
            if header.kind != Kind::Ping {
                return Some((header, payload));
            }
            self.say(&frame(Kind::Pong, false, 0, &payload)).await;
        }
    }

    /// Returns the next frame of a kind.
    pub(crate) async fn hear_of(&mut self, kind: Kind) -> Option<(Header, Vec<u8>)> {
        loop {
            let heard = self.hear().await?;
            if heard.0.kind == kind {
                return Some(heard);
            }
        }
    }
}
