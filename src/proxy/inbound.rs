//! Connections of other proxies: mutual TLS, and nothing else.

use std::rc::Rc;

use tokio::net::TcpStream;

use crate::identity::tls::Acceptor;
use crate::proxy::http::client::Http;
use crate::proxy::http::serve;

/// Serves a connection to the inbound listener. Who calls what is known after the handshake; whether it may is asked for
/// each request and each TCP connection, by the policy then in force.
pub(crate) async fn serve(http: &Rc<Http>, acceptor: &Acceptor, stream: TcpStream) {
    // In a box of its own, which is given back after the handshake.
    match Box::pin(acceptor.accept(stream)).await {
        Ok(accepted) => serve::link(http, accepted).await,
        Err(error) => tracing::debug!(%error, "handshake failed"),
    }
}
