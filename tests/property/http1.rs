//! HTTP/1 heads: the cases where proxies have gone wrong, each with its answer.

use http::Method;
use mesh::logic::http::fields::Fields;
use mesh::logic::http::framing::Framing;
use mesh::logic::http::h1::lines::{FIELDS_MAX, HEAD_BYTES_MAX, RESPONSE_FIELDS_MAX};
use mesh::logic::http::h1::request::{self, Form, Limits, Request};
use mesh::logic::http::h1::response::{self, Response};
use mesh::logic::http::h1::write;
use mesh::logic::http::head::{ResponseHead, Version, usual_reason};

fn asked(text: &str) -> Request {
    let (request, len) = request::parse(text.as_bytes(), Limits::default()).unwrap().unwrap();
    assert_eq!(&text[len - 4..len], "\r\n\r\n");
    request
}

fn refused(text: &[u8]) -> u16 {
    request::parse(text, Limits::default())
        .expect_err(&text[..text.len().min(300)].escape_ascii().to_string())
        .status
}

fn answered(text: &str, method: &Method) -> Response {
    response::parse(text.as_bytes(), method).unwrap().unwrap().0
}

pub(crate) fn listed(fields: &Fields) -> String {
    fields.iter().map(|(name, value)| format!("{}={};", name.escape_ascii(), value.escape_ascii())).collect()
}

// --- requests -------------------------------------------------------------------------------------------------------

