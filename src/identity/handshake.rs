//! What all our TLS has in common: algorithms, tickets, the clock and the deadline; and the handshake between proxies.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ClientConnectionData;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed};
use rustls::server::{ProducesTickets, ServerConnectionData};
use rustls::ticketer::TicketRotator;
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::identity::verifier::Clock;

/// A handshake that takes longer is given up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A key of tickets is used for this part of a certificate's life; a ticket is good for two of them, a quarter.
const TICKET_PART: u64 = 8;
/// The longest and the shortest use of a key of tickets, seconds.
const TICKET_SECONDS_MAX: u64 = 3 * 60 * 60;
const TICKET_SECONDS_MIN: u64 = 1;
/// The most that may arrive and wait for the rest of it, in bytes: a chain of certificates takes a few thousand.
const INCOMING_BYTES_MAX: usize = 128 << 10;

/// Returns the cryptography of the mesh: AES-128-GCM first, by far the fastest where the processor has AES; hybrid
/// post-quantum key exchange first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// Lends our clock to rustls.
pub(crate) struct Time(pub(crate) Clock);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Time").finish_non_exhaustive()
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis((self.0)())))
    }
}

/// Makes a sealer of tickets, good for a quarter of a certificate's life at most; `life_ms` is that life.
pub(crate) fn tickets(life_ms: u64) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    let seconds = (life_ms / 1000 / TICKET_PART).clamp(TICKET_SECONDS_MIN, TICKET_SECONDS_MAX);
    Ok(Arc::new(TicketRotator::new(seconds as u32, one_key)?))
}

fn one_key() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
    match Ticketer::new() {
        Ok(key) => Ok(Box::new(TicketKey(key))),
        Err(_) => Err(GetRandomFailed),
    }
}

/// A ticketer of rustls as one key of our rotator, which drops it long before it would change by itself.
#[derive(Debug)]
struct TicketKey(Arc<dyn ProducesTickets>);

impl ProducesTickets for TicketKey {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

/// Waits for a handshake; `None` when it takes longer than [`HANDSHAKE_TIMEOUT`].
pub(crate) async fn complete<T>(handshake: impl Future<Output = io::Result<T>>) -> Option<io::Result<T>> {
    timeout(HANDSHAKE_TIMEOUT, handshake).await.ok()
}

/// What came after a handshake, and with it.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Content of records.
    pub(crate) opened: Vec<u8>,
    /// Records, of which the last may not be whole.
    pub(crate) unopened: Vec<u8>,
}

/// A side of a handshake.
pub(crate) trait Side: Sized {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self>;
}

impl Side for ClientConnectionData {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self> {
        connection.process_tls_records(incoming)
    }
}

impl Side for ServerConnectionData {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self> {
        connection.process_tls_records(incoming)
    }
}

/// What a handshake is to go on with.
enum Step {
    On,
    Send,
    Receive,
    Done,
}

/// Shakes hands over `io`.
///
/// # Errors
/// When the other end is not trusted, or says nothing that belongs to a handshake: it was told so as far as that is
/// possible at once.
pub(crate) async fn shake<S: Side>(
    io: &mut TcpStream,
    connection: &mut UnbufferedConnectionCommon<S>,
) -> io::Result<Arrived> {
    let (mut arrived, mut outgoing) = (Arrived::default(), Vec::new());
    loop {
        match step(connection, &mut arrived, &mut outgoing) {
            Ok(Step::On) => {}
            Ok(Step::Send) => {
                io.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Ok(Step::Receive) => {
                let is_over = arrived.unopened.len() > INCOMING_BYTES_MAX
                    || io.read_buf(&mut arrived.unopened).await? == 0;
                if is_over {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
                }
            }
            Ok(Step::Done) => return Ok(arrived),
            Err(error) => {
                if let Ok(ConnectionState::EncodeTlsData(mut complaint)) =
                    S::process(connection, &mut []).state
                {
                    // Whatever comes of it: there is a reason to end already.
                    _ = encode(&mut complaint, &mut outgoing).map(|()| io.try_write(&outgoing));
                }
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

fn step<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    arrived: &mut Arrived,
    outgoing: &mut Vec<u8>,
) -> Result<Step, rustls::Error> {
    let UnbufferedStatus { mut discard, state } = S::process(connection, &mut arrived.unopened);
    let step = match state? {
        ConnectionState::EncodeTlsData(mut record) => {
            encode(&mut record, outgoing)?;
            Step::On
        }
        ConnectionState::TransmitTlsData(records) => {
            records.done();
            Step::Send
        }
        ConnectionState::BlockedHandshake => Step::Receive,
        ConnectionState::WriteTraffic(_) => Step::Done,
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                arrived.opened.extend_from_slice(record.payload);
            }
            Step::On
        }
        ConnectionState::PeerClosed
        | ConnectionState::Closed
        | ConnectionState::ReadEarlyData(_)
        // The library may come to know others.
        | _ => return Err(rustls::Error::HandshakeNotComplete),
    };
    arrived.unopened.drain(..discard);
    Ok(step)
}

/// Appends a record of the handshake.
fn encode<S>(record: &mut EncodeTlsData<'_, S>, outgoing: &mut Vec<u8>) -> Result<(), rustls::Error> {
    let start = outgoing.len();
    let encoded = match record.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            outgoing.resize(start + size.required_size, 0);
            record.encode(&mut outgoing[start..])
        }
        encoded => encoded,
    };
    encoded.map(|size| outgoing.truncate(start + size)).map_err(|_| rustls::Error::EncryptError)
}
