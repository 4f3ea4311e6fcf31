//! Services of HTTP/2 whose answers break its rules: they are bad gateways, and nothing of what they say gets through.

use crate::data_path::cases::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Parrot, RST_STREAM, Said, block,
};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::Speaks;
use crate::data_path::cases::two::{Two, wanted};
use crate::data_path::cases::wire::{Ending, Wire};
use crate::data_path::mesh::within;

type Line<'a> = (&'a str, &'a [u8]);

const OK: Line<'_> = (":status", b"200");
/// A field of an answer that must not get through.
const LEAK: Line<'_> = ("x-leak", b"1");
const LEAK_BODY: &str = "leak";

fn head(flags: u8, fields: &[Line<'_>]) -> Said {
    (HEADERS, END_HEADERS | flags, block(fields))
}

fn data(flags: u8, text: &str) -> Said {
    (DATA, flags, text.as_bytes().to_vec())
}

/// An answer of which nothing is wrong.
fn fine() -> Vec<Said> {
    vec![head(0, &[OK, ("content-length", b"4")]), data(END_STREAM, "fine")]
}

/// Heads that are malformed (RFC 9113 §8.2, §8.3), or that could not be said in HTTP/1 without saying something else.
fn malformed() -> Vec<Vec<Line<'static>>> {
    vec![
        // Pseudo-header fields.
        vec![LEAK],
        vec![OK, OK, LEAK],
        vec![OK, (":status", b"204"), LEAK],
        vec![LEAK, OK],
        vec![OK, (":path", b"/"), LEAK],
        vec![OK, (":unknown", b"1"), LEAK],
        vec![(":status", b""), LEAK],
        vec![(":status", b"20"), LEAK],
        vec![(":status", b"2000"), LEAK],
        vec![(":status", b"099"), LEAK],
        vec![(":status", b"abc"), LEAK],
        vec![(":status", b"101"), LEAK],
        vec![(":status", b"200 OK\r\nx-leak: 1"), LEAK],
        // Fields of connections.
        vec![OK, ("connection", b"close"), LEAK],
        vec![OK, ("connection", b"x-leak"), LEAK],
        vec![OK, ("transfer-encoding", b"chunked"), LEAK],
        vec![OK, ("keep-alive", b"timeout=5"), LEAK],
        vec![OK, ("proxy-connection", b"close"), LEAK],
        vec![OK, ("upgrade", b"websocket"), LEAK],
        vec![OK, ("te", b"gzip"), LEAK],
        // What is no name or value.
        vec![OK, LEAK, ("x", b"a\r\nx-leak: b")],
        vec![OK, LEAK, ("x", b"a\nx-leak: b")],
        vec![OK, LEAK, ("x", b"a\rb")],
        vec![OK, LEAK, ("x", b"a\0b")],
        vec![OK, LEAK, ("x: y\r\nx-leak", b"b")],
        vec![OK, LEAK, ("x:y", b"b")],
        vec![OK, LEAK, ("x y", b"b")],
        vec![OK, LEAK, ("Capital", b"b")],
        vec![OK, LEAK, ("", b"b")],
        // Lengths that are none.
        vec![OK, LEAK, ("content-length", b"abc")],
        vec![OK, LEAK, ("content-length", b"-4")],
        vec![OK, LEAK, ("content-length", b"+4")],
        vec![OK, LEAK, ("content-length", b"4"), ("content-length", b"5")],
        vec![OK, LEAK, ("content-length", b"4, 5")],
    ]
}

/// Answers that are refused before any of their heads has gone on, and what failed.
fn refused() -> Vec<(&'static str, Vec<Said>, &'static str)> {
    let interim = head(END_STREAM, &[(":status", b"103"), LEAK]);
    let table = (HEADERS, END_HEADERS, vec![0x80]);
    vec![
        (
            "nothing of the length that was told",
            vec![head(END_STREAM, &[OK, LEAK, ("content-length", b"4")])],
            "UC",
        ),
        ("data and no head", vec![data(END_STREAM, LEAK_BODY)], "UPE"),
        ("an end before the final head", vec![interim], "UPE"),
        ("a table without such an entry", vec![table], "UC"),
        ("half a head, and then data", vec![(HEADERS, 0, block(&[OK, LEAK])), data(0, LEAK_BODY)], "UC"),
        ("more of a head that has ended", vec![(CONTINUATION, END_HEADERS, block(&[OK, LEAK]))], "UC"),
        ("a reset", vec![(RST_STREAM, 0, 2u32.to_be_bytes().to_vec())], "UC"),
    ]
}

