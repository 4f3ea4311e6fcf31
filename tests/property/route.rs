//! Routing: equal to a naive reference, and stable against what does not matter.

use std::collections::BTreeMap;

use http::Method;
use mesh::logic::duration;
use mesh::logic::http::fields::Fields;
use mesh::logic::request::Head;
use mesh::logic::route::table::RouteTable;
use mesh::model::grpc_route::{GrpcMethodMatch, GrpcRouteMatch, GrpcRouteRule, GrpcRouteSpec};
use mesh::model::resource::{Metadata, Object};
use mesh::model::route::{
    HeaderMatchKind, HttpHeaderMatch, HttpMethod, HttpPathMatch, HttpQueryParamMatch, HttpRouteMatch,
    HttpRouteRule, HttpRouteSpec, PathMatchKind,
};
use proptest::prelude::*;

pub(crate) fn metadata(name: &str, created: Option<u8>) -> Metadata {
    Metadata {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        labels: BTreeMap::default(),
        annotations: BTreeMap::default(),
        resource_version: None,
        generation: None,
        creation_timestamp: created.map(|second| format!("2026-01-01T00:00:{second:02}Z")),
    }
}

fn route(name: &str, created: Option<u8>, rules: Vec<HttpRouteRule>) -> Object<HttpRouteSpec> {
    let spec = HttpRouteSpec { parent_refs: vec![], hostnames: vec![], rules };
    Object::new(metadata(name, created), spec)
}

fn rule(matches: Vec<HttpRouteMatch>) -> HttpRouteRule {
    HttpRouteRule { matches, ..HttpRouteRule::default() }
}

fn path(kind: PathMatchKind, value: &str) -> HttpRouteMatch {
    HttpRouteMatch {
        path: Some(HttpPathMatch { kind, value: value.to_owned() }),
        ..HttpRouteMatch::default()
    }
}

fn header(name: &str, value: &str, kind: HeaderMatchKind) -> HttpHeaderMatch {
    HttpHeaderMatch { kind, name: name.to_owned(), value: value.to_owned() }
}

fn param(name: &str, value: &str, kind: HeaderMatchKind) -> HttpQueryParamMatch {
    HttpQueryParamMatch { kind, name: name.to_owned(), value: value.to_owned() }
}

/// Finds the label of the rule for a request; `target` is its path and query.
fn found(
    routes: &[Object<HttpRouteSpec>],
    method: &Method,
    target: &str,
    headers: &Fields,
) -> Option<String> {
    let table = RouteTable::new(routes);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let head = Head { method, path, query, authority: Some("web.test"), fields: headers };
    table.find(&head).map(|rule| rule.label.to_string())
}

fn get(routes: &[Object<HttpRouteSpec>], path: &str) -> Option<String> {
    found(routes, &Method::GET, path, &Fields::new())
}

#[test]
fn a_prefix_matches_whole_elements_only() {
    let routes = [route("r", None, vec![rule(vec![path(PathMatchKind::PathPrefix, "/abc/")])])];

    for hit in ["/abc", "/abc/", "/abc/def", "/abc//x"] {
        assert_eq!(get(&routes, hit).as_deref(), Some("r/0"), "{hit}");
    }
    for miss in ["/abcd", "/ab", "/", "", "*", "/x/abc", "/ABC"] {
        assert_eq!(get(&routes, miss), None, "{miss}");
    }
}

#[test]
fn the_root_prefix_and_a_rule_without_matches_take_everything() {
    for rules in [vec![rule(vec![path(PathMatchKind::PathPrefix, "/")])], vec![rule(vec![])], vec![]] {
        let routes = [route("r", None, rules)];
        for any in ["/", "/a/b", "", "*"] {
            assert_eq!(get(&routes, any).as_deref(), Some("r/0"), "{any}");
        }
    }
}

