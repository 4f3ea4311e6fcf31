//! Set, add and remove header fields.

use http::{HeaderName, HeaderValue};

use crate::logic::http::fields::Fields;
use crate::model::route_filter::{HeaderField, HeaderModifier};

/// Changes to header fields, ready to be applied. No name is in two of the lists (`logic::validate`), so that their order
/// does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChange {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl HeaderChange {
    /// Makes changes ready. Of entries with the same name in any case, the first counts.
    ///
    /// Returns `None` when a name or value is not valid.
    pub fn new(wanted: &HeaderModifier) -> Option<Self> {
        let remove =
            wanted.remove.iter().map(|name| HeaderName::try_from(name).ok()).collect::<Option<_>>()?;
        Some(Self { set: fields(&wanted.set)?, add: fields(&wanted.add)?, remove })
    }

    /// Applies the changes: `set` replaces every field of its name, `add` appends one, `remove` takes all away.
    pub fn apply(&self, fields: &mut Fields) {
        for name in &self.remove {
            fields.remove(name.as_str());
        }
        for (name, value) in &self.set {
            fields.set(name.as_str(), value.as_bytes());
        }
        for (name, value) in &self.add {
            fields.append(name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

fn fields(wanted: &[HeaderField]) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for field in wanted {
        let name = HeaderName::try_from(&field.name).ok()?;
        let value = HeaderValue::from_str(&field.value).ok()?;
        if fields.iter().all(|(known, _)| *known != name) {
            fields.push((name, value));
        }
    }
    Some(fields)
}
