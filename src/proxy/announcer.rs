//! Tells gossip which services run here and whether they work, and the data path where they listen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::logic::compile::Policy;
use crate::logic::resilience::probe::Health;
use crate::model::endpoint::{Announcement, DEFAULT_WEIGHT};
use crate::model::service::LocalService;
use crate::model::service_spec::HealthCheck;
use crate::net::task;
use crate::proxy::prober;

/// Health changes under way to the announcer; probes wait when it is behind.
const CHANGES_MAX: usize = 64;

/// A service's place in the list of local services, and what its probes say of it.
type Change = (usize, bool);

/// The probes under way: for each local service, the check they follow.
struct Probes {
    running: BTreeMap<usize, (HealthCheck, AbortHandle)>,
    changes: mpsc::Sender<Change>,
}

/// Announces `services` through `announce`, again whenever a health check changes its mind or the policy changes the
/// checks, until `policy` closes.
pub(crate) async fn run(
    services: Vec<LocalService>,
    mut policy: watch::Receiver<Arc<Policy>>,
    announce: impl Fn(Vec<Announcement>),
) {
    let (changes, mut changed) = mpsc::channel(CHANGES_MAX);
    let mut probes = Probes { running: BTreeMap::new(), changes };
    let mut healthy: BTreeMap<usize, bool> = BTreeMap::new();
    loop {
        let current = policy.borrow_and_update().clone();
        for (index, service) in services.iter().enumerate() {
            let wanted = current.health_check(&service.name);
            probes.follow(index, service.addr, wanted);
            match wanted {
                None => drop(healthy.insert(index, true)),
                // Not known to work until the first probe says so.
                Some(_) => drop(healthy.entry(index).or_insert(false)),
            }
        }
        announce(announcements(&services, &healthy));
        tokio::select! {
            change = policy.changed() => if change.is_err() { return },
            change = changed.recv() => {
                let Some((index, now)) = change else { return };
                healthy.insert(index, now);
            }
        }
    }
}

fn announcements(services: &[LocalService], healthy: &BTreeMap<usize, bool>) -> Vec<Announcement> {
    let mut announcements: Vec<_> = services
        .iter()
        .enumerate()
        .map(|(index, service)| Announcement {
            service: service.name.clone(),
            port: service.addr.port(),
            protocol: service.protocol,
            weight: DEFAULT_WEIGHT,
            healthy: healthy.get(&index).copied().unwrap_or(true),
        })
        .collect();
    announcements.sort_by(|a, b| (&a.service, a.port).cmp(&(&b.service, b.port)));
    announcements
}

impl Probes {
    /// Starts, keeps or ends the probe of one service, so that it follows `wanted`.
    fn follow(&mut self, index: usize, addr: SocketAddr, wanted: Option<&HealthCheck>) {
        if self.running.get(&index).map(|(check, _)| check) == wanted {
            return;
        }
        if let Some((_, old)) = self.running.remove(&index) {
            old.abort();
        }
        if let Some(check) = wanted {
            let probe = watch_health(index, addr, check.clone(), self.changes.clone());
            let handle = task::spawn("health-checks", probe).abort_handle();
            self.running.insert(index, (check.clone(), handle));
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.running.values().for_each(|(_, probe)| probe.abort());
    }
}

/// Probes one service for as long as somebody listens, and says when its health changes.
async fn watch_health(index: usize, addr: SocketAddr, check: HealthCheck, changes: mpsc::Sender<Change>) {
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
            if changes.send((index, health.is_healthy())).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(check.interval()).await;
    }
}
