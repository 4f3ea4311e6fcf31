//! A new program on its way to every host of the mesh: who is next, so that each service stays served and one bad program
//! reaches one host.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::{NodeName, ServiceName};

/// Most hosts that change at the same time, however many services there are: each downloads the program.
pub const HOSTS_MAX: usize = 8;

/// How a host stands to the new program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It runs it.
    Current,
    /// It runs another one.
    Behind,
    /// It is on its way from one to the other.
    Changing,
    /// It was to run it, and keeps its own; why.
    Failed(String),
    /// It cannot be told now: it is not there, or its version does not know how.
    Away,
}

/// A host, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub node: NodeName,
    /// What it serves.
    pub services: BTreeSet<ServiceName>,
    /// How it stands.
    pub standing: Standing,
}

/// Returns the hosts that are to change now; none after a failure, and none when all is done.
///
/// Of each service at most `at_once` hosts change at a time, of all hosts at most [`HOSTS_MAX`]. While nobody runs the new
/// program, one host at a time tries it.
pub fn next(hosts: &[Host], at_once: usize) -> Vec<&NodeName> {
    if hosts.iter().any(|host| matches!(host.standing, Standing::Failed(_))) {
        return Vec::new();
    }
    let changing = || hosts.iter().filter(|host| host.standing == Standing::Changing);
    let is_proven = hosts.iter().any(|host| host.standing == Standing::Current);
    let most = if is_proven { HOSTS_MAX } else { 1 };
    let mut total = changing().count();
    let mut busy: BTreeMap<&ServiceName, usize> = BTreeMap::new();
    for service in changing().flat_map(|host| &host.services) {
        *busy.entry(service).or_default() += 1;
    }
    let mut chosen = Vec::new();
    for host in hosts.iter().filter(|host| host.standing == Standing::Behind) {
        let is_free = |service| busy.get(service).copied().unwrap_or(0) < at_once;
        if total < most && host.services.iter().all(is_free) {
            total += 1;
            for service in &host.services {
                *busy.entry(service).or_default() += 1;
            }
            chosen.push(&host.node);
        }
    }
    chosen
}
