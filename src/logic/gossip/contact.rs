//! With whom to exchange everything, and when: seeds until they are members, a random member for anti-entropy, and now and
//! then one that is dead or was known to an earlier process, so that partitions of any length heal by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often everything is exchanged with one random member, in a mesh of up to 32; rarer in larger ones.
pub const SYNC_PERIOD: Duration = Duration::from_secs(10);
/// Shortest time between two attempts to reach the dead; half of the longest.
pub const RECONNECT_PERIOD: Duration = Duration::from_secs(15);
/// Most seeds, and most addresses known from an earlier process.
pub const KNOWN_MAX: usize = 256;
/// Most exchanges waited for; more would be repeated by anti-entropy anyway.
const WANTED_MAX: usize = 256;
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// How often a seed that is a member is looked at.
const SATISFIED_PERIOD: Duration = Duration::from_secs(5);
/// How often an address known from an earlier process is tried before the first exchange.
const EAGER_PERIOD: Duration = Duration::from_secs(1);
/// How many of those must have failed before this node takes itself for alone.
const KNOWN_TRIES: usize = 3;

/// A source of randomness given as a seed: the splitmix64 generator (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next draw.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end.max(1) as u64) as usize
    }

    /// Returns a duration of 75 % to 125 % of `around`.
    pub fn jitter(&mut self, around: Duration) -> Duration {
        around.mul_f64(0.75 + (self.draw() % 1024) as f64 / 2048.0)
    }

    /// Moves `count` random items to the front and drops the rest.
    pub fn choose<T>(&mut self, items: &mut Vec<T>, count: usize) {
        let count = count.min(items.len());
        for index in 0..count {
            let other = index + self.below(items.len() - index);
            items.swap(index, other);
        }
        items.truncate(count);
    }
}

#[derive(Debug)]
struct Retry {
    next: Instant,
    wait: Duration,
    failed: bool,
}

/// Decides about exchanges.
#[derive(Debug)]
pub struct Contacts {
    me: SocketAddr,
    seeds: BTreeMap<SocketAddr, Retry>,
    known: Vec<SocketAddr>,
    wanted: BTreeMap<SocketAddr, Instant>,
    next_sync: Instant,
    next_reconnect: Instant,
    known_failed: usize,
    joined: bool,
    draws: Draws,
}

impl Contacts {
    /// Begins with what is configured and what an earlier process knew.
    pub fn new(me: SocketAddr, seeds: &[SocketAddr], known: &[SocketAddr], seed: u64, now: Instant) -> Self {
        let known = known.iter().copied().filter(|addr| *addr != me && !seeds.contains(addr));
        let mut contacts = Self {
            me,
            seeds: BTreeMap::new(),
            known: known.take(KNOWN_MAX).collect(),
            wanted: BTreeMap::new(),
            next_sync: now + SYNC_PERIOD,
            next_reconnect: now,
            known_failed: 0,
            joined: false,
            draws: Draws::new(seed),
        };
        contacts.set_seeds(seeds, now);
        contacts
    }

    /// Replaces the seeds; those that stay keep their pace.
    pub fn set_seeds(&mut self, seeds: &[SocketAddr], now: Instant) {
        self.seeds.retain(|addr, _| seeds.contains(addr));
        for addr in seeds.iter().filter(|addr| **addr != self.me).take(KNOWN_MAX) {
            self.seeds.entry(*addr).or_insert(Retry { next: now, wait: RETRY_MIN, failed: false });
        }
    }

    /// Returns whether waiting for more makes no sense: one exchange succeeded, or nobody could be reached.
    pub fn is_ready(&self) -> bool {
        let tried = self.known_failed >= self.known.len().min(KNOWN_TRIES);
        self.joined || (tried && self.seeds.values().all(|retry| retry.failed))
    }

    /// Notes that this node is at another address, and looks for the others at once.
    pub fn relocate(&mut self, me: SocketAddr, now: Instant) {
        self.me = me;
        self.next_sync = now;
        for retry in self.seeds.values_mut() {
            (retry.next, retry.wait) = (now, RETRY_MIN);
        }
    }

    /// Returns whether an exchange succeeded.
    pub fn has_joined(&self) -> bool {
        self.joined
    }

    /// Asks for an exchange with `with` at `at`.
    pub fn want(&mut self, with: SocketAddr, at: Instant) {
        if with != self.me && (self.wanted.len() < WANTED_MAX || self.wanted.contains_key(&with)) {
            let due = self.wanted.entry(with).or_insert(at);
            *due = at.min(*due);
        }
    }

    /// Notes that everything was exchanged with another node.
    pub fn succeeded(&mut self) {
        self.joined = true;
    }

    /// Notes that `with` could not be reached.
    pub fn failed(&mut self, with: SocketAddr) {
        if let Some(retry) = self.seeds.get_mut(&with) {
            retry.failed = true;
        } else if self.known.contains(&with) {
            self.known_failed += 1;
        }
    }

    /// Notes that `with` is this node itself, under another address.
    pub fn is_myself(&mut self, with: SocketAddr) {
        self.seeds.remove(&with);
        self.known.retain(|addr| *addr != with);
    }

    /// Returns with whom to exchange now. `active` and `dead` are gossip addresses of members.
    pub fn handle_timeout(
        &mut self,
        active: &BTreeSet<SocketAddr>,
        dead: &BTreeSet<SocketAddr>,
        now: Instant,
    ) -> BTreeSet<SocketAddr> {
        let mut with = BTreeSet::new();
        for (addr, retry) in self.seeds.iter_mut().filter(|(_, retry)| retry.next <= now) {
            if active.contains(addr) {
                retry.wait = RETRY_MIN;
                retry.next = now + SATISFIED_PERIOD;
            } else {
                with.insert(*addr);
                retry.next = now + self.draws.jitter(retry.wait);
                retry.wait = (retry.wait * 2).min(RETRY_MAX);
            }
        }
        if self.next_sync <= now {
            self.next_sync = now + self.draws.jitter(SYNC_PERIOD * sync_scale(active.len()));
            with.extend(pick(active.iter(), &mut self.draws));
        }
        if self.next_reconnect <= now {
            let gone = self.known.iter().filter(|addr| !active.contains(addr)).chain(dead);
            with.extend(pick(gone.filter(|addr| **addr != self.me), &mut self.draws));
            let spread = RECONNECT_PERIOD.mul_f64((self.draws.draw() % 1024) as f64 / 1024.0);
            self.next_reconnect = now + if self.joined { RECONNECT_PERIOD + spread } else { EAGER_PERIOD };
        }
        with.extend(self.wanted.iter().filter(|(_, at)| **at <= now).map(|(addr, _)| *addr));
        self.wanted.retain(|_, at| *at > now);
        with
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Instant {
        let seeds = self.seeds.values().map(|retry| retry.next);
        let others = [self.next_sync, self.next_reconnect];
        seeds.chain(self.wanted.values().copied()).chain(others).min().unwrap_or(self.next_sync)
    }
}

fn pick<'a>(among: impl Iterator<Item = &'a SocketAddr>, draws: &mut Draws) -> Option<SocketAddr> {
    let among: Vec<_> = among.collect();
    if among.is_empty() { None } else { among.get(draws.below(among.len())).map(|addr| **addr) }
}

/// Returns the factor by which exchanges are rarer in a mesh of `members`, as memberlist's `pushPullScale`.
fn sync_scale(members: usize) -> u32 {
    if members <= 32 { 1 } else { ((members as f64).log2() - 5.0).ceil() as u32 + 1 }
}