/// Answers that go wrong when their heads have gone on already, and what of the body may get through.
fn broken() -> Vec<(&'static str, Vec<Said>, &'static str)> {
    let begun = || head(0, &[OK]);
    let four = || head(0, &[OK, ("content-length", b"4")]);
    let trailers = |fields: &[Line<'_>]| vec![begun(), data(0, "part"), head(END_STREAM, fields)];
    vec![
        ("more than it said", vec![four(), data(END_STREAM, "leakleak")], ""),
        ("more than it said, in pieces", vec![four(), data(0, "par"), data(END_STREAM, "leak")], "par"),
        ("less than it said", vec![four(), data(END_STREAM, "par")], "par"),
        ("less than it said, and trailers", vec![four(), data(0, "par"), head(END_STREAM, &[LEAK])], "par"),
        (
            "a second head",
            vec![begun(), data(0, "part"), head(0, &[OK, LEAK]), data(END_STREAM, "leak")],
            "part",
        ),
        (
            "hints within a body",
            vec![begun(), data(0, "part"), head(0, &[(":status", b"103"), LEAK])],
            "part",
        ),
        ("a status in trailers", trailers(&[OK, LEAK]), "part"),
        ("a status behind trailers", trailers(&[LEAK, OK]), "part"),
        ("a connection in trailers", trailers(&[LEAK, ("connection", b"close")]), "part"),
        ("lines in trailers", trailers(&[LEAK, ("x", b"a\r\nx-leak: b")]), "part"),
        ("no name in trailers", trailers(&[LEAK, ("X", b"a")]), "part"),
        ("a reset", vec![begun(), data(0, "part"), (RST_STREAM, 0, vec![0; 4])], "part"),
    ]
}

/// A caller that uses one connection for as long as that goes on.
enum Caller {
    One(Wire),
    Two(Two),
}

/// An answer, as far as it came.
#[derive(Debug)]
struct Came {
    status: u16,
    token: String,
    leaked: bool,
    body: String,
    is_whole: bool,
}

impl Caller {
    async fn to(speaks: Speaks, scene: &Scene) -> Self {
        match speaks {
            Speaks::One => Self::One(Wire::to(scene.outbound()).await),
            Speaks::Two => Self::Two(Two::to(scene.outbound()).await),
        }
    }

    async fn ask(&mut self) -> Came {
        match self {
            Self::One(wire) => {
                wire.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
                let head = wire.head().await.expect("an answer");
                let field = |name: &str| {
                    let found = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    found.unwrap_or_default().to_owned()
                };
                let length = field("content-length").parse::<usize>();
                let (body, is_whole) = read(wire, length.ok()).await;
                let leaked = format!("{head}{body}").contains("leak");
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                Came { status, token: field("mesh-failure"), leaked, body, is_whole }
            }
            Self::Two(two) => {
                let (parts, mut body) =
                    within(two.get(wanted("POST", "/")).await).await.unwrap().into_parts();
                let token = parts.headers.get("mesh-failure").map(|token| token.to_str().unwrap().to_owned());
                let (mut came, mut is_whole) = (Vec::new(), true);
                loop {
                    match within(body.data()).await {
                        Some(Ok(data)) => came.extend(data),
                        Some(Err(_)) => break is_whole = false,
                        None => break,
                    }
                }
                let trailers = within(body.trailers()).await;
                is_whole &= trailers.is_ok();
                let body = String::from_utf8(came).unwrap();
                let leaked = parts.headers.contains_key("x-leak")
                    || body.contains("leak")
                    || trailers.ok().flatten().is_some();
                let status = parts.status.as_u16();
                Came { status, token: token.unwrap_or_default(), leaked, body, is_whole }
            }
        }
    }
}

/// Reads a body of a length, or chunks, as far as they come; and whether that was all.
async fn read(wire: &mut Wire, length: Option<usize>) -> (String, bool) {
    let mut body = Vec::new();
    if let Some(length) = length {
        while body.len() < length {
            let Ok(byte) = wire.try_take(1).await else { break };
            body.extend(byte);
        }
        let is_whole = body.len() == length;
        return (String::from_utf8(body).unwrap(), is_whole);
    }
    let (rest, _): (String, Ending) = wire.rest().await;
    let is_whole = rest.ends_with("0\r\n\r\n");
    let chunks = rest.split("\r\n").skip(1).step_by(2);
    (chunks.collect(), is_whole)
}

async fn each_pair(play: impl AsyncFn(&Parrot, &Scene, Speaks)) {
    for layout in Layout::BOTH {
        let parrot = Parrot::start().await;
        let scene = Scene::new(layout, parrot.addr, "h2c");
        for speaks in Speaks::BOTH {
            play(&parrot, &scene, speaks).await;
        }
    }
}

/// Has the service say what is no answer: its caller is told so, hears nothing of it, and asks on.
async fn is_bad_gateway(parrot: &Parrot, caller: &mut Caller, (said, token): (Vec<Said>, &str), shown: &str) {
    parrot.say(said);
    let came = caller.ask().await;
    assert_eq!((came.status, came.token.as_str()), (502, token), "{shown}: {came:?}");
    assert!(!came.leaked && came.is_whole, "{shown}: {came:?}");
    assert_eq!(parrot.asked(), 1, "{shown}");
    still_fine(parrot, caller, shown).await;
}

async fn still_fine(parrot: &Parrot, caller: &mut Caller, after: &str) {
    parrot.say(fine());
    let came = caller.ask().await;
    assert_eq!((came.status, came.body.as_str(), came.is_whole), (200, "fine", true), "after {after}");
    parrot.asked();
}

// case 55
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_head_of_an_answer_is_a_bad_gateway_and_its_callers_connection_goes_on() {
    each_pair(async |parrot, scene, speaks| {
        let mut caller = Caller::to(speaks, scene).await;
        for fields in malformed() {
            let shown: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
            let shown = format!("{shown:?} to {speaks:?}");
            let said = vec![head(0, &fields), data(END_STREAM, LEAK_BODY)];
            is_bad_gateway(parrot, &mut caller, (said, "UPE"), &shown).await;
        }
    })
    .await;
}

// case 55
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_is_a_bad_gateway_and_its_callers_connection_goes_on() {
    each_pair(async |parrot, scene, speaks| {
        let mut caller = Caller::to(speaks, scene).await;
        for (what, said, token) in refused() {
            let shown = format!("{what} to {speaks:?}");
            is_bad_gateway(parrot, &mut caller, (said, token), &shown).await;
        }
    })
    .await;
}

// cases 27, 55
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_goes_wrong_within_its_body_is_broken_off() {
    each_pair(async |parrot, scene, speaks| {
        let mut caller = Caller::to(speaks, scene).await;
        for (what, said, through) in broken() {
            let shown = format!("{what} to {speaks:?}");
            parrot.say(said);
            let came = caller.ask().await;
            assert!(!came.is_whole && !came.leaked, "{shown}: {came:?}");
            // It may be found out before the head has gone.
            let is_refused = came.status == 502 && !came.token.is_empty();
            assert!(is_refused || came.status == 200 && through.starts_with(&came.body), "{shown}: {came:?}");
            // Only a stream can end without its connection.
            if speaks == Speaks::One {
                caller = Caller::to(speaks, scene).await;
            }
            still_fine(parrot, &mut caller, &shown).await;
        }
    })
    .await;
}

// case 30
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_the_end_of_an_answer_is_nobodys() {
    each_pair(async |parrot, scene, speaks| {
        let mut caller = Caller::to(speaks, scene).await;
        let more = [
            vec![head(0, &[OK, LEAK])],
            vec![head(END_STREAM, &[LEAK])],
            vec![head(0, &[(":status", b"103"), LEAK])],
            vec![data(END_STREAM, LEAK_BODY)],
            vec![head(0, &[OK, LEAK]), data(END_STREAM, LEAK_BODY)],
        ];
        for more in more {
            let shown = format!("{more:?} to {speaks:?}");
            parrot.say([fine(), more].concat());
            let came = caller.ask().await;
            assert_eq!((came.status, came.body.as_str()), (200, "fine"), "{shown}: {came:?}");
            assert!(came.is_whole && !came.leaked, "{shown}: {came:?}");
            still_fine(parrot, &mut caller, &shown).await;
        }
    })
    .await;
}
