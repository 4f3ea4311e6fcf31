//! Follows control: takes snapshots, keeps the last good one on disk, acknowledges or refuses.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;

use crate::api::client::{self, Client};
use crate::api::wire::Ack;
use crate::identity::vault::Vault;
use crate::logic::pki::trust;
use crate::logic::validate;
use crate::model::snapshot::Snapshot;
use crate::proxy::membership;

/// Time until the next attempt after one that failed at once, doubled up to the cap.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(10);

/// When a snapshot that could not be kept is tried again.
const KEEP_AGAIN: Duration = Duration::from_secs(5);

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// It is not right.
    #[error("{0}")]
    Wrong(String),
    /// The disk did not take it.
    #[error("it cannot be kept: {0}")]
    Unkept(String),
}

/// Follows control for as long as the proxy runs. Whatever is taken is in `taken`, after it is on disk; `doubt` says why this
/// node may be no member any more, or takes others for none, where that is known.
pub(crate) async fn run(
    client: Client,
    vault: Arc<Vault>,
    taken: watch::Sender<Arc<Snapshot>>,
    doubt: watch::Sender<Option<String>>,
) {
    let mut wait = RETRY;
    let mut told = false;
    loop {
        let followed = follow(&client, &vault, (&taken, &doubt), &mut told).await;
        if let Err(error) = &followed
            && let Some(reason) = reason(error)
        {
            doubt.send_replace(Some(reason));
        }
        match followed {
            Ok(()) => tracing::debug!("control ended the stream of snapshots"),
            // Said once for each outage: the proxy serves on, and says when control is back.
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "control is not reachable; serving on with what is known");
            }
            Err(error) => tracing::debug!(%error, "control is still not reachable"),
        }
        if !told {
            wait = RETRY;
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).min(RETRY_CAP);
    }
}

/// Returns what an error of control's says of this node, rather than of the way to control.
fn reason(error: &client::Error) -> Option<String> {
    match error {
        client::Error::Problem(problem) if matches!(problem.status, 401 | 403) => Some(problem.to_string()),
        client::Error::Unreachable(reason) if trust::is_about_time(reason) => {
            Some(format!("the clock of this host may be wrong, 'mesh check' tells by how much ({reason})"))
        }
        client::Error::Problem(_)
        | client::Error::Unreachable(_)
        | client::Error::WrongPin(_)
        | client::Error::Broken(_)
        | client::Error::TimedOut => None,
    }
}

async fn follow(
    client: &Client,
    vault: &Arc<Vault>,
    (taken, doubt): (&watch::Sender<Arc<Snapshot>>, &watch::Sender<Option<String>>),
    told: &mut bool,
) -> Result<(), client::Error> {
    let mut snapshots = client.snapshots().await?;
    while let Some(snapshot) = snapshots.next().await {
        let snapshot = snapshot?;
        doubt.send_if_modified(|doubt| doubt.take().is_some());
        if std::mem::take(told) {
            tracing::info!("control is reachable again");
        }
        let revision = snapshot.revision;
        let refused = take(snapshot, vault, taken).await.err();
        let is_unkept = matches!(refused, Some(Refusal::Unkept(_)));
        let refused = refused.map(|refusal| refusal.to_string());
        match &refused {
            None => tracing::info!(revision, "snapshot taken"),
            Some(reason) => {
                tracing::error!(revision, %reason, "snapshot refused; the one before stays in force");
            }
        }
        client.acknowledge(&Ack { revision, refused }).await?;
        if is_unkept {
            // Control sends it again to whoever comes again.
            tokio::time::sleep(KEEP_AGAIN).await;
            return Ok(());
        }
    }
    Ok(())
}

/// Checks a snapshot, keeps it on disk, and puts it in force.
///
/// # Errors
/// Why it was refused: nothing has changed then.
async fn take(
    snapshot: Snapshot,
    vault: &Arc<Vault>,
    taken: &watch::Sender<Arc<Snapshot>>,
) -> Result<(), Refusal> {
    let current = taken.borrow().clone();
    if *current == snapshot {
        return Ok(());
    }
    if snapshot.trust_domain != current.trust_domain {
        let text = format!("it is of the mesh {}, not of {}", snapshot.trust_domain, current.trust_domain);
        return Err(Refusal::Wrong(text));
    }
    validate::snapshot(&snapshot, &current).map_err(Refusal::Wrong)?;
    let snapshot = Arc::new(snapshot);
    let (vault, kept) = (vault.clone(), snapshot.clone());
    let written = tokio::task::spawn_blocking(move || membership::keep_snapshot(&vault, &kept)).await;
    let unkept = |error: &dyn std::error::Error| Refusal::Unkept(error.to_string());
    written.map_err(|error| unkept(&error))?.map_err(|error| unkept(&error))?;
    taken.send_replace(snapshot);
    Ok(())
}
