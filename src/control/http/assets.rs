//! What a host without mesh downloads: the installer, and the very program that answers.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use data_encoding::HEXLOWER;
use futures_util::stream;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::OnceCell;

use crate::control::http::answer::Refused;
use crate::control::plane::Plane;
use crate::identity::certificate::sha256;

/// The running program, even when its file has been replaced or removed.
const EXECUTABLE: &str = "/proc/self/exe";
const CHUNK_BYTES: usize = 64 << 10;
const INSTALLER: &str = include_str!("../../../install.sh");

static EXECUTABLE_SUM: OnceCell<String> = OnceCell::const_new();

/// Fills in where the installer came from and the key to expect there.
pub(crate) async fn installer(State(plane): State<Arc<Plane>>) -> Response {
    let (host, pin) = (&plane.advertised, plane.authority.serving_pin());
    let text = INSTALLER.replacen("\nMESH_URL=''\n", &format!("\nMESH_URL='https://{host}'\n"), 1).replacen(
        "\nMESH_PIN=''\n",
        &format!("\nMESH_PIN='sha256//{pin}'\n"),
        1,
    );
    ([(CONTENT_TYPE, "text/x-shellscript; charset=utf-8")], text).into_response()
}

pub(crate) async fn executable() -> Result<Response, Refused> {
    let file = File::open(EXECUTABLE).await.map_err(|error| unreadable(&error))?;
    let length = file.metadata().await.map_err(|error| unreadable(&error))?.len();
    let chunks = stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    let headers =
        [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

pub(crate) async fn executable_sum() -> Result<Response, Refused> {
    let sum = EXECUTABLE_SUM.get_or_try_init(hash_executable).await.map_err(|error| unreadable(&error))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{sum}  mesh\n")).into_response())
}

async fn hash_executable() -> std::io::Result<String> {
    let hash = tokio::task::spawn_blocking(|| std::fs::read(EXECUTABLE).map(|bytes| sha256(&bytes)));
    Ok(HEXLOWER.encode(&hash.await.map_err(std::io::Error::other)??))
}

fn unreadable(error: &std::io::Error) -> Refused {
    tracing::error!(%error, "cannot read the running program");
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the program cannot be read")
}
