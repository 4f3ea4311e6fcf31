//! What no peer can do, although it is who it says it is.

use mesh::logic::link::frame::{Code, DATA_BYTES_MAX, HEAD_BYTES_MAX, Kind, Violation};
use mesh::logic::link::window::WINDOW_INITIAL;
use mesh::proxy::link::error::{Broken, Error};
use mesh::proxy::link::{Event, OUT_BYTES_FULL, STREAMS_MAX};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Duration, timeout};

use crate::contract::link::scene::{
    Next as _, PIPE, accepting, answer, bytes, dialling, frame, open, play, request, response, rest, settle,
};

fn data(stream: u32, length: usize) -> Vec<u8> {
    frame(Kind::Data, false, stream, &bytes(length))
}

fn raw(length: usize, kind: u8, stream: u32) -> Vec<u8> {
    ((length as u64) << 40 | u64::from(kind) << 32 | u64::from(stream)).to_be_bytes().to_vec()
}

/// Everything that ends a link whose streams 1 (a request) and 2 (TCP) the peer opened.
fn crimes_of_a_caller() -> Vec<(&'static str, Vec<u8>, Violation)> {
    let full = data(1, DATA_BYTES_MAX);
    let windowful = full.repeat(WINDOW_INITIAL as usize / DATA_BYTES_MAX);
    let ended = frame(Kind::Data, true, 1, &[]);
    vec![
        ("no kind", raw(0, 0, 1), Violation::UnknownKind),
        ("an unknown kind", raw(0, 11, 1), Violation::UnknownKind),
        ("an unknown flag", raw(1, 0x44, 1), Violation::UnknownKind),
        ("long data", raw(DATA_BYTES_MAX + 1, 4, 1), Violation::BadLength),
        ("a long head", raw(HEAD_BYTES_MAX + 1, 1, 3), Violation::BadLength),
        ("an endless frame", raw(0xff_ff_ff, 4, 1), Violation::BadLength),
        ("half a credit", raw(2, 6, 1), Violation::BadLength),
        ("a reset without a code", raw(0, 7, 1), Violation::BadLength),
        ("nothing", raw(0, 4, 1), Violation::Misplaced),
        ("data for the link", raw(1, 4, 0), Violation::Misplaced),
        ("a ping for a stream", raw(8, 8, 1), Violation::Misplaced),
        ("trailers without an end", raw(2, 5, 1), Violation::Misplaced),
        ("a head of a response", answer(1, false), Violation::WrongSide),
        ("a farewell", frame(Kind::Away, false, 0, &[0; 4]), Violation::WrongSide),
        ("a stream again", open(2, true), Violation::OutOfTurn),
        ("a stream left out", open(4, true), Violation::OutOfTurn),
        ("data of no stream", data(3, 1), Violation::NeverOpened),
        ("a reset of no stream", frame(Kind::Reset, false, 9, &[1]), Violation::NeverOpened),
        ("a byte too many", [windowful, full].concat(), Violation::Overrun),
        ("no credit", frame(Kind::Credit, false, 1, &[0; 4]), Violation::BadCredit),
        ("too much credit", frame(Kind::Credit, false, 1, &[0xff; 4]), Violation::BadCredit),
        ("data after the end", [ended.clone(), data(1, 1)].concat(), Violation::OutOfOrder),
        ("a second end", [ended.clone(), ended].concat(), Violation::OutOfOrder),
        ("trailers of TCP", frame(Kind::Trailers, true, 2, &[0, 0]), Violation::OutOfOrder),
        ("an answer to no question", frame(Kind::Pong, false, 0, &[9; 8]), Violation::Unasked),
    ]
}

/// Everything that ends a link on which we opened streams 1 (a request) and 2 (TCP).
fn crimes_of_a_callee() -> Vec<(&'static str, Vec<u8>, Violation)> {
    let mut early = Vec::new();
    mesh::logic::link::head::write_response(&response(103), &mut early).unwrap();
    vec![
        ("a stream", open(3, true), Violation::WrongSide),
        ("data before the head", data(1, 1), Violation::OutOfOrder),
        ("trailers before the head", frame(Kind::Trailers, true, 1, &[0, 0]), Violation::OutOfOrder),
        ("a second head", [answer(1, false), answer(1, false)].concat(), Violation::OutOfOrder),
        ("a head of TCP", answer(2, false), Violation::OutOfOrder),
        ("the end at an interim head", frame(Kind::Head, true, 1, &early), Violation::OutOfOrder),
        ("a head for no stream", answer(3, false), Violation::NeverOpened),
        ("a farewell to what was not", frame(Kind::Away, false, 0, &[0, 0, 0, 9]), Violation::NeverOpened),
    ]
}

fn assert_ended_by(name: &str, ended: &Result<(), Error>, violation: Violation) {
    assert!(matches!(ended, Err(Error::Violation(why)) if *why == violation), "{name}: {ended:?}");
}

