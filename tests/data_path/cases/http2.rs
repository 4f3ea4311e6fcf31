//! HTTP/2: heads that break its rules, streams that end early on either side, connections that a service leaves.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::json;

use crate::data_path::cases::ask::{Ask, ask};
use crate::data_path::cases::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, GOAWAY, HEADERS, RST_STREAM, Rogue, block,
};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Service2, Two, answer, wanted, whole};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::{self, within};

const PROTOCOL_ERROR: u32 = 1;

type Line<'a> = (&'a str, &'a [u8]);

const METHOD: Line<'_> = (":method", b"GET");
const SCHEME: Line<'_> = (":scheme", b"http");
const PATH: Line<'_> = (":path", b"/");
const WEB: Line<'_> = (":authority", b"web");

/// Heads that are malformed (RFC 9113 §8.2, §8.3), or that could not be said in HTTP/1 without saying something else.
fn malformed() -> Vec<Vec<Line<'static>>> {
    vec![
        // case 47
        vec![METHOD, SCHEME, PATH, WEB, ("connection", b"close")],
        vec![METHOD, SCHEME, PATH, WEB, ("connection", b"x-foo"), ("x-foo", b"1")],
        vec![METHOD, SCHEME, PATH, WEB, ("transfer-encoding", b"chunked")],
        vec![METHOD, SCHEME, PATH, WEB, ("keep-alive", b"timeout=5")],
        vec![METHOD, SCHEME, PATH, WEB, ("proxy-connection", b"close")],
        vec![METHOD, SCHEME, PATH, WEB, ("upgrade", b"websocket")],
        vec![METHOD, SCHEME, PATH, WEB, ("te", b"gzip")],
        // Pseudo-header fields.
        vec![SCHEME, PATH, WEB],
        vec![METHOD, PATH, WEB],
        vec![METHOD, SCHEME, WEB],
        vec![METHOD, METHOD, SCHEME, PATH, WEB],
        vec![METHOD, SCHEME, PATH, PATH, WEB],
        vec![METHOD, SCHEME, PATH, WEB, WEB],
        vec![METHOD, SCHEME, PATH, WEB, (":status", b"200")],
        vec![METHOD, SCHEME, WEB, ("x-early", b"1"), PATH],
        vec![METHOD, SCHEME, PATH, WEB, (":protocol", b"websocket")],
        vec![METHOD, SCHEME, (":path", b""), WEB],
        vec![METHOD, SCHEME, (":path", b"test"), WEB],
        vec![METHOD, SCHEME, (":path", b"?query"), WEB],
        vec![METHOD, SCHEME, (":path", b"*"), WEB],
        vec![METHOD, SCHEME, (":path", b"http://web/"), WEB],
        vec![METHOD, SCHEME, (":path", b"/ HTTP/1.1\r\nX: y"), WEB],
        vec![METHOD, SCHEME, (":path", b"/a b"), WEB],
        vec![METHOD, SCHEME, (":path", b"/a\0b"), WEB],
        vec![METHOD, SCHEME, PATH, (":authority", b"web\r\nx: y")],
        vec![METHOD, SCHEME, PATH, (":authority", b"me@web")],
        vec![METHOD, SCHEME, PATH, (":authority", b"web/x")],
        vec![METHOD, SCHEME, PATH, (":authority", b"web web")],
        vec![METHOD, SCHEME, PATH, WEB, ("host", b"other")],
        vec![METHOD, SCHEME, PATH, ("host", b"web"), ("host", b"other")],
        vec![METHOD, SCHEME, PATH, ("host", b"web\tweb")],
        vec![(":method", b"CONNECT"), SCHEME, PATH, WEB],
        vec![(":method", b"CONNECT"), SCHEME, PATH, WEB, (":protocol", b"websocket\r\nx: y")],
        vec![(":method", b"CONNECT"), SCHEME, PATH, WEB, (":protocol", b"web socket")],
        // Lengths that are not.
        vec![METHOD, SCHEME, PATH, WEB, ("content-length", b"5")],
        vec![METHOD, SCHEME, PATH, WEB, ("content-length", b"-1")],
        vec![METHOD, SCHEME, PATH, WEB, ("content-length", b"0"), ("content-length", b"1")],
        vec![METHOD, SCHEME, PATH, WEB, ("content-length", b"0, 1")],
        vec![METHOD, SCHEME, PATH, WEB, ("content-length", b"+0")],
    ]
}

