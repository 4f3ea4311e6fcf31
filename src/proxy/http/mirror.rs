//! Copies of requests for other services: sent besides, answered to nobody.
//!
//! A copy never delays or fails the request that it is made of. Its body comes as the original's passes; it is given up
//! when it lags behind, when it takes too long, and from the start when too many are under way.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::logic::http::framing::Framing;
use crate::logic::http::head::RequestHead;
use crate::logic::http::trace;
use crate::logic::resilience::deadline;
use crate::logic::resilience::retry::RetryRules;
use crate::logic::route::filter::mirror::Mirror;
use crate::model::identity::Subject;
use crate::model::view::EdgeProtocol;
use crate::net::task;
use crate::proxy::http::client::Http;
use crate::proxy::http::course::Call;
use crate::proxy::http::exchange::{Responder, Sides};
use crate::proxy::http::finish::{finish, spoken};
use crate::proxy::http::observe::{Origin, Watch, request_id};
use crate::proxy::http::payload::Payload;
use crate::proxy::http::{forward, message};
use crate::proxy::peer::At;
use crate::proxy::stream::source::Source;
use crate::proxy::upstream::Upstream;

/// A copy is over after this time, where the policy of its service does not say another.
const COPY_TIME: Duration = Duration::from_mins(1);
/// Copies under way on one worker at most.
const COPIES_MAX: usize = 128;

/// A copy of a request.
struct Duplicate {
    http: Rc<Http>,
    upstream: Arc<Upstream>,
    label: Arc<str>,
    source: Arc<Subject>,
    from: IpAddr,
    head: RequestHead,
    body: Source<'static>,
    _place: Place,
}

/// A place among the copies under way; given back when dropped.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(under_way: &Rc<Cell<usize>>) -> Option<Self> {
        let count = under_way.get();
        (count < COPIES_MAX).then(|| {
            under_way.set(count + 1);
            Self(under_way.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Begins to send a copy of a request, of whose body nothing was sent yet. What becomes a connection is not copied.
pub(crate) fn begin(
    http: &Rc<Http>,
    mirror: &Mirror,
    (source, from, framing, head): (&Arc<Subject>, IpAddr, Framing, &RequestHead),
    sides: &mut Sides<'_, '_>,
) {
    let tables = http.context.shared.look();
    let Some(upstream) = tables.upstream_at(&mirror.service, mirror.port) else {
        tracing::debug!(service = %mirror.service, "there is nobody to send a copy to");
        return;
    };
    if head.protocol.is_some() {
        return;
    }
    let Some(place) = Place::take(&http.copies) else {
        tracing::debug!(service = %mirror.service, "too many copies are under way");
        return;
    };
    let mut head = head.clone();
    if let Framing::Length(length) = framing {
        message::put_length(&mut head.fields, length);
    }
    let copy = Duplicate {
        http: http.clone(),
        upstream: upstream.clone(),
        label: mirror.label.clone(),
        source: source.clone(),
        from,
        head,
        body: sides.payload.copy(),
        _place: place,
    };
    task::spawn_local("mirror", copy.send());
}

impl Duplicate {
    /// Sends it to one endpoint, and takes what is answered for nobody.
    async fn send(self) {
        let Self { http, upstream, label, source, from, head, body, _place } = self;
        let protocol = spoken(&head);
        let origin = Origin {
            side: At::Outbound.side(),
            source: source.clone(),
            method: &head.method,
            path: &head.path,
            request_id: request_id(&head.fields),
            trace_id: trace::read(&head.fields).ok().flatten(),
        };
        let watch = Watch::begin(&http.context.ledger, origin, protocol);
        let observation = watch.observation();
        observation.service(&upstream.name);
        observation.rule(&label);
        let mut payload = Payload::new(body);
        let mut responder = Responder::Nobody;
        let timeouts = upstream.traffic.timeouts;
        let patience = match protocol {
            EdgeProtocol::Grpc => head.fields.get("grpc-timeout").and_then(deadline::grpc_timeout),
            EdgeProtocol::Http | EdgeProtocol::Tcp => None,
        };
        let time = timeouts.request.or(Some(COPY_TIME));
        let answered = {
            let turn = http.turn(At::Outbound, observation, (observation.began, http.patience(protocol)));
            let mut sides = Sides { payload: &mut payload, observation, turn: turn.as_ref() };
            let call = Call {
                source: &source,
                upstream: &upstream,
                rule: Some(&label),
                head: &head,
                from,
                timeouts,
                session: None,
                retry: Cow::Owned(RetryRules { attempts: 0, ..RetryRules::default() }),
                deadline: deadline::request(time, patience, observation.began),
            };
            forward::to_service(&http, &call, &mut sides, &mut responder).await
        };
        observation.went_nowhere(&upstream.name);
        finish(&http, (At::Outbound, &head), answered, (payload, responder), &watch).await;
    }
}
