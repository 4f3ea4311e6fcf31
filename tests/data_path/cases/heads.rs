//! What of a head goes on, and as what.

use ::mesh::logic::http::trace;

use crate::data_path::cases::ask::{Ask, ask};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Heard, Speaks, serve};
use crate::data_path::cases::two::{Two, wanted, whole};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::{self, within};

// case 2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_a_connection_is_taken_off_both_ways() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send(
            "GET / HTTP/1.1\r\nHost: web\r\nConnection: X-Foo, keep-alive, x-bar\r\nX-FOO: 1\r\nX-Bar: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nHTTP2-Settings: AA\r\nTE: gzip\r\nX-Kept: 1\r\n\r\n",
        )
        .await;
        let mut app = service.accept().await;
        let request = app.request().await;
        app.send(
            "HTTP/1.1 200 OK\r\nConnection: x-foo, close\r\nConnection: x-Bar\r\nX-Foo: 1\r\nX-Bar: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        let answer = wire.response().await;

        assert_eq!(request.names(), ["host", "x-kept"]);
        assert_eq!(answer.names(), ["x-kept", "content-length"]);
        // The service's wish to close is between it and its proxy.
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        service.accept().await.request().await;
    }
}

// case 2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_a_connection_of_http1_never_reaches_a_service_of_http2() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::Two, Answer { length: true, ..Answer::ok(&["ok"]) }).await;
        let scene = Scene::new(layout, app, "h2c");
        let mut wire = Wire::to(scene.outbound()).await;
        for (te, kept) in [("trailers", vec!["te", "x-kept"]), ("gzip, trailers;q=0.5", vec!["x-kept"])] {
            wire.send(format!(
                "GET / HTTP/1.1\r\nHost: web\r\nConnection: X-Foo, TE, keep-alive\r\nConnection: x-bar,, X-Baz \r\n\
                 X-FOO: 1\r\nX-Bar: 1\r\nx-baz: 1\r\nx-Foo: 2\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nTE: {te}\r\nX-Kept: 1\r\n\r\n"
            ))
            .await;
            let answer = wire.response().await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
            assert_eq!(answer.names(), ["content-length"]);
            let mut names: Vec<_> =
                heard.recv().await.unwrap().fields.into_iter().map(|(name, _)| name).collect();
            names.sort();
            assert_eq!(names, kept, "{te}");
        }
        // What delimits the body is not a field that could be named away, or the service would wait for ever.
        wire.send("POST / HTTP/1.1\r\nHost: web\r\nConnection: content-length, host, transfer-encoding\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        assert_eq!(wire.response().await.text(), "ok");
        let request = heard.recv().await.unwrap();
        assert_eq!((request.authority.as_str(), request.body.as_str()), ("web", "body"));
    }
}

// case 2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_a_connection_of_http1_never_reaches_a_caller_of_http2() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut two = Two::to(scene.outbound()).await;
        let mut request = wanted("GET", "/");
        for (name, value) in [("te", "trailers"), ("x-kept", "1"), ("x-foo", "1")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let mut response = two.get(request).await;
        let mut app = service.accept().await;
        let request = app.request().await;
        app.send(
            "HTTP/1.1 103 Early Hints\r\nConnection: x-foo\r\nX-Foo: 1\r\nX-Kept: 1\r\n\r\n\
             HTTP/1.1 200 OK\r\nConnection: x-foo, close\r\nConnection: x-Bar\r\nX-Foo: 1\r\nx-foo: 2\r\n\
             X-Bar: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\
             Trailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
        )
        .await;
        let hint = std::future::poll_fn(|cx| response.poll_informational(cx));
        let hint = within(hint).await.unwrap().unwrap();
        let mut answer = within(response).await.unwrap();
        let (body, trailers) = whole(answer.body_mut()).await.unwrap();

        // A connection of HTTP/1 is told of trailers in its own way.
        let named = |name: &&str| !["connection", "te"].contains(name);
        let names = request.names();
        assert_eq!(
            names.iter().map(String::as_str).filter(named).collect::<Vec<_>>(),
            ["host", "x-kept", "x-foo"]
        );
        assert_eq!(request.field("te"), "trailers");
        let names = |fields: &http::HeaderMap| {
            let mut names: Vec<_> = fields.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(hint.headers()), ["x-kept"]);
        assert_eq!(names(answer.headers()), ["trailer", "x-kept"]);
        assert_eq!((body.as_slice(), names(&trailers)), (&b"ok"[..], vec!["x-sum".to_owned()]));
    }
}