#[test]
fn precedence_is_that_of_the_specification() {
    use PathMatchKind::{Exact, PathPrefix, RegularExpression};
    let with_method = HttpRouteMatch { method: Some(HttpMethod::Get), ..path(PathPrefix, "/a/b") };
    let two = vec![header("x", "1", HeaderMatchKind::Exact), header("y", "2", HeaderMatchKind::Exact)];
    let two_headers = HttpRouteMatch { headers: two, ..path(PathPrefix, "/a/b") };
    let one_header =
        HttpRouteMatch { headers: two_headers.headers[..1].to_vec(), ..path(PathPrefix, "/a/b") };
    let params = vec![param("p", "1", HeaderMatchKind::Exact), param("q", "2", HeaderMatchKind::Exact)];
    let two_params = HttpRouteMatch { query_params: params, ..path(PathPrefix, "/a/b") };
    let one_param =
        HttpRouteMatch { query_params: two_params.query_params[..1].to_vec(), ..path(PathPrefix, "/a/b") };
    // Best first; rotated so that the order of the manifest never helps.
    let mut order = vec![
        ("exact", path(Exact, "/a/b")),
        ("regex", path(RegularExpression, "/a/.*")),
        ("method", with_method),
        ("two-headers", two_headers),
        ("one-header", one_header),
        ("two-params", two_params),
        ("one-param", one_param),
        ("long-prefix", path(PathPrefix, "/a/b")),
        ("short-prefix", path(PathPrefix, "/a")),
        ("any", HttpRouteMatch::default()),
    ];
    let mut headers = Fields::new();
    headers.set("x", b"1");
    headers.set("y", b"2");

    while let Some((best, _)) = order.first().cloned() {
        let rules = order.iter().rev().map(|(name, wanted)| HttpRouteRule {
            name: Some((*name).to_owned()),
            ..rule(vec![wanted.clone()])
        });
        let routes = [route("r", None, rules.collect())];
        assert_eq!(found(&routes, &Method::GET, "/a/b?q=2&p=1", &headers), Some(format!("r/{best}")));
        order.remove(0);
    }
}

#[test]
fn ties_go_to_the_oldest_route_then_to_its_name_then_to_the_first_rule() {
    let any = || vec![rule(vec![]), rule(vec![])];
    let routes = [route("c", Some(9), any()), route("b", Some(9), any()), route("a", None, any())];

    assert_eq!(get(&routes, "/").as_deref(), Some("b/0"));
    assert_eq!(get(&routes[..1], "/").as_deref(), Some("c/0"));
    assert_eq!(get(&[routes[2].clone(), route("z", Some(30), any())], "/").as_deref(), Some("z/0"));
}

#[test]
fn header_names_have_no_case_and_repeated_fields_are_joined() {
    let of = |name, value, kind| {
        let wanted = HttpRouteMatch { headers: vec![header(name, value, kind)], ..HttpRouteMatch::default() };
        [route("r", None, vec![rule(vec![wanted])])]
    };
    let mut headers = Fields::new();
    headers.append(b"x-flag", b"a");
    let hit = |routes: &[_], headers: &Fields| found(routes, &Method::GET, "/", headers).is_some();

    assert!(hit(&of("X-Flag", "a", HeaderMatchKind::Exact), &headers));
    assert!(!hit(&of("X-Flag", "A", HeaderMatchKind::Exact), &headers));
    assert!(hit(&of("x-flag", "[a-c]", HeaderMatchKind::RegularExpression), &headers));
    headers.append(b"x-flag", b"b");
    assert!(!hit(&of("x-flag", "a", HeaderMatchKind::Exact), &headers));
    assert!(hit(&of("x-flag", "a,b", HeaderMatchKind::Exact), &headers));
    assert!(!hit(&of("x-flag", "[a-c]", HeaderMatchKind::RegularExpression), &headers));
    assert!(!hit(&of("x-none", ".*", HeaderMatchKind::RegularExpression), &headers));
}

