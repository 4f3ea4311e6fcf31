//! What callers are told when there is no answer, in the words of each protocol.

use crate::data_path::cases::ask::{ask, get, grpc, is_grpc, is_told};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Service2, Two, wanted};
use crate::data_path::cases::wire::{Service, Wire};
use crate::data_path::mesh::{self, within};

// cases 52, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_refuses_the_connection_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        for (protocol, caller) in
            [("http", Speaks::One), ("http", Speaks::Two), ("h2c", Speaks::One), ("h2c", Speaks::Two)]
        {
            let scene = Scene::new(layout, mesh::nobody(), protocol);
            let plain = ask(caller, scene.outbound(), get()).await;
            assert!(is_told(&plain, 502, "UF"), "{caller:?} to {protocol}: {plain:?}");
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert!(is_grpc(&told, "14", "UF"), "{caller:?} to {protocol}: {told:?}");
        }
    }
}

// cases 53, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_closes_without_a_word_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            for reset in [false, true] {
                let mut service = Service::start().await;
                let scene = Scene::new(layout, service.addr, "http");
                for (asked, is_rpc) in [(get(), false), (grpc(), true)] {
                    // What is idempotent is asked more than once.
                    let closes = async {
                        loop {
                            let mut app = service.accept().await;
                            app.request().await;
                            if reset { app.reset() } else { drop(app) }
                        }
                    };
                    let told = tokio::select! {
                        told = ask(caller, scene.outbound(), asked) => told,
                        () = closes => unreachable!(),
                    };
                    let right = if is_rpc { is_grpc(&told, "14", "UC") } else { is_told(&told, 502, "UC") };
                    assert!(right, "{caller:?}, {reset}: {told:?}");
                }
            }
        }
    }
}

// case 55
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for text in [
            "220 ready\r\n\r\n",
            "HTTP/1.1 \r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/3.0 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nName : value\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nFolded: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nNul: a\0b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(text).await;
            let told = wire.response().await;
            assert_eq!((told.status(), told.field("mesh-failure")), (502, "UPE"), "{text:?}: {told:?}");
            assert_eq!(app.rest().await.0, "", "{text:?}");
        }
        let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n\r\n", "v".repeat(100 << 10));
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send(large).await;
        let told = wire.response().await;
        assert_eq!((told.status(), told.field("mesh-failure")), (502, "UPE"), "{told:?}");
    }
}

// case 55
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_speak_as_declared_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        let (one, _heard) = serve(Speaks::One, Answer::ok(&[])).await;
        let two = Service2::start().await;
        for (app, protocol) in [(one, "h2c"), (two.addr, "http")] {
            let scene = Scene::new(layout, app, protocol);
            let mut caller = Two::to(scene.outbound()).await;
            let response = within(caller.get(wanted("POST", "/")).await).await.unwrap();
            assert_eq!(response.status().as_u16(), 502, "{protocol}");
        }
    }
}

// cases 59, 60, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_or_routes_is_told_apart_from_none() {
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            let (app, _heard) = serve(Speaks::One, Answer::ok(&[])).await;
            let scene = Scene::new(layout, app, "http");
            scene.mesh.apply(serde_json::json!([{
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": { "name": "web" },
                "spec": {
                    "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
                    "rules": [{ "matches": [{ "path": { "type": "PathPrefix", "value": "/known" } }],
                                "backendRefs": [{ "name": "web", "port": 80 }] }],
                },
            }]));
            let plain = ask(caller, scene.outbound(), get()).await;
            assert!(is_told(&plain, 404, "NR"), "{caller:?}: {plain:?}");
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert!(is_grpc(&told, "12", "NR"), "{caller:?}: {told:?}");

            scene.mesh.apply(serde_json::json!([]));
            scene.mesh.bury(if layout == Layout::One { "both" } else { "callee" });
            let began = std::time::Instant::now();
            let plain = ask(caller, scene.outbound(), get()).await;
            assert!(is_told(&plain, 503, "UH"), "{caller:?}: {plain:?}");
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert!(is_grpc(&told, "14", "UH"), "{caller:?}: {told:?}");
            assert!(began.elapsed().as_secs() < 5, "at once");
        }
    }
}

// cases 66, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_to_a_service_that_has_enough_to_do_is_told_so_at_once() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        scene.mesh.traffic(serde_json::json!({ "circuitBreaking": { "maxRequests": 1 } }));
        let mut busy = Wire::to(scene.outbound()).await;
        busy.send("GET /busy HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;

        for caller in Speaks::BOTH {
            let plain = ask(caller, scene.outbound(), get()).await;
            assert!(is_told(&plain, 503, "UO"), "{caller:?}: {plain:?}");
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert!(is_grpc(&told, "14", "UO"), "{caller:?}: {told:?}");
        }

        // Who is served already notices nothing, and makes room.
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(busy.response().await.status(), 204);
        busy.send("GET /next HTTP/1.1\r\nHost: web\r\n\r\n").await;
        app.request().await;
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(busy.response().await.status(), 204);
    }
}

// case 67
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_its_own_proxy_is_a_loop_and_ends_at_once() {
    let mesh = mesh::Mesh::new();
    // With certificates for both.
    let services = ["web", "db"].map(|name| format!("{name}={}", mesh::nobody()));
    let node = mesh.node("both", &services, &["web", "db"]);
    for (addr, name) in [(node.outbound(), "web"), (node.port("web"), "web"), (node.port("db"), "db")] {
        let services = [format!("{name}={addr}")];
        let locals: Vec<_> = services.iter().map(|text| text.parse().unwrap()).collect();
        node.shared.set_locals(locals.clone());
        mesh.announce(&"both".parse().unwrap(), node.workers.addresses().inbound, &locals);
        for caller in Speaks::BOTH {
            let told = ask(caller, node.port(name), get()).await;
            assert!(is_told(&told, 508, "LOOP"), "{caller:?} by {addr}: {told:?}");
        }
        let told = ask(Speaks::Two, node.port(name), grpc()).await;
        assert!(is_grpc(&told, "10", "LOOP"), "{told:?}");
    }
}
