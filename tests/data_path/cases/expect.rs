//! Answers before their time: 100 and what comes of it, 103, and final answers to requests that are not over.

use bytes::Bytes;
use http::Response;

use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Service2, Two, answer, wanted, whole};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::within;

const EXPECTING: &str = "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

// case 33
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_ahead_of_the_service_is_the_only_one() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(EXPECTING).await;
        let mut app = service.accept().await;
        let head = app.head().await.unwrap();
        assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
        app.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        wire.send("body").await;
        assert_eq!(app.take(4).await, b"body");
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let answer = wire.response().await;
        assert_eq!((answer.line(), answer.text().as_str()), ("HTTP/1.1 200 OK", "ok"));

        // And the connection goes on.
        wire.send("GET /next HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(app.request().await.line(), "GET /next HTTP/1.1");
    }
}

// case 33
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_http2_needs_no_expectation_and_its_caller_gets_the_go_ahead() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::Two, Answer { length: true, ..Answer::ok(&["ok"]) }).await;
        let scene = Scene::new(layout, app, "h2c");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(EXPECTING).await;
        assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        wire.send("body").await;
        assert_eq!(wire.response().await.text(), "ok");
        let request = heard.recv().await.unwrap();
        assert_eq!((request.body.as_str(), request.field("expect")), ("body", ""));
    }
}

// case 33
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_wait_for_the_go_ahead_loses_nothing() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(format!("{EXPECTING}body")).await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        app.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(app.take(4).await, b"body");
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(wire.response().await.text(), "ok");
    }
}

// case 34
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_expectation_is_told_and_the_body_goes_nowhere() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for status in
            ["417 Expectation Failed", "401 Unauthorized", "413 Content Too Large", "503 Service Unavailable"]
        {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(EXPECTING).await;
            let mut app = service.accept().await;
            app.head().await.unwrap();
            app.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno")).await;
            let answer = wire.response().await;
            assert_eq!(
                (answer.line(), answer.text().as_str()),
                (format!("HTTP/1.1 {status}").as_str(), "no")
            );
            // Whether the body will come is not known, so nothing else can.
            assert_eq!(answer.field("connection"), "close", "{status}");
            assert_eq!(app.rest().await.0, "", "{status}");
            assert_eq!(wire.rest().await, (String::new(), Ending::Closed), "{status}");
        }
    }
}

// case 34
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_expectations_are_refused() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for value in ["200-ok", "100-continue, other", "other=\"100-continue\""] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!(
                "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nExpect: {value}\r\n\r\n"
            ))
            .await;
            let answer = wire.response().await;
            assert_eq!((answer.status(), answer.field("connection")), (417, "close"), "{value}");
        }
        assert!(service.is_untouched());
    }
}

// case 35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_reach_callers_of_either_version_before_the_answer() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        for _ in 0..3 {
            app.send(hint).await;
            assert_eq!(wire.head().await.unwrap(), hint);
        }
        app.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 102 Processing\r\n\r\n");
        assert_eq!(wire.response().await.text(), "ok");

        let mut two = Two::to(scene.outbound()).await;
        let mut response = two.get(wanted("GET", "/")).await;
        let mut app = service.accept().await;
        app.request().await;
        app.send(hint).await;
        let told = within(std::future::poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
        assert_eq!(
            (told.status().as_u16(), told.headers()["link"].as_bytes()),
            (103, &b"</style.css>; rel=preload"[..])
        );
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let mut response = within(response).await.unwrap();
        assert_eq!(whole(response.body_mut()).await.unwrap().0, b"ok");
    }
}

// case 35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_of_a_service_of_http2_reach_callers_of_http1() {
    for layout in Layout::BOTH {
        let mut service = Service2::start().await;
        let scene = Scene::new(layout, service.addr, "h2c");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let (_request, mut respond) = service.call().await;
        let hint = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        respond.send_informational(hint).unwrap();
        assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        answer(&mut respond, 204);
        assert_eq!(wire.response().await.status(), 204);
    }
}

// case 35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_of_a_service_of_http2_reach_callers_of_http2_each_for_itself() {
    for layout in Layout::BOTH {
        let mut service = Service2::start().await;
        let scene = Scene::new(layout, service.addr, "h2c");
        let mut two = Two::to(scene.outbound()).await;
        let mut response = two.get(wanted("GET", "/")).await;
        let (_request, mut respond) = service.call().await;
        for (status, link) in [(103, "</a>"), (103, "</b>"), (102, "</c>")] {
            let hint = Response::builder().status(status).header("link", link).body(()).unwrap();
            respond.send_informational(hint).unwrap();
            let told = std::future::poll_fn(|cx| response.poll_informational(cx));
            let told = within(told).await.unwrap().unwrap();
            assert_eq!(
                (told.status().as_u16(), told.headers()["link"].as_bytes()),
                (status, link.as_bytes())
            );
        }
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
        let mut response = within(response).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().contains_key("link")), (200, false));
        assert_eq!(whole(response.body_mut()).await.unwrap().0, b"ok");
    }
}

