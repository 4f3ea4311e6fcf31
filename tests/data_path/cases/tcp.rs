//! Bytes that are no HTTP: who speaks first, half-closed connections, resets, readers that do not read, IPv6.

use std::time::{Duration, Instant};

use ::mesh::net::patience::Patience;
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::{self, within};

/// Waits until neither side has a connection open any more.
async fn all_over(scene: &Scene) {
    mesh::until(|| {
        let open = |total: &::mesh::logic::metric::total::EdgeTotal| total.open();
        (scene.caller().counted(open) + scene.callee().counted(open) == 0).then_some(())
    })
    .await;
}

// case 77
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_at_once_and_both_may_be_silent() {
    for layout in Layout::BOTH {
        for protocol in ["tcp", ""] {
            let mut service = Service::start().await;
            let scene = Scene::new(layout, service.addr, protocol);
            // The link is there from the second connection on.
            for count in 0..4 {
                let began = Instant::now();
                let mut wire = Wire::to(scene.port()).await;
                let mut app = service.accept().await;
                app.send("220 ready\r\n").await;
                assert_eq!(wire.take(11).await, b"220 ready\r\n", "{protocol:?}");
                assert!(
                    count == 0 || began.elapsed() < Duration::from_secs(2),
                    "{protocol:?}: {:?}",
                    began.elapsed()
                );
                wire.send("EHLO\r\n").await;
                assert_eq!(app.take(6).await, b"EHLO\r\n", "{protocol:?}");
                wire.finish().await;
                app.finish().await;
            }
            all_over(&scene).await;
        }
    }
}

// case 78
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_either_direction_leaves_the_other_open() {
    for layout in Layout::BOTH {
        for protocol in ["tcp", ""] {
            for by_the_caller in [true, false] {
                let mut service = Service::start().await;
                let scene = Scene::new(layout, service.addr, protocol);
                let mut wire = Wire::to(scene.port()).await;
                wire.send("\0hello").await;
                let mut app = service.accept().await;
                assert_eq!(app.take(6).await, b"\0hello");
                let (mut first, mut second) = if by_the_caller { (wire, app) } else { (app, wire) };
                first.send("last words").await;
                first.finish().await;
                assert_eq!(second.rest().await, ("last words".to_owned(), Ending::Closed), "{by_the_caller}");
                for _ in 0..3 {
                    second.send("still").await;
                    assert_eq!(first.take(5).await, b"still", "{by_the_caller}");
                }
                second.finish().await;
                assert_eq!(first.rest().await, (String::new(), Ending::Closed), "{by_the_caller}");
                all_over(&scene).await;
            }
        }
    }
}

// case 78
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_either_side_resets_the_other() {
    for layout in Layout::BOTH {
        for half_closed in [false, true] {
            for by_the_caller in [true, false] {
                let mut service = Service::start().await;
                let scene = Scene::new(layout, service.addr, "tcp");
                let mut wire = Wire::to(scene.port()).await;
                wire.send("hello").await;
                let mut app = service.accept().await;
                assert_eq!(app.take(5).await, b"hello");
                let (mut breaks, mut hears) = if by_the_caller { (wire, app) } else { (app, wire) };
                if half_closed {
                    hears.finish().await;
                    assert_eq!(breaks.rest().await, (String::new(), Ending::Closed));
                }
                breaks.reset();
                let (rest, ending) = hears.rest().await;
                assert_eq!((rest.as_str(), ending), ("", Ending::Reset), "{half_closed} {by_the_caller}");
                all_over(&scene).await;
            }
        }
    }
}

/// So long may what is left of a half-closed connection be silent here.
const SILENT_MAX: Duration = Duration::from_millis(800);

