//! A link that speaks HTTP/2, against the `h2` crate on the other side.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use mesh::logic::http::h2::frame::{ACK, END_HEADERS, END_STREAM, HEADER_BYTES, Header, Kind, PREFACE};
use mesh::logic::http::head::{RequestHead, ResponseHead};
use mesh::proxy::link::error::{Broken, Refusal};
use mesh::proxy::link::{Arrivals, Event, Limits, Link, Opening};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{JoinHandle, spawn_local};

use super::scene::{Next as _, PIPE, is_pending, play, settle};

type Ended = JoinHandle<Result<(), mesh::proxy::link::error::Error>>;

/// A caller, and us as its server.
async fn called(builder: &h2::client::Builder) -> (SendRequest<Bytes>, Arrivals, Ended) {
    let (near, far) = duplex(PIPE);
    let (arrivals, driver) = Arrivals::accept_http2(far, Limits::ACCEPTED);
    let ended = spawn_local(driver);
    let (sender, connection) = builder.handshake(near).await.unwrap();
    spawn_local(async move { _ = connection.await });
    (sender, arrivals, ended)
}

/// Us as a client, and the service that is called.
async fn calling(builder: &h2::server::Builder) -> (Link, h2::server::Connection<DuplexStream, Bytes>) {
    let (near, far) = duplex(PIPE);
    let (link, driver) = Link::dial_http2(near, Limits::DIALLED);
    spawn_local(driver);
    let service = builder.handshake(far).await.unwrap();
    link.settled().await;
    (link, service)
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://web{path}")).body(()).unwrap()
}

/// Takes the next request, whose head is known to the test.
async fn arrived(arrivals: &mut Arrivals) -> mesh::proxy::link::stream::Stream {
    arrivals.next().await.unwrap().stream
}

async fn read(mut body: RecvStream) -> Result<usize, h2::Error> {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        length += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(length)
}

async fn write(mut body: SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        body.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
        body.send_data(data.split_to(room.min(data.len())), false).unwrap();
    }
    body.send_data(Bytes::new(), true).unwrap();
}

fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [Header { length: payload.len(), kind, flags, stream }.encode().as_slice(), payload].concat()
}

/// Returns the next frame of a kind.
async fn hear_of(io: &mut DuplexStream, kind: Kind) -> Vec<u8> {
    loop {
        let mut header = [0; HEADER_BYTES];
        io.read_exact(&mut header).await.unwrap();
        let header = Header::decode(header).unwrap();
        let mut payload = vec![0; header.length];
        io.read_exact(&mut payload).await.unwrap();
        if header.kind == kind {
            return payload;
        }
    }
}

#[test]
fn what_is_on_its_way_when_we_leave_is_taken_and_nothing_after_it() {
    play(async {
        let (mut near, far) = duplex(PIPE);
        let (mut arrivals, driver) = Arrivals::accept_http2(far, Limits::ACCEPTED);
        let ended = spawn_local(driver);
        // GET / of web.
        let ask = |stream| frame(Kind::Headers, END_HEADERS | END_STREAM, stream, b"\x82\x86\x84\x41\x03web");
        near.write_all(&[PREFACE.as_slice(), &frame(Kind::Settings, 0, 0, &[])].concat()).await.unwrap();
        settle().await;
        arrivals.handle().away();
        let said = hear_of(&mut near, Kind::GoAway).await;
        assert_eq!(said[..4], 0x7fff_ffff_u32.to_be_bytes(), "it may be that something is on its way");
        let question = hear_of(&mut near, Kind::Ping).await;
        near.write_all(&[ask(1), frame(Kind::Ping, ACK, 0, &question), ask(3)].concat()).await.unwrap();
        let mut stream = arrived(&mut arrivals).await;
        let said = hear_of(&mut near, Kind::GoAway).await;
        assert_eq!(said[..4], 1_u32.to_be_bytes(), "the other one came after that was heard");
        settle().await;
        assert!(!ended.is_finished(), "a stream is under way");
        stream.head(&ResponseHead::new(204), true).unwrap();
        assert_eq!(hear_of(&mut near, Kind::Headers).await, [0x89]);
        drop(stream);
        drop(near);
        assert!(arrivals.next().await.is_none());
        ended.await.unwrap().unwrap();
    });
}

#[test]
fn a_window_that_all_streams_share_holds_them_up_and_nothing_spins() {
    play(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(100_000);
        let (mut caller, mut arrivals, _ended) = called(&builder).await;
        let mut answers = Vec::new();
        for _ in 0..2 {
            let (answer, _) = caller.send_request(get("/"), true).unwrap();
            let mut stream = arrived(&mut arrivals).await;
            stream.head(&ResponseHead::new(200), false).unwrap();
            spawn_local(async move {
                stream.data(Bytes::from(vec![7; 300_000])).await.unwrap();
                stream.finish(None).unwrap();
                stream.recv().await.unwrap();
            });
            answers.push(answer.await.unwrap().into_body());
        }
        // Time only goes on when nobody has anything to do.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let [first, second] = <[RecvStream; 2]>::try_from(answers).unwrap();
        let (first, second) = tokio::join!(read(first), read(second));
        assert_eq!((first.unwrap(), second.unwrap()), (300_000, 300_000));
    });
}

