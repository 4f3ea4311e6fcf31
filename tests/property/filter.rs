//! Filters: requests and responses come out as the manifest says.

use std::collections::BTreeMap;

use http::Method;
use mesh::logic::http::fields::Fields;
use mesh::logic::http::head::RequestHead;
use mesh::logic::route::filter::{Filters, Place};
use mesh::model::route_filter::{FilterKind, HeaderField, HeaderModifier, HttpRouteFilter};
use proptest::prelude::*;
use serde_json::{Value, json};

fn filters(wanted: &Value, prefix: Option<&str>) -> Filters {
    let wanted: Vec<HttpRouteFilter> = serde_json::from_value(wanted.clone()).unwrap();
    Filters::new(&wanted, Place { namespace: "default", label: "r/0", prefix })
}

fn changes(kind: FilterKind, modifier: HeaderModifier) -> Filters {
    let mut wanted = HttpRouteFilter::new(kind);
    match kind {
        FilterKind::RequestHeaderModifier => wanted.request_header_modifier = Some(modifier),
        _ => wanted.response_header_modifier = Some(modifier),
    }
    Filters::new(&[wanted], Place { namespace: "default", label: "r/0", prefix: None })
}

fn fields(fields: &BTreeMap<String, String>) -> Vec<HeaderField> {
    fields.iter().map(|(name, value)| HeaderField { name: name.clone(), value: value.clone() }).collect()
}

fn map(fields: &[(String, String)]) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    headers
}

fn head(method: Method, authority: &str, path: &str, fields: &[(&str, &str)]) -> RequestHead {
    let owned: Vec<_> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    RequestHead {
        method,
        path: path.to_owned(),
        authority: Some(authority.to_owned()),
        fields: map(&owned),
        ..RequestHead::default()
    }
}

fn values(headers: &Fields, name: &str) -> Vec<String> {
    headers.all(name).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

proptest! {
    #[test]
    fn set_replaces_add_appends_remove_removes(
        before in proptest::collection::vec(("[a-f]", "[0-9]{1,3}"), 0..8),
        set in proptest::collection::btree_map("[ab]", "[0-9]{1,3}", 0..3),
        add in proptest::collection::btree_map("[cd]", "[0-9]{1,3}", 0..3),
        remove in proptest::collection::btree_set("[e]", 0..2),
    ) {
        let original = map(&before);
        let mut changed = original.clone();
        let modifier =
            HeaderModifier { set: fields(&set), add: fields(&add), remove: remove.iter().cloned().collect() };
        let filters = changes(FilterKind::RequestHeaderModifier, modifier);
        filters.request.as_ref().unwrap().apply(&mut changed);

        for name in ["a", "b", "c", "d", "e", "f"] {
            let mut expected = values(&original, name);
            if let Some(value) = set.get(name) {
                expected = vec![value.clone()];
            }
            expected.extend(add.get(name).cloned());
            if remove.contains(name) {
                expected.clear();
            }
            prop_assert_eq!(values(&changed, name), expected, "{}", name);
        }
        let mut response = original.clone();
        filters.on_response(&mut response);
        prop_assert_eq!(response, original);
    }

    /// Elements instead of text: the prefix's go, the replacement's come, a final slash stays where something follows.
    #[test]
    fn a_prefix_is_replaced_element_by_element(
        prefix in proptest::collection::vec("[ab]", 0..3),
        by in proptest::collection::vec("[cd]", 0..3),
        rest in proptest::collection::vec("[ef]", 0..3),
        (prefix_slash, by_slash, rest_slash, query) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
    ) {
        let join = |parts: &[String]| parts.iter().map(|part| format!("/{part}")).collect::<String>();
        let slash = |on: bool| if on { "/" } else { "" };
        let wanted_prefix = format!("{}{}", join(&prefix), slash(prefix_slash || prefix.is_empty()));
        let replacement = format!("{}{}", join(&by), slash(by_slash));
        let tail = format!("{}{}", join(&rest), slash(rest_slash));
        let query = if query { "?x=/y" } else { "" };
        let asked = match format!("{}{tail}", join(&prefix)) {
            path if path.is_empty() => "/".to_owned(),
            path => path,
        };
        let wanted = json!([{"type": "URLRewrite", "urlRewrite": {
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}
        }}]);
        let mut request = head(Method::GET, "web", &format!("{asked}{query}"), &[]);
        filters(&wanted, Some(&wanted_prefix)).rewrite.unwrap().apply(&mut request);

        let after = if prefix.is_empty() { &asked } else { &tail };
        let expected = match format!("{}{after}", join(&by)) {
            path if path.is_empty() => "/".to_owned(),
            path => path,
        };
        prop_assert_eq!(request.path, format!("{expected}{query}"));
    }

    #[test]
    fn no_origin_makes_it_panic(origin in ".{0,24}", pattern in "(https?://)?[*.a-z:0-9\\[\\]]{0,12}") {
        let wanted = json!([{"type": "CORS", "cors": {"allowOrigins": [pattern]}}]);
        let mut asked = Fields::new();
        if mesh::logic::http::fields::is_value(origin.as_bytes()) {
            asked.append(b"origin", origin.as_bytes());
        }
        let _ = filters(&wanted, None).cors.unwrap().grant(&asked);
    }
}

