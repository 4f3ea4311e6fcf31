//! HTTP/1 heads: neither cutting them up on the way nor writing them again changes a message, and nothing makes us panic.

use http::Method;
use mesh::logic::http::fields::Fields;
use mesh::logic::http::framing::Framing;
use mesh::logic::http::h1::lines::may_be_whole;
use mesh::logic::http::h1::request::{self, Limits, Request};
use mesh::logic::http::h1::response::{self, Response};
use mesh::logic::http::h1::write;
use mesh::logic::http::head::{RequestHead, ResponseHead, Version, usual_reason};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::property::http1::listed;

/// What heads are made of, good and bad, to be put together in any order.
pub(crate) fn soup() -> impl Strategy<Value = Vec<u8>> {
    let parts = select(vec![
        "GET",
        "CONNECT",
        "OPTIONS",
        " ",
        " / ",
        " * ",
        " a:1 ",
        " http://a/b ",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/2.0",
        "200",
        " 204 ",
        "OK",
        "\r\n",
        "\r\n",
        "\r\n",
        "\r",
        "\n",
        "\r\n\r\n",
        "\t",
        "GET / HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "Host: a\r\n",
        "Host: b\r\n",
        "Content-Length: 1\r\n",
        "Content-Length: 2, 2\r\n",
        "Transfer-Encoding: ",
        "chunked",
        "gzip, ",
        "TE: trailers\r\n",
        "Connection: ",
        "close",
        "upgrade",
        "x, y",
        "Upgrade: a\r\n",
        "x: y\r\n",
        "x:",
        ": ",
        "Expect: 100-continue\r\n",
        "\0",
        "\u{e9}",
        "#",
        "0\r\n",
        "5\r\nhello\r\n",
        "a;b=c\r\n",
        ";",
        "ffffffffffffffff",
    ]);
    let part =
        prop_oneof![20 => parts.prop_map(|part| part.as_bytes().to_vec()), 1 => vec(any::<u8>(), 1..3)];
    vec(part, 0..14).prop_map(|parts| parts.concat())
}

/// Reads as from a connection that brings a byte at a time, with the question that saves reading again.
fn byte_by_byte<T>(text: &[u8], mut parse: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let mut seen = 0;
    for len in 0..=text.len() {
        if may_be_whole(&text[..len], seen) {
            if let Some(read) = parse(&text[..len]) {
                return Some(read);
            }
            seen = len;
        }
    }
    None
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[xX]-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}",
        select(vec!["Cookie", "accept", "Content-Type", "Trailer", "a", "Content_Length", "X-Forwarded-For"])
            .prop_map(str::to_owned),
    ]
}

pub(crate) fn valid_fields() -> impl Strategy<Value = Fields> {
    let byte = prop_oneof![1 => Just(b' '), 1 => Just(b'\t'), 9 => 0x21u8..0x7f, 1 => 0x80u8..=0xff];
    vec((names(), vec(byte, 0..20)), 0..20).prop_map(|list| {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.append(name.as_bytes(), &value);
        }
        fields
    })
}

