//! Requests that become connections: WebSocket and any other change of protocol, and CONNECT.
//!
//! On a link a change of protocol is a request that says so, and the status 101 of its answer, whatever the caller and the
//! service speak.

use std::rc::Rc;
use std::time::Duration;

use crate::logic::http::head::{RequestHead, ResponseHead};
use crate::net::clock;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::client::Http;
use crate::proxy::http::exchange::{Ended, Exchange, Responder};
use crate::proxy::http::observe::Watch;
use crate::proxy::http::payload::Payload;
use crate::proxy::http::{permission, reply};
use crate::proxy::peer::At;
use crate::proxy::silence::over;
use crate::proxy::stream::duplex::{End, duplex};
use crate::proxy::tcp::{self, Lost, Wish};

/// Carries bytes between a caller and a service that have agreed on another protocol, until both have ended, the policy
/// forbids it, or the drain is over.
pub(crate) async fn switch(
    http: &Rc<Http>,
    (at, asked, answer): (At<'_>, &RequestHead, &ResponseHead),
    (exchange, idle): (Exchange<'_>, Option<Duration>),
    (payload, responder): (Payload<'_>, Responder<'_>),
    watch: &Watch,
) -> Ended {
    let observation = watch.observation();
    let Some(protocol) = &asked.protocol else {
        let failed = Failed::new(Failure::BadResponse, "the service changes to what nobody asked for");
        observation.name(|| http.context.draw());
        reply::failure(&failed, at.side(), (responder, false), observation).await;
        return Ended::Answered;
    };
    let Ok(sink) = responder.switch(answer, protocol) else {
        observation.failed(Failure::CallerGone);
        return Ended::Cut;
    };
    let caller = End::new(payload.into_source(), sink);
    let silence = idle.map(|limit| http.context.silences.enter(limit, clock::now()));
    let callee = exchange.into_end();
    let progress = |sent: u64, received: u64| {
        observation.sent(sent as usize);
        observation.received(received as usize);
    };
    let mut drain = http.context.drain.clone();
    let failure = tokio::select! {
        // What moves is known before it is asked whether anything does.
        biased;
        carried = duplex(caller, callee, http.context.patience.half_closed, progress) => match carried {
            Ok(()) => {
                observation.complete();
                return Ended::Broken;
            }
            Err(failed) => failed.failure,
        },
        () = over(silence.as_ref(), || observation.moved()) => Failure::Stalled,
        failed = permission::forbidden(http, at, asked, observation) => failed.failure,
        () = drain.closing() => Failure::Truncated,
    };
    observation.failed(failure);
    Ended::Cut
}

/// Carries bytes between a caller that asked for it by CONNECT and a TCP connection to a service. It is counted as that
/// connection, and logged as the request.
pub(crate) async fn connect(
    http: &Rc<Http>,
    wish: Wish,
    (responder, payload): (Responder<'_>, Payload<'_>),
    watch: &Watch,
) -> Ended {
    let observation = watch.observation();
    match tcp::open(&http.context, wish).await {
        Ok(opened) => {
            observation.tunnelled(&opened.account);
            let head = ResponseHead::new(200);
            observation.answered(head.status, &head.fields);
            let Ok(sink) = responder.connected(&head) else {
                observation.failed(Failure::CallerGone);
                return Ended::Cut;
            };
            let caller = End::new(payload.into_source(), sink);
            if let Err(failed) = opened.carry(&http.context, caller).await {
                tracing::debug!(%failed, "tunnel broke");
                return Ended::Cut;
            }
            observation.complete();
            Ended::Broken
        }
        Err(Lost { failed, account }) => {
            if let Some(account) = &account {
                observation.tunnelled(account);
            }
            observation.name(|| http.context.draw());
            reply::failure(&failed, At::Outbound.side(), (responder, false), observation).await;
            Ended::Answered
        }
    }
}
