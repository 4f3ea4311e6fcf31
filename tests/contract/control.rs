//! A control plane as a whole: it starts, serves by TLS and on its socket, stops, and is itself again after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::api::client::{self, Client};
use mesh::api::wire::{Ack, Issued, Status, TokenCreated, TokenRequest};
use mesh::control;
use mesh::control::bootstrap::{Addresses, Options, Started};
use mesh::identity::key::Key;
use mesh::identity::svid::Svid;
use mesh::identity::tls::ApiConnector;
use mesh::identity::wallet::Wallet;
use mesh::model::endpoint::Role;
use mesh::model::identity::Subject;
use mesh::model::token::Token;
use mesh::net::{clock, task};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};

use crate::contract::admin::scrape;

fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        gossip: Some("127.0.0.1:0".parse().unwrap()),
        admin: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        trust_domain: None,
        default_action: None,
        name: Some("control-1".parse().unwrap()),
        root_cert: None,
        root_key: None,
        join: None,
    }
}

/// Runs a control plane for as long as `act` takes.
async fn with<T>(options: Options, act: impl AsyncFnOnce(&Started) -> T) -> T {
    let (told, hear) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let started = |started: &Started| assert!(told.send(started.clone()).is_ok());
    let run = control::run(options, started, async { stopped.await.unwrap() });
    let act = async {
        let started = hear.await.expect("it starts");
        let result = act(&started).await;
        stop.send(()).unwrap();
        result
    };
    let (ran, result) = tokio::join!(run, act);
    ran.unwrap();
    result
}

fn request(method: &str, path: &str, body: Option<Value>) -> hyper::Request<Full<Bytes>> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "control")
        .body(Full::from(body))
        .unwrap()
}

