//! What routes do to requests and responses on their way.

use bytes::Bytes;
use serde_json::json;

use crate::data_path::caller::{h1, h2, read, request};
use crate::data_path::mesh::within;
use crate::data_path::routes::scene::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_fields_are_changed_by_the_rule_and_by_the_backend() {
    let stage = Stage::new(&["web", "v1"]).await;
    let change = |request: serde_json::Value, response: serde_json::Value| {
        json!([{ "type": "RequestHeaderModifier", "requestHeaderModifier": request },
               { "type": "ResponseHeaderModifier", "responseHeaderModifier": response }])
    };
    stage.route(json!([{
        "filters": change(json!({ "set": [{ "name": "X-Set", "value": "rule" }], "remove": ["x-gone"] }),
                          json!({ "add": [{ "name": "x-answer", "value": "rule" }], "remove": ["x-service"] })),
        "backendRefs": [{ "name": "v1", "filters":
            change(json!({ "add": [{ "name": "x-set", "value": "backend" }], "set": [{ "name": "Host", "value": "other.test" }] }),
                   json!({ "set": [{ "name": "x-by", "value": "backend" }] })) }]
    }]));

    let got = stage.ask("GET", "/", &[("x-set", "caller"), ("x-gone", "1"), ("x-kept", "1")]).await;

    let saw = got.text().to_ascii_lowercase();
    for part in ["x-set: rule\r\n", "x-set: backend\r\n", "x-kept: 1\r\n", "host: other.test\r\n"] {
        assert!(saw.contains(part), "{part} in {saw}");
    }
    assert!(!saw.contains("x-gone") && !saw.contains("x-set: caller"), "{saw}");
    assert_eq!(
        (got.header("x-answer"), got.header("x-by"), got.header("x-service")),
        ("rule", "backend", "")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirection_is_answered_and_nobody_is_called() {
    let stage = Stage::new(&["web"]).await;
    let redirect = |body: serde_json::Value| json!([{ "type": "RequestRedirect", "requestRedirect": body }]);
    stage.route(json!([
        { "matches": [{ "path": { "value": "/moved" } }],
          "filters": redirect(json!({ "scheme": "https", "hostname": "shop.test", "port": 8443, "statusCode": 301,
              "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/new" } })) },
        { "matches": [{ "path": { "type": "Exact", "value": "/full" } }],
          "filters": redirect(json!({ "path": { "type": "ReplaceFullPath", "replaceFullPath": "/other" }, "statusCode": 308 })) },
        { "matches": [{ "path": { "value": "/by-backend" } }],
          "backendRefs": [{ "name": "web", "filters": redirect(json!({ "statusCode": 307, "port": 81 })) }] },
    ]));

    let moved = stage.ask("GET", "/moved/a?b=c", &[]).await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (301, "https://shop.test:8443/new/a?b=c"));
    assert!(moved.body.is_empty());
    let full = stage.ask("POST", "/full?x", &[]).await;
    assert_eq!((full.status.as_u16(), full.header("location")), (308, "http://web/other?x"));
    let backend = stage.ask("GET", "/by-backend", &[]).await;
    assert_eq!((backend.status.as_u16(), backend.header("location")), (307, "http://web:81/by-backend"));
    assert_eq!(backend.header("x-service"), "");
    crate::data_path::mesh::until(|| {
        let counted = stage.caller.counted(|total| total.requests);
        (counted == 3).then_some(())
    })
    .await;
    assert_eq!(stage.callee.counted(|total| total.requests), 0);
    assert_eq!(stage.caller.counted(|total| total.failures), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_and_path_are_rewritten_and_the_backend_stays() {
    let stage = Stage::new(&["web", "v1"]).await;
    let rewrite = |body: serde_json::Value| json!([{ "type": "URLRewrite", "urlRewrite": body }]);
    stage.route(json!([
        { "matches": [{ "path": { "value": "/prefix" } }],
          "filters": rewrite(json!({ "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/new/" } })),
          "backendRefs": [{ "name": "v1" }] },
        { "matches": [{ "path": { "value": "/bare" } }],
          "filters": rewrite(json!({ "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "" } })),
          "backendRefs": [{ "name": "v1" }] },
        { "matches": [{ "path": { "value": "/" } }],
          "backendRefs": [{ "name": "v1", "filters": rewrite(json!({ "hostname": "other.test",
              "path": { "type": "ReplaceFullPath", "replaceFullPath": "/all" } })) }] },
    ]));

    let cases = [
        ("/prefix/a?b=/prefix", "GET /new/a?b=/prefix HTTP/1.1\r\nhost: web\r\n"),
        ("/prefix", "GET /new HTTP/1.1\r\nhost: web\r\n"),
        ("/bare", "GET / HTTP/1.1\r\nhost: web\r\n"),
        ("/bare/a", "GET /a HTTP/1.1\r\nhost: web\r\n"),
        ("/else?x=1", "GET /all?x=1 HTTP/1.1\r\nhost: other.test\r\n"),
    ];
    for (target, saw) in cases {
        let got = stage.ask("GET", target, &[]).await;
        assert_eq!(got.header("x-service"), "v1");
        assert!(
            got.text().to_ascii_lowercase().starts_with(&saw.to_ascii_lowercase()),
            "{target}: {}",
            got.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_of_allowed_origins_are_told_so_and_preflight_requests_reach_nobody() {
    let stage = Stage::new(&["web"]).await;
    stage.route(json!([{
        "filters": [{ "type": "CORS", "cors": {
            "allowOrigins": ["https://*.shop.test"], "allowMethods": ["PUT"], "allowHeaders": ["x-token"],
            "exposeHeaders": ["x-service"], "allowCredentials": true, "maxAge": 60
        } }],
        "backendRefs": [{ "name": "web" }]
    }]));
    let origin = ("origin", "https://www.shop.test");

    let preflight = stage
        .ask(
            "OPTIONS",
            "/",
            &[
                origin,
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "x-token"),
            ],
        )
        .await;
    assert_eq!((preflight.status.as_u16(), preflight.header("x-service")), (204, ""));
    assert_eq!(preflight.header("access-control-allow-origin"), "https://www.shop.test");
    assert_eq!(preflight.header("access-control-allow-methods"), "PUT");
    assert_eq!(preflight.header("access-control-allow-headers"), "x-token");
    assert_eq!(preflight.header("access-control-allow-credentials"), "true");
    assert_eq!(preflight.header("access-control-max-age"), "60");

    let actual = stage.ask("PUT", "/", &[origin]).await;
    assert_eq!((actual.status.as_u16(), actual.header("x-service")), (200, "web"));
    assert_eq!(actual.header("access-control-allow-origin"), "https://www.shop.test");
    assert_eq!(actual.header("access-control-expose-headers"), "x-service");
    assert_eq!(actual.header("access-control-allow-methods"), "");

    for fields in [&[("origin", "https://evil.test")][..], &[]] {
        let other = stage.ask("GET", "/", fields).await;
        assert_eq!((other.status.as_u16(), other.header("access-control-allow-origin")), (200, ""));
    }
    let options = stage.ask("OPTIONS", "/", &[]).await;
    assert_eq!(options.header("x-service"), "web");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_request_is_taken_by_the_rule_that_it_asks_about() {
    let stage = Stage::new(&["web", "v1"]).await;
    let cors = |header: &str| json!([{ "type": "CORS", "cors": { "allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": [header] } }]);
    stage.route(json!([
        { "matches": [{ "method": "PUT" }], "filters": cors("x-put"), "backendRefs": [{ "name": "web" }] },
        { "matches": [{ "method": "DELETE" }], "backendRefs": [{ "name": "web", "filters": cors("x-delete") }] },
        { "matches": [{ "path": { "value": "/any" }, "method": "PATCH" }], "backendRefs": [{ "name": "web" }] },
        { "matches": [{ "path": { "value": "/any" }, "method": "OPTIONS" }], "backendRefs": [{ "name": "v1" }] },
    ]));
    let preflight = async |target: &str, method: &str| {
        let fields = [("origin", "https://a.test"), ("access-control-request-method", method)];
        stage.ask("OPTIONS", target, &fields).await
    };

    for (method, header) in [("PUT", "x-put"), ("DELETE", "x-delete")] {
        let got = preflight("/any", method).await;
        assert_eq!(
            (got.status.as_u16(), got.header("access-control-allow-headers")),
            (204, header),
            "{method}"
        );
    }
    // Where the rule that would be asked about does not share, the request is one of its own.
    assert_eq!(preflight("/any", "PATCH").await.header("x-service"), "v1");
    assert_eq!(preflight("/", "PATCH").await.status.as_u16(), 404);
    assert_eq!(stage.way("OPTIONS", "/", &[]).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_redirected_may_come_by_http_2_and_with_a_body_that_nobody_reads() {
    let stage = Stage::new(&["web"]).await;
    stage.route(json!([{
        "filters": [{ "type": "RequestRedirect", "requestRedirect": { "hostname": "shop.test", "statusCode": 303 } }]
    }]));
    let body = Bytes::from(vec![b'x'; 200_000]);

    let mut sender = h1(stage.caller.outbound()).await;
    let asked = request("POST", "web", "/form", body.clone());
    let by_http1 = read(within(sender.send_request(asked)).await.unwrap()).await;
    let mut sender = h2(stage.caller.outbound()).await;
    let asked = request("POST", "web", "http://web/form", body);
    let by_http2 = read(within(sender.send_request(asked)).await.unwrap()).await;

    for got in [by_http1, by_http2] {
        assert_eq!((got.status.as_u16(), got.header("location")), (303, "http://shop.test/form"));
        assert!(got.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_rule_or_backend_changes_leaves_the_others_alone() {
    let stage = Stage::new(&["web", "v1"]).await;
    let filters = json!([
        { "type": "RequestHeaderModifier", "requestHeaderModifier":
            { "set": [{ "name": "x-set", "value": "1" }], "add": [{ "name": "x-kept", "value": "2" }], "remove": ["x-gone"] } },
        { "type": "ResponseHeaderModifier", "responseHeaderModifier":
            { "set": [{ "name": "x-service", "value": "hidden" }], "add": [{ "name": "x-more", "value": "1" }] } },
        { "type": "URLRewrite", "urlRewrite": { "hostname": "other.test",
            "path": { "type": "ReplaceFullPath", "replaceFullPath": "/other" } } },
        { "type": "CORS", "cors": { "allowOrigins": ["*"] } }
    ]);
    stage.route(json!([
        { "matches": [{ "path": { "value": "/rule" } }], "filters": filters, "backendRefs": [{ "name": "v1" }] },
        { "matches": [{ "path": { "value": "/backend" } }],
          "backendRefs": [{ "name": "v1", "weight": 0, "filters": filters }, { "name": "v1" }] },
        { "matches": [{ "path": { "value": "/moved" } }],
          "filters": [{ "type": "RequestRedirect", "requestRedirect": {} }] },
        { "backendRefs": [{ "name": "v1" }] },
    ]));
    let fields = [("x-kept", "1"), ("x-gone", "1"), ("origin", "https://a.test")];

    let changed = stage.ask("GET", "/rule", &fields).await;
    let saw = changed.text().to_ascii_lowercase();
    assert!(saw.starts_with("get /other http/1.1\r\nhost: other.test\r\n"), "{saw}");
    assert!(saw.contains("x-set: 1") && saw.contains("x-kept: 2") && !saw.contains("x-gone"), "{saw}");
    assert_eq!(
        (
            changed.header("x-service"),
            changed.header("x-more"),
            changed.header("access-control-allow-origin")
        ),
        ("hidden", "1", "*")
    );
    for target in ["/backend", "/else"] {
        let got = stage.ask("GET", target, &fields).await;
        let saw = got.text().to_ascii_lowercase();
        assert!(saw.starts_with(&format!("get {target} http/1.1\r\nhost: web\r\n")), "{saw}");
        assert!(!saw.contains("x-set") && !saw.contains("x-kept: 2") && saw.contains("x-gone: 1"), "{saw}");
        assert_eq!(
            (got.header("x-service"), got.header("x-more"), got.header("access-control-allow-origin")),
            ("v1", "", "")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_redirection_leaves_unsaid_is_as_it_was_asked_for() {
    let stage = Stage::new(&["web"]).await;
    let cases = [
        (json!({}), (302, "http://web:8080/a?b")),
        (json!({ "scheme": "http" }), (302, "http://web/a?b")),
        (json!({ "scheme": "https" }), (302, "https://web/a?b")),
        (json!({ "hostname": "shop.test" }), (302, "http://shop.test:8080/a?b")),
        (json!({ "port": 80 }), (302, "http://web/a?b")),
        (json!({ "port": 443, "scheme": "https" }), (302, "https://web/a?b")),
        (json!({ "port": 9, "statusCode": 301 }), (301, "http://web:9/a?b")),
        (json!({ "statusCode": 303 }), (303, "http://web:8080/a?b")),
        (json!({ "statusCode": 307 }), (307, "http://web:8080/a?b")),
        (json!({ "statusCode": 308 }), (308, "http://web:8080/a?b")),
        (
            json!({ "path": { "type": "ReplaceFullPath", "replaceFullPath": "/full" } }),
            (302, "http://web:8080/full?b"),
        ),
        (
            json!({ "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/x" } }),
            (302, "http://web:8080/x?b"),
        ),
    ];

    for (body, expected) in cases {
        stage.route(json!([
            { "matches": [{ "path": { "value": "/a" } }],
              "filters": [{ "type": "RequestRedirect", "requestRedirect": body }] },
            { "backendRefs": [{ "name": "web" }] },
        ]));
        let moved = stage.ask_of("web:8080", "GET", "/a?b", &[]).await;
        assert_eq!((moved.status.as_u16(), moved.header("location")), expected, "{body}");
        let stays = stage.ask_of("web:8080", "GET", "/b", &[]).await;
        assert_eq!((stays.status.as_u16(), stays.header("location")), (200, ""), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_said_of_sharing_is_not_promised() {
    let stage = Stage::new(&["web"]).await;
    let route = |cors: &serde_json::Value| {
        stage.route(
            json!([{ "filters": [{ "type": "CORS", "cors": cors }], "backendRefs": [{ "name": "web" }] }]),
        );
    };
    let origin = ("origin", "https://a.test");
    let preflight = async || {
        let fields =
            [origin, ("access-control-request-method", "PUT"), ("access-control-request-headers", "x-token")];
        stage.ask("OPTIONS", "/", &fields).await
    };
    let promises = ["allow-methods", "allow-headers", "allow-credentials", "expose-headers"];

    route(&json!({ "allowOrigins": ["https://a.test"] }));
    let (asked, actual) = (preflight().await, stage.ask("GET", "/", &[origin]).await);
    assert_eq!(asked.header("access-control-allow-origin"), "https://a.test");
    assert_eq!(asked.header("access-control-max-age"), "5");
    for promise in promises {
        let name = format!("access-control-{promise}");
        assert_eq!((asked.header(&name), actual.header(&name)), ("", ""), "{name}");
    }
    // What is for all is said as such, unless credentials come along: then a browser takes no wildcard.
    for (credentials, origin, methods, headers, exposed) in
        [(false, "*", "*", "*", "*"), (true, "https://a.test", "PUT", "x-token", "")]
    {
        route(
            &json!({ "allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"], "exposeHeaders": ["*"],
            "allowCredentials": credentials }),
        );
        let (asked, actual) =
            (preflight().await, stage.ask("GET", "/", &[("origin", "https://a.test")]).await);
        assert_eq!(asked.header("access-control-allow-origin"), origin);
        assert_eq!(asked.header("access-control-allow-methods"), methods);
        assert_eq!(asked.header("access-control-allow-headers"), headers);
        assert_eq!(actual.header("access-control-expose-headers"), exposed);
    }
}
