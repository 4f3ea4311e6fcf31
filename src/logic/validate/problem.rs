//! Something wrong or doubtful, and where.

use std::fmt;

use crate::model::resource::Key;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It will work, but perhaps not as meant.
    Warning,
    /// It cannot be obeyed.
    Error,
}

/// Something wrong or doubtful in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: Key,
    /// How bad it is.
    pub severity: Severity,
    /// The field, as in `spec.rules[0].matches[1].path.value`; empty for the object as a whole.
    pub path: String,
    /// What is wrong and what was expected: a sentence without a full stop.
    pub message: String,
}

impl Problem {
    /// Returns whether it stops a write.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    /// Writes `HTTPRoute/web: spec.rules[0].name: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// The problems of one object, being found.
#[derive(Debug)]
pub struct Problems {
    object: Key,
    found: Vec<Problem>,
}

impl Problems {
    /// Begins with none.
    pub fn new(object: Key) -> Self {
        Self { object, found: Vec::new() }
    }

    /// Adds something that cannot be obeyed.
    pub fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Error, path.into(), message.into());
    }

    /// Adds something doubtful.
    pub fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Warning, path.into(), message.into());
    }

    /// Adds an error when a list is longer than `max`.
    pub fn at_most(&mut self, path: &str, count: usize, max: usize) {
        if count > max {
            self.error(path, format!("{count} entries are too many: {max} at most"));
        }
    }

    /// Returns what was found, in the order it was.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }

    fn add(&mut self, severity: Severity, path: String, message: String) {
        self.found.push(Problem { object: self.object.clone(), severity, path, message });
    }
}
