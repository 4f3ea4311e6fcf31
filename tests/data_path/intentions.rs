//! Whom an intention speaks of, and what of: each way to say it, for calls that it means and for others.

use http::HeaderName;
use serde_json::{Value, json};

use crate::data_path::app;
use crate::data_path::caller::{Got, get, h1, read, request};
use crate::data_path::mesh::{Mesh, Node, Pair, within};

#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
fn intention(namespace: &str, spec: Value) -> Value {
    json!([{
        "apiVersion": "mesh/v1", "kind": "Intention",
        "metadata": { "name": "one", "namespace": namespace }, "spec": spec
    }])
}

/// A service `web.default`, and callers of every kind: two services and a node for itself.
struct Callers {
    mesh: Mesh,
    _callee: Node,
    in_shop: Node,
    in_default: Node,
    node: Node,
}

impl Callers {
    async fn new() -> Self {
        let (app, _heard) = app::echo("web").await;
        let mesh = Mesh::new();
        let callee = mesh.node("callee", &[format!("web={app}/http")], &[]);
        let in_shop = mesh.node("one", &["front.shop=9".to_owned()], &[]);
        let in_default = mesh.node("two", &["front=9".to_owned()], &[]);
        let node = mesh.node("three", &[], &[]);
        Self { mesh, _callee: callee, in_shop, in_default, node }
    }

    /// Calls as `front.shop`, as `front.default` and as the node `three`.
    async fn statuses(&self) -> [u16; 3] {
        let mut statuses = [0; 3];
        for (status, caller) in statuses.iter_mut().zip([&self.in_shop, &self.in_default, &self.node]) {
            *status = get(caller.outbound(), "web", "/").await.status.as_u16();
        }
        statuses
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_a_service_a_namespace_or_a_node() {
    let callers = Callers::new().await;
    let cases = [
        (json!({ "service": "front.shop" }), [403, 200, 200]),
        (json!({ "service": "front" }), [200, 403, 200]),
        (json!({ "service": "*.shop" }), [403, 200, 200]),
        (json!({ "service": "*" }), [403, 403, 200]),
        (json!({ "namespace": "shop" }), [403, 200, 200]),
        (json!({ "node": "three" }), [200, 200, 403]),
        (json!({ "node": "one" }), [200, 200, 200]),
        (json!({ "node": "*" }), [200, 200, 403]),
    ];

    for (source, denied) in cases {
        let of = |action: &str| json!({ "destination": "web", "sources": [source], "action": action });
        callers.mesh.apply(intention("default", of("deny")));
        assert_eq!(callers.statuses().await, denied, "deny {source}");
        callers.mesh.apply(intention("default", of("allow")));
        let allowed = denied.map(|status| if status == 403 { 200 } else { 403 });
        assert_eq!(callers.statuses().await, allowed, "allow {source}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_is_a_service_or_all_of_the_intention_s_namespace() {
    let callers = Callers::new().await;

    for (namespace, destination, status) in [
        ("default", "web", 403),
        ("default", "web.default", 403),
        ("shop", "web.default", 403),
        ("default", "*", 403),
        ("shop", "web", 200),
        ("shop", "*", 200),
        ("default", "other", 200),
    ] {
        let spec = json!({ "destination": destination, "sources": [{ "node": "*" }], "action": "deny" });
        callers.mesh.apply(intention(namespace, spec));
        assert_eq!(callers.statuses().await, [200, 200, status], "{destination} in {namespace}");
    }
}

/// Sends a request that all rules below are about.
async fn ask(pair: &Pair, method: &str, path: &str, field: (&str, &str)) -> Got {
    let mut wanted = request(method, "web", path, "");
    wanted.headers_mut().insert(HeaderName::try_from(field.0).unwrap(), field.1.parse().unwrap());
    let mut sender = h1(pair.caller.outbound()).await;
    read(within(sender.send_request(wanted)).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_speaks_of_methods_paths_header_fields_and_calls_of_grpc() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");
    let key = ("x-key", "open-sesame");
    let none = ("x-none", "1");
    let of_key = |condition: Value| json!({ "headers": [condition] });
    let cases = [
        (json!({ "methods": ["GET", "PUT"] }), ("PUT", "/", none), ("POST", "/", none)),
        (
            json!({ "paths": [{ "type": "Exact", "value": "/a" }] }),
            ("GET", "/a?b", none),
            ("GET", "/a/b", none),
        ),
        (
            json!({ "paths": [{ "type": "PathPrefix", "value": "/a" }] }),
            ("GET", "/a/b", none),
            ("GET", "/ab", none),
        ),
        (
            json!({ "paths": [{ "value": "/a" }, { "value": "/b" }] }),
            ("GET", "/b/c", none),
            ("GET", "/c", none),
        ),
        (
            of_key(json!({ "name": "X-Key", "value": "open-sesame" })),
            ("GET", "/", key),
            ("GET", "/", ("x-key", "open")),
        ),
        (
            of_key(json!({ "name": "x-key", "type": "Prefix", "value": "open" })),
            ("GET", "/", key),
            ("GET", "/", ("x-key", "not-open")),
        ),
        (of_key(json!({ "name": "x-key", "type": "Present" })), ("GET", "/", key), ("GET", "/", none)),
        (
            json!({ "grpc": [{ "service": "shop.Cart", "method": "Add" }] }),
            ("POST", "/shop.Cart/Add", none),
            ("POST", "/shop.Cart/Remove", none),
        ),
        (
            json!({ "grpc": [{ "method": "Add" }] }),
            ("POST", "/any.Service/Add", none),
            ("POST", "/Add", none),
        ),
        (
            json!({ "methods": ["GET"], "paths": [{ "value": "/a" }], "headers": [{ "name": "x-key", "type": "Present" }] }),
            ("GET", "/a", key),
            ("GET", "/a", none),
        ),
    ];

    for (rule, meant, other) in cases {
        for (action, expected) in [("deny", (403, 200)), ("allow", (200, 403))] {
            pair.mesh.apply(intention(
                "default",
                json!({ "destination": "web", "sources": [{ "node": "*" }], "action": action, "rules": [rule] }),
            ));
            let of = async |(method, path, field)| ask(&pair, method, path, field).await.status.as_u16();
            assert_eq!((of(meant).await, of(other).await), expected, "{action} {rule}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_audited_is_let_through_and_what_is_enforced_is_not() {
    let (app, _heard) = app::echo("web").await;
    let pair = Pair::new("web", app, "http");

    for (mode, status) in [("audit", 200), ("enforce", 403)] {
        let spec =
            json!({ "destination": "web", "sources": [{ "node": "*" }], "action": "deny", "mode": mode });
        pair.mesh.apply(intention("default", spec));
        assert_eq!(get(pair.caller.outbound(), "web", "/").await.status.as_u16(), status, "{mode}");
    }
}