#[test]
fn a_caller_that_breaks_a_rule_ends_its_link() {
    for (name, crime, violation) in crimes_of_a_caller() {
        play(async move {
            let (mut peer, mut arrivals, driver) = accepting(1 << 20);
            peer.say(&[open(1, false), frame(Kind::OpenTcp, false, 2, &[])].concat()).await;
            let mut first = arrivals.next().await.unwrap().stream;
            let mut second = arrivals.next().await.unwrap().stream;
            peer.say(&crime).await;

            assert_ended_by(name, &driver.await.unwrap(), violation);
            let seen = |broken: Broken| matches!(broken, Broken::Link { unseen: false, .. });
            assert!(seen(first.broken().await) && seen(second.broken().await), "{name}");
            assert!(arrivals.next().await.is_none(), "{name}");
            let (header, payload) = peer.hear_of(Kind::Reset).await.unwrap();
            assert_eq!((header.stream, payload[0]), (0, Code::Protocol.number()), "{name}: it is told why");
        });
    }
}

#[test]
fn a_callee_that_breaks_a_rule_ends_its_link() {
    for (name, crime, violation) in crimes_of_a_callee() {
        play(async move {
            let (mut peer, link, driver) = dialling(1 << 20);
            let mut first = link.open_http(&request("/"), false).unwrap();
            let mut second = link.open_tcp().unwrap();
            peer.hear_of(Kind::OpenTcp).await.unwrap();
            peer.say(&crime).await;

            assert_ended_by(name, &driver.await.unwrap(), violation);
            assert!(matches!(first.broken().await, Broken::Link { unseen: false, .. }), "{name}");
            assert!(matches!(second.broken().await, Broken::Link { .. }), "{name}");
            assert!(!link.is_open());
        });
    }
}

#[test]
fn a_head_that_http1_could_not_carry_resets_its_stream_only() {
    play(async {
        let (mut peer, mut arrivals, _driver) = accepting(PIPE);
        let mut smuggled = open(1, true);
        let value = smuggled.windows(4).position(|bytes| bytes == b"kept").unwrap();
        smuggled[value + 1] = b'\n';
        peer.say(&smuggled).await;
        peer.say(&open(2, true)).await;

        let (header, payload) = peer.hear_of(Kind::Reset).await.unwrap();
        assert_eq!((header.stream, payload[0]), (1, Code::Protocol.number()));
        let next = arrivals.next().await;
        assert!(next.is_some());
        assert_eq!(arrivals.handle().streams(), 1);
    });
    play(async {
        let (mut peer, link, _driver) = dialling(PIPE);
        let mut stream = link.open_http(&request("/"), false).unwrap();
        peer.hear_of(Kind::Open).await.unwrap();
        peer.say(&frame(Kind::Head, false, 1, b"nonsense")).await;

        assert!(matches!(stream.recv().await, Err(Broken::Reset { code: Code::Protocol, .. })));
        peer.hear_of(Kind::Reset).await.unwrap();
        assert!(link.is_open());
    });
}

#[test]
fn streams_count_until_their_handlers_let_go_whatever_the_peer_does() {
    play(async {
        let (mut peer, mut arrivals, _driver) = accepting(1 << 20);
        let mut handlers = Vec::new();
        for number in 1..=STREAMS_MAX as u32 {
            peer.say(&open(number, true)).await;
            handlers.push(arrivals.next().await.unwrap());
            peer.say(&frame(Kind::Reset, false, number, &[1])).await;
        }
        settle().await;
        assert_eq!(arrivals.handle().streams(), STREAMS_MAX);

        let next = STREAMS_MAX as u32 + 1;
        peer.say(&open(next, true)).await;
        let (header, payload) = peer.hear_of(Kind::Reset).await.unwrap();
        assert_eq!((header.stream, payload[0]), (next, Code::Refused.number()));

        // What belongs to a refused stream means nothing.
        peer.say(&frame(Kind::Reset, false, next, &[1])).await;
        handlers.clear();
        peer.say(&open(next + 1, true)).await;
        assert!(arrivals.next().await.is_some());
    });
}

#[test]
fn streams_that_were_cancelled_at_once_reach_no_handler() {
    play(async {
        let (mut peer, mut arrivals, _driver) = accepting(1 << 20);
        for number in 1..=1000 {
            peer.say(&open(number, false)).await;
            peer.say(&frame(Kind::Reset, false, number, &[1])).await;
        }
        settle().await;
        assert!(arrivals.handle().streams() <= STREAMS_MAX);
        assert!(timeout(Duration::from_millis(1), arrivals.next()).await.is_err());

        assert_eq!(arrivals.handle().streams(), 0);
        peer.say(&open(1001, false)).await;
        assert!(arrivals.next().await.is_some());
    });
}

