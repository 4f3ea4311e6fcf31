//! How long a call may take, by its route and by its caller, and what becomes of an answer that has begun.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::data_path::cases::ask::{Ask, ask, get, grpc, is_grpc, is_told};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Service2, Two, wanted, whole};
use crate::data_path::cases::wire::{Service, Wire};
use crate::data_path::mesh::within;

/// Lets the route of `web` say how long its calls may take.
#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
fn limit(scene: &Scene, timeouts: Value) {
    scene.mesh.apply(json!([{
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "web" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
            "rules": [{ "timeouts": timeouts, "backendRefs": [{ "name": "web", "port": 80 }] }],
        },
    }]));
}

/// Both layouts, with callers of both versions.
fn scenes() -> impl Iterator<Item = (Layout, Speaks)> {
    Layout::BOTH.into_iter().flat_map(|layout| Speaks::BOTH.map(|caller| (layout, caller)))
}

// cases 61, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_begin_in_time_is_a_gateway_timeout() {
    // These wait, so all do at the same time.
    join_all(scenes().map(async |(layout, caller)| {
        for timeouts in [json!({ "request": "1s" }), json!({ "backendRequest": "1s" })] {
            let mut one = Service::start().await;
            let scene = Scene::new(layout, one.addr, "http");
            limit(&scene, timeouts.clone());
            // What is not idempotent is asked once.
            let told = ask(caller, scene.outbound(), Ask { method: "POST", ..get() }).await;
            assert!(is_told(&told, 504, "UT"), "{caller:?}, {timeouts}: {told:?}");
            let mut app = one.accept().await;
            app.request().await;
            assert_eq!(app.rest().await.0, "", "the service is told that nobody waits any more");

            let mut two = Service2::start().await;
            let scene = Scene::new(layout, two.addr, "h2c");
            limit(&scene, timeouts.clone());
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert!(is_grpc(&told, "4", "UT"), "{caller:?}, {timeouts}: {told:?}");
            let (_request, mut respond) = two.call().await;
            let reason = within(std::future::poll_fn(|cx| respond.poll_reset(cx))).await.unwrap();
            assert_eq!(reason, h2::Reason::CANCEL);
        }
    }))
    .await;
}

// case 61
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_has_begun_is_broken_off_when_time_is_over_and_never_looks_complete() {
    let both = Layout::BOTH.into_iter().flat_map(|layout| [true, false].map(|chunked| (layout, chunked)));
    join_all(both.map(async |(layout, chunked)| {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        limit(&scene, json!({ "request": "5s" }));
        let (framing, half) = if chunked {
            ("Transfer-Encoding: chunked", "4\r\nhalf\r\n")
        } else {
            ("Content-Length: 10", "half")
        };
        let begun = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{half}");

        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send(&begun).await;
        let head = wire.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");

        let mut two = Two::to(scene.outbound()).await;
        let response = two.get(wanted("GET", "/")).await;
        let mut app2 = service.accept().await;
        app2.request().await;
        app2.send(&begun).await;
        let mut response = within(response).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);

        assert_eq!(wire.rest().await.0, half);
        assert_eq!(whole(response.body_mut()).await.unwrap_err(), Some(h2::Reason::CANCEL));
        assert_eq!((app.rest().await.0, app2.rest().await.0), (String::new(), String::new()));
        // The connection of HTTP/2 goes on.
        let response = two.get(wanted("GET", "/next")).await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(within(response).await.unwrap().status().as_u16(), 204);
    }))
    .await;
}

// cases 62, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_grpc_waits_no_longer_than_it_says_nor_than_the_route_does() {
    join_all(scenes().map(async |(layout, caller)| {
        for (route, patience) in [(None, "1S"), (Some("1h"), "1000m"), (Some("1s"), "1H")] {
            let mut service = Service::start().await;
            let scene = Scene::new(layout, service.addr, "http");
            if let Some(route) = route {
                limit(&scene, json!({ "request": route }));
            }
            let fields =
                [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", patience)];
            let told = ask(caller, scene.outbound(), Ask { fields: &fields, ..grpc() }).await;
            assert!(is_grpc(&told, "4", "UT"), "{caller:?}, {route:?}, {patience}: {told:?}");
            let mut app = service.accept().await;
            assert_eq!(app.request().await.field("grpc-timeout"), patience, "the service is told too");
            assert_eq!(app.rest().await.0, "");
        }
    }))
    .await;
}

// case 62
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patience_that_is_none_says_nothing() {
    for (layout, caller) in scenes() {
        let (app, _heard) = serve(Speaks::One, Answer::ok(&["yes"])).await;
        let scene = Scene::new(layout, app, "http");
        // A word that is not of the protocol, and one that is, where no call of gRPC is made.
        for (kind, patience) in
            [("application/grpc", "soon"), ("application/grpc", "123456789n"), ("text/plain", "1n")]
        {
            let fields = [("content-type", kind), ("grpc-timeout", patience)];
            let told = ask(caller, scene.outbound(), Ask { fields: &fields, ..grpc() }).await;
            assert_eq!((told.status, told.text().as_str()), (200, "yes"), "{caller:?}, {patience}: {told:?}");
        }
    }
}
