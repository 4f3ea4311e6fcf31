//! HTTP/1 callers: what arrives, what comes back, what is refused.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::caller::{get, h1, read, request, say};
use crate::data_path::mesh::{Pair, within};
use crate::data_path::{app, mesh};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_arrives_as_it_was_sent_and_is_counted_on_both_sides() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");
    let mut sender = h1(pair.caller.outbound()).await;

    let wanted = request("POST", "web.mesh", "/some/path?q=1", "content");
    let got = read(within(sender.send_request(wanted)).await.unwrap()).await;

    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "content"));
    assert_eq!(got.header("x-version"), "HTTP/1.1");
    assert_eq!(got.header("x-host"), "web.mesh");
    assert!(!got.header("x-seen").contains("mesh-"), "{}", got.header("x-seen"));
    for node in [&pair.caller, &pair.callee] {
        let counts = mesh::until(|| {
            let totals = node.shared.registry.totals();
            totals.first().filter(|(_, total)| total.requests == 1).cloned()
        })
        .await;
        assert_eq!((counts.1.bytes_sent, counts.1.bytes_received, counts.1.failures), (7, 7, 0));
        assert_eq!(counts.0.destination.to_string(), "web.default");
        assert_eq!(counts.0.source.to_string(), "node/caller");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_for_many_requests() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut sender = h1(pair.caller.outbound()).await;

    for count in 0..50 {
        within(sender.ready()).await.unwrap();
        let wanted = request("POST", "web", "/", count.to_string());
        let got = read(within(sender.send_request(wanted)).await.unwrap()).await;
        assert_eq!(got.text(), count.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_absolute_form_decides_over_the_host() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    let heard = say(
        pair.caller.outbound(),
        "GET http://web.mesh/x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n",
    )
    .await;

    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(heard.contains("x-host: web.mesh\r\n"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_version_one_zero_is_served_to_the_end_of_the_connection() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    let heard = say(pair.caller.outbound(), "GET / HTTP/1.0\r\nHost: web\r\n\r\n").await;

    assert!(heard.starts_with("HTTP/1.0 200 OK\r\n") || heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(heard.contains("connection: close\r\n"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let outbound = pair.caller.outbound();

    for text in [
        "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: web\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "GE(T / HTTP/1.1\r\nHost: web\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web\r\nno colon\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: web\r\n\r\n",
        "CONNECT http://web HTTP/1.1\r\nHost: web\r\n\r\n",
        "CONNECT web:80 HTTP/1.0\r\nHost: web\r\n\r\n",
        "GET test HTTP/1.1\r\nHost: web\r\n\r\n",
    ] {
        let heard = say(outbound, text).await;
        assert_eq!(heard.get(8..13), Some(" 400 "), "{text:?} was answered {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_is_refused() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();

    let filler = format!("GET / HTTP/1.1\r\nHost: web\r\nX-Filler: {}", "f".repeat(100 << 10));
    // The refusal may come before all is sent, and the rest may then fail.
    let (mut from, mut to) = stream.split();
    let mut answer = [0; 12];
    let (_, read) =
        within(async { tokio::join!(to.write_all(filler.as_bytes()), from.read_exact(&mut answer)) }).await;

    assert_eq!((read.unwrap(), &answer), (12, b"HTTP/1.1 431"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_sent_in_one_go_are_answered_in_order() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    let heard = say(
        pair.caller.outbound(),
        "POST /1 HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nfirst\
         POST /2 HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecond",
    )
    .await;

    let (first, second) = (heard.find("first").unwrap(), heard.find("second").unwrap());
    assert!(first < second && heard.matches("HTTP/1.1 200 OK").count() == 2, "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_at_the_hop_and_what_is_internal_does_not_pass() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut sender = h1(pair.caller.outbound()).await;

    let mut wanted = request("GET", "web", "/hop", Bytes::new());
    for (name, value) in [
        ("connection", "x-private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=1"),
        ("proxy-connection", "keep-alive"),
        ("mesh-version", "1.0"),
        ("mesh-method", "DELETE"),
        ("x-public", "1"),
    ] {
        wanted.headers_mut().insert(name, value.parse().unwrap());
    }
    let got = read(within(sender.send_request(wanted)).await.unwrap()).await;

    let mut seen: Vec<_> = got.header("x-seen").split(',').collect();
    seen.sort_unstable();
    assert_eq!(seen, ["host", "x-public"]);
    assert_eq!(got.header("keep-alive"), "");
    assert_eq!(got.header("mesh-failure"), "");
    assert_eq!(got.header("x-version"), "HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_statuses_without_content_stay_as_they_are() {
    let app =
        app::answers("HTTP/1.1 200 OK\r\ncontent-length: 55\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n")
            .await;
    let pair = Pair::new("web", app, "http");
    let nothing = app::answers("HTTP/1.1 204 No Content\r\n\r\n").await;
    let other = Pair::new("web", nothing, "http");

    let text = "HEAD / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    let heard = say(pair.caller.outbound(), text).await;
    let got = get(other.caller.outbound(), "web", "/").await;

    assert!(heard.contains("content-length: 55\r\n"), "{heard}");
    assert!(heard.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\n"), "{heard}");
    assert_eq!((got.status.as_u16(), got.body.len()), (204, 0));
    assert!(!got.headers.contains_key("transfer-encoding"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expectation_is_met_by_one_interim_answer() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();

    let head = "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    within(stream.read_exact(&mut interim)).await.unwrap();
    stream.write_all(b"ok").await.unwrap();
    let mut rest = String::new();
    within(stream.read_to_string(&mut rest)).await.unwrap();

    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
    assert!(rest.ends_with("\r\n\r\nok"), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_breaks_off_is_never_completed() {
    let app = app::answers("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    let pair = Pair::new("web", app, "http");

    let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    _ = within(stream.read_to_end(&mut heard)).await;
    let heard = String::from_utf8(heard).unwrap();

    assert!(heard.contains("hello"), "{heard}");
    assert!(!heard.contains("0\r\n\r\n"), "{heard}");
    mesh::until(|| (pair.caller.counted(|total| total.failures) == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_ends_the_work_for_it() {
    let (app, mut heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();
    stream.write_all(b"GET /hang HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    assert_eq!(within(heard.recv()).await, Some("begun"));

    drop(stream);

    assert_eq!(within(heard.recv()).await, Some("given up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_has_no_more_to_say_still_gets_its_answer() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();

    stream.write_all(b"GET /big HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    within(stream.read_to_end(&mut heard)).await.unwrap();

    assert!(heard.len() > 10 << 20, "{}", heard.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_passes_both_ways() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let mut sender = h1(pair.caller.outbound()).await;
    let content = Bytes::from(vec![b'y'; 10 << 20]);

    let got =
        read(within(sender.send_request(request("PUT", "web", "/", content.clone()))).await.unwrap()).await;

    assert_eq!(got.body, content);
}
