//! Bodies: whether there is one, how it is delimited, what comes after it, and that it breaks off where it does.

use crate::data_path::cases::ask::{Ask, ask};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Service2, Two, wanted, whole};
use crate::data_path::cases::wire::{Service, Wire};
use crate::data_path::mesh::{self, within};
use bytes::Bytes;
use http::{HeaderMap, Response};

// case 22
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_body_gets_none() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "BREW"] {
            for length in [&[][..], &["0"]] {
                let mut wire = Wire::to(scene.outbound()).await;
                let line =
                    length.first().map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
                wire.send(format!("{method} / HTTP/1.1\r\nHost: web\r\n{line}\r\n")).await;
                let mut app = service.accept().await;
                let request = app.request().await;
                app.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
                assert_eq!(wire.head().await.unwrap().get(..12), Some("HTTP/1.1 200"), "{method}");
                let framing = (request.fields("content-length"), request.fields("transfer-encoding"));
                assert_eq!(framing, (length.to_vec(), vec![]), "{method}");
            }
        }
    }
}

// case 22
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_http2_without_a_body_makes_none_in_http1() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer::ok(&[])).await;
        let scene = Scene::new(layout, app, "http");
        for method in ["GET", "POST", "DELETE"] {
            ask(Speaks::Two, scene.outbound(), Ask { method, path: "/", ..Ask::default() }).await;
            let request = heard.recv().await.unwrap();
            assert_eq!(
                (request.field("transfer-encoding"), request.field("content-length")),
                ("", ""),
                "{method}"
            );
        }
    }
}

// cases 23, 24
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_body_has_none_whatever_it_says() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for (method, line, framing, lengths) in [
            ("HEAD", "200 OK", "Content-Length: 55", &["55"][..]),
            ("HEAD", "200 OK", "Transfer-Encoding: chunked", &[]),
            ("HEAD", "404 Not Found", "Content-Length: 0", &["0"]),
            ("HEAD", "200 OK", "X-None: 1", &[]),
            ("GET", "204 No Content", "X-None: 1", &[]),
            ("GET", "204 No Content", "Content-Length: 0", &[]),
            ("GET", "304 Not Modified", "Content-Length: 55", &["55"]),
            ("GET", "304 Not Modified", "Transfer-Encoding: chunked", &[]),
            ("GET", "304 Not Modified", "X-None: 1", &[]),
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!("{method} /1 HTTP/1.1\r\nHost: web\r\n\r\n")).await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("HTTP/1.1 {line}\r\n{framing}\r\n\r\n")).await;
            let head = wire.head().await.unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{method} {line} {framing}: {head}");
            let told: Vec<_> =
                head.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
            assert_eq!(told, lengths, "{method} {line} {framing}");
            assert!(line != "204 No Content" || !head.contains("transfer-encoding"), "{framing}: {head}");

            // What comes next on either connection is the next message.
            wire.send("GET /2 HTTP/1.1\r\nHost: web\r\n\r\n").await;
            assert_eq!(app.request().await.line(), "GET /2 HTTP/1.1", "{method} {line} {framing}");
            app.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext").await;
            assert_eq!(wire.response().await.text(), "next", "{method} {line} {framing}");
        }
    }
}

// cases 23, 24
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_body_has_none_in_any_pairing_of_versions() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            for (method, status, length) in [("HEAD", 200, "4"), ("GET", 304, "4"), ("GET", 204, "")] {
                let said = Answer { status, length: status != 204, ..Answer::ok(&["body"]) };
                let (app, _heard) = serve(service, said).await;
                let scene = Scene::new(layout, app, service.protocol());
                let told = ask(caller, scene.outbound(), Ask { method, path: "/", ..Ask::default() }).await;
                let case = format!("{method} {status}, {caller:?} to {service:?}");
                assert_eq!((told.status, told.field("content-length")), (status, length), "{case}");
                assert!(told.body.is_empty(), "{case}");
            }
        }
    }
}