#[test]
fn requests_that_two_readers_could_read_differently_are_refused() {
    let lines = "Host: a\r\n";
    for (status, head) in [
        // Two framings, in any order, case and spacing.
        (400, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        (400, "transfer-encoding:chunked\r\ncontent-length:3\r\n"),
        (400, "TRANSFER-ENCODING: \t Chunked \t\r\nX: y\r\nContent-LENGTH: 0\r\n"),
        (400, "Content-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n"),
        // Lengths.
        (400, "Content-Length: 3\r\nContent-Length: 2\r\n"),
        (400, "Content-Length: abc\r\n"),
        (400, "Content-Length: -1\r\n"),
        (400, "Content-Length: +1\r\n"),
        (400, "Content-Length: 1.5\r\n"),
        (400, "Content-Length:\r\n"),
        (400, "Content-Length: 3,2\r\n"),
        (400, "Content-Length: 3,\r\n"),
        (400, "Content-Length: 0x3\r\n"),
        (400, "Content-Length: 3 3\r\n"),
        (400, "Content-Length: 18446744073709551616\r\n"),
        // Codings.
        (400, "Transfer-Encoding: chunked, gzip\r\n"),
        (400, "Transfer-Encoding: xchunked\r\n"),
        (400, "Transfer-Encoding: gzip\r\n"),
        (400, "Transfer-Encoding: identity\r\n"),
        (400, "Transfer-Encoding: chunked, chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        (400, "Transfer-Encoding:\r\n"),
        (400, "Transfer-Encoding: chunked,\r\n"),
        (400, "Transfer-Encoding: , chunked\r\n"),
        (400, "Transfer-Encoding: chunked;x=y\r\n"),
        (400, "Transfer-Encoding: \"chunked\"\r\n"),
        (501, "Transfer-Encoding: gzip, chunked\r\n"),
        (501, "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        // Lines.
        (400, "X: a\r\n b\r\n"),
        (400, " X: a\r\n"),
        (400, "X : a\r\n"),
        (400, "X\t: a\r\n"),
        (400, ": a\r\n"),
        (400, "no colon\r\n"),
        (400, "X: a\0b\r\n"),
        (400, "X: a\rb\r\n"),
        (400, "X: a\x7fb\r\n"),
        (400, "X: a\x0bb\r\n"),
        (400, "X\0: a\r\n"),
        (400, "X(: a\r\n"),
        (400, "X: a\n"),
        (400, "X: a\nY: b\r\n"),
        (400, "X:\n"),
        // Hosts.
        (400, "Host: a\r\n"),
        (400, "Host: b\r\n"),
        (417, "Content-Length: 1\r\nExpect: 200-ok\r\n"),
        (417, "Expect: 100-continue, x\r\n"),
    ] {
        let text = format!("POST / HTTP/1.1\r\n{lines}{head}\r\n");
        assert_eq!(refused(text.as_bytes()), status, "{}", head.escape_debug());
    }
    for host in ["a b", "a:x", "u@a", ":80", "a/b", "a:99999", "[::1", "a\u{e9}"] {
        assert_eq!(refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()), 400, "{host}");
    }
}

#[test]
fn request_lines_are_taken_to_the_letter() {
    for (status, line) in [
        (400, "GE(T / HTTP/1.1"),
        (400, "GET / HTTP/1.01"),
        (400, "GET / HTTP/1.1 "),
        (400, "GET  / HTTP/1.1"),
        (400, "GET /  HTTP/1.1"),
        (400, "GET\t/ HTTP/1.1"),
        (400, " GET / HTTP/1.1"),
        (400, "GET /"),
        (400, "GET HTTP/1.1"),
        (400, "/ HTTP/1.1"),
        (400, "GET / http/1.1"),
        (400, "GET / HTTP/a.b"),
        (400, "GET / HTTPS/1.1"),
        (400, "GET / HTTP/2"),
        (505, "GET / HTTP/2.0"),
        (505, "GET / HTTP/3.0"),
        (505, "GET / HTTP/1.2"),
        (505, "PRI * HTTP/2.0"),
        (400, "GET test HTTP/1.1"),
        (400, "GET * HTTP/1.1"),
        (400, "GET web:80 HTTP/1.1"),
        (400, "GET /a#b HTTP/1.1"),
        (400, "GET /\u{e9} HTTP/1.1"),
        (400, "GET /a\0 HTTP/1.1"),
        (400, "GET /a\x7f HTTP/1.1"),
        (400, "GET https://web/ HTTP/1.1"),
        (400, "GET ftp://web/ HTTP/1.1"),
        (400, "GET http:/web/ HTTP/1.1"),
        (400, "GET http:// HTTP/1.1"),
        (400, "GET http:///x HTTP/1.1"),
        (400, "GET http://u:p@web/ HTTP/1.1"),
        (400, "GET http://web:x/ HTTP/1.1"),
        (400, "GET //: HTTP/1.1\nX: y"),
        (400, "CONNECT / HTTP/1.1"),
        (400, "CONNECT * HTTP/1.1"),
        (400, "CONNECT web HTTP/1.1"),
        (400, "CONNECT web: HTTP/1.1"),
        (400, "CONNECT :80 HTTP/1.1"),
        (400, "CONNECT http://web HTTP/1.1"),
        (400, "CONNECT http://web:80 HTTP/1.1"),
        (400, "CONNECT web:80 HTTP/1.0"),
        (400, "CONNECT web:80 HTTP/1.1\r\nContent-Length: 1"),
        (400, "CONNECT web:80 HTTP/1.1\r\nTransfer-Encoding: chunked"),
        (400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked"),
    ] {
        let text = format!("{line}\r\nX-Last: 1\r\n\r\n");
        assert_eq!(refused(text.as_bytes()), status, "{}", line.escape_debug());
    }
    assert_eq!(refused(b"GET / HTTP/1.1\n\n"), 400);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nX: y\r\n\n"), 400);
    assert_eq!(refused(b"\nGET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refused(b"\rGET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refused("\r\n".repeat(9).as_bytes()), 400);
}

#[test]
fn heads_are_refused_when_they_grow_too_large_and_not_before() {
    let many = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(asked(&many(FIELDS_MAX)).head.fields.len(), FIELDS_MAX);
    assert_eq!(refused(many(FIELDS_MAX + 1).as_bytes()), 431);

    let sized = |size: usize| {
        let frame = "GET / HTTP/1.1\r\nx: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(size - frame))
    };
    assert_eq!(asked(&sized(HEAD_BYTES_MAX)).head.fields.bytes(), HEAD_BYTES_MAX - 22);
    assert_eq!(refused(sized(HEAD_BYTES_MAX + 1).as_bytes()), 431);
    let endless = sized(HEAD_BYTES_MAX + 100);
    assert_eq!(refused(&endless.as_bytes()[..HEAD_BYTES_MAX]), 431);
    assert_eq!(request::parse(&endless.as_bytes()[..HEAD_BYTES_MAX - 1], Limits::default()), Ok(None));

    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(70_000));
    assert_eq!(refused(target.as_bytes()), 414);
    assert_eq!(refused(&target.as_bytes()[..HEAD_BYTES_MAX]), 414);
    assert_eq!(request::parse(&target.as_bytes()[..HEAD_BYTES_MAX - 1], Limits::default()), Ok(None));
}

#[test]
fn targets_are_read_in_each_form() {
    for (line, form, authority, path) in [
        ("GET /a?b=%20c HTTP/1.1\r\nHost: web:80", Form::Origin, Some("web:80"), "/a?b=%20c"),
        ("GET //x HTTP/1.1\r\nHost: [::1]:80", Form::Origin, Some("[::1]:80"), "//x"),
        ("GET / HTTP/1.1", Form::Origin, None, "/"),
        ("GET / HTTP/1.1\r\nHost:", Form::Origin, None, "/"),
        ("GET / HTTP/1.0", Form::Origin, None, "/"),
        ("GET http://web/x?y HTTP/1.1\r\nHost: other", Form::Absolute, Some("web"), "/x?y"),
        ("GET HTTP://web:8080 HTTP/1.1\r\nHost: other", Form::Absolute, Some("web:8080"), "/"),
        ("GET http://web?y HTTP/1.1", Form::Absolute, Some("web"), "/?y"),
        ("OPTIONS http://web HTTP/1.1", Form::Absolute, Some("web"), "*"),
        ("OPTIONS * HTTP/1.1\r\nHost: web", Form::Asterisk, Some("web"), "*"),
        ("CONNECT web:443 HTTP/1.1\r\nHost: other", Form::Authority, Some("web:443"), ""),
        ("get /x HTTP/1.1\r\nhOST:web", Form::Origin, Some("web"), "/x"),
    ] {
        let request = asked(&format!("{line}\r\nX: y\r\n\r\nbody"));

        assert_eq!((request.form, request.head.authority.as_deref()), (form, authority), "{line}");
        assert_eq!(request.head.path, path, "{line}");
        assert_eq!(listed(&request.head.fields), "X=y;", "{line}");
    }
    assert_eq!(asked("get / HTTP/1.1\r\n\r\n").head.method.as_str(), "get");
    assert_eq!(asked("\r\n\r\nGET / HTTP/1.1\r\n\r\n").head.method, Method::GET);
}

#[test]
fn requests_say_how_they_end_and_whether_another_follows() {
    for (line, fields, framing, keep_alive) in [
        ("GET / HTTP/1.1", "", Framing::None, true),
        ("POST / HTTP/1.1", "Content-Length: 0\r\n", Framing::Length(0), true),
        ("POST / HTTP/1.1", "Content-Length: 3\r\ncontent-length: 3\r\n", Framing::Length(3), true),
        ("POST / HTTP/1.1", "Content-Length: 3, 3\r\n", Framing::Length(3), true),
        ("POST / HTTP/1.1", "Content-Length: 18446744073709551615\r\n", Framing::Length(u64::MAX), true),
        ("POST / HTTP/1.1", "Transfer-Encoding: Chunked\r\n", Framing::Chunked, true),
        ("GET / HTTP/1.1", "Connection: close\r\n", Framing::None, false),
        ("GET / HTTP/1.1", "Connection: keep-alive, CLOSE\r\n", Framing::None, false),
        ("GET / HTTP/1.1", "Connection: x\r\nConnection: Close\r\n", Framing::None, false),
        ("GET / HTTP/1.0", "", Framing::None, false),
        ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", Framing::None, true),
        ("GET / HTTP/1.0", "Connection: keep-alive, close\r\n", Framing::None, false),
        ("POST / HTTP/1.0", "Content-Length: 5\r\n", Framing::Length(5), false),
        ("CONNECT a:1 HTTP/1.1", "Content-Length: 0\r\n", Framing::None, true),
    ] {
        let request = asked(&format!("{line}\r\n{fields}\r\n"));

        assert_eq!((request.framing, request.keep_alive), (framing, keep_alive), "{line} {fields}");
        assert!(request.head.fields.is_empty(), "{line} {fields}");
    }
}

#[test]
fn requests_lose_what_belongs_to_the_connection() {
    let request = asked(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Foo, te\r\nX-Foo: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n\
         TE: trailers, gzip\r\nX_Bar: 2\r\nCookie: a\r\ncookie: b\r\nTrailer: T\r\nx-foo: 3\r\n\r\n",
    );

    assert_eq!(listed(&request.head.fields), "TE=trailers;X_Bar=2;Cookie=a;cookie=b;Trailer=T;");
    assert!(request.keep_alive);
}

#[test]
fn a_change_of_protocol_is_wished_by_two_fields() {
    for (version, fields, protocol) in [
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        ("1.1", "Connection: keep-alive, upgrade\r\nUPGRADE: a/1, b\r\n", Some("a/1, b")),
        ("1.1", "Upgrade: websocket\r\n", None),
        ("1.1", "Connection: Upgrade\r\n", None),
        ("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", None),
        ("1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", None),
        ("1.1", "Connection: Upgrade\r\nUpgrade: H2C, websocket\r\n", Some("websocket")),
    ] {
        let request = asked(&format!("GET / HTTP/{version}\r\n{fields}\r\n"));

        assert_eq!(request.head.protocol.as_deref(), protocol, "{fields}");
        assert!(request.head.fields.is_empty(), "{fields}");
    }
}

#[test]
fn the_go_ahead_is_waited_for_when_a_body_follows() {
    for (version, fields, expects, kept) in [
        ("1.1", "Content-Length: 3\r\nExpect: 100-Continue\r\n", true, "Expect=100-Continue;"),
        ("1.1", "Transfer-Encoding: chunked\r\nexpect: 100-continue\r\n", true, "expect=100-continue;"),
        ("1.1", "Content-Length: 0\r\nExpect: 100-continue\r\n", false, ""),
        ("1.1", "Expect: 100-continue\r\n", false, ""),
        ("1.0", "Content-Length: 3\r\nExpect: 100-continue\r\n", false, ""),
    ] {
        let request = asked(&format!("PUT / HTTP/{version}\r\n{fields}\r\n"));

        assert_eq!(request.expects_continue, expects, "{fields}");
        assert_eq!(listed(&request.head.fields), kept, "{fields}");
    }
}

// --- responses ------------------------------------------------------------------------------------------------------

#[test]
fn responses_that_two_readers_could_read_differently_are_malformed() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "garbage",
    ] {
        assert!(response::parse(text.as_bytes(), &Method::GET).is_err(), "{}", text.escape_debug());
    }
    let many = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "Set-Cookie: a=b\r\n".repeat(count));
    assert_eq!(
        answered(&many(RESPONSE_FIELDS_MAX), &Method::GET).head.fields.all("set-cookie").count(),
        RESPONSE_FIELDS_MAX
    );
    assert!(response::parse(many(RESPONSE_FIELDS_MAX + 1).as_bytes(), &Method::GET).is_err());
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
    assert!(response::parse(endless.as_bytes(), &Method::GET).is_err());
}

