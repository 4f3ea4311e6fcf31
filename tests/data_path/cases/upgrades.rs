//! Requests that become connections, and those that would like to.

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::data_path::app;
use crate::data_path::cases::ask::{Ask, ask};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Service2, Two, wanted, whole};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::within;

const WISH: &str = "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn switch(proof: &str) -> String {
    SWITCH.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", proof)
}

// case 39
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_carries_bytes_both_ways_also_those_before_the_agreement() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(format!("{WISH}early")).await;
        let mut app = service.accept().await;
        let request = app.request().await;
        assert_eq!((request.field("upgrade"), request.field("connection")), ("websocket", "upgrade"));
        assert_eq!(request.field("sec-websocket-key"), "dGhlIHNhbXBsZSBub25jZQ==");
        app.send(format!("{SWITCH}hello")).await;
        let answer = wire.head().await.unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains("connection: upgrade\r\n"), "{answer}");
        assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
        assert_eq!(wire.take(5).await, b"hello");
        assert_eq!(app.take(5).await, b"early");
        wire.send("more").await;
        assert_eq!(app.take(4).await, b"more");

        // The service ends first, and the caller has the last word.
        app.send("bye").await;
        app.finish().await;
        assert_eq!(wire.rest().await, ("bye".to_owned(), Ending::Closed));
        wire.send("last").await;
        wire.finish().await;
        assert_eq!(app.rest().await, ("last".to_owned(), Ending::Closed));
    }
}

/// Resets one end of a connection; the other end is reset too.
async fn breaks_in_http1(by_the_service: bool, app: Wire, wire: Wire) {
    let (breaks, mut hears) = if by_the_service { (app, wire) } else { (wire, app) };
    breaks.reset();
    assert_eq!(hears.rest().await, (String::new(), Ending::Reset), "{by_the_service}");
}

/// As [`breaks_in_http1`], with a caller whose end is a stream.
async fn breaks_in_http2(
    by_the_service: bool,
    mut app: Wire,
    (mut body, mut stream): (RecvStream, SendStream<Bytes>),
) {
    if by_the_service {
        app.reset();
        assert!(whole(&mut body).await.is_err());
    } else {
        stream.send_reset(h2::Reason::CANCEL);
        assert_eq!(app.rest().await, (String::new(), Ending::Reset));
    }
}

// case 39
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_is_reset_is_reset_on_the_other_side() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for by_the_service in [true, false] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(WISH).await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(SWITCH).await;
            wire.head().await.unwrap();
            breaks_in_http1(by_the_service, app, wire).await;
        }

        for by_the_service in [true, false] {
            let mut two = Two::ready(scene.outbound()).await;
            let mut request = wanted("CONNECT", "/chat");
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let (response, stream) = two.open(request).await;
            let mut app = service.accept().await;
            let key = app.request().await.field("sec-websocket-key").to_owned();
            app.send(switch(&app::prove(&key))).await;
            let response = within(response).await.unwrap();
            breaks_in_http2(by_the_service, app, (response.into_body(), stream)).await;
        }
    }
}

// case 44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_of_a_service_of_http2_that_is_reset_is_reset_on_the_other_side() {
    for layout in Layout::BOTH {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let mut service = Service2::with(builder).await;
        let scene = Scene::new(layout, service.addr, "h2c");
        for by_the_service in [true, false] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(WISH).await;
            let (mut request, mut respond) = service.call().await;
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            wire.head().await.unwrap();
            if by_the_service {
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
                assert_eq!(wire.rest().await, (String::new(), Ending::Reset));
            } else {
                wire.reset();
                assert!(whole(request.body_mut()).await.is_err());
            }
        }
    }
}

// case 42
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_by_connect_that_is_reset_is_reset_on_the_other_side() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "tcp");
        for by_the_service in [true, false] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send("CONNECT web.mesh:80 HTTP/1.1\r\nHost: web.mesh:80\r\n\r\n").await;
            let app = service.accept().await;
            wire.head().await.unwrap();
            breaks_in_http1(by_the_service, app, wire).await;

            let mut two = Two::to(scene.outbound()).await;
            let request = http::Request::builder().method("CONNECT").uri("web.mesh:80").body(()).unwrap();
            let (response, stream) = two.open(request).await;
            let app = service.accept().await;
            let response = within(response).await.unwrap();
            breaks_in_http2(by_the_service, app, (response.into_body(), stream)).await;
        }
    }
}

