//! Whom an intention names, and what: services, namespaces and nodes, parsed from their texts.

use std::str::FromStr;

use crate::model::identity::Subject;
use crate::model::intention::{ServicePattern, SourceMatch};
use crate::model::name::{NodeName, ServiceName, is_label};

/// One set of callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Services.
    Service(ServicePattern),
    /// A node for itself.
    Node(NodeName),
    /// Any node for itself.
    AnyNode,
}

/// What an intention is about, when it is not one service.
const EVERY: &str = "*";

impl Source {
    /// Returns whether `peer` is one of them.
    pub fn names(&self, peer: &Subject) -> bool {
        match (self, peer) {
            (Self::Service(pattern), Subject::Service(service)) => covers(pattern, service),
            (Self::Node(wanted), Subject::Node(node)) => wanted == node,
            (Self::AnyNode, Subject::Node(_)) => true,
            (
                Self::Service(_) | Self::Node(_) | Self::AnyNode,
                Subject::Service(_) | Subject::Node(_) | Subject::Control(_) | Subject::Operator(_),
            ) => false,
        }
    }
}

/// Parses the destination of an intention that lies in `namespace`: `web`, `web.shop` or `*`.
///
/// # Errors
/// A sentence on what was expected.
pub fn destination(text: &str, namespace: &str) -> Result<ServicePattern, String> {
    if text == EVERY {
        return Ok(ServicePattern::Namespace(namespace.to_owned()));
    }
    service(text, namespace).map(ServicePattern::One).ok_or_else(|| {
        format!("'{text}' is not a destination: expected NAME, NAME.NAMESPACE or * (every service of the namespace)")
    })
}

/// Parses one source of an intention that lies in `namespace`.
///
/// # Errors
/// A sentence on what was expected.
pub fn source(wanted: &SourceMatch, namespace: &str) -> Result<Source, String> {
    let SourceMatch { service: named, namespace: whole, node } = wanted;
    match (named.as_deref(), whole.as_deref(), node.as_deref()) {
        (Some(EVERY), None, None) => Ok(Source::Service(ServicePattern::Any)),
        (Some(text), None, None) => {
            let pattern = match text.strip_prefix("*.") {
                Some(namespace) => {
                    is_label(namespace).then(|| ServicePattern::Namespace(namespace.to_owned()))
                }
                None => service(text, namespace).map(ServicePattern::One),
            };
            pattern.map(Source::Service).ok_or_else(|| {
                format!(
                    "'{text}' is not a source: expected NAME, NAME.NAMESPACE, *.NAMESPACE or * (any service)"
                )
            })
        }
        (None, Some(text), None) if is_label(text) => {
            Ok(Source::Service(ServicePattern::Namespace(text.to_owned())))
        }
        (None, Some(text), None) => {
            Err(format!("'{text}' is not a namespace: expected 1 to 63 of a-z, 0-9 and '-'"))
        }
        (None, None, Some(EVERY)) => Ok(Source::AnyNode),
        (None, None, Some(text)) => {
            NodeName::from_str(text).map(Source::Node).map_err(|error| error.to_string())
        }
        (None, None, None) => Err("a source has 'service', 'namespace' or 'node'".to_owned()),
        (Some(_), _, _) | (_, Some(_), _) => {
            Err("a source has one of 'service', 'namespace' and 'node', not several".to_owned())
        }
    }
}

/// A bare name is one of the object's own namespace, as everywhere in the Gateway API.
fn service(text: &str, namespace: &str) -> Option<ServiceName> {
    if text.contains('.') { text.parse().ok() } else { ServiceName::new(text, namespace).ok() }
}

/// Returns whether a pattern takes a service.
pub fn covers(pattern: &ServicePattern, service: &ServiceName) -> bool {
    match pattern {
        ServicePattern::One(name) => name == service,
        ServicePattern::Namespace(namespace) => namespace == service.namespace(),
        ServicePattern::Any => true,
    }
}