// case 19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_keep_their_case_and_fields_their_order() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\nX-MiXed-CASE: One\r\nlower: two\r\nUPPER: Three\r\nX-mixed-case: four\r\n\r\n")
            .await;
        let mut app = service.accept().await;
        let request = app.request().await;
        app.send("HTTP/1.1 200 OK\r\nETag: \"a\"\r\nWWW-Authenticate: Basic\r\netag: \"b\"\r\nContent-Length: 0\r\n\r\n").await;
        let answer = wire.response().await;

        let lines: Vec<_> = request.head.lines().skip(2).collect();
        assert_eq!(lines, ["X-MiXed-CASE: One", "lower: two", "UPPER: Three", "X-mixed-case: four", ""]);
        let lines: Vec<_> = answer.head.lines().skip(1).take(3).collect();
        assert_eq!(lines, ["ETag: \"a\"", "WWW-Authenticate: Basic", "etag: \"b\""]);
    }
}

// case 20
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_fields_stay_apart_and_in_order() {
    const FIELDS: &[(&str, &str)] = &[
        ("set-cookie", "a=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT"),
        ("set-cookie", "b=2"),
        ("set-cookie", "a=3"),
        ("vary", "x"),
        ("vary", "y"),
    ];
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let (app, mut heard) = serve(service, Answer { fields: FIELDS, ..Answer::ok(&[]) }).await;
            let scene = Scene::new(layout, app, service.protocol());
            let fields = [("x-tag", "1"), ("x-tag", "2"), ("accept", "a"), ("x-tag", "1")];
            let told = ask(
                caller,
                scene.outbound(),
                Ask { method: "GET", path: "/", fields: &fields, ..Ask::default() },
            )
            .await;
            let request = heard.recv().await.unwrap();

            let of = |fields: &[(String, String)], name: &str| -> Vec<String> {
                fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
            };
            let cookies: Vec<_> = FIELDS[..3].iter().map(|(_, value)| (*value).to_owned()).collect();
            assert_eq!(of(&told.fields, "set-cookie"), cookies, "{caller:?} to {service:?}");
            assert_eq!(of(&told.fields, "vary"), ["x", "y"], "{caller:?} to {service:?}");
            assert_eq!(of(&request.fields, "x-tag"), ["1", "2", "1"], "{caller:?} to {service:?}");
        }
    }
}

// case 20
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cookies_are_no_reason_to_fail() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        let cookies: String = (0..200).map(|count| format!("Set-Cookie: c{count}={count}\r\n")).collect();
        app.send(format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 0\r\n\r\n")).await;
        let answer = wire.response().await;

        let wanted: Vec<String> = (0..200).map(|count| format!("c{count}={count}")).collect();
        assert_eq!(answer.exactly("Set-Cookie"), wanted);
    }
}

// cases 21, 88
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_added_and_nothing_of_the_caller_is_changed() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        let mut wire = Wire::to(scene.outbound()).await;
        let fields = "under_score: 1\r\nX-Forwarded-For: 192.0.2.7\r\nVia: 1.0 old\r\nDate: then\r\n\
                      Accept-Encoding: gzip\r\nUser-Agent: me\r\nTracestate: a=1\r\nMax-Forwards: 3\r\n\r\n";
        wire.send(format!("GET /a%2Fb/../c?q=%20&&= HTTP/1.1\r\nhost: web\r\n{fields}")).await;
        let mut app = service.accept().await;
        let request = app.request().await;
        let response =
            "Server: mine\r\nDate: long ago\r\nVia: 1.1 cache\r\nunder_score: 2\r\ncontent-length: 0\r\n\r\n";
        app.send(format!("HTTP/1.1 200 OK\r\n{response}")).await;
        let answer = wire.response().await;

        assert_eq!(request.head, format!("GET /a%2Fb/../c?q=%20&&= HTTP/1.1\r\nhost: web\r\n{fields}"));
        assert_eq!(answer.head, format!("HTTP/1.1 200 OK\r\n{response}"));
    }
}