/// Heads with what is no name or value at all: their reader may give the whole connection up.
fn unreadable() -> Vec<Vec<Line<'static>>> {
    vec![
        vec![METHOD, SCHEME, PATH, WEB, (":unknown", b"1")],
        vec![(":method", b"GET / HTTP/1.1\r\n"), SCHEME, PATH, WEB],
        vec![(":method", b"GE T"), SCHEME, PATH, WEB],
        vec![METHOD, SCHEME, PATH, WEB, ("x", b"a\r\nSmuggled: b")],
        vec![METHOD, SCHEME, PATH, WEB, ("x", b"a\nSmuggled: b")],
        vec![METHOD, SCHEME, PATH, WEB, ("x", b"a\rb")],
        vec![METHOD, SCHEME, PATH, WEB, ("x", b"a\0b")],
        vec![METHOD, SCHEME, PATH, WEB, ("x: y\r\nsmuggled", b"b")],
        vec![METHOD, SCHEME, PATH, WEB, ("x:y", b"b")],
        vec![METHOD, SCHEME, PATH, WEB, ("x y", b"b")],
        vec![METHOD, SCHEME, PATH, WEB, ("Capital", b"b")],
        vec![METHOD, SCHEME, PATH, WEB, ("", b"b")],
    ]
}

// case 47
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_cannot_be_read_ends_its_connection_at_most() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer { status: 204, ..Answer::default() }).await;
            let scene = Scene::new(layout, app, service.protocol());
            for fields in unreadable() {
                let shown: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
                let mut rogue = Rogue::to(scene.outbound()).await;
                rogue.ask(1, &fields).await;
                let fate = rogue.fate(1).await;
                let refused = matches!(fate, Fate::Reset(PROTOCOL_ERROR) | Fate::Gone(PROTOCOL_ERROR));
                assert!(refused, "{shown:?} to {service:?}: {fate:?}");
                let told =
                    ask(Speaks::Two, scene.outbound(), Ask { method: "GET", path: "/ok", ..Ask::default() })
                        .await;
                assert_eq!(
                    (told.status, heard.recv().await.unwrap().target.as_str()),
                    (204, "/ok"),
                    "after {shown:?}"
                );
            }
            assert!(heard.try_recv().is_err());
        }
    }
}

// case 47
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_head_ends_its_stream_and_nothing_else() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer { status: 204, ..Answer::default() }).await;
            let scene = Scene::new(layout, app, service.protocol());
            for addr in [scene.outbound(), scene.port()] {
                for fields in malformed() {
                    let shown: Vec<_> = fields
                        .iter()
                        .map(|(name, value)| format!("{name}={}", value.escape_ascii()))
                        .collect();
                    let mut rogue = Rogue::to(addr).await;
                    rogue.ask(1, &fields).await;
                    let fate = rogue.fate(1).await;
                    assert_eq!(fate, Fate::Reset(PROTOCOL_ERROR), "{shown:?} to {service:?}");
                    rogue.get(3).await;
                    assert_eq!(rogue.fate(3).await, Fate::Answered(204), "after {shown:?}");
                    let request = heard.recv().await.unwrap();
                    assert_eq!(request.target, "/", "after {shown:?}");
                    assert!(heard.try_recv().is_err(), "{shown:?} has arrived");
                }
            }
        }
    }
}

// case 46
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_does_as_well_as_an_authority() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer { status: 204, ..Answer::default() }).await;
            let scene = Scene::new(layout, app, service.protocol());
            for fields in [
                vec![METHOD, SCHEME, PATH, ("host", &b"web.mesh"[..])],
                vec![METHOD, SCHEME, PATH, (":authority", b"web.mesh"), ("host", b"WEB.mesh")],
                vec![METHOD, ("x", b""), SCHEME, PATH]
                    .into_iter()
                    .filter(|(name, _)| *name != "x")
                    .chain([(":authority", &b"web.mesh"[..])])
                    .collect(),
            ] {
                let mut rogue = Rogue::to(scene.outbound()).await;
                rogue.ask(1, &fields).await;
                assert_eq!(rogue.fate(1).await, Fate::Answered(204), "{fields:?} to {service:?}");
                assert_eq!(heard.recv().await.unwrap().authority, "web.mesh", "{fields:?} to {service:?}");
            }
        }
    }
}

