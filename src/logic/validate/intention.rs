//! Does one intention say whom and what it is about.

use crate::logic::authorize;
use crate::logic::validate::problem::Problems;
use crate::model::intention::IntentionSpec;
use crate::model::resource::Object;

const SOURCES_MAX: usize = 256;

/// Adds what is wrong in an intention.
pub fn check(intention: &Object<IntentionSpec>, problems: &mut Problems) {
    let namespace = &intention.metadata.namespace;
    let spec = &intention.spec;
    if let Err(message) = authorize::destination(&spec.destination, namespace) {
        problems.error("spec.destination", message);
    }
    problems.at_most("spec.sources", spec.sources.len(), SOURCES_MAX);
    if spec.sources.is_empty() {
        problems.error("spec.sources", "an intention needs at least one source");
    }
    for (index, wanted) in spec.sources.iter().enumerate() {
        if let Err(message) = authorize::source(wanted, namespace) {
            let field = match (&wanted.service, &wanted.node) {
                (Some(_), None) => ".service",
                (None, Some(_)) => ".node",
                (Some(_), Some(_)) | (None, None) => "",
            };
            problems.error(format!("spec.sources[{index}]{field}"), message);
        }
    }
}
