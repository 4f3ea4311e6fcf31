//! Ending in good order: stop accepting, let what runs finish, close the rest.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing is taken yet.
    Standby,
    /// All is taken.
    Serving,
    /// Nothing new is taken; what runs goes on.
    Draining,
    /// What still runs is cut.
    Closing,
}

/// The side that says when.
#[derive(Debug)]
pub struct Drainer(watch::Sender<Phase>);

/// The side that obeys; one clone for each that has to.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<Phase>);

impl Drainer {
    /// Makes one that serves.
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    /// Makes one that does not serve yet.
    pub fn standby() -> Self {
        Self(watch::Sender::new(Phase::Standby))
    }

    /// Returns what those that have to obey hold.
    pub fn drain(&self) -> Drain {
        Drain(self.0.subscribe())
    }

    /// Goes on to `phase`; never goes back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = *now < phase;
            *now = phase.max(*now);
            forward
        });
    }
}

impl Default for Drainer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Returns whether new work is refused.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Waits until anything is to be taken, or the end has come before.
    pub async fn serving(&mut self) {
        _ = self.0.wait_for(|phase| *phase >= Phase::Serving).await;
    }

    /// Waits until nothing new is to be taken. A drainer that is gone means the same.
    pub async fn draining(&mut self) {
        _ = self.0.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Waits until what still runs is to be cut.
    pub async fn closing(&mut self) {
        _ = self.0.wait_for(|phase| *phase >= Phase::Closing).await;
    }
}