// case 72
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_a_proxy_says_what_only_proxies_say() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let said = Answer { fields: &[("mesh-failure", "UF"), ("x-mine", "1")], ..Answer::ok(&[]) };
            let (app, mut heard) = serve(service, said).await;
            let scene = Scene::new(layout, app, service.protocol());
            let fields =
                [("mesh-attempt", "9"), ("Mesh-Source", "me"), ("x-mine", "1")].map(|(name, value)| {
                    // HTTP/2 has no capitals.
                    (if caller == Speaks::Two && name == "Mesh-Source" { "mesh-source" } else { name }, value)
                });
            let told = ask(
                caller,
                scene.outbound(),
                Ask { method: "GET", path: "/", fields: &fields, ..Ask::default() },
            )
            .await;
            let request = heard.recv().await.unwrap();

            assert_eq!((told.status, told.field("mesh-failure"), told.field("x-mine")), (200, "", "1"));
            // The number of an attempt is handed on, as trace headers are.
            let internal = |name: &str| name.starts_with("mesh-") && name != "mesh-attempt";
            assert!(!request.fields.iter().any(|(name, _)| internal(&name.to_lowercase())), "{request:?}");
            assert_eq!(request.field("mesh-attempt"), "9");
            assert_eq!(request.field("x-mine"), "1");
        }
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const B3_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";

