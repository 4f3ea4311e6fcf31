//! Connections of local applications: what they speak, and where they lead.
//!
//! Nobody waits for a first byte that may never come. On a port of a service whose protocol is not declared, a caller that
//! does not speak at once may be waiting for the server to; so the server is connected to in the meantime, and whoever
//! speaks first decides. A caller that turns out to speak HTTP goes the way of HTTP, and the connection is closed, having
//! carried nothing.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Sleep, sleep, timeout};

use crate::logic::detect::{Detection, detect};
use crate::model::name::ServiceName;
use crate::model::service::Protocol;
use crate::net::clock;
use crate::net::connection::Connection;
use crate::net::prefixed::Prefixed;
use crate::net::task::{self, Onward};
use crate::proxy::failure::Failed;
use crate::proxy::http::client::Http;
use crate::proxy::http::pipeline::Entry;
use crate::proxy::http::serve;
use crate::proxy::rest::LAST_CALL;
use crate::proxy::tcp::{self, Opened, Plain, Wish};

/// A caller that speaks this soon is never doubted to speak first.
const AT_ONCE: Duration = Duration::from_millis(5);
/// First bytes that could still become HTTP are taken for something else after this time.
const HALF_SAID: Duration = Duration::from_secs(3);
/// After the service could not be reached, a caller has this time to show that it speaks HTTP, and is told why.
const LAST_CHANCE: Duration = Duration::from_secs(1);
/// Room for the first bytes: mostly a whole request's head.
const FIRST_BYTES: usize = 2_048;
/// What a caller has said so far.
struct First {
    bytes: BytesMut,
    detection: Detection,
}

/// What a connection turned out to be.
enum Turn {
    /// HTTP.
    Http,
    /// Something else, with the connection to the service if it is there.
    Opaque(Option<Box<Opened>>),
    /// Nothing that can be carried.
    Lost(Failed),
}

/// Lets a connection to the outbound listener in, where each request names its service.
pub(crate) async fn named(http: Rc<Http>, mut stream: Connection, from: SocketAddr) -> Option<Onward> {
    let holder = http.context.holder(from, || stream.local_addr().ok());
    let mut first = First::new();
    if !first.words(&http, &mut stream).await || first.bytes.is_empty() {
        return None;
    }
    // What is no HTTP is told so by the parser.
    serve(http, Entry { service: None, port: None, from: from.ip(), holder }, first, stream)
}

/// Lets a connection in that was meant for a virtual address, and captured on its way there.
pub(crate) async fn captured(http: Rc<Http>, stream: Connection, from: SocketAddr) -> Option<Onward> {
    let meant = stream.original_destination();
    let service = meant.and_then(|meant| http.context.shared.meant(meant.ip()));
    let Some(service) = service else {
        tracing::debug!(?meant, "a connection to no service was refused");
        stream.reset_on_close();
        return None;
    };
    to_service(http, (service, meant.map(|meant| meant.port())), stream, (from, meant)).await
}

/// Lets a connection to a port in that leads to one service.
pub(crate) async fn port(
    http: Rc<Http>,
    service: ServiceName,
    stream: Connection,
    from: SocketAddr,
) -> Option<Onward> {
    to_service(http, (service, None), stream, (from, None)).await
}

/// Lets a connection to one service in, of a caller at an address that may believe to have reached another than ours.
async fn to_service(
    http: Rc<Http>,
    (service, port): (ServiceName, Option<u16>),
    mut stream: Connection,
    (from, meant): (SocketAddr, Option<SocketAddr>),
) -> Option<Onward> {
    let holder = http.context.holder(from, || meant.or_else(|| stream.local_addr().ok()));
    let from = from.ip();
    let tables = http.context.shared.tables();
    let declared = tables.upstream_at(&service, port).map(|upstream| upstream.protocol);
    drop(tables);
    let wish = Wish {
        service: service.clone(),
        port,
        source: http.context.shared.locals().source(holder),
        from,
        began: clock::now(),
        certain: true,
        rule: None,
    };
    let mut first = First::new();
    let turn = match declared.unwrap_or_default() {
        Protocol::Tcp => Turn::Opaque(None),
        Protocol::Http | Protocol::H2c | Protocol::Grpc => {
            if !first.words(&http, &mut stream).await {
                return None;
            }
            Turn::Http
        }
        Protocol::Detect => match task::boxed(|| race(&http, &wish, &mut first, &mut stream)).await {
            Ok(turn) => turn,
            Err(error) => {
                tracing::debug!(%service, %error, "caller left before it said anything");
                return None;
            }
        },
    };
    let opened = match turn {
        Turn::Http => {
            return serve(http, Entry { service: Some(service), port, from, holder }, first, stream);
        }
        Turn::Opaque(Some(mut opened)) => {
            opened.decide(true);
            Ok(opened)
        }
        Turn::Opaque(None) => {
            task::boxed(|| tcp::open(&http.context, wish)).await.map_err(|lost| lost.failed)
        }
        Turn::Lost(failed) => Err(wish.lost(&http.context, failed, (None, Vec::new())).failed),
    };
    match opened {
        Ok(opened) => {
            let mut caller = Plain::new(stream.into_watched().ok()?, first.bytes);
            Some(task::boxed(move || async move {
                if let Err(failed) = opened.carry(&http.context, caller.end()).await {
                    tracing::debug!(%service, %failed, "connection broke");
                    caller.reset();
                }
            }))
        }
        Err(failed) => {
            tracing::debug!(%service, %failed, "connection refused");
            stream.reset_on_close();
            None
        }
    }
}

