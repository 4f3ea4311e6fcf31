//! The control plane as a file, and back from one: for those who own its host.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};

use crate::control::backup::{self, Backup};
use crate::control::http::answer::Refused;
use crate::control::plane::Plane;
use crate::control::{recorder, restore};
use crate::net::clock;

pub(crate) async fn backup(State(plane): State<Arc<Plane>>) -> Result<Response, Refused> {
    recorder::write_memory(&plane, &mut None).await;
    let file = blocking(move || {
        let state = plane.store.state();
        Backup::take(&state, plane.store.db(), &plane.data_dir, &plane.node, clock::wall_ms())?.to_bytes()
    });
    let file = file.await?.map_err(|error: backup::Error| {
        tracing::error!(%error, "cannot take a backup");
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })?;
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, file.to_vec()).into_response())
}

pub(crate) async fn restore(State(plane): State<Arc<Plane>>) -> Result<StatusCode, Refused> {
    let checked = Arc::clone(&plane);
    let waiting = blocking(move || {
        let backup = restore::pending(&checked.data_dir)?;
        backup.map(|backup| restore::fits(&backup, &checked.data_dir, &checked.store.state())).transpose()
    });
    let refused = |error: restore::Error| {
        restore::take_back(&plane.data_dir);
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    };
    if waiting.await?.map_err(refused)?.is_none() {
        let detail = "no snapshot waits in the data directory: 'mesh snapshot restore' places one there";
        return Err(Refused::new(StatusCode::CONFLICT, detail));
    }
    plane.restoring.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let interrupted = |_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the work was interrupted");
    tokio::task::spawn_blocking(work).await.map_err(interrupted)
}