/// The fields of traces, in the words of each kind, which are of the applications and pass; and the trace that they tell of.
const TRACES: [(Fields, &str); 8] = [
    (&[], ""),
    (
        &[
            ("traceparent", PARENT),
            ("tracestate", "rojo=00f067aa0ba902b7"),
            ("tracestate", "congo=t61rcWkgMzE"),
            ("baggage", "userId=alice"),
        ],
        TRACE,
    ),
    (&[("traceparent", "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-follows")], TRACE),
    (&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90")], B3_TRACE),
    (&[("b3", "0"), ("tracestate", "=,;")], ""),
    (&[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1"), ("traceparent", PARENT)], TRACE),
    (
        &[
            ("x-b3-traceid", B3_TRACE),
            ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
            ("x-b3-sampled", "1"),
            ("x-b3-flags", "1"),
        ],
        B3_TRACE,
    ),
    (&[("x-b3-traceid", "none")], ""),
];

/// Fields with a `traceparent` that is none.
const NO_TRACES: [Fields; 5] = [
    &[("traceparent", "00-00000000000000000000000000000000-0000000000000000-00"), ("tracestate", "a=1")],
    &[("tracestate", "a=1"), ("traceparent", "x"), ("x-mine", "1"), ("tracestate", "b=2")],
    &[("traceparent", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
    &[("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")],
    &[("traceparent", ""), ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")],
];

type Fields = &'static [(&'static str, &'static str)];

/// The fields of a request, but for where it goes to.
fn said(heard: &Heard) -> Vec<(&str, &str)> {
    let fields = heard.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    fields.filter(|(name, _)| !name.eq_ignore_ascii_case("host")).collect()
}

/// The traces in the access log, of the proxy that called and of the one that was called, in the order of the requests.
async fn logged_traces(scene: &Scene, requests: usize) -> [Vec<String>; 2] {
    let lines = mesh::until(|| Some(scene.lines()).filter(|lines| lines.len() >= 2 * requests)).await;
    ["outbound", "inbound"].map(|side| {
        let mut of_side: Vec<_> = lines.iter().filter(|line| line["side"] == side).collect();
        // Workers write one after the other.
        of_side.sort_by_key(|line| line["path"].as_str().unwrap().to_owned());
        let trace = |line: &&serde_json::Value| {
            assert!(line.get("traceId").is_none_or(serde_json::Value::is_string), "{line}");
            line["traceId"].as_str().unwrap_or_default().to_owned()
        };
        of_side.iter().map(trace).collect()
    })
}

// case 87
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_applications_say_of_traces_arrives_as_it_was_said_and_is_in_the_log() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            const BACK: Fields = &[("traceresponse", PARENT)];
            let (app, mut heard) = serve(service, Answer { fields: BACK, ..Answer::ok(&[]) }).await;
            let scene = Scene::logged(layout, app, service.protocol());
            for (number, (fields, _)) in TRACES.iter().enumerate() {
                let path = format!("/{number}");
                let asked = Ask { method: "GET", path: &path, fields, ..Ask::default() };
                let told = ask(caller, scene.outbound(), asked).await;

                let request = heard.recv().await.unwrap();
                assert_eq!(said(&request), *fields, "{caller:?} to {service:?}");
                assert_eq!(told.field("traceresponse"), PARENT, "{caller:?} to {service:?}");
            }
            let wanted = TRACES.map(|(_, trace)| trace);
            for logged in logged_traces(&scene, TRACES.len()).await {
                assert_eq!(logged, wanted, "{caller:?} to {service:?}");
            }
        }
    }
}

// case 87
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_is_none_begins_anew_and_both_proxies_know_it() {
    for layout in Layout::BOTH {
        for (caller, service) in Speaks::pairs() {
            let (app, mut heard) = serve(service, Answer::ok(&[])).await;
            let scene = Scene::logged(layout, app, service.protocol());
            let mut begun = Vec::new();
            for (number, fields) in NO_TRACES.iter().enumerate() {
                let path = format!("/{number}");
                let asked = Ask { method: "GET", path: &path, fields, ..Ask::default() };
                assert_eq!(ask(caller, scene.outbound(), asked).await.status, 200);

                let request = heard.recv().await.unwrap();
                let (parents, others): (Vec<_>, Vec<_>) =
                    said(&request).into_iter().partition(|(name, _)| *name == "traceparent");
                let kept = fields.iter().copied().filter(|(name, _)| !name.starts_with("trace"));
                assert_eq!(others, kept.collect::<Vec<_>>(), "{caller:?} to {service:?}");
                let [(_, parent)] = parents[..] else { panic!("{request:?}") };
                let id = trace::traceparent(parent.as_bytes()).unwrap_or_else(|_| panic!("{request:?}"));
                assert!(parent.starts_with("00-") && parent.ends_with("-00"), "{request:?}");
                begun.push(id.to_string());
            }
            for logged in logged_traces(&scene, NO_TRACES.len()).await {
                assert_eq!(logged, begun, "{caller:?} to {service:?}");
            }
            assert!(begun.iter().all(|id| id != TRACE && id != B3_TRACE), "{begun:?}");
            begun.sort();
            begun.dedup();
            assert_eq!(begun.len(), NO_TRACES.len(), "{begun:?}");
        }
    }
}

// cases 11, 92
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_says_where_a_request_goes_and_host_becomes_the_same() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for (line, host, target, authority) in [
            ("GET http://web.mesh/x?y HTTP/1.1", "Host: other\r\n", "/x?y", "web.mesh"),
            ("GET HTTP://web:8080 HTTP/1.1", "Host: \r\n", "/", "web:8080"),
            ("GET http://web?q HTTP/1.1", "Host: web\r\n", "/?q", "web"),
            ("GET http://web/ HTTP/1.1", "", "/", "web"),
            ("GET http://web/ HTTP/1.0", "", "/", "web"),
            ("OPTIONS http://web HTTP/1.1", "Host: web\r\n", "*", "web"),
            ("OPTIONS * HTTP/1.1", "Host: web\r\n", "*", "web"),
            ("OPTIONS / HTTP/1.1", "Host: WEB.mesh:80\r\n", "/", "WEB.mesh:80"),
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(format!("{line}\r\n{host}Connection: close\r\n\r\n")).await;
            let mut app = service.accept().await;
            let request = app.request().await;
            let method = line.split(' ').next().unwrap();
            assert_eq!(request.line(), format!("{method} {target} HTTP/1.1"), "{line:?}");
            assert_eq!(request.fields("host"), [authority], "{line:?}");
            app.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            assert_eq!(wire.response().await.status(), 200, "{line:?}");
        }
    }
}

// cases 10, 11, 43
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_or_host_that_says_nothing_clear_is_refused() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nHost: web\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web, other\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web/other\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: me@web\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web:\r\nHost: web\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web:65536\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web:80:80\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET http://me@web/x HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET https://web/x HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET ftp://web/x HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET test HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET web:80 HTTP/1.1\r\nHost: web\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: web\r\n\r\n",
            "CONNECT http://x HTTP/1.1\r\nHost: web\r\n\r\n",
            "CONNECT * HTTP/1.1\r\nHost: web\r\n\r\n",
            "CONNECT web HTTP/1.1\r\nHost: web\r\n\r\n",
            "CONNECT web:80 HTTP/1.0\r\nHost: web\r\n\r\n",
            "CONNECT web:80 HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello",
            "CONNECT web:80 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send(text).await;
            let answer = wire.response().await;
            assert_eq!(
                (answer.status(), answer.field("connection")),
                (400, "close"),
                "{text:?} was answered {answer:?}"
            );
            assert_eq!(wire.rest().await, (String::new(), Ending::Closed), "after {text:?}");
        }
        assert!(service.is_untouched());
    }
}

