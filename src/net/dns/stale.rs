//! The last good answers about names of others, for the time when none of the host's resolvers answers (RFC 8767).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names of one type that are remembered; beyond that, the oldest answer makes room.
pub const ANSWERS_MAX: usize = 1_024;
/// Bytes of an answer that is remembered.
const ANSWER_BYTES_MAX: usize = 4_096;
/// How old an answer may be: those of RFC 8767 §4 are believed for one to three days.
pub const AGE_MAX: Duration = Duration::from_hours(24);

/// Bits of a packet's head (RFC 1035 §4.1.1).
const TRUNCATED: u8 = 0x02;
const CODE: u8 = 0x0f;
const NO_ERROR: u8 = 0;

/// An answer, and when it came.
#[derive(Debug)]
struct Answer {
    packet: Vec<u8>,
    at: Instant,
}

/// Answers by their question, in lower case. Within [`ANSWERS_MAX`] of 4 KiB each.
#[derive(Debug, Default)]
pub struct Stale(Mutex<BTreeMap<Vec<u8>, Answer>>);

impl Stale {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a whole answer with records, in the place of the one before. What says that there is nothing, or is cut
    /// short, takes no answer's place.
    pub fn keep(&self, question: &[u8], packet: &[u8], now: Instant) {
        let &[_, _, flags, code, _, _, high, low, ..] = packet else { return };
        let (is_cut, is_error) = (flags & TRUNCATED != 0, code & CODE != NO_ERROR);
        let is_whole = !is_cut && !is_error && (high, low) != (0, 0);
        if !is_whole || packet.len() > ANSWER_BYTES_MAX {
            return;
        }
        let mut answers = self.lock();
        let question = question.to_ascii_lowercase();
        if answers.len() >= ANSWERS_MAX && !answers.contains_key(&question) {
            let oldest = answers.iter().min_by_key(|(_, answer)| answer.at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| answers.remove(&oldest));
        }
        answers.insert(question, Answer { packet: packet.to_vec(), at: now });
    }

    /// Returns the last good answer to a question, unless it is too old.
    pub fn find(&self, question: &[u8], now: Instant) -> Option<Vec<u8>> {
        let answers = self.lock();
        let answer = answers.get(&question.to_ascii_lowercase())?;
        (now.saturating_duration_since(answer.at) <= AGE_MAX).then(|| answer.packet.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::net::clock;
    use crate::net::dns::stale::{AGE_MAX, ANSWERS_MAX, Stale};

    fn answer(code: u8, records: u8) -> Vec<u8> {
        vec![0, 1, 0x81, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0]
    }

    #[test]
    fn good_answers_are_remembered_for_a_day_and_the_oldest_makes_room() {
        let (stale, now) = (Stale::default(), clock::now());
        let step = Duration::from_secs(1);
        stale.keep(b"\x01A", &answer(0, 1), now);
        stale.keep(b"\x01a", &answer(3, 0), now + step);
        stale.keep(b"\x01a", &answer(0, 0), now + step);
        stale.keep(b"\x01b", &answer(2, 1), now + step);

        assert_eq!(stale.find(b"\x01a", now + AGE_MAX), Some(answer(0, 1)));
        assert_eq!(stale.find(b"\x01a", now + AGE_MAX + step), None);
        assert_eq!(stale.find(b"\x01b", now), None);
        for index in 0..ANSWERS_MAX {
            stale.keep(index.to_string().as_bytes(), &answer(0, 2), now + step);
        }
        assert_eq!(stale.find(b"\x01a", now), None, "the oldest");
        assert!(stale.find(b"0", now).is_some());
    }
}
