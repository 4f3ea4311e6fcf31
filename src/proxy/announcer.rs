//! Tells gossip which services run here and whether they work, and the data path where they listen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::identity::wallet::Wallet;
use crate::logic::compile::Policy;
use crate::logic::resilience::probe::Health;
use crate::model::endpoint::{Announcement, DEFAULT_WEIGHT};
use crate::model::identity::Subject;
use crate::model::name::{ServiceName, ZoneName};
use crate::model::service::LocalService;
use crate::model::service_spec::HealthCheck;
use crate::net::task;
use crate::proxy::bootstrap::Settings;
use crate::proxy::prober;

/// Health changes under way to the announcer; probes wait when it is behind.
const CHANGES_MAX: usize = 64;

/// Time for neighbours to hear that something here is going, before it goes.
pub(crate) const FAREWELL: Duration = Duration::from_millis(500);

/// An instance that runs here.
type Instance = (ServiceName, SocketAddr);

/// An instance, and what its probes say of it.
type Change = (Instance, bool);

/// The probes under way: for each instance that has one, the check it follows.
struct Probes {
    running: BTreeMap<Instance, (HealthCheck, AbortHandle)>,
    changes: mpsc::Sender<Change>,
}

/// Puts a list of services in force: all that are to be, and those of them that can prove who they are.
type Enforce = Box<dyn Fn(&[LocalService], Vec<LocalService>) + Send + Sync>;
/// Tells others the failure domain, whether it drains, and the services.
type Announce = Box<dyn Fn(Option<ZoneName>, bool, Vec<Announcement>) + Send + Sync>;

/// Keeps everyone informed of the services of this host.
pub(crate) struct Announcer {
    /// Which services these are, and the failure domain; both may change.
    pub(crate) settings: watch::Receiver<Settings>,
    /// Which health checks they have, and whether they are to have calls.
    pub(crate) policies: watch::Receiver<Arc<Policy>>,
    /// An instance is announced once there is a certificate to answer with.
    pub(crate) wallets: watch::Receiver<Arc<Wallet>>,
    /// What a process before this one last said: whoever was healthy is, until a probe says otherwise.
    pub(crate) before: Vec<Announcement>,
    /// Puts a changed list of services in force on this host.
    pub(crate) enforce: Enforce,
    /// Tells the other hosts.
    pub(crate) announce: Announce,
}

impl Announcer {
    /// Announces the services, again whenever one is added, taken away, gets its certificate, or changes its health,
    /// until the policies end.
    pub(crate) async fn run(mut self) {
        let (changes, mut changed) = mpsc::channel(CHANGES_MAX);
        let mut probes = Probes { running: BTreeMap::new(), changes };
        let mut services = self.settings.borrow().services.clone();
        let mut enforced = services.clone();
        let mut healthy: BTreeMap<Instance, bool> = BTreeMap::new();
        for service in &services {
            let port = service.addr.port();
            let before = self.before.iter().find(|said| said.service == service.name && said.port == port);
            healthy.extend(before.map(|said| (instance_of(service), said.healthy)));
        }
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let are_others = settings.services != services;
            if are_others {
                self.part_with(&services, &settings, &healthy).await;
                services = settings.services;
            }
            // Nobody calls as a service that cannot prove who it is yet: that would be refused.
            let proven: Vec<_> = self.proven(&services).into_iter().cloned().collect();
            if are_others || proven != enforced {
                (self.enforce)(&services, proven.clone());
                enforced = proven;
            }
            let policy = self.policies.borrow_and_update().clone();
            probes.running.retain(|instance, (_, probe)| keep(&services, instance, probe));
            healthy.retain(|instance, _| services.iter().any(|service| instance_of(service) == *instance));
            for service in &services {
                let wanted = policy.health_check(&service.name);
                probes.follow(instance_of(service), wanted);
                match wanted {
                    None => drop(healthy.insert(instance_of(service), true)),
                    // Not known to work until the first probe says so.
                    Some(_) => drop(healthy.entry(instance_of(service)).or_insert(false)),
                }
            }
            let proven = announcements(self.proven(&services), &healthy);
            (self.announce)(settings.zone, policy.drains, proven);
            tokio::select! {
                change = self.policies.changed() => if change.is_err() { return },
                Some((instance, now)) = changed.recv() => drop(healthy.insert(instance, now)),
                Ok(()) = self.settings.changed() => {}
                Ok(()) = self.wallets.changed() => {}
            }
        }
    }

    /// Tells others what goes away, before it does, and before they hear of what is new.
    async fn part_with(&self, old: &[LocalService], next: &Settings, healthy: &BTreeMap<Instance, bool>) {
        let stay: Vec<_> = old.iter().filter(|service| next.services.contains(service)).cloned().collect();
        if stay.len() < old.len() {
            let drains = self.policies.borrow().drains;
            (self.announce)(next.zone.clone(), drains, announcements(self.proven(&stay), healthy));
            tokio::time::sleep(FAREWELL).await;
        }
    }

    /// Returns the services that can prove who they are.
    fn proven<'a>(&self, services: &'a [LocalService]) -> Vec<&'a LocalService> {
        let wallet = self.wallets.borrow();
        let held = |service: &&LocalService| wallet.svid(&Subject::Service(service.name.clone())).is_some();
        services.iter().filter(held).collect()
    }
}