#[test]
fn a_window_that_shrinks_under_a_stream_is_made_up_for() {
    play(async {
        let (near, far) = duplex(PIPE);
        let (mut arrivals, driver) = Arrivals::accept_http2(far, Limits::ACCEPTED);
        spawn_local(driver);
        let (mut caller, mut connection) = h2::client::handshake(near).await.unwrap();
        let (answer, _) = caller.send_request(get("/"), true).unwrap();
        let mut stream = {
            let mut driven = std::pin::pin!(&mut connection);
            tokio::select! {
                _ = driven.as_mut() => unreachable!(),
                stream = arrived(&mut arrivals) => stream,
            }
        };
        tokio::select! {
            _ = &mut connection => unreachable!(),
            () = settle() => {}
        }
        stream.head(&ResponseHead::new(200), false).unwrap();
        let sent = spawn_local(async move {
            stream.data(Bytes::from(vec![1; 60_000])).await.unwrap();
            stream.data(Bytes::from(vec![2; 60_000])).await.unwrap();
            stream.finish(None).unwrap();
            stream.recv().await.unwrap();
        });
        settle().await;
        connection.set_initial_window_size(10).unwrap();
        spawn_local(async move { _ = connection.await });
        settle().await;
        assert_eq!(read(answer.await.unwrap().into_body()).await.unwrap(), 120_000);
        sent.await.unwrap();
    });
}

#[test]
fn an_upload_of_any_size_gets_through_the_windows() {
    play(async {
        let (mut caller, mut arrivals, _ended) = called(&h2::client::Builder::new()).await;
        let (answer, body) = caller.send_request(get("/"), false).unwrap();
        let size = 20 << 20;
        spawn_local(write(body, Bytes::from(vec![3; size])));
        let mut stream = arrived(&mut arrivals).await;
        let mut length = 0;
        loop {
            match stream.recv().await.unwrap() {
                Event::Data(data) => length += data.len(),
                Event::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(length, size);
        stream.head(&ResponseHead::new(200), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    });
}

#[test]
fn heads_longer_than_a_frame_arrive_in_both_directions() {
    play(async {
        let mut builder = h2::client::Builder::new();
        builder.max_header_list_size(1 << 20);
        let (mut caller, mut arrivals, _ended) = called(&builder).await;
        let long = "v".repeat(50_000);
        let (answer, _) = caller
            .send_request(Request::get("http://web/").header("x-long", &long).body(()).unwrap(), true)
            .unwrap();
        let arrival = arrivals.next().await.unwrap();
        let Opening::Http(head, true) = arrival.opening else { panic!("a request") };
        assert_eq!(head.fields.get("x-long").unwrap(), long.as_bytes());
        let mut response = ResponseHead::new(200);
        response.fields.append(b"X-Long", long.as_bytes());
        let mut stream = arrival.stream;
        stream.head(&response, true).unwrap();
        assert_eq!(answer.await.unwrap().headers()["x-long"], long);
    });
}

#[test]
fn a_peer_without_a_table_is_told_that_none_is_used() {
    play(async {
        let mut builder = h2::client::Builder::new();
        builder.header_table_size(0);
        let (mut caller, mut arrivals, _ended) = called(&builder).await;
        for _ in 0..3 {
            let (answer, _) = caller.send_request(get("/"), true).unwrap();
            let mut response = ResponseHead::new(200);
            response.fields.append(b"x-a", b"b");
            arrived(&mut arrivals).await.head(&response, true).unwrap();
            assert_eq!(answer.await.unwrap().headers()["x-a"], "b");
        }
    });
}

#[test]
fn no_more_is_asked_at_a_time_than_the_service_takes() {
    play(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let (link, mut service) = calling(&builder).await;
        let head =
            RequestHead { path: "/".to_owned(), authority: Some("web".to_owned()), ..RequestHead::default() };
        let mut stream = link.open_http(&head, true).unwrap();
        assert!(link.is_full());
        assert_eq!(link.open_http(&head, true).err(), Some(Refusal::Full));
        let (_, mut respond) = service.accept().await.unwrap().unwrap();
        spawn_local(async move { while service.accept().await.is_some() {} });
        respond.send_response(Response::new(()), true).unwrap();
        assert!(matches!(stream.recv().await, Ok(Event::Head(_, true))));
        drop(stream);
        assert!(!link.is_full());
    });
}

#[test]
fn a_service_that_leaves_says_which_requests_it_has_not_looked_at() {
    play(async {
        let (link, mut service) = calling(&h2::server::Builder::new()).await;
        let head =
            RequestHead { path: "/".to_owned(), authority: Some("web".to_owned()), ..RequestHead::default() };
        let mut taken = link.open_http(&head, true).unwrap();
        let (_, mut respond) = service.accept().await.unwrap().unwrap();
        service.abrupt_shutdown(h2::Reason::NO_ERROR);
        let mut late = link.open_http(&head, true).unwrap();
        spawn_local(async move { while service.accept().await.is_some() {} });
        let broken = late.recv().await;
        assert!(
            matches!(
                &broken,
                Err(Broken::Reset { code: mesh::logic::link::frame::Code::Refused, .. } | Broken::Link { .. })
            ),
            "{broken:?}"
        );
        assert!(!link.is_open());
        _ = respond.send_response(Response::new(()), true);
        drop(taken.recv().await);
    });
}

#[test]
fn a_service_that_says_nothing_is_waited_for() {
    play(async {
        let (near, far) = duplex(PIPE);
        let (link, driver) = Link::dial_http2(near, Limits::DIALLED);
        spawn_local(driver);
        settle().await;
        let mut settled = std::pin::pin!(link.settled());
        assert!(is_pending(settled.as_mut()).await);
        drop(far);
        settled.await;
        assert!(!link.handle().has_settled() && !link.is_open());
    });
}
