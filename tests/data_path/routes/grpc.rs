//! `GRPCRoute`: calls of gRPC by service, method and header fields.

use serde_json::{Value, json};

use crate::data_path::app;
use crate::data_path::caller::{Got, h2, read, request};
use crate::data_path::mesh::{Mesh, Node, within};
use crate::data_path::routes::scene::{http_route, to};

struct Calls {
    mesh: Mesh,
    caller: Node,
    _callee: Node,
}

async fn calls(services: &[&'static str]) -> Calls {
    let mut locals = Vec::new();
    for name in services {
        let (addr, _heard) = app::echo(name).await;
        locals.push(format!("{name}={addr}/grpc"));
    }
    let mesh = Mesh::new();
    let callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &[]);
    Calls { mesh, caller, _callee: callee }
}

#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
fn grpc_route(rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute", "metadata": { "name": "web" },
        "spec": { "parentRefs": [{ "name": "web" }], "rules": rules }
    })
}

impl Calls {
    fn route(&self, rules: Value) {
        self.mesh.apply(json!([grpc_route(rules)]));
    }

    async fn call(&self, method: &str, fields: &[(&str, &str)]) -> Got {
        let mut wanted = request("POST", "web", &format!("http://web/{method}"), "message");
        wanted.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            wanted.headers_mut().insert(name, value.parse().unwrap());
        }
        let mut sender = h2(self.caller.outbound()).await;
        read(within(sender.send_request(wanted)).await.unwrap()).await
    }

    async fn way(&self, method: &str, fields: &[(&str, &str)]) -> String {
        let got = self.call(method, fields).await;
        format!("{}{}", got.header("x-app"), got.header("grpc-status"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
fn method(of: Value) -> Value {
    json!([{ "method": of }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_matched_by_service_method_and_header_fields_and_others_are_unimplemented() {
    let calls = calls(&["web", "v1", "v2", "v3"]).await;
    calls.route(json!([
        to("v1", method(json!({ "service": "shop.v1.Cart", "method": "Add" }))),
        to("v2", method(json!({ "service": "shop.v1.Cart" }))),
        to("v3", method(json!({ "method": "Ping" }))),
        to(
            "v3",
            method(json!({ "type": "RegularExpression", "service": "shop\\.v[23]\\..*", "method": "Get.*" }))
        ),
        to("v1", json!([{ "headers": [{ "name": "x-tester", "value": "yes" }] }])),
    ]));

    assert_eq!(calls.way("shop.v1.Cart/Add", &[]).await, "v1");
    assert_eq!(calls.way("shop.v1.Cart/Remove", &[]).await, "v2");
    assert_eq!(calls.way("any.Health/Ping", &[]).await, "v3");
    assert_eq!(calls.way("shop.v2.Cart/GetAll", &[]).await, "v3");
    assert_eq!(calls.way("other.Service/Do", &[("x-tester", "yes")]).await, "v1");
    for none in ["other.Service/Do", "shop.v1.Carts/Add", "shop.v4.Cart/GetAll", "shop.v2.Cart/Set"] {
        let got = calls.call(none, &[]).await;
        assert_eq!((got.status.as_u16(), got.header("grpc-status")), (200, "12"), "{none}");
        assert!(got.body.is_empty() && got.trailers.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_not_there_is_unavailable_for_its_share() {
    let calls = calls(&["web", "v1"]).await;
    calls.route(
        json!([{ "backendRefs": [{ "name": "missing", "weight": 1 }, { "name": "v1", "weight": 1 }] }]),
    );

    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        *seen.entry(calls.way("a.B/C", &[]).await).or_default() += 1;
    }

    assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), ["14", "v1"]);
    assert!(seen.values().all(|count| *count > 10), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_and_sessions_of_grpc_are_obeyed() {
    let calls = calls(&["web", "v1", "v2"]).await;
    let rule = |first: u32, second: u32| {
        json!([{
            "filters": [
                { "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x-added", "value": "1" }] } },
                { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "set": [{ "name": "x-answer", "value": "2" }] } }
            ],
            "sessionPersistence": { "type": "Header", "sessionName": "x-session" },
            "backendRefs": [{ "name": "v1", "weight": first }, { "name": "v2", "weight": second }]
        }])
    };
    calls.route(rule(1, 0));
    let got = calls.call("a.B/C", &[]).await;
    assert!(got.header("x-seen").split(',').any(|name| name == "x-added"), "{}", got.header("x-seen"));
    assert_eq!(got.header("x-answer"), "2");

    calls.route(rule(0, 1));
    assert_eq!(calls.way("a.B/C", &[("x-session", got.header("x-session"))]).await, "v1");
    assert_eq!(calls.way("a.B/C", &[]).await, "v2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_route_takes_the_place_of_an_http_route_of_the_same_service() {
    let calls = calls(&["web", "v1", "v2"]).await;
    let http = http_route("http", "default", json!([{ "name": "web" }]), json!([to("v1", json!([]))]));
    calls.mesh.apply(json!([http, grpc_route(json!([to("v2", method(json!({ "service": "a.B" })))]))]));

    assert_eq!(calls.way("a.B/C", &[]).await, "v2");
    assert_eq!(calls.way("x.Y/Z", &[]).await, "12");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_call_goes_to_another_service_by_the_backend_s_filters_too() {
    let calls = calls(&["web", "v1", "v2"]).await;
    let mirror = |service: &str| json!([{ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": service } } }]);
    calls.route(json!([{
        "name": "all", "filters": mirror("v1"),
        "backendRefs": [{ "name": "web", "filters": mirror("v2") }]
    }]));

    assert_eq!(calls.way("a.B/C", &[]).await, "web");

    crate::data_path::mesh::until(|| {
        let totals = calls.caller.shared.registry.totals();
        let copied = |service: &str| {
            totals.iter().any(|(key, total)| {
                key.route == "web/all mirror"
                    && key.destination.name() == service
                    && (total.requests, total.failures) == (1, 0)
            })
        };
        (copied("v1") && copied("v2")).then_some(())
    })
    .await;
}