#[test]
fn names_of_filters_have_no_case_and_the_first_of_equal_ones_counts() {
    let twice = vec![
        HeaderField { name: "X-Area".into(), value: "one".into() },
        HeaderField { name: "x-area".into(), value: "two".into() },
    ];
    let filters = changes(
        FilterKind::ResponseHeaderModifier,
        HeaderModifier { set: twice, ..HeaderModifier::default() },
    );
    let mut headers = map(&[("x-area".to_owned(), "zero".to_owned())]);

    filters.on_response(&mut headers);

    assert_eq!(values(&headers, "x-area"), ["one"]);
}

#[test]
fn the_table_of_the_specification_for_prefixes_holds() {
    let table = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
    ];
    for (path, prefix, by, expected) in table {
        let wanted = json!([{"type": "URLRewrite", "urlRewrite": {
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": by}
        }}]);
        let mut request = head(Method::GET, "web", path, &[]);
        filters(&wanted, Some(prefix)).rewrite.unwrap().apply(&mut request);
        assert_eq!(request.path, expected, "{path} {prefix} {by}");
    }
}

#[test]
fn a_redirection_leads_where_the_specification_says() {
    let cases = [
        (json!({}), "web:8080", "/a?b", (302, "http://web:8080/a?b")),
        (json!({"hostname": "example.org"}), "web", "/a?b", (302, "http://example.org/a?b")),
        (
            json!({"hostname": "example.org", "statusCode": 301}),
            "web:81",
            "/",
            (301, "http://example.org:81/"),
        ),
        (json!({"scheme": "https"}), "web:8080", "/", (302, "https://web/")),
        (json!({"scheme": "http"}), "web:8080", "/", (302, "http://web/")),
        (json!({"scheme": "https", "port": 8443}), "web", "/", (302, "https://web:8443/")),
        (json!({"scheme": "https", "port": 443}), "web", "/", (302, "https://web/")),
        (json!({"scheme": "https", "port": 80}), "web", "/", (302, "https://web:80/")),
        (json!({"port": 80}), "web:8080", "/", (302, "http://web/")),
        (json!({"port": 8083, "statusCode": 308}), "[::1]:80", "/", (308, "http://[::1]:8083/")),
        (
            json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}, "statusCode": 303}),
            "web",
            "/pre/a?b=c",
            (303, "http://web/new?b=c"),
        ),
        (
            json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}, "statusCode": 307}),
            "web",
            "/pre/a?b=c",
            (307, "http://web/new/a?b=c"),
        ),
    ];
    for (body, authority, path, (status, location)) in cases {
        let wanted = json!([{"type": "RequestRedirect", "requestRedirect": body}]);
        let request = head(Method::GET, authority, path, &[]);
        let answer = filters(&wanted, Some("/pre")).answer(&request, "web").unwrap();
        assert_eq!(
            (answer.status, values(&answer.fields, "location")),
            (status, vec![location.to_owned()]),
            "{body}"
        );
    }
}

fn granted(cors: &Value, origin: &str) -> Option<Vec<(String, String)>> {
    let made = filters(&json!([{"type": "CORS", "cors": cors}]), None).cors.unwrap();
    let asked = map(&[("Origin".to_owned(), origin.to_owned())]);
    let mut response = Fields::new();
    made.grant(&asked)?.apply(&mut response);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Some(response.iter().map(|(name, value)| (text(name), text(value))).collect())
}

