//! When a connection goes on after an exchange, and when it does not.

use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh;

// case 1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_wants_its_connection_closed_is_answered_and_gets_it() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer::ok(&["bye"])).await;
            let scene = Scene::new(layout, app, service.protocol());
            for option in ["close", "Close", "keep-alive, close", "x, CLOSE"] {
                let mut wire = Wire::to(scene.outbound()).await;
                wire.send(format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: {option}\r\n\r\n")).await;
                let answer = wire.response().await;
                assert_eq!(
                    (answer.text().as_str(), answer.field("connection")),
                    ("bye", "close"),
                    "{option}"
                );
                assert_eq!(wire.rest().await, (String::new(), Ending::Closed), "{option}");
                assert_eq!(heard.recv().await.unwrap().field("connection"), "", "{option}");
            }
        }
    }
}

// case 8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_version_one_zero_gets_no_chunks_and_the_end_of_its_connection() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer::ok(&["some", "body"])).await;
            let scene = Scene::new(layout, app, service.protocol());
            for option in ["", "Connection: keep-alive\r\n"] {
                let mut wire = Wire::to(scene.outbound()).await;
                wire.send(format!("GET / HTTP/1.0\r\nHost: web\r\n{option}\r\n")).await;
                let head = wire.head().await.unwrap();
                let (body, ending) = wire.rest().await;
                assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
                assert!(head.contains("connection: close\r\n"), "{head}");
                assert_eq!((body.as_str(), ending), ("somebody", Ending::Closed));
                heard.recv().await.unwrap();
            }
        }
    }
}

// case 8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_version_one_zero_keeps_its_connection_where_the_length_is_known() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, _heard) = serve(service, Answer { length: true, ..Answer::ok(&["body"]) }).await;
            let scene = Scene::new(layout, app, service.protocol());
            let mut wire = Wire::to(scene.outbound()).await;
            for _ in 0..3 {
                wire.send("GET / HTTP/1.0\r\nHost: web\r\nConnection: Keep-Alive\r\n\r\n").await;
                let answer = wire.response().await;
                assert_eq!((answer.text().as_str(), answer.field("connection")), ("body", "keep-alive"));
            }
            wire.send("GET / HTTP/1.0\r\nHost: web\r\n\r\n").await;
            assert_eq!(wire.response().await.field("connection"), "close");
            assert_eq!(wire.rest().await, (String::new(), Ending::Closed));
        }
    }
}

// case 30
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_says_beyond_its_answer_is_nobodys_answer() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for (method, answer, status) in [
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", 200),
            ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n", 200),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 50\r\n\r\n", 204),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n", 304),
            ("POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!("{method} /first HTTP/1.1\r\nHost: web\r\n\r\n")).await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("{answer}{poison}")).await;
            let first = wire.response().await;
            assert_eq!(first.status(), status, "{answer:?}");

            wire.send("GET /second HTTP/1.1\r\nHost: web\r\n\r\n").await;
            let mut fresh = service.accept().await;
            assert_eq!(fresh.request().await.line(), "GET /second HTTP/1.1", "{answer:?}");
            fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmine").await;
            assert_eq!(wire.response().await.text(), "mine", "{answer:?}");
        }
    }
}

// case 30
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_says_unasked_on_an_idle_connection_is_nobodys_answer() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET /first HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst").await;
        assert_eq!(wire.response().await.text(), "first");
        app.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 6\r\n\r\npoison").await;

        // Nobody knows when the proxy has got it; the answer must be right in either case.
        for _ in 0..20 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        wire.send("GET /second HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut fresh = service.accept().await;
        assert_eq!(fresh.request().await.line(), "GET /second HTTP/1.1");
        fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine").await;
        assert_eq!(wire.response().await.text(), "mine");
    }
}

// case 54
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_that_was_closed_meanwhile_costs_nobody_an_answer() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        let mut first = true;
        for method in ["GET", "POST", "GET", "DELETE", "PUT"] {
            wire.send(format!("{method} / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi")).await;
            let mut app = service.accept().await;
            assert_eq!(app.request().await.text(), "hi", "{method}");
            app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            assert_eq!(wire.response().await.text(), "ok", "{method}");
            // By its end, and by a reset.
            if std::mem::take(&mut first) {
                drop(app);
            } else {
                app.reset();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(scene.caller().counted(|total| total.failures), 0);
    }
}

// case 54
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_meets_the_close_of_its_connection_is_sent_again_if_it_may_be() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let large = "x".repeat(100 << 10);
        for (method, body, again) in [
            ("GET", "", true),
            ("PUT", "small", true),
            ("DELETE", "", true),
            ("PUT", large.as_str(), false),
            ("POST", "small", false),
            ("PATCH", "small", false),
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send("GET /warm HTTP/1.1\r\nHost: web\r\n\r\n").await;
            let mut app = service.accept().await;
            app.request().await;
            app.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            assert_eq!(wire.response().await.status(), 200);

            wire.send(format!(
                "{method} / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
            // The service has heard it, and closes without a word: what a server does that ran out of patience.
            let request = app.request().await;
            assert_eq!(request.body.len(), body.len());
            drop(app);
            if again {
                let mut fresh = service.accept().await;
                assert_eq!(fresh.request().await.text(), body, "{method}");
                fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nagain").await;
            }
            let answer = wire.response().await;
            let wanted = if again { (200, "") } else { (502, "UC") };
            assert_eq!(
                (answer.status(), answer.field("mesh-failure")),
                wanted,
                "{method} {}: {answer:?}",
                body.len()
            );
            if !again {
                assert!(service.is_untouched(), "{method} was sent again");
            }
        }
    }
}

// case 54
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_can_go_on_after_a_failure_that_was_not_its_own() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi").await;
        let mut app = service.accept().await;
        app.request().await;
        drop(app);
        assert_eq!(wire.response().await.status(), 502);

        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(wire.response().await.text(), "ok");
        mesh::until(|| (scene.caller().counted(|total| total.requests) >= 2).then_some(())).await;
    }
}
