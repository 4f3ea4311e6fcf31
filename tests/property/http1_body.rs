//! HTTP/1 bodies: the same pieces however the bytes arrive, and no end that was not sent.

use bytes::BytesMut;
use mesh::logic::http::fields::Fields;
use mesh::logic::http::framing::Framing;
use mesh::logic::http::h1::body::Body;
use mesh::logic::http::h1::chunk::{Piece, may_trail};
use mesh::logic::http::h1::lines::{FIELDS_MAX, HEAD_BYTES_MAX};
use mesh::logic::http::h1::write;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::property::http1_wire::{soup, valid_fields};

/// What came of reading a body.
#[derive(Debug, Default, PartialEq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<Fields>,
    over: bool,
    failed: bool,
    rest: Vec<u8>,
}

/// Reads a body that arrives in parts, and then no more.
fn read<'b>(framing: Framing, parts: impl IntoIterator<Item = &'b [u8]>, closed: bool) -> Read {
    let mut body = Body::new(framing);
    let mut input = BytesMut::new();
    let mut read = Read::default();
    let mut parts = parts.into_iter();
    loop {
        let part = parts.next();
        let ended = closed && part.is_none();
        input.extend_from_slice(part.unwrap_or_default());
        loop {
            match body.decode(&mut input, ended) {
                Ok(Some(Piece::Data(data))) => {
                    assert!(!data.is_empty());
                    read.data.extend_from_slice(&data);
                }
                Ok(Some(Piece::Trailers(fields))) => read.trailers = Some(fields),
                Ok(None) => break,
                Err(_) => {
                    read.failed = true;
                    return read;
                }
            }
        }
        if part.is_none() {
            read.over = body.is_over();
            read.rest = input.to_vec();
            return read;
        }
    }
}

fn whole(framing: Framing, text: &[u8]) -> Read {
    read(framing, [text], false)
}

fn chunked(text: &str) -> Read {
    whole(Framing::Chunked, text.as_bytes())
}

/// Cuts a text in parts of these sizes, again and again.
fn cut<'b>(text: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let mut parts = Vec::new();
    let mut rest = text;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at(rest.len().min(*size));
        parts.push(part);
        rest = after;
    }
    parts
}

#[test]
fn chunks_are_read_to_the_end_and_not_further() {
    for (text, data, trailers, rest) in [
        ("0\r\n\r\n", "", 0, ""),
        ("5\r\nhello\r\n0\r\n\r\nGET /", "hello", 0, "GET /"),
        ("5;a=b;c=\"d\"\r\nhello\r\n1 ; x\r\n!\r\n000\r\n\r\n", "hello!", 0, ""),
        ("5  \r\nhello\r\n0 \r\n\r\n", "hello", 0, ""),
        ("A\r\n0123456789\r\n00000000000000a\r\nabcdefghij\r\n0\r\n\r\n", "0123456789abcdefghij", 0, ""),
        ("0\r\nGrpc-Status: 0\r\nx:\r\n\r\nnext", "", 2, "next"),
        (
            "0\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\nHost: a\r\nX: y\r\nAuthorization: b\r\n\r\n",
            "",
            1,
            "",
        ),
    ] {
        let found = chunked(text);

        assert!(!found.failed && found.over, "{}", text.escape_debug());
        assert_eq!(found.data, data.as_bytes());
        assert_eq!(found.trailers.map(|fields| fields.len()), Some(trailers), "{}", text.escape_debug());
        assert_eq!(found.rest, rest.as_bytes());
        assert!(read(Framing::Chunked, cut(text.as_bytes(), &[1]), false).over, "{}", text.escape_debug());
    }
}

#[test]
fn chunks_that_two_readers_could_read_differently_are_malformed() {
    for text in [
        "\r\n",
        " 5\r\nhello\r\n",
        "x\r\n",
        "-1\r\n",
        "+5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n",
        "5\r\nhello\rX",
        "5\r\nhello0\r\n",
        "5 5\r\nhello\r\n",
        "5,\r\nhello\r\n",
        "5;a\0b\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5;a\nhello\r\n",
        "00000000000000005\r\nhello",
        "fffffffffffffffff\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\r\n\n",
        "0\r\n\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\n\r\n",
        "0\r\n: y\r\n\r\n",
        "5\x0b\r\nhello\r\n",
    ] {
        assert!(chunked(text).failed, "{}", text.escape_debug());
    }
    let endless = format!("5;{}", "x".repeat(4 << 10));
    assert!(chunked(&endless).failed);
    let many = format!("1;{}\r\n!\r\n", "x".repeat(100));
    assert!(!chunked(&many.repeat(100)).failed);
    assert!(chunked(&many.repeat(200)).failed, "extensions add up");
    let fields = |count: usize| format!("0\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(chunked(&fields(FIELDS_MAX)).trailers.unwrap().len(), FIELDS_MAX);
    assert!(chunked(&fields(FIELDS_MAX + 1)).failed);
    assert!(!chunked(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX - 7))).failed);
    assert!(chunked(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX - 6))).failed);
    assert!(chunked(&format!("0\r\nx: {}", "y".repeat(HEAD_BYTES_MAX))).failed);
}

