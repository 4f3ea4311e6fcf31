//! What streams promise to those who follow the rules.

use std::pin::pin;

use bytes::Bytes;
use mesh::logic::http::fields::Fields;
use mesh::logic::link::frame::{Code, DATA_BYTES_MAX, Kind};
use mesh::logic::link::window::WINDOW_INITIAL;
use mesh::proxy::link::error::{Broken, Refusal};
use mesh::proxy::link::{Event, OUT_BYTES_MAX, Opening, STREAMS_OPENED_MAX};
use tokio::task::spawn_local;

use crate::contract::link::scene::{
    Next as _, PIPE, Pair, bytes, dialling, echo, http, is_pending, pair, play, request, response, rest,
    settle, tcp,
};

const WINDOW: usize = WINDOW_INITIAL as usize;

async fn echo_a_hundred(pipe: usize, scale: usize) {
    let Pair { link, mut arrivals, .. } = pair(pipe);
    spawn_local(async move {
        while let Some(arrival) = arrivals.next().await {
            spawn_local(async { echo(arrival).await.unwrap() });
        }
    });
    let calls = (0..100_usize).map(|number| {
        let body = bytes(number * number * scale);
        let (mut sender, mut receiver) =
            link.open_http(&request(&format!("/{number}")), false).unwrap().split();
        spawn_local(async move {
            let mut trailers = Fields::new();
            trailers.append(b"x-number", number.to_string().as_bytes());
            let send = async {
                sender.data(body.clone()).await.unwrap();
                sender.finish(Some(&trailers).filter(|_| number % 2 == 0)).unwrap();
            };
            let receive = async {
                assert_eq!(receiver.recv().await, Ok(Event::Head(response(200), false)));
                let mut echoed = Vec::new();
                loop {
                    match receiver.recv().await.unwrap() {
                        Event::Data(piece) => echoed.extend_from_slice(&piece),
                        Event::Trailers(fields) => assert_eq!(fields, trailers),
                        Event::End => break,
                        Event::Head(..) => panic!("a second head"),
                    }
                }
                assert_eq!(echoed, body);
            };
            tokio::join!(send, receive);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[test]
fn a_hundred_exchanges_are_echoed() {
    play(echo_a_hundred(PIPE, 20));
}

#[test]
fn frames_may_be_cut_anywhere() {
    play(echo_a_hundred(13, 1));
}

#[test]
fn an_exchange_says_all_that_its_heads_do() {
    play(async {
        let mut pair = pair(PIPE);
        let mut near = pair.link.open_http(&request("/a?b"), true).unwrap();
        let arrival = pair.arrivals.next().await.unwrap();
        let mut far = arrival.stream;

        assert_eq!(arrival.opening, Opening::Http(request("/a?b"), true));
        assert_eq!(far.recv().await, Ok(Event::End));

        let mut fields = Fields::new();
        fields.append(b"Link", b"</a>");
        let early = mesh::logic::http::head::ResponseHead { fields, ..response(103) };
        far.head(&early, false).unwrap();
        far.head(&response(204), true).unwrap();

        assert_eq!(near.recv().await, Ok(Event::Head(early, false)));
        assert_eq!(near.recv().await, Ok(Event::Head(response(204), true)));
        assert_eq!(near.recv().await, Ok(Event::End));
        assert_eq!(near.recv().await, Ok(Event::End), "the end stays the end");
    });
}

#[test]
fn either_direction_of_a_connection_ends_by_itself() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = tcp(&mut pair).await;
        near.data(bytes(10)).await.unwrap();
        near.finish(None).unwrap();
        assert_eq!(rest(&mut far).await.unwrap(), bytes(10));

        let (sent, received) = tokio::join!(
            async {
                far.data(bytes(100_000)).await?;
                far.finish(None)
            },
            rest(&mut near)
        );
        assert_eq!((sent, received), (Ok(()), Ok(bytes(100_000).to_vec())));

        drop((near, far));
        assert_eq!((pair.link.streams(), pair.arrivals.handle().streams()), (0, 0));
    });
}

#[test]
fn a_sender_stops_at_the_window_of_a_reader_that_never_reads() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = tcp(&mut pair).await;
        let mut sending = pin!(near.data(bytes(10 * WINDOW)));
        assert!(is_pending(sending.as_mut()).await);
        settle().await;
        assert!(is_pending(sending.as_mut()).await);

        // What was granted waits there, in whole read buffers at most, and nothing here.
        let held = pair.arrivals.handle().buffered();
        assert!((WINDOW..2 * WINDOW).contains(&held), "{held}");

        let (mut other, mut reader) = http(&mut pair).await;
        other.data(bytes(30_000)).await.unwrap();
        other.finish(None).unwrap();
        assert_eq!(rest(&mut reader).await.unwrap(), bytes(30_000), "others go on");

        let read = async {
            let mut read = 0;
            while read < 10 * WINDOW {
                match far.recv().await.unwrap() {
                    Event::Data(piece) => read += piece.len(),
                    other => panic!("not bytes: {other:?}"),
                }
            }
            read
        };
        assert_eq!(tokio::join!(sending, read), (Ok(()), 10 * WINDOW));
    });
}

