//! Connections that carry HTTP: from local callers in either version, and links.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::identity::tls::Accepted;
use crate::logic::http::framing::Framing;
use crate::logic::http::h1::body::Body;
use crate::logic::http::h1::request::{self, Refusal, Request};
use crate::logic::http::head::RequestHead;
use crate::net::connection::Connection;
use crate::net::drain::Phase;
use crate::net::patience::{LINGER_TIME, REPLY_TIME};
use crate::net::task;
use crate::proxy::http::client::Http;
use crate::proxy::http::exchange::{Asked, Ended, Manners, Responder};
use crate::proxy::http::message;
use crate::proxy::http::pipeline::{Entry, inbound, outbound, refused, refused_stream};
use crate::proxy::link::{Arrival, Arrivals, Limits, Opening};
use crate::proxy::links::ended;
use crate::proxy::peer::Peer;
use crate::proxy::stream::link::{Arriving, Leaving, halves};
use crate::proxy::stream::reader::{NoHead, Reader};
use crate::proxy::stream::source::Source;
use crate::proxy::stream::writer::Writer;
use crate::proxy::tcp;

/// Bytes that a caller goes on sending after its last answer are read and thrown away, up to this many.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A local caller that speaks HTTP/1.
struct Caller {
    reader: Reader,
    writer: Writer,
    /// The connection is to be reset, since its end would be taken for the end of an answer.
    cut: bool,
}

/// What comes next on a connection.
enum Next {
    /// A request.
    Request(Box<Request>),
    /// Something that is refused, with the status.
    Refused(Refusal),
    /// Nothing any more.
    Nothing,
}

/// Serves a local caller that speaks HTTP/1, of which `first` was read already.
pub(crate) fn h1(
    http: Rc<Http>,
    entry: Entry,
    stream: Connection,
    first: BytesMut,
) -> impl Future<Output = ()> + 'static {
    let socket = Rc::new(RefCell::new(stream));
    let mut caller =
        Caller { reader: Reader::new(socket.clone(), first), writer: Writer::new(socket), cut: false };
    // A connection that waits for its next request is small: all that is seldom, or of one request, is in boxes of its own,
    // and no `async fn` holds its arguments once more.
    async move {
        loop {
            let request = match caller.next(&http).await {
                Next::Request(request) => request,
                Next::Refused(refusal) => {
                    task::boxed(|| refused(&http, &entry, &refusal, &mut caller.writer)).await;
                    break;
                }
                Next::Nothing => return,
            };
            let goes_on = task::boxed(|| caller.exchange(&http, &entry, *request)).await;
            if !goes_on {
                break;
            }
        }
        task::boxed(|| caller.linger()).await;
    }
}

impl Caller {
    /// Waits for the next request.
    async fn next(&mut self, http: &Http) -> Next {
        {
            let place = http.context.rest.enter();
            let begun = poll_fn(|cx| match self.reader.poll_begun(cx) {
                Poll::Ready(begun) => Poll::Ready(begun.unwrap_or(false)),
                Poll::Pending => place.poll_ended(cx).map(|()| false),
            });
            if !begun.await {
                return Next::Nothing;
            }
        }
        let mut head = poll_fn(|cx| {
            self.reader.poll_head(cx, |bytes| request::parse(bytes, request::Limits::default()))
        });
        // Most heads are here already, and need no timer.
        let at_once = (&mut head).now_or_never();
        let found = match at_once {
            Some(found) => Ok(found),
            None => Box::pin(timeout(http.context.patience.head, head)).await,
        };
        match found {
            Ok(Ok(request)) => Next::Request(Box::new(request)),
            Ok(Err(NoHead::Refused(refusal))) => Next::Refused(refusal),
            Ok(Err(NoHead::Broken(_) | NoHead::Truncated)) => Next::Nothing,
            Err(_) => Next::Refused(Refusal { status: 408, cause: "the head of the request took too long" }),
        }
    }

