//! Refusals as they travel: problem details of RFC 9457.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request was not carried out, for whoever asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(default)]
pub struct Problem {
    /// The status in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what to do.
    pub detail: String,
    /// What is wrong with an object, field by field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FieldProblem {
    /// The object, as in the API's paths: `httproutes/default/web`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The field: `spec.rules[0].matches[1].path.value`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
    /// `error` or `warning`.
    pub severity: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.errors.as_slice(), self.detail.as_str()) {
            ([], "") => write!(f, "{} ({})", self.title, self.status),
            ([] | [_], detail) => write!(f, "{detail}"),
            (errors, _) => {
                write!(f, "{} problems:", errors.len())?;
                errors.iter().try_for_each(|error| write!(f, "\n  {}: {}", error.path, error.message))
            }
        }
    }
}