// case 25
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_keeps_its_delimiter_and_streams_both_ways() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for (framing, piece, other) in [
            ("content-length: 8", "half", "half"),
            ("transfer-encoding: chunked", "4\r\nhalf\r\n", "4\r\nhalf\r\n0\r\n\r\n"),
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!("POST / HTTP/1.1\r\nhost: web\r\n{framing}\r\n\r\n{piece}")).await;
            let mut app = service.accept().await;
            let head = app.head().await.unwrap();
            assert!(head.contains(&format!("{framing}\r\n")), "{head}");
            // Before the rest is there.
            assert_eq!(app.take(piece.len()).await, piece.as_bytes(), "{framing}");
            wire.send(other).await;
            assert_eq!(app.take(other.len()).await, other.as_bytes(), "{framing}");

            app.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{piece}")).await;
            let head = wire.head().await.unwrap();
            assert!(head.contains(&format!("{framing}\r\n")), "{head}");
            assert_eq!(wire.take(piece.len()).await, piece.as_bytes(), "{framing}");
            app.send(other).await;
            assert_eq!(wire.take(other.len()).await, other.as_bytes(), "{framing}");
        }
    }
}

// case 26
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_lasts_until_close_ends_in_good_order() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for line in
            ["HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"]
        {
            let mut one = Wire::to(scene.outbound()).await;
            one.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("{line}\r\nsome")).await;
            app.send("body").await;
            drop(app);
            let answer = one.response().await;
            assert_eq!(
                (answer.text().as_str(), answer.field("transfer-encoding")),
                ("somebody", "chunked"),
                "{line:?}"
            );

            let mut zero = Wire::to(scene.outbound()).await;
            zero.send("GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n").await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("{line}\r\nsomebody")).await;
            drop(app);
            let answer = zero.response().await;
            assert_eq!(
                (answer.text().as_str(), answer.field("connection")),
                ("somebody", "close"),
                "{line:?}"
            );

            let mut two = Two::to(scene.outbound()).await;
            let response = two.get(wanted("GET", "/")).await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("{line}\r\nsomebody")).await;
            drop(app);
            let mut response = within(response).await.unwrap();
            assert_eq!(whole(response.body_mut()).await.unwrap().0, b"somebody", "{line:?}");
        }
    }
}

// cases 27, 28, 29
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_never_passed_off_as_whole() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for (head, reset) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf0\r\n\r\n", false),
        ] {
            for version in ["1.1", "1.0"] {
                let mut wire = Wire::to(scene.outbound()).await;
                wire.send(format!("GET / HTTP/{version}\r\nHost: web\r\n\r\n")).await;
                let mut app = service.accept().await;
                app.request().await;
                app.send(head).await;
                let got = wire.head().await.unwrap();
                let chunked = got.contains("transfer-encoding: chunked");
                let half = if chunked { "4\r\nhalf\r\n" } else { "half" };
                assert_eq!(wire.take(half.len()).await, half.as_bytes(), "{version} {head:?}");
                if reset {
                    app.reset();
                } else {
                    drop(app);
                }
                let (rest, ending) = wire.rest().await;
                assert_eq!(rest, "", "{version} {head:?}");
                // Without a length or chunks, only a reset tells.
                let until_close = !chunked && !got.contains("content-length");
                assert!(
                    !until_close || ending == crate::data_path::cases::wire::Ending::Reset,
                    "{version} {head:?}"
                );
            }
            let mut two = Two::to(scene.outbound()).await;
            let response = two.get(wanted("GET", "/")).await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(head).await;
            if reset {
                app.reset();
            } else {
                drop(app);
            }
            // What came before the break may be dropped with it.
            let broken = match within(response).await {
                Ok(mut response) => whole(response.body_mut()).await.unwrap_err(),
                Err(error) => error.reason(),
            };
            assert_eq!(broken, Some(h2::Reason::INTERNAL_ERROR), "{head:?}");
        }
        mesh::until(|| (scene.caller().counted(|total| total.failures) >= 21).then_some(())).await;
        mesh::until(|| (scene.callee().counted(|total| total.failures) >= 21).then_some(())).await;
    }
}

