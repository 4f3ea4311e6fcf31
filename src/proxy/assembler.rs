//! Joins what control says with what gossip knows, and puts it in force.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::gossip::agent::Agent;
use crate::identity::wallet::{self, Wallet};
use crate::logic::bans;
use crate::logic::compile::{Policy, Rulebook};
use crate::model::endpoint::{Catalog, MemberState, Role};
use crate::model::snapshot::{BanList, Snapshot};
use crate::net::resolve;
use crate::proxy::membership;
use crate::proxy::shared::Shared;

/// Makes each policy.
pub(crate) struct Assembler {
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What members told of bans, which may be later than what control could say.
    pub(crate) bans: watch::Receiver<Option<Arc<BanList>>>,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) policies: watch::Sender<Arc<Policy>>,
    pub(crate) wallets: Arc<watch::Sender<Arc<Wallet>>>,
    pub(crate) controls: watch::Sender<Vec<String>>,
    /// The catalogue of which the tables in force are made.
    pub(crate) assembled: watch::Sender<Option<Arc<Catalog>>>,
    pub(crate) agent: Arc<Agent>,
}

impl Assembler {
    /// Makes a new policy whenever control or gossip have news, until either ends.
    pub(crate) async fn run(mut self) {
        let mut snapshot = self.told();
        let mut rulebook = Rulebook::new(&snapshot, &self.shared.node);
        loop {
            let catalog = self.catalog.borrow_and_update().clone();
            let policy = rulebook.policy(&catalog);
            self.find_controls(&snapshot);
            self.shared.set_catalog(catalog.clone());
            self.shared.install(policy.clone());
            self.policies.send_replace(Arc::new(policy));
            self.assembled.send_replace(Some(catalog));
            tokio::select! {
                changed = self.snapshots.changed() => if changed.is_err() { return },
                changed = self.bans.changed() => if changed.is_err() { return },
                changed = self.catalog.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // What control and members said is as it was.
                    continue;
                }
            }
            let told = self.told();
            if told != snapshot {
                snapshot = told;
                rulebook = rulebook.next(&snapshot);
                self.spread(&snapshot);
            }
        }
    }

    /// Returns the snapshot, with the bans that are in force.
    fn told(&mut self) -> Arc<Snapshot> {
        let snapshot = self.snapshots.borrow_and_update().clone();
        bans::amend(&snapshot, self.bans.borrow_and_update().as_deref())
    }

    /// Gives everyone their part of a new snapshot.
    fn spread(&self, snapshot: &Snapshot) {
        match membership::roots(snapshot) {
            Ok(roots) => {
                let bundle: Vec<_> = roots.iter().cloned().map(Into::into).collect();
                let banned: BTreeSet<_> = snapshot.banned.iter().cloned().collect();
                let current = self.wallets.borrow().clone();
                if current.bundle != bundle || current.banned != banned {
                    wallet::update(&self.wallets, |wallet| Wallet { bundle, banned, ..wallet });
                }
                self.agent.trust(roots);
            }
            Err(error) => tracing::error!(%error, "the bundle cannot be read; the one before stays in force"),
        }
        self.agent.rekey(snapshot.gossip.clone());
        let is_banned = snapshot.banned.contains(&self.shared.node);
        if is_banned && !self.shared.look().policy.banned.contains(&self.shared.node) {
            tracing::error!(
                "{}; until then nobody takes its calls, nor calls it",
                bans::told(&self.shared.node)
            );
        }
        self.agent.ban(snapshot.banned.iter().cloned().collect());
        if let Some(list) = snapshot.bans.clone() {
            self.agent.tell_bans(list);
        }
    }

    /// Asks the control planes where the snapshot says that they are, and where gossip sees them, should they have moved.
    fn find_controls(&self, snapshot: &Snapshot) {
        let mut wanted = snapshot.controls.clone();
        for member in self.catalog.borrow().members.values() {
            let is_here = matches!(member.state, MemberState::Alive | MemberState::Suspect);
            let record = member.record.as_ref().filter(|record| is_here && record.role == Role::Control);
            let moved = record.map(|record| record.addr).filter(|addr| {
                let known =
                    |at: &String| resolve::split(at).is_some_and(|(host, _)| host.parse::<IpAddr>().is_err());
                // Behind a name it is found by the name.
                !wanted.contains(&addr.to_string()) && !wanted.iter().any(known)
            });
            wanted.extend(moved.map(|addr| addr.to_string()));
        }
        self.controls.send_if_modified(|controls| {
            let changed = *controls != wanted;
            *controls = wanted;
            changed
        });
    }
}
