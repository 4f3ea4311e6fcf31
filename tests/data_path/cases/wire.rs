//! Either end of a TCP connection, byte by byte: callers and services that follow a script.

use std::io::ErrorKind;
use std::net::SocketAddr;

use ::mesh::net::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::data_path::mesh::{loopback, within};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By the end of the stream.
    Closed,
    /// By a reset.
    Reset,
}

/// One end of a connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    ahead: Vec<u8>,
}

/// A message of HTTP/1, as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// With its last line end.
    pub(crate) head: String,
    /// The content, without what frames it.
    pub(crate) body: Vec<u8>,
    /// The lines after the last chunk.
    pub(crate) trailers: Vec<String>,
}

impl Message {
    /// The values of a field, its name compared to the letter case.
    pub(crate) fn exactly(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(other, _)| *other == name).map(|(_, value)| value).collect()
    }

    /// The values of a field.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The first value of a field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields(name).first().copied().unwrap_or_default()
    }

    /// The names of all fields in lower case.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.map(|(name, _)| name.to_lowercase()).collect()
    }

    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.line().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    pub(crate) async fn to(addr: SocketAddr) -> Self {
        Self::new(within(TcpStream::connect(addr)).await.unwrap())
    }

    /// Sends, as far as the other side takes it.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        _ = within(self.stream.write_all(bytes.as_ref())).await;
    }

    /// Ends the sending direction.
    pub(crate) async fn finish(&mut self) {
        _ = self.stream.shutdown().await;
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        within(self.stream.read_buf(&mut self.ahead)).await
    }

    /// Reads a head; what came instead of a whole one otherwise.
    pub(crate) async fn head(&mut self) -> Result<String, (String, Ending)> {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..at + 4).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            match self.more().await {
                Ok(1..) => {}
                Ok(0) => return Err((self.left(), Ending::Closed)),
                Err(_) => return Err((self.left(), Ending::Reset)),
            }
        }
    }

    fn left(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.ahead)).into_owned()
    }

    /// Reads so many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            let read = self.more().await.unwrap();
            assert!(read > 0, "the end after {:?}", String::from_utf8_lossy(&self.ahead));
        }
        self.ahead.drain(..count).collect()
    }

    /// Reads so many bytes, or how the connection ended before.
    pub(crate) async fn try_take(&mut self, count: usize) -> Result<Vec<u8>, Ending> {
        while self.ahead.len() < count {
            match self.more().await {
                Ok(1..) => {}
                Ok(0) => return Err(Ending::Closed),
                Err(_) => return Err(Ending::Reset),
            }
        }
        Ok(self.ahead.drain(..count).collect())
    }

    async fn text_line(&mut self) -> String {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return String::from_utf8_lossy(&line[..at]).into_owned();
            }
            let read = self.more().await.unwrap();
            assert!(read > 0, "the end after {:?}", String::from_utf8_lossy(&self.ahead));
        }
    }

    /// Reads all that comes to the end.
    pub(crate) async fn rest(&mut self) -> (String, Ending) {
        let ending = loop {
            match self.more().await {
                Ok(1..) => {}
                Ok(0) => break Ending::Closed,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break Ending::Reset,
                Err(error) => panic!("{error}"),
            }
        };
        (self.left(), ending)
    }

    /// Reads a request.
    pub(crate) async fn request(&mut self) -> Message {
        let head = self.head().await.expect("a request");
        let mut message = Message { head, body: Vec::new(), trailers: Vec::new() };
        self.delimited(&mut message).await;
        message
    }

    /// Reads a request if one comes at all.
    pub(crate) async fn next_request(&mut self) -> Option<Message> {
        let head = self.head().await.ok()?;
        let mut message = Message { head, body: Vec::new(), trailers: Vec::new() };
        self.delimited(&mut message).await;
        Some(message)
    }

    /// Reads a final response to a request that was not HEAD.
    pub(crate) async fn response(&mut self) -> Message {
        let head = match self.head().await {
            Ok(head) => head,
            Err((text, ending)) => panic!("no response but {text:?}, {ending:?}"),
        };
        let mut message = Message { head, body: Vec::new(), trailers: Vec::new() };
        let bodiless = matches!(message.status(), 100..200 | 204 | 304);
        if bodiless || self.delimited(&mut message).await {
            return message;
        }
        let (text, ending) = self.rest().await;
        assert_eq!(ending, Ending::Closed, "{}", message.head);
        message.body = text.into_bytes();
        message
    }

    /// Reads a body if its head delimits it.
    async fn delimited(&mut self, message: &mut Message) -> bool {
        let length: Option<usize> =
            message.fields("content-length").first().map(|length| length.parse().unwrap());
        if message.field("transfer-encoding") == "chunked" {
            assert_eq!(length, None, "{}", message.head);
            loop {
                let line = self.text_line().await;
                let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
                if size == 0 {
                    break;
                }
                message.body.extend(self.take(size).await);
                assert_eq!(self.take(2).await, b"\r\n");
            }
            loop {
                let line = self.text_line().await;
                if line.is_empty() {
                    return true;
                }
                message.trailers.push(line);
            }
        }
        if let Some(length) = length {
            message.body = self.take(length).await;
        }
        length.is_some()
    }
}

/// A service whose connections a test plays itself.
pub(crate) struct Service {
    pub(crate) addr: SocketAddr,
    called: mpsc::UnboundedReceiver<TcpStream>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::at(loopback()).await
    }

    pub(crate) async fn at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (calls, called) = mpsc::unbounded_channel();
        task::spawn("test", async move {
            while let Ok((stream, _)) = listener.accept().await {
                if calls.send(stream).is_err() {
                    break;
                }
            }
        });
        Self { addr, called }
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&mut self) -> Wire {
        Wire::new(within(self.called.recv()).await.unwrap())
    }

    /// Waits for the next connection, however long it takes.
    pub(crate) async fn accept_late(&mut self) -> Wire {
        match self.called.recv().await {
            Some(stream) => Wire::new(stream),
            None => std::future::pending().await,
        }
    }

    /// Returns whether nobody has connected.
    pub(crate) fn is_untouched(&mut self) -> bool {
        self.called.try_recv().is_err()
    }
}
