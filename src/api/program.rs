//! The control plane's own program, which any host may download, and proxies on their way to run it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::Method;
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::api::client::{Client, Error, problem, read};
use crate::model::name::{NodeName, ServiceName};

/// Most bytes of a program.
const PROGRAM_BYTES_MAX: usize = 512 << 20;
/// Longest time to download it.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_mins(10);

/// Longest time without a byte of it: as long as some come, a slow line is only slow.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Returns all of a body, however slowly it comes.
async fn whole<B>(body: B) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = Limited::new(body, PROGRAM_BYTES_MAX);
    let mut program = BytesMut::new();
    loop {
        let next = timeout(STALL_MAX, body.frame()).await;
        let next = next.map_err(|_| Error::Broken(format!("no byte of it has come for {STALL_MAX:?}")))?;
        let Some(frame) = next else { return Ok(program.freeze()) };
        let frame = frame.map_err(|error| Error::Broken(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            program.extend_from_slice(&data);
        }
    }
}

/// A line of `GET /v1/program`, and the answer to `POST /v1/nodes/{name}/upgrade`: a proxy is to run another program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Tells orders apart; a later one has a higher number.
    pub id: u64,
    /// SHA-256 of the program, hexadecimal.
    pub program: String,
}

/// `POST /v1/program`: the proxy keeps the program that it has.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderRefused {
    /// Which order it speaks of.
    pub id: u64,
    /// Why.
    pub reason: String,
}

/// `GET /v1/programs`: which program every proxy runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Programs {
    /// Version of the control plane's own.
    pub build: String,
    /// Its SHA-256, hexadecimal.
    pub program: String,
    /// Every proxy, by name.
    pub proxies: Vec<ProgramRow>,
}

/// The program of one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramRow {
    /// Where it runs.
    pub node: NodeName,
    /// What is served there.
    pub services: Vec<ServiceName>,
    /// Its version; empty until something is known of it.
    pub build: String,
    /// SHA-256 of its program, hexadecimal; `None` while it does not listen for orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The last order that was given to it and not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
    /// Why it did not carry it out; `None` while it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

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
            whole(response.into_body()).await
        };
        timeout(PROGRAM_TIMEOUT, download).await.map_err(|_| Error::TimedOut)?
    }

    /// Tells which program this proxy runs, and follows which it is to run.
    pub async fn orders(
        &self,
        build: &str,
        program: &str,
    ) -> Result<impl Stream<Item = Result<Order, Error>> + Send + Unpin + use<>, Error> {
        self.follow(&format!("/v1/program?watch=true&build={build}&program={program}")).await
    }

    /// Tells why this proxy keeps the program that it has.
    pub async fn refuse_order(&self, refused: &OrderRefused) -> Result<(), Error> {
        self.tell(Method::POST, "/v1/program", Some(refused)).await
    }

    /// Returns which program every proxy runs.
    pub async fn programs(&self) -> Result<Programs, Error> {
        self.ask("/v1/programs").await
    }

    /// Has a proxy run the control plane's own program.
    pub async fn upgrade(&self, node: &NodeName) -> Result<Order, Error> {
        self.call(Method::POST, &format!("/v1/nodes/{node}/upgrade"), None::<&()>).await
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body::{Body, Frame};
    use http_body_util::StreamBody;

    use crate::api::program::whole;

    /// A body whose pieces come after so many seconds each.
    fn pieces(after_s: &'static [u64]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::iter(after_s).then(|seconds| async move {
            tokio::time::sleep(Duration::from_secs(*seconds)).await;
            Ok(Frame::data(Bytes::from_static(b"x")))
        });
        StreamBody::new(Box::pin(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_download_arrives_and_one_that_stands_still_is_given_up() {
        let slow = whole(pieces(&[29; 20])).await.unwrap();
        let still = whole(pieces(&[1, 31])).await.unwrap_err().to_string();

        assert_eq!(slow.len(), 20);
        assert!(still.contains("no byte of it has come for 30s"), "{still}");
    }
}
