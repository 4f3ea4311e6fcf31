//! Connections of other proxies: mutual TLS, and nothing else.

use std::rc::Rc;

use crate::identity::tls::Acceptor;
use crate::net::connection::Connection;
use crate::net::task::{self, Onward};
use crate::proxy::http::client::Http;
use crate::proxy::http::serve;

/// Lets a connection to the inbound listener in. Who calls what is known after the handshake; whether it may is asked for
/// each request and each TCP connection, by the policy then in force.
pub(crate) async fn serve(http: Rc<Http>, acceptor: Rc<Acceptor>, stream: Connection) -> Option<Onward> {
    let stream = stream.into_watched().ok()?;
    match acceptor.accept(stream).await {
        Ok(accepted) => Some(task::boxed(move || serve::link(http, accepted))),
        Err(error) => {
            tracing::debug!(%error, "handshake failed");
            None
        }
    }
}
