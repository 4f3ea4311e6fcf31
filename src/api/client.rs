//! The client of the control plane's API: one typed method for each endpoint, used by proxies, consoles and commands.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::api::dial::{NoLink, dial, open};
use crate::api::inquiry::{Inquiry, RequestTrace, Shown, Told};
use crate::api::problem::Problem;
use crate::api::stream;
use crate::api::why::{Why, WhyRequest};
use crate::api::wire::{
    Ack, ApplyRequest, ApplyResult, AuthorityInfo, Defaults, History, Issued, JoinRequest, RenewRequest,
    ResourceEvent, ResourceList, Status, TokenCreated, TokenInfo, TokenRequest, WriteResult,
};
use crate::identity::tls::{self, ApiConnector};
use crate::identity::wallet::Wallet;
use crate::logic::metric::report::Report;
use crate::model::endpoint::Catalog;
use crate::model::identity::Subject;
use crate::model::resource::{Key, Kind, Resource, Revision};
use crate::model::snapshot::Snapshot;
use crate::model::token::Token;
use crate::model::view::MeshView;
use crate::net::task;

/// An answer that takes longer is given up; signing many certificates is the slowest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for one that begins with writing down the whole state.
const BACKUP_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No control plane could be reached. Nothing was done.
    #[error("no control plane answers: {0}")]
    Unreachable(String),
    /// Who answers is not the control plane that the join token pins. Nothing was sent, above all no secret.
    #[error(
        "{0} is not the control plane of this join token: its root key is not the one that the token pins; nothing \
         was sent to it. Copy the whole token again, or make a new one with 'mesh token create'"
    )]
    WrongPin(String),
    /// The control plane refused. Nothing was changed.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The connection broke off, or the answer is not one: whether it was done is not known.
    #[error("the control plane's answer cannot be read: {0}")]
    Broken(String),
    /// No answer in time: whether it was done is not known.
    #[error("the control plane did not answer within {ANSWER_TIMEOUT:?}")]
    TimedOut,
}

impl Error {
    /// Returns whether asking again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::TimedOut => true,
            Self::WrongPin(_) => false,
            Self::Problem(problem) => problem.status >= 500 || problem.status == 429,
        }
    }
}

impl From<stream::Error> for Error {
    fn from(error: stream::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A client of one mesh's control planes. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    way: Way,
    /// The connection in use, with the wallet that it was made with.
    link: Mutex<Option<Link>>,
    /// Which control plane answered last.
    good: AtomicUsize,
}

#[derive(Clone)]
struct Link {
    sender: http2::SendRequest<Full<Bytes>>,
    wallet: Option<Arc<Wallet>>,
}

/// How control planes are reached.
enum Way {
    /// On this host, as whoever owns the process.
    Unix(PathBuf),
    /// The admin API of one proxy, `host:port`, without identities.
    Admin(String),
    /// With a certificate, at any of the addresses that are in force now.
    Wallet { controls: watch::Receiver<Vec<String>>, wallet: watch::Receiver<Arc<Wallet>>, source: Subject },
    /// Without one, trusting only what the token pins.
    Pinned { controls: Vec<String>, pin: [u8; 32], any_time: bool },
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.place()).finish()
    }
}

impl Client {
    fn of(way: Way) -> Self {
        Self { inner: Arc::new(Inner { way, link: Mutex::default(), good: AtomicUsize::new(0) }) }
    }

    /// Talks to the control plane on this host through its socket.
    pub fn unix(path: &Path) -> Self {
        Self::of(Way::Unix(path.to_owned()))
    }

    /// Talks to the admin API of one proxy: its view is all there is.
    pub fn admin(address: &str) -> Self {
        Self::of(Way::Admin(address.to_owned()))
    }

    /// Talks as `source` to any of the control planes at `controls` (`host:port`), whichever answers.
    pub fn with_wallet(
        controls: watch::Receiver<Vec<String>>,
        wallet: watch::Receiver<Arc<Wallet>>,
        source: Subject,
    ) -> Self {
        Self::of(Way::Wallet { controls, wallet, source })
    }

    /// Talks to the control plane that a join token names and pins.
    pub fn pinned(token: &Token) -> Self {
        Self::pinning(token.controls.clone(), token.pin)
    }

    /// Talks to any of the control planes at `controls` that leads to the root whose public key has the SHA-256 `pin`.
    pub fn pinning(controls: Vec<String>, pin: [u8; 32]) -> Self {
        Self::of(Way::Pinned { controls, pin, any_time: false })
    }

    /// As [`Self::pinning`], though this host's clock takes the control plane's certificates for ones of another time: to ask
    /// what time it is there, and nothing else.
    pub fn timing(controls: Vec<String>, pin: [u8; 32]) -> Self {
        Self::of(Way::Pinned { controls, pin, any_time: true })
    }