/// Says the same until nothing more is taken, without listening. Returns how many bytes that were, 64 MiB at most.
async fn shout(io: &mut tokio::io::DuplexStream, mut next: impl FnMut() -> Vec<u8>) -> usize {
    let mut said = 0;
    while said < 64 << 20 {
        let words = next();
        match timeout(Duration::from_millis(100), io.write_all(&words)).await {
            Ok(Ok(())) => said += words.len(),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    said
}

#[test]
fn a_peer_that_asks_and_does_not_listen_is_not_heard_on() {
    play(async {
        let (mut peer, arrivals, driver) = accepting(PIPE);
        let said = shout(&mut peer.io, || frame(Kind::Ping, false, 0, &[1; 8]).repeat(1000)).await;
        assert!(said < 4 << 20, "{said}");
        let held = arrivals.handle().buffered();
        assert!(held < 4 << 20, "{held}");
        assert!(matches!(driver.await.unwrap(), Err(Error::Silent)), "and is given up in the end");
    });
}

#[test]
fn a_peer_that_does_not_listen_cannot_fill_the_outbox_with_answers() {
    play(async {
        let (mut peer, mut arrivals, _driver) = accepting(PIPE);
        let handler = tokio::task::spawn_local(async move {
            let handle = arrivals.handle().clone();
            let mut most = 0;
            let mut large = response(200);
            large.fields.append(b"large", &[b'x'; 30_000]);
            while let Some(arrival) = arrivals.next().await {
                let mut stream = arrival.stream;
                _ = stream.head(&large, true);
                most = most.max(handle.buffered());
            }
            most
        });
        let mut number = 0;
        let said = shout(&mut peer.io, || {
            number += 1;
            open(number, true)
        })
        .await;
        assert!(said < 4 << 20, "{said}");
        drop(peer);
        let most = handler.await.unwrap();
        // One read brings what it brings: some streams more than the outbox is full with.
        assert!(most < 40 * OUT_BYTES_FULL, "{most}");
    });
}

#[test]
fn a_flood_of_tiny_frames_is_gathered() {
    play(async {
        let (mut peer, mut arrivals, _driver) = accepting(PIPE);
        peer.say(&open(1, false)).await;
        let mut stream = arrivals.next().await.unwrap().stream;
        peer.say(&data(1, 1).repeat(WINDOW_INITIAL as usize)).await;
        settle().await;
        let held = arrivals.handle().buffered();
        assert!(held < 3 * WINDOW_INITIAL as usize, "{held}");

        let (mut pieces, mut total) = (0, 0);
        while total < WINDOW_INITIAL as usize {
            let Event::Data(piece) = stream.recv().await.unwrap() else { panic!("not bytes") };
            pieces += 1;
            total += piece.len();
        }
        assert!(pieces <= 8, "{pieces}");
    });
}

#[test]
fn interim_heads_that_nobody_takes_do_not_pile_up() {
    play(async {
        let (mut peer, link, _driver) = dialling(PIPE);
        let mut stream = link.open_http(&request("/"), true).unwrap();
        peer.hear_of(Kind::Open).await.unwrap();
        let mut early = Vec::new();
        mesh::logic::link::head::write_response(&response(103), &mut early).unwrap();
        peer.say(&frame(Kind::Head, false, 1, &early).repeat(10_000)).await;
        peer.say(&answer(1, true)).await;
        settle().await;

        let mut interim = 0;
        while let Event::Head(head, false) = stream.recv().await.unwrap() {
            assert_eq!(head.status, 103);
            interim += 1;
        }
        assert!((1..10_000).contains(&interim), "{interim}");
    });
}

#[test]
fn a_callee_may_end_the_link_with_its_reason() {
    play(async {
        let (mut peer, link, driver) = dialling(PIPE);
        let mut stream = link.open_tcp().unwrap();
        peer.hear_of(Kind::OpenTcp).await.unwrap();
        peer.say(&frame(Kind::Reset, false, 0, b"\x05out of\r\norder")).await;

        assert!(matches!(driver.await.unwrap(), Err(Error::Ended(why)) if &*why == "out oforder"));
        assert!(rest(&mut stream).await.is_err());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_a_link_panic_or_hold_more_than_it_granted(
        chunks in vec(prop_oneof![
            vec(any::<u8>(), 0..40),
            (0_u8..12, 0_u32..4, 0_usize..20, any::<bool>()).prop_map(|(kind, stream, length, end)| {
                let mut bytes = raw(length, kind | if end { 0x80 } else { 0 }, stream);
                bytes.extend(vec![0; length]);
                bytes
            }),
            (1_u32..4).prop_map(|stream| open(stream, false)),
            (1_u32..4).prop_map(|stream| answer(stream, false)),
        ], 0..30),
        dial: bool,
    ) {
        play(async move {
            let (mut peer, link, arrivals) = if dial {
                let (peer, link, _) = dialling(PIPE);
                (peer, Some((link.open_http(&request("/"), false).unwrap(), link.open_tcp().unwrap(), link)), None)
            } else {
                let (peer, arrivals, _) = accepting(PIPE);
                (peer, None, Some(arrivals))
            };
            for chunk in &chunks {
                peer.say(chunk).await;
                settle().await;
            }
            let handle = arrivals.as_ref().map_or_else(|| link.as_ref().unwrap().2.handle(), |all| all.handle());
            assert!(handle.buffered() < 1 << 20);
        });
    }
}
