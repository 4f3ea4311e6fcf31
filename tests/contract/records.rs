//! What goes through after the handshake, with rustls' own connections at the other end: the same bytes, whatever keys,
//! tickets, records and ends are in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mesh::identity::stream::TlsStream;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, split};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream as Foreign};

use crate::contract::ca::{Ca, Spec, subject};
use crate::contract::handshake::{Gullible, MESH, NOW_MS, WEB, sockets, two_ends};

/// More than what is sealed, read and kept at once.
const BODY_BYTES: usize = 3 << 20;

fn body(seed: u8) -> Vec<u8> {
    (0..BODY_BYTES).map(|at| seed ^ (at as u8) ^ ((at >> 8) as u8).wrapping_mul(31)).collect()
}

fn only(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: vec![suite], ..default_provider() })
}

fn protocols() -> Vec<Vec<u8>> {
    MESH.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// All that we speak.
const SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// A client of rustls at our acceptor.
async fn called(ca: &Ca, suite: SupportedCipherSuite) -> (Foreign<TcpStream>, TlsStream) {
    let (_, server) = two_ends(ca);
    let svid = ca.svid(&Spec::of("cart", "host-1", NOW_MS));
    let mut config = ClientConfig::builder_with_provider(only(suite))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified())));
    config.alpn_protocols = protocols();
    let (near, far) = sockets().await;
    let door = server.acceptor(true);
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(WEB).unwrap();
    let (foreign, accepted) = tokio::join!(connector.connect(name, near), door.acceptor.accept(far));
    let foreign = foreign.unwrap();
    let (_, state) = foreign.get_ref();
    assert_eq!(state.negotiated_cipher_suite(), Some(suite));
    assert_eq!(state.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    (foreign.into(), accepted.unwrap().stream)
}

/// Our connector, which remembers sessions or not, at a server of rustls.
async fn calling(ca: &Ca, suite: SupportedCipherSuite, reuse: bool) -> (Foreign<TcpStream>, TlsStream) {
    let (client, _) = two_ends(ca);
    let svid = ca.svid(&Spec::of("web", "host-2", NOW_MS));
    let mut roots = RootCertStore::empty();
    roots.add(ca.root.clone().into()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), only(suite));
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let mut config = ServerConfig::builder_with_provider(only(suite))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified())));
    config.alpn_protocols = protocols();
    config.time_provider = Arc::new(AtTime);
    let (near, far) = sockets().await;
    let (source, service) = (subject("cart"), "web".parse().unwrap());
    let (connector, acceptor) = (client.connector(reuse), TlsAcceptor::from(Arc::new(config)));
    let (connected, foreign) =
        tokio::join!(connector.connect(&source, &service, 8080, near), acceptor.accept(far));
    (foreign.unwrap().into(), connected.unwrap().stream)
}

/// The time of the certificates.
#[derive(Debug)]
struct AtTime;

impl rustls::time_provider::TimeProvider for AtTime {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        Some(rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_millis(NOW_MS)))
    }
}

/// Takes few bytes at a time.
struct Sipping<Io>(Io, usize);

impl<Io: AsyncRead + Unpin> AsyncRead for Sipping<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut memory = vec![0; self.1.min(out.remaining())];
        let mut few = ReadBuf::new(&mut memory);
        let read = Pin::new(&mut self.0).poll_read(cx, &mut few);
        out.put_slice(few.filled());
        read
    }
}

async fn send(mut to: impl AsyncWrite + Unpin, bytes: &[u8]) {
    to.write_all(bytes).await.unwrap();
    to.shutdown().await.unwrap();
}

