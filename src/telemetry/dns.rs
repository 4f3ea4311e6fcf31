//! Questions that the name server of a proxy was asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with records of the mesh.
    Answered,
    /// The name exists, and has nothing of the kind.
    Empty,
    /// The mesh has no such name.
    Unknown,
    /// A resolver of the host answered.
    Forwarded,
    /// No resolver of the host answered, and what one had answered before was told.
    Stale,
    /// No resolver of the host answered.
    Failed,
    /// It was none of ours to answer, or there were too many at a time.
    Refused,
    /// It could not be read.
    Malformed,
}

/// Every outcome, in the order in which they are counted.
pub const OUTCOMES: [Outcome; 8] = [
    Outcome::Answered,
    Outcome::Empty,
    Outcome::Unknown,
    Outcome::Forwarded,
    Outcome::Stale,
    Outcome::Failed,
    Outcome::Refused,
    Outcome::Malformed,
];

/// How many questions had each of [`OUTCOMES`].
pub type Questions = [u64; OUTCOMES.len()];

impl Outcome {
    /// Returns the outcome as a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Empty => "empty",
            Self::Unknown => "unknown",
            Self::Forwarded => "forwarded",
            Self::Stale => "stale",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
        }
    }
}

/// Counts questions.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; OUTCOMES.len()]);

impl Counts {
    /// Counts one question.
    pub fn count(&self, outcome: Outcome) {
        if let Some(count) = self.0.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns all counts.
    pub fn questions(&self) -> Questions {
        std::array::from_fn(|index| self.0.get(index).map_or(0, |count| count.load(Ordering::Relaxed)))
    }
}
