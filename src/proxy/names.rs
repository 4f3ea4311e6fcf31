//! How services are called on this host: keeps the zone up to date, and answers questions about it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::logic::compile::Policy;
use crate::logic::naming::book::AddressBook;
use crate::logic::naming::zone::{Lead, Zone};
use crate::net::dns::forward::Forwarder;
use crate::net::dns::resolvers::Resolvers;
use crate::net::dns::server::{Server, Sockets};
use crate::net::task;
use crate::proxy::bootstrap::NamesOptions;
use crate::telemetry::dns::Counts;

/// The name server cannot listen.
#[derive(Debug)]
pub(crate) struct Error {
    /// Where.
    pub(crate) addr: SocketAddr,
    /// Why.
    pub(crate) source: io::Error,
}

/// The names of this host's services, at work.
pub(crate) struct Names {
    /// Where the name server listens; `None` when there is none.
    pub(crate) addr: Option<SocketAddr>,
    /// What it was asked.
    pub(crate) counts: Arc<Counts>,
    /// All names, of the policy in force.
    pub(crate) zone: watch::Receiver<Arc<Zone>>,
}

impl Names {
    /// Starts to follow the policies, and to answer where that is wanted.
    ///
    /// # Errors
    /// When the address is taken, or not ours.
    pub(crate) fn start(
        options: &NamesOptions,
        lead: Lead,
        mut policies: watch::Receiver<Arc<Policy>>,
    ) -> Result<Self, Error> {
        let mut book = AddressBook::default();
        let mut make = move |policy: &Policy| {
            book.enter(policy.services().map(|(name, _)| name));
            Arc::new(Zone::new(policy, book.clone(), lead))
        };
        let zones = watch::Sender::new(make(&policies.borrow_and_update()));
        let zone = zones.subscribe();
        let counts = Arc::<Counts>::default();
        let addr = match options.listen {
            Some(addr) => {
                Some(serve(addr, options, &zone, &counts).map_err(|source| Error { addr, source })?)
            }
            None => None,
        };
        task::spawn("names", async move {
            while policies.changed().await.is_ok() {
                zones.send_replace(make(&policies.borrow_and_update()));
            }
        });
        Ok(Self { addr, counts, zone })
    }
}

/// Starts the name server; returns where it listens.
fn serve(
    addr: SocketAddr,
    options: &NamesOptions,
    zone: &watch::Receiver<Arc<Zone>>,
    counts: &Arc<Counts>,
) -> io::Result<SocketAddr> {
    let sockets = Sockets::bind(addr)?;
    let bound = sockets.local_addr()?;
    let forwarder = Forwarder::new(Resolvers::new(options.upstreams.clone(), bound));
    let server = Server::new(zone.clone(), forwarder, counts.clone(), bound);
    task::spawn("dns", async move {
        if let Err(error) = server.run(sockets).await {
            tracing::error!(%error, "the name server has stopped");
        }
    });
    Ok(bound)
}
