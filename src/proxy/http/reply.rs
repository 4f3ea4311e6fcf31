//! Answers that this proxy makes itself.

use std::fmt::Write as _;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::model::view::{EdgeProtocol, Side};
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::body::Body;
use crate::proxy::http::header::FAILURE;
use crate::proxy::http::observe::Watch;

/// Makes the answer to a call that failed: a status and a line that says where and why, or for gRPC a status in the head of
/// a response without a body ("Trailers-Only").
pub(crate) fn failure(failed: &Failed, side: Side, watch: Watch) -> Response<Body> {
    let consequence = failed.failure.consequence();
    let side = match side {
        Side::Outbound => "outbound",
        Side::Inbound => "inbound",
    };
    let text = format!("mesh {side}: {failed}");
    let observation = watch.observation().clone();
    observation.failed(failed.failure);
    let mut response = if observation.protocol == EdgeProtocol::Grpc {
        let mut response = Response::new(Body::words(String::new(), watch));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(consequence.grpc_status));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&text)) {
            headers.insert("grpc-message", message);
        }
        response
    } else {
        let mut response = Response::new(Body::words(text + "\n", watch));
        *response.status_mut() = consequence.status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    response.headers_mut().insert(FAILURE, HeaderValue::from_static(consequence.token));
    if failed.failure == Failure::BadRequest {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    observation.answered(response.status().as_u16(), response.headers());
    response
}

/// Makes the answer that opens a tunnel.
pub(crate) fn tunnel(status: StatusCode, headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Encodes as gRPC asks of `grpc-message`: bytes outside of printable ASCII, and `%`, as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            // Writing to a string cannot fail.
            other => _ = write!(encoded, "%{other:02X}"),
        }
    }
    encoded
}
