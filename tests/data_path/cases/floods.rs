//! HTTP/2 under attack: the connection that floods ends, and others notice nothing.

use std::time::Duration;

use ::mesh::logic::http::h2::frame::PREFACE;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::cases::ask::{Ask, ask};
use crate::data_path::cases::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, Rogue, SETTINGS, WINDOW_UPDATE, block, frame,
};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Two, wanted};
use crate::data_path::cases::wire::Service;
use crate::data_path::mesh::within;

/// A flood: what is said first, and what is said again and again.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    again: Vec<u8>,
    times: usize,
}

fn head(stream: u32, flags: u8) -> Vec<u8> {
    let fields: [(&str, &[u8]); 4] =
        [(":method", b"POST"), (":scheme", b"http"), (":path", b"/"), (":authority", b"web")];
    frame(HEADERS, flags, stream, &block(&fields))
}

fn asking(stream: u32, more: &[(&str, &[u8])]) -> Vec<u8> {
    let fields: [(&str, &[u8]); 4] =
        [(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"web")];
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[&fields[..], more].concat()))
}

/// A request whose body is longer than it said, so that we reset it.
fn too_long(stream: u32) -> Vec<u8> {
    let fields: [(&str, &[u8]); 5] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", b"/"),
        (":authority", b"web"),
        ("content-length", b"1"),
    ];
    [frame(HEADERS, END_HEADERS, stream, &block(&fields)), frame(DATA, 0, stream, b"more")].concat()
}

/// What is said on many streams.
fn each(say: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..20_000).flat_map(|stream| say(2 * stream + 1)).collect()
}

/// Floods until the connection ends; returns the error that it ended with.
async fn ended_by(stream: TcpStream, flood: &Flood) -> Option<u32> {
    let (mut read, mut write) = stream.into_split();
    let attack = async {
        if write.write_all(&flood.first).await.is_ok() {
            let many = flood.again.repeat(flood.times.min(1_000));
            for _ in 0..flood.times.div_ceil(1_000) {
                if write.write_all(&many).await.is_err() {
                    break;
                }
            }
        }
        // If all was taken, then it should at least have ended.
        std::future::pending::<()>().await;
    };
    let mut heard = Vec::new();
    tokio::select! {
        () = attack => {}
        _ = read.read_to_end(&mut heard) => {}
    }
    goodbye(&heard)
}

/// Returns the error of the last frame, if that ends the connection.
fn goodbye(mut heard: &[u8]) -> Option<u32> {
    let mut said = None;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = heard {
        let payload = rest.get(..u32::from_be_bytes([0, *a, *b, *c]) as usize)?;
        said = (*kind == GOAWAY).then(|| u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        heard = &rest[payload.len()..];
    }
    said
}

fn floods() -> Vec<Flood> {
    let open = head(1, END_HEADERS);
    let reset = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let resets = each(|stream| [head(stream, END_HEADERS | END_STREAM), reset(stream)].concat());
    let flood =
        |name, first: &[u8], again: Vec<u8>, times| Flood { name, first: first.to_vec(), again, times };
    vec![
        flood("ping", &[], frame(PING, 0, 0, &[0; 8]), 200_000),
        flood("ping answers", &[], frame(PING, ACK, 0, &[0; 8]), 200_000),
        flood("settings", &[], frame(SETTINGS, 0, 0, &[]), 200_000),
        flood("settings of tables", &[], frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]), 200_000),
        flood("priority", &[], frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), 200_000),
        flood("window updates", &[], frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()), 200_000),
        flood("window updates of a stream", &open, frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()), 200_000),
        flood("empty data", &open, frame(DATA, 0, 1, &[]), 200_000),
        flood("continuation", &head(1, 0), frame(CONTINUATION, 0, 1, &block(&[("x", b"1")])), 200_000),
        flood("empty continuation", &head(1, 0), frame(CONTINUATION, 0, 1, &[]), 200_000),
        flood("rapid reset", &[], resets, 1),
        flood("heads without end", &[], each(|stream| head(stream, END_HEADERS)), 1),
        flood("malformed heads", &[], each(|stream| asking(stream, &[("Upper", b"")])), 1),
        flood("lengths that are none", &[], each(|stream| asking(stream, &[("content-length", b"x")])), 1),
        flood("too long bodies", &[], each(too_long), 1),
        flood("unknown frames", &[], frame(0xfa, 0, 0, &[]), 200_000),
    ]
}

