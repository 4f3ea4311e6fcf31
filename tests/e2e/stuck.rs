//! Callers that never read and a service that never does, with the proxies' memory watched.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::place::Place;

/// What a proxy may need at most for one exchange in which nobody reads, beyond what it has without it, KiB.
const GROWTH_MAX: u64 = 8 * 1024;
/// And for many of them on one connection: how many, and what they may need together.
const STREAMS: u32 = 30;
const MANY_GROWTH_MAX: u64 = 12 * 1024;
/// As good as without end.
const ENDLESS: u64 = 1 << 40;
/// Who has sent nothing for so long is held back.
const HELD_BACK: Duration = Duration::from_millis(400);

/// Bytes that were sent and taken, by whoever sends without end.
type Taken = Arc<AtomicU64>;

/// A service that sends without end, after a head of HTTP or as a WebSocket; of what it is sent it reads only the head.
fn endless(taken: &Taken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taken = taken.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let taken = taken.clone();
            thread::spawn(move || answer(stream, &taken));
        }
    });
    address
}

fn answer(mut stream: TcpStream, taken: &Taken) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    if head.starts_with("put ") {
        loop {
            thread::park();
        }
    }
    if head.starts_with("get / ") {
        return stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
    }
    let begin = if head.contains("upgrade: websocket") {
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_owned()
    } else {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {ENDLESS}\r\n\r\n")
    };
    stream.write_all(begin.as_bytes())?;
    push(stream, taken)
}

fn push(mut stream: TcpStream, taken: &Taken) -> std::io::Result<()> {
    let piece = [b'x'; 16 << 10];
    loop {
        taken.fetch_add(stream.write(&piece)? as u64, Ordering::SeqCst);
    }
}

/// Waits until nothing has been taken for a while, and returns how much was.
fn held_back(taken: &Taken) -> u64 {
    let mut before = 0;
    loop {
        thread::sleep(HELD_BACK);
        let now = taken.load(Ordering::SeqCst);
        if now > 0 && now == before {
            return taken.swap(0, Ordering::SeqCst);
        }
        before = now;
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a caller of HTTP/2 says that asks on so many streams, each with a window of this size, and never credits any.
fn http2(streams: u32, window: u32) -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    const HEADERS: u8 = 1;
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    said.extend(frame(SETTINGS, 0, 0, &[&[0, 4], window.to_be_bytes().as_slice()].concat()));
    said.extend(frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()));
    for number in 0..streams {
        // GET, http, /endless, endless.mesh: by the static table, and literals.
        let fields = [b"\x82\x86\x04\x08/endless".as_slice(), b"\x01\x0cendless.mesh"].concat();
        said.extend(frame(HEADERS, 4 | 1, 2 * number + 1, &fields));
    }
    said
}

const GET: &[u8] = b"GET /endless HTTP/1.1\r\nHost: endless.mesh\r\n\r\n";
const WEBSOCKET: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: endless.mesh\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The most that a process has had in memory since it was told to forget, KiB, and what it has now.
fn forget_most(proxy: &Proxy) -> u64 {
    let file = format!("/proc/{}/clear_refs", proxy.process.pid().as_raw_pid());
    fs::write(file, "5").unwrap();
    proxy.process.memory_kib("VmRSS")
}

/// Plays a scene in which somebody sends without end and nobody reads, with the memory of both proxies watched.
#[track_caller]
fn watched(what: &str, proxies: [&Proxy; 2], (taken, growth_max): (&Taken, u64), begin: impl FnOnce()) {
    let before = proxies.map(forget_most);
    begin();
    let sent = held_back(taken);
    for (proxy, before) in proxies.into_iter().zip(before) {
        let most = proxy.process.memory_kib("VmHWM");
        eprintln!("{what}: {sent} bytes were taken, {before} to {most} KiB");
        assert!(most < before + growth_max, "{what}: memory went from {before} to {most} KiB");
    }
}

// cases 78, 79
#[test]
fn who_never_reads_does_not_fill_the_proxies() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "2"]);
    let taken = Taken::default();
    let service = format!("endless={}/http", endless(&taken).port());
    let server = mesh.proxy(&here, "server").join(&token).service(&service).start();
    let caller = mesh.proxy(&here, "caller").join(&token).start();
    let proxies = [&caller, &server];
    for (proxy, count) in [(&caller, "two proxies"), (&server, "one proxy")] {
        proxy.reaches("endless");
        let outbound = proxy.address("outbound");
        let say = |words: &[u8]| {
            let mut stream = TcpStream::connect(outbound).unwrap();
            stream.write_all(words).unwrap();
            stream
        };
        let one = (&taken, GROWTH_MAX);
        // The first one needs what all of them share, of the program and of the runtime.
        let mut kept = vec![say(GET)];
        held_back(&taken);
        watched(&format!("HTTP/1, {count}"), proxies, one, || kept.push(say(GET)));
        watched(&format!("HTTP/2, {count}"), proxies, one, || kept.push(say(&http2(1, 0x7fff_ffff))));
        watched(&format!("WebSocket, {count}"), proxies, one, || kept.push(say(WEBSOCKET)));
        watched(&format!("an upload, {count}"), proxies, one, || {
            let head = format!("PUT / HTTP/1.1\r\nHost: endless.mesh\r\ncontent-length: {ENDLESS}\r\n\r\n");
            let (stream, taken) = (say(head.as_bytes()), taken.clone());
            kept.push(stream.try_clone().unwrap());
            thread::spawn(move || push(stream, &taken));
        });
        let many = (&taken, MANY_GROWTH_MAX);
        watched(&format!("shut windows, {count}"), proxies, many, || kept.push(say(&http2(STREAMS, 0))));
        // All of them are there still, and hold nobody up.
        assert_eq!(proxy.status("endless", "/", &[]), 200, "{count}");
        for stream in kept {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }
}