#[test]
fn bodies_wait_for_room_on_a_connection_that_takes_nothing() {
    play(async {
        let (_peer, link, _driver) = dialling(64);
        let mut streams: Vec<_> = (0..50).map(|_| link.open_tcp().unwrap()).collect();
        let mut sending: Vec<_> =
            streams.iter_mut().map(|stream| Box::pin(stream.data(bytes(2 * WINDOW)))).collect();
        for _ in 0..20 {
            for one in &mut sending {
                assert!(is_pending(one.as_mut()).await);
            }
            settle().await;
        }
        let held = link.handle().buffered();
        assert!(held <= 2 * (OUT_BYTES_MAX + DATA_BYTES_MAX), "{held}");
    });
}

#[test]
fn all_who_wait_for_room_have_their_turn() {
    play(async {
        let Pair { link, mut arrivals, .. } = pair(4 << 10);
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let mut stream = link.open_tcp().unwrap();
                spawn_local(async move {
                    stream.data(bytes(20 * WINDOW)).await.unwrap();
                    stream.finish(None).unwrap();
                    stream.recv().await.unwrap_err();
                })
            })
            .collect();
        let mut read = vec![0_usize; 20];
        let (told, mut telling) = tokio::sync::mpsc::channel(1);
        for number in 0..20 {
            let (mut stream, told) = (arrivals.next().await.unwrap().stream, told.clone());
            spawn_local(async move {
                while let Event::Data(piece) = stream.recv().await.unwrap() {
                    told.send((number, piece.len())).await.unwrap();
                }
            });
        }
        drop(told);
        // A window and what waits in line is as far as one can be ahead of another.
        while let Some((number, count)) = telling.recv().await {
            read[number] += count;
            let (least, most) = (read.iter().min().unwrap(), read.iter().max().unwrap());
            assert!(most - least <= 3 * WINDOW || *most == 20 * WINDOW, "{read:?}");
        }
        assert_eq!(read, vec![20 * WINDOW; 20]);
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn a_stream_that_gives_up_waiting_does_not_keep_others_from_their_turn() {
    play(async {
        let (mut peer, link, _driver) = dialling(64);
        let mut fillers: Vec<_> = (0..=OUT_BYTES_MAX / WINDOW).map(|_| link.open_tcp().unwrap()).collect();
        let filling = spawn_local(async move {
            for filler in &mut fillers {
                filler.data(bytes(WINDOW)).await.unwrap();
            }
            fillers
        });
        let (mut fickle, mut steady) = (link.open_tcp().unwrap(), link.open_tcp().unwrap());
        settle().await;
        // It is in line, and then does not want to be.
        assert!(is_pending(pin!(fickle.data(bytes(10)))).await);
        let mut sending = pin!(steady.data(bytes(10)));
        assert!(is_pending(sending.as_mut()).await);

        let (sent, ()) = tokio::join!(sending, async {
            while let Some((header, _)) = peer.hear_of(Kind::Data).await
                && header.length != 10
            {}
        });
        sent.unwrap();
        drop(filling.await.unwrap());
    });
}

#[test]
fn a_reset_is_seen_by_the_other_side_with_its_reason() {
    play(async {
        let mut pair = pair(PIPE);
        for from_caller in [true, false] {
            let (near, far) = http(&mut pair).await;
            let (one, mut other) = if from_caller { (near, far) } else { (far, near) };
            one.reset(Code::Failure(7), "no such service");

            let reset = Broken::Reset { code: Code::Failure(7), reason: "no such service".into() };
            assert_eq!(other.broken().await, reset);
            assert_eq!(other.recv().await, Err(reset.clone()));
            assert_eq!(other.halves().0.data(bytes(1)).await, Err(reset.clone()));
            assert_eq!(other.finish(None), Err(reset));
        }
        assert_eq!((pair.link.streams(), pair.arrivals.handle().streams()), (0, 0));
        assert!(pair.link.is_open());
    });
}

#[test]
fn a_handler_notices_a_cancel_while_bytes_wait() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = http(&mut pair).await;
        near.data(bytes(10)).await.unwrap();
        settle().await;
        drop(near);

        let cancelled = Broken::Reset { code: Code::Cancelled, reason: "".into() };
        assert_eq!(far.broken().await, cancelled);
        // What arrived before is still there.
        assert_eq!(far.recv().await, Ok(Event::Data(bytes(10))));
        assert_eq!(far.recv().await, Err(cancelled));
    });
}

