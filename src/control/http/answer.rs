//! Bodies in, answers and refusals out: every refusal is a problem of RFC 9457.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::api::problem::{FieldProblem, Problem as Answer};
use crate::control::authority;
use crate::control::enrollment;
use crate::control::store::SubmitError;
use crate::logic::state::Refusal;
use crate::logic::validate::problem::{Problem, Severity};

/// Largest body that is read, bytes.
pub const BODY_MAX: usize = 4 << 20;
/// The same for callers who have proven nothing yet, bytes.
pub const STRANGER_BODY_MAX: usize = 256 << 10;

/// A body of JSON.
#[derive(Debug)]
pub struct Read<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Read<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let status = rejection.status();
            let detail = if status == StatusCode::PAYLOAD_TOO_LARGE {
                format!(
                    "the body is too large: {} MiB at most, {} KiB to join",
                    BODY_MAX >> 20,
                    STRANGER_BODY_MAX >> 10
                )
            } else {
                "the body could not be read to its end".to_owned()
            };
            Refused::new(status, detail)
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Refused::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))
        })
    }
}

/// Why a request was not carried out: what the caller may know.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    detail: String,
    errors: Vec<FieldProblem>,
}

impl Refused {
    /// Refuses, with a sentence without a full stop.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new() }
    }

    /// Refuses an object for what is wrong in it, field by field.
    pub fn invalid(problems: &[Problem]) -> Self {
        let first = problems.iter().find(|problem| problem.is_error()).map(ToString::to_string);
        let errors = problems.iter().map(field_problem);
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: first.unwrap_or_else(|| "the object is not valid".to_owned()),
            errors: errors.collect(),
        }
    }
}

/// Returns a problem as it travels.
pub fn field_problem(problem: &Problem) -> FieldProblem {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    FieldProblem {
        object: problem.object.path(),
        path: problem.path.clone(),
        message: problem.message.clone(),
        severity: severity.to_owned(),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { status, detail, errors } = self;
        let title = status.canonical_reason().unwrap_or("Refused").to_owned();
        let body = Answer { title, status: status.as_u16(), detail, errors };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Mutual realm=\"mesh\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Conflict { .. }
            | Refusal::Exists(_)
            | Refusal::TokenExists(_)
            | Refusal::NameTaken(_)
            | Refusal::Founded(_)
            | Refusal::SerialTaken
            | Refusal::IsControl(_)
            | Refusal::GossipKey(_)
            | Refusal::GossipKeyExists(_) => StatusCode::CONFLICT,
            Refusal::NoObject(_) | Refusal::NoVersion { .. } | Refusal::UnknownNode(_) => {
                StatusCode::NOT_FOUND
            }
            Refusal::UnknownToken | Refusal::TokenExpired { .. } | Refusal::TokenUsedUp { .. } => {
                StatusCode::UNAUTHORIZED
            }
            Refusal::TokenRole { .. }
            | Refusal::Service { .. }
            | Refusal::Subject { .. }
            | Refusal::OtherKind(..)
            | Refusal::Banned(_) => StatusCode::FORBIDDEN,
            Refusal::TooMany { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::NotFounded => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.to_string())
    }
}

impl From<SubmitError> for Refused {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal.into(),
            SubmitError::Unwritten(_) | SubmitError::Silent => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}

impl From<enrollment::Error> for Refused {
    fn from(error: enrollment::Error) -> Self {
        match error {
            enrollment::Error::Request(reason) => Self::new(StatusCode::BAD_REQUEST, reason),
            enrollment::Error::Unproven(reason) => Self::new(StatusCode::FORBIDDEN, reason),
            enrollment::Error::Refused(refusal) => refusal.into(),
            enrollment::Error::Store(error) => error.into(),
            enrollment::Error::Authority(error @ authority::Error::Request { .. }) => {
                Self::new(StatusCode::BAD_REQUEST, error.to_string())
            }
            enrollment::Error::Authority(error) => {
                tracing::error!(%error, "cannot sign");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the certificate authority cannot sign now")
            }
        }
    }
}
