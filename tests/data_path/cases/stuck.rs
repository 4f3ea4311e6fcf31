//! Callers that do not take what they have asked for: windows that stay shut, connections that nobody reads.

use std::time::{Duration, Instant};

use ::mesh::net::patience::Patience;
use futures_util::future::join_all;

use crate::data_path::cases::ask::{ask, get};
use crate::data_path::cases::frames::{
    DATA, END_STREAM, HEADERS, RST_STREAM, Rogue, SETTINGS, WINDOW_UPDATE,
};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::tcp::push;
use crate::data_path::cases::two::Service2;
use crate::data_path::cases::wire::{Service, Wire};
use crate::data_path::mesh;

/// Nothing may stand still for longer here, and nothing else takes as long.
const SOON: Duration = Duration::from_secs(3);
/// The same where others are asked to go on besides: many streams are some work for a busy machine.
const LATER: Duration = Duration::from_secs(8);

const CANCEL: u32 = 8;

/// Streams that one caller leaves as they are.
const STREAMS: u32 = 40;
/// What each of them is answered with: more than all of them may be sent together before the caller gives back window.
const ANSWER_BYTES: usize = 20_000;
const CONNECTION_WINDOW: usize = 65_535;

fn patience(stall: Duration) -> Patience {
    Patience { stall, ..Patience::default() }
}

fn window(bytes: u32) -> Vec<u8> {
    [&[0, 4][..], &bytes.to_be_bytes()].concat()
}

/// What has become of streams.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fates {
    answered: usize,
    bytes: usize,
    whole: usize,
    cancelled: usize,
}

/// Reads until so many streams have ended.
async fn ended(rogue: &mut Rogue, streams: u32) -> Fates {
    let mut fates = Fates::default();
    while fates.whole + fates.cancelled < streams as usize {
        let frame = rogue.next().await.unwrap();
        match frame.kind {
            HEADERS => fates.answered += 1,
            DATA => {
                fates.bytes += frame.payload.len();
                fates.whole += usize::from(frame.flags & END_STREAM);
            }
            RST_STREAM => {
                assert_eq!(frame.payload, CANCEL.to_be_bytes(), "of stream {}", frame.stream);
                fates.cancelled += 1;
            }
            _ => {}
        }
    }
    fates
}

async fn nobody_is_open(scene: &Scene) {
    mesh::until(|| {
        let open = |total: &::mesh::logic::metric::total::EdgeTotal| total.open();
        scene.nodes().iter().all(|node| node.counted(open) == 0).then_some(())
    })
    .await;
}

// cases 63, 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_whose_windows_stay_shut_end_in_time_and_others_notice_nothing() {
    let scenes = Layout::BOTH.into_iter().flat_map(|layout| Speaks::BOTH.map(|service| (layout, service)));
    // These wait, so all do at the same time.
    join_all(scenes.map(async |(layout, service)| {
        let said = Answer { body: vec![vec![b'x'; ANSWER_BYTES]], length: true, ..Answer::ok(&[]) };
        let (app, _heard) = serve(service, said).await;
        let scene = Scene::patient(patience(LATER), layout, app, service.protocol());
        join_all([0, 10, 1 << 20].map(async |initial| {
            let began = Instant::now();
            let mut rogue = Rogue::to(scene.outbound()).await;
            rogue.send(SETTINGS, 0, 0, &window(initial)).await;
            for number in 0..STREAMS {
                rogue.get(2 * number + 1).await;
            }
            for speaks in Speaks::BOTH {
                let told = ask(speaks, scene.outbound(), get()).await;
                assert_eq!(
                    (told.status, told.body.len()),
                    (200, ANSWER_BYTES),
                    "{service:?} {initial}: {}",
                    &told.text()[..200.min(told.body.len())]
                );
            }

            let fates = ended(&mut rogue, STREAMS).await;
            let bytes = CONNECTION_WINDOW.min((initial * STREAMS) as usize);
            assert_eq!((fates.answered, fates.bytes), (STREAMS as usize, bytes), "{service:?} {initial}");
            assert!(fates.whole <= CONNECTION_WINDOW / ANSWER_BYTES, "{service:?} {initial}: {fates:?}");
            assert!(began.elapsed() >= LATER, "{service:?} {initial}: {:?}", began.elapsed());

            // The connection is as good as before.
            rogue.send(SETTINGS, 0, 0, &window(1 << 20)).await;
            rogue.send(WINDOW_UPDATE, 0, 0, &(1u32 << 20).to_be_bytes()).await;
            rogue.get(2 * STREAMS + 1).await;
            let wanted = Fates { answered: 1, bytes: ANSWER_BYTES, whole: 1, cancelled: 0 };
            assert_eq!(ended(&mut rogue, 1).await, wanted, "{service:?} {initial}");
        }))
        .await;
        nobody_is_open(&scene).await;
    }))
    .await;
}

