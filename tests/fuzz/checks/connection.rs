//! A connection between proxies, or of HTTP/2: nobody on the other side makes ours panic, hang, or hold more than it may.

use std::time::Duration;

use bytes::Bytes;
use mesh::logic::http::h2::frame::PREFACE;
use mesh::logic::http::head::{RequestHead, ResponseHead};
use mesh::proxy::link::driver::Driver;
use mesh::proxy::link::stream::Stream;
use mesh::proxy::link::{Arrival, Arrivals, Event, Handle, Limits, Link, Opening, STREAMS_MAX};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local, yield_now};

const PIPE: usize = 4 << 10;
/// What a connection may hold that has brought no more than an input: its buffers, and what waits to be read.
const HELD_BYTES_MAX: usize = 512 << 10;
/// How often everybody gets a turn.
const TURNS: usize = 64;

/// Fails on bytes that break the rule: the first one says what is spoken and on which side we are, the others are what the
/// other side says.
pub(crate) fn check(input: &[u8]) {
    let Some((spoken, said)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let said = said.to_vec();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let (near, far) = duplex(PIPE);
        match spoken % 4 {
            0 => {
                let said = [PREFACE.as_slice(), &said].concat();
                serve(Arrivals::accept_http2(far, Limits::ACCEPTED), near, said).await;
            }
            1 => call(Link::dial_http2(far, Limits::DIALLED), near, said).await,
            2 => serve(Arrivals::accept(far, Limits::ACCEPTED), near, said).await,
            _ => call(Link::dial(far, Limits::DIALLED), near, said).await,
        }
    });
}

async fn serve((mut arrivals, driver): (Arrivals, Driver<DuplexStream>), near: DuplexStream, said: Vec<u8>) {
    let (ended, handle) = (spawn_local(driver), arrivals.handle().clone());
    spawn_local(say(near, said));
    for _ in 0..TURNS {
        while let Some(arrival) = arrivals.arrived() {
            spawn_local(answer(arrival));
        }
        look(&handle).await;
    }
    drop(arrivals);
    tokio::time::timeout(Duration::from_mins(1), ended).await.expect("it ends").expect("nothing panics").ok();
}

async fn call((link, driver): (Link, Driver<DuplexStream>), near: DuplexStream, said: Vec<u8>) {
    let (ended, handle) = (spawn_local(driver), link.handle().clone());
    spawn_local(say(near, said));
    let head = RequestHead { path: "/".to_owned(), ..RequestHead::default() };
    for _ in 0..3 {
        if let Ok(stream) = link.open_http(&head, false) {
            spawn_local(ask(stream));
        }
    }
    for _ in 0..TURNS {
        look(&handle).await;
    }
    drop(link);
    tokio::time::timeout(Duration::from_mins(1), ended).await.expect("it ends").expect("nothing panics").ok();
}

async fn look(handle: &Handle) {
    yield_now().await;
    assert!(handle.streams() <= STREAMS_MAX);
    assert!(handle.buffered() <= HELD_BYTES_MAX, "{} bytes are held", handle.buffered());
}

/// Says all, and listens until nothing more is said.
async fn say(stream: DuplexStream, said: Vec<u8>) {
    let (mut reading, mut writing) = tokio::io::split(stream);
    spawn_local(async move {
        _ = writing.write_all(&said).await;
        _ = writing.shutdown().await;
    });
    let mut heard = Vec::new();
    _ = reading.read_to_end(&mut heard).await;
}

async fn answer(arrival: Arrival) {
    let mut stream = arrival.stream;
    if arrival.opening == Opening::Tcp || stream.head(&ResponseHead::new(200), false).is_ok() {
        carry(stream).await;
    }
}

async fn ask(mut stream: Stream) {
    if let Ok(Event::Head(..)) = stream.recv().await {
        carry(stream).await;
    }
}

/// Sends back what comes.
async fn carry(mut stream: Stream) {
    loop {
        let passed = match stream.recv().await {
            Ok(Event::Data(data)) => stream.data(data).await,
            Ok(Event::Head(..)) => Ok(()),
            Ok(Event::Trailers(trailers)) => return drop(stream.finish(Some(&trailers))),
            Ok(Event::End) => return drop(stream.finish(None)),
            Err(_) => return,
        };
        if passed.is_err() || stream.data(Bytes::new()).await.is_err() {
            return;
        }
    }
}
