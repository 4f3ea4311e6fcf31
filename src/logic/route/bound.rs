//! The routes of one service for each of its callers.
//!
//! A route in the service's own namespace (a producer's) is for all callers. One in another namespace (a consumer's) is for
//! callers of that namespace alone, and then takes the place of the producer's (GEP-1426).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logic::route::table::RouteTable;

/// The tables of one service, or of one of its ports.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    own: Option<Arc<RouteTable>>,
    /// By the namespace of callers.
    others: BTreeMap<Box<str>, Arc<RouteTable>>,
}

impl Bound {
    /// Returns the rules for callers of a namespace, `None` for callers without one. `None` when there are none, so that
    /// calls go straight to the service.
    pub fn table(&self, namespace: Option<&str>) -> Option<&Arc<RouteTable>> {
        if self.others.is_empty() {
            return self.own.as_ref();
        }
        namespace.and_then(|namespace| self.others.get(namespace)).or(self.own.as_ref())
    }

    /// Returns whether nobody's calls are routed.
    pub fn is_empty(&self) -> bool {
        self.own.is_none() && self.others.is_empty()
    }

    /// Adds the table of the routes in `namespace` for the service in `own`.
    pub fn add(&mut self, table: Arc<RouteTable>, namespace: &str, own: &str) {
        if namespace == own {
            self.own = Some(table);
        } else {
            self.others.insert(namespace.into(), table);
        }
    }

    /// Returns every table.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.own.iter().chain(self.others.values())
    }
}
