//! The handshake of WebSocket, which HTTP/1 has and HTTP/2 has not (RFC 8441 §5): where the two meet, the proxy of the service
//! speaks for the side that knows nothing of it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;

use crate::logic::http::head::{RequestHead, ResponseHead, Version};
use crate::proxy::failure::{Failed, Failure};

const KEY: &str = "sec-websocket-key";
const ACCEPT: &str = "sec-websocket-accept";
/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is left to do for the handshake when the service agrees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Nothing: both sides know it, or neither does, or it is no WebSocket.
    Theirs,
    /// The service is to prove that it has understood this key, which its caller knows nothing of.
    Check(String),
    /// The caller is to be told that its key was understood, which the service knows nothing of.
    Prove(String),
}

impl Handshake {
    /// Prepares a request for a service, which speaks HTTP/2 or HTTP/1; `draw` is randomness.
    pub(crate) fn begin(head: &mut RequestHead, http2: bool, mut draw: impl FnMut() -> u64) -> Self {
        if !head.protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
            return Self::Theirs;
        }
        match (head.fields.get(KEY), http2) {
            (Some(key), true) => {
                let key = String::from_utf8_lossy(key).into_owned();
                head.fields.remove(KEY);
                Self::Prove(key)
            }
            // A caller of HTTP/1 without a key knows what it does.
            (None, false) if head.version == Version::Http2 => {
                let key = BASE64.encode(&[draw().to_be_bytes(), draw().to_be_bytes()].concat());
                head.fields.append(KEY.as_bytes(), key.as_bytes());
                Self::Check(key)
            }
            (Some(_) | None, _) => Self::Theirs,
        }
    }

    /// Does what is left for an answer that changes the protocol.
    ///
    /// # Errors
    /// When the service has not understood the key.
    pub(crate) fn end(&self, answer: &mut ResponseHead) -> Result<(), Failed> {
        match self {
            _ if answer.status != 101 => {}
            Self::Theirs => {}
            Self::Check(key) => {
                if answer.fields.get(ACCEPT) != Some(accept(key).as_bytes()) {
                    return Err(Failed::new(Failure::BadResponse, "its handshake of WebSocket is none"));
                }
                answer.fields.remove(ACCEPT);
            }
            Self::Prove(key) => answer.fields.set(ACCEPT, accept(key).as_bytes()),
        }
        Ok(())
    }
}

/// Returns what proves that a key was understood (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()).as_ref())
}