// case 47
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_as_long_as_it_said_is_never_completed_for_the_service() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for body in [&b"short"[..], b"longer than it said"] {
            let mut rogue = Rogue::to(scene.outbound()).await;
            let head = [(":method", &b"POST"[..]), SCHEME, PATH, WEB, ("content-length", b"10")];
            rogue.send(HEADERS, END_HEADERS, 1, &block(&head)).await;
            let mut app = service.accept().await;
            app.head().await.unwrap();
            rogue.send(DATA, END_STREAM, 1, body).await;
            assert!(matches!(rogue.fate(1).await, Fate::Reset(PROTOCOL_ERROR)), "{body:?}");
            let (rest, _) = app.rest().await;
            assert!(rest.len() < 10, "{body:?}: {rest:?}");
        }
    }
}

// case 18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_list_that_is_too_large_is_refused_and_others_notice_nothing() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer { status: 204, ..Answer::default() }).await;
        let scene = Scene::new(layout, app, "http");
        let large = vec![b'v'; 15 << 10];
        for count in [5, 8] {
            let mut rogue = Rogue::to(scene.outbound()).await;
            rogue.send(HEADERS, END_STREAM, 1, &block(&[METHOD, SCHEME, PATH, WEB])).await;
            for at in 1..=count {
                let flags = if at == count { END_HEADERS } else { 0 };
                rogue.send(CONTINUATION, flags, 1, &block(&[("x-large", &large)])).await;
            }
            let fate = rogue.fate(1).await;
            // A list several times as large is an attack.
            assert!(
                matches!(fate, Fate::Answered(431)) || count == 8 && fate == Fate::Gone(11),
                "{count}: {fate:?}"
            );
        }
        let told =
            ask(Speaks::Two, scene.outbound(), Ask { method: "GET", path: "/", ..Ask::default() }).await;
        assert_eq!(told.status, 204);
        heard.recv().await.unwrap();
        assert!(heard.try_recv().is_err());
    }
}

// case 15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_a_hundred_fields_arrives_and_one_more_is_refused() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer { status: 204, ..Answer::default() }).await;
            let scene = Scene::new(layout, app, service.protocol());
            for (count, fate) in [(100, Fate::Answered(204)), (101, Fate::Answered(431))] {
                let mut fields = vec![METHOD, SCHEME, PATH, WEB];
                fields.extend(vec![("x", &b"y"[..]); count]);
                let mut rogue = Rogue::to(scene.outbound()).await;
                rogue.ask(1, &fields).await;
                assert_eq!(rogue.fate(1).await, fate, "{count} to {service:?}");
            }
            let arrived = heard.recv().await.unwrap();
            assert_eq!(arrived.fields.iter().filter(|(name, _)| name == "x").count(), 100, "{service:?}");
            assert!(heard.try_recv().is_err());
        }
    }
}

// case 45
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_speaks_its_own_version_and_finds_the_other_in_order() {
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            for service in Speaks::BOTH {
                let (app, mut heard) = serve(service, Answer::ok(&["hello"])).await;
                let scene = Scene::new(layout, app, service.protocol());
                let body = Ask {
                    method: "PUT",
                    path: "/a?b",
                    body: &["x"],
                    fields: &[("x-a", "b")],
                    ..Ask::default()
                };
                let told = ask(caller, scene.port(), body).await;
                let request = heard.recv().await.unwrap();
                let got = (
                    request.method.as_str(),
                    request.target.as_str(),
                    request.body.as_str(),
                    request.field("x-a"),
                );
                assert_eq!(got, ("PUT", "/a?b", "x", "b"), "{caller:?} to {service:?}");
                assert_eq!((told.status, told.text().as_str()), (200, "hello"), "{caller:?} to {service:?}");
            }
        }
    }
}

