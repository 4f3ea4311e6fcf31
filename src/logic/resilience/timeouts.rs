//! Limits of time from three places put together: the route's, the service's policy, the defaults.

use std::time::Duration;

/// Limits of time for calls to one service; `None` where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutRules {
    /// Of the whole exchange. None by default, as in Linkerd: Envoy's 15 s break what is slow on purpose (downloads, long
    /// polls), and a caller that has gone away ends its request anyway.
    pub request: Option<Duration>,
    /// Of one attempt. None by default.
    pub attempt: Option<Duration>,
    /// Without a byte either way, for exchanges that are neither gRPC nor upgraded: 5 min by default (Envoy's).
    pub idle: Option<Duration>,
    /// The same for gRPC, WebSocket and TCP, which may be silent for as long as they like by default.
    pub idle_stream: Option<Duration>,
    /// Of opening a TCP connection; what is spoken on it then has a limit of its own. 1 s by default (Linkerd's for
    /// outbound): between hosts of one mesh a connection takes milliseconds or never comes.
    pub connect: Duration,
}

/// The default of [`TimeoutRules::idle`].
pub const IDLE: Duration = Duration::from_mins(5);

impl Default for TimeoutRules {
    fn default() -> Self {
        Self {
            request: None,
            attempt: None,
            idle: Some(IDLE),
            idle_stream: None,
            connect: Duration::from_secs(1),
        }
    }
}

impl TimeoutRules {
    /// Returns these limits with what a route says before them; a route's zero switches a limit off (GEP-1742).
    #[must_use]
    pub fn with_route(self, request: Option<Duration>, backend_request: Option<Duration>) -> Self {
        let prefer = |route: Option<Duration>, own| match route {
            None => own,
            Some(Duration::ZERO) => None,
            Some(limit) => Some(limit),
        };
        Self {
            request: prefer(request, self.request),
            attempt: prefer(backend_request, self.attempt),
            ..self
        }
    }
}