#[test]
fn origins_are_allowed_by_scheme_host_and_port() {
    let of = |origins: &[&str]| json!({"allowOrigins": origins});
    let wide = of(&["https://*.bar.com", "http://localhost:3000", "https://www.foo.com"]);
    for origin in [
        "https://a.bar.com",
        "https://a.b.bar.com",
        "http://localhost:3000",
        "https://www.foo.com:443",
        "HTTPS://WWW.foo.com",
    ] {
        let said = granted(&wide, origin).unwrap();
        assert!(said.contains(&("access-control-allow-origin".to_owned(), origin.to_owned())), "{origin}");
        assert!(said.contains(&("vary".to_owned(), "Origin".to_owned())));
    }
    for origin in [
        "https://bar.com",
        "http://a.bar.com",
        "https://abar.com",
        "http://localhost",
        "https://www.foo.com:8443",
        "null",
        "https://*.bar.com",
    ] {
        assert_eq!(granted(&wide, origin), None, "{origin}");
    }
    assert!(granted(&of(&["https://*"]), "https://any.test").is_some());
    assert!(granted(&of(&["https://*"]), "http://any.test").is_none());
    assert_eq!(
        granted(&of(&["*"]), "null").unwrap(),
        [("access-control-allow-origin".to_owned(), "*".to_owned())]
    );
    assert_eq!(granted(&json!({}), "https://a.test"), None);
    let credentials =
        json!({"allowOrigins": ["*"], "allowCredentials": true, "exposeHeaders": ["*", "x-id"]});
    let said: BTreeMap<_, _> = granted(&credentials, "https://a.test").unwrap().into_iter().collect();
    assert_eq!(said["access-control-allow-origin"], "https://a.test");
    assert_eq!(said["access-control-allow-credentials"], "true");
    assert_eq!(said["access-control-expose-headers"], "x-id");
}

#[test]
fn preflight_requests_are_answered_and_no_others() {
    let cors = json!([{"type": "CORS", "cors": {
        "allowOrigins": ["https://a.test"], "allowMethods": ["PUT", "DELETE"], "allowHeaders": ["x-a", "x-b"], "maxAge": 600
    }}]);
    let made = filters(&cors, None);
    let asks = [("origin", "https://a.test"), ("access-control-request-method", "PUT")];

    let answer = made.answer(&head(Method::OPTIONS, "web", "/", &asks), "web").unwrap();
    assert_eq!(answer.status, 204);
    assert_eq!(values(&answer.fields, "access-control-allow-methods"), ["PUT, DELETE"]);
    assert_eq!(values(&answer.fields, "access-control-allow-headers"), ["x-a, x-b"]);
    assert_eq!(values(&answer.fields, "access-control-max-age"), ["600"]);
    let strange = [("origin", "https://b.test"), ("access-control-request-method", "PUT")];
    let answer = made.answer(&head(Method::OPTIONS, "web", "/", &strange), "web").unwrap();
    assert_eq!((answer.status, answer.fields.len()), (204, 0));
    assert!(made.answer(&head(Method::GET, "web", "/", &asks), "web").is_none());
    assert!(made.answer(&head(Method::OPTIONS, "web", "/", &asks[..1]), "web").is_none());

    let all = |credentials: bool| {
        let cors = json!([{"type": "CORS", "cors": {
            "allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"], "allowCredentials": credentials
        }}]);
        filters(&cors, None).answer(&head(Method::OPTIONS, "web", "/", &asks), "web").unwrap().fields
    };
    assert_eq!(values(&all(false), "access-control-allow-methods"), ["*"]);
    assert_eq!(values(&all(false), "access-control-allow-headers"), ["*"]);
    assert_eq!(values(&all(false), "access-control-max-age"), ["5"]);
    assert_eq!(values(&all(true), "access-control-allow-methods"), ["PUT"]);
    assert!(values(&all(true), "access-control-allow-headers").is_empty());
}

#[test]
fn copies_are_made_of_the_share_that_is_asked_for() {
    let of = |share: Value| {
        let mut body = json!({"backendRef": {"name": "audit"}});
        body.as_object_mut().unwrap().extend(share.as_object().unwrap().clone());
        let made = filters(&json!([{"type": "RequestMirror", "requestMirror": body}]), None);
        (0..1_000u64).filter(|step| made.mirrors[0].takes(step * (u64::MAX / 1_000))).count()
    };

    assert_eq!(of(json!({})), 1_000);
    assert_eq!(of(json!({"percent": 0})), 0);
    assert!(of(json!({"percent": 25})).abs_diff(250) <= 1);
    assert!(of(json!({"fraction": {"numerator": 1, "denominator": 8}})).abs_diff(125) <= 1);
    assert!(of(json!({"fraction": {"numerator": 50}})).abs_diff(500) <= 1);
}
