//! Copies of requests: they get there, and whoever asked never notices.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::data_path::app;
use crate::data_path::caller::{get, h1, read, request};
use crate::data_path::mesh::{Mesh, nobody, until, within};
use crate::data_path::routes::scene::{http_route, reporter};

fn mirror(service: &str, share: &Value) -> Value {
    let mut body = json!({ "backendRef": { "name": service, "port": 80 } });
    body.as_object_mut().unwrap().extend(share.as_object().unwrap().clone());
    json!({ "type": "RequestMirror", "requestMirror": body })
}

fn rules(filters: &[Value]) -> Value {
    json!([http_route(
        "web",
        "default",
        json!([{ "name": "web" }]),
        json!([{
            "filters": filters, "backendRefs": [{ "name": "web" }]
        }])
    )])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_services_get_a_copy_with_the_whole_body_and_are_counted_as_such() {
    let ((web, _), (one, first), (two, second)) =
        (reporter("web").await, reporter("one").await, reporter("two").await);
    let mesh = Mesh::new();
    let locals = [format!("web={web}/http"), format!("one={one}/http"), format!("two={two}/http")];
    let _callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &[]);
    let change = json!({ "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x-by", "value": "rule" }] } });
    mesh.apply(rules(&[mirror("one", &json!({})), change, mirror("two", &json!({ "percent": 100 }))]));
    let body = Bytes::from(vec![b'x'; 150_000]);

    let mut sender = h1(caller.outbound()).await;
    let got =
        read(within(sender.send_request(request("POST", "web", "/a?b=c", body.clone()))).await.unwrap())
            .await;
    assert_eq!((got.status.as_u16(), got.header("x-service")), (200, "web"));

    for seen in [first, second] {
        let (head, copy) = until(|| seen.lock().unwrap().first().cloned()).await;
        assert!(head.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("x-by: rule\r\n"), "{head}");
        assert_eq!(copy, body);
    }
    until(|| {
        let totals = caller.shared.registry.totals();
        let copies = totals.iter().filter(|(key, total)| key.route == "web/0 mirror" && total.requests == 1);
        (copies.count() == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_copy_is_made_of_a_share_of_nothing_nor_for_a_service_that_is_not_there() {
    let ((web, _), (one, seen)) = (reporter("web").await, reporter("one").await);
    let mesh = Mesh::new();
    let _callee = mesh.node("callee", &[format!("web={web}/http"), format!("one={one}/http")], &[]);
    let caller = mesh.node("caller", &[], &[]);
    let none = json!({ "fraction": { "numerator": 0, "denominator": 7 } });
    mesh.apply(rules(&[mirror("one", &none), mirror("missing", &json!({}))]));

    for _ in 0..20 {
        assert_eq!(get(caller.outbound(), "web", "/").await.status.as_u16(), 200);
    }
    // A share of all comes after them: had there been copies before, they would be seen first.
    mesh.apply(rules(&[mirror("one", &json!({}))]));
    assert_eq!(get(caller.outbound(), "web", "/last").await.status.as_u16(), 200);

    let (head, _) = until(|| seen.lock().unwrap().first().cloned()).await;
    assert!(head.starts_with("GET /last "), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_fails_or_does_not_read_changes_nothing_for_the_caller() {
    let (web, _) = reporter("web").await;
    let silent = app::raw(|mut stream| async move {
        // Reads the head and never the body.
        let mut first = [0; 16];
        _ = stream.read_exact(&mut first).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mesh = Mesh::new();
    let dead = nobody();
    let locals = [format!("web={web}/http"), format!("silent={silent}/http"), format!("dead={dead}/http")];
    let _callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &[]);
    mesh.apply(rules(&[mirror("silent", &json!({})), mirror("dead", &json!({}))]));
    let body = Bytes::from(vec![b'x'; 3 << 20]);

    for _ in 0..10 {
        let mut sender = h1(caller.outbound()).await;
        let asked = request("POST", "web", "/", body.clone());
        let got = read(within(sender.send_request(asked)).await.unwrap()).await;
        assert_eq!((got.status.as_u16(), got.header("x-service")), (200, "web"));
        assert!(got.text().contains(&format!("content-length: {}", body.len())), "{}", got.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_under_way_are_bounded_in_number() {
    let (web, _) = reporter("web").await;
    let hanging = app::raw(|mut stream| async move {
        app::read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mesh = Mesh::new();
    let callee = mesh.node("callee", &[format!("web={web}/http"), format!("slow={hanging}/http")], &[]);
    let caller = mesh.node("caller", &[], &[]);
    mesh.apply(rules(&[mirror("slow", &json!({}))]));
    // One connection, so one worker, whose bound is its own.
    let mut sender = h1(caller.outbound()).await;

    for _ in 0..300 {
        within(sender.ready()).await.unwrap();
        let got =
            read(within(sender.send_request(request("GET", "web", "/", Bytes::new()))).await.unwrap()).await;
        assert_eq!(got.status.as_u16(), 200);
    }

    until(|| {
        (callee.shared.registry.totals().iter().map(|(_, total)| total.open()).sum::<u64>() == 128)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_said_in_percent_or_as_a_fraction_and_its_service_may_be_of_another_namespace() {
    let ((web, _), (one, seen)) = (reporter("web").await, reporter("one").await);
    let mesh = Mesh::new();
    let _callee = mesh.node("callee", &[format!("web={web}/http"), format!("one.shop={one}/http")], &[]);
    let caller = mesh.node("caller", &[], &[]);
    let of = |share: Value| {
        let mut mirror = mirror("one", &share);
        mirror["requestMirror"]["backendRef"]["namespace"] = json!("shop");
        json!([http_route(
            "web",
            "default",
            json!([{ "name": "web" }]),
            json!([{ "backendRefs": [{ "name": "web", "filters": [mirror] }] }])
        )])
    };
    let ask = async |target: &str| get(caller.outbound(), "web", target).await.header("x-service").to_owned();

    mesh.apply(of(json!({ "percent": 0 })));
    for _ in 0..20 {
        assert_eq!(ask("/none").await, "web");
    }
    for (share, target) in [
        (json!({ "percent": 100 }), "/percent"),
        (json!({ "fraction": { "numerator": 3, "denominator": 3 } }), "/fraction"),
        (json!({ "fraction": { "numerator": 100 } }), "/of-hundred"),
    ] {
        mesh.apply(of(share));
        assert_eq!(ask(target).await, "web");
        let wanted = format!("GET {target} ");
        until(|| {
            let seen = seen.lock().unwrap();
            // Copies of a share of nothing would have come before this one.
            assert!(seen.iter().all(|(head, _)| !head.starts_with("GET /none")), "{seen:?}");
            seen.iter().any(|(head, _)| head.starts_with(&wanted)).then_some(())
        })
        .await;
    }
}