fn instance_of(service: &LocalService) -> Instance {
    (service.name.clone(), service.addr)
}

/// Returns whether a probe is still needed; ends it if not.
fn keep(services: &[LocalService], instance: &Instance, probe: &AbortHandle) -> bool {
    let kept = services.iter().any(|service| instance_of(service) == *instance);
    if !kept {
        probe.abort();
    }
    kept
}

fn announcements(services: Vec<&LocalService>, healthy: &BTreeMap<Instance, bool>) -> Vec<Announcement> {
    let announcement = |service: &LocalService| Announcement {
        service: service.name.clone(),
        port: service.addr.port(),
        protocol: service.protocol,
        weight: DEFAULT_WEIGHT,
        healthy: healthy.get(&instance_of(service)).copied().unwrap_or(true),
    };
    let mut announcements: Vec<_> = services.into_iter().map(announcement).collect();
    announcements.sort_by(|a, b| (&a.service, a.port).cmp(&(&b.service, b.port)));
    announcements
}

impl Probes {
    /// Starts, keeps or ends the probe of one instance, so that it follows `wanted`.
    fn follow(&mut self, instance: Instance, wanted: Option<&HealthCheck>) {
        if self.running.get(&instance).map(|(check, _)| check) == wanted {
            return;
        }
        if let Some((_, old)) = self.running.remove(&instance) {
            old.abort();
        }
        if let Some(check) = wanted {
            let probe = watch_health(instance.clone(), check.clone(), self.changes.clone());
            let handle = task::spawn("health-checks", probe).abort_handle();
            self.running.insert(instance, (check.clone(), handle));
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.running.values().for_each(|(_, probe)| probe.abort());
    }
}

/// Probes one service for as long as somebody listens, and says when its health changes.
async fn watch_health(instance: Instance, check: HealthCheck, changes: mpsc::Sender<Change>) {
    let addr = instance.1;
    let mut health = Health::default();
    loop {
        let outcome = prober::probe(addr, &check).await;
        let before = health;
        health = health.record(outcome.is_ok(), &check);
        if before == Health::Unknown || before.is_healthy() != health.is_healthy() {
            match &outcome {
                Err(error) if !health.is_healthy() => tracing::warn!(%addr, %error, "service is unhealthy"),
                Ok(()) | Err(_) => tracing::info!(%addr, "service is healthy"),
            }
            if changes.send((instance.clone(), health.is_healthy())).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(check.interval()).await;
    }
}
