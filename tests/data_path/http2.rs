//! HTTP/2 and gRPC callers.

use ::mesh::net::task;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};

use crate::data_path::app;
use crate::data_path::caller::{h1, h2, read, request};
use crate::data_path::mesh::{self, Pair, within};

fn call(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method("POST")
        .uri(format!("http://web.mesh{path}"))
        .body(Full::new(body.into()))
        .unwrap()
}

fn grpc(path: &str) -> Request<Full<Bytes>> {
    let mut wanted = call(path, "\0\0\0\0\0");
    wanted.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    wanted.headers_mut().insert("te", "trailers".parse().unwrap());
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_version_arrives_where_none_is_declared() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");

    let mut sender = h2(pair.caller.outbound()).await;
    let got = read(within(sender.send_request(call("/", "two"))).await.unwrap()).await;

    assert_eq!((got.header("x-version"), got.header("x-host")), ("HTTP/2.0", "web.mesh"));
    assert_eq!(got.text(), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_version_is_spoken_whatever_the_caller_speaks() {
    let (app, _heard) = app::echo("web").await;
    let http = Pair::new("web", app, "http");
    let h2c = Pair::new("web", app, "h2c");

    let mut two = h2(http.caller.outbound()).await;
    let down = read(within(two.send_request(call("/", "x"))).await.unwrap()).await;
    let mut one = h1(h2c.caller.outbound()).await;
    let up = read(within(one.send_request(request("POST", "web", "/", "x"))).await.unwrap()).await;

    assert_eq!((down.header("x-version"), down.text().as_str()), ("HTTP/1.1", "x"));
    assert_eq!((up.header("x-version"), up.text().as_str()), ("HTTP/2.0", "x"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_arrive_and_their_status_is_counted() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "grpc");

    let mut sender = h2(pair.caller.outbound()).await;
    let got = read(within(sender.send_request(grpc("/grpc"))).await.unwrap()).await;

    assert_eq!(got.trailers["grpc-status"], "0");
    assert_eq!(got.trailers["grpc-message"], "fine");
    assert!(got.header("x-seen").contains("te"), "{}", got.header("x-seen"));
    for node in [&pair.caller, &pair.callee] {
        mesh::until(|| {
            let totals = node.shared.registry.totals();
            let total = &totals.first()?.1;
            (total.grpc_statuses.get(&0) == Some(&1) && total.failures == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_to_grpc_callers_in_their_own_way() {
    let pair = Pair::new("web", mesh::nobody(), "grpc");

    let mut sender = h2(pair.caller.outbound()).await;
    let got = read(within(sender.send_request(grpc("/grpc"))).await.unwrap()).await;

    assert_eq!(got.status.as_u16(), 200);
    assert_eq!(got.header("grpc-status"), "14");
    assert!(got.header("grpc-message").contains("cannot connect"), "{}", got.header("grpc-message"));
    assert_eq!(got.header("mesh-failure"), "UF");
}

// case 62
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_patience_of_a_grpc_caller_is_known() {
    let (app, mut heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "grpc");

    let mut wanted = grpc("/hang");
    wanted.headers_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let mut sender = h2(pair.caller.outbound()).await;
    let got = read(within(sender.send_request(wanted)).await.unwrap()).await;

    assert_eq!(got.header("grpc-status"), "4");
    assert_eq!(within(heard.recv()).await, Some("begun"));
    assert_eq!(within(heard.recv()).await, Some("given up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_to_a_slow_reader_do_not_cut_the_others_off() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "h2c");
    let mut sender = h2(pair.caller.outbound()).await;

    let slow = within(sender.send_request(call("/small", ""))).await.unwrap();
    // The slow one is not read while the others come and go on the same link.
    for count in 0..20 {
        let got = read(within(sender.send_request(call("/", count.to_string()))).await.unwrap()).await;
        assert_eq!(got.text(), count.to_string());
    }
    let content = within(slow.into_body().collect()).await.unwrap().to_bytes();

    assert_eq!(content.len(), 20_000 * 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_the_way() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "h2c");
    let sender = h2(pair.caller.outbound()).await;

    let calls = (0..100).map(|count| {
        let mut sender = sender.clone();
        async move {
            let response = within(sender.send_request(call("/", count.to_string()))).await.unwrap();
            assert_eq!(read(response).await.text(), count.to_string());
        }
    });
    futures_util::future::join_all(calls).await;

    mesh::until(|| (pair.callee.counted(|total| total.requests) == 100).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_given_up_ends_the_work_for_it() {
    let (app, mut heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "h2c");
    let mut sender = h2(pair.caller.outbound()).await;
    let waiting = task::spawn("test", sender.send_request(call("/hang", "")));
    assert_eq!(within(heard.recv()).await, Some("begun"));

    waiting.abort();

    assert_eq!(within(heard.recv()).await, Some("given up"));
    let got = read(within(sender.send_request(call("/", "still"))).await.unwrap()).await;
    assert_eq!(got.text(), "still");
}
