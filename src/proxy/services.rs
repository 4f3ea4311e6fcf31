//! The services of this host: those in its configuration, and those that were added while it ran, which are kept on disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::api::problem::Problem;
use crate::api::wire::ServiceRow;
use crate::identity::vault::{self, Vault};
use crate::model::name::ServiceName;
use crate::model::service::LocalService;
use crate::proxy::bootstrap::Settings;

/// The row of the vault that services are kept in.
const SERVICES_ROW: &str = "services";
/// Services that can be added to one host.
pub const ADDED_MAX: usize = 256;

/// All services of this host.
#[derive(Debug)]
pub struct Services {
    vault: Arc<Vault>,
    configured: watch::Receiver<Settings>,
    added: Mutex<Vec<LocalService>>,
    /// Both together.
    all: watch::Sender<Settings>,
}

impl Services {
    /// Reads what was added in earlier starts.
    ///
    /// # Errors
    /// When the disk is damaged.
    pub fn load(vault: Arc<Vault>, configured: watch::Receiver<Settings>) -> Result<Arc<Self>, vault::Error> {
        let added: Vec<LocalService> = vault.get(SERVICES_ROW)?.unwrap_or_default();
        let all = watch::Sender::new(together(&configured.borrow(), &added));
        Ok(Arc::new(Self { vault, configured, added: Mutex::new(added), all }))
    }

    /// Returns what can be told anew, with all services.
    pub fn settings(&self) -> watch::Receiver<Settings> {
        self.all.subscribe()
    }

    /// Follows the configuration until it ends.
    pub async fn follow(self: Arc<Self>) {
        let mut configured = self.configured.clone();
        while configured.changed().await.is_ok() {
            self.spread(&self.lock());
        }
    }

    /// Returns every service; `held` says whether there is a certificate for one.
    pub fn list(&self, held: impl Fn(&ServiceName) -> bool) -> Vec<ServiceRow> {
        let added = self.lock().clone();
        let row = |service: &LocalService| ServiceRow {
            name: service.name.clone(),
            address: service.addr,
            protocol: service.protocol,
            owner: service.owner.as_ref().map(ToString::to_string),
            added: added.contains(service),
            certificate: held(&service.name),
        };
        self.all.borrow().services.iter().map(row).collect()
    }

    /// Adds a service, in the place of one that was added with the same name and port. It is on disk when this returns.
    ///
    /// # Errors
    /// When the configuration has it, there are too many, or the disk refuses; nothing has changed then.
    pub fn add(&self, service: LocalService) -> Result<(), Problem> {
        if self.configured.borrow().services.iter().any(|other| is_same(other, &service)) {
            let text = format!("{service} is in the configuration of this proxy: change it there");
            return Err(problem(409, "Conflict", text));
        }
        let mut added = self.lock();
        let mut next: Vec<_> = added.iter().filter(|other| !is_same(other, &service)).cloned().collect();
        if next.len() >= ADDED_MAX {
            let text = format!("{ADDED_MAX} services were added to this host, and no more can be");
            return Err(problem(409, "Conflict", text));
        }
        next.push(service);
        self.keep(&mut added, next)
    }

    /// Takes away services that were added: all of a name, or the one at a port. It is on disk when this returns.
    ///
    /// # Errors
    /// When there is none, the configuration has it, or the disk refuses; nothing has changed then.
    pub fn remove(&self, name: &ServiceName, port: Option<u16>) -> Result<(), Problem> {
        let is_meant = |service: &LocalService| {
            service.name == *name && port.is_none_or(|port| service.addr.port() == port)
        };
        let mut added = self.lock();
        let next: Vec<_> = added.iter().filter(|service| !is_meant(service)).cloned().collect();
        if next.len() < added.len() {
            return self.keep(&mut added, next);
        }
        if self.configured.borrow().services.iter().any(is_meant) {
            let text = format!("{name} is in the configuration of this proxy: remove it there");
            return Err(problem(409, "Conflict", text));
        }
        Err(problem(404, "Not Found", format!("this host runs no service {name}")))
    }

    fn keep(&self, added: &mut Vec<LocalService>, next: Vec<LocalService>) -> Result<(), Problem> {
        let kept = self.vault.put(SERVICES_ROW, &next);
        kept.map_err(|error| problem(500, "Internal Server Error", format!("not kept: {error}")))?;
        *added = next;
        self.spread(added);
        Ok(())
    }

    fn spread(&self, added: &[LocalService]) {
        let next = together(&self.configured.borrow(), added);
        self.all.send_if_modified(|all| {
            let changed = *all != next;
            *all = next;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LocalService>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins both; where they differ about a service, the configuration is right.
fn together(configured: &Settings, added: &[LocalService]) -> Settings {
    let mut all = configured.clone();
    let is_new = |service: &&LocalService| !configured.services.iter().any(|other| is_same(other, service));
    all.services.extend(added.iter().filter(is_new).cloned());
    all
}

fn is_same(one: &LocalService, other: &LocalService) -> bool {
    one.name == other.name && one.addr.port() == other.addr.port()
}

fn problem(status: u16, title: &str, detail: String) -> Problem {
    Problem { title: title.to_owned(), status, detail, errors: Vec::new() }
}
