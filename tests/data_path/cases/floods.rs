//! HTTP/2 under attack: the connection that floods ends, and others notice nothing.

use crate::data_path::cases::ask::{Ask, ask};
use crate::data_path::cases::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, Rogue, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};

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

fn floods() -> Vec<Flood> {
    let open = head(1, END_HEADERS);
    let mut resets = Vec::new();
    for stream in 0..20_000u32 {
        resets.extend(head(2 * stream + 1, END_HEADERS | END_STREAM));
        resets.extend(frame(RST_STREAM, 0, 2 * stream + 1, &8u32.to_be_bytes()));
    }
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
            let rogue = Rogue::to(scene.outbound()).await;
            let (mut read, mut write) = rogue.wire.stream.into_split();
            let attack = async {
                use tokio::io::AsyncWriteExt as _;
                if write.write_all(&flood.first).await.is_err() {
                    return;
                }
                let many = flood.again.repeat(flood.times.min(1_000));
                for _ in 0..flood.times.div_ceil(1_000) {
                    if write.write_all(&many).await.is_err() {
                        return;
                    }
                }
                // All was taken: then it should at least have ended.
                std::future::pending::<()>().await;
            };
            let heard = async {
                use tokio::io::AsyncReadExt as _;
                let mut heard = Vec::new();
                _ = read.read_to_end(&mut heard).await;
            };
            let ended = async {
                tokio::pin!(attack, heard);
                tokio::select! {
                    () = &mut attack => heard.await,
                    () = &mut heard => {}
                }
            };
            let others = async {
                for _ in 0..5 {
                    let quiet = Ask { method: "GET", path: "/", ..Ask::default() };
                    assert_eq!(ask(Speaks::Two, scene.outbound(), quiet).await.status, 204, "{}", flood.name);
                }
            };
            let both = async { tokio::join!(ended, others) };
            tokio::time::timeout(std::time::Duration::from_secs(20), both)
                .await
                .unwrap_or_else(|_| panic!("a flood of {} does not end", flood.name));
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
