//! The access log has one line for each request and each side, however it ended.

use ::mesh::model::view::EdgeProtocol;
use serde_json::Value;

use crate::data_path::cases::ask::{Ask, ask, get, is_told};
use crate::data_path::cases::frames::{Fate, Rogue};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::Speaks;
use crate::data_path::cases::two::{Two, wanted};
use crate::data_path::cases::wire::{Service, Wire};
use crate::data_path::mesh::{self, Mesh, within};

// case 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_logged_once_on_each_side_however_it_ended() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::logged(layout, service.addr, "http");
        scene.mesh.apply(serde_json::json!([{
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": "web" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
                "rules": [
                    { "matches": [{ "path": { "type": "PathPrefix", "value": "/timed-out" } }],
                      "timeouts": { "request": "50ms" },
                      "backendRefs": [{ "name": "web", "port": 80 }] },
                    { "backendRefs": [{ "name": "web", "port": 80 }] },
                ],
            },
        }]));

        // Answered, and answered over a connection that was closed meanwhile.
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET /answered?secret HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        wire.response().await;
        wire.send("GET /resent HTTP/1.1\r\nHost: web\r\n\r\n").await;
        app.request().await;
        drop(app);
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        wire.response().await;

        // Timed out.
        wire.send("GET /timed-out HTTP/1.1\r\nHost: web\r\n\r\n").await;
        app.request().await;
        assert_eq!(wire.response().await.status(), 504);

        // Given up by the caller, before and within the answer.
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET /given-up HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        wire.reset();
        app.rest().await;
        let mut two = Two::to(scene.outbound()).await;
        let response = two.get(wanted("GET", "/cut-off")).await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        let response = within(response).await.unwrap();
        drop(response);
        app.rest().await;

        // Broken off by the service.
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET /broken HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        drop(app);
        wire.rest().await;

        // Upgraded.
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET /upgraded HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        wire.head().await.unwrap();
        wire.send("bytes").await;
        app.take(5).await;
        drop(wire);
        app.finish().await;
        app.rest().await;

        let wanted = [
            ("/answered", 200, ""),
            ("/resent", 200, ""),
            ("/timed-out", 504, "UT"),
            ("/given-up", 0, "DC"),
            ("/cut-off", 200, "DC"),
            ("/broken", 200, "UC"),
            ("/upgraded", 101, ""),
        ];
        let lines = mesh::until(|| {
            let lines = scene.lines();
            (lines.len() >= 2 * wanted.len()).then_some(lines)
        })
        .await;
        for side in ["outbound", "inbound"] {
            let of_side: Vec<&Value> = lines.iter().filter(|line| line["side"] == side).collect();
            assert_eq!(of_side.len(), wanted.len(), "{side}: {lines:#?}");
            for (path, status, reason) in wanted {
                let found: Vec<_> = of_side.iter().filter(|line| line["path"] == path).collect();
                assert_eq!(found.len(), 1, "{path} {side}: {lines:#?}");
                if side == "outbound" {
                    let line = found[0];
                    assert_eq!(line["status"], status, "{line}");
                    assert_eq!(line["reason"].as_str().unwrap_or_default(), reason, "{line}");
                }
            }
        }
    }
}

// case 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_logged_and_counted_like_any_other_answer() {
    let service = Service::start().await;
    let scene = Scene::logged(Layout::One, service.addr, "http");
    let long = "a".repeat(70_000);
    let refused = [
        (400, "GET / HTTP/1.1\r\nHost : web\r\n\r\n".to_owned()),
        (414, format!("GET /{long} HTTP/1.1\r\nHost: web\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: web\r\nX: {long}\r\n\r\n")),
        (501, "GET / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned()),
        (505, "GET / HTTP/2.5\r\nHost: web\r\n\r\n".to_owned()),
    ];

    for (status, text) in &refused {
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(text).await;
        assert_eq!(wire.response().await.status(), *status);
        wire.rest().await;
    }

    let mut lines = mesh::until(|| Some(scene.lines()).filter(|lines| lines.len() >= refused.len())).await;
    assert_eq!(lines.len(), refused.len(), "{lines:#?}");
    lines.sort_by_key(|line| line["status"].as_u64());
    for (line, (status, _)) in lines.iter().zip(&refused) {
        assert_eq!((&line["status"], line["side"].as_str()), (&(*status).into(), Some("outbound")), "{line}");
        assert_eq!((line["method"].as_str(), line["path"].as_str()), (Some("-"), Some("-")), "{line}");
        assert!(line["reason"].is_string(), "{line}");
    }
    assert_eq!(scene.caller().shared.registry.unrouted(), refused.len() as u64);
}

