//! The fuzz targets without a fuzzer: good samples, changed at random, for a second each or for `MESH_FUZZ_SECONDS`.
//!
//! It finds less than coverage-guided fuzzing (see `Cargo.toml` beside it), which takes a build of everything with other
//! flags: too long for each change, so this is what runs for each change.

mod checks;

use std::io::Write as _;
use std::time::Duration;

use mesh::identity::key::Key;
use mesh::logic::gossip::catalog::{Entry, Verdict};
use mesh::logic::gossip::cluster::{Cluster, Settings};
use mesh::logic::gossip::contact::Draws;
use mesh::logic::gossip::wire::{Identity, Signed, Statement, encode};
use mesh::model::endpoint::{NodeRecord, Role};
use mesh::net::clock;
use serde::Serialize;

use crate::contract::ca::{Ca, Spec};

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

/// Checks the samples, then changes of them until the time is over. Where `MESH_FUZZ_CORPUS` names a folder, the samples are
/// put there as well, for a fuzzer to begin with.
fn fuzz<C: Fn(&[u8])>(samples: &[&[u8]], check: C) {
    if let Some(corpus) = std::env::var_os("MESH_FUZZ_CORPUS") {
        let target = std::any::type_name::<C>().trim_end_matches("::check").rsplit("::").next().unwrap();
        let folder = std::path::Path::new(&corpus).join(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, sample) in samples.iter().enumerate() {
            std::fs::write(folder.join(format!("sample-{number}")), sample).unwrap();
        }
    }
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

#[test]
fn fields_of_heads() {
    fuzz(
        &[
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate: a=1\nb3: 8448eb211c80319c-b7ad6b7169203331-d-05e3ac9a4f6e3b90",
            b"Traceparent:cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x\ntraceparent:00-1\nx-b3-traceid:0af7651916cd43dd8448eb211c80319c",
            b"content-type: application/grpc+proto\ngrpc-status: 14\ngrpc-timeout: 99999999H\nx: \0\0\0\0\x02ab",
            b"cookie: a=b; mesh-session=0123456789abcdef65e0c0de65e0c0df; c\nx:0123456789abcdef65e0c0de",
            b"connection: close, x-a, te, host\nte: trailers, deflate\nx-a: 1\nkeep-alive: 5\ntransfer-encoding: chunked\nhost: a",
            b"origin: https://a.example.com:8443\naccess-control-request-method: PUT\naccess-control-request-headers: x-a, y",
            b"host: [::1]:80\nhost: a.b%20c:\nx: /a/%2e%2e/b;v=1//c\\..\\d/.\nx: b=%61+c&a=%zz&%61=%41",
        ],
        checks::fields::check,
    );
}

#[test]
fn words_of_gossip() {
    let conversation = conversation();
    fuzz(
        &[
            &conversation,
            b"\x00\x0a\x00\x03\x00\x00\x00\x01\xff\x00\x0c\x01\x02me\x01\x00\x00\x0a\x00\x00\x01\x01\x00\x00\xff\x00\x0d\x02\x03you\x02\x00\x00\x0a\x00\x00\x02\x01\x05",
            b"\x06\x00\x00\x22\x01\x010123456789abcdef0123456789abcdef\x06\x00\x00\x0cmesh bans\0\x00\x05",
        ],
        checks::gossip::check,
    );
}

/// What a node says to the one of the check, from when it joins until some seconds later.
fn conversation() -> Vec<u8> {
    let mut now = clock::now();
    let node = |name: &str, host: u8, seeds| {
        let addr = ([10, 0, 0, host], 1).into();
        let me = Identity { node: name.parse().unwrap(), epoch: 1, life: 0, addr };
        Cluster::new(Settings { me, seeds, known: Vec::new(), seed: 1, wall_ms: 1 }, now)
    };
    let (mut me, mut you) = (node("me", 1, Vec::new()), node("you", 2, vec![([10, 0, 0, 1], 1).into()]));
    let (mine, yours) = (([10, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 1).into());
    you.announce(entry(you.me()), now);
    let mut judge = |_: &_, _: &_| Verdict::Genuine;
    let mut said = Vec::new();

    let offer = you.offer(now);
    let answer = me.answer(offer.clone(), now).unwrap();
    let rest = you.conclude(mine, answer.clone(), &mut judge, now).unwrap();
    say(&mut said, 2, &offer);
    say(&mut said, 3, &you.bequeath(now));
    say(&mut said, 4, &rest);
    say(&mut said, 5, &answer);
    me.finish(rest, &mut judge, now).unwrap();
    while said.len() < INPUT_BYTES_MAX / 2 {
        now += Duration::from_millis(200);
        you.handle_timeout(now);
        me.handle_timeout(now);
        while let Some(transmit) = you.poll_transmit() {
            said.extend_from_slice(&[0, 2]);
            said.extend_from_slice(&u16::try_from(transmit.payload.len()).unwrap().to_be_bytes());
            said.extend_from_slice(&transmit.payload);
            me.handle_packet(yours, &transmit.payload, &mut judge, now).unwrap();
        }
        while let Some(transmit) = me.poll_transmit() {
            you.handle_packet(mine, &transmit.payload, &mut judge, now).unwrap();
        }
    }
    said
}

fn entry(of: &Identity) -> Entry {
    let record = NodeRecord {
        node: of.node.clone(),
        epoch: of.epoch,
        version: 1,
        role: Role::Proxy,
        addr: of.addr,
        zone: None,
        build: "a".to_owned(),
        draining: false,
        services: Vec::new(),
    };
    let body = encode(&Statement { record, left: false });
    let (pass, signature) = (vec![0; 64], vec![0; 64]);
    Entry::read(Signed { body, key: [0; 32], not_after_ms: 0, issuer: [0; 16], pass, signature }).unwrap()
}

fn say(said: &mut Vec<u8>, kind: u8, message: &impl Serialize) {
    let message = encode(message);
    said.extend_from_slice(&[kind, 2]);
    said.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
    said.extend_from_slice(&message);
}

#[test]
fn questions_of_names() {
    fuzz(
        &[
            b"j\x124\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03web\x04mesh\x00\x00\x01\x00\x01\x00\x00)\x04\xd0\x00\x00\x00\x00\x00\x00\x00\x99\x81\x80\x00\x01\x00\x01\x00\x00\x00\x01\x03web\x04mesh\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x01,\x00\x04\x0a\x00\x00\x09\x00\x00)\x04\xd0\x00\x00\x00\x00\x00\x00",
            b"t\x00\x07\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00\x05_http\x04_tcp\x03web\x07default\x04mesh\x00\x00!\x00\x01\x00\x07\x83\x80\x00\x01\x00\x00\x00\x01\x00\x00\x01x\x01y\x00\x00\x1c\x00\x01\xc0\x0e\x00\x06\x00\x01\x00\x00\x00<\x00\x16\xc0\x0c\x01a\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00",
            b"\xff\x00\x01(\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x00\x00\xff\x00\xff\x00\x00)\x10\x00\x00\x01\x00\x00\x00\x00\x00",
            b"\xff\x00\x09\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01\x011\x010\x010\x0210\x07in-addr\x04arpa\x00\x00\x0c\x00\x01\x00\x00)\x10\x00\x00\x01\x00\x00\x00\x00\x00",
            b"\xff\x00\x03\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ],
        checks::dns::check,
    );
}

#[test]
fn what_is_shown_to_be_let_in() {
    let ca = Ca::new();
    let key = Key::generate().unwrap();
    let request = key.request().unwrap();
    let chain = ca.sign(&request, &Spec::of("web", "host-1", 1_800_000_000_000));
    fuzz(
        &[
            &request,
            &ca.root,
            &chain[0],
            &chain[1],
            b"mesh1.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.abcdef.abcdefghijklmnopqrstuvwxyz@a:1,[::1]:2",
            b"spiffe://shop.test/ns/default/svc/web",
        ],
        checks::enrollment::check,
    );
}