// cases 9, 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_a_service_needs_no_host() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer::ok(&["hello"])).await;
            let scene = Scene::new(layout, app, service.protocol());
            for version in ["1.0", "1.1"] {
                let mut wire = Wire::to(scene.port()).await;
                wire.send(format!("GET /x HTTP/{version}\r\nX-Mine: 1\r\nConnection: close\r\n\r\n")).await;
                let answer = wire.response().await;
                assert_eq!(
                    (answer.status(), answer.text().as_str()),
                    (200, "hello"),
                    "{version} to {service:?}: {answer:?}"
                );
                let request = heard.recv().await.unwrap();
                assert_eq!(
                    (request.target.as_str(), request.authority.as_str()),
                    ("/x", ""),
                    "{version}: {request:?}"
                );
            }
        }
    }
}

// case 11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_as_a_whole_can_be_asked_in_either_version() {
    for layout in Layout::BOTH {
        for service in Speaks::BOTH {
            let (app, mut heard) = serve(service, Answer::ok(&[])).await;
            let scene = Scene::new(layout, app, service.protocol());
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send("OPTIONS * HTTP/1.1\r\nHost: web\r\n\r\n").await;
            assert_eq!(wire.response().await.status(), 200, "{service:?}");
            let request = heard.recv().await.unwrap();
            assert_eq!((request.target.as_str(), request.authority.as_str()), ("*", "web"), "{service:?}");
        }
    }
}

// case 56
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_and_reasons_that_nobody_knows_pass() {
    for layout in Layout::BOTH {
        let mut service = Service::start().await;
        let scene = Scene::new(layout, service.addr, "http");
        for line in [
            "299 Strange",
            "418 I'm a teapot",
            "600 Beyond",
            "999 ",
            "200 Fine, th\u{e4}nks",
            "404 OK",
            "302 ",
        ] {
            let mut wire = Wire::to(scene.outbound()).await;
            wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
            let mut app = service.accept().await;
            app.request().await;
            app.send(format!("HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")).await;
            let answer = wire.response().await;
            assert_eq!((answer.line(), answer.text().as_str()), (format!("HTTP/1.1 {line}").as_str(), "x"));
        }
    }
}

// case 56
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_http2_get_any_status_too() {
    for layout in Layout::BOTH {
        for status in [299, 418, 600, 999] {
            let (app, _heard) = serve(Speaks::One, Answer { status, ..Answer::ok(&["x"]) }).await;
            let scene = Scene::new(layout, app, "http");
            let told =
                ask(Speaks::Two, scene.outbound(), Ask { method: "GET", path: "/", ..Ask::default() }).await;
            assert_eq!((told.status, told.text().as_str()), (status, "x"));
        }
    }
}
