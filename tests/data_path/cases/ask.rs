//! Callers that ask the same in either version of HTTP.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::data_path::cases::service::Speaks;
use crate::data_path::cases::two::{Two, whole};
use crate::data_path::cases::wire::Wire;
use crate::data_path::mesh::within;

/// What is asked of `web`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) fields: &'a [(&'a str, &'a str)],
    /// Pieces that are sent one by one; chunks of HTTP/1.
    pub(crate) body: &'a [&'a str],
    pub(crate) trailers: &'a [(&'a str, &'a str)],
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    /// With names as they came.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Told {
    pub(crate) fn field(&self, name: &str) -> &str {
        find(&self.fields, name)
    }

    pub(crate) fn trailer(&self, name: &str) -> &str {
        find(&self.trailers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn find<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    let found = fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value)
}

/// Asks for nothing in particular.
pub(crate) fn get() -> Ask<'static> {
    Ask { method: "GET", path: "/", ..Ask::default() }
}

/// A call of gRPC with an empty message.
pub(crate) fn grpc() -> Ask<'static> {
    let fields = &[("content-type", "application/grpc"), ("te", "trailers")];
    Ask { method: "POST", path: "/shop.Cart/Add", fields, body: &["\0\0\0\0\0"], ..Ask::default() }
}

pub(crate) fn is_told(told: &Told, status: u16, token: &str) -> bool {
    (told.status, told.field("mesh-failure")) == (status, token)
}

/// A status of gRPC without a body, and never a page of text (case 68).
pub(crate) fn is_grpc(told: &Told, status: &str, token: &str) -> bool {
    told.status == 200
        && told.field("content-type") == "application/grpc"
        && (told.field("grpc-status"), told.field("mesh-failure")) == (status, token)
        && !told.field("grpc-message").is_empty()
        && told.body.is_empty()
}

/// Asks on a connection of its own.
pub(crate) async fn ask(speaks: Speaks, addr: SocketAddr, ask: Ask<'_>) -> Told {
    match speaks {
        Speaks::One => ask_one(addr, ask).await,
        Speaks::Two => ask_two(addr, ask).await,
    }
}

async fn ask_one(addr: SocketAddr, ask: Ask<'_>) -> Told {
    let mut wire = Wire::to(addr).await;
    let mut text = format!("{} {} HTTP/1.1\r\nHost: web\r\n", ask.method, ask.path);
    for (name, value) in ask.fields {
        text += &format!("{name}: {value}\r\n");
    }
    let bodiless = ask.body.is_empty() && ask.trailers.is_empty();
    text += if bodiless { "\r\n" } else { "Transfer-Encoding: chunked\r\n\r\n" };
    if !bodiless {
        for piece in ask.body {
            text += &format!("{:x}\r\n{piece}\r\n", piece.len());
        }
        text += "0\r\n";
        for (name, value) in ask.trailers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
    }
    wire.send(text).await;
    let split = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
    if ask.method == "HEAD" {
        let head = wire.head().await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let fields = head.lines().skip(1).filter_map(split).collect();
        return Told { status, fields, body: Vec::new(), trailers: Vec::new() };
    }
    let response = wire.response().await;
    Told {
        status: response.status(),
        fields: response.head.lines().skip(1).filter_map(split).collect(),
        trailers: response.trailers.iter().filter_map(|line| split(line)).collect(),
        body: response.body,
    }
}

async fn ask_two(addr: SocketAddr, ask: Ask<'_>) -> Told {
    let mut request = Request::builder().method(ask.method).uri(format!("http://web{}", ask.path));
    for (name, value) in ask.fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let mut two = Two::to(addr).await;
    let response = if ask.body.is_empty() && ask.trailers.is_empty() {
        two.get(request).await
    } else {
        let (response, mut stream) = two.open(request).await;
        // Who has answered already may not take the rest.
        for piece in ask.body {
            _ = stream.send_data(Bytes::copy_from_slice(piece.as_bytes()), false);
        }
        let mut trailers = HeaderMap::new();
        for (name, value) in ask.trailers {
            trailers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        _ = stream.send_trailers(trailers);
        response
    };
    let (parts, mut body) = within(response).await.unwrap().into_parts();
    let (body, trailers) = whole(&mut body).await.unwrap();
    let text = |fields: &HeaderMap| {
        let one = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        fields.iter().map(one).collect()
    };
    Told { status: parts.status.as_u16(), fields: text(&parts.headers), body, trailers: text(&trailers) }
}
