//! Handshakes over real sockets: who gets in, who does not, and what a resumed session is still worth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh::identity::certificate::{Certificate, sha256};
use mesh::identity::key::Key;
use mesh::identity::svid;
use mesh::identity::tls::{
    Accepted, Acceptor, ApiAcceptor, ApiConnector, ApiPeer, Connected, Connector, Error,
};
use mesh::identity::verifier::{Clock, Distrust};
use mesh::identity::wallet::{Wallet, update};
use mesh::logic::pki::trust::Flaw;
use mesh::net::clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::contract::ca::{Ca, HOUR_MS, Spec, subject};

pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// One end: its wallet, and its time of day.
pub(crate) struct End {
    wallets: watch::Sender<Arc<Wallet>>,
    time_ms: Arc<AtomicU64>,
}

impl End {
    pub(crate) fn new(wallet: Wallet) -> Self {
        Self { wallets: watch::Sender::new(Arc::new(wallet)), time_ms: Arc::new(AtomicU64::new(NOW_MS)) }
    }

    fn clock(&self) -> Clock {
        let time_ms = self.time_ms.clone();
        Arc::new(move || time_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn acceptor(&self, reuse: bool) -> Door {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Door {
            acceptor: Acceptor::with_clock(self.wallets.subscribe(), reuse, self.clock()),
            listener: TcpListener::from_std(listener).unwrap(),
        }
    }

    pub(crate) fn connector(&self, reuse: bool) -> Connector {
        Connector::with_clock(self.wallets.subscribe(), reuse, self.clock())
    }

    fn is_at(&self, time_ms: u64) {
        self.time_ms.store(time_ms, Ordering::Relaxed);
    }

    fn bans(&self, node: &str) {
        update(&self.wallets, |mut wallet| {
            wallet.banned.insert(node.parse().unwrap());
            wallet
        });
    }
}

pub(crate) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
    (near.unwrap(), far.unwrap().0)
}

/// An acceptor at an address.
pub(crate) struct Door {
    pub(crate) acceptor: Acceptor,
    pub(crate) listener: TcpListener,
}

/// `cart` calls `web`; one byte comes back, and with it the ticket.
async fn call(connector: &Connector, door: &Door) -> (Result<Connected, Error>, Result<Accepted, Error>) {
    let address = door.listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), door.listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    let service = "web".parse().unwrap();
    let server = async {
        let mut accepted = door.acceptor.accept(far).await?;
        accepted.stream.write_all(b"!").await.unwrap();
        accepted.stream.flush().await.unwrap();
        Ok(accepted)
    };
    let client = async {
        let source = subject("cart");
        let mut connected = connector.connect(&source, &service, 8080, near).await?;
        // A server that refuses says so here.
        let _read = connected.stream.read(&mut [0; 1]).await;
        Ok(connected)
    };
    tokio::join!(client, server)
}

pub(crate) fn two_ends(ca: &Ca) -> (End, End) {
    let client = End::new(ca.wallet("host-1", &["cart", "node/host-1"], NOW_MS));
    let server = End::new(ca.wallet("host-2", &["web", "node/host-2"], NOW_MS));
    (client, server)
}

fn flaw(error: Error) -> Flaw {
    match error {
        Error::Distrust(Distrust::Flaw(flaw)) => flaw,
        other => panic!("{other:?}"),
    }
}

fn assert_strange(error: &Error) {
    assert!(matches!(error, Error::Distrust(Distrust::Chain(_))), "{error:?}");
}

#[tokio::test]
async fn both_ends_prove_who_they_are() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);

    let (connected, accepted) = call(&client.connector(true), &server.acceptor(true)).await;

    let (connected, accepted) = (connected.unwrap(), accepted.unwrap());
    assert_eq!(connected.peer.id.to_string(), "spiffe://shop.test/ns/default/svc/web");
    assert_eq!(connected.peer.node.as_str(), "host-2");
    assert_eq!(accepted.peer.id.to_string(), "spiffe://shop.test/ns/default/svc/cart");
    assert_eq!(accepted.peer.node.as_str(), "host-1");
    assert_eq!(accepted.peer.not_after_ms, NOW_MS + HOUR_MS);
    assert_eq!((accepted.target, accepted.port), ("web".parse().unwrap(), 8080));
}

