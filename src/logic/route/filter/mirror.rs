//! Copies of requests for another service.

use std::sync::Arc;

use crate::logic::resilience::fault::Chance;
use crate::model::name::ServiceName;
use crate::model::route_filter::RequestMirror;

/// Where copies go, and of how many requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The service, whose own routes do not apply.
    pub service: ServiceName,
    /// Which of its ports, when it has several.
    pub port: Option<u16>,
    /// The rule's label with the word `mirror`: what is counted of copies is told apart by it.
    pub label: Arc<str>,
    chance: Chance,
}

impl Mirror {
    /// Makes one ready for the rule `label` of a route in `namespace`.
    ///
    /// Returns `None` when the service has no valid name.
    pub fn new(wanted: &RequestMirror, namespace: &str, label: &str) -> Option<Self> {
        let RequestMirror { backend_ref: backend, percent, fraction } = wanted;
        let namespace = backend.namespace.as_deref().unwrap_or(namespace);
        let chance = match (percent, fraction) {
            (_, Some(fraction)) => {
                Chance { numerator: fraction.numerator, denominator: fraction.denominator }
            }
            (percent, None) => Chance { numerator: percent.unwrap_or(100), denominator: 100 },
        };
        Some(Self {
            service: ServiceName::new(&backend.name, namespace).ok()?,
            port: backend.port,
            label: format!("{label} mirror").into(),
            chance,
        })
    }

    /// Decides whether a request is copied; `draw` is uniform over all of `u64`.
    pub fn takes(&self, draw: u64) -> bool {
        self.chance.hits((draw >> 32) as u32)
    }
}
