//! Keeps on disk what a restart should not forget, and what is no write that was acknowledged: in files of the data directory,
//! each written whole, and in a row of the store.
//!
//! The traffic of the last hours is written once a minute and at the end, events and refusals every ten seconds and at the
//! end; what was counted since is lost by a crash. Since when the conditions of routes hold is looked at, and written, when
//! objects or services have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::control::collector::{MEMORY_ROW, Memory};
use crate::control::plane::Plane;
use crate::control::store::Store;
use crate::control::transitions;
use crate::logic::metric::hours::Hours;
use crate::net::disk;

/// The file, in the data directory.
pub const HOURS_FILE: &str = "traffic.json";
/// After a start, gossip gets so long to tell which services there are: before that, all of them seem gone.
const QUIET: Duration = Duration::from_secs(5);
/// How often conditions are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often traffic is written.
const WRITE_EVERY: Duration = Duration::from_mins(1);
/// How often events and refusals are written.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);

/// Reads the traffic that a control plane before this one has counted. What cannot be read is said and begun anew: it is a convenience.
pub fn hours(data_dir: &Path) -> Hours {
    let path = data_dir.join(HOURS_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Hours::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the memory of traffic is not readable; beginning anew");
            return Hours::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the memory of traffic is damaged; beginning anew");
        Hours::default()
    })
}

/// Writes a file. What writes has no part of the control plane: it may outlive it by a moment, and must not keep its store.
async fn write(path: PathBuf, content: Vec<u8>) {
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || disk::write_file(&path, &content, 0o600)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(path = shown, %error, "what a restart should not forget was not written");
    }
}

/// Writes the traffic for as long as the control plane runs.
pub async fn keep_traffic(plane: Arc<Plane>) {
    let mut ticks = interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut closing = plane.closing.clone();
    loop {
        let over = tokio::select! {
            _ = ticks.tick() => false,
            _ = closing.wait_for(|closing| *closing) => true,
        };
        let content = serde_json::to_vec(&plane.collector.hours()).unwrap_or_default();
        write(plane.data_dir.join(HOURS_FILE), content).await;
        if over {
            return;
        }
    }
}

/// Looks at the conditions of routes for as long as the control plane runs.
pub async fn keep_conditions(plane: Arc<Plane>) {
    let (mut states, mut catalog) = (plane.store.watch(), plane.catalog.clone());
    sleep(QUIET).await;
    loop {
        states.mark_unchanged();
        catalog.mark_unchanged();
        let announced: Vec<_> = plane.catalog.borrow().by_service().into_keys().collect();
        // All routes are looked at: with a thousand of them, nobody should wait for that. Like what writes, it has no part
        // of the control plane that it may outlive.
        let (known, state) = (Arc::clone(&plane.transitions), plane.store.state());
        let look = tokio::task::spawn_blocking(move || known.look(&state, announced));
        if let Ok(Some(kept)) = look.await {
            write(plane.data_dir.join(transitions::FILE), kept).await;
        }
        sleep(LOOK_EVERY).await;
        let changed = tokio::select! {
            changed = states.changed() => changed,
            changed = catalog.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Writes events and refusals for as long as the control plane runs.
pub async fn keep_memory(plane: Arc<Plane>) {
    let mut written = None;
    loop {
        sleep(REMEMBER_EVERY).await;
        write_memory(&plane, &mut written).await;
    }
}

/// Writes events and refusals, unless they are what was `written` last.
pub async fn write_memory(plane: &Plane, written: &mut Option<Memory>) {
    let memory = plane.collector.memory();
    if written.as_ref() == Some(&memory) {
        return;
    }
    let db = Arc::clone(plane.store.db());
    let row = serde_json::to_vec(&memory).unwrap_or_default();
    match tokio::task::spawn_blocking(move || db.put(MEMORY_ROW, &row)).await {
        Ok(Ok(())) => *written = Some(memory),
        Ok(Err(error)) => tracing::warn!(%error, "cannot write down what happened"),
        Err(error) => tracing::warn!(%error, "writing down what happened was interrupted"),
    }
}

/// Returns the events and refusals that a control plane before this one has written; what cannot be read is let go.
pub fn memory(store: &Store) -> Memory {
    let row = store.db().get(MEMORY_ROW).ok().flatten();
    row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default()
}