// case 81
#[tokio::test]
async fn strangers_are_refused_at_both_ends() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (client, server) = two_ends(&ca);
    let (strange_client, strange_server) = two_ends(&other);

    let (_, accepted) = call(
        &{
            // It trusts the server, and is not trusted by it.
            update(&strange_client.wallets, |mut wallet| {
                wallet.bundle.push(ca.root.clone().into());
                wallet
            });
            strange_client.connector(true)
        },
        &server.acceptor(true),
    )
    .await;
    let (connected, _) = call(&client.connector(true), &strange_server.acceptor(true)).await;

    assert_strange(&accepted.unwrap_err());
    assert_strange(&connected.unwrap_err());
}

// case 81
#[tokio::test]
async fn certificates_of_other_times_and_meshes_are_refused() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    let (connector, acceptor) = (client.connector(false), server.acceptor(false));

    server.is_at(NOW_MS + HOUR_MS + 1);
    let late = call(&connector, &acceptor).await.1;
    server.is_at(NOW_MS - HOUR_MS - 1);
    let early = call(&connector, &acceptor).await.1;
    server.is_at(NOW_MS);
    update(&server.wallets, |mut wallet| {
        wallet.trust_domain = "other.test".parse().unwrap();
        wallet
    });
    let elsewhere = call(&connector, &acceptor).await.1;

    assert_eq!(flaw(late.unwrap_err()), Flaw::Expired);
    assert_eq!(flaw(early.unwrap_err()), Flaw::Early);
    assert_eq!(flaw(elsewhere.unwrap_err()), Flaw::TrustDomain("shop.test".parse().unwrap()));
}

// case 81
#[tokio::test]
async fn a_server_that_is_another_service_is_refused() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    update(&server.wallets, |mut wallet| {
        wallet.svids.insert(subject("web"), ca.svid(&Spec::of("api", "host-2", NOW_MS)));
        wallet
    });

    let (connected, _) = call(&client.connector(true), &server.acceptor(true)).await;

    let error = connected.unwrap_err();
    assert!(matches!(&error, Error::Distrust(Distrust::Somebody { .. })), "{error:?}");
}

// case 81
#[tokio::test]
async fn a_service_that_is_not_here_is_not_answered_for() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    update(&server.wallets, |mut wallet| {
        wallet.svids.remove(&subject("web"));
        wallet
    });

    let (connected, accepted) = call(&client.connector(true), &server.acceptor(true)).await;

    assert!(connected.is_err() && accepted.is_err());
}

// case 81
#[tokio::test]
async fn nobody_speaks_as_who_they_are_not_or_no_longer() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    let (connector, acceptor) = (client.connector(true), server.acceptor(true));

    client.is_at(NOW_MS + HOUR_MS + 1);
    let late = call(&connector, &acceptor).await.0.unwrap_err();
    update(&client.wallets, |mut wallet| {
        wallet.svids.remove(&subject("cart"));
        wallet
    });
    let unknown = call(&connector, &acceptor).await.0.unwrap_err();

    assert!(matches!(&late, Error::Expired(own) if *own == subject("cart")), "{late:?}");
    assert!(matches!(&unknown, Error::NoIdentity(own) if *own == subject("cart")), "{unknown:?}");
}

// case 81
#[tokio::test]
async fn banned_nodes_are_refused_whatever_they_remember() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    let (connector, acceptor) = (client.connector(true), server.acceptor(true));
    call(&connector, &acceptor).await.1.unwrap();
    assert!(call(&connector, &acceptor).await.1.unwrap().resumed);

    server.bans("host-1");
    let (_, accepted) = call(&connector, &acceptor).await;

    assert_eq!(flaw(accepted.unwrap_err()), Flaw::Banned("host-1".parse().unwrap()));
}

// case 81
#[tokio::test]
async fn banned_nodes_are_not_called_whatever_is_remembered() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    let (connector, acceptor) = (client.connector(true), server.acceptor(true));
    call(&connector, &acceptor).await.0.unwrap();
    assert!(call(&connector, &acceptor).await.0.unwrap().resumed);

    client.bans("host-2");
    let (connected, _) = call(&connector, &acceptor).await;

    assert_eq!(flaw(connected.unwrap_err()), Flaw::Banned("host-2".parse().unwrap()));
}

