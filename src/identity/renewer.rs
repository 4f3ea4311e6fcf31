//! Keeps the certificates of this process fresh: asks an [`Issuer`] when [`crate::logic::pki::rotation`] says so, keeps what
//! it gets in the vault, and only then puts it into the wallet. The old certificate serves until the new one is there.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::identity::key::{self, Key};
use crate::identity::svid::{self, Svid};
use crate::identity::vault::{self, Vault};
use crate::identity::verifier::{Distrust, prove};
use crate::identity::wallet::{Wallet, update};
use crate::logic::pki::rotation::{Stage, Validity};
use crate::model::identity::Subject;
use crate::model::view::IdentityStatus;
use crate::net::clock;

/// An answer that takes longer is given up, and asked for again.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time of day is looked at this often at least: it may jump, by hand or as a suspended machine goes on, and sleep does
/// not follow it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_LEAST: Duration = Duration::from_millis(10);
const MISSING_LIFE_MS: u64 = 10 * 60 * 1000;

/// A wish for one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Whose.
    pub subject: Subject,
    /// The signing request: PKCS#10, DER.
    pub request: Vec<u8>,
}

/// Why no certificates were issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unissued(pub String);

/// Who gives certificates.
pub trait Issuer: Send + Sync {
    /// Returns one chain (leaf, then intermediates: DER) for each wish, in order.
    fn issue(&self, wishes: Vec<Wish>) -> impl Future<Output = Result<Vec<Vec<Vec<u8>>>, Unissued>> + Send;
}