    /// Answers one request; returns whether the connection goes on.
    async fn exchange(&mut self, http: &Rc<Http>, entry: &Entry, request: Request) -> bool {
        let Request { mut head, framing, keep_alive, .. } = request;
        if !framing.is_empty() {
            // Nothing tells whether what follows the head is of the old protocol or of the new one: the old one goes on.
            head.protocol = None;
        }
        self.reader.expect(Body::new(framing));
        let mut manners = Manners {
            version: head.version,
            head_only: head.method == http::Method::HEAD,
            keep_alive: keep_alive && !http.context.rest.is_draining(),
        };
        if !manners.keep_alive {
            self.writer.leave();
        }
        let body = Source::Tcp(&mut self.reader);
        let responder = Responder::Http1(&mut self.writer, &mut manners);
        let ended = outbound(http, entry, Asked { head, framing, body, responder }).await;
        let whole = self.reader.is_over() && self.writer.is_complete();
        // Where only the close tells the end of the body, a close alone would say that it is whole.
        self.cut = match ended {
            Ended::Answered => false,
            Ended::Broken => !self.writer.is_complete() && self.writer.ends_by_closing(),
            Ended::Cut => true,
        };
        if self.cut {
            self.writer.reset();
        }
        ended == Ended::Answered && manners.keep_alive && whole
    }

    /// Closes the connection so that the caller can read its last answer: what it still sends would reset it otherwise.
    async fn linger(mut self) {
        let is_whole = self.reader.is_over() && !self.reader.has_more() && self.writer.is_complete();
        if self.cut || is_whole || self.reader.is_ended() {
            return;
        }
        self.writer.close();
        let drained = poll_fn(|cx| {
            if ready!(self.writer.poll_flush(cx)).is_err() {
                return Poll::Ready(Ok(()));
            }
            self.reader.poll_discard(cx, LINGER_BYTES_MAX)
        });
        _ = timeout(LINGER_TIME, drained).await;
    }
}

/// Serves a local caller that speaks HTTP/2.
pub(crate) async fn h2<S>(http: Rc<Http>, entry: Entry, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = Limits { head_time: http.context.patience.head, ..Limits::ACCEPTED };
    let (mut arrivals, driver) = Arrivals::accept_http2(stream, limits);
    let mut driver = pin!(driver.map(ended).fuse());
    let greeting = poll_fn(|cx| match driver.as_mut().poll(cx) {
        Poll::Pending if !arrivals.handle().has_settled() => Poll::Pending,
        driven @ (Poll::Pending | Poll::Ready(())) => Poll::Ready(driven.is_pending()),
    });
    if !matches!(Box::pin(timeout(http.context.patience.head, greeting)).await, Ok(true)) {
        return;
    }
    let entry = Rc::new(entry);
    let end = http.context.phase.enter();
    let mut leaving = false;
    let (mut place, mut quiet) = (http.context.rest.enter(), true);
    loop {
        let arrived = tokio::select! {
            biased;
            arrived = poll_fn(|cx| match driver.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => arrivals.arrived().map_or(Poll::Pending, |arrival| Poll::Ready(Some(arrival))),
            }) => arrived,
            // Once it was told of the drain, a caller has as long as any other to say what is on its way, whether it answers
            // or not.
            () = poll_fn(|cx| if leaving { place.poll_ended(cx) } else { place.poll_over(cx) }) => {
                // Each stream that is under way holds the entry, and the connection for as long as it likes.
                let idle = quiet && Rc::strong_count(&entry) == 1;
                if idle && leaving {
                    break;
                }
                if idle || http.context.rest.is_draining() {
                    leaving = true;
                    arrivals.handle().away();
                }
                (place, quiet) = (http.context.rest.enter(), true);
                continue;
            }
            () = end.reached(Phase::Closing) => return,
        };
        let Some(arrival) = arrived else { return };
        quiet = false;
        let others = std::iter::from_fn(|| arrivals.arrived());
        for arrival in std::iter::once(arrival).chain(others) {
            answer_caller(&http, &entry, arrival);
        }
    }
    drop(arrivals);
    _ = timeout(REPLY_TIME, driver).await;
}

