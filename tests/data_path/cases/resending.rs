//! What is sent again when a service fails, and what the caller gets when it is not.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::data_path::cases::ask::{Ask, Told, ask, get, grpc};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Heard, Speaks, serve, serve_each};
use crate::data_path::cases::two::{Service2, Two, wanted, whole};
use crate::data_path::cases::wire::{Service, Wire};
use crate::data_path::mesh::within;

/// Bytes of a body that are kept to be sent again.
const KEPT: usize = 64 << 10;

/// Answers with an error of its own, told in field and body.
fn busy() -> Answer {
    Answer { status: 503, fields: &[("x-mine", "busy")], ..Answer::ok(&["too ", "busy"]) }
}

fn is_busy(told: &Told) -> bool {
    (told.status, told.field("x-mine"), told.text().as_str()) == (503, "busy", "too busy")
}

/// Has 503 repeated, whatever the method.
#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
fn repeat(scene: &Scene, budget: Value) {
    scene.mesh.traffic(json!({ "retry": { "codes": [503], "backoff": "1ms", "budget": budget } }));
}

fn rich() -> Value {
    json!({ "minRetriesPerSecond": 1_000 })
}

/// All that has come.
fn arrived(heard: &mut tokio::sync::mpsc::UnboundedReceiver<Heard>) -> Vec<Heard> {
    std::iter::from_fn(|| heard.try_recv().ok()).collect()
}

// cases 69, 72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_failed_is_sent_again_as_it_was_and_says_that_it_is() {
    let most = "m".repeat(KEPT / 4);
    let post = Ask { method: "POST", ..get() };
    let asked = [
        get(),
        Ask { body: &["small"], ..post.clone() },
        Ask { body: &["in ", "several ", "pieces"], trailers: &[("x-sum", "1")], ..post.clone() },
        Ask { method: "PUT", trailers: &[("x-sum", "0")], ..get() },
        Ask { body: &[&most, &most, &most, &most], ..post },
    ];
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            for asked in &asked {
                let script = |number| if number == 1 { busy() } else { Answer::ok(&["yes"]) };
                let (app, mut heard) = serve_each(service, script).await;
                let scene = Scene::new(layout, app, service.protocol());
                repeat(&scene, rich());
                let fields = [("x-request-id", "from-the-caller"), ("traceparent", "any"), ("x-mine", "1")];
                let asked = Ask { path: "/a?b", fields: &fields, ..asked.clone() };
                let length = asked.body.concat().len();
                let told = ask(caller, scene.outbound(), asked).await;
                assert_eq!((told.status, told.text().as_str()), (200, "yes"), "{caller:?} to {service:?}");

                let mut heard = arrived(&mut heard);
                assert_eq!(heard.len(), 2, "{caller:?} to {service:?}");
                assert_eq!((heard[0].body.len(), heard[0].field("mesh-attempt")), (length, ""));
                assert_eq!(heard[1].field("mesh-attempt"), "2");
                assert_eq!(heard[1].field("x-request-id"), "from-the-caller");
                heard[1].fields.retain(|(name, _)| !name.eq_ignore_ascii_case("mesh-attempt"));
                // Where a length is told, it stands where it likes.
                for heard in &mut heard {
                    heard.fields.sort();
                }
                assert_eq!(heard[0], heard[1], "{caller:?} to {service:?}");
            }
        }
    }
}

// case 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_is_not_worth_or_not_fit_for_a_retry_is_passed_on_as_it_is() {
    let piece = "p".repeat(KEPT / 4);
    let long = [piece.as_str(), &piece, &piece, &piece, "p"];
    let post = Ask { method: "POST", ..get() };
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let (app, mut heard) = serve_each(service, |_| busy()).await;
            let scene = Scene::new(layout, app, service.protocol());
            let mut count = async |asked: Ask<'_>| {
                let told = ask(caller, scene.outbound(), asked).await;
                assert!(is_busy(&told), "{caller:?} to {service:?}: {told:?}");
                (arrived(&mut heard).len(), told.field("mesh-no-retry").to_owned())
            };
            // By default, what is not idempotent.
            assert_eq!(count(Ask { body: &["x"], ..post.clone() }).await, (1, String::new()));
            // A body that is longer than what is kept.
            repeat(&scene, rich());
            assert_eq!(count(Ask { body: &long, ..post.clone() }).await, (1, String::new()));
            // One that was repeated as often as it may be, and one that nobody may repeat any more.
            assert_eq!(count(Ask { body: &["x"], ..post.clone() }).await, (3, "URX".to_owned()));
            repeat(&scene, json!({ "percent": 0, "minRetriesPerSecond": 0 }));
            assert_eq!(count(Ask { body: &["x"], ..post.clone() }).await, (1, "URX".to_owned()));
        }
    }
}