// case 78
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_half_closed_connection_ends_when_it_has_been_silent_for_too_long() {
    let scenes = Layout::BOTH.into_iter().flat_map(|layout| [true, false].map(|first| (layout, first)));
    // These wait, so all do at the same time.
    join_all(scenes.map(async |(layout, by_the_caller)| {
        let mut service = Service::start().await;
        let patience = Patience { half_closed: SILENT_MAX, ..Patience::default() };
        let scene = Scene::patient(patience, layout, service.addr, "tcp");
        // Nobody's end has come here: it may be silent.
        let mut whole = Wire::to(scene.port()).await;
        let mut far = service.accept().await;
        let mut wire = Wire::to(scene.port()).await;
        let mut app = service.accept().await;
        wire.send("hello").await;
        assert_eq!(app.take(5).await, b"hello");
        let (mut ended, mut left) = if by_the_caller { (wire, app) } else { (app, wire) };
        ended.finish().await;
        assert_eq!(left.rest().await, (String::new(), Ending::Closed), "{by_the_caller}");

        // What still moves is a reason to go on.
        for _ in 0..3 {
            tokio::time::sleep(SILENT_MAX / 2).await;
            left.send("still").await;
            assert_eq!(ended.take(5).await, b"still", "{by_the_caller}");
        }
        let began = Instant::now();
        left.send("last").await;
        assert_eq!(ended.rest().await, ("last".to_owned(), Ending::Reset), "{by_the_caller}");
        assert!(began.elapsed() >= SILENT_MAX, "{by_the_caller}: {:?}", began.elapsed());
        within(async { while left.stream.write_all(b"more").await.is_ok() {} }).await;
        mesh::until(|| {
            let open = |total: &::mesh::logic::metric::total::EdgeTotal| total.open();
            // Of the other one, each proxy has a side: if there is only one, that has both.
            (scene.nodes().iter().map(|node| node.counted(open)).sum::<u64>() == 2).then_some(())
        })
        .await;

        whole.send("ping").await;
        assert_eq!(far.take(4).await, b"ping");
        far.send("pong").await;
        assert_eq!(whole.take(4).await, b"pong");
    }))
    .await;
}

/// Pushes bytes until nothing goes for a while, and returns how many were taken.
pub(crate) async fn push(stream: &mut TcpStream, most: usize) -> usize {
    let piece = vec![b'x'; 64 << 10];
    let mut taken = 0;
    while taken < most {
        match tokio::time::timeout(Duration::from_millis(500), stream.write(&piece)).await {
            Ok(written) => taken += written.unwrap(),
            Err(_) => break,
        }
    }
    taken
}

/// What the kernel may hold of a stalled connection over loopback, each hop's both buffers included, and what a proxy may.
const HELD_MAX: usize = 48 << 20;
const MUCH: usize = 128 << 20;

// cases 78, 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_reads_holds_its_writer_back_and_others_go_on() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "tcp");
        for by_the_caller in [true, false] {
            let mut wire = Wire::to(scene.port()).await;
            let mut app = service.accept().await;
            let (writer, reader) = if by_the_caller { (&mut wire, &mut app) } else { (&mut app, &mut wire) };
            let taken = push(&mut writer.stream, MUCH).await;
            assert!(taken < HELD_MAX, "{taken} bytes were taken");
            // Its neighbours on the same link are not held back.
            let mut other = Wire::to(scene.port()).await;
            other.send("ping").await;
            let mut far = service.accept().await;
            assert_eq!(far.take(4).await, b"ping");
            far.send("pong").await;
            assert_eq!(other.take(4).await, b"pong");
            // And all that was taken arrives, also after the end.
            writer.finish().await;
            let (rest, ending) = reader.rest().await;
            assert_eq!((rest.len(), ending), (taken, Ending::Closed));
        }
    }
}

// case 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_http_holds_the_service_back() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n")).await;
        let taken = push(&mut app.stream, MUCH).await;
        assert!(taken < HELD_MAX, "{taken} bytes were taken");

        wire.head().await.unwrap();
        let rest = async {
            let left = vec![b'x'; MUCH - taken];
            app.send(left).await;
        };
        let read = async {
            let mut left = MUCH;
            while left > 0 {
                left -= wire.take(left.min(1 << 20)).await.len();
            }
        };
        within(async { tokio::join!(rest, read) }).await;
    }
}

// case 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_service_holds_its_caller_back() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(format!("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: {MUCH}\r\n\r\n")).await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        let taken = push(&mut wire.stream, MUCH).await;
        assert!(taken < HELD_MAX, "{taken} bytes were taken");
    }
}

// case 92
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_names_of_ipv6_are_as_good_as_any() {
    let Ok(probe) = tokio::net::TcpListener::bind("[::1]:0").await else { return };
    drop(probe);
    for layout in Layout::BOTH {
        let mut service = Service::at("[::1]:0".parse().unwrap()).await;
        let scene = Scene::new(layout, service.addr, "http");
        for (addr, host) in
            [(scene.port(), "[::1]:80"), (scene.port(), "[2001:db8::7]"), (scene.outbound(), "web")]
        {
            let mut wire = Wire::to(addr).await;
            wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            let mut app = service.accept().await;
            assert_eq!(app.request().await.fields("host"), [host]);
            app.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            assert_eq!(wire.response().await.status(), 204, "{host}");
        }
        // Zone identifiers are of one host only, and not for the wire.
        for host in ["[fe80::1%25eth0]", "[fe80::1%eth0]:80", "::1"] {
            let mut wire = Wire::to(scene.port()).await;
            wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(wire.response().await.status(), 400, "{host}");
        }
    }
}