// case 81
#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_callers_certificate() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    let (connector, acceptor) = (client.connector(true), server.acceptor(true));
    call(&connector, &acceptor).await.1.unwrap();
    assert!(call(&connector, &acceptor).await.1.unwrap().resumed);

    // The client's clock stands still: it goes on and resumes.
    server.is_at(NOW_MS + HOUR_MS + 1);
    let (connected, accepted) = call(&connector, &acceptor).await;

    assert!(connected.unwrap().resumed, "else this shows nothing");
    assert_eq!(flaw(accepted.unwrap_err()), Flaw::Expired);
}

// case 81
#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_servers_certificate() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    update(&client.wallets, |mut wallet| {
        let spec = Spec { not_after_ms: NOW_MS + 10 * HOUR_MS, ..Spec::of("cart", "host-1", NOW_MS) };
        wallet.svids.insert(subject("cart"), ca.svid(&spec));
        wallet
    });
    let (connector, acceptor) = (client.connector(true), server.acceptor(true));
    call(&connector, &acceptor).await.0.unwrap();
    assert!(call(&connector, &acceptor).await.0.unwrap().resumed);

    client.is_at(NOW_MS + HOUR_MS + 1);
    let (connected, _) = call(&connector, &acceptor).await;

    assert_eq!(flaw(connected.unwrap_err()), Flaw::Expired);
}

#[tokio::test]
async fn without_reuse_no_session_is_resumed() {
    let ca = Ca::new();
    for (client_reuses, server_reuses) in [(false, false), (true, false), (false, true)] {
        let (client, server) = two_ends(&ca);
        let (connector, acceptor) = (client.connector(client_reuses), server.acceptor(server_reuses));

        for _ in 0..3 {
            let (connected, accepted) = call(&connector, &acceptor).await;
            assert!(!connected.unwrap().resumed && !accepted.unwrap().resumed);
        }
    }
}

#[tokio::test]
async fn other_roots_or_bans_end_all_sessions_and_renewal_does_not() {
    let (ca, next) = (Ca::new(), Ca::new());
    let (client, server) = two_ends(&ca);
    let (connector, acceptor) = (client.connector(true), server.acceptor(true));
    call(&connector, &acceptor).await.1.unwrap();
    let renew = |mut wallet: Wallet| {
        wallet.svids.insert(subject("web"), ca.svid(&Spec::of("web", "host-2", NOW_MS)));
        wallet
    };

    update(&server.wallets, renew);
    assert!(call(&connector, &acceptor).await.1.unwrap().resumed);
    server.bans("host-9");
    assert!(!call(&connector, &acceptor).await.1.unwrap().resumed);
    assert!(call(&connector, &acceptor).await.1.unwrap().resumed);
    update(&server.wallets, |mut wallet| {
        wallet.bundle.push(next.root.clone().into());
        wallet
    });
    assert!(!call(&connector, &acceptor).await.1.unwrap().resumed);
}

// case 83
#[tokio::test]
async fn each_instance_of_a_service_is_resumed_with_its_own_tickets() {
    let ca = Ca::new();
    let (client, first) = two_ends(&ca);
    let second = End::new(ca.wallet("host-3", &["web"], NOW_MS));
    let connector = client.connector(true);
    let (first, second) = (first.acceptor(true), second.acceptor(true));

    for round in 0..4 {
        for (door, node) in [(&first, "host-2"), (&second, "host-3")] {
            let (connected, accepted) = call(&connector, door).await;
            let connected = connected.unwrap();
            assert_eq!(connected.peer.node.as_str(), node);
            assert_eq!((connected.resumed, accepted.unwrap().resumed), (round > 0, round > 0));
        }
    }
}

