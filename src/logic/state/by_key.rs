//! Objects by key, written as a list: each knows its own key.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serializer};

use crate::model::resource::{Key, Resource};

/// Writes the objects.
pub(crate) fn serialize<S: Serializer>(
    resources: &BTreeMap<Key, Arc<Resource>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(resources.values())
}

/// Reads the objects.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Key, Arc<Resource>>, D::Error> {
    let list = Vec::<Arc<Resource>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|resource| (resource.key(), resource)).collect())
}