#[test]
fn query_parameters_are_compared_decoded_and_the_first_value_counts() {
    let of = |name: &str, value: &str, kind| {
        let wanted =
            HttpRouteMatch { query_params: vec![param(name, value, kind)], ..HttpRouteMatch::default() };
        [route("r", None, vec![rule(vec![wanted])])]
    };
    let exact = of("animal", "blue whale", HeaderMatchKind::Exact);

    for hit in ["/?animal=blue+whale", "/?animal=blue%20whale&animal=x", "/?x&anim%61l=blue%20whal%65"] {
        assert!(get(&exact, hit).is_some(), "{hit}");
    }
    for miss in
        ["/", "/?", "/?animal", "/?animal=x&animal=blue+whale", "/?ANIMAL=blue+whale", "/?animal=Blue+whale"]
    {
        assert!(get(&exact, miss).is_none(), "{miss}");
    }
    let pattern = of("n", "[0-9]+", HeaderMatchKind::RegularExpression);
    assert!(get(&pattern, "/?n=12").is_some());
    assert!(get(&pattern, "/?n=12a").is_none());
    assert!(get(&of("a", "100%", HeaderMatchKind::Exact), "/?a=100%").is_some());
}

#[test]
fn a_condition_on_host_is_about_the_authority() {
    let of = |value| {
        let headers = vec![header("Host", value, HeaderMatchKind::Exact)];
        [route("r", None, vec![rule(vec![HttpRouteMatch { headers, ..HttpRouteMatch::default() }])])]
    };

    assert!(get(&of("web.test"), "/").is_some());
    assert!(get(&of("other.test"), "/").is_none());
}

#[test]
fn a_search_does_not_grow_with_the_number_of_routes() {
    let table = |count: usize| {
        let rules = |index: usize| {
            vec![
                rule(vec![path(PathMatchKind::Exact, &format!("/exact/{index}"))]),
                rule(vec![path(PathMatchKind::PathPrefix, &format!("/prefix/{index}/deep"))]),
            ]
        };
        let routes: Vec<_> =
            (0..count).map(|index| route(&format!("r{index}"), None, rules(index))).collect();
        RouteTable::new(&routes)
    };
    let fields = Fields::new();
    let find = |table: &RouteTable, path: &str| {
        let head = Head { method: &Method::GET, path, query: None, authority: None, fields: &fields };
        table.find(&head).map(|rule| rule.label.to_string())
    };
    let time = |table: &RouteTable, last: usize| {
        let began = mesh::net::clock::now();
        for _ in 0..200 {
            assert!(find(table, &format!("/exact/{last}")).is_some());
            assert!(find(table, &format!("/prefix/{last}/deep/down")).is_some());
            assert!(find(table, "/nowhere/at/all").is_none());
        }
        mesh::net::clock::now() - began
    };
    let (small, large) = (table(10), table(2_000));

    let best = |table: &RouteTable, last: usize| (0..5).map(|_| time(table, last)).min().unwrap();
    let (few, many) = (best(&small, 9), best(&large, 1_999));

    // Asking one after the other would take two hundred times as long.
    assert!(many < few * 20, "{few:?} for 10 routes, {many:?} for 2,000");
}

#[test]
fn durations_are_those_of_gep_2257() {
    let millis = |text| duration::parse(text).map(|parsed| parsed.as_millis());

    assert_eq!(millis("1h30m"), Some(5_400_000));
    assert_eq!(millis("1m2s3ms"), Some(62_003));
    assert_eq!(millis("0s"), Some(0));
    assert_eq!(millis("99999h"), Some(359_996_400_000));
    for wrong in ["", "1", "s", "1.5s", "-1s", "1 s", "100000s", "1s1s1s1s1s", "1us", "1d", "1S", "+1s", "١s"]
    {
        assert_eq!(millis(wrong), None, "{wrong}");
    }
}

fn any_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "ab"], 0..3).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_match() -> impl Strategy<Value = HttpRouteMatch> {
    let kinds = prop_oneof![
        Just(PathMatchKind::Exact),
        Just(PathMatchKind::PathPrefix),
        Just(PathMatchKind::RegularExpression)
    ];
    let paths =
        proptest::option::of((kinds, any_path()).prop_map(|(kind, value)| HttpPathMatch { kind, value }));
    let methods = proptest::option::of(prop_oneof![Just(HttpMethod::Get), Just(HttpMethod::Post)]);
    let headers = proptest::collection::btree_map("[xy]", "[12]", 0..3).prop_map(|headers| {
        headers.iter().map(|(name, value)| header(name, value, HeaderMatchKind::Exact)).collect()
    });
    let params = proptest::collection::btree_map("[pq]", "[12]", 0..3).prop_map(|params| {
        params.iter().map(|(name, value)| param(name, value, HeaderMatchKind::Exact)).collect()
    });
    (paths, headers, params, methods).prop_map(|(path, headers, query_params, method)| HttpRouteMatch {
        path,
        headers,
        query_params,
        method,
    })
}

