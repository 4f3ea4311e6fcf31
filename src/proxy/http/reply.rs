//! Answers that this proxy makes itself.

use std::fmt::Write as _;
use std::future::poll_fn;

use bytes::Bytes;
use tokio::time::timeout;

use crate::logic::http::framing::Framing;
use crate::logic::http::h1;
use crate::logic::http::h1::chunk::Piece;
use crate::logic::http::h1::request::Refusal;
use crate::logic::http::head::{ResponseHead, Version};
use crate::logic::resilience::retry::NO_RETRY;
use crate::model::view::{EdgeProtocol, Side};
use crate::net::patience::REPLY_TIME;
use crate::proxy::failure::{FAILURE, Failed, Failure};
use crate::proxy::http::exchange::Responder;
use crate::proxy::http::message::Answer;
use crate::proxy::http::observe::{Observation, REQUEST_ID};
use crate::proxy::stream::pump::Pump;
use crate::proxy::stream::source::Source;
use crate::proxy::stream::writer::Writer;

/// Answers a call that failed: a status and a line that says where and why, or for gRPC a status in the head of a response
/// without a body ("Trailers-Only"); and the name under which people may ask for it, which the observation knows.
///
/// With `head_only` the line is not sent, as the caller asked for the head only.
pub(crate) async fn failure(
    failed: &Failed,
    side: Side,
    (responder, head_only): (Responder<'_>, bool),
    observation: &Observation,
) {
    let consequence = failed.failure.consequence();
    let side = match side {
        Side::Outbound => "outbound",
        Side::Inbound => "inbound",
    };
    let text = format!("mesh {side}: {failed}");
    observation.failed(failed.failure);
    let own = (consequence.status.as_u16(), consequence.grpc_status as u8);
    let (status, grpc_status) = failed.notes.statuses.unwrap_or(own);
    let mut head = ResponseHead::new(status);
    let words = if observation.protocol == EdgeProtocol::Grpc {
        head.status = 200;
        head.fields.append(b"content-type", b"application/grpc");
        head.fields.append(b"grpc-status", grpc_status.to_string().as_bytes());
        head.fields.append(b"grpc-message", percent_encoded(&text).as_bytes());
        Bytes::new()
    } else {
        head.fields.append(b"content-type", b"text/plain; charset=utf-8");
        Bytes::from(text + "\n")
    };
    if let Some(seconds) = failed.notes.retry_after_s {
        head.fields.append(b"retry-after", seconds.to_string().as_bytes());
    }
    if failed.notes.no_retry {
        head.fields.append(NO_RETRY.as_bytes(), Failure::Exhausted.token().as_bytes());
    }
    if let Some(id) = observation.known_name() {
        head.fields.append(REQUEST_ID.as_bytes(), id.as_bytes());
    }
    head.fields.append(FAILURE.as_bytes(), consequence.token.as_bytes());
    observation.answered(head.status, &head.fields);
    let announced = Framing::Length(words.len() as u64);
    let framing = if head_only { Framing::None } else { announced };
    let mut answer = Answer { head, framing, announced, keep_alive: true };
    let words = Some(words).filter(|words| !words.is_empty() && !head_only);
    observation.received(words.as_ref().map_or(0, Bytes::len));
    let Ok(mut down) = responder.begin(&mut answer) else { return };
    let mut words = Source::Words(words);
    let mut pump = Pump::default();
    let told = poll_fn(|cx| {
        pump.poll(cx, &mut down, |cx| {
            words.poll_next(cx).map(|piece| piece.map(|piece| Ok::<(Piece, bool), Failed>((piece?, true))))
        })
    });
    if let Ok(Ok(())) = timeout(REPLY_TIME, told).await {
        observation.complete();
    }
}

/// Answers what is not a request that can be carried on; the connection is to be closed then.
pub(crate) async fn refusal(refusal: &Refusal, writer: &mut Writer, observation: &Observation) {
    let words = format!("mesh outbound: {}: {refusal}\n", Failure::BadRequest.consequence().words);
    let mut head = ResponseHead::new(refusal.status);
    head.fields.append(b"content-type", b"text/plain; charset=utf-8");
    head.fields.append(FAILURE.as_bytes(), Failure::BadRequest.token().as_bytes());
    observation.failed(Failure::BadRequest);
    observation.answered(head.status, &head.fields);
    observation.received(words.len());
    let length = Framing::Length(words.len() as u64);
    writer.begin(|out| h1::write::response(&head, length, Version::Http11, false, out));
    let told = writer.data(Bytes::from(words)).and_then(|()| writer.end(None));
    if told.is_ok() && timeout(REPLY_TIME, poll_fn(|cx| writer.poll_flush(cx))).await.is_ok() {
        observation.complete();
    }
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
