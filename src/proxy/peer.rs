//! The other end of a link: who calls, what it calls, and whether it may.

use std::cell::RefCell;
use std::sync::Arc;

use crate::logic::authorize::{Verdict, authorize};
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::{EdgeProtocol, Side};
use crate::proxy::context::Context;
use crate::proxy::failure::{Failed, Failure};
use crate::telemetry::metric::EdgeCell;

/// The other end of a link, as its handshake has proven.
pub(crate) struct Peer {
    /// Who calls.
    pub(crate) subject: Arc<Subject>,
    /// From which node.
    pub(crate) node: NodeName,
    /// Which service is called.
    pub(crate) service: ServiceName,
    /// Which instance of it.
    pub(crate) port: u16,
    /// Where its calls are counted: HTTP, gRPC, TCP.
    pub(crate) cells: RefCell<[Option<Arc<EdgeCell>>; 3]>,
}

/// Which side of a call this proxy is on.
#[derive(Clone, Copy)]
pub(crate) enum At<'p> {
    /// The caller's.
    Outbound,
    /// The called service's.
    Inbound(&'p Peer),
}

impl Peer {
    /// Returns where its calls are counted.
    pub(crate) fn cell(&self, context: &Context, protocol: EdgeProtocol) -> Arc<EdgeCell> {
        let mut cells = self.cells.borrow_mut();
        let cell = match protocol {
            EdgeProtocol::Http => &mut cells[0],
            EdgeProtocol::Grpc => &mut cells[1],
            EdgeProtocol::Tcp => &mut cells[2],
        };
        cell.get_or_insert_with(|| context.ledger.inbound(&self.subject, &self.service, protocol)).clone()
    }

    /// Asks the policy in force.
    ///
    /// # Errors
    /// When it does not let this peer call.
    pub(crate) fn allowed(&self, context: &Context) -> Result<(), Failed> {
        let tables = context.shared.tables();
        if tables.policy.banned.contains(&self.node) {
            return Err(Failed::new(Failure::Denied, format!("node {} is banned", self.node)));
        }
        match authorize(&tables.policy, &self.subject, &self.service) {
            Verdict::Allow { .. } => Ok(()),
            Verdict::Deny { rule } => {
                let cause = format!("{} may not call {}: {rule}", self.subject, self.service);
                Err(Failed::new(Failure::Denied, cause))
            }
        }
    }

    /// Waits until the policy does not let this peer call any more.
    pub(crate) async fn forbidden(&self, context: &Context) {
        let mut changes = context.shared.changes();
        while self.allowed(context).is_ok() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl At<'_> {
    /// Returns the side.
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Outbound => Side::Outbound,
            Self::Inbound(_) => Side::Inbound,
        }
    }

    /// Waits until the policy does not allow the call any more; the calling side never knows.
    pub(crate) async fn forbidden(self, context: &Context) {
        match self {
            Self::Outbound => std::future::pending().await,
            Self::Inbound(peer) => peer.forbidden(context).await,
        }
    }
}
