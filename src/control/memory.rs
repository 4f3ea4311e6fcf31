//! What was collected, written down for the next process: events, and what was refused.

use std::sync::Arc;
use std::time::Duration;

use crate::control::collector::{MEMORY_ROW, Memory};
use crate::control::plane::Plane;
use crate::control::store::Store;

/// How often what was collected is written down.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);

/// Writes down what was collected, for the next process.
pub async fn remember(plane: Arc<Plane>) {
    let mut written = None;
    loop {
        tokio::time::sleep(REMEMBER_EVERY).await;
        write_down(&plane, &mut written).await;
    }
}

/// Writes down what was collected, unless that is what was `written` last.
pub async fn write_down(plane: &Plane, written: &mut Option<Memory>) {
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

/// Returns what the process before this one has written down; what cannot be read is let go.
pub fn recalled(store: &Store) -> Memory {
    let row = store.db().get(MEMORY_ROW).ok().flatten();
    row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default()
}
