//! What can go wrong: with opening a stream, with a stream, with the link.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::logic::http::h2::frame::Fault;
use crate::logic::link::frame::{Code, Violation};

/// Why no stream was opened. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The link has as many streams as it may have, or the peer reads too slowly: another link may have room.
    #[error("link full")]
    Full,
    /// The link is broken, or going away.
    #[error("link closed")]
    Closed,
    /// The head is larger than any link takes, or there are no words for it in HTTP/2.
    #[error("head that no link takes")]
    Unsayable,
}

/// Why a stream ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Broken {
    /// Either side has reset the stream; the other ones of the link go on.
    #[error("stream reset ({code:?}): {reason}")]
    Reset {
        /// Why, in one word.
        code: Code,
        /// Why, in a few; often empty.
        reason: Arc<str>,
    },
    /// The link broke, or ends and does not take the stream any more.
    #[error("link broken: {reason}")]
    Link {
        /// What happened to the link.
        reason: Arc<str>,
        /// Whether the peer surely never looked at the stream: it is safe to try again.
        unseen: bool,
    },
}

/// Why a link ended before its time.
#[derive(Debug, Error)]
pub enum Error {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer broke a rule of the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The peer broke a rule of HTTP/2.
    #[error("the peer broke HTTP/2: {0}")]
    Http2(#[from] Fault),
    /// The peer ended the link and said why.
    #[error("ended by the peer: {0}")]
    Ended(Arc<str>),
    /// The peer closed the connection while streams were open.
    #[error("closed by the peer")]
    Closed,
    /// Nothing was heard of the peer for too long.
    #[error("the peer fell silent")]
    Silent,
}