async fn receive(from: impl AsyncRead + Unpin, at_once: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    Sipping(from, at_once).read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Sends a body each way at the same time, and both ends.
async fn exchange(foreign: Foreign<TcpStream>, ours: TlsStream, at_once: usize) {
    let (there, back) = (body(1), body(2));
    let ((from_foreign, to_foreign), (from_ours, to_ours)) = (split(foreign), split(ours));
    let ((), (), received, answered) = tokio::join!(
        send(to_foreign, &there),
        send(to_ours, &back),
        receive(from_ours, at_once),
        receive(from_foreign, 64 << 10),
    );
    assert!(received == there, "what came in is not what was sent");
    assert!(answered == back, "what went out is not what was sent");
}

#[tokio::test]
async fn bodies_pass_unchanged_with_every_cipher() {
    let ca = Ca::new();
    for suite in SUITES {
        for at_once in [1_000, 64 << 10] {
            let (foreign, ours) = called(&ca, suite).await;
            exchange(foreign, ours, at_once).await;
            let (foreign, ours) = calling(&ca, suite, true).await;
            exchange(foreign, ours, at_once).await;
        }
    }
}

#[tokio::test]
async fn new_keys_are_taken_and_answered() {
    let ca = Ca::new();
    let mut pairs = Vec::new();
    for suite in SUITES {
        pairs.push(called(&ca, suite).await);
        for reuse in [false, true] {
            pairs.push(calling(&ca, suite, reuse).await);
        }
    }
    for (mut foreign, mut ours) in pairs {
        for round in 0..20_u8 {
            // It asks for new keys of ours too: what it gets afterwards is sealed with these.
            match &mut foreign {
                Foreign::Client(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
                Foreign::Server(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
            }
            let mut got = [0; 3];
            foreign.write_all(&[round; 3]).await.unwrap();
            foreign.flush().await.unwrap();
            ours.read_exact(&mut got).await.unwrap();
            ours.write_all(&got).await.unwrap();
            ours.flush().await.unwrap();
            foreign.read_exact(&mut got).await.unwrap();
            assert_eq!(got, [round; 3]);
        }
        exchange(foreign, ours, 64 << 10).await;
    }
}

#[tokio::test]
async fn an_end_is_told_from_a_cut() {
    let ca = Ca::new();
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256;
    for (mut foreign, mut ours) in [called(&ca, suite).await, calling(&ca, suite, true).await] {
        foreign.shutdown().await.unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0, "it stays so");
        ours.write_all(b"still").await.unwrap();
        ours.shutdown().await.unwrap();
        let mut rest = Vec::new();
        foreign.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"still");
    }
    for (foreign, mut ours) in [called(&ca, suite).await, calling(&ca, suite, true).await] {
        drop(foreign);
        let error = ours.read(&mut [0; 8]).await.unwrap_err();
        // A reset if it had not read our ticket.
        let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}

#[tokio::test]
async fn what_was_not_sealed_by_the_peer_ends_the_connection() {
    let ca = Ca::new();
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256;
    let mut forged = vec![23, 3, 3, 0, 40];
    forged.resize(45, 7);
    let oversized = [23, 3, 3, 0xff, 0xff];
    let plain = *b"GET / HTTP/1.1\r\n\r\n";
    for bytes in [&forged[..], &oversized, &plain, &[23, 3, 3, 0, 0], &[21, 3, 3, 0, 2, 1, 0]] {
        let (foreign, mut ours) = called(&ca, suite).await;
        let Foreign::Client(foreign) = foreign else { unreachable!("it called") };
        let (mut socket, _) = foreign.into_inner();
        socket.write_all(bytes).await.unwrap();
        let error = ours.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_waited_for() {
    let ca = Ca::new();
    let (mut foreign, mut ours) = called(&ca, cipher_suite::TLS13_AES_128_GCM_SHA256).await;
    let (piece, mut sent) = (body(3), 0_usize);
    while let Ok(count) =
        tokio::time::timeout(std::time::Duration::from_millis(300), ours.write(&piece)).await
    {
        sent += count.unwrap();
        assert!(sent < 64 << 20, "it takes more than any socket holds");
    }
    let rest = async {
        ours.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let ((), read) = tokio::join!(rest, foreign.read_to_end(&mut got));
    assert_eq!((read.unwrap(), got.len()), (sent, sent));
}
