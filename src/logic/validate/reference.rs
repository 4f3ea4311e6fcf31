//! Do the parts of a route that name services do so properly.

use std::collections::BTreeSet;

use crate::logic::validate::problem::Problems;
use crate::model::name::is_label;
use crate::model::route::ParentRef;

const PARENTS_MAX: usize = 32;

/// Adds what is wrong in the parents of a route of `namespace`.
pub fn parents(parents: &[ParentRef], namespace: &str, problems: &mut Problems) {
    problems.at_most("spec.parentRefs", parents.len(), PARENTS_MAX);
    if parents.is_empty() {
        problems.warning(
            "spec.parentRefs",
            "the route applies to no calls until it names a service here: '- {group: \"\", kind: Service, name: …}'",
        );
    }
    let mut known = BTreeSet::new();
    for (index, parent) in parents.iter().enumerate() {
        let at = format!("spec.parentRefs[{index}]");
        reference(&at, parent.group.as_deref(), parent.kind.as_deref(), problems);
        name(&at, &parent.name, parent.namespace.as_deref(), problems);
        port(&at, parent.port, problems);
        if let Some(section) =
            parent.section_name.as_ref().filter(|section| !section.split('.').all(is_label))
        {
            problems.error(
                format!("{at}.sectionName"),
                format!("'{section}' is not the name of a port: expected labels of a-z, 0-9 and '-'"),
            );
        }
        let of = parent.namespace.as_deref().unwrap_or(namespace);
        if !known.insert((of, &parent.name, &parent.section_name, parent.port)) {
            problems.error(at, format!("service '{}' is already a parent of this route", parent.name));
        }
    }
}

/// Adds what is wrong or doubtful in what the parents of a route leave unsaid: the Gateway API then means a Gateway.
pub fn unsaid(parents: &[ParentRef], problems: &mut Problems) {
    for (index, parent) in parents.iter().enumerate() {
        let at = format!("spec.parentRefs[{index}]");
        match (&parent.kind, &parent.group) {
            (None, _) => problems.error(
                at,
                "without 'kind' a parent is a Gateway, and a mesh has none: for a service, write 'kind: Service' and \
                 'group: \"\"'",
            ),
            (Some(_), None) => problems.warning(
                at,
                "without 'group' other implementations of the Gateway API look for this in gateway.networking.k8s.io: \
                 write 'group: \"\"' too, for routes that mean the same everywhere",
            ),
            (Some(_), Some(_)) => {}
        }
    }
}

/// Adds that a reference is not to a service.
pub fn reference(at: &str, group: Option<&str>, kind: Option<&str>, problems: &mut Problems) {
    if let Some(kind) = kind.filter(|kind| *kind != "Service") {
        let instead = if kind == "Gateway" { ": a mesh has no gateways" } else { "" };
        problems.error(
            format!("{at}.kind"),
            format!("'{kind}' is not supported{instead}: in a mesh, expected 'Service'"),
        );
    }
    if let Some(group) = group.filter(|group| !matches!(*group, "" | "core")) {
        problems.error(
            format!("{at}.group"),
            format!("'{group}' is not supported: expected '' (core), the group of Service"),
        );
    }
}

/// Adds why a name or namespace is none.
pub fn name(at: &str, name: &str, namespace: Option<&str>, problems: &mut Problems) {
    let expected = "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
    if !is_label(name) {
        problems.error(
            format!("{at}.name"),
            format!("'{name}' is not the name of a service: expected {expected}"),
        );
    }
    if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
        problems.error(
            format!("{at}.namespace"),
            format!("'{namespace}' is not a namespace: expected {expected}"),
        );
    }
}

/// Adds that a port is none.
pub fn port(at: &str, port: Option<u16>, problems: &mut Problems) {
    if port == Some(0) {
        problems.error(format!("{at}.port"), "0 is not a port: expected 1 to 65535");
    }
}