// case 40
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upgrade_is_an_ordinary_answer_and_the_connection_goes_on() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        for (line, extra) in [
            ("200 OK", ""),
            ("403 Forbidden", ""),
            ("426 Upgrade Required", "Connection: upgrade\r\nUpgrade: other\r\n"),
        ] {
            wire.send(WISH).await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("HTTP/1.1 {line}\r\n{extra}Content-Length: 2\r\n\r\nno")).await;
            let answer = wire.response().await;
            assert_eq!((answer.line(), answer.text().as_str()), (format!("HTTP/1.1 {line}").as_str(), "no"));
            assert_eq!(answer.field("upgrade"), if extra.is_empty() { "" } else { "other" }, "{line}");
            assert_eq!(answer.field("connection"), if extra.is_empty() { "" } else { "upgrade" }, "{line}");
            app.finish().await;
        }
        wire.send("GET /after HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(service.accept().await.request().await.line(), "GET /after HTTP/1.1");
    }
}

// case 40
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_changes_the_protocol_unasked_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send(format!("{SWITCH}smuggled")).await;
        let answer = wire.response().await;
        assert_eq!((answer.status(), answer.field("mesh-failure")), (502, "UPE"), "{answer:?}");
    }
}

// case 41
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_for_h2c_is_taken_off() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer { length: true, ..Answer::ok(&["plain"]) }).await;
            let scene = Scene::new(layout, app, service.protocol());
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(
                "GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            )
            .await;
            let answer = wire.response().await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "plain"));
            let request = heard.recv().await.unwrap();
            for name in ["upgrade", "http2-settings", "connection"] {
                assert_eq!(request.field(name), "", "{service:?}");
            }
        }
    }
}

// case 39
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_with_a_body_stays_in_the_old_protocol() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer::ok(&["plain"])).await;
        let scene = Scene::new(layout, app, "http");
        let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        let wish = Ask { method: "POST", path: "/", fields: &fields, body: &["body"], ..Ask::default() };
        assert_eq!(ask(Speaks::One, scene.outbound(), wish).await.text(), "plain");
        let request = heard.recv().await.unwrap();
        assert_eq!((request.body.as_str(), request.field("upgrade")), ("body", ""));
    }
}

// case 42
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_opens_a_connection_to_a_service_in_either_version() {
    let app = app::speaks_first().await;
    for layout in Layout::BOTH {
        let scene = Scene::new(layout, app, "tcp");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("CONNECT web.mesh:5432 HTTP/1.1\r\nHost: web.mesh:5432\r\n\r\nearly").await;
        let head = wire.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
        wire.finish().await;
        assert_eq!(wire.rest().await, ("220 hello\r\nearly".to_owned(), Ending::Closed));

        let mut two = Two::to(scene.outbound()).await;
        let request = http::Request::builder().method("CONNECT").uri("web.mesh:5432").body(()).unwrap();
        let (response, mut stream) = two.open(request).await;
        let mut response = within(response).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        stream.send_data(Bytes::from_static(b"early"), true).unwrap();
        let heard = whole(response.body_mut()).await.unwrap().0;
        assert_eq!(heard, b"220 hello\r\nearly");
    }
}

// case 42
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_to_what_is_no_service_is_refused() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "tcp");
        for target in ["example.com:443", "127.0.0.1:22", "[::1]:22", "nothing.mesh:80"] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
            let answer = wire.response().await;
            assert_eq!((answer.status(), answer.field("mesh-failure")), (404, "NR"), "{target}");
        }
        assert!(service.is_untouched());
    }
}

