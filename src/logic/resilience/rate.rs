//! Rate limits by the generic cell rate algorithm (ITU-T I.371, ATM Forum TM 4.0 §4.4.2, "virtual scheduling"): one number
//! for each limit, the time at which it would be empty again, and no timer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Sources with a number of their own at most; some 100 bytes each.
pub const SOURCES_MAX: usize = 10_000;

/// So many requests in each interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// From one request to the next at a steady rate, nanoseconds, 1 or more.
    pub every_ns: u64,
    /// Requests at once after a rest, 1 or more.
    pub burst: u32,
}

/// The limits of one service, for each of its instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateRules {
    /// Of all callers together.
    pub total: Option<Rate>,
    /// Of each identity.
    pub per_source: Option<Rate>,
}

impl Rate {
    /// Makes `requests` in each `interval`, `burst` of them at once.
    pub fn new(requests: u32, interval: Duration, burst: u32) -> Self {
        let every = interval.as_nanos() / u128::from(requests.max(1));
        Self { every_ns: u64::try_from(every).unwrap_or(u64::MAX).max(1), burst: burst.max(1) }
    }

    /// Decides about one request at `now_ns` (since any fixed origin) by `empty_ns`, the time at which the limit would be
    /// empty, 0 at first. The answer is the new `empty_ns`, to be put in place of the old one (by one compare-and-swap where
    /// workers share it).
    ///
    /// # Errors
    /// When it is too much: how long to wait until one is let in.
    pub fn admit(self, empty_ns: u64, now_ns: u64) -> Result<u64, Duration> {
        let next = empty_ns.max(now_ns).saturating_add(self.every_ns);
        let depth = self.every_ns.saturating_mul(u64::from(self.burst));
        match next.saturating_sub(now_ns).checked_sub(depth) {
            None | Some(0) => Ok(next),
            Some(wait_ns) => Err(Duration::from_nanos(wait_ns)),
        }
    }
}

/// Returns what `Retry-After` says for a wait: whole seconds, 1 or more, rounded up.
pub fn retry_after_s(wait: Duration) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    whole.max(1)
}

/// The limit of each source.
///
/// A source that is empty again is the same as one never seen, and is forgotten when room is needed. When all of
/// [`SOURCES_MAX`] are in debt, whoever comes besides shares one limit: memory stays bounded and nobody gets more than their
/// rate by coming under many names.
#[derive(Debug, Clone)]
pub struct Sources<K> {
    max: usize,
    by_key: BTreeMap<K, u64>,
    by_time: BTreeSet<(u64, K)>,
    others_ns: u64,
}

impl<K: Ord + Clone> Default for Sources<K> {
    fn default() -> Self {
        Self::new(SOURCES_MAX)
    }
}

impl<K: Ord + Clone> Sources<K> {
    /// Makes one for `max` sources.
    pub fn new(max: usize) -> Self {
        Self { max, by_key: BTreeMap::new(), by_time: BTreeSet::new(), others_ns: 0 }
    }

    /// Decides about one request of a source, and counts it if it is let in.
    ///
    /// # Errors
    /// When it is too much: how long to wait until one is let in.
    pub fn admit(&mut self, rate: Rate, source: &K, now_ns: u64) -> Result<(), Duration> {
        if let Some(empty_ns) = self.by_key.get_mut(source) {
            let next = rate.admit(*empty_ns, now_ns)?;
            self.by_time.remove(&(*empty_ns, source.clone()));
            *empty_ns = next;
            self.by_time.insert((next, source.clone()));
            return Ok(());
        }
        if self.by_key.len() >= self.max && !self.forget_one(now_ns) {
            self.others_ns = rate.admit(self.others_ns, now_ns)?;
            return Ok(());
        }
        let next = rate.admit(0, now_ns)?;
        self.by_key.insert(source.clone(), next);
        self.by_time.insert((next, source.clone()));
        Ok(())
    }

    /// Returns how many sources are remembered.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Forgets the source that is empty for the longest time; `false` when none is.
    fn forget_one(&mut self, now_ns: u64) -> bool {
        if self.by_time.first().is_none_or(|(empty_ns, _)| *empty_ns > now_ns) {
            return false;
        }
        let forgotten = self.by_time.pop_first();
        forgotten.is_some_and(|(_, source)| self.by_key.remove(&source).is_some())
    }
}
