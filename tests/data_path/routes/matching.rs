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