// case 51
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_floods_loses_its_connection_and_nobody_else_notices() {
    for layout in Layout::BOTH {
        let (app, _heard) = serve(Speaks::Two, Answer { status: 204, ..Answer::default() }).await;
        let scene = Scene::new(layout, app, "h2c");
        for flood in floods() {
            // One of them is under way all the time.
            let mut other = Two::to(scene.outbound()).await;
            let (answer, mut body) = other.open(wanted("POST", "/")).await;
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            let rogue = Rogue::to(scene.outbound()).await;
            let ended = ended_by(rogue.wire.stream, &flood);
            let others = async {
                for _ in 0..5 {
                    let quiet = Ask { method: "GET", path: "/", ..Ask::default() };
                    assert_eq!(ask(Speaks::Two, scene.outbound(), quiet).await.status, 204, "{}", flood.name);
                }
            };
            let both = async { tokio::join!(ended, others) };
            let (said, ()) = tokio::time::timeout(Duration::from_secs(20), both)
                .await
                .unwrap_or_else(|_| panic!("a flood of {} does not end", flood.name));
            assert_eq!(said, Some(ENHANCE_YOUR_CALM), "{}", flood.name);
            body.send_data(Bytes::from_static(b"half"), true).unwrap();
            assert_eq!(within(answer).await.unwrap().status().as_u16(), 204, "{}", flood.name);
        }
    }
}

// case 51
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_floods_loses_its_connection_and_its_caller_is_told() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "h2c");
        let early = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", b"103")]));
        for (name, again) in [
            ("ping", frame(PING, 0, 0, &[0; 8])),
            ("settings", frame(SETTINGS, 0, 0, &[])),
            ("window updates", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
            ("early answers", early),
        ] {
            let flood = Flood { name, first: Vec::new(), again, times: 200_000 };
            let attack = async {
                let mut rogue = Rogue { wire: service.accept().await };
                rogue.wire.take(PREFACE.len()).await;
                rogue.send(SETTINGS, 0, 0, &[]).await;
                while rogue.next().await.unwrap().kind != HEADERS {}
                ended_by(rogue.wire.stream, &flood).await
            };
            let asked =
                ask(Speaks::Two, scene.outbound(), Ask { method: "POST", path: "/", ..Ask::default() });
            let both = async { tokio::join!(attack, asked) };
            let (said, told) = tokio::time::timeout(Duration::from_secs(20), both)
                .await
                .unwrap_or_else(|_| panic!("a flood of {name} does not end"));
            assert_eq!(said, Some(ENHANCE_YOUR_CALM), "{name}");
            assert_eq!(told.status, 502, "{name}: {told:?}");
            assert!(!told.field("mesh-failure").is_empty(), "{name}: {told:?}");
        }
    }
}

// case 51
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_grows_in_the_table_is_refused() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer { status: 204, ..Answer::default() }).await;
        let scene = Scene::new(layout, app, "http");
        let mut rogue = Rogue::to(scene.outbound()).await;
        let fields: [(&str, &[u8]); 4] =
            [(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"web")];
        let mut bomb = block(&fields);
        // One field of 4,000 bytes enters the table, and is then said 10,000 times by one byte each.
        bomb.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
        bomb.extend(vec![b'v'; 4_000]);
        bomb.extend(vec![0xbe; 10_000]);
        rogue.send(HEADERS, END_HEADERS | END_STREAM, 1, &bomb).await;
        let fate = rogue.fate(1).await;
        assert!(
            matches!(
                fate,
                crate::data_path::cases::frames::Fate::Answered(431)
                    | crate::data_path::cases::frames::Fate::Reset(_)
                    | crate::data_path::cases::frames::Fate::Gone(_)
            ),
            "{fate:?}"
        );
        let quiet = Ask { method: "GET", path: "/", ..Ask::default() };
        assert_eq!(ask(Speaks::Two, scene.outbound(), quiet).await.status, 204);
        heard.recv().await.unwrap();
        assert!(heard.try_recv().is_err());
    }
}
