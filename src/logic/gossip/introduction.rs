//! How a new process makes itself known: it exchanges everything with some members directly, besides the seed that let it
//! in, so that who calls it, and whom it calls, knows of it as soon as it says that it is ready. The others hear of it
//! by gossip, which takes up to a second.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How many members are met directly.
pub const MET_MAX: usize = 8;
/// How long those are waited for: a member that is dead, and not yet known to be, answers nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far it has come.
#[derive(Debug, Default)]
pub struct Introduction {
    is_begun: bool,
    expected: BTreeSet<SocketAddr>,
    until: Option<Instant>,
}

impl Introduction {
    /// Begins, with exchanges with `members` under way or due.
    pub fn begin(&mut self, members: impl IntoIterator<Item = SocketAddr>, now: Instant) {
        self.is_begun = true;
        self.expected = members.into_iter().collect();
        self.until = Some(now + PATIENCE);
    }

    /// Leaves it out: members know this node already.
    pub fn leave_out(&mut self) {
        *self = Self { is_begun: true, ..Self::default() };
    }

    /// Returns whether an exchange with `member` is waited for; one that is under way may have begun before this node had
    /// anything to say.
    pub fn expects(&self, member: &SocketAddr) -> bool {
        self.expected.contains(member)
    }

    /// Notes that an exchange with `member` has ended, however.
    pub fn met(&mut self, member: SocketAddr) {
        self.expected.remove(&member);
    }

    /// Gives up on whoever has not answered in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|until| until <= now) {
            self.expected.clear();
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next; `None` when nobody is waited for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.until.filter(|_| !self.expected.is_empty())
    }

    /// Returns whether it has begun.
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Returns whether it has begun and nobody is waited for.
    pub fn is_over(&self) -> bool {
        self.is_begun && self.expected.is_empty()
    }
}