// case 48
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_its_caller_resets_is_given_up_by_the_service_too() {
    for layout in Layout::BOTH {
        let mut one = Service::start().await;
        let scene = Scene::new(layout, one.addr, "http");
        let mut rogue = Rogue::to(scene.outbound()).await;
        rogue.get(1).await;
        let mut app = one.accept().await;
        app.request().await;
        rogue.send(RST_STREAM, 0, 1, &8u32.to_be_bytes()).await;
        assert_eq!(app.rest().await.0, "");

        let mut two = Service2::start().await;
        let scene = Scene::new(layout, two.addr, "h2c");
        let mut rogue = Rogue::to(scene.outbound()).await;
        rogue.get(1).await;
        let (_request, mut respond) = two.call().await;
        rogue.send(RST_STREAM, 0, 1, &8u32.to_be_bytes()).await;
        let reason = within(std::future::poll_fn(|cx| respond.poll_reset(cx))).await.unwrap();
        assert_eq!(reason, h2::Reason::CANCEL);
    }
}

// case 48
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_given_up_take_no_window_with_them() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let said = Answer { body: vec![vec![b'x'; 1 << 20]; 4], ..Answer::ok(&[]) };
            let (app, _heard) = serve(service, said).await;
            let scene = Scene::new(layout, app, service.protocol());
            let mut two = Two::to(scene.outbound()).await;
            for _ in 0..40 {
                let mut response = within(two.get(wanted("GET", "/")).await).await.unwrap();
                let first = within(response.body_mut().data()).await.unwrap().unwrap();
                // The caller's own window is for it to give back.
                response.body_mut().flow_control().release_capacity(first.len()).unwrap();
            }
            let mut response = within(two.get(wanted("GET", "/")).await).await.unwrap();
            let (body, _) = whole(response.body_mut()).await.unwrap();
            assert_eq!(body.len(), 4 << 20, "{service:?}");
        }
    }
}

// case 49
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_the_service_refuses_is_tried_once_more() {
    for layout in Layout::BOTH {
        let mut service = Service2::start().await;
        let scene = Scene::new(layout, service.addr, "h2c");
        let mut two = Two::to(scene.outbound()).await;
        let (response, mut stream) = two.open(wanted("POST", "/")).await;
        stream.send_data(Bytes::from_static(b"body"), true).unwrap();
        let (_request, mut respond) = service.call().await;
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        let (mut request, mut respond) = service.call().await;
        assert_eq!(whole(request.body_mut()).await.unwrap().0, b"body");
        answer(&mut respond, 204);
        assert_eq!(within(response).await.unwrap().status().as_u16(), 204);

        let response = two.get(wanted("POST", "/")).await;
        for _ in 0..2 {
            service.call().await.1.send_reset(h2::Reason::REFUSED_STREAM);
        }
        let response = within(response).await.unwrap();
        assert_eq!(response.status().as_u16(), 503);
        // Other errors are no refusal: the service may have done what it was asked.
        let response = two.get(wanted("POST", "/")).await;
        service.call().await.1.send_reset(h2::Reason::INTERNAL_ERROR);
        let response = within(response).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["mesh-failure"]),
            (502, &"UC".parse().unwrap())
        );
    }
}

/// Plays the next connection of a service itself.
async fn accept(service: &mut Service) -> h2::server::Connection<tokio::net::TcpStream, Bytes> {
    let stream = service.accept().await.stream;
    within(h2::server::handshake(stream)).await.unwrap()
}