#[test]
fn a_whole_answer_counts_although_the_question_was_not_read() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = http(&mut pair).await;
        near.data(bytes(10)).await.unwrap();
        far.head(&response(403), false).unwrap();
        far.data(bytes(20)).await.unwrap();
        far.finish(None).unwrap();
        drop(far);
        settle().await;

        assert_eq!(near.recv().await, Ok(Event::Head(response(403), false)));
        assert_eq!(rest(&mut near).await, Ok(bytes(20).to_vec()));
        let enough = Broken::Reset { code: Code::Enough, reason: "".into() };
        assert_eq!(near.data(bytes(1)).await, Err(enough));
    });
}

#[test]
fn halves_may_be_dropped_one_after_the_other() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, far) = http(&mut pair).await;
        let (mut sender, receiver) = far.split();
        drop(receiver);
        near.data(bytes(1000)).await.unwrap();
        sender.head(&response(200), false).unwrap();
        settle().await;
        assert_eq!(near.recv().await, Ok(Event::Head(response(200), false)));
        let held = pair.arrivals.handle().buffered();
        assert!(held < 1000, "{held}: what nobody reads is not kept");

        drop(sender);
        assert_eq!(near.recv().await, Err(Broken::Reset { code: Code::Cancelled, reason: "".into() }));
    });
}

#[test]
fn small_bodies_come_in_one_piece() {
    play(async {
        let mut pair = pair(PIPE);
        let (mut near, mut far) = tcp(&mut pair).await;
        for _ in 0..500 {
            near.data(Bytes::from_static(b"12")).await.unwrap();
        }
        settle().await;
        assert_eq!(far.recv().await, Ok(Event::Data(b"12".repeat(500).into())));
    });
}

#[test]
fn a_full_link_opens_no_stream_and_has_room_when_one_is_dropped() {
    play(async {
        let pair = pair(PIPE);
        let mut streams: Vec<_> = (0..STREAMS_OPENED_MAX).map(|_| pair.link.open_tcp().unwrap()).collect();

        assert_eq!(pair.link.open_tcp().err(), Some(Refusal::Full));
        streams.pop();
        assert!(pair.link.open_tcp().is_ok());
    });
}

#[test]
fn a_head_that_is_too_large_opens_no_stream() {
    play(async {
        let pair = pair(PIPE);
        let mut large = request("/");
        large.fields.append(b"a", &[b'b'; 60_000]);
        large.fields.append(b"a", &[b'b'; 60_000]);

        assert_eq!(pair.link.open_http(&large, true).err(), Some(Refusal::Unsayable));
        assert_eq!(pair.link.streams(), 0);
        assert!(pair.link.open_http(&request("/"), true).is_ok(), "the next is as if it had not been");
    });
}
