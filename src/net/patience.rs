//! How long, and how much, we wait for what a client or a service says.

use std::time::Duration;

/// How patient a proxy is with those it waits for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// A client may keep an unused connection for so long.
    pub idle: Duration,
    /// From one piece of a request's body to the next, as long as no answer has begun.
    pub body: Duration,
    /// Until something moves in an exchange, either way. Not for gRPC, whose streams are silent for as long as they like.
    pub stall: Duration,
    /// Of a connection that carries bytes, and of which one direction has ended: until something moves in the other.
    pub half_closed: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: HEAD_TIME,
            idle: IDLE_TIME,
            body: BODY_TIME,
            stall: STALL_TIME,
            half_closed: HALF_CLOSED_TIME,
        }
    }
}

/// From the first byte of a request's head to its last: a head comes in one piece, or in a few round trips of the slowest
/// network. Whoever takes longer means to hold a connection (Apache's reqtimeout waits 20 s, nginx a minute).
pub const HEAD_TIME: Duration = Duration::from_secs(15);
/// A client may keep an unused connection for so long: longer than the pools of clients do, most of them 90 s or less, so
/// that it is they who close it, and no request crosses with its end.
pub const IDLE_TIME: Duration = Duration::from_mins(5);
/// From one piece of a request's body to the next (nginx's time; Envoy waits five minutes).
pub const BODY_TIME: Duration = Duration::from_mins(1);
/// Until something moves in an exchange (Envoy's time): a long poll or a stream of events says something within that.
pub const STALL_TIME: Duration = Duration::from_mins(5);
/// Until something moves in the direction that is left of a connection: whoever closed a socket without reading on looks
/// the same as one who only ended its own direction.
pub const HALF_CLOSED_TIME: Duration = Duration::from_mins(5);
/// From the end of a client's stream, or the last that was written to it since, until its request is given up: nearly all
/// that say no more are gone, and what they asked for is work for nobody.
pub const LEAVE_TIME: Duration = Duration::from_secs(1);
/// For a client to take an answer of our own: a few hundred bytes, which only who does not read leaves so long.
pub const REPLY_TIME: Duration = Duration::from_secs(10);
/// For a client to read an answer before what it goes on sending resets the connection: several round trips of the slowest
/// network, and no more, as it costs a connection of a client that does not listen.
pub const LINGER_TIME: Duration = Duration::from_secs(2);