// cases 27, 48
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_service_that_is_reset_is_never_passed_off_as_whole() {
    for layout in Layout::BOTH {
        let mut service = Service2::start().await;
        let scene = Scene::new(layout, service.addr, "h2c");
        for caller in Speaks::BOTH {
            let answered = async {
                let (_request, mut respond) = service.call().await;
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"half"), false).unwrap();
                stream
            };
            match caller {
                Speaks::One => {
                    let mut wire = Wire::to(scene.outbound()).await;
                    wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
                    let mut stream = answered.await;
                    wire.head().await.unwrap();
                    assert_eq!(wire.take(9).await, b"4\r\nhalf\r\n");
                    stream.send_reset(h2::Reason::INTERNAL_ERROR);
                    assert_eq!(wire.rest().await.0, "");
                }
                Speaks::Two => {
                    let mut two = Two::to(scene.outbound()).await;
                    let response = two.get(wanted("GET", "/")).await;
                    let mut stream = answered.await;
                    let mut response = within(response).await.unwrap();
                    assert_eq!(within(response.body_mut().data()).await.unwrap().unwrap(), "half");
                    stream.send_reset(h2::Reason::INTERNAL_ERROR);
                    assert!(whole(response.body_mut()).await.is_err());
                }
            }
        }
    }
}

// cases 36, 37, 38
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_arrive_in_every_pairing_of_versions_and_both_ways() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let said = Answer {
                trailers: vec![("grpc-status", "0".to_owned()), ("x-sum", "abc".to_owned())],
                fields: &[("trailer", "grpc-status, x-sum")],
                ..Answer::ok(&["some", "body"])
            };
            let (app, mut heard) = serve(service, said).await;
            let scene = Scene::new(layout, app, service.protocol());
            let te = [("te", "trailers"), ("trailer", "x-check")];
            let te = if caller == Speaks::One { [("Connection", "TE"), te[0]].to_vec() } else { te.to_vec() };
            let told = ask(
                caller,
                scene.outbound(),
                Ask {
                    method: "POST",
                    path: "/",
                    fields: &te,
                    body: &["re", "quest"],
                    trailers: &[("x-check", "ok")],
                },
            )
            .await;
            let request = heard.recv().await.unwrap();

            let case = format!("{caller:?} to {service:?}");
            assert_eq!((told.status, told.text().as_str()), (200, "somebody"), "{case}");
            assert_eq!((told.trailer("grpc-status"), told.trailer("x-sum")), ("0", "abc"), "{case}");
            assert_eq!(told.field("trailer"), "grpc-status, x-sum", "{case}");
            assert_eq!(request.body, "request", "{case}");
            assert_eq!(request.trailers, [("x-check".to_owned(), "ok".to_owned())], "{case}");
            assert_eq!(request.field("te"), "trailers", "{case}");
        }
    }
}

// case 37
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_trailers_stay_whole() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let details = "d".repeat(50 << 10);
            let said = Answer {
                trailers: vec![("grpc-status", "9".to_owned()), ("grpc-status-details-bin", details.clone())],
                fields: &[("content-type", "application/grpc")],
                ..Answer::ok(&["message"])
            };
            let (app, _heard) = serve(service, said).await;
            let scene = Scene::new(layout, app, service.protocol());
            let told =
                ask(caller, scene.outbound(), Ask { method: "POST", path: "/", ..Ask::default() }).await;
            assert_eq!(told.trailer("grpc-status"), "9", "{caller:?} to {service:?}");
            assert!(told.trailer("grpc-status-details-bin") == details, "{caller:?} to {service:?}");
        }
    }
}

// case 36
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_a_trailer_is_none() {
    for layout in Layout::BOTH {
        let mut service = Service2::start().await;
        let scene = Scene::new(layout, service.addr, "h2c");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(
            "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\
             Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: other\r\nAuthorization: me\r\nX-Kept: 1\r\n\r\n",
        )
        .await;
        let (mut request, mut respond) = service.call().await;
        let (_, trailers) = whole(request.body_mut()).await.unwrap();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut said = HeaderMap::new();
        for name in ["content-length", "set-cookie", "content-type", "x-kept"] {
            said.insert(name, "1".parse().unwrap());
        }
        stream.send_trailers(said).unwrap();
        let answer = wire.response().await;

        assert_eq!(trailers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
        assert_eq!(answer.trailers, ["x-kept: 1"]);
    }
}