// case 44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_of_http2_reaches_one_of_http1() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut two = Two::ready(scene.outbound()).await;
        let mut request = wanted("CONNECT", "/chat");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut stream) = two.open(request).await;
        let mut app = service.accept().await;
        let wish = app.request().await;
        assert_eq!(wish.line(), "GET /chat HTTP/1.1");
        assert_eq!((wish.field("upgrade"), wish.field("connection")), ("websocket", "upgrade"));
        // The caller knows nothing of a key, and the service does not go without.
        let key = wish.field("sec-websocket-key");
        assert_eq!(data_encoding::BASE64.decode(key.as_bytes()).unwrap().len(), 16, "{key:?}");
        app.send(switch(&app::prove(key))).await;
        app.send("hello").await;
        let mut response = within(response).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        for name in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        assert_eq!(within(response.body_mut().data()).await.unwrap().unwrap(), "hello");
        stream.send_data(Bytes::from_static(b"ping"), true).unwrap();
        assert_eq!(app.rest().await, ("ping".to_owned(), Ending::Closed));
        app.send("pong").await;
        app.finish().await;
        let rest = whole(response.body_mut()).await.unwrap().0;
        assert_eq!(rest, b"pong");
    }
}

// case 44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_understand_the_key_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut two = Two::ready(scene.outbound()).await;
        let mut request = wanted("CONNECT", "/chat");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, _stream) = two.open(request).await;
        let mut app = service.accept().await;
        app.request().await;
        app.send(SWITCH).await;
        let response = within(response).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["mesh-failure"]),
            (502, &"UPE".parse().unwrap())
        );
    }
}

// case 44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_reaches_a_service_of_http2_from_either_version() {
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            let mut builder = h2::server::Builder::new();
            builder.enable_connect_protocol();
            let mut service = Service2::with(builder).await;
            let scene = Scene::new(layout, service.addr, "h2c");
            let play = async {
                let (mut request, mut respond) = service.call().await;
                let protocol = request.extensions().get::<h2::ext::Protocol>().unwrap();
                assert_eq!((request.method().as_str(), protocol.as_str()), ("CONNECT", "websocket"));
                assert_eq!(request.uri().path(), "/chat");
                for name in ["sec-websocket-key", "upgrade", "connection"] {
                    assert!(!request.headers().contains_key(name), "{name}");
                }
                let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
                let heard = whole(request.body_mut()).await.unwrap().0;
                stream.send_data(Bytes::from(heard), true).unwrap();
            };
            let call = async {
                match caller {
                    Speaks::One => {
                        let mut wire = Wire::to(scene.outbound()).await;
                        wire.send(WISH).await;
                        let answer = wire.head().await.unwrap();
                        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
                        assert!(
                            answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
                            "{answer}"
                        );
                        assert!(answer.contains("upgrade: websocket\r\n"), "{answer}");
                        assert_eq!(wire.take(5).await, b"hello");
                        wire.send("to and fro").await;
                        wire.finish().await;
                        wire.rest().await.0.into_bytes()
                    }
                    Speaks::Two => {
                        let mut two = Two::ready(scene.outbound()).await;
                        let mut request = wanted("CONNECT", "/chat");
                        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
                        let (response, mut stream) = two.open(request).await;
                        let mut response = within(response).await.unwrap();
                        assert_eq!(response.status().as_u16(), 200);
                        assert_eq!(within(response.body_mut().data()).await.unwrap().unwrap(), "hello");
                        stream.send_data(Bytes::from_static(b"to and fro"), true).unwrap();
                        whole(response.body_mut()).await.unwrap().0
                    }
                }
            };
            let ((), heard) = tokio::join!(play, call);
            assert_eq!(heard, b"to and fro", "{caller:?}");
        }
    }
}

// case 44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_to_a_service_of_http2_that_takes_none_is_told_so() {
    for layout in Layout::BOTH {
        let (app, _heard) = serve(Speaks::Two, Answer::ok(&[])).await;
        let scene = Scene::new(layout, app, "h2c");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(WISH).await;
        let answer = wire.response().await;
        assert_eq!((answer.status(), answer.field("mesh-failure")), (501, "DPE"), "{answer:?}");
        wire.send("GET /after HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(wire.response().await.status(), 200);
    }
}
