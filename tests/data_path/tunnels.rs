//! Upgrades and CONNECT: requests that become connections.

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::app;
use crate::data_path::caller::{h2, read, request, say};
use crate::data_path::mesh::{self, Pair, within};

async fn head(stream: &mut TcpStream) -> String {
    within(app::read_head(stream)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgraded_connection_carries_bytes_both_ways_to_its_end() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");
    let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();

    let wanted = "GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly ";
    stream.write_all(wanted.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await;
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    within(stream.read_to_string(&mut heard)).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("upgrade: websocket\r\n"), "{answer}");
    assert_eq!(heard, "early late");
    for node in [&pair.caller, &pair.callee] {
        mesh::until(|| {
            let totals = node.shared.registry.totals();
            let total = &totals.first()?.1;
            (total.statuses.get(&101) == Some(&1) && total.bytes_sent == 10 && total.failures == 0)
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_http2_reaches_a_websocket_of_http1() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut sender = h2(pair.caller.outbound()).await;
    // The server's settings, which allow this, come before any answer.
    read(within(sender.send_request(request("GET", "web", "http://web/", ""))).await.unwrap()).await;

    let mut wanted = request("CONNECT", "web", "http://web/upgrade", "");
    wanted.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let response = within(sender.send_request(wanted)).await.unwrap();
    let status = response.status().as_u16();
    let mut stream = TokioIo::new(within(hyper::upgrade::on(response)).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    within(stream.read_to_string(&mut heard)).await.unwrap();

    assert_eq!((status, heard.as_str()), (200, "hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upgrade_is_an_ordinary_response() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    for (path, status) in [("/plain", "200 OK"), ("/status/403", "403 Forbidden")] {
        let wanted = format!(
            "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        let heard = say(pair.caller.outbound(), &wanted).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{heard}");
        assert!(!heard.contains("mesh-"), "{heard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_to_http2_is_ignored() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    let wanted = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let heard = say(pair.caller.outbound(), wanted).await;

    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(heard.contains("x-seen: host\r\n"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_opens_a_connection_to_a_service() {
    let app = app::speaks_first().await;
    let pair = Pair::new("db", app, "tcp");
    let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();

    stream.write_all(b"CONNECT db.mesh:5432 HTTP/1.1\r\nHost: db.mesh:5432\r\n\r\n").await.unwrap();
    let answer = head(&mut stream).await;
    let mut greeting = [0; 11];
    within(stream.read_exact(&mut greeting)).await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    within(stream.read_to_string(&mut rest)).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!((&greeting, rest.as_str()), (b"220 hello\r\n", "bye"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_elsewhere_is_refused_with_the_reason() {
    let pair = Pair::new("db", mesh::nobody(), "tcp");

    for (target, status) in [("example.com:443", "404 "), ("db.mesh:1", "502 ")] {
        let wanted = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
        let heard = say(pair.caller.outbound(), &wanted).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{heard}");
    }
}
