//! The client of the API against a real control plane: on its socket, with a token, with a certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use futures_util::StreamExt as _;
use mesh::api::client::{Client, Error};
use mesh::api::wire::{Ack, Issued, JoinRequest, RenewRequest, SigningRequest, TokenRequest};
use mesh::control;
use mesh::control::bootstrap::{Options, SOCKET_FILE, Started};
use mesh::identity::key::Key;
use mesh::identity::svid::Svid;
use mesh::identity::wallet::{Wallet, update};
use mesh::model::endpoint::Role;
use mesh::model::identity::Subject;
use mesh::model::resource::Kind;
use mesh::model::token::Token;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::contract::ca::subject;

fn options(dir: &Path) -> Options {
    let any = "127.0.0.1:0".parse().unwrap();
    Options {
        data_dir: dir.to_owned(),
        listen: any,
        gossip: Some(any),
        admin: any,
        advertise: None,
        trust_domain: None,
        default_action: None,
        name: Some("control-1".parse().unwrap()),
        root_cert: None,
        root_key: None,
        join: None,
    }
}

/// Runs a control plane for as long as `act` takes, given its administrator and a token that is good at its address.
async fn with_control(act: impl AsyncFnOnce(&Client, Token)) {
    let dir = tempfile::tempdir().unwrap();
    let (told, hear) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let started = |started: &Started| assert!(told.send(started.clone()).is_ok());
    let run = control::run(options(dir.path()), started, async { stopped.await.unwrap() });
    let act = async {
        let started = hear.await.expect("it starts");
        let admin = Client::unix(&dir.path().join(SOCKET_FILE));
        let request = TokenRequest { role: Role::Proxy, services: Vec::new(), uses: 9, ttl_seconds: 3600 };
        let created = admin.create_token(&request).await.unwrap();
        let mut token: Token = created.token.parse().unwrap();
        token.controls = vec![started.addresses.listen.to_string()];
        act(&admin, token).await;
        stop.send(()).unwrap();
    };
    let (ran, ()) = tokio::join!(run, act);
    ran.unwrap();
}

const GOSSIP_KEY: [u8; 32] = [7; 32];

fn wish(id: &Subject, key: &Key) -> SigningRequest {
    SigningRequest { subject: id.clone(), csr: BASE64.encode(&key.request().unwrap()) }
}

async fn join(client: &Client, token: &Token) -> Result<Wallet, Error> {
    let (id, key) = (subject("node/host-1"), Arc::new(Key::generate().unwrap()));
    let request = JoinRequest {
        token: format!("{}.{}", token.id, token.secret),
        node: "host-1".parse().unwrap(),
        role: Role::Proxy,
        requests: vec![wish(&id, &key)],
        gossip_key: BASE64.encode(&GOSSIP_KEY),
    };
    let issued = client.join(&request).await?;
    let decode = |text: &String| BASE64.decode(text.as_bytes()).unwrap();
    Ok(Wallet {
        trust_domain: issued.snapshot.trust_domain.clone(),
        bundle: issued.snapshot.bundle.iter().map(|root| decode(root).into()).collect(),
        svids: [(id, svid(&issued, key))].into(),
        banned: [].into(),
    })
}

fn svid(issued: &Issued, key: Arc<Key>) -> Arc<Svid> {
    let decode = |text: &String| BASE64.decode(text.as_bytes()).unwrap();
    let chain = issued.certificates[0].chain.iter().map(decode).collect();
    Arc::new(Svid::new(chain, key).unwrap())
}

struct Node {
    client: Client,
    wallets: watch::Sender<Arc<Wallet>>,
    _controls: watch::Sender<Vec<String>>,
}

impl Node {
    async fn joined(token: &Token, controls: Vec<String>) -> Self {
        let wallet = join(&Client::pinned(token), token).await.unwrap();
        let wallets = watch::Sender::new(Arc::new(wallet));
        let controls = watch::Sender::new(controls);
        let client = Client::with_wallet(controls.subscribe(), wallets.subscribe(), subject("node/host-1"));
        Self { client, wallets, _controls: controls }
    }
}

