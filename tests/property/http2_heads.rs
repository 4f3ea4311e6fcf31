//! Heads of HTTP/2: what is malformed is refused by its name, what is accepted can be said again, in HTTP/1 too.

use http::Method;
use mesh::logic::http::fields::Fields;
use mesh::logic::http::framing::Framing;
use mesh::logic::http::h1;
use mesh::logic::http::h2::head::{
    FIELDS_MAX, LIST_BYTES_MAX, Malformed, REQUEST_FIELDS_MAX, read_request, read_response, read_trailers,
    write_request, write_response, write_trailers,
};
use mesh::logic::http::h2::hpack::{self, Decoder};
use mesh::logic::http::head::{RequestHead, ResponseHead, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

type List<'l> = &'l [(&'l str, &'l str)];

/// Writes fields as they are, names in upper case too.
fn block(list: List<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        for (first, text) in [(Some(0), name), (None, value)] {
            assert!(text.len() < 127, "a length of one byte");
            block.extend(first);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn request(list: List<'_>) -> Result<RequestHead, Malformed> {
    read_request(&mut Decoder::new(), &block(list)).unwrap()
}

fn response(list: List<'_>) -> Result<ResponseHead, Malformed> {
    read_response(&mut Decoder::new(), &block(list)).unwrap()
}

fn trailers(list: List<'_>) -> Result<Fields, Malformed> {
    read_trailers(&mut Decoder::new(), &block(list)).unwrap()
}

fn fields(list: List<'_>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.append(name.as_bytes(), value.as_bytes());
    }
    fields
}

const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/")];

/// A good request with more fields behind it.
fn get(more: List<'_>) -> Vec<(&str, &str)> {
    [&GET, more].concat()
}

// --- requests -------------------------------------------------------------------------------------------------------

#[test]
fn a_request_is_read_as_it_is() {
    let head = request(&[
        (":method", "POST"),
        (":authority", "web:8080"),
        (":scheme", "https"),
        (":path", "/a?b=c"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("te", "trailers"),
        ("content-length", "5"),
        ("http2-settings", "AAMAAABkAAQ"),
        ("x-a", " spaces around "),
        ("x-a", ""),
    ]);
    let expected = RequestHead {
        method: Method::POST,
        path: "/a?b=c".to_owned(),
        authority: Some("web:8080".to_owned()),
        version: Version::Http2,
        protocol: None,
        fields: fields(&[
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("content-length", "5"),
            ("x-a", "spaces around"),
            ("x-a", ""),
        ]),
    };
    assert_eq!(head, Ok(expected));
    assert_eq!(request(&GET).map(|head| head.authority), Ok(None));
    let options = request(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")]);
    assert_eq!(options.map(|head| head.path), Ok("*".to_owned()));
}

#[test]
fn fields_that_no_message_may_have_are_refused() {
    let fields = [
        (Malformed::Name, ("X-a", "b")),
        (Malformed::Name, ("", "b")),
        (Malformed::Name, ("a b", "c")),
        (Malformed::Name, ("a:", "c")),
        (Malformed::Name, ("ä", "c")),
        (Malformed::Value, ("a", "b\r\nc")),
        (Malformed::Value, ("a", "\0")),
        (Malformed::Connection, ("connection", "close")),
        (Malformed::Connection, ("keep-alive", "timeout=5")),
        (Malformed::Connection, ("proxy-connection", "close")),
        (Malformed::Connection, ("transfer-encoding", "chunked")),
        (Malformed::Connection, ("upgrade", "websocket")),
        (Malformed::Connection, ("te", "trailers, gzip")),
        (Malformed::Connection, ("te", "")),
        (Malformed::Pseudo, (":x", "y")),
        (Malformed::Pseudo, (":", "y")),
        (Malformed::Pseudo, (":Path", "/")),
    ];
    for (malformed, field) in fields {
        assert_eq!(request(&get(&[field])), Err(malformed), "{field:?}");
        assert_eq!(response(&[(":status", "200"), field]), Err(malformed), "{field:?}");
        assert_eq!(trailers(&[field]), Err(malformed), "{field:?}");
    }
}

#[test]
fn pseudo_header_fields_that_do_not_make_a_request_are_refused() {
    let get = |place: usize, value| {
        let mut list = GET;
        list[place].1 = value;
        request(&list).map(|_| ())
    };
    for (malformed, place, values) in [
        (Malformed::Method, 0, &["", "G T", "a,b"][..]),
        (Malformed::Scheme, 1, &["", "1", "ht tp", "http:"]),
        (Malformed::Path, 2, &["", "a", "*", "*/", "/a b", "/#", "/\u{e4}", "/\r", "?a", "http://a/"]),
    ] {
        for value in values {
            assert_eq!(get(place, value), Err(malformed), "{value:?}");
        }
    }
    for place in 0..GET.len() {
        let mut list = GET.to_vec();
        let field = list.remove(place);
        assert_eq!(request(&list), Err(Malformed::Missing), "{field:?}");
        list.push(("a", "b"));
        list.push(field);
        assert_eq!(request(&list), Err(Malformed::Late), "{field:?}");
        let mut list = GET.to_vec();
        list.push(field);
        assert_eq!(request(&list), Err(Malformed::Repeated), "{field:?}");
    }
    assert_eq!(request(&[]), Err(Malformed::Missing));
    let twice = [(":authority", "a"), (":authority", "a")];
    assert_eq!(request(&[&twice, &GET[..]].concat()), Err(Malformed::Repeated));
    assert_eq!(request(&[&GET[..], &[(":status", "200")]].concat()), Err(Malformed::Pseudo));
    assert_eq!(request(&[&GET[..], &[(":protocol", "websocket")]].concat()), Err(Malformed::Protocol));
}

#[test]
fn a_request_has_one_host() {
    for (hosts, expected) in [
        (&[(":authority", "a"), ("host", "A")][..], Ok(Some("a"))),
        (&[(":authority", "a:80")], Ok(Some("a:80"))),
        (&[(":authority", "a:"), ("host", " a ")], Ok(Some("a"))),
        (&[("host", "a"), ("host", "a")], Ok(Some("a"))),
        (&[("host", "")], Ok(None)),
        (&[(":authority", "a"), ("host", "")], Ok(Some("a"))),
        (&[(":authority", "a"), ("host", "b")], Err(Malformed::Hosts)),
        (&[("host", "a"), ("host", "b")], Err(Malformed::Hosts)),
        (&[(":authority", "a"), ("host", "a:80")], Err(Malformed::Hosts)),
        (&[(":authority", "")], Err(Malformed::Authority)),
        (&[(":authority", "me@a")], Err(Malformed::Authority)),
        (&[(":authority", "a/b")], Err(Malformed::Authority)),
        (&[("host", "a b")], Err(Malformed::Authority)),
    ] {
        let head = request(&get(hosts));
        assert!(head.as_ref().is_ok_and(|head| !head.fields.contains("host")) || head.is_err());
        assert_eq!(
            head.map(|head| head.authority).as_ref().map(|host| host.as_deref()),
            expected.as_ref().map(|host| *host),
            "{hosts:?}"
        );
    }
}

#[test]
fn crumbs_are_joined_to_one_cookie() {
    let cookie = |crumbs: List<'_>| {
        let head = request(&get(crumbs)).unwrap();
        assert_eq!(head.fields.all("cookie").count(), 1);
        String::from_utf8(head.fields.get("cookie").unwrap().to_vec()).unwrap()
    };
    assert_eq!(cookie(&[("cookie", "a=b")]), "a=b");
    assert_eq!(
        cookie(&[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")]),
        "a=b; c=d; e=f"
    );
    assert_eq!(cookie(&vec![("cookie", "a=b"); 2 * FIELDS_MAX]).len(), 2 * FIELDS_MAX * 5 - 2);
}

#[test]
fn connect_is_of_two_kinds() {
    let head = request(&[(":method", "CONNECT"), (":authority", "a:443")]).unwrap();
    assert_eq!(
        (head.method, head.path, head.authority),
        (Method::CONNECT, String::new(), Some("a:443".to_owned()))
    );
    let connect = [(":method", "CONNECT"), (":authority", "a:443")];
    for (malformed, list) in [
        (Malformed::Authority, &[(":method", "CONNECT"), (":authority", "a")][..]),
        (Malformed::Authority, &[(":method", "CONNECT")]),
        (Malformed::Pseudo, &[connect[0], connect[1], (":path", "/")]),
        (Malformed::Pseudo, &[connect[0], connect[1], (":scheme", "http")]),
        (Malformed::Pseudo, &[connect[0], connect[1], (":scheme", "http"), (":path", "/")]),
        (Malformed::Missing, &[connect[0], connect[1], (":protocol", "websocket")]),
        (Malformed::Missing, &[connect[0], connect[1], (":protocol", "websocket"), (":path", "/")]),
        (Malformed::Path, &[connect[0], (":protocol", "websocket"), (":path", "*"), (":scheme", "http")]),
        (Malformed::Protocol, &[connect[0], connect[1], (":protocol", "web socket")]),
        (Malformed::Protocol, &[connect[0], connect[1], (":protocol", "")]),
    ] {
        assert_eq!(request(list), Err(malformed), "{list:?}");
    }

    let extended = [
        connect[0],
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a"),
    ];
    let head = request(&extended).unwrap();
    assert_eq!((&head.method, head.path.as_str()), (&Method::GET, "/chat"));
    assert_eq!(head.protocol.as_deref(), Some("websocket"));
    let mut written = Vec::new();
    write_request(&head, &mut written).unwrap();
    let mut names = Vec::new();
    Decoder::new().decode(&written, |name, value| names.push([name, b"=", value].concat())).unwrap();
    assert!(names.contains(&b":method=CONNECT".to_vec()) && names.contains(&b":protocol=websocket".to_vec()));
    assert_eq!(read_request(&mut Decoder::new(), &written), Ok(Ok(head)));
}

// --- responses and trailers -----------------------------------------------------------------------------------------

#[test]
fn a_status_has_three_digits_and_is_not_101() {
    for status in 100..=999_u16 {
        let text = status.to_string();
        let head = response(&[(":status", &text), ("a", "b")]);
        if status == 101 {
            assert_eq!(head, Err(Malformed::Status));
        } else {
            let expected =
                ResponseHead { status, reason: None, version: Version::Http2, fields: fields(&[("a", "b")]) };
            assert_eq!(head, Ok(expected));
        }
    }
    for status in ["", "99", "099", "1000", "+99", "20 ", "2x0"] {
        assert_eq!(response(&[(":status", status)]), Err(Malformed::Status), "{status:?}");
    }
    assert_eq!(response(&[("a", "b")]), Err(Malformed::Missing));
    assert_eq!(response(&[(":status", "200"), (":status", "200")]), Err(Malformed::Repeated));
    assert_eq!(response(&[("a", "b"), (":status", "200")]), Err(Malformed::Late));
    assert_eq!(response(&[(":status", "200"), (":path", "/")]), Err(Malformed::Pseudo));
}

#[test]
fn trailers_have_no_field_that_is_not_for_them() {
    let read = trailers(&[
        ("grpc-status", "0"),
        ("content-length", "5"),
        ("host", "a"),
        ("te", "trailers"),
        ("x", "y"),
    ]);
    assert_eq!(read, Ok(fields(&[("grpc-status", "0"), ("x", "y")])));
    assert_eq!(trailers(&[(":status", "200")]), Err(Malformed::Pseudo));
    assert_eq!(trailers(&[("a", "b"), (":status", "200")]), Err(Malformed::Late));

    let mut written = Vec::new();
    write_trailers(
        &fields(&[("Grpc-Status", "0"), ("connection", "x"), ("content-length", "5")]),
        &mut written,
    );
    assert_eq!(written, block(&[("grpc-status", "0")]));
}

// --- writing --------------------------------------------------------------------------------------------------------

#[test]
fn what_belongs_to_a_connection_is_not_written() {
    let all = fields(&[
        ("X-A", "b"),
        ("Connection", "close"),
        ("Upgrade", "websocket"),
        ("Keep-Alive", "1"),
        ("Transfer-Encoding", "chunked"),
        ("HTTP2-Settings", "x"),
        ("TE", "gzip"),
        ("te", "Trailers"),
    ]);
    let kept = fields(&[("x-a", "b"), ("te", "trailers")]);
    let mut written = Vec::new();
    let head = RequestHead { path: "/".to_owned(), fields: all.clone(), ..RequestHead::default() };
    write_request(&head, &mut written).unwrap();
    for length in [0, u64::MAX] {
        hpack::write_field(b"content-length", length.to_string().as_bytes(), &mut written);
    }
    let read = read_request(&mut Decoder::new(), &written).unwrap().unwrap();
    let mut with_lengths = kept.clone();
    with_lengths.append(b"content-length", b"0");
    with_lengths.append(b"content-length", b"18446744073709551615");
    assert_eq!((read.fields, read.authority), (with_lengths, None));

    written.clear();
    write_response(&ResponseHead { fields: all, ..ResponseHead::new(101) }, &mut written).unwrap();
    let read = read_response(&mut Decoder::new(), &written).unwrap().unwrap();
    assert_eq!((read.status, read.fields), (200, kept));
}

#[test]
fn what_cannot_be_said_is_not_begun() {
    let head = RequestHead { path: "/".to_owned(), ..RequestHead::default() };
    for head in [
        RequestHead::default(),
        RequestHead { method: Method::CONNECT, ..head.clone() },
        RequestHead { method: Method::POST, protocol: Some("websocket".to_owned()), ..head.clone() },
        RequestHead { protocol: Some("a, b".to_owned()), ..head },
    ] {
        let mut written = b"before".to_vec();
        assert!(write_request(&head, &mut written).is_err(), "{head:?}");
        assert_eq!(written, b"before");
    }
    for status in [0, 99, 1_000] {
        assert!(write_response(&ResponseHead::new(status), &mut Vec::new()).is_err());
    }
}

// --- bounds ---------------------------------------------------------------------------------------------------------

#[test]
fn what_is_too_large_is_refused_and_the_table_stays_in_step() {
    let many = |count: usize| {
        let mut block = block(&GET);
        block.extend((0..count).flat_map(|_| *b"\x00\x01a\x01b"));
        // One more for the table.
        block.extend_from_slice(b"\x40\x01c\x01d");
        block
    };
    let large = |bytes: usize| {
        let mut block = block(&GET);
        block.extend_from_slice(b"\x40\x01c\x01d");
        hpack::write_field(b"large", &vec![b'x'; bytes], &mut block);
        block
    };
    let others: usize = GET
        .iter()
        .chain(&[("c", "d"), ("large", "")])
        .map(|(name, value)| name.len() + value.len() + 32)
        .sum();
    for (good, bad) in [
        (many(REQUEST_FIELDS_MAX - 1), many(REQUEST_FIELDS_MAX)),
        (large(LIST_BYTES_MAX - others), large(LIST_BYTES_MAX - others + 1)),
    ] {
        let mut decoder = Decoder::new();
        assert!(read_request(&mut decoder, &good).unwrap().is_ok());
        assert_eq!(read_request(&mut decoder, &bad), Ok(Err(Malformed::TooLarge)));
        // Both blocks have added it.
        let mut next = block(&GET);
        next.extend_from_slice(&[0xbe, 0xbf]);
        let head = read_request(&mut decoder, &next).unwrap().unwrap();
        assert_eq!(head.fields, fields(&[("c", "d"), ("c", "d")]));
    }
}

// --- any heads ------------------------------------------------------------------------------------------------------

fn field() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        "[a-z0-9-]{1,20}",
        select(vec!["content-type", "User-Agent", "x-Own", "authorization"]).prop_map(str::to_owned)
    ];
    let name = name.prop_filter("of a connection", |name| {
        !["te", "host", "upgrade", "connection"].contains(&name.as_str())
    });
    (name, "[!-~]{0,30}|[!-~]{100,300}")
}

proptest! {
    #[test]
    fn requests_are_read_as_they_were_written(
        method in select(vec!["GET", "POST", "OPTIONS", "OWN"]),
        path in "/|/[!\"$-~]{1,200}",
        authority in proptest::option::of("[a-z0-9.-]{1,30}(:[1-9][0-9]{0,3})?"),
        list in vec(field(), 0..12),
    ) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let head = RequestHead { method, path, authority, version: Version::Http2, protocol: None, fields: fields(&list) };
        let mut written = Vec::new();
        write_request(&head, &mut written).unwrap();
        prop_assert_eq!(read_request(&mut Decoder::new(), &written).unwrap(), Ok(head));
    }

    #[test]
    fn responses_and_trailers_are_read_as_they_were_written(status in 102..1_000_u16, list in vec(field(), 0..12)) {
        let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let head = ResponseHead { status, reason: None, version: Version::Http2, fields: fields(&list) };
        let mut written = Vec::new();
        write_response(&head, &mut written).unwrap();
        prop_assert_eq!(read_response(&mut Decoder::new(), &written).unwrap(), Ok(head.clone()));
        written.clear();
        write_trailers(&head.fields, &mut written);
        let mut trailers = head.fields;
        trailers.retain(|name, _| h1::chunk::may_trail(name));
        prop_assert_eq!(read_trailers(&mut Decoder::new(), &written).unwrap(), Ok(trailers));
    }

    #[test]
    fn what_is_accepted_can_be_said_again(
        first in subsequence(PSEUDO.to_vec(), 0..=6),
        rest in vec(select(REST.to_vec()), 0..6),
    ) {
        let list = [first, rest].concat();
        if let Ok(head) = request(&list) {
            let mut written = Vec::new();
            write_request(&head, &mut written).unwrap();
            prop_assert_eq!(read_request(&mut Decoder::new(), &written).unwrap(), Ok(head.clone()));
            said_in_http1(head);
        }
        if let Ok(head) = response(&list) {
            let mut written = Vec::new();
            write_response(&head, &mut written).unwrap();
            prop_assert_eq!(read_response(&mut Decoder::new(), &written).unwrap(), Ok(head));
        }
    }
}

const PSEUDO: [(&str, &str); 10] = [
    (":method", "GET"),
    (":method", "CONNECT"),
    (":method", "OPTIONS"),
    (":scheme", "http"),
    (":path", "/a?b"),
    (":path", "*"),
    (":authority", "a"),
    (":authority", "a:1"),
    (":protocol", "websocket"),
    (":status", "200"),
];
const REST: [(&str, &str); 10] = [
    ("host", "a"),
    ("host", "a:1"),
    ("cookie", "a"),
    ("cookie", ""),
    ("te", "trailers"),
    ("x", " y\t"),
    ("x", "\u{e4}"),
    ("content-length", "1"),
    ("connection", "x"),
    (":path", "/"),
];

/// Writes a request in HTTP/1 and reads it again, as the same but for the version.
fn said_in_http1(mut head: RequestHead) {
    head.fields.remove("content-length");
    let mut written = Vec::new();
    h1::write::request(&head, Framing::None, &mut written);
    let (read, len) = h1::request::parse(&written, h1::request::Limits::default()).unwrap().unwrap();
    assert_eq!(len, written.len());
    head.version = Version::Http11;
    assert_eq!(read.head, head);
}
