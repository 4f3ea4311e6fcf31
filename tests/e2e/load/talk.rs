//! Callers that converse for a while: over WebSocket in either version of HTTP, and over plain TCP with a service that speaks first.

use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::load::http::connect;
use crate::load::{Lost, Notes, STEP_MAX, Targets, broken};
use crate::stage::websocket::{self, CLOSE, Socket, TEXT};

/// Messages of one conversation.
const MESSAGES: u8 = 20;
/// Between two of them: a conversation takes a second.
const BETWEEN_MESSAGES: Duration = Duration::from_millis(50);
/// A masking key of zeros: RFC 6455 wants one, not which.
const MASK: [u8; 4] = [0; 4];

/// The first step of a conversation.
const FIRST: &str = "the first answer";

type Stream = BufReader<TcpStream>;

/// How far a conversation has come.
struct Step(Mutex<&'static str>);

impl Step {
    fn new(first: &'static str) -> Self {
        Self(Mutex::new(first))
    }

    fn set(&self, next: &'static str) {
        *self.0.lock().unwrap() = next;
    }

    fn get(&self) -> &'static str {
        *self.0.lock().unwrap()
    }
}

/// One conversation over WebSocket, up to its close.
pub(super) async fn websocket(targets: Targets, notes: Notes) -> Result<(), Lost> {
    let (stream, accepted) = connect(targets.outbound).await?;
    let mut stream = BufReader::new(stream);
    let at = Step::new(FIRST);
    let talk = async {
        let request = "GET /chat HTTP/1.1\r\nHost: chat.mesh\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let status = head(&mut stream).await?;
        if !status.starts_with("HTTP/1.1 101") {
            return Err(std::io::Error::other(format!("status: {status}")));
        }
        at.set("a message");
        for number in 0..MESSAGES {
            let text = [b'a' + number; 5];
            stream.write_all(&[&[0x81, 0x80 | 5][..], &MASK, &text].concat()).await?;
            let mut frame = [0; 7];
            stream.read_exact(&mut frame).await?;
            if frame[..2] != [0x81, 5] || frame[2..] != text {
                return Err(std::io::Error::other(format!("{frame:?} came back")));
            }
            sleep(BETWEEN_MESSAGES).await;
        }
        at.set("the close");
        stream.write_all(&[&[0x88, 0x80 | 2][..], &MASK, &1000_u16.to_be_bytes()].concat()).await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await?;
        if rest.first() != Some(&0x88) {
            return Err(std::io::Error::other(format!("{rest:?} instead of a close frame")));
        }
        Ok(())
    };
    ended(timeout(STEP_MAX, talk).await, (at.get(), accepted), &notes)
}

/// One conversation over a WebSocket within a stream of HTTP/2, up to its close.
pub(super) async fn websocket_of_http2(targets: Targets, notes: Notes) -> Result<(), Lost> {
    let (stream, accepted) = connect(targets.outbound).await?;
    let at = Step::new(FIRST);
    let talk = async {
        let mut socket = match Socket::open(websocket::connect(stream).await?).await {
            Ok(socket) => socket,
            // Its caller's to ask again, elsewhere: the proxy leaves, and has not seen it.
            Err(error) if error.is_go_away() && error.is_remote() => return Ok(false),
            Err(error) => return Err(websocket::io(error)),
        };
        at.set("a message");
        for number in 0..MESSAGES {
            let text = [b'a' + number; 5];
            socket.send(TEXT, &text).await?;
            let (kind, back) = socket.receive().await?;
            if (kind, back.as_slice()) != (TEXT, &text) {
                return Err(std::io::Error::other(format!("{kind} {back:?} came back")));
            }
            sleep(BETWEEN_MESSAGES).await;
        }
        at.set("the close");
        socket.send(CLOSE, &1000_u16.to_be_bytes()).await?;
        let (kind, back) = socket.receive().await?;
        if kind != CLOSE {
            return Err(std::io::Error::other(format!("{kind} {back:?} instead of a close frame")));
        }
        socket.end().await?;
        Ok(true)
    };
    match timeout(STEP_MAX, talk).await {
        Ok(Ok(false)) => Ok(()),
        outcome => ended(outcome.map(|outcome| outcome.map(drop)), (at.get(), accepted), &notes),
    }
}

/// Reads the head of a response; returns its first line.
async fn head(stream: &mut Stream) -> std::io::Result<String> {
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? <= 2 {
            return Ok(first);
        }
    }
}

/// One conversation over TCP: a greeting, an echo of each message, and a count at the end.
pub(super) async fn tcp(targets: Targets, notes: Notes) -> Result<(), Lost> {
    let (stream, accepted) = connect(targets.tcp).await?;
    let mut stream = BufReader::new(stream);
    let at = Step::new(FIRST);
    let talk = async {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if !line.starts_with("220 ") {
            return Err(std::io::Error::other(format!("the greeting is '{line}'")));
        }
        at.set("a message");
        for number in 0..MESSAGES {
            let text = [b'a' + number; 5];
            stream.write_all(&text).await?;
            let mut back = [0; 5];
            stream.read_exact(&mut back).await?;
            if back != text {
                return Err(std::io::Error::other(format!("{back:?} came back")));
            }
            sleep(BETWEEN_MESSAGES).await;
        }
        at.set("the end");
        stream.get_mut().shutdown().await?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await?;
        if rest != format!("\r\n221 {} bytes\r\n", usize::from(MESSAGES) * 5) {
            return Err(std::io::Error::other(format!("the last words are '{rest}'")));
        }
        Ok(())
    };
    ended(timeout(STEP_MAX, talk).await, (at.get(), accepted), &notes)
}

fn ended(
    outcome: Result<std::io::Result<()>, tokio::time::error::Elapsed>,
    (at, accepted): (&str, bool),
    notes: &Notes,
) -> Result<(), Lost> {
    outcome.map_err(|late| broken(at)(&late))?.map_err(|error| match at {
        FIRST => Lost::first(at, &error, accepted),
        _ => broken(at)(&error),
    })?;
    notes.done();
    Ok(())
}
