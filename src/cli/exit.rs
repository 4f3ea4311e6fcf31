//! How commands end: the exit statuses, and errors that know theirs.

/// How a command ended; the process's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Refused, or a check has a finding.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The control plane cannot be reached.
    Unreachable = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The caller may not.
    NotAllowed = 5,
    /// Somebody else wrote first.
    Conflict = 6,
    /// It took too long.
    TimedOut = 7,
}

/// An error that knows its exit status.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) exit: Exit,
    text: String,
}

/// Makes an error that ends the process with `exit`.
pub(crate) fn refuse(exit: Exit, text: String) -> anyhow::Error {
    anyhow::Error::new(Refusal { exit, text })
}
