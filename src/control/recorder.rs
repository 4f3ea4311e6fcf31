//! Keeps on disk what a restart should not forget, and what is no write that was acknowledged: in files of the data directory,
//! each written whole.
//!
//! The traffic of the last hours is written once a minute and at the end; what was counted since is lost by a crash. Since when
//! the conditions of routes hold is looked at, and written, when objects or services have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::control::plane::Plane;
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

/// Reads what a control plane before this one has kept. What cannot be read is said and begun anew: it is a convenience.
pub fn load(data_dir: &Path) -> Hours {
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