/// Why an attempt came to nothing. The certificates there were stay.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Key(#[from] key::Error),
    #[error(transparent)]
    Unissued(#[from] Unissued),
    #[error("no answer within {ISSUE_TIMEOUT:?}")]
    TimedOut,
    #[error("{asked} certificates were asked for, {got} came")]
    Count { asked: usize, got: usize },
    #[error(transparent)]
    Svid(#[from] svid::Error),
    #[error("a certificate for {asked} was asked for, one for {got} came")]
    Other { asked: Subject, got: Subject },
    #[error("the new certificate would be refused: {0}")]
    Distrusted(#[from] Distrust),
    #[error(transparent)]
    Vault(#[from] vault::Error),
    #[error("writing to disk was interrupted")]
    Interrupted,
}

/// What is renewed, where it goes, and who issues.
#[derive(Debug)]
pub struct Renewer<I> {
    /// The identities to hold. Those missing in the wallet are asked for at once; those no longer wanted are put away.
    pub wanted: watch::Receiver<BTreeSet<Subject>>,
    /// The wallet of this process.
    pub wallets: Arc<watch::Sender<Arc<Wallet>>>,
    /// Where certificates are kept.
    pub vault: Arc<Vault>,
    /// Who issues.
    pub issuer: I,
    /// How each certificate stands, told at every change.
    pub statuses: watch::Sender<Vec<IdentityStatus>>,
}

/// What is known of one identity.
#[derive(Debug, Default)]
struct Track {
    /// The certificate that the times below are for; `None` before the first.
    serial: Option<String>,
    /// When to ask next, Unix milliseconds.
    next_ms: u64,
    /// Not sooner than this: an issuer whose certificates are always old already is not asked in a circle.
    floor_ms: u64,
    /// In a row.
    failures: u32,
    renewals: u32,
    last_error: Option<String>,
    /// The key asked for and not yet certified: kept over retries, as an answer may be lost after it was noted.
    pending: Option<Arc<Key>>,
}

type Tracks = BTreeMap<Subject, Track>;

impl<I: Issuer> Renewer<I> {
    /// Renews for ever. Dropping the future ends it: what was issued and not kept yet is asked for again next time.
    pub async fn run(self) {
        let mut wallets = self.wallets.subscribe();
        let mut wanted = self.wanted.clone();
        let mut tracks = Tracks::new();
        loop {
            self.want(&wanted.borrow_and_update(), &mut tracks);
            let wallet = wallets.borrow_and_update().clone();
            let now_ms = clock::wall_ms();
            follow(&mut tracks, &wallet, now_ms);
            self.statuses.send_replace(statuses(&tracks, &wallet));
            let due = due(&tracks, now_ms);
            if due.is_empty() {
                let next_ms = tracks.values().map(|track| track.next_ms).min().unwrap_or(u64::MAX);
                let wait =
                    Duration::from_millis(next_ms.saturating_sub(now_ms)).clamp(LOOK_LEAST, LOOK_EVERY);
                let change = async {
                    tokio::select! {
                        // It cannot fail, as a sender is held here.
                        _ = wallets.changed() => {}
                        // Once nobody is left to want anything else, what is wanted stays.
                        Ok(()) = wanted.changed() => {}
                    }
                };
                let _changed = timeout(wait, change).await;
                continue;
            }
            let outcome = self.attempt(&due, &wallet, &mut tracks).await;
            settle(&mut tracks, &due, &wallet, outcome);
        }
    }

    /// Tracks what is wanted. What was wanted until now is not spoken for any more; it stays on disk.
    fn want(&self, wanted: &BTreeSet<Subject>, tracks: &mut Tracks) {
        tracks.retain(|subject, _| wanted.contains(subject));
        for subject in wanted {
            tracks.entry(subject.clone()).or_default();
        }
        update(&self.wallets, |mut wallet| {
            wallet.svids.retain(|subject, _| wanted.contains(subject));
            wallet
        });
    }

    /// Asks for certificates, keeps them, and puts them into the wallet.
    async fn attempt(&self, due: &[Subject], wallet: &Wallet, tracks: &mut Tracks) -> Result<(), Error> {
        let mut keys = Vec::with_capacity(due.len());
        let mut wishes = Vec::with_capacity(due.len());
        for subject in due {
            let track = tracks.entry(subject.clone()).or_default();
            let key = match &track.pending {
                Some(key) => Arc::clone(key),
                None => Arc::clone(track.pending.insert(Arc::new(Key::generate()?))),
            };
            wishes.push(Wish { subject: subject.clone(), request: key.request()? });
            keys.push(key);
        }
        let issued = timeout(ISSUE_TIMEOUT, self.issuer.issue(wishes)).await;
        let chains = issued.map_err(|_| Error::TimedOut)??;
        if chains.len() != due.len() {
            return Err(Error::Count { asked: due.len(), got: chains.len() });
        }
        let mut svids = Vec::with_capacity(due.len());
        for ((subject, key), chain) in due.iter().zip(keys).zip(chains) {
            let svid = Svid::new(chain, key)?;
            if svid.id.subject != *subject {
                return Err(Error::Other { asked: subject.clone(), got: svid.id.subject });
            }
            prove(&svid, wallet, clock::wall_ms())?;
            svids.push(Arc::new(svid));
        }
        let (vault, kept) = (Arc::clone(&self.vault), svids.clone());
        let keeping = tokio::task::spawn_blocking(move || vault.put_svids(&kept));
        keeping.await.map_err(|_| Error::Interrupted)??;
        update(&self.wallets, |mut wallet| {
            wallet.svids.extend(svids.into_iter().map(|svid| (svid.id.subject.clone(), svid)));
            wallet
        });
        Ok(())
    }
}

/// Plans the renewal of certificates that are new here.
fn follow(tracks: &mut Tracks, wallet: &Wallet, now_ms: u64) {
    for (subject, track) in tracks {
        match wallet.svid(subject) {
            Some(svid) if track.serial.as_ref() != Some(&svid.serial) => {
                track.serial = Some(svid.serial.clone());
                track.next_ms = validity(svid).renew_ms(rand::random()).max(track.floor_ms);
                track.failures = 0;
                track.last_error = None;
                track.pending = None;
            }
            Some(_) => {}
            None => {
                // Gone, or never there: at once, but not sooner than a retry.
                let gone = track.serial.take().is_some();
                if gone || track.failures == 0 {
                    track.next_ms = track.next_ms.min(now_ms);
                }
            }
        }
        let latest_ms = validity_of(wallet, subject, now_ms).latest_ms(track.failures, now_ms);
        track.next_ms = track.next_ms.min(latest_ms);
    }
}

/// Returns the life by which a missing certificate is awaited.
fn missing(now_ms: u64) -> Validity {
    Validity { not_before_ms: now_ms, not_after_ms: now_ms.saturating_add(MISSING_LIFE_MS) }
}

fn validity(svid: &Svid) -> Validity {
    Validity { not_before_ms: svid.not_before_ms, not_after_ms: svid.not_after_ms }
}

/// Returns who is asked for now: all that did not fail yet together, else one of those that did, so that one that is
/// refused does not take the others with it.
fn due(tracks: &Tracks, now_ms: u64) -> Vec<Subject> {
    let due = || tracks.iter().filter(|(_, track)| track.next_ms <= now_ms);
    let fresh: Vec<_> =
        due().filter(|(_, track)| track.failures == 0).map(|(name, _)| name.clone()).collect();
    if fresh.is_empty() { due().next().map(|(name, _)| name.clone()).into_iter().collect() } else { fresh }
}

/// Notes what became of an attempt.
fn settle(tracks: &mut Tracks, due: &[Subject], wallet: &Wallet, outcome: Result<(), Error>) {
    let now_ms = clock::wall_ms();
    let error = outcome.err().map(|error| error.to_string());
    for subject in due {
        let track = tracks.entry(subject.clone()).or_default();
        let Some(reason) = &error else {
            track.failures = 0;
            track.floor_ms =
                now_ms.saturating_add(validity_of(wallet, subject, now_ms).retry_ms(1, rand::random()));
            track.renewals = track.renewals.saturating_add(u32::from(track.serial.is_some()));
            track.pending = None;
            tracing::info!(%subject, "certificate issued");
            continue;
        };
        track.failures = track.failures.saturating_add(1);
        let wait_ms = validity_of(wallet, subject, now_ms).retry_ms(track.failures, rand::random());
        track.next_ms = now_ms.saturating_add(wait_ms);
        let failures = track.failures;
        match wallet.svid(subject).map(|svid| validity(svid).stage(now_ms)) {
            // Calls as this one fail without it.
            None => tracing::error!(%subject, reason, failures, wait_ms, "certificate is not issued"),
            Some(Stage::Sound) if failures == 1 => {
                tracing::info!(%subject, reason, wait_ms, "certificate not renewed yet");
            }
            Some(Stage::Sound) => {
                tracing::debug!(%subject, reason, failures, wait_ms, "certificate not renewed yet");
            }
            Some(Stage::Late) => {
                tracing::warn!(%subject, reason, failures, wait_ms, "certificate is late to be renewed");
            }
            Some(stage @ (Stage::Critical | Stage::Expired)) => {
                tracing::error!(%subject, ?stage, reason, failures, wait_ms, "certificate is not renewed");
            }
        }
        track.last_error = Some(reason.clone());
    }
}

/// Returns the life by which waits are measured.
fn validity_of(wallet: &Wallet, subject: &Subject, now_ms: u64) -> Validity {
    wallet.svid(subject).map_or_else(|| missing(now_ms), |svid| validity(svid))
}

fn statuses(tracks: &Tracks, wallet: &Wallet) -> Vec<IdentityStatus> {
    let status = |(subject, track): (&Subject, &Track)| {
        let svid = wallet.svid(subject)?;
        Some(IdentityStatus {
            subject: subject.clone(),
            serial: svid.serial.clone(),
            not_before_ms: svid.not_before_ms,
            not_after_ms: svid.not_after_ms,
            renew_ms: track.next_ms,
            renewals: track.renewals,
            last_error: track.last_error.clone(),
        })
    };
    tracks.iter().filter_map(status).collect()
}
