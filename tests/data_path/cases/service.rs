//! Services that answer the same in either version of HTTP, and tell what they were asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::mesh::net::task;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::sync::mpsc;

use crate::data_path::cases::two::{Service2, whole};
use crate::data_path::cases::wire::{Service, Wire};

/// A version of HTTP that both sides of a scene may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    One,
    Two,
}

impl Speaks {
    pub(crate) const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// Caller and service in each pair of versions.
    pub(crate) fn pairs() -> impl Iterator<Item = (Self, Self)> {
        Self::BOTH.into_iter().flat_map(|caller| Self::BOTH.map(|service| (caller, service)))
    }

    /// What a service is declared to speak.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::One => "http",
            Self::Two => "h2c",
        }
    }
}

/// What is always answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// Pieces that are sent one by one.
    pub(crate) body: Vec<Vec<u8>>,
    pub(crate) trailers: Vec<(&'static str, String)>,
    /// Whether the length is told, rather than chunks used; of none, the head says that nothing follows.
    pub(crate) length: bool,
}

impl Answer {
    pub(crate) fn ok(body: &[&str]) -> Self {
        let body = body.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        Self { status: 200, body, ..Self::default() }
    }
}

/// A request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) authority: String,
    /// With names as they came.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Heard {
    pub(crate) fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

/// Makes the next answer.
type Next = Arc<dyn Fn() -> Answer + Send + Sync>;

/// Starts a service.
pub(crate) async fn serve(speaks: Speaks, answer: Answer) -> (SocketAddr, mpsc::UnboundedReceiver<Heard>) {
    serve_each(speaks, move |_| answer.clone()).await
}

/// Starts a service that answers each request as `script` says of its number, from 1 over all connections.
pub(crate) async fn serve_each(
    speaks: Speaks,
    script: impl Fn(usize) -> Answer + Send + Sync + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<Heard>) {
    let (tell, heard) = mpsc::unbounded_channel();
    let count = AtomicUsize::new(0);
    let next: Next = Arc::new(move || script(count.fetch_add(1, Ordering::SeqCst) + 1));
    match speaks {
        Speaks::One => {
            let mut service = Service::start().await;
            let addr = service.addr;
            task::spawn("test", async move {
                loop {
                    let wire = service.accept_late().await;
                    task::spawn("test", answer_one(wire, next.clone(), tell.clone()));
                }
            });
            (addr, heard)
        }
        Speaks::Two => {
            let mut service = Service2::start().await;
            let addr = service.addr;
            task::spawn("test", async move {
                while let Some(call) = service.call_late().await {
                    let (next, tell) = (next.clone(), tell.clone());
                    task::spawn("test", async move { answer_two(call, next, tell).await });
                }
            });
            (addr, heard)
        }
    }
}

async fn answer_one(mut wire: Wire, next: Next, tell: mpsc::UnboundedSender<Heard>) {
    while let Some(request) = wire.next_request().await {
        let mut line = request.line().split(' ');
        let fields = request.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let split = |line: &String| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap();
        let heard = Heard {
            method: line.next().unwrap().to_owned(),
            target: line.next().unwrap().to_owned(),
            authority: request.field("host").to_owned(),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: request.text(),
            trailers: request.trailers.iter().map(split).collect(),
        };
        let is_head = heard.method == "HEAD";
        _ = tell.send(heard);
        let answer = next();
        let mut said = head_one(&answer).into_bytes();
        if is_head || matches!(answer.status, 204 | 304) {
            wire.send(said).await;
            continue;
        }
        for piece in &answer.body {
            if answer.length {
                said.extend(piece);
            } else {
                said.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
        }
        if !answer.length {
            let lines: String =
                answer.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            said.extend(format!("0\r\n{lines}\r\n").into_bytes());
        }
        wire.send(said).await;
    }
}

fn head_one(answer: &Answer) -> String {
    let mut head = format!("HTTP/1.1 {} Said\r\n", answer.status);
    for (name, value) in answer.fields {
        head += &format!("{name}: {value}\r\n");
    }
    if answer.length {
        head += &format!("content-length: {}\r\n", answer.body.iter().map(Vec::len).sum::<usize>());
    } else if !matches!(answer.status, 204 | 304) {
        head += "transfer-encoding: chunked\r\n";
    }
    head + "\r\n"
}

async fn answer_two(
    (request, mut respond): crate::data_path::cases::two::Called,
    next: Next,
    tell: mpsc::UnboundedSender<Heard>,
) {
    let (parts, mut body) = request.into_parts();
    let Ok((content, trailers)) = whole(&mut body).await else { return };
    let text = |fields: &HeaderMap| {
        let one = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        fields.iter().map(one).collect()
    };
    let is_head = parts.method == http::Method::HEAD;
    _ = tell.send(Heard {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
        fields: text(&parts.headers),
        body: String::from_utf8_lossy(&content).into_owned(),
        trailers: text(&trailers),
    });
    let answer = next();
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.fields {
        response = response.header(*name, *value);
    }
    if answer.length {
        response = response.header("content-length", answer.body.iter().map(Vec::len).sum::<usize>());
    }
    let none = answer.length && answer.body.is_empty() && answer.trailers.is_empty();
    let bodiless = is_head || none || matches!(answer.status, 204 | 304);
    let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), bodiless) else { return };
    if bodiless {
        return;
    }
    for piece in answer.body {
        _ = stream.send_data(Bytes::from(piece), false);
    }
    if answer.trailers.is_empty() {
        _ = stream.send_data(Bytes::new(), true);
        return;
    }
    let mut trailers = HeaderMap::new();
    for (name, value) in answer.trailers {
        trailers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    _ = stream.send_trailers(trailers);
}