    /// Returns where it connects, for people.
    pub fn place(&self) -> String {
        match &self.inner.way {
            Way::Unix(path) => format!("unix://{}", path.display()),
            Way::Admin(address) => format!("http://{address}"),
            Way::Wallet { controls, .. } => controls.borrow().join(", "),
            Way::Pinned { controls, .. } => controls.join(", "),
        }
    }

    // --- joining and certificates ---

    /// Asks to become a member.
    pub async fn join(&self, request: &JoinRequest) -> Result<Issued, Error> {
        self.call(Method::POST, "/v1/join", Some(request)).await
    }

    /// Asks for new certificates.
    pub async fn renew(&self, request: &RenewRequest) -> Result<Issued, Error> {
        self.call(Method::POST, "/v1/renew", Some(request)).await
    }

    // --- a proxy's own things ---

    /// Follows the snapshots: the newest now, and at each change.
    pub async fn snapshots(
        &self,
    ) -> Result<impl Stream<Item = Result<Snapshot, Error>> + Send + Unpin + use<>, Error> {
        self.follow("/v1/snapshot?watch=true").await
    }

    /// Tells that a revision was taken or refused.
    pub async fn acknowledge(&self, ack: &Ack) -> Result<(), Error> {
        self.tell(Method::POST, "/v1/ack", Some(ack)).await
    }

    /// Hands over a report; returns what the proxy is asked.
    pub async fn report(&self, report: &Report) -> Result<Vec<Inquiry>, Error> {
        let answer = self.exchange(Method::POST, "/v1/reports", Some(report)).await?;
        // The report is taken, whatever a control plane of another version asks.
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Answers what the proxy was asked.
    pub async fn answer(&self, id: u64, told: &Told) -> Result<(), Error> {
        self.tell(Method::POST, &format!("/v1/inquiries/{id}"), Some(told)).await
    }

    // --- the mesh ---

    /// Returns who answers.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask("/v1/status").await
    }

    /// Returns who signs.
    pub async fn authority(&self) -> Result<AuthorityInfo, Error> {
        self.ask("/v1/authority").await
    }

    /// Returns the mesh as consoles show it.
    pub async fn view(&self) -> Result<MeshView, Error> {
        self.ask("/v1/view").await
    }

    /// Follows the view, once a second.
    pub async fn views(
        &self,
    ) -> Result<impl Stream<Item = Result<MeshView, Error>> + Send + Unpin + use<>, Error> {
        self.follow("/v1/view?watch=true").await
    }

    /// Follows one proxy's own view, once a second; only with [`Self::admin`].
    pub async fn proxy_views(
        &self,
    ) -> Result<impl Stream<Item = Result<MeshView, Error>> + Send + Unpin + use<>, Error> {
        self.follow("/view?watch=true").await
    }

    /// Returns what all proxies remember of a request, by its name.
    pub async fn request(&self, name: &str) -> Result<RequestTrace, Error> {
        self.ask(&format!("/v1/requests/{}", encoded(name))).await
    }

    /// Follows calls as they end: `query` as the endpoint's table says.
    pub async fn calls(
        &self,
        query: &str,
    ) -> Result<impl Stream<Item = Result<Shown, Error>> + Send + Unpin + use<>, Error> {
        self.follow(&format!("/v1/calls?{query}")).await
    }

    /// Returns what gossip knows there.
    pub async fn catalog(&self) -> Result<Catalog, Error> {
        self.ask("/v1/catalog").await
    }

    // --- keeping ---

    /// Returns all that the control plane is, in pieces as they come.
    pub async fn backup(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + use<>, Error> {
        let sent = timeout(BACKUP_TIMEOUT, self.send(Method::GET, "/v1/backup", None::<&()>)).await;
        let response = accepted(sent.map_err(|_| Error::TimedOut)??).await?;
        Ok(response.into_body().into_data_stream().map_err(|error| Error::Broken(error.to_string())))
    }

    /// Has the control plane begin again with the backup that was placed in its data directory.
    pub async fn restore(&self) -> Result<(), Error> {
        self.tell(Method::POST, "/v1/restore", None::<&()>).await
    }

    // --- tokens ---

    /// Makes a join token.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated, Error> {
        self.call(Method::POST, "/v1/tokens", Some(request)).await
    }

