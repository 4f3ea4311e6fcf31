//! Limits of time: of an attempt, of the whole, of silence.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::app::{self, bare, raw, read_head};
use crate::data_path::caller::{get, h1, read, request, say};
use crate::data_path::mesh::{Mesh, Pair, loopback, within};

/// An application that never answers its first request and the others at once.
async fn sleepy() -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = seen.clone();
    let addr = raw(move |mut stream| {
        let count = count.clone();
        async move {
            while read_head(&mut stream).await.ends_with("\r\n\r\n") {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    _ = stream.read_u8().await;
                    return;
                }
                stream.write_all(bare(200, "").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (addr, seen)
}

// case 61
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_takes_too_long_is_followed_by_another() {
    let (app, seen) = sleepy().await;
    let pair = Pair::new("web", app, "http");
    pair.mesh.traffic(json!({ "timeouts": { "request": "20s", "backendRequest": "200ms" } }));

    let got = get(pair.caller.outbound(), "web", "/").await;

    assert_eq!((got.status.as_u16(), seen.load(Ordering::SeqCst)), (200, 2));
}

// case 61
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_may_have_done_its_work_is_not_repeated() {
    let (app, seen) = sleepy().await;
    let pair = Pair::new("web", app, "http");
    pair.mesh.traffic(json!({ "timeouts": { "backendRequest": "200ms" } }));
    let mut sender = h1(pair.caller.outbound()).await;

    let got =
        read(within(sender.send_request(request("POST", "web", "/", Bytes::new()))).await.unwrap()).await;

    assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (504, "UT"));
    assert!(
        got.text().contains("the time of an attempt is over: web.default on callee, attempt 1"),
        "{}",
        got.text()
    );
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

// case 61
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_may_switch_the_limit_of_a_policy_off() {
    let (release, held) = tokio::sync::watch::channel(false);
    let app = raw(move |mut stream| {
        let mut held = held.clone();
        async move {
            read_head(&mut stream).await;
            _ = held.wait_for(|released| *released).await;
            _ = stream.write_all(bare(200, "").as_bytes()).await;
        }
    })
    .await;
    let pair = Pair::new("web", app, "http");
    let policy = json!({
        "apiVersion": "mesh/v1", "kind": "TrafficPolicy", "metadata": { "name": "web" },
        "spec": { "targetRef": { "name": "web" }, "timeouts": { "request": "100ms" } }
    });
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "web" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
            "rules": [
                { "matches": [{ "path": { "value": "/slow" } }], "timeouts": { "request": "0s" },
                  "backendRefs": [{ "name": "web", "port": 80 }] },
                { "backendRefs": [{ "name": "web", "port": 80 }] }
            ]
        }
    });
    pair.mesh.apply(json!([policy, route]));

    let outbound = pair.caller.outbound();
    let slow = tokio::spawn(async move { get(outbound, "web", "/slow").await });
    let limited = get(pair.caller.outbound(), "web", "/").await;
    assert_eq!((limited.status.as_u16(), limited.header("mesh-failure")), (504, "UT"));
    release.send(true).unwrap();

    assert_eq!(within(slow).await.unwrap().status.as_u16(), 200);
}

// case 63
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_an_exchange_and_a_word_now_and_then_does_not() {
    let app = raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        if head.contains("/silent") {
            _ = stream.read_u8().await;
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n").await.unwrap();
        for _ in 0..8 {
            // Slow, but never silent for as long as is too long.
            tokio::time::sleep(Duration::from_millis(400)).await;
            stream.write_all(b"x").await.unwrap();
        }
    })
    .await;
    let pair = Pair::new("web", app, "http");
    pair.mesh.traffic(json!({ "timeouts": { "idle": "1s" } }));

    let outbound = pair.caller.outbound();
    let slow = tokio::spawn(async move { get(outbound, "web", "/slow").await });
    let silent = get(pair.caller.outbound(), "web", "/silent").await;

    assert_eq!((silent.status.as_u16(), silent.header("mesh-failure")), (504, "SI"));
    assert_eq!(within(slow).await.unwrap().text(), "xxxxxxxx");
}

// case 63
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_tunnels_only_where_a_policy_says_so() {
    let db = Pair::new("web", app::speaks_first().await, "tcp");
    let mut unlimited = TcpStream::connect(db.caller.port("web")).await.unwrap();
    let mut greeting = [0; 11];
    within(unlimited.read_exact(&mut greeting)).await.unwrap();
    db.mesh.traffic(json!({ "timeouts": { "idle": "1s" } }));
    let mut limited = TcpStream::connect(db.caller.port("web")).await.unwrap();
    within(limited.read_exact(&mut greeting)).await.unwrap();

    assert!(within(limited.read_u8()).await.is_err());
    unlimited.write_all(b"!").await.unwrap();
    assert_eq!(within(unlimited.read_u8()).await.unwrap(), b'!');

    let (app, _heard) = app::echo("web").await;
    let web = Pair::new("web", app, "http");
    web.mesh.traffic(json!({ "timeouts": { "idle": "1s" } }));
    let upgrade = "GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut stream = TcpStream::connect(web.caller.outbound()).await.unwrap();
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    assert!(within(read_head(&mut stream)).await.starts_with("HTTP/1.1 101 "));
    assert!(within(stream.read_u8()).await.is_err());
    // Whoever is not silent for so long notices nothing of the limit.
    let heard = say(web.caller.outbound(), "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_a_connection_is_given_up_after_as_long_as_a_policy_says() {
    // Room for one connection that nobody accepts: the next one is left waiting by the kernel.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&loopback().into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let _taken = TcpStream::connect(addr).await.unwrap();
    let mesh = Mesh::new();
    let caller = mesh.node("caller", &[], &[]);
    mesh.announce(&"full".parse().unwrap(), addr, &["web=127.0.0.1:9/http".parse().unwrap()]);

    for (connect, failure) in [("50ms", "UF"), ("1m", "UT")] {
        mesh.traffic(json!({ "timeouts": { "connect": connect, "request": "1s" } }));
        let got = get(caller.outbound(), "web", "/").await;
        assert_eq!(got.header("mesh-failure"), failure, "{connect}: {}", got.text());
    }
}

// case 63
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_may_be_silent_for_as_long_as_a_policy_says_of_them() {
    let (app, _heard) = app::echo("web").await;
    let web = Pair::new("web", app, "http");
    let upgrade = "GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let open = async |timeouts: serde_json::Value| {
        web.mesh.traffic(json!({ "timeouts": timeouts }));
        let mut stream = TcpStream::connect(web.caller.outbound()).await.unwrap();
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        assert!(within(read_head(&mut stream)).await.starts_with("HTTP/1.1 101 "));
        stream
    };

    let mut unlimited = open(json!({ "idle": "1s", "streamIdle": "0s" })).await;
    let mut limited = open(json!({ "idle": "1h", "streamIdle": "1s" })).await;

    assert!(within(limited.read_u8()).await.is_err());
    // As old as the one that was ended, and older.
    unlimited.write_all(b"!").await.unwrap();
    assert_eq!(within(unlimited.read_u8()).await.unwrap(), b'!');
}
