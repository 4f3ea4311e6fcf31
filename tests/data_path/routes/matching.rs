//! Which rule takes a request.

use serde_json::json;

use crate::data_path::routes::scene::{Stage, http_route, to};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_are_matched_exactly_by_prefix_and_by_expression() {
    let stage = Stage::new(&["web", "v1", "v2", "v3"]).await;
    stage.route(json!([
        to("v1", json!([{ "path": { "type": "Exact", "value": "/one" } }])),
        to("v2", json!([{ "path": { "type": "PathPrefix", "value": "/two" } }])),
        to("v3", json!([{ "path": { "type": "RegularExpression", "value": "/three/[0-9]+" } }])),
    ]));

    for (target, service) in [("/one", "v1"), ("/two", "v2"), ("/two/more?x=1", "v2"), ("/three/33", "v3")] {
        assert_eq!(stage.way("GET", target, &[]).await, (200, service.to_owned()), "{target}");
    }
    for target in ["/one/", "/twofold", "/three/x", "/"] {
        let got = stage.ask("GET", target, &[]).await;
        assert_eq!((got.status.as_u16(), got.header("mesh-failure")), (404, "NR"), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_headers_and_query_parameters_are_matched() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    stage.route(json!([
        to("v1", json!([{ "method": "POST", "headers": [{ "name": "Version", "value": "one" }] }])),
        to(
            "v1",
            json!([{ "headers": [{ "name": "version", "type": "RegularExpression", "value": "1\\.[0-9]" }] }])
        ),
        to(
            "v2",
            json!([{ "queryParams": [{ "name": "animal", "value": "whale" }] },
                        { "queryParams": [{ "name": "n", "type": "RegularExpression", "value": "[0-9]+" }] }])
        ),
        to("v2", json!([{ "headers": [{ "name": "Host", "value": "web:8080" }] }])),
    ]));

    let one = [("version", "one")];
    assert_eq!(stage.way("POST", "/", &one).await, (200, "v1".to_owned()));
    assert_eq!(stage.way("GET", "/", &one).await.0, 404);
    assert_eq!(stage.way("GET", "/", &[("Version", "1.5")]).await, (200, "v1".to_owned()));
    for target in ["/?animal=whale", "/a?x=1&animal=whale&animal=dog", "/?n=12"] {
        assert_eq!(stage.way("GET", target, &[]).await, (200, "v2".to_owned()), "{target}");
    }
    for target in ["/?animal=dog&animal=whale", "/?ANIMAL=whale", "/?n=x", "/?"] {
        assert_eq!(stage.way("GET", target, &[]).await.0, 404, "{target}");
    }
    assert_eq!(stage.ask_of("web:8080", "GET", "/", &[]).await.header("x-service"), "v2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_more_specific_match_goes_first_and_then_the_older_route() {
    let stage = Stage::new(&["web", "v1", "v2", "v3"]).await;
    let any = json!([{ "path": { "value": "/" } }]);
    let mut young =
        http_route("a-young", "default", json!([{ "name": "web" }]), json!([to("v1", any.clone())]));
    let mut old = http_route(
        "b-old",
        "default",
        json!([{ "name": "web" }]),
        json!([
            to("v2", any),
            to("v3", json!([{ "path": { "value": "/" }, "queryParams": [{ "name": "x", "value": "1" }] }])),
        ]),
    );
    young["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    old["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    stage.mesh.apply(json!([young, old]));

    assert_eq!(stage.way("GET", "/", &[]).await, (200, "v2".to_owned()));
    assert_eq!(stage.way("GET", "/?x=1", &[]).await, (200, "v3".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_is_counted_by_its_name() {
    let stage = Stage::new(&["web", "v1"]).await;
    stage.route(json!([{ "name": "canary", "backendRefs": [{ "name": "v1" }] }]));

    assert_eq!(stage.way("GET", "/", &[]).await, (200, "v1".to_owned()));

    crate::data_path::mesh::until(|| {
        let totals = stage.caller.shared.registry.totals();
        totals.iter().any(|(key, _)| key.route == "web/canary").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_is_matched_and_is_no_other() {
    let stage = Stage::new(&["web", "v1"]).await;

    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        stage.route(json!([to("v1", json!([{ "method": method }]))]));
        assert_eq!(stage.way(method, "/", &[]).await, (200, "v1".to_owned()), "{method}");
        let other = if method == "GET" { "POST" } else { "GET" };
        assert_eq!(stage.way(other, "/", &[]).await.0, 404, "{other} where {method} is taken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_conditions_of_a_match_hold_and_any_match_of_a_rule_does() {
    let stage = Stage::new(&["web", "v1"]).await;
    let all = json!({
        "method": "PUT", "path": { "value": "/a" },
        "headers": [{ "name": "x-one", "value": "1" }, { "name": "x-two", "type": "RegularExpression", "value": "[ab]" }],
        "queryParams": [{ "name": "q", "value": "1" }, { "name": "r", "value": "2" }]
    });
    stage.route(json!([to("v1", json!([all, { "path": { "type": "Exact", "value": "/any" } }]))]));
    let both = [("x-one", "1"), ("x-two", "a")];

    assert_eq!(stage.way("PUT", "/a/b?r=2&q=1", &both).await, (200, "v1".to_owned()));
    assert_eq!(stage.way("GET", "/any", &[]).await, (200, "v1".to_owned()));
    for (method, target, fields) in [
        ("GET", "/a?q=1&r=2", &both[..]),
        ("PUT", "/b?q=1&r=2", &both),
        ("PUT", "/a?q=1", &both),
        ("PUT", "/a?q=1&r=3", &both),
        ("PUT", "/a?q=1&r=2", &both[..1]),
        ("PUT", "/a?q=1&r=2", &[("x-one", "2"), ("x-two", "a")]),
        ("PUT", "/a?q=1&r=2", &[("x-one", "1"), ("x-two", "c")]),
    ] {
        assert_eq!(stage.way(method, target, fields).await.0, 404, "{method} {target} {fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_match_leaves_unsaid_of_the_path_is_a_prefix_and_the_root() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    stage.route(json!([
        to("v1", json!([{ "path": { "type": "Exact" } }])),
        to("v2", json!([{ "path": { "value": "/a" } }])),
    ]));

    assert_eq!(stage.way("GET", "/", &[]).await, (200, "v1".to_owned()));
    assert_eq!(stage.way("GET", "/a/b", &[]).await, (200, "v2".to_owned()));
    assert_eq!(stage.way("GET", "/b", &[]).await.0, 404);
    stage.route(json!([to("v1", json!([{ "path": {} }]))]));
    assert_eq!(stage.way("GET", "/b", &[]).await, (200, "v1".to_owned()));
}