async fn value(response: hyper::Response<Incoming>) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn on_socket(dir: &Path, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let stream = UnixStream::connect(dir.join("control.sock")).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let exchange = async { value(sender.send_request(request(method, path, body)).await.unwrap()).await };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

async fn by_tls(
    connector: &ApiConnector,
    started: &Started,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let stream = TcpStream::connect(started.addresses.listen).await.unwrap();
    let stream = connector.connect("127.0.0.1", stream).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let uri = format!("https://control{path}");
    let mut request = request(method, &uri, body);
    request.headers_mut().clear();
    let exchange = async { value(sender.send_request(request).await.unwrap()).await };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

async fn health(started: &Started, path: &str) -> String {
    let mut stream = TcpStream::connect(started.addresses.admin).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn join(token: &Token, key: &Key) -> Value {
    let csr = BASE64.encode(&key.request().unwrap());
    json!({
        "token": format!("{}.{}", token.id, token.secret), "node": "host-1", "role": "proxy",
        "requests": [{ "subject": "node/host-1", "csr": csr }, { "subject": "web.default", "csr": csr }],
        "gossipKey": BASE64.encode(&[9; 32]),
    })
}

fn wallet(issued: &Issued, key: &Arc<Key>) -> Wallet {
    let decode = |text: &String| BASE64.decode(text.as_bytes()).unwrap();
    let svid = |subject: &Subject, chain: &[String]| {
        let svid = Svid::new(chain.iter().map(decode).collect(), Arc::clone(key)).unwrap();
        (subject.clone(), Arc::new(svid))
    };
    Wallet {
        trust_domain: issued.snapshot.trust_domain.clone(),
        bundle: issued.snapshot.bundle.iter().map(|root| decode(root).into()).collect(),
        svids: issued.certificates.iter().map(|one| svid(&one.subject, &one.chain)).collect(),
        banned: [].into(),
    }
}

#[tokio::test]
async fn a_host_joins_by_the_line_that_is_printed_and_then_speaks_with_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    with(options(dir.path()), async |started| {
        let install = started.install.clone().expect("the first start prints it");
        let token: Token = install.rsplit(' ').next().unwrap().parse().unwrap();
        let key = Arc::new(Key::generate().unwrap());
        let pinned = ApiConnector::pinned(token.pin).unwrap();
        assert!(install.contains("--pinnedpubkey 'sha256//") && install.contains(&started.advertised));

        let (status, body) = by_tls(&pinned, started, "POST", "/v1/join", Some(join(&token, &key))).await;
        assert_eq!(status, 200, "{body}");
        let issued: Issued = serde_json::from_value(body).unwrap();
        let wallet = wallet(&issued, &key);
        let node: Subject = "node/host-1".parse().unwrap();
        let own = ApiConnector::of(&wallet, &node).unwrap();
        let (snapshot, body) = by_tls(&own, started, "GET", "/v1/snapshot", None).await;
        let (tokens, _) = by_tls(&own, started, "GET", "/v1/tokens", None).await;
        let (nobody, _) = by_tls(&pinned, started, "GET", "/v1/snapshot", None).await;

        assert_eq!((snapshot, tokens, nobody), (200, 403, 401));
        assert_eq!(body["controls"], json!([started.advertised]));
        assert_eq!(body["gossip"]["seeds"], json!([started.addresses.gossip]));
    })
    .await;
}

#[tokio::test]
async fn the_client_follows_snapshots_acknowledges_and_is_told_when_it_may_not() {
    let dir = tempfile::tempdir().unwrap();
    with(options(dir.path()), async |started| {
        let admin = Client::unix(&dir.path().join("control.sock"));
        let wish = TokenRequest { role: Role::Proxy, services: Vec::new(), uses: 1, ttl_seconds: 60 };
        let token: Token = admin.create_token(&wish).await.unwrap().token.parse().unwrap();
        let key = Arc::new(Key::generate().unwrap());
        let request = serde_json::from_value(join(&token, &key)).unwrap();
        let issued = Client::pinned(&token).join(&request).await.unwrap();
        let (_, controls) = watch::channel(issued.snapshot.controls.clone());
        let (_, wallets) = watch::channel(Arc::new(wallet(&issued, &key)));
        let proxy = Client::with_wallet(controls, wallets, "node/host-1".parse().unwrap());

        let mut snapshots = proxy.snapshots().await.unwrap();
        let first = snapshots.next().await.unwrap().unwrap();
        proxy.acknowledge(&Ack { revision: first.revision, refused: None }).await.unwrap();
        let written = admin.put_resource(&serde_json::from_value(intention()).unwrap(), false).await.unwrap();
        let second = snapshots.next().await.unwrap().unwrap();
        let view = admin.view().await.unwrap();
        let refused = proxy.create_token(&wish).await.unwrap_err();
        admin.ban(&"host-1".parse().unwrap(), true).await.unwrap();
        let banned = snapshots.next().await;
        admin.ban(&"host-1".parse().unwrap(), false).await.unwrap();
        let unbanned = proxy.status().await.map(|status| status.node);
        admin.forget_node(&"host-1".parse().unwrap()).await.unwrap();
        let forgotten = proxy.status().await.unwrap_err();

        assert_eq!(first, issued.snapshot);
        assert_eq!((second.revision, second.resources.len()), (written.revision, 1));
        assert_eq!(view.revision, written.revision);
        assert!(matches!(&refused, client::Error::Problem(problem) if problem.status == 403), "{refused}");
        assert!(banned.is_none_or(|end| end.is_err()));
        assert_eq!(unbanned.unwrap(), started.node);
        assert!(forgotten.to_string().contains("was removed from the mesh"), "{forgotten}");
        assert_eq!(admin.tokens().await.unwrap().iter().map(|token| token.uses_left).sum::<u32>(), 100);
        assert!(started.install.is_some());
    })
    .await;
}

fn intention() -> Value {
    json!({
        "apiVersion": "mesh/v1", "kind": "Intention", "metadata": { "name": "one" },
        "spec": { "destination": "web", "sources": [{ "service": "*" }], "action": "allow" },
    })
}

#[tokio::test]
async fn a_restart_is_quick_and_keeps_identity_key_and_objects() {
    let dir = tempfile::tempdir().unwrap();
    let path = "/v1/resources/intentions/default/one";
    let token = json!({ "role": "proxy", "uses": 1, "ttlSeconds": 60 });
    let pin = |created: Value| {
        let created: TokenCreated = serde_json::from_value(created).unwrap();
        (created.token.parse::<Token>().unwrap().pin, created.install.split('\'').nth(1).unwrap().to_owned())
    };
    let first = with(options(dir.path()), async |started| {
        let (status, body) = on_socket(dir.path(), "PUT", path, Some(intention())).await;
        assert_eq!(status, 201, "{body}");
        let (_, created) = on_socket(dir.path(), "POST", "/v1/tokens", Some(token.clone())).await;
        let addresses: Addresses =
            serde_json::from_slice(&std::fs::read(dir.path().join("addresses.json")).unwrap()).unwrap();
        assert_eq!(addresses, started.addresses);
        (started.trust_domain.clone(), pin(created))
    })
    .await;
    assert!(!dir.path().join("addresses.json").exists() && !dir.path().join("control.sock").exists());

    let begun = clock::now();
    let second = with(options(dir.path()), async |started| {
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(started.install.is_none());
        let (status, _) = on_socket(dir.path(), "GET", path, None).await;
        assert_eq!(status, 200);
        let (_, created) = on_socket(dir.path(), "POST", "/v1/tokens", Some(token)).await;
        let (_, status) = on_socket(dir.path(), "GET", "/v1/status", None).await;
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(status.node.as_str(), "control-1");
        (started.trust_domain.clone(), pin(created))
    })
    .await;

    assert_eq!(second, first);
}

#[tokio::test]
async fn health_and_metrics_answer_without_tls_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    with(options(dir.path()), async |started| {
        assert!(health(started, "/healthz").await.starts_with("HTTP/1.0 200"));
        assert!(health(started, "/readyz").await.contains("\"ready\":true"));
        assert!(health(started, "/metrics").await.contains("# TYPE "));
        assert!(health(started, "/v1/status").await.starts_with("HTTP/1.0 404"));
    })
    .await;
}

// case 90
#[tokio::test]
async fn metrics_are_compressed_for_who_takes_that() {
    let dir = tempfile::tempdir().unwrap();
    with(options(dir.path()), async |started| {
        for (wish, compressed) in
            [("", false), ("accept-encoding: gzip;q=0\r\n", false), ("accept-encoding: gzip\r\n", true)]
        {
            let answer = scrape(started.addresses.admin, wish).await;

            assert_eq!(answer.compressed, compressed, "{wish:?}: {}", answer.head);
            assert!(answer.head.contains("\r\nvary: accept-encoding"), "{}", answer.head);
            assert!(answer.text.contains("\nmesh_build_info{"), "{}", answer.text);
        }
    })
    .await;
}

#[tokio::test]
async fn the_gossip_shows_the_control_plane_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    with(options(dir.path()), async |started| {
        let (status, catalog) = on_socket(dir.path(), "GET", "/v1/catalog", None).await;
        assert_eq!(status, 200);
        let me = &catalog["members"]["control-1"];
        assert_eq!(me["gossip"], json!(started.addresses.gossip), "{catalog}");
    })
    .await;
}

