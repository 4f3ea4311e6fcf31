//! Who may call whom, and for what: intentions × caller × called service × request.
//!
//! Deny wins. A service that any allow intention speaks of has an allow list: calls on none of them are refused. Every
//! other service follows the mesh's default action. (Consul's intentions without their precedence numbers; Istio's
//! `AuthorizationPolicy` evaluates in the same order.)
//!
//! What is audited decides nothing. A call is looked at once by what is enforced, and, where that lets it through, once more by
//! everything: what would refuse it then is the audit's finding.
//!
//! - [`pattern`]: who is named, and what. [`request`]: the rules about what a request asks for.

pub mod pattern;
pub mod request;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logic::authorize::request::{Asked, Doubt, RequestRule};
use crate::model::identity::Subject;
use crate::model::intention::{Action, IntentionSpec, Mode, ServicePattern};
use crate::model::name::ServiceName;
use crate::model::resource::{Metadata, Object};

pub use pattern::{Source, covers, destination, source};

/// What decided for or against a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call may go through.
    Allow {
        /// `intention namespace/name`, with `/rule` where one of its rules decided; or `default allow`.
        by: Arc<str>,
        /// What would have refused it, were it enforced.
        audit: Option<Arc<str>>,
    },
    /// The call is refused.
    Deny {
        /// `intention namespace/name`, with `/rule` where one of its rules decided; `allow list of intention namespace/name`;
        /// or `default deny`.
        rule: Arc<str>,
    },
}

impl Verdict {
    /// Returns whether the call may go through.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// A call to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who calls.
    pub peer: &'a Subject,
    /// Which service.
    pub destination: &'a ServiceName,
    /// For what.
    pub asked: Asked<'a>,
}

/// Every intention of the mesh, ready to be asked.
#[derive(Debug, Clone)]
pub struct Intentions {
    by_service: BTreeMap<ServiceName, Rules>,
    /// Those on every service of a namespace.
    by_namespace: BTreeMap<String, Rules>,
    default_action: Action,
    default_label: Arc<str>,
    mode: Mode,
}

/// Intentions on one service or namespace, in the order of their names.
#[derive(Debug, Clone, Default)]
struct Rules {
    deny: Vec<Intention>,
    allow: Vec<Intention>,
    /// Whether any of them is audited.
    audits: bool,
}

#[derive(Debug, Clone)]
struct Intention {
    /// `intention namespace/name`.
    label: Arc<str>,
    /// `allow list of intention namespace/name`.
    list_label: Arc<str>,
    sources: Vec<Source>,
    audited: bool,
    /// With the label of each; empty when it speaks of everything.
    rules: Vec<(Arc<str>, RequestRule)>,
}

