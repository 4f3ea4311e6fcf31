//! Connections that carry HTTP: from local callers in either version, and links.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::identity::tls::Accepted;
use crate::net::clock;
use crate::net::http::{h1_server, h2_server};
use crate::net::patience::{Busy, Patient};
use crate::proxy::http::client::Http;
use crate::proxy::http::pipeline::{Caller, Entry, Link, inbound, outbound};

/// Serves a local caller that speaks HTTP/1.
pub(crate) async fn h1<S>(http: &Rc<Http>, entry: Entry, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let busy = Busy::default();
    let io = TokioIo::new(Patient::new(stream, busy.clone()));
    let caller = Rc::new(Caller { entry, busy: Some(busy.clone()) });
    let service = service_fn(|request| {
        // Not within the future: hyper reads on before it polls it for the first time.
        busy.begin();
        let (http, caller) = (http.clone(), caller.clone());
        async move { Ok::<_, Infallible>(outbound(&http, &caller, request).await) }
    });
    let mut drain = http.context.drain.clone();
    let mut connection = pin!(h1_server().serve_connection(io, service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drain.draining() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = drain.closing() => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection of a local caller ended");
    }
}

/// Serves a local caller that speaks HTTP/2.
pub(crate) async fn h2<S>(http: &Rc<Http>, entry: Entry, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let caller = Rc::new(Caller { entry, busy: None });
    let shared = http.clone();
    let service = service_fn(move |request| {
        let (http, caller) = (shared.clone(), caller.clone());
        async move { Ok::<_, Infallible>(outbound(&http, &caller, request).await) }
    });
    let mut drain = http.context.drain.clone();
    let mut connection = pin!(h2_server().serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drain.draining() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = drain.closing() => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection of a local caller ended");
    }
}

/// Serves a link. When the peer's certificate ends, the peer is asked to come back with its new one; what is under way goes
/// on.
pub(crate) async fn link(http: &Rc<Http>, accepted: Accepted) {
    let left_ms = accepted.peer.not_after_ms.saturating_sub(clock::wall_ms());
    let link = Rc::new(Link {
        peer: Arc::new(accepted.peer.id.subject),
        node: accepted.peer.node,
        service: accepted.target,
        port: accepted.port,
        cells: RefCell::default(),
    });
    let shared = http.clone();
    let service = service_fn(move |request| {
        let (http, link) = (shared.clone(), link.clone());
        async move { Ok::<_, Infallible>(inbound(&http, &link, request).await) }
    });
    let mut drain = http.context.drain.clone();
    let mut connection = pin!(h2_server().serve_connection(TokioIo::new(accepted.stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = async {
            tokio::select! {
                () = drain.draining() => {}
                () = tokio::time::sleep(Duration::from_millis(left_ms)) => {}
            }
        } => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = drain.closing() => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "link ended");
    }
}
