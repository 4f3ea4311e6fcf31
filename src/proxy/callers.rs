//! Which processes of this host speak as which of its services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::identity::Subject;
use crate::model::service::{LocalService, Owner};
use crate::net::owner::{self, Holder, PASSWD};

/// Control groups that are remembered; with more, all are looked up again.
const GROUPS_MAX: usize = 4_096;

/// The owners that are configured, and whom each speaks as.
#[derive(Debug, Default)]
pub struct Callers {
    users: BTreeMap<u32, Arc<Subject>>,
    /// Owners that are control groups, which come and go while the proxy runs.
    grouped: Vec<(Owner, Arc<Subject>)>,
    /// What was found out about a group: whom its processes speak as, if for any service. A group never changes its
    /// place, and no number is given twice, so that each is looked up once.
    groups: Mutex<BTreeMap<u64, Option<Arc<Subject>>>>,
}

impl Callers {
    /// Reads the owners of services. Whoever is the same as before stays the same pointer.
    pub fn new(services: &[LocalService], before: &Self) -> Self {
        let mut callers = Self::default();
        let mut passwd = None;
        for service in services {
            let Some(owner) = &service.owner else { continue };
            let subject = Subject::Service(service.name.clone());
            let subject = before.known(&subject).unwrap_or_else(|| Arc::new(subject));
            match owner {
                Owner::User(user) => {
                    let passwd =
                        passwd.get_or_insert_with(|| std::fs::read_to_string(PASSWD).unwrap_or_default());
                    let Some(uid) = owner::uid(user, passwd) else {
                        // It may be created later, and the others must be served meanwhile: 'mesh service add' refuses it.
                        tracing::warn!(
                            user,
                            service = %service.name,
                            "this host has no such user, so that its calls leave as the host's; create it and start the \
                             proxy again, or give a number"
                        );
                        continue;
                    };
                    callers.users.entry(uid).or_insert(subject);
                }
                Owner::Unit(_) | Owner::Cgroup(_) => callers.grouped.push((owner.clone(), subject)),
            }
        }
        callers
    }

    fn known(&self, subject: &Subject) -> Option<Arc<Subject>> {
        let grouped = self.grouped.iter().map(|(_, known)| known);
        self.users.values().chain(grouped).find(|known| ***known == *subject).cloned()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.grouped.is_empty()
    }

    /// Returns whom a process speaks as. Its group counts for more than its user.
    pub fn find(&self, holder: Holder) -> Option<Arc<Subject>> {
        let by_group = holder.cgroup.and_then(|group| self.by_group(group));
        by_group.or_else(|| self.users.get(&holder.uid).cloned())
    }

    fn by_group(&self, group: u64) -> Option<Arc<Subject>> {
        if self.grouped.is_empty() {
            return None;
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = groups.get(&group) {
            return known.clone();
        }
        let holds = |(owner, _): &&(Owner, Arc<Subject>)| match owner {
            Owner::Unit(unit) => owner::groups_of_unit(unit).contains(&group),
            Owner::Cgroup(path) => owner::groups_at(path).contains(&group),
            Owner::User(_) => false,
        };
        let found = self.grouped.iter().find(holds).map(|(_, subject)| subject.clone());
        if groups.len() >= GROUPS_MAX {
            groups.clear();
        }
        groups.insert(group, found.clone());
        found
    }
}
