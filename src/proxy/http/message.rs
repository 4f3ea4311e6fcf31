//! What a head says of its body, and the fields that only proxies may say.
//!
//! `mesh-*` fields from applications are taken away, on the way there and on the way back, so nobody can make them up; but
//! for the few that they hand on.

use http::Method;

use crate::logic::http::fields::Fields;
use crate::logic::http::framing::{self, Framing};
use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::logic::http::hop;
use crate::proxy::failure::{FAILURE, Failed, Failure};

const PREFIX: &[u8] = b"mesh-";
const CONTENT_LENGTH: &str = "content-length";

/// The head of a response with what it says of its body.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The head.
    pub(crate) head: ResponseHead,
    /// How the body is delimited; chunks stand for any body of unknown length.
    pub(crate) framing: Framing,
    /// What the head says of a body, also of one that does not come, as in answers to HEAD.
    pub(crate) announced: Framing,
    /// Whether the connection it came on says that it can be used again.
    pub(crate) keep_alive: bool,
}

impl Answer {
    /// Makes one of a head that came with `content-length` among its fields; `ended` says that no body follows.
    ///
    /// # Errors
    /// When the length is none, or a body that should follow does not.
    pub(crate) fn new(mut head: ResponseHead, method: &Method, ended: bool) -> Result<Self, Failed> {
        let length = take_length(&mut head.fields, Failure::BadResponse)?;
        let bodiless = *method == Method::HEAD || matches!(head.status, 100..200 | 204 | 304);
        let announced = match (length, ended) {
            (Some(length @ 1..), true) if !bodiless => {
                return Err(Failed::new(Failure::Truncated, format!("no byte of {length} came")));
            }
            (Some(length), _) => Framing::Length(length),
            (None, _) if bodiless => Framing::None,
            (None, true) => Framing::Length(0),
            (None, false) => Framing::Chunked,
        };
        let framing = if bodiless { Framing::None } else { announced };
        Ok(Self { head, framing, announced, keep_alive: true })
    }

    /// Makes one that is not the last one.
    pub(crate) fn interim(head: ResponseHead) -> Self {
        Self { head, framing: Framing::None, announced: Framing::None, keep_alive: true }
    }

    /// Writes the length among the fields, where other forms than HTTP/1 have it.
    pub(crate) fn put_length(&mut self) {
        if let Framing::Length(length) = self.announced {
            put_length(&mut self.head.fields, length);
        }
    }
}

/// Writes a length among the fields.
pub(crate) fn put_length(fields: &mut Fields, length: u64) {
    fields.set(CONTENT_LENGTH, length.to_string().as_bytes());
}

/// Takes the length from among the fields.
///
/// # Errors
/// With `failure`, when it is not one number.
pub(crate) fn take_length(fields: &mut Fields, failure: Failure) -> Result<Option<u64>, Failed> {
    let length = framing::announced(fields).map_err(|bad| Failed::new(failure, bad))?;
    if length.is_some() {
        fields.remove(CONTENT_LENGTH);
    }
    Ok(length)
}

/// Returns how the body of a request is delimited that came with `content-length` among its fields; `ended` says that no
/// body follows.
///
/// # Errors
/// When the length is none, or a body that should follow does not.
pub(crate) fn take_framing(head: &mut RequestHead, ended: bool) -> Result<Framing, Failed> {
    match (take_length(&mut head.fields, Failure::BadRequest)?, ended) {
        (Some(length @ 1..), true) => {
            Err(Failed::new(Failure::BadRequest, format!("no byte of {length} came")))
        }
        (Some(length), _) => Ok(Framing::Length(length)),
        (None, true) => Ok(Framing::None),
        (None, false) => Ok(Framing::Chunked),
    }
}

/// Takes away what only proxies may say, but for what applications hand on.
pub(crate) fn strip_internal(fields: &mut Fields, handed_on: &[&str]) {
    let internal =
        |name: &[u8]| name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if fields.iter().any(|(name, _)| internal(name)) {
        let kept = |name: &[u8]| handed_on.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()));
        fields.retain(|name, _| !internal(name) || kept(name));
    }
}

/// Lets `change` change the fields of a request, and keeps what is no field here out of them.
pub(crate) fn change(head: &mut RequestHead, change: impl FnOnce(&mut Fields)) {
    change(&mut head.fields);
    if let Some(host) = head.fields.get("host") {
        head.authority = Some(String::from_utf8_lossy(host).into_owned());
        head.fields.remove("host");
    }
    head.fields.remove(CONTENT_LENGTH);
    hop::strip(&mut head.fields);
}

/// Returns the failure that the called side tells of, where another endpoint may do better.
pub(crate) fn told_failure(fields: &Fields) -> Option<Failure> {
    Failure::told(fields.get(FAILURE)?)
}
