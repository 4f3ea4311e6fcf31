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
    /// Where the first of the services listens.
    port: u16,
}

async fn calls(services: &[&'static str]) -> Calls {
    let mut locals = Vec::new();
    let mut ports = Vec::new();
    for name in services {
        let (addr, _heard) = app::echo(name).await;
        locals.push(format!("{name}={addr}/grpc"));
        ports.push(addr.port());
    }
    let mesh = Mesh::new();
    let callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &[]);
    Calls { mesh, caller, _callee: callee, port: ports[0] }
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

// case 76
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_fields_of_calls_are_matched_exactly_or_by_expression_and_all_of_them() {
    let calls = calls(&["web", "v1", "v2"]).await;
    calls.route(json!([
        to("v1", json!([{ "headers": [{ "name": "X-Version", "value": "1" }, { "name": "x-tester", "value": "yes" }] }])),
        to("v2", json!([{ "headers": [{ "name": "x-version", "type": "RegularExpression", "value": "2\\.[0-9]" }] }])),
        to("v2", json!([{ "method": { "service": "a.B" }, "headers": [{ "name": "x-tester", "value": "yes" }] }])),
    ]));

    assert_eq!(calls.way("x.Y/Z", &[("x-version", "1"), ("x-tester", "yes")]).await, "v1");
    assert_eq!(calls.way("x.Y/Z", &[("x-version", "2.5")]).await, "v2");
    assert_eq!(calls.way("a.B/C", &[("x-tester", "yes")]).await, "v2");
    for (method, field) in [
        ("x.Y/Z", ("x-version", "1")),
        ("x.Y/Z", ("x-version", "2.x")),
        ("x.Y/Z", ("x-tester", "yes")),
        ("a.B/C", ("x-tester", "no")),
    ] {
        assert_eq!(calls.way(method, &[field]).await, "12", "{method} {field:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_route_is_for_the_port_that_it_names_and_whatever_the_host() {
    let calls = calls(&["web", "v1"]).await;
    let service = |number: u16| {
        json!({
            "apiVersion": "mesh/v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "ports": [{ "name": "main", "port": 80, "targetPort": number }, { "name": "admin", "port": 81, "targetPort": number }] }
        })
    };
    let port = calls.port;
    for (part, way) in [
        (json!({ "port": 80 }), "v1"),
        (json!({ "sectionName": "main" }), "v1"),
        (json!({ "port": 81 }), "web"),
        (json!({ "sectionName": "admin" }), "web"),
    ] {
        let mut route = grpc_route(json!([{ "backendRefs": [{ "name": "v1" }] }]));
        route["spec"]["hostnames"] = json!(["elsewhere.test"]);
        let parent = route["spec"]["parentRefs"][0].as_object_mut().unwrap();
        parent.extend(part.as_object().unwrap().clone());
        calls.mesh.apply(json!([service(port), route]));
        assert_eq!(calls.way("a.B/C", &[]).await, way, "{part}");
    }
}

// case 76
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_route_shares_by_weight_and_without_rules_leads_nowhere() {
    let calls = calls(&["web", "v1", "v2"]).await;
    calls.route(json!([{ "name": "split", "backendRefs": [{ "name": "v1", "weight": 3 }, { "name": "v2" }, { "name": "web", "weight": 0 }] }]));

    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..80 {
        *seen.entry(calls.way("a.B/C", &[]).await).or_default() += 1;
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["v1", "v2"]);
    assert!(seen["v1"] > seen["v2"], "{seen:?}");

    calls.route(json!([]));
    assert_eq!(calls.way("a.B/C", &[]).await, "14");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_of_a_grpc_backend_are_for_its_calls_alone() {
    let calls = calls(&["web", "v1", "v2"]).await;
    let filters = json!([
        { "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x-added", "value": "1" }], "remove": ["x-gone"] } },
        { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "add": [{ "name": "x-answer", "value": "2" }] } }
    ]);
    calls.route(json!([
        { "matches": method(json!({ "method": "Changed" })), "backendRefs": [{ "name": "v1", "filters": filters }] },
        { "backendRefs": [{ "name": "v2" }] },
    ]));

    let changed = calls.call("a.B/Changed", &[("x-gone", "1")]).await;
    let other = calls.call("a.B/Other", &[("x-gone", "1")]).await;

    let saw = |got: &Got, name: &str| got.header("x-seen").split(',').any(|seen| seen == name);
    assert_eq!((changed.header("x-app"), changed.header("x-answer")), ("v1", "2"));
    assert!(saw(&changed, "x-added") && !saw(&changed, "x-gone"), "{}", changed.header("x-seen"));
    assert_eq!((other.header("x-app"), other.header("x-answer")), ("v2", ""));
    assert!(!saw(&other, "x-added") && saw(&other, "x-gone"), "{}", other.header("x-seen"));
}
