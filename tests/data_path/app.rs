//! Applications behind proxies.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::mesh::net::task;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Collected, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::data_path::mesh::loopback;

pub(crate) type Reply = UnsyncBoxBody<Bytes, Infallible>;

/// Starts an application that handles each connection by `serve`.
pub(crate) async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    task::spawn("test", async move {
        while let Ok((stream, _)) = listener.accept().await {
            task::spawn("test", serve(stream));
        }
    });
    addr
}

/// Starts an application that says a line when it is connected to, and then gives back what it hears.
pub(crate) async fn speaks_first() -> SocketAddr {
    raw(|mut stream| async move {
        stream.write_all(b"220 hello\r\n").await.unwrap();
        let (mut from, mut to) = stream.split();
        _ = tokio::io::copy(&mut from, &mut to).await;
        _ = to.shutdown().await;
    })
    .await
}

/// Starts an application that reads one request's head and answers with `text`, for each connection.
pub(crate) async fn answers(text: &'static str) -> SocketAddr {
    raw(move |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(text.as_bytes()).await.unwrap();
    })
    .await
}

/// Starts an application that speaks HTTP/1.1 and answers request number `n` (from 1, over all connections) with the text
/// that `answer` makes of `n` and the head; an empty one closes the connection instead. Returns the count of requests too.
pub(crate) async fn scripted(
    answer: impl Fn(usize, &str) -> String + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let (count, answer) = (seen.clone(), Arc::new(answer));
    let addr = raw(move |mut stream| {
        let (count, answer) = (count.clone(), answer.clone());
        async move {
            loop {
                let head = read_head(&mut stream).await;
                if !head.ends_with("\r\n\r\n") {
                    return;
                }
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let length = head.to_ascii_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length:").and_then(|length| length.trim().parse().ok())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                if stream.read_exact(&mut body).await.is_err() {
                    return;
                }
                let text = answer(number, &head);
                if text.is_empty() || stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (addr, seen)
}

/// Returns an answer without a body; `fields` are whole lines.
pub(crate) fn bare(status: u16, fields: &str) -> String {
    format!("HTTP/1.1 {status} As Scripted\r\ncontent-length: 0\r\n{fields}\r\n")
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// What an echo application tells of itself.
#[derive(Clone)]
pub(crate) struct Ears {
    /// Gets a word when a request to `/hang` begins, and another when it is given up.
    pub(crate) hung: mpsc::Sender<&'static str>,
    pub(crate) name: &'static str,
}

/// Starts an application that speaks HTTP/1 and HTTP/2 and does what the path says.
pub(crate) async fn echo(name: &'static str) -> (SocketAddr, mpsc::Receiver<&'static str>) {
    let (hung, heard) = mpsc::channel(16);
    let ears = Arc::new(Ears { hung, name });
    let addr = raw(move |stream| {
        let ears = ears.clone();
        async move {
            let service = hyper::service::service_fn(move |request| {
                let ears = ears.clone();
                async move { Ok::<_, Infallible>(handle(&ears, request).await) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        }
    })
    .await;
    (addr, heard)
}

async fn handle(ears: &Ears, mut request: Request<Incoming>) -> Response<Reply> {
    let version = format!("{:?}", request.version());
    let seen: Vec<String> = request.headers().keys().map(ToString::to_string).collect();
    let host = request.headers().get("host").cloned();
    let host = host.or_else(|| {
        HeaderValue::from_str(request.uri().authority().map_or("", |authority| authority.as_str())).ok()
    });
    let mut response = match request.uri().path() {
        "/hang" => {
            struct Given(mpsc::Sender<&'static str>);
            impl Drop for Given {
                fn drop(&mut self) {
                    _ = self.0.try_send("given up");
                }
            }
            let _given = Given(ears.hung.clone());
            _ = ears.hung.send("begun").await;
            std::future::pending().await
        }
        "/upgrade" => return upgrade(&mut request),
        "/small" => Response::new(Small { left: 20_000 }.boxed_unsync()),
        "/drip" => Response::new(Drip { dripped: false }.boxed_unsync()),
        "/big" => Response::new(Full::new(Bytes::from(vec![b'x'; 10 << 20])).boxed_unsync()),
        "/grpc" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("grpc-message", HeaderValue::from_static("fine"));
            let body =
                Full::new(Bytes::from_static(b"\0\0\0\0\0")).with_trailers(async move { Some(Ok(trailers)) });
            let mut response = Response::new(body.boxed_unsync());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            response
        }
        "/hop" => {
            let mut response = Response::new(reply("hop"));
            response.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=5"));
            response.headers_mut().insert("mesh-failure", HeaderValue::from_static("UF"));
            response
        }
        path if path.starts_with("/status/") => {
            let mut response = Response::new(reply("as asked"));
            *response.status_mut() = path.trim_start_matches("/status/").parse().unwrap();
            response
        }
        _ => {
            let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
            Response::new(Full::new(body).boxed_unsync())
        }
    };
    let headers = response.headers_mut();
    headers.insert("x-app", HeaderValue::from_static(ears.name));
    headers.insert("x-version", HeaderValue::from_str(&version).unwrap());
    headers.insert("x-seen", HeaderValue::from_str(&seen.join(",")).unwrap());
    if let Some(host) = host {
        headers.insert("x-host", host);
    }
    response
}

fn upgrade(request: &mut Request<Incoming>) -> Response<Reply> {
    let protocol = request.headers().get("upgrade").cloned().unwrap();
    let key = request.headers().get("sec-websocket-key").cloned();
    let upgraded = hyper::upgrade::on(request);
    task::spawn("test", async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..count]).await.unwrap();
        }
        _ = stream.shutdown().await;
    });
    let mut response = Response::new(reply(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", protocol);
    if let Some(key) = key {
        let proof = prove(key.to_str().unwrap());
        response.headers_mut().insert("sec-websocket-accept", HeaderValue::try_from(proof).unwrap());
    }
    response
}

/// What proves that a key of WebSocket was understood (RFC 6455 §4.2.2).
pub(crate) fn prove(key: &str) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    data_encoding::BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

pub(crate) fn reply(text: &'static str) -> Reply {
    Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync()
}

/// Many messages of 100 bytes.
struct Small {
    left: u32,
}

impl http_body::Body for Small {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b's'; 100])))))
    }
}

/// One message, and then nothing for ever.
struct Drip {
    dripped: bool,
}

impl http_body::Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.dripped, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"drop")))))
    }
}