    /// Returns the tokens there are.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, Error> {
        self.ask("/v1/tokens").await
    }

    /// Takes a token back.
    pub async fn revoke_token(&self, id: &str) -> Result<(), Error> {
        self.tell(Method::DELETE, &format!("/v1/tokens/{id}"), None::<&()>).await
    }

    // --- resources ---

    /// Returns the objects of a kind, of every namespace.
    pub async fn list_resources(&self, kind: Kind) -> Result<ResourceList, Error> {
        self.ask(&format!("/v1/resources/{}", kind.plural())).await
    }

    /// Follows the changes of a kind after a revision.
    pub async fn watch_resources(
        &self,
        kind: Kind,
        since: Revision,
    ) -> Result<impl Stream<Item = Result<ResourceEvent, Error>> + Send + Unpin + use<>, Error> {
        self.follow(&format!("/v1/resources/{}?watch=true&since={since}", kind.plural())).await
    }

    /// Returns an object.
    pub async fn get_resource(&self, kind: Kind, namespace: &str, name: &str) -> Result<Resource, Error> {
        self.ask(&path_of(kind, namespace, name)).await
    }

    /// Writes an object: only over the revision that it says it is of, if it says so. `dry_run` checks and writes nothing.
    pub async fn put_resource(&self, resource: &Resource, dry_run: bool) -> Result<WriteResult, Error> {
        let metadata = resource.metadata();
        let path = path_of(resource.kind(), &metadata.namespace, &metadata.name);
        let query = if dry_run { "?dryRun=true" } else { "" };
        self.call(Method::PUT, &format!("{path}{query}"), Some(resource)).await
    }

    /// Writes and removes objects together, all of them or none. `dry_run` checks and writes nothing.
    pub async fn apply(&self, request: &ApplyRequest, dry_run: bool) -> Result<ApplyResult, Error> {
        let query = if dry_run { "?dryRun=true" } else { "" };
        self.call(Method::POST, &format!("/v1/apply{query}"), Some(request)).await
    }

    /// Tries to write objects together, and says what that would do to the traffic there is. Nothing is written.
    pub async fn plan(&self, request: &ApplyRequest) -> Result<ApplyResult, Error> {
        self.call(Method::POST, "/v1/apply?dryRun=true&plan=true", Some(request)).await
    }

    /// Returns the versions of an object that are kept.
    pub async fn history(&self, key: &Key) -> Result<History, Error> {
        self.ask(&format!("/v1/resources/{}/history", key.path())).await
    }

    /// Writes an object as revision `to` had it, or as it was the last time that it was another.
    pub async fn rollback(
        &self,
        key: &Key,
        to: Option<Revision>,
        dry_run: bool,
    ) -> Result<WriteResult, Error> {
        let to = to.map_or_else(String::new, |to| format!("&to={to}"));
        let path = format!("/v1/resources/{}/rollback?dryRun={dry_run}{to}", key.path());
        self.call(Method::POST, &path, None::<&()>).await
    }

    /// Asks why a call ends where it does.
    pub async fn why(&self, question: &WhyRequest) -> Result<Why, Error> {
        self.call(Method::POST, "/v1/why", Some(question)).await
    }

    /// Returns what holds where no intention says otherwise.
    pub async fn defaults(&self) -> Result<Defaults, Error> {
        self.ask("/v1/defaults").await
    }

    /// Says what holds where no intention says otherwise.
    pub async fn set_defaults(&self, defaults: &Defaults) -> Result<Defaults, Error> {
        self.call(Method::PUT, "/v1/defaults", Some(defaults)).await
    }

    // --- the way there and back ---

    pub(crate) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, None::<&()>).await
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        let answer = self.exchange(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| Error::Broken(error.to_string()))
    }

    pub(crate) async fn tell(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(), Error> {
        self.exchange(method, path, body).await.map(drop)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, Error> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let bytes = read(response.into_body()).await?;
            if status.is_success() { Ok(bytes) } else { Err(problem(status.as_u16(), &bytes)) }
        };
        timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_| Error::TimedOut)?
    }

    /// Sends a request and reads the answer line by line, for as long as it goes on.
    pub(crate) async fn follow<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<T, Error>> + Send + Unpin + use<T>, Error> {
        let sent = timeout(ANSWER_TIMEOUT, self.send(Method::GET, path, None::<&()>)).await;
        let response = accepted(sent.map_err(|_| Error::TimedOut)??).await?;
        Ok(stream::lines(response.into_body()).map_err(Error::from).boxed())
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, Error> {
        let broken = |error: &dyn fmt::Display| Error::Broken(error.to_string());
        let bytes = body.map(serde_json::to_vec).transpose().map_err(|error| broken(&error))?;
        let mut request = Request::builder().method(method);
        if bytes.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(bytes.unwrap_or_default()));
        let local =
            |request: http::request::Builder, body| request.uri(path).header(HOST, "localhost").body(body);
        match &self.inner.way {
            Way::Unix(socket) => {
                let gone = |error| Error::Unreachable(format!("{}: {error}", socket.display()));
                let stream = UnixStream::connect(socket).await.map_err(gone)?;
                return send_once(stream, local(request, body).map_err(|error| broken(&error))?).await;
            }
            Way::Admin(address) => {
                let stream =
                    open(address).await.map_err(|error| Error::Unreachable(format!("{address}: {error}")))?;
                return send_once(stream, local(request, body).map_err(|error| broken(&error))?).await;
            }
            Way::Wallet { .. } | Way::Pinned { .. } => {}
        }
        let uri: Uri = format!("https://control{path}").parse().map_err(|error| broken(&error))?;
        let request = request.uri(uri).body(body).map_err(|error| broken(&error))?;
        let mut sender = self.sender().await?;
        if sender.ready().await.is_err() {
            // It closed since it was last used; nothing was sent on it.
            self.forget();
            sender = self.sender().await?;
        }
        sender.send_request(request).await.map_err(|error| {
            self.forget();
            broken(&error)
        })
    }

    /// Returns the open connection, or opens one to the first control plane that takes it.
    async fn sender(&self) -> Result<http2::SendRequest<Full<Bytes>>, Error> {
        if let Some(sender) = self.open_link() {
            return Ok(sender);
        }
        let (controls, connector, wallet) = match &self.inner.way {
            Way::Unix(_) | Way::Admin(_) => {
                return Err(Error::Broken("there is no shared connection".to_owned()));
            }
            Way::Wallet { controls, wallet, source } => {
                let wallet = wallet.borrow().clone();
                let connector = ApiConnector::of(&wallet, source).map_err(|error| unreachable(&error))?;
                (controls.borrow().clone(), connector, Some(wallet))
            }
            Way::Pinned { controls, pin, any_time } => {
                let make = if *any_time { ApiConnector::pinned_at_any_time } else { ApiConnector::pinned };
                (controls.clone(), make(*pin).map_err(|error| unreachable(&error))?, None)
            }
        };
        let first = self.inner.good.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        let mut impostor = None;
        for step in 0..controls.len() {
            let index = (first + step) % controls.len();
            let Some(control) = controls.get(index) else { continue };
            match dial(control, &connector).await {
                Ok(sender) => {
                    self.inner.good.store(index, Ordering::Relaxed);
                    let link = Link { sender: sender.clone(), wallet };
                    *self.inner.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
                    return Ok(sender);
                }
                Err(NoLink::Distrust(_)) if matches!(self.inner.way, Way::Pinned { .. }) => {
                    impostor.get_or_insert(control.clone());
                }
                Err(NoLink::Distrust(reason) | NoLink::Other(reason)) => {
                    reasons.push(format!("{control}: {reason}"));
                }
            }
        }
        if let Some(control) = impostor {
            return Err(Error::WrongPin(control));
        }
        Err(Error::Unreachable(if reasons.is_empty() {
            "no address is known".to_owned()
        } else {
            reasons.join("; ")
        }))
    }

    /// Returns the connection in use, unless it is closed, or another wallet would make another one.
    fn open_link(&self) -> Option<http2::SendRequest<Full<Bytes>>> {
        let link = self.inner.link.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let same = match (&self.inner.way, &link.wallet) {
            (Way::Wallet { wallet, source, .. }, Some(then)) => {
                let now = wallet.borrow();
                let serial = |wallet: &Wallet| wallet.svid(source).map(|svid| svid.serial.clone());
                now.trusts_like(then) && serial(&now) == serial(then)
            }
            (Way::Wallet { .. } | Way::Unix(_) | Way::Admin(_) | Way::Pinned { .. }, _) => true,
        };
        (same && !link.sender.is_closed()).then_some(link.sender)
    }

    fn forget(&self) {
        *self.inner.link.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Encodes a text for a segment of a path, or a value of a query.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = text.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    each.collect()
}

fn path_of(kind: Kind, namespace: &str, name: &str) -> String {
    format!("/v1/resources/{}/{namespace}/{name}", kind.plural())
}

fn unreachable(error: &tls::Error) -> Error {
    Error::Unreachable(error.to_string())
}

/// Returns an answer that is no refusal.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = timeout(ANSWER_TIMEOUT, read(response.into_body())).await;
    Err(problem(status.as_u16(), &body.map_err(|_| Error::TimedOut)??))
}

/// Reads what a control plane says of a failure.
pub(crate) fn problem(status: u16, body: &[u8]) -> Error {
    let mut problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    problem.status = status;
    Error::Problem(problem)
}

/// Reads an answer.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, Error> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Error::Broken(error.to_string()))
}

/// Sends a request over a connection of its own.
async fn send_once<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Error::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    task::spawn("api-connection", connection);
    sender.send_request(request).await.map_err(broken)
}
