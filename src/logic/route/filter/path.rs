//! Another path for a request, whole or from its prefix on.

use crate::model::route_filter::{PathModifier, PathModifierKind};

/// A change of the path, ready to be applied. The query is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathChange {
    /// Replaces all of it.
    Full(Box<str>),
    /// Replaces a prefix, given without its final slashes, by another, without them too.
    Prefix(Box<str>, Box<str>),
}

impl PathChange {
    /// Makes a change ready; `prefix` is what the rule's only match asks of the path, if it is a prefix.
    ///
    /// Returns `None` when a part is missing, which `logic::validate` refuses before.
    pub fn new(wanted: &PathModifier, prefix: Option<&str>) -> Option<Self> {
        match wanted.kind {
            PathModifierKind::ReplaceFullPath => {
                let path = wanted.replace_full_path.as_deref()?;
                let slash = if path.starts_with('/') { "" } else { "/" };
                Some(Self::Full(format!("{slash}{path}").into()))
            }
            PathModifierKind::ReplacePrefixMatch => {
                let by = wanted.replace_prefix_match.as_deref()?.trim_end_matches('/');
                let slash = if by.is_empty() || by.starts_with('/') { "" } else { "/" };
                let by = format!("{slash}{by}").into();
                Some(Self::Prefix(prefix?.trim_end_matches('/').into(), by))
            }
        }
    }

    /// Returns what becomes of `target`, a path with or without a query, as the table of the Gateway API's
    /// `replacePrefixMatch` says.
    pub fn apply(&self, target: &str) -> String {
        let (path, query) = match target.find('?') {
            Some(at) => target.split_at(at),
            None => (target, ""),
        };
        match self {
            Self::Full(path) => format!("{path}{query}"),
            Self::Prefix(prefix, by) => {
                let rest = path.strip_prefix(&**prefix).unwrap_or(path);
                let slash = if by.is_empty() && !rest.starts_with('/') { "/" } else { "" };
                format!("{by}{slash}{rest}{query}")
            }
        }
    }
}
