//! Whoever keeps a proxy waiting: heads, bodies, answers and connections that do not come to an end.

use std::time::Duration;

use ::mesh::net::patience::Patience;
use bytes::Bytes;
use futures_util::future::join_all;

use crate::data_path::cases::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Fate, HEADERS, Rogue, block, frame,
};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::two::{Two, wanted, whole};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::within;

/// So much is certain to be over within a test, and not within the time that a test takes for anything else.
const SOON: Duration = Duration::from_millis(1_500);

fn patience() -> Patience {
    let far = Duration::from_hours(1);
    Patience { head: far, idle: far, body: far, stall: far, half_closed: far }
}

// case 80
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_end_is_given_up() {
    // These wait, so both layouts do at the same time.
    join_all(Layout::BOTH.map(async |layout| {
        let mut service = Service::start().await;
        let scene = Scene::patient(Patience { head: SOON, ..patience() }, layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n").await;
        // Byte by byte it takes no less.
        for _ in 0..5 {
            wire.send("X").await;
            tokio::time::sleep(SOON / 10).await;
        }
        let answer = wire.response().await;
        assert_eq!((answer.status(), answer.field("connection")), (408, "close"));
        assert_eq!(wire.rest().await, (String::new(), Ending::Closed));

        // Without even a line, there is nothing to answer.
        for text in ["GET / HT", "", "PRI * HTTP/2.0\r\n\r\nSM"] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(text).await;
            let (rest, _) = wire.rest().await;
            assert!(!rest.contains("HTTP/1.1 200"), "{text:?}: {rest:?}");
        }
        assert!(service.is_untouched());
    }))
    .await;
}

// case 80
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_http2_that_does_not_end_is_given_up_whatever_else_is_under_way() {
    join_all(Layout::BOTH.map(async |layout| {
        let mut service = Service::start().await;
        let patience = Patience { head: SOON / 2, ..patience() };
        let scene = Scene::patient(patience, layout, service.addr, "http");
        let head: [(&str, &[u8]); 4] =
            [(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"web")];
        let whole = frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&head));
        // One that goes on and on, and one whose only frame stops in its middle.
        let torn = frame(HEADERS, END_STREAM, 3, &block(&head));
        let mut given_up = Vec::new();
        for (begun, more) in
            [(&torn[..], &frame(CONTINUATION, 0, 3, &[])[..]), (&whole[..20], &whole[20..21])]
        {
            for busy in [false, true] {
                let mut rogue = Rogue::to(scene.outbound()).await;
                let mut app = None;
                if busy {
                    rogue.get(1).await;
                    let mut asked = service.accept().await;
                    asked.request().await;
                    app = Some(asked);
                }
                rogue.wire.send(begun).await;
                tokio::time::sleep(SOON / 20).await;
                rogue.wire.send(more).await;
                given_up.push(async move {
                    assert_eq!(rogue.end().await, Some(ENHANCE_YOUR_CALM), "{busy}");
                    if let Some(mut app) = app {
                        assert_eq!(app.rest().await.0, "");
                    }
                });
            }
        }
        join_all(given_up).await;

        // A head in pieces that comes in time is like any other, and its connection goes on for longer.
        let mut rogue = Rogue::to(scene.outbound()).await;
        for piece in [&whole[..5], &whole[5..30], &whole[30..]] {
            rogue.wire.send(piece).await;
            tokio::time::sleep(SOON / 20).await;
        }
        service.accept().await.request().await;
        tokio::time::sleep(SOON).await;
        rogue.get(5).await;
        service.accept().await.request().await;
    }))
    .await;
}

// case 80
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_uses_is_closed() {
    join_all(Layout::BOTH.map(async |layout| {
        let mut service = Service::start().await;
        let scene = Scene::patient(Patience { idle: SOON, ..patience() }, layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert_eq!(wire.response().await.status(), 204);
        let mut rogue = Rogue::to(scene.outbound()).await;
        assert_eq!(wire.rest().await, (String::new(), Ending::Closed));
        assert_eq!(rogue.end().await, Some(0));

        // A stream that is under way is a use.
        let mut two = Two::to(scene.outbound()).await;
        let response = two.get(wanted("GET", "/")).await;
        let mut app = service.accept().await;
        app.request().await;
        tokio::time::sleep(SOON * 2).await;
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(within(response).await.unwrap().status().as_u16(), 204);
    }))
    .await;
}

// cases 63, 80
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_the_callers_fault() {
    join_all(Layout::BOTH.map(async |layout| {
        let mut service = Service::start().await;
        let scene = Scene::patient(Patience { body: SOON, ..patience() }, layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhalf").await;
        let mut rogue = Rogue::to(scene.outbound()).await;
        let head: [(&str, &[u8]); 4] =
            [(":method", b"POST"), (":scheme", b"http"), (":path", b"/"), (":authority", b"web")];
        rogue.send(HEADERS, END_HEADERS, 1, &block(&head)).await;
        let (mut first, mut second) = (service.accept().await, service.accept().await);

        let answer = wire.response().await;
        assert_eq!((answer.status(), answer.field("mesh-failure")), (408, "SI"));
        assert_eq!(answer.field("connection"), "close");
        assert_eq!(wire.rest().await, (String::new(), Ending::Closed));
        assert_eq!(rogue.fate(1).await, Fate::Answered(408));
        // The service sees a request that was broken off.
        for app in [&mut first, &mut second] {
            app.head().await.unwrap();
            assert!(app.rest().await.0.len() <= 4);
        }
    }))
    .await;
}

// case 63
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_in_which_nothing_moves_is_given_up() {
    join_all(Layout::BOTH.map(async |layout| {
        let mut service = Service::start().await;
        let scene = Scene::patient(Patience { stall: SOON, ..patience() }, layout, service.addr, "http");
        // Before the answer.
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        let answer = wire.response().await;
        assert_eq!((answer.status(), answer.field("mesh-failure")), (504, "SI"));
        assert_eq!(app.rest().await.0, "");

        // Within it, after it has moved for longer than that.
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut one = service.accept().await;
        one.request().await;
        let mut two = Two::to(scene.outbound()).await;
        let response = two.get(wanted("GET", "/")).await;
        let mut other = service.accept().await;
        other.request().await;
        for app in [&mut one, &mut other] {
            app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await;
        }
        wire.head().await.unwrap();
        let mut response = within(response).await.unwrap();
        for _ in 0..5 {
            tokio::time::sleep(SOON / 3).await;
            one.send("x").await;
            other.send("x").await;
        }
        assert_eq!(wire.rest().await.0, "xxxxx");
        assert_eq!(whole(response.body_mut()).await.unwrap_err(), Some(h2::Reason::CANCEL));
        assert_eq!((one.rest().await.0, other.rest().await.0), (String::new(), String::new()));
    }))
    .await;
}

// case 63
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_grpc_are_silent_for_as_long_as_they_like() {
    join_all(Layout::BOTH.map(async |layout| {
        let mut service = Service::start().await;
        let scene =
            Scene::patient(Patience { stall: SOON, body: SOON, ..patience() }, layout, service.addr, "http");
        let mut two = Two::to(scene.outbound()).await;
        let mut request = wanted("POST", "/shop.Cart/Watch");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let (response, mut stream) = two.open(request).await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        tokio::time::sleep(SOON * 2).await;
        stream.send_data(Bytes::from_static(b"late"), true).unwrap();
        assert_eq!(app.take(9).await, b"4\r\nlate\r\n");
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(within(response).await.unwrap().status().as_u16(), 204);
    }))
    .await;
}