// case 50
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_into_a_connection_that_its_service_closes_is_sent_again_if_that_is_safe() {
    for layout in Layout::BOTH {
        for safe in [true, false] {
            let mut service = Service::start().await;
            let scene = Scene::new(layout, service.addr, "h2c");
            // What the caller's proxy would do for it is not what this is about.
            scene.mesh.traffic(json!({ "retry": { "attempts": 0 } }));
            let mut two = Two::to(scene.outbound()).await;
            let first = two.get(wanted("GET", "/")).await;
            let mut connection = accept(&mut service).await;
            let (_, mut respond) = within(connection.accept()).await.unwrap().unwrap();
            answer(&mut respond, 204);
            let mut next = None;
            let asking = async {
                within(first).await.unwrap();
                next = Some(two.get(wanted(if safe { "GET" } else { "POST" }, "/again")).await);
            };
            let (called, ()) = tokio::join!(connection.accept(), asking);
            let next = next.unwrap();
            // No GOAWAY, no answer: all that is seen is the end.
            drop((called, connection));
            if !safe {
                let next = within(next).await.unwrap();
                assert_eq!(
                    (next.status().as_u16(), &next.headers()["mesh-failure"]),
                    (502, &"UC".parse().unwrap())
                );
                assert!(service.is_untouched());
                continue;
            }
            let mut connection = accept(&mut service).await;
            let (_, mut respond) = within(connection.accept()).await.unwrap().unwrap();
            answer(&mut respond, 204);
            let next = tokio::select! {
                next = within(next) => next.unwrap(),
                _ = connection.accept() => panic!("it was asked again"),
            };
            assert_eq!(next.status().as_u16(), 204);
        }
    }
}

// case 50
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_leaves_finishes_what_is_under_way_and_is_asked_anew() {
    for layout in Layout::BOTH {
        let mut service = Service2::start().await;
        let scene = Scene::new(layout, service.addr, "h2c");
        let mut two = Two::to(scene.outbound()).await;
        let first = two.get(wanted("GET", "/first")).await;
        let (_request, mut respond) = service.call().await;
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut first = within(first).await.unwrap();
        service.leave();
        // GOAWAY takes its time, and every request must find its way in the meantime.
        for count in 0..20 {
            let next = two.get(wanted("POST", "/next")).await;
            answer(&mut service.call().await.1, 204);
            assert_eq!(within(next).await.unwrap().status().as_u16(), 204, "{count}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stream.send_data(Bytes::from_static(b"to the end"), true).unwrap();
        assert_eq!(whole(first.body_mut()).await.unwrap().0, b"to the end");
        assert_eq!(service.connections(), 2);
    }
}

// case 50
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_says_goodbye_still_gets_its_answers() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut rogue = Rogue::to(scene.outbound()).await;
        rogue.get(1).await;
        let mut app = service.accept().await;
        app.request().await;
        rogue.send(GOAWAY, 0, 0, &[0; 8]).await;
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(rogue.fate(1).await, Fate::Answered(204));
    }
}

// case 48
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_vanishes_takes_its_work_with_it() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for two in [false, true] {
            let wire = if two {
                let mut rogue = Rogue::to(scene.outbound()).await;
                rogue.get(1).await;
                rogue.wire
            } else {
                let mut wire = Wire::to(scene.outbound()).await;
                wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhalf").await;
                wire
            };
            let mut app = service.accept().await;
            app.head().await.unwrap();
            wire.reset();
            let (rest, ending) = app.rest().await;
            assert!(rest.len() <= 4 && ending == Ending::Closed || ending == Ending::Reset, "{two}: {rest}");
        }
        mesh::until(|| {
            let open = scene.caller().counted(mesh_total_open) + scene.callee().counted(mesh_total_open);
            (open == 0).then_some(())
        })
        .await;
    }
}

fn mesh_total_open(total: &::mesh::logic::metric::total::EdgeTotal) -> u64 {
    total.open()
}

// case 27
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_an_answer_that_breaks_off_arrives_before_the_reset() {
    const PART: usize = 40_000;
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for _ in 0..20 {
            let mut two = Two::to(scene.outbound()).await;
            let response = two.get(wanted("GET", "/")).await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(PART))).await;
            drop(app);

            let mut body = within(response).await.unwrap().into_body();
            let mut arrived = 0;
            let broken = loop {
                match within(body.data()).await {
                    Some(Ok(data)) => arrived += data.len(),
                    Some(Err(error)) => break error,
                    None => panic!("it looks complete after {arrived} bytes"),
                }
            };

            assert!(broken.is_reset(), "{broken}");
            assert_eq!(arrived, PART, "of what the service sent");
        }
    }
}
