//! The end of every call: an answer that has begun, or one of our own, handed to the caller.

use std::pin::pin;
use std::rc::Rc;

use http::Method;

use crate::logic::http::grpc;
use crate::logic::http::head::RequestHead;
use crate::model::view::{EdgeProtocol, Side};
use crate::net::clock;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::client::Http;
use crate::proxy::http::exchange::{Ended, Responder, Sides, break_off};
use crate::proxy::http::forward::{Answered, within};
use crate::proxy::http::observe::Watch;
use crate::proxy::http::payload::Payload;
use crate::proxy::http::{permission, reply, tunnel};
use crate::proxy::peer::At;

/// Returns what a request speaks.
pub(crate) fn spoken(head: &RequestHead) -> EdgeProtocol {
    if grpc::is_grpc(&head.fields) { EdgeProtocol::Grpc } else { EdgeProtocol::Http }
}

/// Hands an answer that has begun, or one of our own, to the caller.
pub(crate) async fn finish(
    http: &Rc<Http>,
    (at, head): (At<'_>, &RequestHead),
    answered: Result<Box<Answered<'_>>, Failed>,
    (mut payload, mut responder): (Payload<'_>, Responder<'_>),
    watch: &Watch,
) -> Ended {
    let observation = watch.observation();
    let head_only = head.method == Method::HEAD;
    if http.context.rest.is_draining() {
        responder.close();
    }
    let Answered { mut answer, mut exchange, hold: _hold, deadline, idle } = *match answered {
        Ok(answered) => answered,
        Err(failed) => {
            observation.failed(failed.failure);
            let is_gone = failed.failure == Failure::CallerGone;
            if !payload.is_ended() || failed.failure == Failure::BadRequest {
                responder.close();
            }
            if !is_gone {
                observation.name(|| http.context.draw());
                let is_ours = at.side() == Side::Outbound;
                let failed = if is_ours { http.context.shared.explain(failed) } else { failed };
                Box::pin(reply::failure(&failed, at.side(), (responder, head_only), observation)).await;
            }
            return if is_gone { Ended::Broken } else { Ended::Answered };
        }
    };
    observation.answered(answer.head.status, &answer.head.fields);
    if answer.head.status == 101 {
        let ends = (payload, responder);
        return Box::pin(tunnel::switch(http, (at, head, &answer.head), (exchange, idle), ends, watch)).await;
    }
    // A caller that is refused need not send the rest, and nobody waits for it: nothing else can follow.
    if answer.head.status >= 300 && !payload.is_ended() {
        responder.close();
    }
    let framing = answer.framing;
    let mut down = match responder.begin(&mut answer) {
        Ok(down) => down,
        Err(failed) => {
            observation.failed(failed.failure);
            return Ended::Broken;
        }
    };
    let turn = http.turn(at, observation, (clock::now(), idle));
    let mut sides = Sides { payload: &mut payload, observation, turn: turn.as_ref() };
    let passing = async { within(deadline, pin!(exchange.body(framing, &mut sides, &mut down))).await? };
    let passed = permission::unless_forbidden(http, (at, head), observation, pin!(passing)).await;
    match passed {
        Ok(()) => {
            observation.complete();
            Ended::Answered
        }
        Err(failed) => {
            observation.failed(failed.failure);
            Box::pin(break_off(&mut down, failed.failure)).await;
            Ended::Broken
        }
    }
}
