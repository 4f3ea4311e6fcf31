//! Who is not let in: by an intention, or for coming too often; and what becomes of what goes on when that changes.

use serde_json::json;
use tokio::net::TcpStream;

use crate::data_path::cases::ask::{ask, get, grpc, is_grpc, is_told};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Two, wanted, whole};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::{self, within};

/// Lets nobody call `web`.
fn deny(scene: &Scene) {
    scene.mesh.apply(json!([{
        "apiVersion": "mesh/v1",
        "kind": "Intention",
        "metadata": { "name": "nobody" },
        "spec": { "destination": "web", "sources": [{ "node": "*" }, { "service": "*" }], "action": "deny" }
    }]));
}

/// How a connection to the port of `web` ends that says something: nothing comes, whatever it is.
async fn refused(scene: &Scene) -> Ending {
    // The reset may come before the caller has noticed that it is connected.
    let Ok(stream) = within(TcpStream::connect(scene.port())).await else { return Ending::Reset };
    let mut wire = Wire::new(stream);
    wire.send("\0hello").await;
    let (text, ending) = wire.rest().await;
    assert_eq!(text, "");
    ending
}

// cases 64, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_denied_is_forbidden_and_does_not_arrive() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let (app, mut heard) = serve(service, Answer::ok(&["secret"])).await;
            let scene = Scene::new(layout, app, service.protocol());
            deny(&scene);
            let plain = ask(caller, scene.outbound(), get()).await;
            assert!(is_told(&plain, 403, "RBAC"), "{caller:?} to {service:?}: {plain:?}");
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert!(is_grpc(&told, "7", "RBAC"), "{caller:?} to {service:?}: {told:?}");
            assert!(heard.try_recv().is_err());

            scene.mesh.apply(json!([]));
            assert_eq!(ask(caller, scene.outbound(), get()).await.text(), "secret");
        }
    }
}

// case 64
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_denied_is_reset_and_does_not_arrive() {
    for layout in Layout::BOTH {
        for protocol in ["tcp", ""] {
            let mut service = Service::start().await;
            let scene = Scene::new(layout, service.addr, protocol);
            deny(&scene);
            assert_eq!(refused(&scene).await, Ending::Reset, "{protocol:?}");
            mesh::until(|| (scene.callee().counted(|total| total.denied) > 0).then_some(())).await;
            assert!(service.is_untouched(), "{protocol:?}");
        }
    }
}

// case 64
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_is_cut_when_it_is_not_allowed_any_more() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let begun = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
        let mut one = Wire::to(scene.outbound()).await;
        one.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app1 = service.accept().await;
        app1.request().await;
        app1.send(begun).await;
        one.head().await.unwrap();
        let mut two = Two::to(scene.outbound()).await;
        let response = two.get(wanted("GET", "/")).await;
        let mut app2 = service.accept().await;
        app2.request().await;
        app2.send(begun).await;
        let mut response = within(response).await.unwrap();
        let mut socket = Wire::to(scene.outbound()).await;
        let wish = "GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        socket.send(wish).await;
        let mut app3 = service.accept().await;
        app3.request().await;
        app3.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        socket.head().await.unwrap();
        // What has no answer yet gets one.
        let mut waiting = Wire::to(scene.outbound()).await;
        waiting.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app4 = service.accept().await;
        app4.request().await;

        deny(&scene);

        assert_eq!(one.rest().await.0, "half");
        assert!(whole(response.body_mut()).await.unwrap_err().is_some());
        assert_eq!(socket.rest().await.0, "");
        let told = waiting.response().await;
        assert_eq!((told.status(), told.field("mesh-failure")), (403, "RBAC"));
        for app in [&mut app1, &mut app2, &mut app3, &mut app4] {
            assert_eq!(app.rest().await.0, "");
        }

        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "tcp");
        let mut wire = Wire::to(scene.port()).await;
        wire.send("hello").await;
        let mut app = service.accept().await;
        assert_eq!(app.take(5).await, b"hello");
        deny(&scene);
        assert_eq!(wire.rest().await, (String::new(), Ending::Reset));
        assert_eq!(app.rest().await.0, "");
    }
}

// cases 65, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_too_many_is_told_when_to_come_back_and_does_not_arrive() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let (app, mut heard) = serve(service, Answer::ok(&[])).await;
            let scene = Scene::new(layout, app, service.protocol());
            let one = json!({ "requests": 1, "interval": "1h" });
            scene.mesh.traffic(json!({ "rateLimit": { "total": one } }));
            assert_eq!(ask(caller, scene.outbound(), get()).await.status, 200);
            heard.recv().await.unwrap();

            let plain = ask(caller, scene.outbound(), get()).await;
            assert!(is_told(&plain, 429, "RL"), "{caller:?} to {service:?}: {plain:?}");
            let seconds: u32 = plain.field("retry-after").parse().unwrap();
            assert!((3_000..=3_600).contains(&seconds), "{seconds}");
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert!(is_grpc(&told, "8", "RL"), "{caller:?} to {service:?}: {told:?}");
            assert!(heard.try_recv().is_err());
        }
    }
}

// case 65
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_too_many_is_reset() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "tcp");
        scene.mesh.traffic(json!({ "rateLimit": { "total": { "requests": 1, "interval": "1h" } } }));
        let mut wire = Wire::to(scene.port()).await;
        wire.send("hello").await;
        let mut app = service.accept().await;
        assert_eq!(app.take(5).await, b"hello");

        assert_eq!(refused(&scene).await, Ending::Reset);
        assert!(service.is_untouched());
        app.send("still").await;
        assert_eq!(wire.take(5).await, b"still", "who was let in before stays");
    }
}
