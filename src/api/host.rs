//! How one host stands, as its own proxy sees it: what `mesh check` asks the proxy's admin API for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use http::header::DATE;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::api::client::{Client, Error};
use crate::model::endpoint::Reach;
use crate::model::name::{NodeName, ServiceName};
use crate::model::view::{IdentityStatus, MeshView};
use crate::net::clock;

/// How long the control plane may take to say what time it is.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A reason why the proxy would not serve traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unready {
    /// What is missing, in one word: `identity`, `configuration`, `listener`, …
    pub check: String,
    /// What exactly, and what is being done.
    pub message: String,
}

/// `GET /host` of a proxy. It tries what it tells of, so that the answer may take some seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The node.
    pub node: NodeName,
    /// Version of its executable.
    pub build: String,
    /// Why it would not serve; empty when it does.
    pub unready: Vec<Unready>,
    /// Why others take this node for no member, or it takes them for none; `None` when nothing says so.
    #[serde(default)]
    pub excluded: Option<String>,
    /// What it saw of the control plane.
    pub control: ControlStatus,
    /// How it reaches the other members; `None` when that could not be found out in time.
    pub reach: Option<Reach>,
    /// How names are answered.
    pub names: NamesStatus,
    /// How it intercepts connections; `None` when it does not.
    pub interception: Option<InterceptionStatus>,
    /// The certificates it holds.
    pub identities: Vec<IdentityStatus>,
    /// Where its state is.
    pub disk: DiskStatus,
    /// Open file descriptors.
    pub descriptors: u32,
    /// How many it may have.
    pub descriptors_max: u64,
}

/// What a proxy saw of the control plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlStatus {
    /// Where it asked.
    pub addresses: Vec<String>,
    /// What answered.
    pub answer: Option<ControlAnswer>,
    /// Why nothing did.
    pub error: Option<String>,
    /// By how much the control plane's clock is ahead of this host's, milliseconds; `None` when that could not be measured.
    #[serde(default)]
    pub ahead_ms: Option<i64>,
}

/// The control plane, as a proxy reached it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlAnswer {
    /// Which one.
    pub node: NodeName,
    /// Version of its executable.
    pub build: String,
    /// By how much its clock is ahead of this host's, milliseconds; half of the round trip may be wrong.
    pub ahead_ms: i64,
    /// The round trip, milliseconds.
    pub round_trip_ms: u64,
}

/// How names below `.mesh` are answered on a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamesStatus {
    /// Where the name server listens; empty when it is off.
    pub listen: Vec<SocketAddr>,
    /// A service, to be asked for, with the addresses that are right; `None` while there is none.
    pub example: Option<(ServiceName, Vec<IpAddr>)>,
}

/// How a host's connections are intercepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterceptionStatus {
    /// `on` or `strict`.
    pub mode: String,
    /// Whose rules are in force.
    pub rules: RulesStatus,
    /// Why that is not known.
    pub error: Option<String>,
    /// The command that makes a way to virtual addresses; `None` while there is one.
    #[serde(default)]
    pub way: Option<String>,
}

/// Whose rules for interception are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RulesStatus {
    /// This proxy's.
    Own,
    /// Another one's.
    Foreign,
    /// Nobody's: there are none.
    Missing,
    /// It could not be found out.
    Unknown,
}

/// Where a proxy keeps its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// The data directory.
    pub path: PathBuf,
    /// Room on its file system, bytes.
    pub free_bytes: u64,
    /// Why it is of no use.
    pub error: Option<String>,
}

impl DiskStatus {
    /// Tells of a data directory, by the room that was found there.
    pub fn of(path: &Path, room: io::Result<u64>) -> Self {
        let error = room.as_ref().err().map(ToString::to_string);
        Self { path: path.to_owned(), free_bytes: room.unwrap_or_default(), error }
    }
}

/// With [`Client::admin`] only.
impl Client {
    /// Returns how the proxy's host stands.
    pub async fn host(&self) -> Result<HostStatus, Error> {
        self.ask("/host").await
    }

    /// Returns the mesh as the proxy sees it.
    pub async fn proxy_view(&self) -> Result<MeshView, Error> {
        self.ask("/view").await
    }
}

/// With a pinned control plane: what anybody may ask.
impl Client {
    /// Returns by how much the control plane's clock is ahead of this host's, milliseconds; half a second may be wrong.
    pub async fn ahead_ms(&self) -> Result<i64, Error> {
        let (asked_ms, asked) = (clock::wall_ms(), clock::now());
        let there_ms = self.clock_ms().await?;
        let round_trip_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(ahead_ms(there_ms, asked_ms, round_trip_ms))
    }

    /// Returns what the control plane's clock says, Unix milliseconds; half a second may be wrong.
    async fn clock_ms(&self) -> Result<u64, Error> {
        let asked = timeout(ANSWER_MAX, self.send(Method::HEAD, "/mesh.sha256", None::<&()>)).await;
        let response = asked.map_err(|_| Error::TimedOut)??;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let second = date.and_then(|date| u64::try_from(date.timestamp().as_millisecond()).ok());
        let second = second.ok_or_else(|| Error::Broken("it does not say what time it is".to_owned()))?;
        Ok(second + 500)
    }
}

/// Returns by how much another clock is ahead of this host's, milliseconds: it said `there_ms` when it was asked at `asked_ms`
/// here, and the answer came after `round_trip_ms`.
pub fn ahead_ms(there_ms: u64, asked_ms: u64, round_trip_ms: u64) -> i64 {
    let here_ms = asked_ms.saturating_add(round_trip_ms / 2);
    i64::try_from(i128::from(there_ms) - i128::from(here_ms)).unwrap_or(i64::MAX)
}
