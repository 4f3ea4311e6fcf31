//! The fuzz targets without a fuzzer: good samples, changed at random, for a second each or for `MESH_FUZZ_SECONDS`.
//!
//! It finds less than coverage-guided fuzzing (see `Cargo.toml` beside it), which takes a build of everything with other
//! flags: too long for each change, so this is what runs for each change.

mod checks;

use std::io::Write as _;
use std::time::Duration;

use mesh::logic::gossip::contact::Draws;
use mesh::net::clock;

/// Most bytes of an input: more only makes it slower.
const INPUT_BYTES_MAX: usize = 4_096;
/// Most changes to one sample.
const CHANGES_MAX: usize = 8;
/// Bytes and words that parsers look for.
const WORDS: [&[u8]; 28] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"-1",
    b"\xff",
    b"ffffffffffffffff",
    b"0\r\n\r\n",
    b"GET ",
    b"CONNECT ",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 4, 4\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close, x\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"http://a:80/",
    b"*",
];

/// Shows the input when the check fails.
struct Shown<'i>(&'i [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text: String = self.0.escape_ascii().to_string();
            _ = writeln!(std::io::stderr(), "the input that fails: b\"{text}\"");
        }
    }
}

/// Checks the samples, then changes of them until the time is over.
fn fuzz(samples: &[&[u8]], check: fn(&[u8])) {
    let seconds = std::env::var("MESH_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let time = Duration::from_secs(seconds);
    for sample in samples {
        let _shown = Shown(sample);
        check(sample);
    }
    let mut draws = Draws::new(rand::random());
    let (began, mut tried) = (clock::now(), 0_u64);
    let mut input = Vec::new();
    while !tried.is_multiple_of(256) || began.elapsed() < time {
        tried += 1;
        input.clear();
        input.extend_from_slice(samples[draws.below(samples.len())]);
        for _ in 0..=draws.below(CHANGES_MAX) {
            change(&mut input, samples, &mut draws);
        }
        input.truncate(INPUT_BYTES_MAX);
        let _shown = Shown(&input);
        check(&input);
    }
}

fn change(input: &mut Vec<u8>, samples: &[&[u8]], draws: &mut Draws) {
    let at = draws.below(input.len() + 1);
    let end = at + draws.below(input.len() - at + 1).min(draws.below(64));
    match draws.below(7) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << draws.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = draws.draw().to_le_bytes()[0];
            }
        }
        2 => drop(input.splice(at..at, WORDS[draws.below(WORDS.len())].iter().copied())),
        3 => drop(input.splice(at..end, WORDS[draws.below(WORDS.len())].iter().copied())),
        4 => drop(input.drain(at..end)),
        5 => {
            let part = input[at..end].to_vec();
            let to = draws.below(input.len() + 1);
            drop(input.splice(to..to, part));
        }
        _ => {
            let other = samples[draws.below(samples.len())];
            let from = draws.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
fn requests() {
    fuzz(
        &[
            b"\x80GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x80POST /a?b=c HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
            b"\x10PUT http://a/b HTTP/1.1\r\nHost: other\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\n",
            b"\xf0CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            b"\x40OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nX-A: b\r\nx-a: \tc \r\n\r\n",
            b"\xa0GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-b\r\nUpgrade: websocket\r\nX-B: 1\r\n\r\n",
            b"\x00GET / HTTP/1.0\r\n\r\n",
        ],
        checks::h1_request::check,
    );
}

#[test]
fn responses() {
    fuzz(
        &[
            b"\x80\x00HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"\x40\x00HTTP/1.1 200 Fine indeed\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n0\r\n\r\n",
            b"\xc0\x01HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: \"a\"\r\n\r\n",
            b"\xff\x02HTTP/1.1 200 OK\r\n\r\n",
            b"\x20\x00HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"\x90\x00HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            b"\x80\x00HTTP/1.0 200\r\n\r\nto the end",
        ],
        checks::h1_response::check,
    );
}

#[test]
fn chunked_bodies() {
    fuzz(
        &[
            b"\x033\r\nabc\r\n0\r\n\r\n",
            b"\x01a;x=\"y\"\r\n0123456789\r\n1\r\nb\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\nGET / HTTP/1.1\r\n",
            b"\x0700000000000002\r\nok\r\n0\r\n\r\n",
        ],
        checks::h1_chunked::check,
    );
}

#[test]
fn connections() {
    fuzz(
        &[
            b"\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84A\x01a\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678\x00\x00\x06\x01\x05\x00\x00\x00\x03\x82\x86\x84A\x01a",
            b"\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x06\x01\x04\x00\x00\x00\x01\x83\x86\x84A\x01a\x00\x00\x06\x00\x08\x00\x00\x00\x01\x02abc\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x01de\x00\x00\x05\x01\x05\x00\x00\x00\x01\x00\x01x\x01y",
            b"\x00\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x05\x00\x01\x00\x00\x00\x00\x00\x00\x03\x01\x01\x00\x00\x00\x01\x82\x86\x84\x00\x00\x01\x09\x00\x00\x00\x00\x01A\x00\x00\x02\x09\x04\x00\x00\x00\x01\x01a\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x07\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00@\x05",
            b"\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x0b\x01$\x00\x00\x00\x01\x00\x00\x00\x00\x05\x82\x86\x84A\x01a\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x05\x02\x00\x00\x00\x00\x05\x00\x00\x00\x01\x05\x00\x00\x0b\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00bye",
            b"\x01\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88\x00\x00\x04\x00\x01\x00\x00\x00\x01body\x00\x00\x01\x01\x05\x00\x00\x00\x03\x89\x00\x00\x04\x03\x00\x00\x00\x00\x05\x00\x00\x00\x07",
            b"\x01\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05\x01\x04\x00\x00\x00\x01\x08\x03103\x00\x00\x05\x01\x04\x00\x00\x00\x01\x88\x0f\x0d\x014\x00\x00\x02\x00\x00\x00\x00\x00\x01ab\x00\x00\x02\x00\x01\x00\x00\x00\x01cd\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00",
            b"\x02\x00\x00\x16\x81\x00\x00\x00\x01\x14\x01\x03GET\x00\x01/\x00\x03web\x00\x01\x00\x01\x00\x01ab\x00\x00\x08\x08\x00\x00\x00\x0012345678\x00\x00\x16\x01\x00\x00\x00\x02\x14\x01\x03GET\x00\x01/\x00\x03web\x00\x01\x00\x01\x00\x01ab\x00\x00\x03\x04\x00\x00\x00\x02abc\x00\x00\x08\x85\x00\x00\x00\x02\x00\x01\x00\x01\x00\x01ab",
            b"\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x03\x04\x00\x00\x00\x01abc\x00\x00\x04\x06\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x84\x00\x00\x00\x01\x00\x00\x04\x07\x00\x00\x00\x01\x01why\x00\x00\x08\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
            b"\x03\x00\x00\x06\x03\x00\x00\x00\x01\x0b\x00\x00\xc8\x00\x00\x00\x00\x04\x04\x00\x00\x00\x01body\x00\x00\x08\x85\x00\x00\x00\x01\x00\x01\x00\x01\x00\x01ab\x00\x00\x06\x83\x00\x00\x00\x02\x0b\x00\x00\xc8\x00\x00\x00\x00\x03\x07\x00\x00\x00\x03\x03no\x00\x00\x04\x0a\x00\x00\x00\x00\x00\x00\x00\x03",
        ],
        checks::connection::check,
    );
}

#[test]
fn blocks_of_fields() {
    fuzz(
        &[
            b"\x15\x82\x86\x84A\x8c\xf1\xe3\xc2\xe5\xf2:k\xa0\xab\x90\xf4\xff\x00\x01a\x00\x0c\x82\x86\x84\xbeX\x86\xa8\xeb\x10d\x9c\xbf\x18\x82\x87\x85\xbf@\x88%\xa8I\xe9[\xa9}\x7f\x89%\xa8I\xe9[\xb8\xe8\xb4\xbf",
            b"=?\xe1\x01H\x82d\x02X\x85\xae\xc3w\x1aKa\x96\xd0z\xbe\x94\x10T\xd4D\xa8 \x05\x95\x04\x0b\x81f\xe0\x82\xa6-\x1b\xffn\x91\x9d)\xad\x17\x18c\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xaeC\xd3\x00\x01a\x00\x0dH\x83d\x0e\xff\xc1\xc0\xbf\x00\x01a\x01b",
            b"K\x00\x07:method\x07CONNECT\x00\x09:protocol\x09websocket\x86\x84@\x06cookie\x03a=b\x00\x06cookie\x01c\x00\x02te\x08trailers\x09\x82\x86\x84\xbe\x00\x01a\x01b",
            b"'\x00\x07:method\x07CONNECT\x00\x0a:authority\x05a:443\x00\x01a\x00",
            b"%\x88@\x0ccontent-type\x10application/grpc\x00\x01a\x01b\x14@\x0bgrpc-status\x010\x10\x01x\x01y\x05\xbe\x00\x01a\x00",
            b"\x0f \x82\x86\x84\x00\x04host\x04a:80",
        ],
        checks::h2_head::check,
    );
}

#[test]
fn heads_on_a_link() {
    fuzz(
        &[
            b"\x14\x01\x03GET\x00\x01/\x00\x03web\x00\x01\x00\x01\x00\x01ab",
            b"\x0b\x03\x03GET\x00\x05/chat\x00\x01a\x00\x09websocket\x00\x00",
            b"\x0b\x00\x00\xc8\x00\x02\x00\x01\x00\x01ab\x00\x02\x00\x00cd",
            b"\x0a\x01\x01\x94\x00\x04Nope\x00\x00",
            b"\x00\x01\x00\x0b\x00\x01grpc-status0",
        ],
        checks::link_head::check,
    );
}

#[test]
fn records_of_tls() {
    fuzz(
        &[
            b"\x17\x03\x03\x00\x11\x000123456789abcdef",
            b"\x17\x03\x03\x00\x20\x170123456789abcdef0123456789abcde",
            b"\x15\x03\x03\x00\x02\x01\x00",
            b"\x17\x03\x03\x41\x00\x00",
        ],
        checks::tls_record::check,
    );
}