#[tokio::test]
async fn what_cannot_start_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = async |options: Options| {
        control::run(options, |_| panic!("it must not start"), async {}).await.unwrap_err().to_string()
    };
    let join = Options { join: Some("mesh1.x".to_owned()), ..options(dir.path()) };
    let half = Options { root_cert: Some(dir.path().join("root.pem")), ..options(dir.path()) };
    assert!(refuse(join).await.contains("one control plane for now"));
    assert!(refuse(half).await.contains("go together"));

    with(options(dir.path()), async |started| {
        let text = refuse(options(dir.path())).await;
        assert!(text.contains("in use by another process") && text.contains("--data-dir"), "{text}");
        let other = tempfile::tempdir().unwrap();
        let taken = Options { listen: started.addresses.listen, ..options(other.path()) };
        assert!(refuse(taken).await.contains("port 0"));
    })
    .await;

    let renamed = Options { trust_domain: Some("other.test".parse().unwrap()), ..options(dir.path()) };
    assert!(refuse(renamed).await.contains("--trust-domain"));
    let odd = Options { advertise: Some("host:7443".to_owned()), ..options(dir.path()) };
    assert!(refuse(odd).await.contains("without a port"));
}

#[tokio::test]
async fn open_streams_do_not_delay_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut begun = None;
    with(options(dir.path()), async |_| {
        let stream = UnixStream::connect(dir.path().join("control.sock")).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        task::spawn("test-connection", connection);
        let mut view =
            sender.send_request(request("GET", "/v1/view?watch=true", None)).await.unwrap().into_body();
        let line = view.frame().await.unwrap().unwrap().into_data().unwrap();
        let view: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(view["observer"], "control/control-1");
        begun = Some(clock::now());
    })
    .await;
    assert!(begun.unwrap().elapsed() < Duration::from_secs(3));
}