// case 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_has_not_ended_is_sent_again_from_its_beginning_while_all_of_it_is_kept() {
    const NO: &str = "HTTP/1.1 503 Busy\r\nX-Mine: busy\r\nContent-Length: 4\r\n\r\nbusy";
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        repeat(&scene, rich());

        let mut one = Wire::to(scene.outbound()).await;
        one.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        assert_eq!(app.take(10).await, b"5\r\nfirst\r\n");
        app.send(NO).await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        assert_eq!(app.take(10).await, b"5\r\nfirst\r\n");
        one.send("4\r\nlast\r\n0\r\n\r\n").await;
        assert_eq!(app.take(14).await, b"4\r\nlast\r\n0\r\n\r\n");
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(one.response().await.status(), 204);
        drop(app);

        let mut two = Two::to(scene.outbound()).await;
        let (response, mut stream) = two.open(wanted("POST", "/")).await;
        stream.send_data(Bytes::from_static(b"first"), false).unwrap();
        for last in [false, true] {
            let mut app = service.accept().await;
            app.head().await.unwrap();
            assert_eq!(app.take(10).await, b"5\r\nfirst\r\n");
            if last {
                stream.send_data(Bytes::from_static(b"last"), true).unwrap();
                assert_eq!(app.take(14).await, b"4\r\nlast\r\n0\r\n\r\n");
                app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
                break;
            }
            app.send(NO).await;
        }
        assert_eq!(within(response).await.unwrap().status().as_u16(), 204);

        // Of a longer one, the beginning is not there any more.
        let long = "x".repeat(KEPT + 1);
        let mut one = Wire::to(scene.outbound()).await;
        let head = "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n";
        one.send(format!("{head}{:x}\r\n{long}\r\n", long.len())).await;
        let mut app = service.accept().await;
        app.head().await.unwrap();
        let mut got = 0;
        while got < long.len() {
            got += usize::from(app.take(1).await == b"x");
        }
        app.send(NO).await;
        let told = one.response().await;
        assert_eq!((told.status(), told.field("x-mine"), told.text().as_str()), (503, "busy", "busy"));
        assert!(service.is_untouched());
    }
}

// case 70
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_grpc_is_repeated_where_its_whole_answer_is_there_at_once() {
    const STATUS: &[(&str, &str)] = &[("content-type", "application/grpc"), ("grpc-status", "14")];
    const FINE: &[(&str, &str)] = &[("content-type", "application/grpc")];
    let fine = || Answer {
        fields: FINE,
        trailers: vec![("grpc-status", "0".to_owned())],
        ..Answer::ok(&["\0\0\0\0\u{1}a"])
    };
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let unavailable = |messages| Answer {
                fields: FINE,
                trailers: vec![("grpc-status", "14".to_owned())],
                ..Answer::ok(messages)
            };
            let alone = Answer { fields: STATUS, length: true, ..Answer::ok(&[]) };
            for failed in [alone, unavailable(&[]), unavailable(&["\0\0\0\0\u{1}a"])] {
                let script = move |number| if number == 1 { failed.clone() } else { fine() };
                let (app, mut heard) = serve_each(service, script).await;
                let scene = Scene::new(layout, app, service.protocol());
                scene.mesh.traffic(json!({ "retry": { "grpcCodes": ["UNAVAILABLE"], "backoff": "1ms" } }));
                let told = ask(caller, scene.outbound(), grpc()).await;
                assert_eq!(
                    (told.trailer("grpc-status"), told.body.len()),
                    ("0", 6),
                    "{caller:?} to {service:?}"
                );
                assert_eq!(arrived(&mut heard).len(), 2, "{caller:?} to {service:?}");
            }

            // What streams is passed on as it comes, and so only once.
            let messages = &["\0\0\0\0\u{1}a", "\0\0\0\0\u{1}b"];
            let (app, mut heard) = serve(service, unavailable(messages)).await;
            let scene = Scene::new(layout, app, service.protocol());
            scene.mesh.traffic(json!({ "retry": { "grpcCodes": ["UNAVAILABLE"], "backoff": "1ms" } }));
            let told = ask(caller, scene.outbound(), grpc()).await;
            assert_eq!((told.status, told.trailer("grpc-status")), (200, "14"), "{caller:?} to {service:?}");
            assert_eq!(told.text(), messages.concat(), "{caller:?} to {service:?}");
            assert_eq!(arrived(&mut heard).len(), 1, "{caller:?} to {service:?}");
        }
    }
}

// case 70
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_of_a_stream_is_not_held_back_by_what_might_be_repeated() {
    for layout in Layout::BOTH {
        let mut service = Service2::start().await;
        let scene = Scene::new(layout, service.addr, "grpc");
        scene.mesh.traffic(json!({ "retry": { "grpcCodes": ["UNAVAILABLE"] } }));
        let mut two = Two::to(scene.outbound()).await;
        let mut request = wanted("POST", "/shop.Cart/Watch");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let (response, mut calling) = two.open(request).await;
        let (_request, mut respond) = service.call().await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();

        let mut response = within(response).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        stream.send_data(Bytes::from_static(b"\0\0\0\0\x01a"), false).unwrap();
        let first = within(response.body_mut().data()).await.unwrap().unwrap();
        assert_eq!(&*first, b"\0\0\0\0\x01a");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "14".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        calling.send_data(Bytes::new(), true).unwrap();
        let (rest, trailers) = whole(response.body_mut()).await.unwrap();
        assert_eq!((rest.len(), &trailers["grpc-status"]), (0, &"14".parse().unwrap()));
    }
}

// case 71
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_only_fails_is_called_by_as_much_more_as_the_budget_says() {
    for layout in Layout::BOTH {
        for caller in Speaks::BOTH {
            let (app, mut heard) = serve(Speaks::One, busy()).await;
            let scene = Scene::new(layout, app, "http");
            scene.mesh.traffic(json!({ "retry": {
                "backoff": "1ms", "budget": { "percent": 20, "interval": "1m", "minRetriesPerSecond": 0 }
            } }));
            // One connection, so one worker, whose budget is its own.
            match caller {
                Speaks::One => {
                    let mut wire = Wire::to(scene.outbound()).await;
                    for _ in 0..100 {
                        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
                        assert_eq!(wire.response().await.status(), 503);
                    }
                }
                Speaks::Two => {
                    let mut two = Two::to(scene.outbound()).await;
                    for _ in 0..100 {
                        let response = within(two.get(wanted("GET", "/")).await).await.unwrap();
                        assert_eq!(response.status().as_u16(), 503);
                    }
                }
            }
            assert_eq!(arrived(&mut heard).len(), 120, "{caller:?}");
        }
    }
}
