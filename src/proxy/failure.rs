//! Every reason why a call fails, and what follows from it. A closed list: a new reason is one line here.
//!
//! Tokens are Envoy's response flags where it has one for the case, so that people can look them up.

use http::StatusCode;

use crate::logic::resilience::outcome::Outcome;

const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const GATEWAY: StatusCode = StatusCode::BAD_GATEWAY;
const INTERNAL: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
const LOOP: StatusCode = StatusCode::LOOP_DETECTED;
const TOO_LATE: StatusCode = StatusCode::GATEWAY_TIMEOUT;

/// The header field in which a proxy says why it made an answer: the token of a [`Failure`].
pub const FAILURE: &str = "mesh-failure";

/// Why a call did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The request cannot be understood, or asks for what a proxy does not do.
    BadRequest,
    /// The method or protocol upgrade is not carried.
    Unsupported,
    /// The host names no service of the mesh.
    UnknownService,
    /// The service has routes, and none of them takes the request.
    NoRoute,
    /// The rule that takes the request has no backend that may take it.
    NoBackend,
    /// The service has no endpoint.
    NoEndpoint,
    /// The called node does not run the service (any more).
    NotHere,
    /// This proxy has no identity to speak with, or none that is valid.
    NoIdentity,
    /// The endpoint refused the connection, or did not answer in time.
    Unreachable,
    /// The link went away before anybody looked at the request.
    Unseen,
    /// The endpoint could not prove, or did not accept, an identity.
    Untrusted,
    /// The connection ended before a response began.
    Reset,
    /// The connection ended within the response.
    Truncated,
    /// What came back is not a response.
    BadResponse,
    /// The route's or the caller's time is over.
    Timeout,
    /// An intention refuses the call.
    Denied,
    /// Too much is under way already.
    Overloaded,
    /// The service is this proxy itself: the call would never arrive.
    Loop,
    /// Nothing of the call has moved for too long.
    Stalled,
    /// The caller does not send the body of its request.
    CallerStalled,
    /// The caller went away before the end.
    CallerGone,
    /// The service is called more often than its policy lets it be.
    RateLimited,
    /// The service's failure is what the caller gets: everything that was worth trying was tried.
    Exhausted,
    /// A policy makes calls fail, to see who can bear it.
    Faulted,
    /// A policy makes calls slow, to see who can bear it. The call itself need not have failed.
    Delayed,
    /// The time of one attempt is over; that of the request is not.
    Late,
    /// The certificate of the proxy at the other end has ended, and it has not renewed.
    Lapsed,
}

/// Whether another endpoint may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Yes: the service has not seen the request.
    Safe,
    /// When the method is idempotent (RFC 9110 §9.2.2): the service may have seen the request.
    Idempotent,
    /// No: it would not help.
    Never,
}

/// Whose doing a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller's.
    Caller,
    /// The called service's or its node's.
    Callee,
    /// What people configured.
    Policy,
    /// This proxy's.
    Proxy,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consequence {
    /// What callers of HTTP get.
    pub status: StatusCode,
    /// What callers of gRPC get.
    pub grpc_status: u16,
    /// The value of the header `mesh-failure` and of the metric's label `reason`.
    pub token: &'static str,
    /// Whether to try elsewhere.
    pub retry: Retry,
    /// Whose doing it is.
    pub fault: Fault,
    /// How one proxy tells another on a link, 1 or more.
    pub code: u8,
    /// What happened, in a few words.
    pub words: &'static str,
}

const fn row(
    code: u8,
    (status, grpc_status): (StatusCode, u16),
    token: &'static str,
    (retry, fault): (Retry, Fault),
    words: &'static str,
) -> Consequence {
    Consequence { status, grpc_status, token, retry, fault, code, words }
}

