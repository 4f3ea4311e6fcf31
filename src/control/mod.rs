//! The control plane: certificate authority, configuration, API, and the merged view of all traffic.
//!
//! - [`bootstrap`]: what it is started with. [`founding`]: from a data directory to a mesh.
//! - [`store`]: the log of [`crate::logic::state`] on disk. [`root`], [`authority`]: who signs.
//! - [`collector`], [`fleet`], [`programs`], [`timeline`]: what proxies told, which are here, what they run, what happened.
//! - [`backup`]: store and authority in one file. [`restore`]: back from there.
//! - [`transitions`]: since when conditions hold. [`inquiries`]: what proxies are asked. [`publisher`]: what they are given. [`enrollment`]: who is let in. [`plane`]: all of it, shared.
//! - [`recorder`]: what is kept on disk besides. [`why`]: what the proxies would do with a call.
//! - [`serving`]: its own certificate and place in the gossip. [`http`]: the API. [`running`]: all of it at work.
//!
//! Nothing above the store knows whether it is the only one.

pub mod bootstrap;
pub mod store;
pub mod root;
pub mod authority;
pub mod collector;
pub mod fleet;
pub mod programs;
pub mod timeline;
pub mod inquiries;
pub mod transitions;
pub mod backup;
pub mod restore;
pub mod publisher;
pub mod plane;
pub mod recorder;
pub mod why;
pub mod enrollment;
pub mod founding;
pub mod http;
pub mod serving;
pub mod running;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::control::bootstrap::{ADDRESSES_FILE, Addresses, Options, SOCKET_FILE, Started};
use crate::control::plane::Plane;
use crate::control::running::{Listeners, Running};
use crate::net::disk;

/// How often it is looked whether the store still lives.
const STORE_CHECK: Duration = Duration::from_secs(1);

/// Why a control plane did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory, the mesh in it, or its authority.
    #[error(transparent)]
    Founding(#[from] founding::Error),
    /// Its listeners, or the tasks behind them.
    #[error(transparent)]
    Running(#[from] running::Error),
    /// The token of the first start.
    #[error("cannot make the first join token: {0}")]
    Token(#[from] enrollment::Error),
    /// The file with the addresses.
    #[error("cannot write {path}: {source}")]
    Addresses {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk failed under way. What was acknowledged is on it.
    #[error("the store cannot be written any more: see the log; start again once the disk works")]
    StoreFailed,
    /// The gossip thread ended by itself, by a bug.
    #[error(
        "gossip has stopped, so that this control plane would not see the mesh any more: the log says why; start it again"
    )]
    GossipEnded,
}

/// Runs a control plane until `shutdown` completes; `started` is told once it serves. When a snapshot is to be restored, it
/// begins again with that, at the same addresses.
///
/// # Errors
/// When it cannot start, with what to do about it; or when its disk fails.
pub async fn run(
    mut options: Options,
    started: impl FnOnce(&Started),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut started = Some(started);
    while let Some(Addresses { listen, gossip, admin }) =
        serve(&options, &mut started, shutdown.as_mut()).await?
    {
        options = Options { listen, gossip: Some(gossip), admin, ..options };
    }
    Ok(())
}

/// Runs a control plane until `shutdown` completes, or a snapshot is to be restored; then it returns where it listened.
async fn serve(
    options: &Options,
    started: &mut Option<impl FnOnce(&Started)>,
    shutdown: impl Future<Output = ()>,
) -> Result<Option<Addresses>, Error> {
    let founded = founding::begin(options).await?;
    let listeners = Listeners::bind(options).await?;
    let running = Running::start(options, founded, listeners).await?;
    let (plane, addresses) = (&running.plane, running.addresses);
    let install = enrollment::first_token(plane).await?;
    let path = options.data_dir.join(ADDRESSES_FILE);
    let body = serde_json::to_vec(&addresses).map_err(io::Error::from);
    body.and_then(|body| disk::write_file(&path, &body, 0o644))
        .map_err(|source| Error::Addresses { path: path.clone(), source })?;
    if let Some(started) = started.take() {
        started(&Started {
            addresses,
            trust_domain: plane.trust_domain.clone(),
            node: plane.node.clone(),
            advertised: plane.advertised.clone(),
            install,
        });
    }
    let outcome = tokio::select! {
        () = shutdown => Ok(None),
        () = plane.restoring.notified() => Ok(Some(addresses)),
        () = store_failed(plane) => Err(Error::StoreFailed),
        () = running.voice.failed() => Err(Error::GossipEnded),
    };
    for file in [path, options.data_dir.join(SOCKET_FILE)] {
        let _absent = std::fs::remove_file(file);
    }
    running.stop().await;
    outcome
}

async fn store_failed(plane: &Plane) {
    while !plane.store.has_failed() {
        tokio::time::sleep(STORE_CHECK).await;
    }
}