/// Has a stream of a local caller answered, by a task of its own.
fn answer_caller(http: &Rc<Http>, entry: &Rc<Entry>, Arrival { stream, opening }: Arrival) {
    let (http, entry, halves) = (http.clone(), entry.clone(), halves(stream));
    match opening {
        Opening::Http(head, end) => {
            task::spawn_local("request", called(http, entry, (head, end), halves));
        }
        Opening::Refused { status, cause, .. } => {
            let told = task::boxed(move || async move {
                refused_stream(&http, &entry, (status, &cause), halves.0).await;
            });
            task::spawn_local("request", told);
        }
        // Only proxies open one.
        Opening::Tcp => {}
    }
}

/// Answers one request of a local caller. Boxed where it is made: on its way into a task it would be copied several times.
fn called(
    http: Rc<Http>,
    entry: Rc<Entry>,
    (head, end): (RequestHead, bool),
    halves: (Leaving, Arriving),
) -> Pin<Box<impl Future<Output = ()>>> {
    task::boxed(move || async move {
        if let Some(asked) = asked(head, end, halves) {
            outbound(&http, &entry, asked).await;
        }
    })
}

/// Returns what a stream asks for whose head has arrived; `None` when that does not fit together.
fn asked(
    mut head: RequestHead,
    end: bool,
    (mut leaving, arriving): (Leaving, Arriving),
) -> Option<Asked<'static>> {
    let framing = match message::take_framing(&mut head, end) {
        // What comes after the head is for whoever agrees to another protocol.
        Ok(_) if head.protocol.is_some() => Framing::None,
        Ok(framing) => framing,
        Err(failed) => {
            tracing::debug!(%failed, "request refused");
            leaving.abort(failed.failure);
            return None;
        }
    };
    let body = if end { Source::Nothing } else { Source::Link(arriving) };
    Some(Asked { head, framing, body, responder: Responder::Link(leaving) })
}

/// Serves a link. When the peer's certificate ends, the peer is asked to come back with its new one; see [`crate::proxy::lapses`].
pub(crate) fn link(http: Rc<Http>, accepted: Accepted) -> impl Future<Output = ()> + 'static {
    let called = (accepted.target, accepted.port);
    let (arrivals, mut driver) = Arrivals::accept(accepted.stream, Limits::ACCEPTED);
    http.context.links.lapses.enter(arrivals.handle().clone(), &accepted.peer);
    let peer = Rc::new(Peer::new(accepted.peer.id.subject, accepted.peer.node, called));
    // Begun here: an `async fn` would hold the connection once more for as long as the link lives. And driven here: what
    // has arrived goes to its task at once.
    async move {
        let end = http.context.phase.enter();
        let (mut arrivals, mut heard) = (Some(arrivals), Phase::Serving);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = driver.poll_unpin(cx) {
                    ended(outcome);
                    return Poll::Ready(());
                }
                while let Some(arrival) = arrivals.as_mut().and_then(Arrivals::arrived) {
                    answer(&http, &peer, arrival);
                }
                heard = ready!(end.poll(cx, |phase| phase > heard));
                match (heard, &arrivals) {
                    (Phase::Draining, Some(arrivals)) => arrivals.handle().away(),
                    // Streams that are cut now still say so.
                    (Phase::Closing, _) => arrivals = None,
                    (Phase::Standby | Phase::Serving | Phase::Draining, _) => {}
                }
            }
        })
        .await;
    }
}

/// Has a stream of another proxy answered, by a task of its own.
fn answer(http: &Rc<Http>, peer: &Rc<Peer>, Arrival { stream, opening }: Arrival) {
    let (tasks, http, peer, halves) = (&http.context.tasks, http.clone(), peer.clone(), halves(stream));
    match opening {
        Opening::Http(head, end) => {
            let served = task::boxed(move || async move {
                if let Some(asked) = asked(head, end, halves) {
                    inbound(&http, &peer, asked).await;
                }
            });
            task::spawn_local("request", tasks.track_future(served));
        }
        // In HTTP/2 only: what another proxy says that cannot be read is its own fault, and it counts the call.
        Opening::Refused { .. } => {}
        Opening::Tcp => {
            let begun = task::boxed(|| tcp::serve(http.context.clone(), peer, halves));
            task::spawn_local("tcp", tasks.track_future(task::through(begun)));
        }
    }
}