fn requests() -> impl Strategy<Value = (RequestHead, Framing)> {
    let framing =
        prop_oneof![Just(Framing::None), any::<u64>().prop_map(Framing::Length), Just(Framing::Chunked)];
    let target = prop_oneof![
        8 => ("(GET|POST|PURGE|x!)", "/[!-\"$-~]{0,30}", proptest::option::of("[a-z0-9.-]{1,9}(:[1-9][0-9]{0,3})?")),
        1 => (Just("OPTIONS".to_owned()), Just("*".to_owned()), Just(Some("web".to_owned()))),
        1 => (Just("CONNECT".to_owned()), Just(String::new()), Just(Some("web:443".to_owned()))),
    ];
    let wish = proptest::option::of(Just("websocket".to_owned()));
    (target, framing, wish, any::<bool>(), valid_fields()).prop_map(
        |((method, path, authority), framing, wish, te, mut fields)| {
            let connect = method == "CONNECT";
            if te {
                fields.append(b"TE", b"trailers");
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let protocol = wish.filter(|_| !connect);
            let head = RequestHead { method, path, authority, version: Version::Http11, protocol, fields };
            (head, if connect { Framing::None } else { framing })
        },
    )
}

fn responses() -> impl Strategy<Value = ResponseHead> {
    (100u16..1000, proptest::option::of("[!-~][ -~]{0,9}"), valid_fields()).prop_map(
        |(status, reason, fields)| {
            let reason = reason
                .filter(|text| text != usual_reason(status))
                .map(|text| text.into_bytes().into_boxed_slice());
            ResponseHead { status, reason, version: Version::Http11, fields }
        },
    )
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written((head, framing) in requests(), after in vec(any::<u8>(), 0..9)) {
        let mut text = Vec::new();
        write::request(&head, framing, &mut text);
        let len = text.len();
        text.extend(after);

        let (read, taken) = request::parse(&text, Limits::default()).unwrap().unwrap();

        prop_assert_eq!(taken, len);
        prop_assert_eq!(&read.head, &head);
        prop_assert_eq!(listed(&read.head.fields), listed(&head.fields));
        prop_assert_eq!(read.framing, framing);
        prop_assert!(read.keep_alive);
    }

    #[test]
    fn a_response_is_read_as_it_was_written(
        head in responses(),
        announced in prop_oneof![any::<u64>().prop_map(Framing::Length), Just(Framing::Chunked)],
        keep_alive in any::<bool>(),
        method in select(vec![Method::GET, Method::HEAD]),
    ) {
        let mut text = Vec::new();
        let written = write::response(&head, announced, Version::Http11, keep_alive, &mut text);

        let (read, taken) = response::parse(&text, &method).unwrap().unwrap();

        prop_assert_eq!(taken, text.len());
        prop_assert_eq!(&read.head, &head);
        prop_assert_eq!(listed(&read.head.fields), listed(&head.fields));
        prop_assert_eq!(read.keep_alive, keep_alive || head.status < 200);
        if head.status != 304 {
            prop_assert_eq!(read.announced, written);
            prop_assert_eq!(read.framing, if method == Method::HEAD { Framing::None } else { written });
        }
    }

    #[test]
    fn a_request_is_the_same_however_it_arrives(text in soup()) {
        let status = |read: Result<Option<(Request, usize)>, request::Refusal>| {
            read.map_err(|refusal| refusal.status).transpose()
        };
        let whole = status(request::parse(&text, Limits::default()));

        let pieces = (0..=text.len()).find_map(|len| status(request::parse(&text[..len], Limits::default())));
        let asked = byte_by_byte(&text, |part| status(request::parse(part, Limits::default())));

        prop_assert_eq!(&pieces, &whole);
        if matches!(whole, Some(Ok(_))) {
            prop_assert_eq!(&asked, &whole);
        }
        if let Some(Ok((_, len))) = whole {
            prop_assert!(text[..len].ends_with(b"\r\n\r\n"));
        }
    }

    #[test]
    fn a_response_is_the_same_however_it_arrives(text in soup(), method in select(vec![Method::GET, Method::HEAD])) {
        let some = |read: Result<Option<(Response, usize)>, _>| read.map_err(|_| ()).transpose();
        let whole = some(response::parse(&text, &method));

        let pieces = (0..=text.len()).find_map(|len| some(response::parse(&text[..len], &method)));
        let asked = byte_by_byte(&text, |part| some(response::parse(part, &method)));

        prop_assert_eq!(&pieces, &whole);
        if matches!(whole, Some(Ok(_))) {
            prop_assert_eq!(&asked, &whole);
        }
    }

    #[test]
    fn what_was_accepted_is_written_without_doubt(text in soup()) {
        let Ok(Some((read, _))) = request::parse(&text, Limits::default()) else { return Ok(()) };
        let mut out = Vec::new();
        write::request(&read.head, read.framing, &mut out);

        let (again, taken) = request::parse(&out, Limits::default()).unwrap().unwrap();

        prop_assert_eq!(taken, out.len());
        prop_assert_eq!(again.framing, read.framing);
        prop_assert_eq!(again.head, RequestHead { version: Version::Http11, ..read.head });
    }

    #[test]
    fn no_bytes_are_too_strange(text in vec(any::<u8>(), 0..200)) {
        let _ = request::parse(&text, Limits::default());
        let _ = response::parse(&text, &Method::GET);
    }
}
