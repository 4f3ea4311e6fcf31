//! Where calls go: unknown, empty, dead and refusing endpoints, and routes.

use bytes::Bytes;
use serde_json::json;

use crate::data_path::app;
use crate::data_path::caller::{get, h1, read, request};
use crate::data_path::mesh::{self, Mesh, Pair, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_service_is_not_found() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    for host in ["nothing", "nothing.mesh", "www.example.com", "192.0.2.1"] {
        let got = get(pair.caller.outbound(), host, "/").await;
        assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (404, "NR"), "{host}");
        assert!(got.text().contains(host.trim_end_matches(".mesh")), "{}", got.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_is_unavailable_at_once() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    pair.mesh.bury("callee");

    let got = get(pair.caller.outbound(), "web", "/").await;

    assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (503, "UH"));
    assert!(got.text().contains("web.default"), "{}", got.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_passed_over_within_the_request() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let service = format!("web={app}/http").parse().unwrap();
    pair.mesh.announce(&"dead".parse().unwrap(), mesh::nobody(), &[service]);

    for _ in 0..20 {
        let mut sender = h1(pair.caller.outbound()).await;
        let wanted = request("POST", "web", "/", "once");
        let got = read(within(sender.send_request(wanted)).await.unwrap()).await;
        assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "once"));
    }

    let retries = pair.caller.counted(|total| total.retries);
    assert!(retries <= 2, "the dead endpoint was tried {retries} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_refuses_is_passed_over_within_the_request() {
    let (app, _heard) = app::echo("good").await;
    let pair = Pair::new("web", app, "http");
    let bad = pair.mesh.node("bad", &[format!("web={}/http", mesh::nobody())], &[]);

    for _ in 0..20 {
        let mut sender = h1(pair.caller.outbound()).await;
        let wanted = request("POST", "web", "/", "once");
        let got = read(within(sender.send_request(wanted)).await.unwrap()).await;
        assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "once"));
    }

    assert!(bad.counted(|total| total.requests) <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_instance_that_refuses_is_named() {
    let pair = Pair::new("web", mesh::nobody(), "http");

    let got = get(pair.caller.outbound(), "web", "/").await;

    assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (502, "UF"));
    assert!(got.text().contains("refused"), "{}", got.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_up_is_not_asked_twice_what_is_not_safe() {
    let hangs_up = app::raw(|mut stream| async move {
        app::read_head(&mut stream).await;
    })
    .await;
    let (app, _heard) = app::echo("good").await;
    let pair = Pair::new("web", hangs_up, "http");
    let mut sender = h1(pair.caller.outbound()).await;
    let post = read(within(sender.send_request(request("POST", "web", "/", "x"))).await.unwrap()).await;
    let _good = pair.mesh.node("good", &[format!("web={app}/http")], &[]);

    let safe = get(pair.caller.outbound(), "web", "/").await;

    assert_eq!((post.status.as_u16(), post.header("mesh-failure")), (502, "UC"));
    assert_eq!(safe.status.as_u16(), 200);
}

// case 61
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_choose_change_and_limit() {
    let (one, _heard) = app::echo("one").await;
    let (two, mut hung) = app::echo("two").await;
    let mesh = Mesh::new();
    let _one = mesh.node("one", &[format!("web={one}/http")], &[]);
    let _two = mesh.node("two", &[format!("web-next={two}/http")], &[]);
    let caller = mesh.node("caller", &[], &[]);
    let parent = json!([{ "group": "", "kind": "Service", "name": "web" }]);
    mesh.apply(json!([{
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "split" },
        "spec": { "parentRefs": parent, "rules": [
            {
                "matches": [{ "path": { "type": "PathPrefix", "value": "/next" } }],
                "filters": [
                    { "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x-rule", "value": "next" }] } },
                    { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "add": [{ "name": "x-back", "value": "yes" }] } }
                ],
                "backendRefs": [{ "name": "web-next", "port": 80 }]
            },
            {
                "matches": [{ "path": { "type": "Exact", "value": "/hang" } }],
                "timeouts": { "request": "100ms" },
                "backendRefs": [{ "name": "web-next", "port": 80 }]
            },
            {
                "matches": [{ "path": { "type": "Exact", "value": "/lost" } }],
                "backendRefs": [{ "name": "nowhere", "port": 80 }]
            },
            {
                "matches": [{ "path": { "type": "Exact", "value": "/here" } }],
                "backendRefs": [{ "name": "web", "port": 80 }]
            }
        ] }
    }]));

    let next = get(caller.outbound(), "web", "/next/x").await;
    let here = get(caller.outbound(), "web", "/here").await;
    let hang = get(caller.outbound(), "web", "/hang").await;
    let lost = get(caller.outbound(), "web", "/lost").await;
    let none = get(caller.outbound(), "web", "/none").await;

    assert_eq!((next.header("x-app"), next.header("x-back")), ("two", "yes"));
    assert!(next.header("x-seen").contains("x-rule"));
    assert_eq!(here.header("x-app"), "one");
    assert_eq!((hang.status.as_u16(), hang.header("mesh-failure")), (504, "UT"));
    assert_eq!(within(hung.recv()).await, Some("begun"));
    assert_eq!(within(hung.recv()).await, Some("given up"));
    assert_eq!((lost.status.as_u16(), lost.header("mesh-failure")), (500, "NC"));
    assert_eq!((none.status.as_u16(), none.header("mesh-failure")), (404, "NR"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_garbled_response_is_a_bad_gateway() {
    let app = app::answers("this is not HTTP\r\n\r\n").await;
    let pair = Pair::new("web", app, "http");

    let mut sender = h1(pair.caller.outbound()).await;
    let got =
        read(within(sender.send_request(request("GET", "web", "/", Bytes::new()))).await.unwrap()).await;

    assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (502, "UPE"));
}