fn any_routes() -> impl Strategy<Value = Vec<Object<HttpRouteSpec>>> {
    let rules = proptest::collection::vec(proptest::collection::vec(any_match(), 0..3).prop_map(rule), 1..4);
    proptest::collection::btree_map("[a-d]", (proptest::option::of(0u8..3), rules), 1..4).prop_map(|routes| {
        routes.into_iter().map(|(name, (created, rules))| route(&name, created, rules)).collect()
    })
}

fn any_request() -> impl Strategy<Value = (Method, String, Fields)> {
    let headers = proptest::collection::btree_map("[xy]", "[12]", 0..3).prop_map(|headers| {
        let mut fields = Fields::new();
        for (name, value) in &headers {
            fields.append(name.as_bytes(), value.as_bytes());
        }
        fields
    });
    let params = proptest::collection::vec(("[pq]", "[12]"), 0..4).prop_map(|params| {
        params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    });
    let target = (any_path(), params).prop_map(|(path, query)| format!("{path}?{query}"));
    (prop_oneof![Just(Method::GET), Just(Method::POST)], target, headers)
}

/// The specification, word by word: every match that applies, then the best by each criterion in turn.
fn reference(routes: &[Object<HttpRouteSpec>], request: &(Method, String, Fields)) -> Option<String> {
    let (method, target, headers) = request;
    let (path, query) = target.split_once('?').unwrap();
    let applies = |wanted: &HttpRouteMatch| {
        let elements = |text: &str| -> Vec<String> {
            text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let path = wanted.path.as_ref().is_none_or(|wanted| match wanted.kind {
            PathMatchKind::PathPrefix => elements(path).starts_with(&elements(&wanted.value)),
            PathMatchKind::Exact | PathMatchKind::RegularExpression => wanted.value == path,
        });
        let header = |wanted: &HttpHeaderMatch| {
            headers.get(&wanted.name).is_some_and(|value| value == wanted.value.as_bytes())
        };
        let param = |wanted: &HttpQueryParamMatch| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == wanted.name).is_some_and(|(_, value)| value == wanted.value)
        };
        path && wanted.headers.iter().all(header)
            && wanted.query_params.iter().all(param)
            && wanted.method.is_none_or(|wanted| format!("{wanted:?}").eq_ignore_ascii_case(method.as_str()))
    };
    let rank = |wanted: &HttpRouteMatch| {
        let path = wanted.path.as_ref().map_or((0, 0), |path| match path.kind {
            PathMatchKind::Exact => (2, 0),
            PathMatchKind::RegularExpression => (1, path.value.len()),
            PathMatchKind::PathPrefix => (0, path.value.trim_end_matches('/').len()),
        });
        (path, wanted.method.is_some(), wanted.headers.len(), wanted.query_params.len())
    };
    let mut hits = Vec::new();
    for route in routes {
        for (index, rule) in route.spec.rules.iter().enumerate() {
            let any = [HttpRouteMatch::default()];
            let matches = if rule.matches.is_empty() { &any[..] } else { &rule.matches };
            for wanted in matches.iter().filter(|wanted| applies(wanted)) {
                let created = route.metadata.creation_timestamp.clone();
                let tie = (created.is_none(), created, route.metadata.name.clone(), index);
                hits.push((std::cmp::Reverse(rank(wanted)), tie, format!("{}/{index}", route.metadata.name)));
            }
        }
    }
    hits.into_iter().min().map(|(_, _, label)| label)
}