// case 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_in_http2_is_logged_and_counted_too() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::logged(layout, service.addr, "http");
        let head: [(&str, &[u8]); 4] =
            [(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"web")];
        let malformed: [&[(&str, &[u8])]; 3] = [
            &[("Upper", b"")],
            &[("content-length", b"1"), ("content-length", b"2")],
            &[("content-length", b"1")],
        ];
        for fields in malformed {
            let mut rogue = Rogue::to(scene.outbound()).await;
            rogue.ask(1, &[&head[..], fields].concat()).await;
            assert_eq!(rogue.fate(1).await, Fate::Reset(1), "{fields:?}");
        }
        let many = [("x", "y"); 101];
        for (status, fields) in [(417, &[("expect", "the-best")][..]), (431, &many[..])] {
            let asked = Ask { method: "GET", path: "/", fields, ..Ask::default() };
            let told = ask(Speaks::Two, scene.outbound(), asked).await;
            assert_eq!((told.status, told.field("mesh-failure")), (status, "DPE"), "{told:?}");
        }

        let mut lines = mesh::until(|| Some(scene.lines()).filter(|lines| lines.len() >= 5)).await;
        lines.sort_by_key(|line| line["status"].as_u64());
        let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [400, 400, 400, 417, 431], "{lines:#?}");
        for line in &lines {
            assert_eq!(
                (line["side"].as_str(), line["reason"].as_str()),
                (Some("outbound"), Some("DPE")),
                "{line}"
            );
        }
        assert_eq!(scene.caller().shared.registry.unrouted(), 5);
        assert!(service.is_untouched());
    }
}

/// The one line of the calling side, as soon as it is there.
async fn line_of_caller(lines: impl Fn() -> Vec<Value>) -> Value {
    let of_caller = |line: &Value| line["side"] == "outbound";
    let mut found = mesh::until(|| {
        let found: Vec<Value> = lines().into_iter().filter(of_caller).collect();
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

async fn connect(scene: &Scene, target: &str) -> Wire {
    let mut wire = Wire::to(scene.outbound()).await;
    wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    wire
}

// cases 42, 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_by_connect_is_logged_as_the_request_and_counted_as_the_connection() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::logged(layout, service.addr, "tcp");
        let mut wire = connect(&scene, "web.mesh:80").await;
        let mut app = service.accept().await;
        wire.head().await.unwrap();
        wire.send("hello").await;
        wire.finish().await;
        app.rest().await;
        app.send("bye").await;
        app.finish().await;
        wire.rest().await;

        let lines = mesh::until(|| Some(scene.lines()).filter(|lines| lines.len() >= 2)).await;
        assert_eq!(lines.len(), 2, "{lines:#?}");
        let line = line_of_caller(|| scene.lines()).await;
        assert_eq!((line["method"].as_str(), line["protocol"].as_str()), (Some("CONNECT"), Some("http")));
        assert_eq!((&line["status"], &line["reason"]), (&200.into(), &Value::Null), "{line}");
        assert_eq!((&line["bytesSent"], &line["bytesReceived"]), (&5.into(), &3.into()), "{line}");
        assert_eq!(line["node"], scene.callee().shared.node.as_str(), "{line}");
        let registry = &scene.caller().shared.registry;
        let totals = registry.totals();
        assert!(totals.iter().all(|(key, total)| {
            (key.protocol, total.requests, total.failures) == (EdgeProtocol::Tcp, 1, 0)
        }));
        assert_eq!(registry.unrouted(), 0);
    }
}

// cases 42, 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_that_is_refused_is_logged_and_counted_once() {
    for (target, status, token, unrouted) in
        [("web.mesh:80", 502, "UF", 0), ("nothing.mesh:80", 404, "NR", 0), ("127.0.0.1:22", 404, "NR", 1)]
    {
        let scene = Scene::logged(Layout::Two, mesh::nobody(), "tcp");
        let answer = connect(&scene, target).await.response().await;
        assert_eq!((answer.status(), answer.field("mesh-failure")), (status, token), "{target}");

        let line = line_of_caller(|| scene.lines()).await;
        assert_eq!((&line["method"], &line["status"]), (&"CONNECT".into(), &status.into()), "{line}");
        assert_eq!(line["reason"], token, "{line}");
        let tried = (target == "web.mesh:80").then_some("callee");
        assert_eq!(line["node"].as_str(), tried, "{line}");
        let counted = scene.caller().counted(|total| total.requests);
        assert_eq!(
            (counted, scene.caller().shared.registry.unrouted()),
            (1 - unrouted, unrouted),
            "{target}"
        );
    }
}

// case 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attempt_is_logged_with_its_endpoint_and_what_came_of_it() {
    for protocol in ["http", "h2c", "tcp"] {
        let (mesh, log) = Mesh::logged();
        let service = || [format!("web={}/{protocol}", mesh::nobody())];
        let _one = mesh.node("one", &service(), &[]);
        let _two = mesh.node("two", &service(), &[]);
        let caller = mesh.node("caller", &[], &["web"]);
        mesh.apply(serde_json::json!([]));

        let said = if protocol == "tcp" {
            Wire::to(caller.port("web")).await.rest().await;
            None
        } else {
            let told = ask(Speaks::One, caller.outbound(), get()).await;
            assert!(is_told(&told, 502, "UF"), "{told:?}");
            Some(told.text())
        };

        let lines = || log.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let line = line_of_caller(lines).await;
        let mut nodes = vec![line["node"].as_str().unwrap()];
        for tried in line["tried"].as_array().unwrap() {
            assert_eq!(tried["ended"], "UF", "{line}");
            nodes.push(tried["node"].as_str().unwrap());
        }
        if let Some(said) = said {
            assert!(said.contains(&format!("web.default on {}", nodes[0])), "{said}");
        }
        nodes.sort_unstable();
        assert_eq!(nodes, ["one", "two"], "{line}");
        assert_eq!((&line["retries"], &line["reason"]), (&1.into(), &"UF".into()), "{line}");
    }
}