impl Intentions {
    /// Makes intentions ready. What cannot be parsed, which `logic::validate` refuses before, is taken for the safe side:
    /// an allow intention loses the broken source or rule, a deny intention with one denies everybody and everything.
    pub fn new<'a>(
        objects: impl IntoIterator<Item = &'a Object<IntentionSpec>>,
        default_action: Action,
        mode: Mode,
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
            mode,
        };
        let mut objects: Vec<_> = objects.into_iter().collect();
        objects.sort_by_key(|object| (&object.metadata.namespace, &object.metadata.name));
        for object in objects {
            intentions.push(object);
        }
        intentions
    }

    fn push(&mut self, object: &Object<IntentionSpec>) {
        let rules = match destination(&object.spec.destination, &object.metadata.namespace) {
            Ok(ServicePattern::One(service)) => self.by_service.entry(service).or_default(),
            Ok(ServicePattern::Namespace(namespace)) => self.by_namespace.entry(namespace).or_default(),
            Ok(ServicePattern::Any) | Err(_) => return,
        };
        let intention = Intention::new(object);
        rules.audits |= intention.audited;
        match object.spec.action {
            Action::Allow => rules.allow.push(intention),
            Action::Deny => rules.deny.push(intention),
        }
    }

    /// Decides whether a call may go through, and says what decided.
    pub fn decide(&self, call: &Call<'_>) -> Verdict {
        let enforced = self.look(call, false);
        if self.mode == Mode::Enforce && (!enforced.is_allowed() || !self.audits(call.destination)) {
            return enforced;
        }
        match (enforced, self.look(call, true)) {
            (Verdict::Allow { by, .. }, Verdict::Deny { rule }) => Verdict::Allow { by, audit: Some(rule) },
            (allowed @ Verdict::Allow { .. }, Verdict::Allow { .. }) => allowed,
            // Only with the mesh-wide audit is a refusal looked at any further.
            (Verdict::Deny { rule }, _) => Verdict::Allow { by: "audit".into(), audit: Some(rule) },
        }
    }

    fn on(&self, destination: &ServiceName) -> impl Iterator<Item = &Rules> + Clone {
        let own = self.by_service.get(destination);
        own.into_iter().chain(self.by_namespace.get(destination.namespace()))
    }

    fn audits(&self, destination: &ServiceName) -> bool {
        self.on(destination).any(|rules| rules.audits)
    }

    /// Decides by what is enforced, or by what is audited as well.
    fn look(&self, call: &Call<'_>, with_audited: bool) -> Verdict {
        let counts = |intention: &&Intention| with_audited || !intention.audited;
        let deny = || self.on(call.destination).flat_map(|rules| &rules.deny).filter(counts);
        let allow = || self.on(call.destination).flat_map(|rules| &rules.allow).filter(counts);
        if let Some(rule) = deny().find_map(|intention| intention.takes(call, Doubt::Takes)) {
            return Verdict::Deny { rule: Arc::clone(rule) };
        }
        if let Some(by) = allow().find_map(|intention| intention.takes(call, Doubt::Leaves)) {
            return Verdict::Allow { by: Arc::clone(by), audit: None };
        }
        if let Some(list) = allow().next() {
            return Verdict::Deny { rule: Arc::clone(&list.list_label) };
        }
        let default = Arc::clone(&self.default_label);
        match self.default_action {
            Action::Allow => Verdict::Allow { by: default, audit: None },
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
    fn new(object: &Object<IntentionSpec>) -> Self {
        let Metadata { namespace, name, .. } = &object.metadata;
        let spec = &object.spec;
        let denies = spec.action == Action::Deny;
        let mut broken = false;
        let mut sources = Vec::new();
        for wanted in &spec.sources {
            match source(wanted, namespace) {
                Ok(source) => sources.push(source),
                Err(_) => broken = true,
            }
        }
        let mut rules = Vec::new();
        for (index, wanted) in spec.rules.iter().enumerate() {
            let rule = wanted.name.clone().unwrap_or_else(|| index.to_string());
            let label = format!("intention {namespace}/{name}/{rule}").into();
            match RequestRule::new(wanted) {
                Some(rule) => rules.push((label, rule)),
                None => broken = true,
            }
        }
        if broken && denies {
            sources = vec![Source::Service(ServicePattern::Any), Source::AnyNode];
            rules.clear();
        } else if rules.is_empty() && !spec.rules.is_empty() {
            // No rule of an allowance is left: it allows nothing.
            sources.clear();
        }
        Self {
            label: format!("intention {namespace}/{name}").into(),
            list_label: format!("allow list of intention {namespace}/{name}").into(),
            sources,
            audited: spec.mode == Some(Mode::Audit),
            rules,
        }
    }

    /// Returns the label of what in it speaks of the call; `None` when nothing does.
    fn takes(&self, call: &Call<'_>, doubt: Doubt) -> Option<&Arc<str>> {
        if !self.sources.iter().any(|source| source.names(call.peer)) {
            return None;
        }
        if self.rules.is_empty() {
            return Some(&self.label);
        }
        let taking = self.rules.iter().find(|(_, rule)| rule.takes(&call.asked, doubt));
        taking.map(|(label, _)| label)
    }
}

/// Decides by a policy, or by intentions alone, whether a call may go through.
pub fn authorize(policy: &impl AsRef<Intentions>, call: &Call<'_>) -> Verdict {
    policy.as_ref().decide(call)
}
