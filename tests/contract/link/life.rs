//! How a link begins, idles, and ends.

use std::time::Duration;

use mesh::logic::link::frame::{Code, Kind};
use mesh::logic::link::pulse::{PING_EVERY, PING_IDLE, PING_PATIENCE};
use mesh::logic::link::window::WINDOW_INITIAL;
use mesh::net::clock;
use mesh::proxy::link::Event;
use mesh::proxy::link::error::{Broken, Error, Refusal};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use crate::contract::link::scene::{
    Next as _, PIPE, accepting, answer, bytes, dialling, echo, frame, http, open, pair, play, request,
    response, rest, settle, tcp,
};

fn is_unseen(broken: &Broken) -> bool {
    matches!(broken, Broken::Link { unseen: true, .. })
}

#[test]
fn an_idle_link_holds_no_buffers_and_stays() {
    play(async {
        let mut pair = pair(PIPE);
        let near = pair.link.clone();
        let call = spawn_local(async move {
            let mut stream = near.open_http(&request("/"), false).unwrap();
            stream.data(bytes(50_000)).await.unwrap();
            stream.finish(None).unwrap();
            stream.recv().await.unwrap();
            rest(&mut stream).await.unwrap()
        });
        echo(pair.arrivals.next().await.unwrap()).await.unwrap();
        assert_eq!(call.await.unwrap(), bytes(50_000));

        sleep(Duration::from_mins(10)).await;
        assert_eq!((pair.link.handle().buffered(), pair.arrivals.handle().buffered()), (0, 0));
        assert!(pair.link.is_open() && !pair.dialled.is_finished() && !pair.accepted.is_finished());
        assert!(clock::now() - pair.link.idle_since().unwrap() > Duration::from_mins(9));
    });
}

#[test]
fn a_link_with_a_silent_stream_stays_and_holds_no_buffers() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = http(&mut pair).await;
        sleep(Duration::from_mins(10)).await;
        // The last PING or PONG, at most.
        let held = pair.link.handle().buffered() + pair.arrivals.handle().buffered();
        assert!(held < 100, "{held}");

        far.head(&response(200), true).unwrap();
        assert_eq!(near.recv().await, Ok(Event::Head(response(200), true)));
        assert_eq!(pair.link.idle_since(), None);
    });
}

#[test]
fn a_link_that_is_cut_breaks_its_streams_off_and_tells_the_peer_why() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = tcp(&mut pair).await;

        pair.arrivals.handle().cut(Code::Failure(27), "it has lapsed");

        let broken = Broken::Reset { code: Code::Failure(27), reason: "it has lapsed".into() };
        assert_eq!(far.recv().await.unwrap_err(), broken);
        let told = pair.dialled.await.unwrap().unwrap_err();
        assert!(matches!(&told, Error::Ended(reason) if **reason == *"it has lapsed"), "{told}");
        let lost = near.recv().await.unwrap_err();
        assert!(
            matches!(&lost, Broken::Link { unseen: false, reason } if reason.contains("it has lapsed")),
            "{lost}"
        );
        assert!(pair.link.open_tcp().is_err() && pair.arrivals.next().await.is_none());
    });
}

#[test]
fn the_round_trip_is_measured_from_the_start() {
    play(async {
        let pair = pair(PIPE);
        settle().await;
        assert!(pair.link.handle().round_trip().is_some());
        assert!(pair.arrivals.handle().round_trip().is_some());
    });
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    play(async {
        let start = Instant::now();
        let (peer, link, driver) = dialling(PIPE);
        let mut stream = link.open_http(&request("/"), false).unwrap();

        assert!(matches!(driver.await.unwrap(), Err(Error::Silent)));
        assert!(start.elapsed() <= PING_PATIENCE + Duration::from_millis(10), "{:?}", start.elapsed());
        assert!(matches!(stream.recv().await, Err(Broken::Link { unseen: false, .. })));
        drop(peer);
    });
}

#[test]
fn an_idle_peer_that_is_gone_is_noticed_when_it_is_needed() {
    play(async {
        let (mut peer, link, driver) = dialling(PIPE);
        tokio::select! {
            _ = peer.hear() => panic!("nothing was said"),
            () = sleep(PING_IDLE / 10 * 9) => {}
        }
        let start = Instant::now();
        let stream = link.open_tcp().unwrap();

        assert!(matches!(driver.await.unwrap(), Err(Error::Silent)));
        assert!(start.elapsed() <= PING_EVERY + PING_PATIENCE, "{:?}", start.elapsed());
        drop(stream);
    });
}

#[test]
fn a_peer_that_reads_slowly_is_not_given_up() {
    play(async {
        let (mut peer, link, driver) = dialling(1);
        let mut stream = link.open_tcp().unwrap();
        let sending = spawn_local(async move {
            stream.data(bytes(WINDOW_INITIAL as usize)).await.unwrap();
            stream
        });
        for _ in 0..100 {
            sleep(Duration::from_secs(1)).await;
            let mut byte = [0];
            tokio::io::AsyncReadExt::read_exact(&mut peer.io, &mut byte).await.unwrap();
        }
        assert!(!driver.is_finished());
        drop(sending.await.unwrap());
    });
}

