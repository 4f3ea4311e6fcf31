//! What is under way from this proxy to one service: shared by all workers, and kept when the policy changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::logic::resilience::limits::{Limit, LimitRules};
use crate::model::name::ServiceName;
use crate::proxy::failure::{Failed, Failure};

/// Counts of what is under way. On a cache line of its own: every request writes to it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Load {
    requests: AtomicU32,
    pending: AtomicU32,
    connections: AtomicU32,
    /// When the success rates of the endpoints were compared last.
    compared_ns: AtomicU64,
}

/// A place in one of the counts, given back when dropped.
#[derive(Debug)]
pub struct Place {
    load: Arc<Load>,
    limit: Limit,
}

impl Load {
    fn count(&self, limit: Limit) -> &AtomicU32 {
        match limit {
            Limit::Connections => &self.connections,
            Limit::Pending => &self.pending,
            Limit::Requests => &self.requests,
        }
    }

    /// Takes a place in a count.
    ///
    /// # Errors
    /// When there is none left.
    pub fn enter(
        self: &Arc<Self>,
        rules: &LimitRules,
        limit: Limit,
        service: &ServiceName,
    ) -> Result<Place, Failed> {
        let before = self.count(limit).fetch_add(1, Ordering::Relaxed);
        let place = Place { load: self.clone(), limit };
        if rules.admits(limit, before) {
            return Ok(place);
        }
        let (what, most) = match limit {
            Limit::Connections => ("connections", rules.connections_max),
            Limit::Pending => ("requests that wait for a connection", rules.pending_max),
            Limit::Requests => ("requests", rules.requests_max),
        };
        let cause = format!("this proxy may have {most} {what} to {service} under way, and has");
        Err(Failed::new(Failure::Overloaded, cause))
    }

    /// Returns how many requests are under way or, to a service that is called by connections, connections.
    pub fn calls(&self) -> u32 {
        self.requests.load(Ordering::Relaxed).max(self.connections.load(Ordering::Relaxed))
    }

    /// Returns whether `interval` is over since this was answered with yes; whoever asks first after that is the one.
    pub fn is_due(&self, interval: Duration, now_ns: u64) -> bool {
        let last = self.compared_ns.load(Ordering::Relaxed);
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        now_ns.saturating_sub(last) >= interval
            && self.compared_ns.compare_exchange(last, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.count(self.limit).fetch_sub(1, Ordering::Relaxed);
    }
}
