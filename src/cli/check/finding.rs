//! What a check found, and how it is shown: categories, marks and hints as in `linkerd check`.

use serde::Serialize;

use crate::model::endpoint::Reach;

/// What one check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// All is well.
    Success,
    /// It works, but look at it.
    Warning,
    /// It does not work.
    Error,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub(crate) description: String,
    pub(crate) result: Mark,
    /// What is wrong; empty when all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) findings: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// Checks on one subject.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Category {
    #[serde(rename = "categoryName")]
    pub(crate) name: &'static str,
    pub(crate) checks: Vec<Check>,
    /// What the checks of gossip were made from, as some want to see how long ago all was well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reach: Option<Reach>,
}

impl Category {
    /// Names checks.
    pub(crate) fn new(name: &'static str, checks: Vec<Check>) -> Self {
        Self { name, checks, reach: None }
    }
}

/// The whole answer, as `-o json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Findings {
    pub(crate) success: bool,
    pub(crate) categories: Vec<Category>,
}

/// Returns a check that is well without findings, and has `mark` with some.
pub(crate) fn check(
    description: &str,
    mark: Mark,
    findings: impl IntoIterator<Item = String>,
    hint: &str,
) -> Check {
    let findings: Vec<_> = findings.into_iter().collect();
    let well = findings.is_empty();
    Check {
        description: description.to_owned(),
        result: if well { Mark::Success } else { mark },
        hint: (!well).then(|| hint.to_owned()),
        findings,
    }
}

impl Findings {
    /// Sums up: it is a success without an error.
    pub(crate) fn new(categories: Vec<Category>) -> Self {
        let mut checks = categories.iter().flat_map(|category| &category.checks);
        Self { success: checks.all(|check| check.result != Mark::Error), categories }
    }
}

/// Returns the findings as text for people, line by line.
pub(crate) fn lines(findings: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    let mut worst = Mark::Success;
    for category in &findings.categories {
        lines.extend([category.name.to_owned(), "-".repeat(category.name.len())]);
        for check in &category.checks {
            worst = worst.max(check.result);
            lines.push(format!("{} {}", glyph(check.result), check.description));
            lines.extend(check.findings.iter().map(|finding| format!("    {finding}")));
            lines.extend(check.hint.iter().map(|hint| format!("    hint: {hint}")));
        }
        lines.push(String::new());
    }
    lines.push(format!("Status check results are {}", glyph(worst)));
    lines
}

fn glyph(mark: Mark) -> &'static str {
    match mark {
        Mark::Success => "√",
        Mark::Warning => "‼",
        Mark::Error => "×",
    }
}