// case 35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_after_its_hints_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n").await;
        for _ in 0..2 {
            assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 103 Early Hints\r\n\r\n");
        }
        drop(app);
        let answer = wire.response().await;
        assert_eq!((answer.status(), answer.field("mesh-failure")), (502, "UC"));
    }
}

// case 35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_version_one_zero_gets_no_hints() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.0\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(wire.response().await.line(), "HTTP/1.1 200 OK");
    }
}

// cases 35, 51
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hints_without_end_is_a_bad_gateway() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1_000);
        app.send(hints).await;
        let mut count = 0;
        let last = loop {
            let head = wire.head().await.unwrap();
            if !head.starts_with("HTTP/1.1 103 ") {
                break head;
            }
            count += 1;
        };
        assert!(last.starts_with("HTTP/1.1 502 "), "{last}");
        assert!(count <= 100, "{count}");
    }
}

// cases 57, 58
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_refusal_reaches_the_caller_that_still_sends() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for (status, closes) in [(408, true), (413, true), (413, false), (500, true)] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\nbegin").await;
            let mut app = service.accept().await;
            app.head().await.unwrap();
            assert_eq!(app.take(5).await, b"begin");
            app.send(format!("HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: 6\r\n\r\nplease"))
                .await;
            let held = if closes {
                drop(app);
                None
            } else {
                Some(app)
            };
            let answer = wire.response().await;
            assert_eq!((answer.status(), answer.text().as_str()), (status, "please"));
            assert_eq!(answer.field("connection"), "close", "{status}");
            drop(held);
        }
    }
}

// case 58
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_sends_all_before_it_reads_still_finds_the_refusal() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        let size = 512 << 10;
        wire.send(format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {size}\r\n\r\n")).await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        app.send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno").await;
        app.finish().await;
        drop(app);
        for _ in 0..32 {
            wire.send(vec![b'x'; size / 32]).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let answer = wire.response().await;
        assert_eq!((answer.status(), answer.text().as_str()), (413, "no"));
    }
}

// case 58
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_http2_gets_an_early_refusal_and_its_connection_goes_on() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let mut one = Service::start().await;
            let mut other = Service2::start().await;
            let addr = if service == Speaks::One { one.addr } else { other.addr };
            let scene = Scene::new(layout, addr, service.protocol());
            let mut two = Two::to(scene.outbound()).await;
            let (response, mut stream) = two.open(wanted("POST", "/")).await;
            stream.send_data(Bytes::from_static(b"begin"), false).unwrap();
            let held = match service {
                Speaks::One => {
                    let mut app = one.accept().await;
                    app.head().await.unwrap();
                    app.send("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n").await;
                    Ok(app)
                }
                Speaks::Two => {
                    let (request, mut respond) = other.call().await;
                    answer(&mut respond, 413);
                    Err(request)
                }
            };
            assert_eq!(within(response).await.unwrap().status().as_u16(), 413, "{service:?}");
            drop(held);

            let response = two.get(wanted("GET", "/")).await;
            match service {
                Speaks::One => {
                    let mut app = one.accept().await;
                    app.request().await;
                    app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
                }
                Speaks::Two => answer(&mut other.call().await.1, 204),
            }
            assert_eq!(within(response).await.unwrap().status().as_u16(), 204, "{service:?}");
        }
    }
}

// case 57
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_can_come_while_the_request_goes_on_and_both_end_well() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let head = wire.head().await.unwrap();
        assert!(!head.contains("connection: close"), "{head}");
        for _ in 0..5 {
            wire.send("4\r\nping\r\n").await;
            assert_eq!(app.take(9).await, b"4\r\nping\r\n");
            app.send("4\r\npong\r\n").await;
            assert_eq!(wire.take(9).await, b"4\r\npong\r\n");
        }
        wire.send("0\r\n\r\n").await;
        assert_eq!(app.take(5).await, b"0\r\n\r\n");
        app.send("0\r\n\r\n").await;
        assert_eq!(wire.take(5).await, b"0\r\n\r\n");
        wire.send("GET /next HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(app.request().await.line(), "GET /next HTTP/1.1");
    }
}
