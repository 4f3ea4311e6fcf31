//! Connections that are not HTTP: who speaks first, how they end.

use std::io::ErrorKind;

use ::mesh::logic::metric::total::EdgeTotal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::app;
use crate::data_path::caller::get;
use crate::data_path::mesh::{self, Pair, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_without_a_word_from_the_caller() {
    let app = app::speaks_first().await;

    for protocol in ["", "tcp"] {
        let pair = Pair::new("db", app, protocol);
        let mut stream = TcpStream::connect(pair.caller.port("db")).await.unwrap();
        let mut greeting = [0; 11];
        within(stream.read_exact(&mut greeting)).await.unwrap();
        stream.write_all(b"and bye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        within(stream.read_to_string(&mut rest)).await.unwrap();

        assert_eq!((&greeting, rest.as_str()), (b"220 hello\r\n", "and bye"), "{protocol:?}");
        for node in [&pair.caller, &pair.callee] {
            mesh::until(|| {
                let totals = node.shared.registry.totals();
                let total = &totals.first()?.1;
                let ended = (total.requests, total.failures, total.bytes_sent, total.bytes_received);
                (ended == (1, 0, 7, 18) && total.open() == 0).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_speaks_first_is_carried_as_it_is() {
    let app = app::raw(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    })
    .await;
    let pair = Pair::new("echo", app, "");
    let mut stream = TcpStream::connect(pair.caller.port("echo")).await.unwrap();

    let content = vec![7; 3 << 20];
    let (mut from, mut to) = stream.split();
    let sent = async {
        to.write_all(&content).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    within(async { tokio::join!(sent, from.read_to_end(&mut heard)) }).await.1.unwrap();

    assert!(heard == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_recognised_on_a_port_of_an_undeclared_service() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");

    let at_once = get(pair.caller.port("web"), "localhost:80", "/x").await;
    // This one waits until the connection for a server that speaks first is open, and then speaks HTTP.
    let mut late = TcpStream::connect(pair.caller.port("web")).await.unwrap();
    mesh::until(|| (pair.callee.counted(EdgeTotal::open) > 0).then_some(())).await;
    late.write_all(b"GET /late HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    within(late.read_to_string(&mut heard)).await.unwrap();

    assert_eq!((at_once.status.as_u16(), at_once.header("x-host")), (200, "localhost:80"));
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    mesh::until(|| (pair.callee.counted(|total| total.requests) == 2).then_some(())).await;
    mesh::until(|| (pair.caller.counted(|total| total.requests) == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_one_direction_leaves_the_other_open() {
    let app = app::raw(|mut stream| async move {
        stream.write_all(b"all I have").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer after the end");
    })
    .await;
    let pair = Pair::new("db", app, "tcp");
    let mut stream = TcpStream::connect(pair.caller.port("db")).await.unwrap();

    let mut heard = String::new();
    within(stream.read_to_string(&mut heard)).await.unwrap();
    stream.write_all(b"answer after the end").await.unwrap();
    stream.shutdown().await.unwrap();

    assert_eq!(heard, "all I have");
    mesh::until(|| (pair.callee.counted(|total| total.bytes_sent) == 20).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_stays_a_reset() {
    let app = app::raw(|stream| async move {
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    })
    .await;
    let pair = Pair::new("db", app, "tcp");
    let ended = match TcpStream::connect(pair.caller.port("db")).await {
        Ok(mut stream) => within(stream.read_u8()).await,
        Err(error) => Err(error),
    };

    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_refuses_resets_its_caller_and_is_counted() {
    let pair = Pair::new("db", mesh::nobody(), "tcp");

    // The reset may come before the caller has noticed that it is connected.
    let ended = match TcpStream::connect(pair.caller.port("db")).await {
        Ok(mut stream) => within(stream.read_u8()).await,
        Err(error) => Err(error),
    };

    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for node in [&pair.caller, &pair.callee] {
        mesh::until(|| (node.counted(|total| total.failures) == 1).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_refuses_is_passed_over() {
    let app = app::speaks_first().await;
    let pair = Pair::new("db", app, "tcp");
    let _bad = pair.mesh.node("bad", &[format!("db={}/tcp", mesh::nobody())], &[]);

    for _ in 0..10 {
        let mut stream = TcpStream::connect(pair.caller.port("db")).await.unwrap();
        let mut greeting = [0; 11];
        within(stream.read_exact(&mut greeting)).await.unwrap();
        assert_eq!(&greeting, b"220 hello\r\n");
    }
}
