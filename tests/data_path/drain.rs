//! The end of a proxy: what is under way finishes, what goes on too long is cut.

use std::time::Duration;

use ::mesh::net::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::app;
use crate::data_path::mesh::{PATIENCE, Pair, within};

// case 84
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_finished_and_its_connection_closed() {
    let (asked, mut asking) = tokio::sync::mpsc::channel(1);
    let (go, going) = tokio::sync::watch::channel(false);
    let app = app::raw(move |mut stream| {
        let (asked, mut going) = (asked.clone(), going.clone());
        async move {
            app::read_head(&mut stream).await;
            asked.send(()).await.unwrap();
            going.wait_for(|go| *go).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
        }
    })
    .await;
    let pair = Pair::new("web", app, "http");
    let outbound = pair.caller.outbound();
    let mut stream = TcpStream::connect(outbound).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    within(asking.recv()).await.unwrap();

    let callee = task::spawn("test", pair.callee.workers.drain(PATIENCE));
    let caller = task::spawn("test", pair.caller.workers.drain(PATIENCE));
    within(async { while TcpStream::connect(outbound).await.is_ok() {} }).await;
    go.send_replace(true);
    let mut heard = String::new();
    within(stream.read_to_string(&mut heard)).await.unwrap();

    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n") && heard.ends_with("done"), "{heard}");
    assert!(heard.contains("connection: close\r\n"), "{heard}");
    within(async { tokio::try_join!(caller, callee) }).await.unwrap();
}

// case 84
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_after_the_grace_is_cut() {
    let pair = Pair::new("db", app::speaks_first().await, "tcp");
    let mut stream = TcpStream::connect(pair.caller.port("db")).await.unwrap();
    let mut greeting = [0; 11];
    within(stream.read_exact(&mut greeting)).await.unwrap();

    within(pair.caller.workers.drain(Duration::from_millis(10))).await;

    assert!(within(stream.read_u8()).await.is_err());
}
