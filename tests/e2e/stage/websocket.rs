//! The client's end of a WebSocket within a stream of HTTP/2 (RFC 8441).

use std::future::poll_fn;
use std::io::{Error, Result};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Ping, RecvStream, SendStream};
use http::Request;
use tokio::net::TcpStream;

/// A message of text, the end of the conversation.
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A masking key of zeros: RFC 6455 wants one, not which.
const MASK: [u8; 4] = [0; 4];

/// An open WebSocket.
pub(crate) struct Socket {
    up: SendStream<Bytes>,
    down: RecvStream,
    /// What has come and was not taken.
    ahead: Vec<u8>,
}

/// Opens a connection of HTTP/2, and waits until the other side has said whether it takes such a wish.
pub(crate) async fn connect(stream: TcpStream) -> Result<SendRequest<Bytes>> {
    let (sender, mut connection) = h2::client::handshake(stream).await.map_err(io)?;
    let mut pings = connection.ping_pong().expect("it was not taken before");
    tokio::spawn(connection);
    pings.ping(Ping::opaque()).await.map_err(io)?;
    Ok(sender)
}

/// As [`connect`], to an address.
pub(crate) async fn connect_to(address: &str) -> Result<SendRequest<Bytes>> {
    connect(TcpStream::connect(address).await?).await
}

/// Returns what a connection failed of.
pub(crate) fn io(error: h2::Error) -> Error {
    if error.is_io() { error.into_io().expect("it is one") } else { Error::other(error) }
}

impl Socket {
    /// Opens one at `chat.mesh`.
    pub(crate) async fn open(mut sender: SendRequest<Bytes>) -> std::result::Result<Self, h2::Error> {
        let mut wish = Request::connect("http://chat.mesh/chat?room=1").body(()).unwrap();
        wish.extensions_mut().insert(Protocol::from_static("websocket"));
        wish.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
        poll_fn(|cx| sender.poll_ready(cx)).await?;
        let (response, up) = sender.send_request(wish, false)?;
        let response = response.await?;
        assert_eq!(response.status(), 200, "{response:?}");
        Ok(Self { up, down: response.into_body(), ahead: Vec::new() })
    }

    /// Sends a whole message.
    pub(crate) async fn send(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | kind];
        match payload.len() {
            short @ ..126 => frame.push(0x80 | u8::try_from(short).expect("it is short")),
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload);
        let mut left = Bytes::from(frame);
        while !left.is_empty() {
            self.up.reserve_capacity(left.len());
            let room = poll_fn(|cx| self.up.poll_capacity(cx)).await;
            let room = room.ok_or_else(|| Error::other("the stream has ended"))?.map_err(io)?;
            self.up.send_data(left.split_to(room.min(left.len())), false).map_err(io)?;
        }
        Ok(())
    }

    /// Returns the next message; the server may ask in between whether somebody is there.
    pub(crate) async fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            let (kind, payload) = self.next().await?;
            if kind != PING {
                return Ok((kind, payload));
            }
            self.send(PONG, &payload).await?;
        }
    }

    async fn next(&mut self) -> Result<(u8, Vec<u8>)> {
        let start = self.take(2).await?;
        let length = match start[1] {
            126 => u16::from_be_bytes(*self.take(2).await?.first_chunk().unwrap()).into(),
            127 => u64::from_be_bytes(*self.take(8).await?.first_chunk().unwrap()),
            short => short.into(),
        };
        Ok((start[0] & 0x0f, self.take(length as usize).await?))
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.ahead.len() < count {
            let more = self.more().await?.ok_or_else(|| Error::other("it ended within a message"))?;
            self.ahead.extend(more);
        }
        Ok(self.ahead.drain(..count).collect())
    }

    async fn more(&mut self) -> Result<Option<Bytes>> {
        let Some(data) = self.down.data().await else { return Ok(None) };
        let data = data.map_err(io)?;
        self.down.flow_control().release_capacity(data.len()).map_err(io)?;
        Ok(Some(data))
    }

    /// Waits for the end of the stream, after the last message, and ends it too.
    pub(crate) async fn end(mut self) -> Result<()> {
        while let Some(more) = self.more().await? {
            self.ahead.extend(more);
        }
        assert!(self.ahead.is_empty(), "{:?} came after the last message", self.ahead);
        self.up.send_data(Bytes::new(), true).map_err(io)
    }
}
