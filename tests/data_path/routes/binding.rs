//! Which routes are for a call: of which service and port, for which caller, and what is not asked.

use serde_json::{Value, json};

use crate::data_path::caller::get;
use crate::data_path::mesh::Mesh;
use crate::data_path::routes::scene::{Stage, http_route, reporter, to};

fn any(service: &str) -> Value {
    to(service, json!([]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_of_the_callers_namespace_takes_the_place_of_the_services_own() {
    let producer = http_route("own", "default", json!([{ "name": "web" }]), json!([any("v1")]));
    let parents = json!([{ "name": "web", "namespace": "default" }]);
    let consumer = http_route(
        "theirs",
        "shop",
        parents,
        json!([{
            "matches": [{ "path": { "value": "/theirs" } }],
            "backendRefs": [{ "name": "v2", "namespace": "default", "port": 80 }]
        }]),
    );
    let services = ["web", "v1", "v2"];

    let inside = Stage::called_by(&services, &["front.shop=9"]).await;
    inside.mesh.apply(json!([producer, consumer]));
    assert_eq!(inside.way("GET", "/theirs", &[]).await, (200, "v2".to_owned()));
    // Nothing is merged: what their own routes do not take is not found.
    assert_eq!(inside.way("GET", "/", &[]).await.0, 404);
    inside.mesh.apply(json!([producer]));
    assert_eq!(inside.way("GET", "/theirs", &[]).await, (200, "v1".to_owned()));

    for outside in ["front.other=9", "front=9"] {
        let stage = Stage::called_by(&services, &[outside]).await;
        stage.mesh.apply(json!([producer, consumer]));
        assert_eq!(stage.way("GET", "/theirs", &[]).await, (200, "v1".to_owned()), "{outside}");
        stage.mesh.apply(json!([consumer]));
        assert_eq!(stage.way("GET", "/", &[]).await, (200, "web".to_owned()), "{outside}");
    }
    let nobody = Stage::new(&services).await;
    nobody.mesh.apply(json!([producer, consumer]));
    assert_eq!(nobody.way("GET", "/theirs", &[]).await, (200, "v1".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_of_a_backend_are_not_asked() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    stage.mesh.apply(json!([
        http_route("one", "default", json!([{ "name": "web" }]), json!([any("v1")])),
        http_route("two", "default", json!([{ "name": "v1" }]), json!([any("v2")])),
        http_route("self", "default", json!([{ "name": "v2" }]), json!([any("v2")])),
    ]));

    assert_eq!(stage.way("GET", "/", &[]).await, (200, "v1".to_owned()));
    assert_eq!(stage.ask_of("v1", "GET", "/", &[]).await.header("x-service"), "v2");
    assert_eq!(stage.ask_of("v2", "GET", "/", &[]).await.header("x-service"), "v2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_destination_decides_and_not_the_host() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    let mut route = http_route("web", "default", json!([{ "name": "web" }]), json!([any("v1")]));
    route["spec"]["hostnames"] = json!(["shop.test"]);
    stage.mesh.apply(json!([route]));

    let by_port = get(stage.caller.port("web"), "v2", "/").await;
    assert_eq!(by_port.header("x-service"), "v1");
    assert!(by_port.text().to_ascii_lowercase().contains("host: v2\r\n"), "{}", by_port.text());
    assert_eq!(stage.way("GET", "/", &[]).await, (200, "v1".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_several_ports_with_routes_of_their_own() {
    let (public, _) = reporter("public").await;
    let (admin, _) = reporter("admin").await;
    let (other, _) = reporter("other").await;
    let mesh = Mesh::new();
    let locals = [format!("web={public}/http"), format!("web={admin}/http"), format!("other={other}/http")];
    let _callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &["web"]);
    let service = json!({
        "apiVersion": "mesh/v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "ports": [
            { "name": "public", "port": 80, "targetPort": public.port() },
            { "name": "admin", "port": 9000, "targetPort": admin.port() }
        ] }
    });
    let ask = async |host: &str| {
        let got = get(caller.outbound(), host, "/").await;
        (got.status.as_u16(), got.header("x-service").to_owned())
    };
    let at = |part: Value, rule: Value| {
        let mut parent = json!({ "name": "web" });
        parent.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        http_route("web", "default", json!([parent]), json!([rule]))
    };

    mesh.apply(json!([service]));
    for (host, expected) in
        [("web", "public"), ("web:80", "public"), ("web:9000", "admin"), ("web.default.mesh:9000", "admin")]
    {
        assert_eq!(ask(host).await, (200, expected.to_owned()), "{host}");
    }
    assert_eq!(get(caller.port("web"), "anything", "/").await.header("x-service"), "public");
    let unknown = get(caller.outbound(), "web:81", "/").await;
    assert_eq!((unknown.status.as_u16(), unknown.header("mesh-failure")), (404, "NR"));
    assert!(unknown.text().contains("web.default has no port 81"), "{}", unknown.text());

    for part in [json!({ "port": 9000 }), json!({ "sectionName": "admin" })] {
        mesh.apply(json!([service, at(part, any("other"))]));
        assert_eq!(ask("web").await, (200, "public".to_owned()));
        assert_eq!(ask("web:9000").await, (200, "other".to_owned()));
    }
    let by_port = json!({ "backendRefs": [{ "name": "web", "port": 9000 }] });
    mesh.apply(json!([service, at(json!({}), by_port)]));
    for host in ["web", "web:9000"] {
        assert_eq!(ask(host).await, (200, "admin".to_owned()), "{host}");
    }
    let missing = json!({ "backendRefs": [{ "name": "web", "port": 1 }] });
    mesh.apply(json!([service, at(json!({}), missing)]));
    assert_eq!(ask("web").await.0, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_one_port_is_reached_whatever_the_number() {
    let stage = Stage::new(&["web", "v1"]).await;
    stage.mesh.apply(json!([http_route(
        "web",
        "default",
        json!([{ "name": "web", "port": 8080 }]),
        json!([any("v1")])
    )]));

    for host in ["web", "web:8080", "web:9"] {
        assert_eq!(stage.ask_of(host, "GET", "/", &[]).await.header("x-service"), "v1", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_services_share_an_instance() {
    let (first, _) = reporter("one").await;
    let (second, _) = reporter("two").await;
    let mesh = Mesh::new();
    let locals = [
        format!("echo={first}/http"),
        format!("echo={second}/http"),
        format!("echo-v1={first}/http"),
        format!("echo-v2={second}/http"),
    ];
    let _callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &[]);
    mesh.apply(json!([http_route(
        "echo",
        "default",
        json!([{ "name": "echo" }]),
        json!([
            to("echo-v2", json!([{ "headers": [{ "name": "x-version", "value": "two" }] }])),
            any("echo-v1"),
        ])
    )]));

    assert_eq!(get(caller.outbound(), "echo", "/").await.header("x-service"), "one");
    assert_eq!(get(caller.outbound(), "echo-v2", "/").await.header("x-service"), "two");
    mesh.apply(json!([]));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        seen.insert(get(caller.outbound(), "echo", "/").await.header("x-service").to_owned());
    }
    assert_eq!(seen.len(), 2);
}

// case 76
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_not_there_takes_its_share_and_none_or_no_weight_is_an_error() {
    let stage = Stage::new(&["web", "v1"]).await;
    stage.route(json!([
        { "matches": [{ "path": { "value": "/half" } }],
          "backendRefs": [{ "name": "missing", "weight": 5 }, { "name": "v1", "weight": 5 }] },
        { "matches": [{ "path": { "value": "/zero" } }], "backendRefs": [{ "name": "v1", "weight": 0 }] },
        { "matches": [{ "path": { "value": "/none" } }] },
        { "matches": [{ "path": { "value": "/spare" } }],
          "backendRefs": [{ "name": "missing", "weight": 0 }, { "name": "v1" }] },
    ]));

    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..60 {
        *statuses.entry(stage.way("GET", "/half", &[]).await.0).or_default() += 1;
    }
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [200, 500]);
    assert!(statuses.values().all(|count| *count > 10), "{statuses:?}");
    for target in ["/zero", "/none"] {
        let got = stage.ask("GET", target, &[]).await;
        assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (500, "NC"), "{target}");
    }
    for _ in 0..10 {
        assert_eq!(stage.way("GET", "/spare", &[]).await, (200, "v1".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_for_each_of_its_parents_and_for_nobody_else() {
    let stage = Stage::new(&["web", "v1", "v2", "v3"]).await;
    let parents =
        json!([{ "name": "web" }, { "group": "", "kind": "Service", "name": "v2", "namespace": "default" }]);
    stage.mesh.apply(json!([http_route("both", "default", parents, json!([any("v1")]))]));

    for (service, by) in [("web", "v1"), ("v2", "v1"), ("v3", "v3")] {
        assert_eq!(stage.ask_of(service, "GET", "/", &[]).await.header("x-service"), by, "{service}");
    }
    let elsewhere = json!([{ "name": "web", "namespace": "shop" }]);
    stage.mesh.apply(json!([http_route("both", "default", elsewhere, json!([any("v1")]))]));
    assert_eq!(stage.way("GET", "/", &[]).await, (200, "web".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_without_rules_takes_all_requests_and_leads_nowhere() {
    let stage = Stage::new(&["web"]).await;
    stage.route(json!([]));

    let got = stage.ask("GET", "/any", &[]).await;

    assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (500, "NC"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_can_be_of_another_namespace_and_of_one_port() {
    let (first, _) = reporter("first").await;
    let (second, _) = reporter("second").await;
    let (web, _) = reporter("web").await;
    let mesh = Mesh::new();
    let locals =
        [format!("web={web}/http"), format!("api.shop={first}/http"), format!("api.shop={second}/http")];
    let _callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &[]);
    let service = json!({
        "apiVersion": "mesh/v1", "kind": "Service", "metadata": { "name": "api", "namespace": "shop" },
        "spec": { "ports": [{ "port": 80, "targetPort": first.port() }, { "port": 81, "targetPort": second.port() }] }
    });
    let backend = json!([{ "group": "", "kind": "Service", "name": "api", "namespace": "shop", "port": 81 }]);
    let rules = json!([{ "backendRefs": backend }]);
    let route = http_route("web", "default", json!([{ "name": "web" }]), rules);
    mesh.apply(json!([service, route]));

    for _ in 0..5 {
        assert_eq!(get(caller.outbound(), "web", "/").await.header("x-service"), "second");
    }
}

// case 76
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_shared_by_weight_and_one_is_the_weight_that_is_unsaid() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    stage.route(json!([{ "backendRefs": [{ "name": "v1", "weight": 9 }, { "name": "v2" }] }]));

    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..200 {
        *seen.entry(stage.way("GET", "/", &[]).await.1).or_default() += 1;
    }

    // 20 of 200 are expected: a deviation of five times the standard one is no accident.
    assert!((1..=42).contains(&seen["v2"]) && seen["v1"] + seen["v2"] == 200, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_speaks_what_it_is_said_to_and_else_what_its_service_is() {
    let (one, _heard) = crate::data_path::app::echo("one").await;
    let (two, _heard) = crate::data_path::app::echo("two").await;
    let mesh = Mesh::new();
    let _callee = mesh.node("callee", &[format!("web={one}"), format!("web={two}")], &[]);
    let caller = mesh.node("caller", &[], &[]);
    let version = async |host: &str| get(caller.outbound(), host, "/").await.header("x-version").to_owned();
    let service = |protocol: &str| {
        json!([{
            "apiVersion": "mesh/v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "protocol": protocol, "ports": [
                { "port": 80, "targetPort": one.port(), "protocol": "h2c" }, { "port": 81, "targetPort": two.port() }
            ] }
        }])
    };

    mesh.apply(service("http"));
    assert_eq!((version("web").await.as_str(), version("web:81").await.as_str()), ("HTTP/2.0", "HTTP/1.1"));
    mesh.apply(service("h2c"));
    assert_eq!((version("web").await.as_str(), version("web:81").await.as_str()), ("HTTP/2.0", "HTTP/2.0"));
    mesh.apply(json!([]));
    assert_eq!(version("web").await, "HTTP/1.1", "the caller's version, where nothing is said");
}
