//! The control plane's own program, which any host may download.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use crate::api::client::{Client, Error, problem, read};

/// Most bytes of a program.
const PROGRAM_BYTES_MAX: usize = 512 << 20;
/// Longest time to download it.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_mins(10);

impl Client {
    /// Returns the SHA-256 of the control plane's own program, hexadecimal.
    pub async fn program_sum(&self) -> Result<String, Error> {
        let line = self.exchange(Method::GET, "/mesh.sha256", None::<&()>).await?;
        let text = String::from_utf8_lossy(&line);
        let sum = text.split_whitespace().next();
        sum.map(str::to_owned).ok_or_else(|| Error::Broken("it gives no digest of its program".to_owned()))
    }

    /// Returns the control plane's own program, within [`PROGRAM_TIMEOUT`].
    pub async fn program(&self) -> Result<Bytes, Error> {
        let download = async {
            let response = self.send(Method::GET, "/mesh", None::<&()>).await?;
            let status = response.status();
            if !status.is_success() {
                return Err(problem(status.as_u16(), &read(response.into_body()).await?));
            }
            let body = Limited::new(response.into_body(), PROGRAM_BYTES_MAX).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| Error::Broken(error.to_string()))
        };
        timeout(PROGRAM_TIMEOUT, download).await.map_err(|_| Error::TimedOut)?
    }
}
