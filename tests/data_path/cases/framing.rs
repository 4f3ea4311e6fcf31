//! Where one message ends and the next begins: nothing that can be read in two ways goes on.

use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::wire::{Ending, Message, Service, Wire};

/// Says `text` on a connection of its own, and returns the first answer and how the connection ended.
async fn refused(scene: &Scene, text: &str) -> (Message, String, Ending) {
    let mut wire = Wire::to(scene.outbound()).await;
    wire.send(text).await;
    let answer = wire.response().await;
    let (rest, ending) = wire.rest().await;
    (answer, rest, ending)
}

/// Holds that each text is answered by its status, that the connection ends then, and that the service hears nothing.
async fn all_refused(texts: &[(u16, String)]) {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for (status, text) in texts {
            let shown = text.get(..text.len().min(200)).unwrap_or_default();
            let (answer, rest, ending) = refused(&scene, text).await;
            assert_eq!(answer.status(), *status, "{shown:?} was answered {answer:?}");
            assert_eq!(answer.field("connection"), "close", "{shown:?} was answered {answer:?}");
            assert_eq!(answer.field("mesh-failure"), "DPE", "{shown:?} was answered {answer:?}");
            assert_eq!((rest.as_str(), ending), ("", Ending::Closed), "after {shown:?}");
        }
        assert!(service.is_untouched(), "the service has heard of it");
    }
}

// cases 3, 4, 6, 7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_body_can_be_delimited_in_two_ways_is_refused_and_its_connection_closed() {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";
    let both = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "transfer-encoding: CHUNKED\r\nCONTENT-LENGTH: 4",
        "Transfer-Encoding:\tchunked \r\nContent-Length:  4 ",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nTransfer-Encoding: identity",
        "Content-Length: 4\r\nTransfer-Encoding: gzip, chunked",
    ];
    let lengths = [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: 3,2",
        "Content-Length: abc",
        "Content-Length: -1",
        "Content-Length: +4",
        "Content-Length: 1.5",
        "Content-Length: 0x4",
        "Content-Length: 4 4",
        "Content-Length:",
        "Content-Length: ,4",
        "Content-Length: 4,",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
    ];
    let codings = [
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: ch\u{fc}nked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: \x0bchunked",
    ];
    let mut texts: Vec<(u16, String)> = Vec::new();
    for fields in both.iter().chain(&lengths).chain(&codings) {
        texts.push((400, format!("POST / HTTP/1.1\r\nHost: web\r\n{fields}\r\n\r\n{smuggled}")));
    }
    texts.push((
        501,
        format!("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: gzip, chunked\r\n\r\n{smuggled}"),
    ));
    for version in ["1.0", "1.0\r\nConnection: keep-alive"] {
        texts.push((
            400,
            format!("POST / HTTP/{version}\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"),
        ));
    }
    all_refused(&texts).await;
}

// cases 12, 13, 14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_breaks_the_rules_is_refused_and_its_connection_closed() {
    let lines = [
        "GE(T / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.01",
        "GET / HTTP/1.1 ",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTPS/1.1",
        "GET /",
        "GET",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /#fragment HTTP/1.1",
        " GET / HTTP/1.1",
    ];
    let fields = [
        "no colon",
        "Name : value",
        "Name\t: value",
        ": value",
        "Na me: value",
        "Na\u{e9}me: value",
        "Folded: one\r\n two",
        "Folded: one\r\n\ttwo",
        " Begins: with a space",
        "Nul: a\0b",
        "Bare: a\rb",
        "Bare: a\nSmuggled: b",
        "Bell: a\u{7}b",
        "Delete: a\u{7f}b",
        "Transfer-Encoding : chunked",
        "Host: other",
    ];
    let mut texts: Vec<(u16, String)> = Vec::new();
    texts.extend(lines.iter().map(|line| (400, format!("{line}\r\nHost: web\r\n\r\n"))));
    texts.extend(fields.iter().map(|field| (400, format!("GET / HTTP/1.1\r\nHost: web\r\n{field}\r\n\r\n"))));
    texts.push((400, "GET / HTTP/1.1\nHost: web\n\n".to_owned()));
    texts.push((400, "GET / HTTP/1.1\r\nHost: web\r\n\n".to_owned()));
    texts.push((400, "GET / HTTP/1.1\r\nHost: web\n\r\n".to_owned()));
    texts.push((400, "GET / HTTP/1.1\r\n Host: web\r\n\r\n".to_owned()));
    texts.push((505, "GET / HTTP/2.0\r\nHost: web\r\n\r\n".to_owned()));
    texts.push((505, "GET / HTTP/1.2\r\nHost: web\r\n\r\n".to_owned()));
    all_refused(&texts).await;
}

// cases 15, 16, 17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_is_refused_by_what_is_too_large_of_it() {
    let many: String = (0..100).map(|count| format!("X-{count}: v\r\n")).collect();
    let texts = [
        (431, format!("GET / HTTP/1.1\r\nHost: web\r\n{many}\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: web\r\nX-Large: {}\r\n\r\n", "v".repeat(70 << 10))),
        (431, format!("GET / HTTP/1.1\r\nHost: web\r\nX-Large: {}\r\n\r\n", "v".repeat(400 << 10))),
        (431, format!("GET / HTTP/1.1\r\nHost: web\r\n{}: v\r\n\r\n", "N".repeat(70 << 10))),
        (414, format!("GET /{} HTTP/1.1\r\nHost: web\r\n\r\n", "p".repeat(70 << 10))),
        (414, format!("GET /{} HTTP/1.1\r\nHost: web\r\n\r\n", "p".repeat(400 << 10))),
    ];
    all_refused(&texts).await;
}