#[test]
fn the_largest_chunk_is_begun() {
    let read = chunked("ffffffffffffffff\r\nabc");

    assert!(!read.failed && !read.over);
    assert_eq!(read.data, b"abc");
}

#[test]
fn a_body_that_closes_before_its_end_is_no_body() {
    for (framing, text) in [
        (Framing::Length(6), "hello"),
        (Framing::Length(1), ""),
        (Framing::Chunked, ""),
        (Framing::Chunked, "5\r\nhello\r\n"),
        (Framing::Chunked, "5\r\nhello\r\n0\r\n"),
        (Framing::Chunked, "5\r\nhello\r\n0\r\nx: y\r\n"),
    ] {
        assert!(read(framing, [text.as_bytes()], true).failed, "{framing:?} {text}");
        let open = read(framing, [text.as_bytes()], false);
        assert!(!open.failed && !open.over, "{framing:?} {text}");
    }
    let closed = read(Framing::UntilClose, [&b"hel"[..], b"lo"], true);
    assert!(!closed.failed && closed.over);
    assert_eq!(closed.data, b"hello");
    assert!(!read(Framing::UntilClose, [&b"hello"[..]], false).over);
    for framing in [Framing::None, Framing::Length(0)] {
        let nothing = read(framing, [&b"next"[..]], true);
        assert!(nothing.over && !nothing.failed && nothing.trailers.is_none());
        assert_eq!(nothing.rest, b"next");
    }
}

#[test]
fn trailers_that_may_not_be_any_are_not_written() {
    let mut fields = Fields::new();
    for name in ["Content-Length", "Grpc-Status", "TE", "host", "Trailer"] {
        fields.append(name.as_bytes(), b"1");
    }
    let mut out = Vec::new();

    write::last_chunk(Some(&fields), &mut out);

    assert_eq!(out, b"0\r\nGrpc-Status: 1\r\n\r\n");
}

proptest! {
    #[test]
    fn chunks_are_read_as_they_were_written(
        chunks in vec(vec(any::<u8>(), 1..40), 0..9),
        mut trailers in valid_fields(),
        after in vec(any::<u8>(), 0..9),
        sizes in vec(1usize..30, 1..6),
    ) {
        let mut out = BytesMut::new();
        for chunk in &chunks {
            write::chunk_begin(chunk.len(), &mut out);
            out.extend_from_slice(chunk);
            write::chunk_end(&mut out);
        }
        write::last_chunk(Some(&trailers), &mut out);
        let sent = out.len();
        out.extend_from_slice(&after);
        trailers.retain(|name, _| may_trail(name));

        let read = read(Framing::Chunked, cut(&out, &sizes), true);

        prop_assert!(read.over && !read.failed);
        prop_assert_eq!(read.data, chunks.concat());
        prop_assert_eq!(read.trailers, Some(trailers));
        prop_assert_eq!(read.rest, &out[sent..]);
    }

    #[test]
    fn a_chunk_of_any_size_is_announced_by_its_size(len in 1usize..1 << 40) {
        let mut out = Vec::new();

        write::chunk_begin(len, &mut out);

        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{len:x}\r\n"));
    }

    #[test]
    fn a_body_is_the_same_however_it_arrives(
        text in soup(),
        start in select(vec!["", "5\r\nhello\r\n", "0\r\n", "1f;x\r\n"]),
        sizes in vec(1usize..20, 1..6),
        framing in select(vec![Framing::None, Framing::Length(7), Framing::Chunked, Framing::UntilClose]),
        closed in any::<bool>(),
    ) {
        let text = [start.as_bytes(), &text].concat();

        let at_once = read(framing, [&text[..]], closed);
        let alone = read(framing, cut(&text, &[1]), closed);
        let parts = read(framing, cut(&text, &sizes), closed);

        if at_once.failed {
            // A trailer section that arrives in parts is looked at when it can be whole, and not whenever it grows.
            prop_assert!(!alone.over && !parts.over && (alone.failed && parts.failed || !closed));
            prop_assert_eq!(&alone.data, &at_once.data);
            prop_assert_eq!(&parts.data, &at_once.data);
        } else {
            prop_assert_eq!(&alone, &at_once);
            prop_assert_eq!(&parts, &at_once);
        }
    }

    #[test]
    fn data_is_neither_lost_nor_made(
        text in vec(any::<u8>(), 0..60),
        length in 0u64..80,
        sizes in vec(1usize..20, 1..6),
    ) {
        let read = read(Framing::Length(length), cut(&text, &sizes), false);

        prop_assert_eq!(read.data.len(), text.len().min(length as usize));
        prop_assert_eq!(read.over, text.len() as u64 >= length);
        prop_assert_eq!([read.data, read.rest].concat(), text);
    }
}
