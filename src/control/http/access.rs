//! Who is calling, and may they.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::api::endpoint::Right;
use crate::control::enrollment::{self, Holder};
use crate::control::http::answer::Refused;
use crate::control::plane::Plane;
use crate::model::identity::{BACKDATE_MS, Subject};
use crate::model::name::NodeName;
use crate::net::clock;

/// A request that has not been answered by then is given up; streams have begun their answer long before.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is at the other end of a connection. Kept in every request's extensions.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Root, or the owner of the control plane's process, on the unix socket.
    Local,
    /// The holder of a certificate of this mesh.
    Certificate(Certificate),
    /// Anybody else.
    Nobody,
}

/// A certificate that leads to the root; it may have expired, or not be valid yet.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Whose, where it was issued to, and its key.
    pub holder: Holder,
    /// End of its validity, Unix milliseconds.
    pub not_after_ms: u64,
}

impl Certificate {
    fn is_expired(&self) -> bool {
        self.not_after_ms <= clock::wall_ms()
    }

    /// Whether it was issued while clocks were ahead, which have been set back since.
    fn is_early(&self) -> bool {
        self.holder.issued_ms > clock::wall_ms().saturating_add(BACKDATE_MS)
    }
}

impl Caller {
    /// Decides whether the caller has a right.
    ///
    /// # Errors
    /// 401 or 403, naming the right that is missing.
    pub fn allow(&self, right: Right, plane: &Plane) -> Result<(), Refused> {
        match right {
            Right::Anyone | Right::Token => Ok(()),
            Right::Holder => self.certificate().map(drop),
            Right::Node => self.valid(plane).and_then(|certificate| match certificate.holder.subject {
                Subject::Node(_) => Ok(()),
                Subject::Control(_) | Subject::Operator(_) | Subject::Service(_) => {
                    Err(missing(certificate, "node: this is for proxies, about themselves"))
                }
            }),
            Right::Reader => match self {
                Self::Local => Ok(()),
                Self::Certificate(_) | Self::Nobody => {
                    self.valid(plane).and_then(|certificate| match certificate.holder.subject {
                        Subject::Node(_) | Subject::Operator(_) | Subject::Control(_) => Ok(()),
                        Subject::Service(_) => Err(missing(certificate, "reader: this is for nodes and administrators")),
                    })
                }
            },
            Right::Owner => match self {
                Self::Local => Ok(()),
                Self::Certificate(_) | Self::Nobody => self.valid(plane).and_then(|certificate| {
                    Err(missing(certificate, "owner: use the unix socket on the control plane's host"))
                }),
            },
            Right::Administrator => match self {
                Self::Local => Ok(()),
                Self::Certificate(_) | Self::Nobody => {
                    self.valid(plane).and_then(|certificate| match certificate.holder.subject {
                        Subject::Operator(_) => Ok(()),
                        Subject::Node(_) | Subject::Control(_) | Subject::Service(_) => Err(missing(
                            certificate,
                            "administrator: use the unix socket on the control plane's host, or an operator certificate",
                        )),
                    })
                }
            },
        }
    }

    fn certificate(&self) -> Result<&Certificate, Refused> {
        match self {
            Self::Certificate(certificate) => Ok(certificate),
            Self::Local | Self::Nobody => Err(Refused::new(
                StatusCode::UNAUTHORIZED,
                "this needs a certificate of this mesh, or, for administrators, the unix socket on the control plane's \
                 host; none was shown",
            )),
        }
    }

    /// Returns the certificate if it is valid now and its node is neither banned nor removed.
    fn valid(&self, plane: &Plane) -> Result<&Certificate, Refused> {
        let certificate = self.certificate()?;
        let node = &certificate.holder.node;
        let flaw = match (certificate.is_expired(), certificate.is_early()) {
            (true, _) => Some("has expired"),
            (false, true) => Some("is not valid yet"),
            (false, false) => None,
        };
        if let Some(flaw) = flaw {
            let detail = format!("the certificate of {} {flaw}: renew it first", certificate.holder.subject);
            return Err(Refused::new(StatusCode::UNAUTHORIZED, detail));
        }
        let state = plane.store.state();
        if state.banned().contains_key(node) {
            return Err(Refused::new(StatusCode::FORBIDDEN, format!("node {node} is banned")));
        }
        if !state.nodes().contains_key(node) {
            let detail = enrollment::removed(&certificate.holder.subject, node);
            return Err(Refused::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(certificate)
    }

    /// Returns who calls, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Local => "local administrator".to_owned(),
            Self::Certificate(certificate) => certificate.holder.subject.to_string(),
            Self::Nobody => "nobody".to_owned(),
        }
    }

    /// Returns the holder of the certificate shown; refused when there is none.
    pub fn holder(&self) -> Result<&Holder, Refused> {
        self.certificate().map(|certificate| &certificate.holder)
    }

    /// Returns the node that calls; refused when it shows no certificate.
    pub fn node(&self) -> Result<&NodeName, Refused> {
        self.holder().map(|holder| &holder.node)
    }
}

fn missing(certificate: &Certificate, right: &str) -> Refused {
    let detail = format!("{} lacks the right {right}", certificate.holder.subject);
    Refused::new(StatusCode::FORBIDDEN, detail)
}

/// Returns who makes a request.
pub fn caller(request: &Request) -> Caller {
    request.extensions().get().cloned().unwrap_or(Caller::Nobody)
}

/// How much of a refused request is read, and for how long.
const REFUSED_BYTES_MAX: usize = 64 << 10;
const REFUSED_TIME_MAX: Duration = Duration::from_millis(500);

/// Lets a request through if its caller has the right, and gives up on it after [`REQUEST_TIMEOUT`].
pub async fn guard(
    State((plane, right)): State<(Arc<Plane>, Right)>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(refused) = caller(&request).allow(right, &plane) {
        // A client that is still sending when the answer comes may lose it, as curl does: it is heard out, in bounds.
        let heard = axum::body::to_bytes(request.into_body(), REFUSED_BYTES_MAX);
        let _ = tokio::time::timeout(REFUSED_TIME_MAX, heard).await;
        return refused.into_response();
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Refused::new(StatusCode::REQUEST_TIMEOUT, "the request was not complete in time").into_response()
        }
    }
}