/// Finds out who speaks first, and what.
async fn race(http: &Rc<Http>, wish: &Wish, first: &mut First, stream: &mut Connection) -> io::Result<Turn> {
    if let Ok(read) = timeout(AT_ONCE, first.read_on(stream)).await {
        read?;
        return Ok(first.turn(None));
    }
    let perhaps = Wish { certain: false, ..wish.clone() };
    let mut opening = pin!(tcp::open(&http.context, perhaps));
    let mut opened = None;
    let mut failed: Option<Failed> = None;
    let mut patience: Option<Pin<Box<Sleep>>> = None;
    let mut drain = http.context.drain.clone();
    let mut leaving = false;
    loop {
        tokio::select! {
            read = first.read(stream) => {
                let ended = read? == 0;
                if ended || first.detection != Detection::NeedMore {
                    return Ok(first.turn(opened));
                }
                patience.get_or_insert_with(|| Box::pin(sleep(HALF_SAID)));
            }
            outcome = &mut opening, if opened.is_none() && failed.is_none() => match outcome {
                Ok(ready) => opened = Some(ready),
                Err(lost) => {
                    failed = Some(lost.failed);
                    patience = Some(Box::pin(sleep(LAST_CHANCE)));
                }
            },
            spoken = speaks(&mut opened) => {
                spoken.map_err(|failed| io::Error::other(failed.to_string()))?;
                return Ok(Turn::Opaque(opened));
            }
            () = over(&mut patience) => {
                return match failed {
                    Some(failed) => Ok(Turn::Lost(failed)),
                    None if leaving && first.bytes.is_empty() => Err(io::ErrorKind::ConnectionAborted.into()),
                    None => Ok(Turn::Opaque(opened)),
                };
            }
            () = drain.draining(), if !leaving => {
                leaving = true;
                patience.get_or_insert_with(|| Box::pin(sleep(LAST_CALL)));
            }
        }
    }
}

async fn speaks(opened: &mut Option<Box<Opened>>) -> Result<(), Failed> {
    match opened {
        Some(opened) => opened.spoken().await,
        None => std::future::pending().await,
    }
}

async fn over(patience: &mut Option<Pin<Box<Sleep>>>) {
    match patience {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}

fn serve(http: Rc<Http>, entry: Entry, first: First, stream: Connection) -> Option<Onward> {
    Some(match first.detection {
        Detection::Http2 => {
            let stream = stream.into_watched().ok()?;
            task::boxed(move || serve::h2(http, entry, Prefixed::new(first.bytes.freeze(), stream)))
        }
        Detection::Http1 | Detection::Opaque | Detection::NeedMore => {
            task::boxed(move || serve::h1(http, entry, stream, first.bytes))
        }
    })
}

impl First {
    fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(FIRST_BYTES), detection: Detection::NeedMore }
    }

    /// Reads once. May be given up while it waits: nothing is lost.
    async fn read(&mut self, stream: &mut Connection) -> io::Result<usize> {
        let count = stream.read_buf(&mut self.bytes).await?;
        self.detection = detect(&self.bytes);
        Ok(count)
    }

    /// Reads until it is clear what is spoken. Returns whether anything may follow: not from a caller that takes too long,
    /// or says nothing while the proxy drains.
    async fn words(&mut self, http: &Http, stream: &mut Connection) -> bool {
        // Mostly they are here already, and need no timer.
        if let Some(read) = self.read_on(stream).now_or_never() {
            return read.is_ok();
        }
        let place = http.context.rest.enter();
        let mut reading = pin!(timeout(http.context.patience.head, self.read_on(stream)));
        let read = poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Pending => place.poll_ended(cx).map(|()| false),
            Poll::Ready(read) => Poll::Ready(matches!(read, Ok(Ok(())))),
        });
        read.await
    }

    /// Reads until it is clear what is spoken, or the caller has no more to say.
    async fn read_on(&mut self, stream: &mut Connection) -> io::Result<()> {
        while self.read(stream).await? > 0 {
            if self.detection != Detection::NeedMore {
                break;
            }
        }
        Ok(())
    }

    /// Returns what the connection is, the caller having spoken first.
    fn turn(&self, opened: Option<Box<Opened>>) -> Turn {
        match self.detection {
            Detection::Http1 | Detection::Http2 => Turn::Http,
            Detection::Opaque | Detection::NeedMore => Turn::Opaque(opened),
        }
    }
}
