//! What a host without mesh downloads: the installer, and the very program that answers.

use std::path::Path;
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
use crate::identity::certificate::{file_sha256, sha256};
use crate::net::disk::OWN_PROGRAM;

const CHUNK_BYTES: usize = 64 << 10;
/// The installer, as it is in a release.
pub const INSTALLER: &str = include_str!("../../../install.sh");

static EXECUTABLE_SUM: OnceCell<String> = OnceCell::const_new();

/// Fills in where the installer came from and the key to expect there.
pub(crate) async fn installer(State(plane): State<Arc<Plane>>) -> Response {
    ([(CONTENT_TYPE, "text/x-shellscript; charset=utf-8")], installer_of(&plane)).into_response()
}

fn installer_of(plane: &Plane) -> String {
    let (host, pin) = (&plane.advertised, plane.authority.serving_pin());
    INSTALLER.replacen("\nMESH_URL=''\n", &format!("\nMESH_URL='https://{host}'\n"), 1).replacen(
        "\nMESH_PIN=''\n",
        &format!("\nMESH_PIN='sha256//{pin}'\n"),
        1,
    )
}

/// As a release has it, so that this is one.
pub(crate) async fn sums(State(plane): State<Arc<Plane>>) -> Result<Response, Refused> {
    let (program, installer) = (own_sum().await?, sha256(installer_of(&plane).as_bytes()));
    let text = format!("{program}  mesh\n{}  install.sh\n", HEXLOWER.encode(&installer));
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

pub(crate) async fn executable() -> Result<Response, Refused> {
    let file = File::open(OWN_PROGRAM).await.map_err(|error| unreadable(&error))?;
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
    let sum = own_sum().await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{sum}  mesh\n")).into_response())
}

/// Returns the SHA-256 of the running program, hexadecimal.
pub(crate) async fn own_sum() -> Result<&'static str, Refused> {
    let hash = || async {
        let hash = tokio::task::spawn_blocking(|| file_sha256(Path::new(OWN_PROGRAM)));
        hash.await.map_err(std::io::Error::other)?
    };
    let sum = EXECUTABLE_SUM.get_or_try_init(hash).await;
    sum.map(String::as_str).map_err(|error| unreadable(&error))
}

fn unreadable(error: &std::io::Error) -> Refused {
    tracing::error!(%error, "cannot read the running program");
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the program cannot be read")
}
