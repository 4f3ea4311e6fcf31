//! Intentions and bans, for calls that begin and for those that go on.

use std::time::Duration;

use ::mesh::logic::metric::total::EdgeTotal;
use http::HeaderName;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::app;
use crate::data_path::caller::{get, h1, h2, read, request};
use crate::data_path::mesh::{self, Mesh, Pair, within};

fn deny(destination: &str) -> serde_json::Value {
    json!([{
        "apiVersion": "mesh/v1",
        "kind": "Intention",
        "metadata": { "name": "nobody" },
        "spec": { "destination": destination, "sources": [{ "node": "*" }, { "service": "*" }], "action": "deny" }
    }])
}

fn intention(name: &str, action: &str, rules: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "mesh/v1",
        "kind": "Intention",
        "metadata": { "name": name },
        "spec": { "destination": "web", "sources": [{ "node": "*" }], "action": action, "rules": rules.clone() }
    })
}

// case 64
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_call_is_forbidden_and_the_rule_is_counted_not_told() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "");
    assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), 200);

    pair.mesh.apply(deny("web"));
    let plain = get(pair.caller.outbound(), "web", "/").await;
    let mut wanted = request("POST", "web", "http://web/grpc", "");
    wanted.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let mut sender = h2(pair.caller.outbound()).await;
    let grpc = read(within(sender.send_request(wanted)).await.unwrap()).await;

    assert_eq!((plain.status.as_u16(), plain.header("mesh-failure")), (403, "RBAC"));
    let id = plain.header("x-request-id");
    assert_eq!((id.len(), plain.text().contains(id)), (32, true), "{}", plain.text());
    assert!(!plain.text().contains("nobody"), "the caller is not told which rule: {}", plain.text());
    assert_eq!(grpc.header("grpc-status"), "7");
    mesh::until(|| (pair.callee.counted(|total| total.denied) == 2).then_some(())).await;
    assert_eq!(pair.callee.counted(|total| total.failures), 0);
    let by_rule = |total: &EdgeTotal| total.denials.get("intention default/nobody").copied().unwrap_or(0);
    assert_eq!(pair.callee.counted(by_rule), 2);
}

// case 64
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_caller_are_told_apart_and_the_log_names_the_rule() {
    let (app, _heard) = app::echo("web").await;
    let (mesh, log) = Mesh::logged();
    let pair = Pair::of(mesh, "web", app, "");
    pair.mesh.apply(json!([
        intention(
            "readers",
            "allow",
            &json!([
                { "name": "read", "methods": ["GET"], "paths": [{ "value": "/status" }] },
                { "name": "keyed", "headers": [{ "name": "x-key", "value": "open" }] },
                { "name": "cart", "grpc": [{ "service": "shop.Cart" }] },
            ])
        ),
        intention("no-secrets", "deny", &json!([{ "paths": [{ "value": "/status/204" }] }])),
    ]));
    let ask = async |method: &str, path: &str, header: (&str, &str)| {
        let mut sender = h1(pair.caller.outbound()).await;
        let mut wanted = request(method, "web", path, "");
        wanted.headers_mut().insert(HeaderName::try_from(header.0).unwrap(), header.1.parse().unwrap());
        read(within(sender.send_request(wanted)).await.unwrap()).await
    };
    let none = ("x-none", "");
    let mut statuses = Vec::new();
    for (method, path, header) in [
        ("GET", "/status/201", none),
        ("POST", "/status/201", none),
        ("POST", "/status/202", ("x-key", "open")),
        ("POST", "/shop.Cart/Checkout", none),
        ("POST", "/shop.Other/Checkout", none),
        ("GET", "/status/204", none),
        ("GET", "/status/./204", none),
        ("GET", "/status/%32%30%34", ("x-key", "open")),
    ] {
        statuses.push(ask(method, path, header).await.status.as_u16());
    }
    let named = ask("PUT", "/", ("x-request-id", "from-the-caller")).await;

    assert_eq!(statuses, [201, 403, 202, 200, 403, 403, 403, 403]);
    assert_eq!(named.header("x-request-id"), "from-the-caller");
    // Which side writes its line first is a matter of chance.
    let is_meant = |line: &&str| line.contains("from-the-caller") && line.contains(r#""side":"inbound""#);
    let line = mesh::until(|| log.text().lines().find(is_meant).map(str::to_owned)).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["rule"], "allow list of intention default/readers", "{line}");
    assert_eq!((&line["reason"], &line["status"]), (&json!("RBAC"), &json!(403)));
    let text = log.text();
    assert!(text.contains("intention default/no-secrets/0"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_lets_everything_through_and_counts_what_it_would_refuse() {
    let (app, _heard) = app::echo("web").await;
    let (mesh, log) = Mesh::logged();
    let pair = Pair::of(mesh, "web", app, "");
    let tcp = Pair::new("db", app::speaks_first().await, "tcp");
    let mut audited = deny("web");
    audited[0]["spec"]["mode"] = json!("audit");
    pair.mesh.apply(audited);
    tcp.mesh.audit();
    tcp.mesh.apply(deny("db"));

    let got = get(pair.caller.outbound(), "web", "/").await;
    let mut plain = TcpStream::connect(tcp.caller.port("db")).await.unwrap();
    let mut greeting = [0; 11];
    within(plain.read_exact(&mut greeting)).await.unwrap();
    drop(plain);

    assert_eq!(got.status.as_u16(), 200);
    let by_rule = |total: &EdgeTotal| total.audited.get("intention default/nobody").copied().unwrap_or(0);
    mesh::until(|| (pair.callee.counted(by_rule) == 1).then_some(())).await;
    mesh::until(|| (tcp.callee.counted(by_rule) == 1).then_some(())).await;
    assert_eq!(pair.callee.counted(|total| total.denied) + tcp.callee.counted(|total| total.denied), 0);
    mesh::until(|| log.text().contains("\"audited\":true").then_some(())).await;
}

// case 64
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_go_on_end_when_their_request_is_not_allowed_any_more() {
    let (app, mut heard) = app::echo("web").await;
    let (mesh, log) = Mesh::logged();
    let pair = Pair::of(mesh, "web", app, "");
    let drip = async |path: &str| {
        let mut sender = h2(pair.caller.outbound()).await;
        let wanted = request("GET", "web", &format!("http://web{path}"), "");
        let mut body = within(sender.send_request(wanted)).await.unwrap().into_body();
        assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "drop");
        (sender, body)
    };
    let (_cut_sender, mut cut) = drip("/drip").await;
    let (_kept_sender, mut kept) = drip("/drip?kept").await;
    let mut waiting = h2(pair.caller.outbound()).await;
    let wanted = request("GET", "web", "http://web/hang", "");
    let waiting = tokio::spawn(waiting.send_request(wanted));
    assert_eq!(within(heard.recv()).await, Some("begun"));

    pair.mesh.apply(json!([intention("no", "deny", &json!([{ "paths": [{ "value": "/hang" }] }]))]));
    let answered = within(waiting).await.unwrap().unwrap();
    assert_eq!(answered.status().as_u16(), 403, "nothing had been answered yet");
    assert_eq!(within(heard.recv()).await, Some("given up"));
    let still = tokio::time::timeout(Duration::from_millis(50), kept.frame()).await;
    assert!(still.is_err(), "another path is not concerned");

    pair.mesh.apply(json!([intention("no", "deny", &json!([{ "paths": [{ "value": "/drip" }] }]))]));
    assert!(within(cut.frame()).await.unwrap().is_err());
    mesh::until(|| log.text().contains("intention default/no/0").then_some(())).await;
}

// case 64
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