const MUCH: usize = 128 << 20;

// cases 63, 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_its_caller_never_reads_ends_in_time_also_for_the_service() {
    join_all(Layout::BOTH.into_iter().flat_map(|layout| Speaks::BOTH.map(|caller| (layout, caller))).map(
        async |(layout, caller)| {
            let mut service = Service::start().await;
            let scene = Scene::patient(patience(SOON), layout, service.addr, "http");
            let mut rogue = match caller {
                Speaks::One => {
                    let mut wire = Wire::to(scene.outbound()).await;
                    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
                    Rogue { wire }
                }
                Speaks::Two => {
                    let mut rogue = Rogue::to(scene.outbound()).await;
                    rogue.send(SETTINGS, 0, 0, &window(0x7fff_ffff)).await;
                    rogue.send(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes()).await;
                    rogue.get(1).await;
                    rogue
                }
            };
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n")).await;
            let taken = push(&mut app.stream, MUCH).await;
            let began = Instant::now();
            assert!(taken < MUCH, "{caller:?}: all of it was taken");

            // Nothing has moved for half a second already.
            assert_eq!(app.rest().await.0, "", "{caller:?}");
            assert!(began.elapsed() >= SOON / 2, "{caller:?}: {:?}", began.elapsed());
            nobody_is_open(&scene).await;
            match caller {
                Speaks::One => {
                    let (rest, _) = rogue.wire.rest().await;
                    assert!(rest.len() < taken, "{} bytes of {taken}", rest.len());
                }
                Speaks::Two => {
                    let fates = ended(&mut rogue, 1).await;
                    assert!(fates.bytes <= taken && fates.cancelled == 1, "{fates:?}");
                    rogue.get(3).await;
                    let mut app = service.accept().await;
                    app.request().await;
                    app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    let wanted = Fates { answered: 1, bytes: 2, whole: 1, cancelled: 0 };
                    assert_eq!(ended(&mut rogue, 1).await, wanted);
                }
            }
        },
    ))
    .await;
}

// cases 63, 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_http2_is_told_that_nobody_reads_on() {
    join_all(Layout::BOTH.map(async |layout| {
        let mut service = Service2::start().await;
        let scene = Scene::patient(patience(SOON), layout, service.addr, "h2c");
        let mut rogue = Rogue::to(scene.outbound()).await;
        rogue.send(SETTINGS, 0, 0, &window(0)).await;
        rogue.get(1).await;
        let (_request, mut respond) = service.call().await;
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        // Without end, as far as windows go.
        stream.reserve_capacity(MUCH);
        let mut taken = 0;
        let reason = mesh::within(std::future::poll_fn(|cx| {
            while let std::task::Poll::Ready(Some(Ok(room))) = stream.poll_capacity(cx) {
                stream.send_data(vec![b'x'; room].into(), false).unwrap();
                taken += room;
                stream.reserve_capacity(MUCH);
            }
            stream.poll_reset(cx)
        }))
        .await
        .unwrap();
        assert_eq!(reason, h2::Reason::CANCEL);
        // What a window is at first, of each proxy on the way, and what was in hand.
        assert!(taken <= 1 << 20, "{taken} bytes were taken");
        assert_eq!(ended(&mut rogue, 1).await, Fates { answered: 1, cancelled: 1, ..Fates::default() });
    }))
    .await;
}
