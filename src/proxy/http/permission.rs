//! Whether a request may be carried to the local service, asked when it comes and again whenever the policy changes.
//!
//! A caller that is refused learns that it is, and under which number; by which rule, the operator does: from the access log,
//! the metrics, and what the control plane shows.

use std::pin::Pin;

use crate::logic::authorize::request::Asked;
use crate::logic::http::head::RequestHead;
use crate::logic::request::Head;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::client::Http;
use crate::proxy::http::observe::Observation;
use crate::proxy::peer::{At, Judged, Peer};

/// Asks the policy in force about a request.
///
/// # Errors
/// When it is refused.
pub(crate) fn ask(
    http: &Http,
    peer: &Peer,
    head: &RequestHead,
    observation: &Observation,
) -> Result<(), Failed> {
    let generation = http.context.shared.look().generation;
    let judged = peer.judge(&http.context, asked(head));
    observation.judged(&judged, generation);
    match judged {
        Judged::Refused(_) => Err(refused(http, observation)),
        Judged::Allowed | Judged::Audited(_) => Ok(()),
    }
}

/// Waits until the policy does not allow a call any more, and notes by which rule; the calling side never knows.
pub(crate) async fn forbidden(
    http: &Http,
    at: At<'_>,
    head: &RequestHead,
    observation: &Observation,
) -> Failed {
    match at {
        At::Outbound => std::future::pending().await,
        At::Inbound(peer) => {
            let rule = peer.forbidden(&http.context, asked(head), observation.judged_at()).await;
            observation.judged(&Judged::Refused(rule), 0);
            refused(http, observation)
        }
    }
}

/// Takes a step of a call, unless the policy forbids the call before it is done. The step is pinned by whoever asks: a
/// future that is passed on by value is copied, and kept twice.
pub(crate) async fn unless_forbidden<T>(
    http: &Http,
    (at, head): (At<'_>, &RequestHead),
    observation: &Observation,
    mut step: Pin<&mut impl Future<Output = Result<T, Failed>>>,
) -> Result<T, Failed> {
    if matches!(at, At::Outbound) {
        return step.await;
    }
    tokio::select! {
        // Most steps are done at once: then nobody has to be told of changes.
        biased;
        done = step.as_mut() => done,
        failed = forbidden(http, at, head, observation) => Err(failed),
    }
}

fn asked(head: &RequestHead) -> Asked<'_> {
    let (path, query) = head.path_and_query();
    let authority = head.authority.as_deref();
    Asked::Request(Head { method: &head.method, path, query, authority, fields: &head.fields })
}

/// Makes the answer to a call that is refused: it says under which number, not why.
fn refused(http: &Http, observation: &Observation) -> Failed {
    let id = observation.name(|| http.context.draw());
    Failed::new(Failure::Denied, format!("request {id}"))
}