impl Failure {
    /// Every failure there is.
    pub const ALL: [Self; 27] = [
        Self::BadRequest,
        Self::Unsupported,
        Self::UnknownService,
        Self::NoRoute,
        Self::NoBackend,
        Self::NoEndpoint,
        Self::NotHere,
        Self::NoIdentity,
        Self::Unreachable,
        Self::Unseen,
        Self::Untrusted,
        Self::Reset,
        Self::Truncated,
        Self::BadResponse,
        Self::Timeout,
        Self::Denied,
        Self::Overloaded,
        Self::Loop,
        Self::Stalled,
        Self::CallerStalled,
        Self::CallerGone,
        Self::RateLimited,
        Self::Exhausted,
        Self::Faulted,
        Self::Delayed,
        Self::Late,
        Self::Lapsed,
    ];

    /// Returns what follows from it: the table.
    pub const fn consequence(self) -> Consequence {
        use Fault::{Callee, Caller, Policy, Proxy};
        use Retry::{Idempotent, Never, Safe};
        match self {
            Self::BadRequest => {
                row(1, (StatusCode::BAD_REQUEST, 13), "DPE", (Never, Caller), "the request is malformed")
            }
            Self::Unsupported => {
                row(2, (StatusCode::NOT_IMPLEMENTED, 12), "DPE", (Never, Caller), "this is not supported")
            }
            Self::UnknownService => {
                row(3, (NOT_FOUND, 5), "NR", (Never, Caller), "no such service in the mesh")
            }
            Self::NoRoute => row(4, (NOT_FOUND, 12), "NR", (Never, Policy), "no route takes this request"),
            Self::NoBackend => {
                row(5, (INTERNAL, 14), "NC", (Never, Policy), "the route has no backend for this request")
            }
            Self::NoEndpoint => {
                row(6, (UNAVAILABLE, 14), "UH", (Never, Callee), "the service has no endpoint")
            }
            Self::NotHere => {
                row(7, (UNAVAILABLE, 14), "UH", (Safe, Callee), "the service does not run on this node")
            }
            Self::NoIdentity => {
                row(8, (UNAVAILABLE, 14), "UF", (Never, Proxy), "this proxy has no valid certificate")
            }
            Self::Unreachable => row(9, (GATEWAY, 14), "UF", (Safe, Callee), "cannot connect"),
            Self::Unseen => {
                row(18, (UNAVAILABLE, 14), "UC", (Safe, Callee), "the link ended before the request was seen")
            }
            Self::Untrusted => row(10, (GATEWAY, 14), "UF", (Safe, Callee), "mutual TLS failed"),
            Self::Reset => {
                row(11, (GATEWAY, 14), "UC", (Idempotent, Callee), "the connection ended before a response")
            }
            Self::Truncated => {
                row(12, (GATEWAY, 14), "UC", (Never, Callee), "the connection ended within the response")
            }
            Self::BadResponse => {
                row(13, (GATEWAY, 13), "UPE", (Idempotent, Callee), "the response is malformed")
            }
            Self::Timeout => row(14, (TOO_LATE, 4), "UT", (Never, Callee), "time is over"),
            Self::Denied => {
                row(15, (StatusCode::FORBIDDEN, 7), "RBAC", (Never, Policy), "an intention refuses this call")
            }
            Self::Overloaded => {
                row(16, (UNAVAILABLE, 14), "UO", (Never, Proxy), "too much is under way already")
            }
            Self::Loop => row(19, (LOOP, 10), "LOOP", (Never, Policy), "the service is its own proxy"),
            Self::Stalled => row(20, (TOO_LATE, 4), "SI", (Never, Callee), "nothing has moved for too long"),
            Self::CallerStalled => {
                row(21, (StatusCode::REQUEST_TIMEOUT, 4), "SI", (Never, Caller), "the body takes too long")
            }
            Self::CallerGone => {
                row(17, (StatusCode::BAD_REQUEST, 1), "DC", (Never, Caller), "the caller went away")
            }
            Self::RateLimited => {
                row(22, (StatusCode::TOO_MANY_REQUESTS, 8), "RL", (Never, Policy), "it is called too often")
            }
            Self::Exhausted => {
                row(23, (UNAVAILABLE, 14), "URX", (Never, Callee), "what was worth a retry was retried")
            }
            Self::Faulted => row(24, (UNAVAILABLE, 14), "FI", (Never, Policy), "this call fails on purpose"),
            Self::Delayed => {
                row(25, (StatusCode::OK, 0), "DI", (Never, Policy), "this call is slow on purpose")
            }
            Self::Late => {
                row(26, (TOO_LATE, 4), "UT", (Idempotent, Callee), "the time of an attempt is over")
            }
            Self::Lapsed => row(27, (GATEWAY, 14), "UC", (Idempotent, Callee), "a peer's certificate ended"),
        }
    }

