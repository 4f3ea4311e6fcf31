//! Health-check thresholds: outcomes → healthy or not.
//!
//! As in Kubernetes and Envoy: it takes some failures in a row to become unhealthy, some successes in a row to return.
//! The very first outcome decides at once, so that a service is neither announced broken nor withheld while it works.

use std::time::Duration;

use crate::logic::duration;
use crate::model::service_spec::HealthCheck;

/// What probes have found of one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// Not probed yet.
    #[default]
    Unknown,
    /// It works; so many probes in a row have failed since.
    Healthy {
        /// Below the unhealthy threshold.
        failures: u32,
    },
    /// It does not; so many probes in a row have succeeded since.
    Unhealthy {
        /// Below the healthy threshold.
        successes: u32,
    },
}

impl Health {
    /// Returns whether the instance should take calls. One that was not probed yet should not.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy { .. })
    }

    /// Returns what is known after one more probe.
    #[must_use]
    pub fn record(self, succeeded: bool, check: &HealthCheck) -> Self {
        match (self, succeeded) {
            (Self::Unknown | Self::Healthy { .. }, true) => Self::Healthy { failures: 0 },
            (Self::Unknown | Self::Unhealthy { .. }, false) => Self::Unhealthy { successes: 0 },
            (Self::Healthy { failures }, false) => {
                let failures = failures + 1;
                if failures >= check.unhealthy_threshold {
                    Self::Unhealthy { successes: 0 }
                } else {
                    Self::Healthy { failures }
                }
            }
            (Self::Unhealthy { successes }, true) => {
                let successes = successes + 1;
                if successes >= check.healthy_threshold {
                    Self::Healthy { failures: 0 }
                } else {
                    Self::Unhealthy { successes }
                }
            }
        }
    }
}

impl HealthCheck {
    /// Returns the time from the end of one probe to the next.
    pub fn interval(&self) -> Duration {
        duration::parse(&self.interval).unwrap_or(Duration::from_secs(10))
    }

    /// Returns the time after which a probe has failed.
    pub fn timeout(&self) -> Duration {
        duration::parse(&self.timeout).unwrap_or(Duration::from_secs(2))
    }
}
