//! Caps on what may be under way to one service from one proxy: a bulkhead (Nygard, *Release It!*, 2007). What is above is
//! refused at once, because a queue that only grows helps nobody.

/// The caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRules {
    /// TCP connections and upgraded ones.
    pub connections_max: u32,
    /// Requests that wait for a connection.
    pub pending_max: u32,
    /// Requests under way, those that wait included.
    pub requests_max: u32,
}

impl Default for LimitRules {
    /// Where memory would be at stake, not where a busy service works: a request under way is some 10 KiB, so 16,384 of them
    /// are 160 MiB, and are 16,000 requests a second of one second each; Envoy's 1,024 stops services that merely are popular.
    /// 1,024 (Envoy's) may wait while a connection is made, which takes one second at most. 65,536 connections are all that
    /// two addresses can have on one port.
    fn default() -> Self {
        Self { connections_max: 65_536, pending_max: 1_024, requests_max: 16_384 }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// See [`LimitRules::connections_max`].
    Connections,
    /// See [`LimitRules::pending_max`].
    Pending,
    /// See [`LimitRules::requests_max`].
    Requests,
}

impl LimitRules {
    /// Returns whether one more is let in where `count` are there already.
    pub fn admits(&self, limit: Limit, count: u32) -> bool {
        let max = match limit {
            Limit::Connections => self.connections_max,
            Limit::Pending => self.pending_max,
            Limit::Requests => self.requests_max,
        };
        count < max
    }
}