#[test]
fn going_away_lets_streams_finish_and_opens_no_more() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = tcp(&mut pair).await;
        // Not yet at the other side when it goes.
        let mut late = pair.link.open_tcp().unwrap();
        pair.arrivals.handle().away();

        let broken = late.recv().await.unwrap_err();
        assert!(is_unseen(&broken), "{broken}");
        assert!(!pair.link.is_open());
        assert_eq!(pair.link.open_tcp().err(), Some(Refusal::Closed));

        near.data(bytes(10)).await.unwrap();
        near.finish(None).unwrap();
        assert_eq!(rest(&mut far).await.unwrap(), bytes(10));
        far.finish(None).unwrap();
        assert_eq!(near.recv().await, Ok(Event::End));

        drop((near, far, late));
        assert!(pair.dialled.await.unwrap().is_ok());
        assert!(pair.accepted.await.unwrap().is_ok());
        assert!(pair.arrivals.next().await.is_none());
    });
}

#[test]
fn a_link_that_nobody_holds_ends_after_its_streams() {
    play(async {
        let mut pair = pair(PIPE);
        let (near, mut far) = tcp(&mut pair).await;
        drop(pair.link);
        settle().await;
        assert!(!pair.dialled.is_finished());

        drop(near);
        assert!(pair.dialled.await.unwrap().is_ok());
        assert_eq!(far.recv().await, Err(Broken::Reset { code: Code::Cancelled, reason: "".into() }));
        assert!(pair.accepted.await.unwrap().is_ok());
    });
}

#[test]
fn streams_that_nobody_took_are_refused_when_nobody_will() {
    play(async {
        let pair = pair(PIPE);
        let mut stream = pair.link.open_tcp().unwrap();
        settle().await;
        drop(pair.arrivals);

        assert!(matches!(stream.recv().await, Err(Broken::Reset { code: Code::Refused, .. })));
        drop(stream);
        assert!(pair.accepted.await.unwrap().is_ok());
        assert!(pair.dialled.await.unwrap().is_ok());
    });
}

#[test]
fn what_was_never_written_is_unseen_when_the_connection_breaks() {
    play(async {
        let (peer, link, driver) = dialling(48);
        let mut first = link.open_http(&request("/"), false).unwrap();
        settle().await;
        let mut second = link.open_http(&request("/"), false).unwrap();
        settle().await;
        drop(peer);

        assert!(matches!(driver.await.unwrap(), Err(Error::Io(_) | Error::Closed)));
        // The connection took the ping and a part of the first frame: a part is never looked at.
        assert!(is_unseen(&first.recv().await.unwrap_err()));
        assert!(is_unseen(&second.recv().await.unwrap_err()));
    });
    play(async {
        let (mut peer, link, driver) = dialling(PIPE);
        let mut stream = link.open_http(&request("/"), false).unwrap();
        peer.hear_of(Kind::Open).await.unwrap();
        drop(peer);

        assert!(driver.await.unwrap().is_err());
        assert!(matches!(stream.recv().await, Err(Broken::Link { unseen: false, .. })));
    });
}

#[test]
fn what_arrived_is_taken_before_the_break_is_told() {
    play(async {
        let (mut peer, link, _driver) = dialling(PIPE);
        let mut stream = link.open_http(&request("/"), true).unwrap();
        peer.hear_of(Kind::Open).await.unwrap();
        peer.say(&answer(1, false)).await;
        peer.say(&frame(Kind::Data, false, 1, b"half")).await;
        drop(peer);
        settle().await;

        assert_eq!(stream.recv().await, Ok(Event::Head(response(200), false)));
        assert_eq!(stream.recv().await, Ok(Event::Data("half".into())));
        assert!(matches!(stream.recv().await, Err(Broken::Link { .. })));
    });
}

#[test]
fn a_driver_that_is_dropped_breaks_its_streams() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = tcp(&mut pair).await;
        pair.dialled.abort();

        assert!(matches!(near.recv().await, Err(Broken::Link { .. })));
        assert!(matches!(far.recv().await, Err(Broken::Link { .. })));
        assert!(!pair.link.is_open());
        assert!(matches!(pair.accepted.await.unwrap(), Err(Error::Closed | Error::Io(_))));
    });
}

#[test]
fn a_peer_that_leaves_in_the_middle_of_a_frame_has_broken_the_link() {
    play(async {
        let (mut peer, _arrivals, driver) = accepting(PIPE);
        peer.say(&open(1, true)[..20]).await;
        drop(peer);

        assert!(matches!(driver.await.unwrap(), Err(Error::Closed | Error::Io(_))));
    });
}

#[test]
fn windows_grow_for_a_reader_that_keeps_up_and_are_given_back() {
    play(async {
        let mut pair = pair(1 << 20);
        let (mut near, mut far) = tcp(&mut pair).await;
        settle().await;
        // Without time passing, every window is taken within a round trip.
        let sending = spawn_local(async move {
            near.data(bytes(32 << 20)).await.unwrap();
            near
        });
        let mut read = 0;
        while read < 32 << 20 {
            let Event::Data(piece) = far.recv().await.unwrap() else { panic!("not bytes") };
            read += piece.len();
        }
        settle().await;
        let mut near = sending.await.unwrap();
        let mut ahead = std::pin::pin!(near.data(bytes(16 << 20)));
        tokio::select! {
            biased;
            _ = &mut ahead => panic!("more than the largest window"),
            () = settle() => {}
        }
        let held = pair.arrivals.handle().buffered();
        assert!(held > 20 * WINDOW_INITIAL as usize, "{held}");
        assert!(held < 8 << 20, "{held}");
    });
}
