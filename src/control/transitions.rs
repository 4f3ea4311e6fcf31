//! Since when each condition of each route is what it is: `lastTransitionTime`, as the Gateway API has it.
//!
//! [`crate::control::recorder`] looks whenever objects or services change, so that the time is when it happened and not when
//! somebody looked, and keeps what is known on disk, so that a restart changes none. As many entries as routes have parents
//! and conditions, and no more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::logic::state::State;
use crate::logic::status::Fates;
use crate::model::name::ServiceName;
use crate::model::resource::Resource;
use crate::model::route_status::{ConditionStatus, RouteStatus};
use crate::net::clock;

/// The file, in the data directory.
pub const FILE: &str = "conditions.json";

/// What is known. Shared: every method takes `&self`.
#[derive(Debug, Default)]
pub struct Transitions(Mutex<Known>);

/// Route, parent and condition → its status and since when, Unix seconds.
type Known = BTreeMap<String, (ConditionStatus, i64)>;

impl Transitions {
    /// Goes on with what a control plane before this one has kept. What cannot be read is begun anew.
    pub fn load(data_dir: &Path) -> Self {
        let kept = std::fs::read(data_dir.join(FILE)).ok();
        let known = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self(Mutex::new(known.unwrap_or_default()))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes into a route's conditions since when each holds; one that was never seen holds since now.
    pub fn stamp(&self, resource: &Resource, status: &mut RouteStatus) {
        let now = i64::try_from(clock::wall_ms() / 1_000).unwrap_or(i64::MAX);
        let known = self.lock();
        each(resource, status, |name, condition_status| match known.get(&name) {
            Some((before, since)) if *before == condition_status => *since,
            Some(_) | None => now,
        });
    }

    /// Looks at all routes; returns what is to be kept, where anything has changed. Takes some time where there are many
    /// routes, for the most part without keeping others from [`Self::stamp`].
    pub fn look(&self, state: &State, announced: impl IntoIterator<Item = ServiceName>) -> Option<Vec<u8>> {
        let fates = Fates::new(state.resources().values().map(AsRef::as_ref), announced);
        let now = i64::try_from(clock::wall_ms() / 1_000).unwrap_or(i64::MAX);
        let mut seen = BTreeMap::new();
        for resource in state.resources().values() {
            let Some(mut status) = fates.of(resource) else { continue };
            each(resource, &mut status, |name, condition_status| {
                seen.insert(name, condition_status);
                now
            });
        }
        let mut known = self.lock();
        let before = known.len();
        known.retain(|name, _| seen.contains_key(name));
        let mut changed = false;
        for (name, condition_status) in seen {
            if known.get(&name).is_none_or(|(before, _)| *before != condition_status) {
                known.insert(name, (condition_status, now));
                changed = true;
            }
        }
        (changed || known.len() != before).then(|| serde_json::to_vec(&*known).unwrap_or_default())
    }
}

/// Asks for the time of each condition of a route, by its name, and writes it there.
fn each(
    resource: &Resource,
    status: &mut RouteStatus,
    mut since: impl FnMut(String, ConditionStatus) -> i64,
) {
    let path = resource.key().path();
    for (index, parent) in status.parents.iter_mut().enumerate() {
        for condition in &mut parent.conditions {
            let parent = &parent.parent_ref;
            let name = format!("{path} {index} {} {:?}", parent.name, condition.kind);
            let at = jiff::Timestamp::from_second(since(name, condition.status));
            condition.last_transition_time = at.ok().map(|at| at.to_string());
        }
    }
}