#[test]
fn responses_say_how_they_end_and_whether_another_request_may_follow() {
    use Framing::{Chunked, Length, None as Nothing, UntilClose};
    let connect = Method::CONNECT;
    for (method, text, framing, announced, keep_alive) in [
        (Method::GET, "1.1 200 OK\r\nContent-Length: 3", Length(3), Length(3), true),
        (Method::GET, "1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: 3", Length(3), Length(3), true),
        (Method::GET, "1.1 200 OK\r\nTransfer-Encoding: chunked", Chunked, Chunked, true),
        (Method::GET, "1.1 200 OK\r\nX: y", UntilClose, UntilClose, false),
        (Method::GET, "1.0 200 OK\r\nX: y", UntilClose, UntilClose, false),
        (Method::GET, "1.0 200 OK\r\nContent-Length: 3", Length(3), Length(3), false),
        (
            Method::GET,
            "1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive",
            Length(3),
            Length(3),
            true,
        ),
        (Method::GET, "1.1 200 OK\r\nContent-Length: 3\r\nConnection: close", Length(3), Length(3), false),
        (Method::HEAD, "1.1 200 OK\r\nContent-Length: 55", Nothing, Length(55), true),
        (Method::HEAD, "1.1 200 OK\r\nTransfer-Encoding: chunked", Nothing, Chunked, true),
        (Method::HEAD, "1.1 200 OK\r\nX: y", Nothing, Nothing, true),
        (Method::GET, "1.1 204 No Content\r\nX: y", Nothing, Nothing, true),
        (Method::GET, "1.1 204 No Content\r\nContent-Length: 0", Nothing, Nothing, true),
        (Method::GET, "1.1 204 No Content\r\nContent-Length: 3", Nothing, Nothing, false),
        (Method::GET, "1.1 204 No Content\r\nTransfer-Encoding: chunked", Nothing, Nothing, false),
        (Method::GET, "1.1 304 Not Modified\r\nContent-Length: 55", Nothing, Length(55), true),
        (Method::GET, "1.1 304 Not Modified\r\nTransfer-Encoding: chunked", Nothing, Nothing, true),
        (Method::GET, "1.1 304 Not Modified\r\nX: y", Nothing, Nothing, true),
        (Method::GET, "1.1 100 Continue\r\nContent-Length: 3", Nothing, Nothing, true),
        (Method::GET, "1.1 103 Early Hints\r\nLink: x", Nothing, Nothing, true),
        (Method::GET, "1.1 101 Switching Protocols\r\nUpgrade: websocket", Nothing, Nothing, true),
        (connect.clone(), "1.1 200 OK\r\nContent-Length: 3", Nothing, Nothing, true),
        (connect.clone(), "1.1 200 OK\r\nTransfer-Encoding: chunked", Nothing, Nothing, true),
        (connect, "1.1 403 Forbidden\r\nContent-Length: 3", Length(3), Length(3), true),
        (Method::GET, "1.1 999 What\r\nContent-Length: 0", Length(0), Length(0), true),
    ] {
        let response = answered(&format!("HTTP/{text}\r\n\r\n"), &method);

        assert_eq!((response.framing, response.announced), (framing, announced), "{method} {text}");
        assert_eq!(response.keep_alive, keep_alive, "{method} {text}");
        assert!(!response.head.fields.contains("content-length"), "{method} {text}");
    }
    assert_eq!(
        answered("HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n", &Method::HEAD).length_hint(),
        Some(55)
    );
    assert!(answered("HTTP/1.1 103 Early Hints\r\n\r\n", &Method::GET).head.is_interim());
    assert!(!answered("HTTP/1.1 101 Switching Protocols\r\n\r\n", &Method::GET).head.is_interim());
}

