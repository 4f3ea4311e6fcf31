//! What one worker has: its books, its connector, its randomness, and the links it opens.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::identity::tls::{Alpn, Connected, Connector};
use crate::model::endpoint::Endpoint;
use crate::model::identity::Subject;
use crate::model::name::ServiceName;
use crate::net::drain::Drain;
use crate::net::{dial, listen};
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::ledger::Ledger;
use crate::proxy::shared::Shared;

/// To open a TCP connection, to another host or to a local service.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(1);
/// To open a TCP connection and finish the TLS handshake on it.
pub(crate) const LINK_TIME: Duration = Duration::from_secs(5);
/// An HTTP link on which nothing is acknowledged for so long is given up: its host is gone. (A link of one TCP connection
/// may wait for a reader, and is watched by keep-alive only.)
const SILENCE: Duration = Duration::from_secs(5);
/// Endpoints tried for one call at most.
pub(crate) const ATTEMPTS_MAX: usize = 5;

/// One worker's own things. Never leaves its thread.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) drain: Drain,
    /// Everything that a drain waits for.
    pub(crate) tasks: TaskTracker,
    connector: Connector,
    draws: RefCell<SmallRng>,
}

impl Context {
    /// Makes what one worker has.
    pub(crate) fn new(shared: Arc<Shared>, connector: Connector, drain: Drain) -> Self {
        let access = shared.access.as_ref().map(|access| access.writer());
        let ledger = Rc::new(Ledger::new(shared.node.clone(), shared.registry.shard(), access));
        let draws = RefCell::new(SmallRng::seed_from_u64(rand::random()));
        Self { shared, ledger, drain, tasks: TaskTracker::new(), connector, draws }
    }

    /// Returns randomness for one decision.
    pub(crate) fn draw(&self) -> u64 {
        self.draws.borrow_mut().random()
    }

    /// Opens a link: a connection to the proxy of `endpoint` that has proven to speak for `service`.
    ///
    /// # Errors
    /// When there is no connection, or no agreement on identities.
    pub(crate) async fn link(
        &self,
        source: &Subject,
        service: &ServiceName,
        endpoint: &Endpoint,
        alpn: Alpn,
    ) -> Result<Connected, Failed> {
        let at = || format!("{service} on {} ({})", endpoint.node, endpoint.addr);
        let linked = timeout(LINK_TIME, async {
            let stream = dial::connect(endpoint.addr, CONNECT_TIME)
                .await
                .map_err(|error| Failed::new(Failure::Unreachable, format!("{}: {error}", at())))?;
            if alpn == Alpn::Http {
                listen::fail_unacknowledged(&stream, SILENCE);
            }
            self.connector
                .connect(source, service, endpoint.port, alpn, stream)
                .await
                .map_err(|error| Failed::new(Failure::Untrusted, format!("{}: {error}", at())))
        });
        linked.await.unwrap_or_else(|_| {
            let cause = format!("{}: no mutual TLS within {} s", at(), LINK_TIME.as_secs());
            Err(Failed::new(Failure::Untrusted, cause))
        })
    }
}
