//! Who may call whom: intentions × caller × called service.
//!
//! Deny wins. A service that any allow intention speaks of has an allow list: callers on none of them are refused. Every
//! other service follows the mesh's default action. (Consul's intentions without their precedence numbers; Istio's
//! `AuthorizationPolicy` evaluates in the same order.)

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use crate::model::identity::Subject;
use crate::model::intention::{Action, IntentionSpec, ServicePattern, SourceMatch};
use crate::model::name::{NodeName, ServiceName, is_label};
use crate::model::resource::{Metadata, Object};

/// What decided for or against a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call may go through.
    Allow {
        /// `intention namespace/name` or `default allow`.
        by: Arc<str>,
    },
    /// The call is refused.
    Deny {
        /// `intention namespace/name`, `allow list of intention namespace/name` or `default deny`.
        rule: Arc<str>,
    },
}

impl Verdict {
    /// Returns whether the call may go through.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Every intention of the mesh, ready to be asked.
#[derive(Debug, Clone)]
pub struct Intentions {
    by_service: BTreeMap<ServiceName, Rules>,
    /// Those on every service of a namespace.
    by_namespace: BTreeMap<String, Rules>,
    default_action: Action,
    default_label: Arc<str>,
}

/// Intentions on one service or namespace, in the order of their names.
#[derive(Debug, Clone, Default)]
struct Rules {
    deny: Vec<Intention>,
    allow: Vec<Intention>,
}

#[derive(Debug, Clone)]
struct Intention {
    /// `intention namespace/name`.
    label: Arc<str>,
    /// `allow list of intention namespace/name`.
    list_label: Arc<str>,
    sources: Vec<Source>,
}

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

impl Intentions {
    /// Makes intentions ready. What cannot be parsed, which `logic::validate` refuses before, is taken for the safe side:
    /// an allow intention loses the broken source, a deny intention with one denies everybody.
    pub fn new<'a>(
        objects: impl IntoIterator<Item = &'a Object<IntentionSpec>>,
        default_action: Action,
    ) -> Self {
        let default_label = match default_action {
            Action::Allow => "default allow",
            Action::Deny => "default deny",
        };
        let mut intentions = Self {
            by_service: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            default_action,
            default_label: default_label.into(),
        };
        let mut objects: Vec<_> = objects.into_iter().collect();
        objects.sort_by_key(|object| (&object.metadata.namespace, &object.metadata.name));
        for object in objects {
            intentions.push(object);
        }
        intentions
    }

    fn push(&mut self, object: &Object<IntentionSpec>) {
        let Metadata { namespace, name, .. } = &object.metadata;
        let rules = match destination(&object.spec.destination, namespace) {
            Ok(ServicePattern::One(service)) => self.by_service.entry(service).or_default(),
            Ok(ServicePattern::Namespace(namespace)) => self.by_namespace.entry(namespace).or_default(),
            Ok(ServicePattern::Any) | Err(_) => return,
        };
        let mut sources = Vec::new();
        for wanted in &object.spec.sources {
            match source(wanted, namespace) {
                Ok(source) => sources.push(source),
                Err(_) if object.spec.action == Action::Deny => {
                    sources.extend([Source::Service(ServicePattern::Any), Source::AnyNode]);
                }
                Err(_) => {}
            }
        }
        let intention = Intention {
            label: format!("intention {namespace}/{name}").into(),
            list_label: format!("allow list of intention {namespace}/{name}").into(),
            sources,
        };
        match object.spec.action {
            Action::Allow => rules.allow.push(intention),
            Action::Deny => rules.deny.push(intention),
        }
    }

    /// Decides whether `peer` may call `destination`, and says what decided.
    pub fn decide(&self, peer: &Subject, destination: &ServiceName) -> Verdict {
        let own = self.by_service.get(destination);
        let wide = self.by_namespace.get(destination.namespace());
        let rules = || own.into_iter().chain(wide);
        if let Some(denied) = rules().flat_map(|rules| &rules.deny).find(|intention| intention.names(peer)) {
            return Verdict::Deny { rule: Arc::clone(&denied.label) };
        }
        if let Some(allowed) = rules().flat_map(|rules| &rules.allow).find(|intention| intention.names(peer))
        {
            return Verdict::Allow { by: Arc::clone(&allowed.label) };
        }
        if let Some(list) = rules().flat_map(|rules| &rules.allow).next() {
            return Verdict::Deny { rule: Arc::clone(&list.list_label) };
        }
        let default = Arc::clone(&self.default_label);
        match self.default_action {
            Action::Allow => Verdict::Allow { by: default },
            Action::Deny => Verdict::Deny { rule: default },
        }
    }
}

impl AsRef<Self> for Intentions {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Intention {
    fn names(&self, peer: &Subject) -> bool {
        self.sources.iter().any(|source| source.names(peer))
    }
}

impl Source {
    fn names(&self, peer: &Subject) -> bool {
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

/// Decides by a policy, or by intentions alone, whether `peer` may call `destination`.
pub fn authorize(policy: &impl AsRef<Intentions>, peer: &Subject, destination: &ServiceName) -> Verdict {
    policy.as_ref().decide(peer, destination)
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
    match (wanted.service.as_deref(), wanted.node.as_deref()) {
        (Some(EVERY), None) => Ok(Source::Service(ServicePattern::Any)),
        (Some(text), None) => {
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
        (None, Some(EVERY)) => Ok(Source::AnyNode),
        (None, Some(text)) => NodeName::from_str(text).map(Source::Node).map_err(|error| error.to_string()),
        (Some(_), Some(_)) => Err("a source has either 'service' or 'node', not both".to_owned()),
        (None, None) => Err("a source has 'service' or 'node'".to_owned()),
    }
}

/// A bare name is one of the object's own namespace, as everywhere in the Gateway API.
fn service(text: &str, namespace: &str) -> Option<ServiceName> {
    if text.contains('.') { text.parse().ok() } else { ServiceName::new(text, namespace).ok() }
}

fn covers(pattern: &ServicePattern, service: &ServiceName) -> bool {
    match pattern {
        ServicePattern::One(name) => name == service,
        ServicePattern::Namespace(namespace) => namespace == service.namespace(),
        ServicePattern::Any => true,
    }
}