fn any_grpc_routes() -> impl Strategy<Value = Vec<Object<GrpcRouteSpec>>> {
    let part = || proptest::option::of(prop_oneof!["[ab]", "[ab]{2}"]);
    let wanted = (part(), part(), any::<bool>(), proptest::collection::btree_map("[xy]", "[12]", 0..2));
    let wanted = wanted.prop_map(|(service, method, regex, headers)| GrpcRouteMatch {
        method: Some(GrpcMethodMatch {
            kind: if regex { HeaderMatchKind::RegularExpression } else { HeaderMatchKind::Exact },
            service,
            method,
        }),
        headers: headers.iter().map(|(name, value)| header(name, value, HeaderMatchKind::Exact)).collect(),
    });
    let rule = proptest::collection::vec(wanted, 0..3)
        .prop_map(|matches| GrpcRouteRule { matches, ..GrpcRouteRule::default() });
    let rules = proptest::collection::vec(rule, 1..4);
    proptest::collection::btree_map("[a-d]", (proptest::option::of(0u8..3), rules), 1..4).prop_map(|routes| {
        let made = routes.into_iter().map(|(name, (created, rules))| {
            Object::new(
                metadata(&name, created),
                GrpcRouteSpec { parent_refs: vec![], hostnames: vec![], rules },
            )
        });
        made.collect()
    })
}

/// The specification of `GRPCRoute`, word by word. The expressions here match nothing but themselves.
fn grpc_reference(
    routes: &[Object<GrpcRouteSpec>],
    (service, method): (&str, &str),
    headers: &Fields,
) -> Option<String> {
    let mut hits = Vec::new();
    for route in routes {
        for (index, rule) in route.spec.rules.iter().enumerate() {
            let any = [GrpcRouteMatch::default()];
            let matches = if rule.matches.is_empty() { &any[..] } else { &rule.matches };
            for wanted in matches {
                let call = wanted.method.clone().unwrap_or_default();
                let fits =
                    |wanted: &Option<String>, said: &str| wanted.as_ref().is_none_or(|text| text == said);
                let fields = wanted.headers.iter().all(|header| {
                    headers.get(&header.name).is_some_and(|value| value == header.value.as_bytes())
                });
                if !(fits(&call.service, service) && fits(&call.method, method) && fields) {
                    continue;
                }
                let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                let rank = (length(&call.service), length(&call.method), wanted.headers.len());
                let created = route.metadata.creation_timestamp.clone();
                let tie = (created.is_none(), created, route.metadata.name.clone(), index);
                hits.push((std::cmp::Reverse(rank), tie, format!("{}/{index}", route.metadata.name)));
            }
        }
    }
    hits.into_iter().min().map(|(_, _, label)| label)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn calls_of_grpc_find_what_a_naive_reference_finds(
        routes in any_grpc_routes(),
        (service, method) in (prop_oneof!["[ab]", "[ab]{2}"], prop_oneof!["[ab]", "[ab]{2}"]),
        (_, _, headers) in any_request(),
    ) {
        let path = format!("/{service}/{method}");
        let head = Head { method: &Method::POST, path: &path, query: None, authority: None, fields: &headers };
        let found = RouteTable::new(&routes).find(&head).map(|rule| rule.label.to_string());
        prop_assert_eq!(found, grpc_reference(&routes, (&service, &method), &headers));
    }

    #[test]
    fn the_table_finds_what_a_naive_reference_finds(routes in any_routes(), request in any_request()) {
        let (method, path, headers) = &request;
        prop_assert_eq!(found(&routes, method, path, headers), reference(&routes, &request));
    }

    #[test]
    fn the_order_in_which_routes_come_does_not_matter(
        routes in any_routes().prop_flat_map(|routes| (Just(routes.clone()), Just(routes).prop_shuffle())),
        (method, path, headers) in any_request(),
    ) {
        let (one, other) = routes;
        prop_assert_eq!(found(&one, &method, &path, &headers), found(&other, &method, &path, &headers));
    }

    #[test]
    fn a_rule_that_does_not_match_changes_nothing(
        routes in any_routes(),
        (method, request, headers) in any_request(),
        kind in prop_oneof![Just(PathMatchKind::Exact), Just(PathMatchKind::PathPrefix)],
    ) {
        let before = found(&routes, &method, &request, &headers);
        let mut more = routes;
        more.push(route("0", Some(0), vec![rule(vec![path(kind, "/elsewhere")])]));
        prop_assert_eq!(found(&more, &method, &request, &headers), before);
    }

    #[test]
    fn durations_never_panic(text in ".{0,24}") {
        let _ = duration::parse(&text);
    }
}
