//! What objects were before: the last versions of each, with who wrote them and when.
//!
//! Bounded in two ways: a few versions for each object, fewer when there are very many objects; and the histories of
//! objects that are gone, of which the longest gone are forgotten first.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::logic::state::command::Written;
use crate::model::resource::{Key, Resource, Revision};

/// Most versions of one object, the one in force included.
pub const VERSIONS_MAX: usize = 10;
/// Fewest that are kept of each, however many objects there are: the one in force, and the one to go back to.
const VERSIONS_MIN: usize = 2;
/// Versions of all objects together that are aimed at: each is held in memory and in every snapshot of the state.
const VERSIONS_OF_ALL: usize = 50_000;
/// Most objects that are gone whose histories are kept.
pub const GONE_MAX: usize = 1_000;

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The revision that made it.
    pub revision: Revision,
    /// When, Unix milliseconds; 0 where that was not noted.
    pub at_ms: u64,
    /// Who: `operator/ann`, `local administrator`; empty where that was not noted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// What was done.
    pub change: Written,
    /// The object as it was written, or as it was before it was deleted.
    pub object: Arc<Resource>,
}

/// The versions of every object, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histories(BTreeMap<Key, Arc<Vec<Version>>>);

impl Histories {
    /// Returns the versions of an object, the oldest first; none of one that was never written.
    pub fn of(&self, key: &Key) -> &[Version] {
        self.0.get(key).map_or(&[], |versions| versions.as_slice())
    }

    /// Notes a version of an object that was `before` until now. One that was written before anybody kept histories begins
    /// with what it was.
    pub(crate) fn note(&mut self, before: Option<&Arc<Resource>>, version: Version) {
        let key = version.object.key();
        let room = (VERSIONS_OF_ALL / (self.0.len() + 1)).clamp(VERSIONS_MIN, VERSIONS_MAX);
        let gone = version.change == Written::Deleted;
        let versions = Arc::make_mut(self.0.entry(key).or_default());
        if let (true, Some(object)) = (versions.is_empty(), before) {
            versions.push(Version::unknown(object));
        }
        versions.push(version);
        let excess = versions.len().saturating_sub(room);
        versions.drain(..excess);
        if gone {
            self.forget_the_longest_gone();
        }
    }

    fn forget_the_longest_gone(&mut self) {
        let last = |versions: &Arc<Vec<Version>>| {
            versions.last().filter(|last| last.change == Written::Deleted).map(|last| last.revision)
        };
        let gone = self.0.iter().filter_map(|(key, versions)| Some((last(versions)?, key)));
        let mut gone: Vec<_> = gone.collect();
        if gone.len() <= GONE_MAX {
            return;
        }
        gone.sort();
        let excess = gone.len() - GONE_MAX;
        let forgotten: Vec<Key> = gone.into_iter().take(excess).map(|(_, key)| key.clone()).collect();
        for key in forgotten {
            self.0.remove(&key);
        }
    }
}

impl Version {
    /// The version of an object that was stored before histories were kept.
    pub(crate) fn unknown(object: &Arc<Resource>) -> Self {
        let metadata = object.metadata();
        let first = metadata.generation.unwrap_or(1) <= 1;
        Self {
            revision: metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0),
            at_ms: 0,
            by: String::new(),
            change: if first { Written::Created } else { Written::Updated },
            object: Arc::clone(object),
        }
    }
}

/// A list of histories: each version knows its own object.
impl Serialize for Histories {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values().map(Arc::as_ref))
    }
}

impl<'de> Deserialize<'de> for Histories {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<Vec<Version>>::deserialize(deserializer)?;
        let keyed = list.into_iter().filter_map(|versions| {
            let key = versions.first()?.object.key();
            Some((key, Arc::new(versions)))
        });
        Ok(Self(keyed.collect()))
    }
}
