//! What all our TLS has in common: algorithms, tickets, the clock and the deadline.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed};
use rustls::server::ProducesTickets;
use rustls::ticketer::TicketRotator;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::time::timeout;

use crate::identity::verifier::Clock;

/// A handshake that takes longer is given up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A key of tickets is used for this part of a certificate's life; a ticket is good for two of them, a quarter.
const TICKET_PART: u64 = 8;
/// The longest and the shortest use of a key of tickets, seconds.
const TICKET_SECONDS_MAX: u64 = 3 * 60 * 60;
const TICKET_SECONDS_MIN: u64 = 1;

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
