//! Intentions and bans, for calls that begin and for those that go on.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::app;
use crate::data_path::caller::{get, h2, read};
use crate::data_path::mesh::{self, Pair, within};

fn deny(destination: &str) -> serde_json::Value {
    json!([{
        "apiVersion": "mesh/v1",
        "kind": "Intention",
        "metadata": { "name": "nobody" },
        "spec": { "destination": destination, "sources": [{ "node": "*" }, { "service": "*" }], "action": "deny" }
    }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_call_is_forbidden_and_says_by_what() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);

    pair.mesh.apply(deny("web"));
    let plain = get(pair.caller.outbound(), "web", "/").await;
    let mut wanted = crate::data_path::caller::request("POST", "web", "http://web/grpc", "");
    wanted.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let mut sender = h2(pair.caller.outbound()).await;
    let grpc = read(within(sender.send_request(wanted)).await.unwrap()).await;

    assert_eq!((plain.status.as_u16(), plain.header("mesh-failure")), (403, "RBAC"));
    assert!(plain.text().contains("intention default/nobody"), "{}", plain.text());
    assert_eq!(grpc.header("grpc-status"), "7");
    mesh::until(|| (pair.callee.counted(|total| total.denied) == 2).then_some(())).await;
    assert_eq!(pair.callee.counted(|total| total.failures), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_go_on_end_when_they_are_not_allowed_any_more() {
    let tcp = Pair::new("db", app::speaks_first().await, "tcp");
    let (echo, _heard) = app::echo("web").await;
    let web = Pair::new("web", echo, "http");
    let mut plain = TcpStream::connect(tcp.caller.port("db")).await.unwrap();
    let mut greeting = [0; 11];
    within(plain.read_exact(&mut greeting)).await.unwrap();
    let mut upgraded = TcpStream::connect(web.caller.outbound()).await.unwrap();
    let wanted = "GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    upgraded.write_all(wanted.as_bytes()).await.unwrap();
    within(app::read_head(&mut upgraded)).await;

    tcp.mesh.apply(deny("db"));
    web.mesh.ban("caller");

    assert!(within(plain.read_u8()).await.is_err());
    assert!(within(upgraded.read_u8()).await.is_err());
    mesh::until(|| (tcp.callee.counted(|total| total.denied) == 1).then_some(())).await;
}