// cases 15, 16, 17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_just_not_too_large_arrives() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer::ok(&[])).await;
            let scene = Scene::new(layout, app, service.protocol());
            let many: String = (0..99).map(|count| format!("X-{count}: v\r\n")).collect();
            let (large, path) = ("v".repeat(50 << 10), format!("/{}", "p".repeat(60 << 10)));
            for text in [
                format!("GET / HTTP/1.1\r\nHost: web\r\n{many}\r\n"),
                format!("GET / HTTP/1.1\r\nHost: web\r\nX-Large: {large}\r\n\r\n"),
                format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"),
            ] {
                let shown = &text[..60];
                let mut wire = Wire::to(scene.outbound()).await;
                wire.send(&text).await;
                let answer = wire.response().await;
                assert_eq!(answer.status(), 200, "{shown:?} to {service:?}: {answer:?}");
                let request = heard.recv().await.unwrap();
                let size =
                    request.fields.iter().map(|(_, value)| value.len()).sum::<usize>() + request.target.len();
                assert!(size >= 99 && (size > 50 << 10) == (text.len() > 50 << 10), "{shown:?}: {size}");
            }
        }
    }
}

// case 5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_lengths_become_one() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for fields in [
            "Content-Length: 4\r\nContent-Length: 4",
            "Content-Length: 4, 4",
            "content-length: 04\r\nContent-Length: 4",
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!("POST / HTTP/1.1\r\nHost: web\r\n{fields}\r\nConnection: close\r\n\r\nbody"))
                .await;
            let mut app = service.accept().await;
            let request = app.request().await;
            assert_eq!(request.fields("content-length"), ["4"], "{fields:?}");
            assert_eq!(request.text(), "body", "{fields:?}");
            app.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            )
            .await;
            let answer = wire.response().await;
            assert_eq!(
                (answer.fields("content-length"), answer.text().as_str()),
                (vec!["2"], "ok"),
                "{fields:?}"
            );
        }
    }
}

// case 29
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_with_bad_chunks_is_refused_and_its_connection_closed() {
    let long = format!("4;{}\r\nbody\r\n0\r\n\r\n", "x".repeat(5 << 10));
    let many: String = (0..40).map(|_| format!("1;{}\r\nb\r\n", "x".repeat(1 << 10))).collect();
    for layout in Layout::BOTH {
        let service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for body in [
            "zz\r\nbody\r\n0\r\n\r\n",
            "-4\r\nbody\r\n0\r\n\r\n",
            "+4\r\nbody\r\n0\r\n\r\n",
            "0x4\r\nbody\r\n0\r\n\r\n",
            " 4\r\nbody\r\n0\r\n\r\n",
            "4\nbody\r\n0\r\n\r\n",
            "4\r\nbody0\r\n\r\n",
            "4\r\nbodybody\r\n0\r\n\r\n",
            "11111111111111111\r\nbody\r\n",
            "4;a=\"\u{1}\"\r\nbody\r\n0\r\n\r\n",
            "4\r\nbody\r\n0\r\nno colon\r\n\r\n",
            "4\r\nbody\r\n0\r\nFolded: a\r\n b\r\n\r\n",
            &long,
            &many,
        ] {
            let shown = &body[..body.len().min(40)];
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))
                .await;
            let answer = wire.response().await;
            assert_eq!(
                (answer.status(), answer.field("connection")),
                (400, "close"),
                "{shown:?}: {answer:?}"
            );
            assert_eq!(wire.rest().await, (String::new(), Ending::Closed), "{shown:?}");
        }
    }
}

// case 29
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_chunk_later_breaks_the_request_of_the_service_off() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n").await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        assert_eq!(app.take(9).await, b"4\r\nbody\r\n");

        wire.send("zz\r\n").await;
        let answer = wire.response().await;
        let (rest, _) = app.rest().await;

        assert_eq!((answer.status(), rest.as_str()), (400, ""), "{answer:?}");
    }
}

// case 31
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_request_is_answered_before_a_bad_one_behind_it_is_refused() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer { length: true, ..Answer::ok(&["first"]) }).await;
        let scene = Scene::new(layout, app, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET /good HTTP/1.1\r\nHost: web\r\n\r\nGET /bad HTTP/1.1\r\n\r\nGET /never HTTP/1.1\r\nHost: web\r\n\r\n").await;

        let (first, second) = (wire.response().await, wire.response().await);

        assert_eq!((first.status(), first.text().as_str()), (200, "first"), "{first:?}");
        assert_eq!((second.status(), second.field("connection")), (400, "close"), "{second:?}");
        assert_eq!(wire.rest().await, (String::new(), Ending::Closed));
        assert_eq!(heard.recv().await.unwrap().target, "/good");
        assert!(heard.try_recv().is_err());
    }
}

// case 32
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_sent_in_one_go_are_answered_in_their_order() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer { length: true, ..Answer::ok(&["yes"]) }).await;
        let scene = Scene::new(layout, app, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        let all: String = (0..20)
            .map(|count| match count % 3 {
                0 => format!("GET /{count} HTTP/1.1\r\nHost: web\r\n\r\n"),
                1 => format!("POST /{count} HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nGET"),
                _ => format!("PUT /{count} HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n"),
            })
            .collect();
        wire.send(all).await;
        for count in 0..20 {
            assert_eq!(wire.response().await.text(), "yes", "{count}");
            let request = heard.recv().await.unwrap();
            let body = if count % 3 == 0 { "" } else { "GET" };
            assert_eq!((request.target, request.body.as_str()), (format!("/{count}"), body));
        }
    }
}
