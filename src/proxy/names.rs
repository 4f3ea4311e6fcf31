//! How services are called on this host: keeps the zone up to date, and answers questions about it.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::logic::compile::Policy;
use crate::logic::naming::book::AddressBook;
use crate::logic::naming::zone::{Lead, Zone};
use crate::net::dns::forward::Forwarder;
use crate::net::dns::resolvers::Resolvers;
use crate::net::dns::server::{Server, Sockets};
use crate::net::task;
use crate::proxy::bootstrap::NamesOptions;
use crate::proxy::ways;
use crate::proxy::worker::Addresses;
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
    /// Where the name server listens: nowhere, at the address that was asked for, and with interception on the other
    /// loopback address too.
    pub(crate) addrs: Vec<SocketAddr>,
    /// What it was asked.
    pub(crate) counts: Arc<Counts>,
    /// All names, of the policy in force.
    pub(crate) zone: watch::Receiver<Arc<Zone>>,
    /// The sockets of the name server once more, to be handed over.
    pub(crate) sockets: Vec<Sockets>,
}

/// From when until when questions are answered.
pub(crate) struct Life {
    /// Ends when that begins.
    pub(crate) begin: BoxFuture<'static, ()>,
    /// Ends when that ends.
    pub(crate) end: BoxFuture<'static, ()>,
}

impl Names {
    /// Starts to follow the policies, and to answer where that is wanted, on the sockets that another process had if there
    /// are any.
    ///
    /// # Errors
    /// When the address is taken, or not ours.
    pub(crate) fn start(
        options: &NamesOptions,
        lead: impl Fn() -> Lead + Send + 'static,
        mut policies: watch::Receiver<Arc<Policy>>,
        (kept, life): (Vec<OwnedFd>, impl Fn() -> Life),
    ) -> Result<Self, Error> {
        let mut book = Arc::<AddressBook>::default();
        let mut make = move |policy: &Policy| {
            let names = || policy.services().map(|(name, _)| name);
            if names().any(|name| book.address(name).is_none()) {
                Arc::make_mut(&mut book).enter(names());
            }
            Arc::new(Zone::new(policy, book.clone(), lead()))
        };
        let zones = watch::Sender::new(make(&policies.borrow_and_update()));
        let zone = zones.subscribe();
        let counts = Arc::<Counts>::default();
        let (mut addrs, mut sockets, mut kept) = (Vec::new(), Vec::new(), Sockets::pairs(kept));
        let mut serve = |addr| -> io::Result<SocketAddr> {
            let own = Sockets::keep_or_bind(addr, &mut kept)?;
            let bound = own.local_addr()?;
            sockets.push(own.try_clone()?);
            let forwarder = Forwarder::new(Resolvers::new(options.upstreams.clone(), bound));
            let server = Server::new(zone.clone(), forwarder, counts.clone(), bound);
            task::spawn("dns", answer(server, own, life()));
            Ok(bound)
        };
        if let Some(addr) = options.listen {
            let bound = match serve(addr) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && !options.insists => {
                    tracing::warn!(%addr, "the usual port for DNS is taken; addresses.json says which is used");
                    serve(SocketAddr::new(addr.ip(), 0))
                }
                served => served,
            };
            let bound = bound.map_err(|source| Error { addr, source })?;
            addrs.push(bound);
            if options.both {
                // A host without IPv6 has no questions by it either.
                addrs.extend(serve(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bound.port())).ok());
            }
        }
        task::spawn("names", async move {
            while policies.changed().await.is_ok() {
                zones.send_replace(make(&policies.borrow_and_update()));
            }
        });
        Ok(Self { addrs, counts, zone, sockets })
    }
}

/// Answers questions for as long as that is wanted.
async fn answer(server: Server, sockets: Sockets, Life { begin, end }: Life) {
    begin.await;
    tokio::select! {
        served = server.run(sockets) => if let Err(error) = served {
            tracing::error!(%error, "the name server has stopped");
        },
        () = end => {}
    }
}

/// Returns what says where names lead: to virtual addresses where those are captured, else to the outbound listener.
pub(crate) fn lead(addresses: &Addresses) -> impl Fn() -> Lead + Send + 'static {
    let (outbound, captured) = (addresses.outbound, addresses.capture.clone());
    move || match captured.as_slice() {
        [] => Lead::Listener(outbound),
        [_, rest @ ..] => Lead::Virtual { v6: !rest.is_empty() && ways::open_ways().1 },
    }
}
