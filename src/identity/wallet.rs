//! All that a process needs to prove who it is and to judge others: an immutable value, replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::identity::svid::Svid;
use crate::model::identity::{Subject, TrustDomain};
use crate::model::name::NodeName;

/// The identities held, the roots trusted, the nodes refused.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// The mesh.
    pub trust_domain: TrustDomain,
    /// Root certificates: DER.
    pub bundle: Vec<CertificateDer<'static>>,
    /// What this process can prove to be.
    pub svids: BTreeMap<Subject, Arc<Svid>>,
    /// Nodes whose certificates are refused.
    pub banned: BTreeSet<NodeName>,
}

impl Wallet {
    /// Returns the SVID for `subject`, if it is held.
    pub fn svid(&self, subject: &Subject) -> Option<&Arc<Svid>> {
        self.svids.get(subject)
    }

    /// Returns whether `other` holds the same SVIDs.
    pub fn proves_like(&self, other: &Self) -> bool {
        let held = |wallet: &Self| wallet.svids.values().map(Arc::as_ptr).collect::<Vec<_>>();
        held(self) == held(other)
    }

    /// Returns whether `other` trusts the same peers.
    pub fn trusts_like(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain && self.bundle == other.bundle && self.banned == other.banned
    }
}

/// Replaces the wallet by what `change` makes of it, in one step: several tasks change different parts of it. Nobody is
/// told when it stays the same.
pub fn update(wallets: &watch::Sender<Arc<Wallet>>, change: impl FnOnce(Wallet) -> Wallet) {
    wallets.send_if_modified(|wallet| {
        let next = change(wallet.as_ref().clone());
        let changed = !next.trusts_like(wallet) || !next.proves_like(wallet);
        if changed {
            *wallet = Arc::new(next);
        }
        changed
    });
}