    /// Returns the value of the header `mesh-failure` and of the metric's label.
    pub const fn token(self) -> &'static str {
        self.consequence().token
    }

    /// Returns the failure that another proxy tells of by its token, where it makes a difference which.
    pub fn told(token: &[u8]) -> Option<Self> {
        match token {
            b"UF" => Some(Self::Unreachable),
            b"UH" => Some(Self::NotHere),
            b"UC" => Some(Self::Reset),
            b"UO" => Some(Self::Overloaded),
            _ => None,
        }
    }

    /// Returns a token that another proxy tells, if it is one.
    pub fn known_token(token: &[u8]) -> Option<&'static str> {
        Self::ALL.into_iter().map(Self::token).find(|known| known.as_bytes() == token)
    }

    /// Returns how an attempt ended that failed so; `None` when no other attempt would help.
    pub const fn outcome(self) -> Option<Outcome> {
        match self.consequence().retry {
            Retry::Safe if matches!(self, Self::Unseen) => Some(Outcome::Unsent),
            Retry::Safe => Some(Outcome::Unseen),
            Retry::Idempotent if matches!(self, Self::Late) => Some(Outcome::Late),
            Retry::Idempotent => Some(Outcome::Broken),
            Retry::Never => None,
        }
    }

    /// Returns the failure that another proxy tells of on a link.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| failure.consequence().code == code)
    }

    /// Returns whether the endpoint that it happened with should be avoided for a while.
    pub const fn blames_endpoint(self) -> bool {
        matches!(self, Self::Unreachable | Self::Untrusted | Self::Reset | Self::NotHere)
    }

    /// Returns whether no connection to another proxy came about or lasted, which may be for what that thinks of this one.
    pub const fn blames_others(self) -> bool {
        let is_refused = matches!(self, Self::NoEndpoint | Self::NoIdentity | Self::Unseen | Self::Lapsed);
        is_refused || self.blames_endpoint()
    }

    /// Returns whether a call that ended so counts as failed. One that its caller gave up, or was not allowed to make, does
    /// not.
    pub const fn counts_as_failed(self) -> bool {
        match self.consequence().fault {
            Fault::Caller => false,
            Fault::Callee | Fault::Proxy => true,
            Fault::Policy => self.consequence().status.as_u16() >= 500,
        }
    }
}

/// A failure with what is known of it.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Which.
    pub failure: Failure,
    /// What exactly, for people: one line, without secrets.
    pub cause: std::sync::Arc<str>,
    /// What else the answer says.
    pub notes: Notes,
}

/// What an answer of our own says besides its failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notes {
    /// Statuses of HTTP and of gRPC instead of the failure's own.
    pub statuses: Option<(u16, u8)>,
    /// When to come back, seconds (`Retry-After`).
    pub retry_after_s: Option<u32>,
    /// Whether callers should not retry (`mesh-no-retry`).
    pub no_retry: bool,
}

impl Failed {
    /// Makes one with its cause.
    pub fn new(failure: Failure, cause: impl std::fmt::Display) -> Self {
        Self { failure, cause: cause.to_string().into(), notes: Notes::default() }
    }

    /// Says where it was.
    #[must_use]
    pub fn at(self, place: impl std::fmt::Display) -> Self {
        let cause =
            if self.cause.is_empty() { place.to_string() } else { format!("{place}: {}", self.cause) };
        Self { cause: cause.into(), ..self }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, cause: "".into(), notes: Notes::default() }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.failure.consequence().words)?;
        if self.cause.is_empty() { Ok(()) } else { write!(f, ": {}", self.cause) }
    }
}
