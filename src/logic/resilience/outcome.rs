//! How one attempt at an endpoint ended, as far as retries and ejection care.

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The connection was gone before anything was sent: nobody is to blame.
    Unsent,
    /// The endpoint could not be reached, or said that it did not look at the request (`REFUSED_STREAM`, GOAWAY).
    Unseen,
    /// The connection ended before a response began: the endpoint may have seen the request.
    Broken,
    /// The time of the attempt was over before a response began. (Not that of the caller: how patient a caller is says
    /// nothing about the endpoint.)
    Late,
    /// A response began, with this status.
    Status(u16),
    /// A response of gRPC ended at once, with this code.
    Grpc(u8),
}

/// What an outcome says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// It works.
    Fine,
    /// It failed on this request: 500, gRPC `INTERNAL`. Often the request's own doing.
    ServerError,
    /// It, or what stands behind it, is not able to serve: 502, 503, 504, a time-out, gRPC `UNAVAILABLE`.
    GatewayError,
}

impl Outcome {
    /// Returns what it says about the endpoint; `None` for what says nothing, or is told by the connection
    /// ([`crate::logic::resilience::avoid`]).
    pub fn grade(self) -> Option<Grade> {
        match self {
            Self::Unsent | Self::Unseen | Self::Broken => None,
            Self::Late | Self::Status(502..=504) | Self::Grpc(UNAVAILABLE) => Some(Grade::GatewayError),
            Self::Status(500..) | Self::Grpc(UNKNOWN | DEADLINE_EXCEEDED | INTERNAL | DATA_LOSS) => {
                Some(Grade::ServerError)
            }
            Self::Status(_) | Self::Grpc(_) => Some(Grade::Fine),
        }
    }
}

const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;