#[test]
fn a_reason_is_kept_when_it_is_not_the_usual_one() {
    for (line, reason) in [
        ("200 OK", None),
        ("200 Fine", Some("Fine")),
        ("200 ", Some("")),
        ("200", Some("")),
        ("299 ", None),
        ("299 Two  words", Some("Two  words")),
        ("600 \u{e9}", Some("\u{e9}")),
    ] {
        let response = answered(&format!("HTTP/1.1 {line}\r\nX: y\r\n\r\n"), &Method::GET);
        assert_eq!(response.head.reason.as_deref(), reason.map(str::as_bytes), "{line}");
    }
}

#[test]
fn upgrade_stays_in_the_responses_that_are_about_it() {
    for (line, kept) in [
        ("101 Switching Protocols", "upgrade=websocket;"),
        ("426 Upgrade Required", "upgrade=websocket;"),
        ("200 OK", ""),
    ] {
        let text = format!("HTTP/1.1 {line}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        let response = answered(&text, &Method::GET);
        assert_eq!(listed(&response.head.fields), kept, "{line}");

        let mut out = Vec::new();
        write::response(&response.head, Framing::None, Version::Http11, true, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap().contains("connection: upgrade\r\n"),
            !kept.is_empty(),
            "{line}"
        );
    }
}

#[test]
fn responses_are_written_for_the_version_of_the_caller() {
    use Framing::{Chunked, Length, UntilClose};
    for (announced, caller, keep_alive, written, lines) in [
        (Length(3), Version::Http11, true, Length(3), "content-length: 3\r\n"),
        (Length(3), Version::Http11, false, Length(3), "connection: close\r\ncontent-length: 3\r\n"),
        (Length(3), Version::Http10, true, Length(3), "connection: keep-alive\r\ncontent-length: 3\r\n"),
        (Chunked, Version::Http11, true, Chunked, "transfer-encoding: chunked\r\n"),
        (UntilClose, Version::Http11, true, Chunked, "transfer-encoding: chunked\r\n"),
        (Chunked, Version::Http10, true, UntilClose, "connection: close\r\n"),
        (UntilClose, Version::Http10, true, UntilClose, "connection: close\r\n"),
        (Framing::None, Version::Http11, true, Framing::None, ""),
    ] {
        let mut out = Vec::new();

        let framing = write::response(&ResponseHead::new(200), announced, caller, keep_alive, &mut out);

        assert_eq!(framing, written);
        assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
    }
    for status in [100, 103, 204] {
        let mut out = Vec::new();
        write::response(&ResponseHead::new(status), Length(3), Version::Http11, true, &mut out);
        let expected = format!("HTTP/1.1 {status} {}\r\n\r\n", usual_reason(status));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