// case 82
#[tokio::test]
async fn certificates_change_under_traffic() {
    let ca = Ca::new();
    let (client, server) = two_ends(&ca);
    let (connector, acceptor) = (client.connector(true), server.acceptor(true));

    for round in 1..=20 {
        let renewed = |id: &str, node: &str| {
            let spec = Spec { not_after_ms: NOW_MS + HOUR_MS + round * 1000, ..Spec::of(id, node, NOW_MS) };
            (subject(id), ca.svid(&spec))
        };
        let change = async {
            for (wallets, id, node) in
                [(&client.wallets, "cart", "host-1"), (&server.wallets, "web", "host-2")]
            {
                let svid = renewed(id, node);
                update(wallets, |mut wallet| {
                    wallet.svids.extend([svid]);
                    wallet
                });
                tokio::task::yield_now().await;
            }
        };
        let (during, ()) = tokio::join!(call(&connector, &acceptor), change);
        during.0.unwrap();
        during.1.unwrap();
        let (_, after) = call(&connector, &acceptor).await;
        assert_eq!(after.unwrap().peer.not_after_ms, NOW_MS + HOUR_MS + round * 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_says_nothing_is_given_up() {
    let ca = Ca::new();
    let (_, server) = two_ends(&ca);
    let (_silent, far) = sockets().await;

    let error = server.acceptor(true).acceptor.accept(far).await.unwrap_err();

    assert!(matches!(error, Error::Timeout), "{error:?}");
}

// --- clients that are not ours --------------------------------------------------------------------------------------

/// Takes any server for good.
#[derive(Debug)]
pub(crate) struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What some client is answered that shows `shown` and asks for `name`.
async fn foreign(
    door: &Door,
    shown: Option<(Vec<Vec<u8>>, &Key)>,
    name: &str,
    alpn: &[&str],
) -> Result<Accepted, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = chain.into_iter().map(Into::into).collect();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let (near, far) = sockets().await;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let (_, accepted) = tokio::join!(connector.connect(name, near), door.acceptor.accept(far));
    accepted
}

pub(crate) const WEB: &str = "8080.web.default.mesh";
pub(crate) const MESH: &[&str] = &["mesh-link/1"];

// case 81
#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = Ca::new();
    let (_, server) = two_ends(&ca);

    let error = foreign(&server.acceptor(true), None, WEB, MESH).await.unwrap_err();

    assert!(matches!(error, Error::Distrust(Distrust::Nothing)), "{error:?}");
}

// case 81
#[tokio::test]
async fn certificates_that_are_no_svids_are_refused() {
    use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

    let ca = Ca::new();
    let (_, server) = two_ends(&ca);
    let acceptor = server.acceptor(true);
    let key = Key::generate().unwrap();
    let request = key.request().unwrap();
    let good = Spec::of("cart", "host-1", NOW_MS);
    let with_uri = |uri: &str| Spec { uris: vec![uri.to_owned()], ..good.clone() };
    let both = [good.uris.clone(), vec!["spiffe://shop.test/node/host-1".to_owned()]].concat();

    let show = async |spec: &Spec| foreign(&acceptor, Some((ca.sign(&request, spec), &key)), WEB, MESH).await;

    let accepted = show(&good).await.unwrap();
    assert_eq!(accepted.port, 8080);
    let error = show(&Spec { uris: both.clone(), ..good.clone() }).await.unwrap_err();
    assert_eq!(flaw(error), Flaw::Uris(2));
    assert_eq!(flaw(show(&Spec { uris: Vec::new(), ..good.clone() }).await.unwrap_err()), Flaw::Uris(0));
    for uri in [
        "spiffe://shop.test/ns/default/svc/cart?x=1",
        "spiffe://shop.test/ns/default/svc/../cart",
        "spiffe://shop.test/ns/default/svc/cart/",
        "spiffe://shop.test:1/ns/default/svc/cart",
        "spiffe://shop.test",
        "https://shop.test/ns/default/svc/cart",
        "SPIFFE://shop.test/ns/default/svc/cart",
    ] {
        let error = show(&with_uri(uri)).await.unwrap_err();
        assert!(matches!(flaw(error), Flaw::Identity(_)), "{uri}");
    }
    let error = show(&Spec { node: "Not A Node".to_owned(), ..good.clone() }).await.unwrap_err();
    assert_eq!(flaw(error), Flaw::Node);
    let theirs = Spec { node: "host-1".to_owned(), ..with_uri("spiffe://shop.test/node/host-2") };
    assert_eq!(flaw(show(&theirs).await.unwrap_err()), Flaw::Node);
    assert_eq!(
        flaw(show(&Spec { usages: vec![ClientAuth], ..good.clone() }).await.unwrap_err()),
        Flaw::ExtendedKeyUsage
    );
    show(&Spec { is_ca: true, ..good.clone() }).await.unwrap_err();
    let chain = ca.sign(&request, &Spec { uris: both, ..good });
    assert!(matches!(svid::Svid::new(chain, Arc::new(key)), Err(svid::Error::Identity)));
}

// case 81
#[tokio::test]
async fn names_and_protocols_that_are_not_ours_are_refused() {
    let ca = Ca::new();
    let (_, server) = two_ends(&ca);
    let acceptor = server.acceptor(true);
    let key = Key::generate().unwrap();
    let chain = ca.sign(&key.request().unwrap(), &Spec::of("cart", "host-1", NOW_MS));
    let ask =
        async |name: &str, alpn: &[&str]| foreign(&acceptor, Some((chain.clone(), &key)), name, alpn).await;

    for name in ["web.default.mesh", "web", "8080.web.default.example", "70000.web.default.mesh", "127.0.0.1"]
    {
        ask(name, MESH).await.expect_err(name);
    }
    ask(WEB, &["h2"]).await.expect_err("another protocol");
    let silent = ask(WEB, &[]).await.unwrap_err();
    assert!(matches!(silent, Error::NoTarget), "{silent:?}");
    ask(WEB, MESH).await.unwrap();
}

// --- the API of control planes --------------------------------------------------------------------------------------

fn api(ca: &Ca, id: &str) -> ApiAcceptor {
    let wallet = ca.wallet("control-1", &[id], clock::wall_ms());
    ApiAcceptor::new(watch::Sender::new(Arc::new(wallet)).subscribe(), subject(id))
}

async fn reach(acceptor: &ApiAcceptor, connector: &ApiConnector) -> Result<Option<ApiPeer>, Error> {
    let (near, far) = sockets().await;
    let (connected, accepted) = tokio::join!(connector.connect("127.0.0.1", near), acceptor.accept(far));
    connected?;
    Ok(accepted?.1)
}

fn pin(root: &[u8]) -> [u8; 32] {
    sha256(&Certificate::parse(root).unwrap().public)
}

#[tokio::test]
async fn a_joining_node_trusts_the_pinned_root_and_nothing_else() {
    let (ca, other) = (Ca::new(), Ca::new());
    let acceptor = api(&ca, "control/control-1");

    let right = reach(&acceptor, &ApiConnector::pinned(pin(&ca.root)).unwrap()).await;
    let wrong = reach(&acceptor, &ApiConnector::pinned(pin(&other.root)).unwrap()).await;

    assert_eq!(right.unwrap(), None);
    assert!(matches!(wrong.unwrap_err(), Error::Distrust(Distrust::Unpinned)));
}

#[tokio::test]
async fn only_a_control_plane_is_taken_for_one() {
    let ca = Ca::new();
    let wallet = ca.wallet("host-1", &["node/host-1"], clock::wall_ms());
    let connectors = [
        ApiConnector::pinned(pin(&ca.root)).unwrap(),
        ApiConnector::of(&wallet, &subject("node/host-1")).unwrap(),
    ];

    for connector in connectors {
        let error = reach(&api(&ca, "node/control-1"), &connector).await.unwrap_err();
        assert!(matches!(error, Error::Distrust(Distrust::Somebody { .. })), "{error:?}");
        reach(&api(&ca, "control/control-1"), &connector).await.unwrap();
    }
}

#[tokio::test]
async fn an_expired_certificate_is_told_from_a_valid_one_and_from_a_strangers() {
    let (ca, other) = (Ca::new(), Ca::new());
    let acceptor = api(&ca, "control/control-1");
    let id = subject("node/host-1");
    let now_ms = clock::wall_ms();
    let wallet = |ca: &Ca, at_ms| ca.wallet("host-1", &["node/host-1"], at_ms);
    let valid = wallet(&ca, now_ms);
    let [expired, early] = [now_ms - 2 * HOUR_MS, now_ms + 2 * HOUR_MS].map(|at_ms| wallet(&ca, at_ms));
    let mut strange = wallet(&other, now_ms);
    strange.bundle = valid.bundle.clone();

    let seen = async |wallet: &Wallet| {
        let (near, far) = sockets().await;
        let connector = ApiConnector::of(wallet, &id).unwrap();
        tokio::join!(connector.connect("localhost", near), acceptor.accept(far)).1
    };

    let peer = seen(&valid).await.unwrap().1.unwrap();
    assert!(!peer.expired);
    assert_eq!((peer.id.subject, peer.node.as_str()), (id.clone(), "host-1"));
    assert_eq!(peer.key, valid.svid(&id).unwrap().key().fingerprint());
    assert!(seen(&expired).await.unwrap().1.unwrap().expired);
    assert!(seen(&early).await.unwrap().1.unwrap().expired, "issued by a clock that was ahead");
    assert_strange(&seen(&strange).await.unwrap_err());
}