/// An address where nobody listens.
async fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

fn status_of(error: &Error) -> u16 {
    match error {
        Error::Problem(problem) => problem.status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_joins_follows_renews_and_is_told_what_it_may_not() {
    with_control(async |admin, token| {
        let node = Node::joined(&token, token.controls.clone()).await;

        let status = node.client.status().await.unwrap();
        assert_eq!(status.node.as_str(), "control-1");
        assert_eq!(admin.status().await.unwrap().mesh, status.mesh);
        let mut snapshots = node.client.snapshots().await.unwrap();
        let snapshot = snapshots.next().await.unwrap().unwrap();
        assert_eq!(snapshot.trust_domain.as_str(), status.mesh);
        node.client.acknowledge(&Ack { revision: snapshot.revision, refused: None }).await.unwrap();
        let mut views = node.client.views().await.unwrap();
        assert_eq!(views.next().await.unwrap().unwrap().mesh, status.mesh);

        let (id, key) = (subject("node/host-1"), Arc::new(Key::generate().unwrap()));
        let request =
            RenewRequest { requests: vec![wish(&id, &key)], gossip_key: BASE64.encode(&GOSSIP_KEY) };
        let renewed = svid(&node.client.renew(&request).await.unwrap(), key);
        let old = node.wallets.borrow().svid(&id).unwrap().serial.clone();
        assert_ne!(renewed.serial, old);
        update(&node.wallets, |mut wallet| {
            wallet.svids.insert(id, renewed);
            wallet
        });
        node.client.status().await.expect("with the new certificate");

        assert_eq!(status_of(&node.client.tokens().await.unwrap_err()), 403);
        let absent = node.client.get_resource(Kind::HttpRoute, "default", "absent").await;
        assert_eq!(status_of(&absent.unwrap_err()), 404);
        assert_eq!(admin.tokens().await.unwrap().iter().find(|one| one.id == token.id).unwrap().uses_left, 8);
    })
    .await;
}

#[tokio::test]
async fn a_ban_reaches_those_who_follow_and_ends_what_the_node_may_do() {
    with_control(async |admin, token| {
        let node = Node::joined(&token, token.controls.clone()).await;
        let mut views = node.client.views().await.unwrap();
        views.next().await.unwrap().unwrap();

        admin.ban(&"host-1".parse().unwrap(), true).await.unwrap();

        assert_eq!(status_of(&node.client.status().await.unwrap_err()), 403);
        let ended = timeout(Duration::from_secs(10), async { while let Some(Ok(_)) = views.next().await {} });
        ended.await.expect("its streams end");
    })
    .await;
}

#[tokio::test]
async fn addresses_are_tried_in_turn_and_named_when_none_answers() {
    with_control(async |_, token| {
        let (dead, alive) = (dead().await, token.controls[0].clone());
        let node = Node::joined(&token, vec![dead.clone(), alive]).await;
        node.client.status().await.unwrap();

        let nowhere = Token { controls: vec![dead.clone()], ..token };
        let error = join(&Client::pinned(&nowhere), &nowhere).await.unwrap_err();

        assert!(matches!(&error, Error::Unreachable(tried) if tried.contains(&dead)), "{error}");
        assert!(error.is_transient());
    })
    .await;
}

#[tokio::test]
async fn the_token_is_shown_to_nobody_but_its_own_control_plane() {
    with_control(async |_, token| {
        let forged = Token { pin: [9; 32], ..token.clone() };
        let error = join(&Client::pinned(&forged), &forged).await.unwrap_err();
        assert!(matches!(&error, Error::WrongPin(control) if *control == forged.controls[0]), "{error}");
        assert!(!error.is_transient());

        let wrong = Token { secret: "a".repeat(26), ..token };
        let error = join(&Client::pinned(&wrong), &wrong).await.unwrap_err();
        assert_eq!(status_of(&error), 401);
        assert!(!error.is_transient());
    })
    .await;
}
