//! Resources → problems, each with the field it is about.
//!
//! [`object`] looks at one object by itself: what it refuses is never stored, and what it accepts, `logic::compile` can
//! obey; [`written()`] at one that somebody writes. [`set()`] looks at all of them together; it mostly doubts, because objects may be written in any order.
//! [`change()`] tells what a write of some does to all.

pub mod problem;
pub mod reference;
pub mod route_match;
pub mod route_filter;
pub mod route;
pub mod grpc_route;
pub mod tcp_route;
pub mod intention;
pub mod service;
pub mod traffic_policy;
pub mod reach;
pub mod set;

use std::collections::{BTreeMap, BTreeSet};

use crate::logic::route::table::Route;
use crate::logic::validate::problem::{Problem, Problems};
use crate::model::name::{MESH_DOMAIN, ServiceName, is_label};
use crate::model::resource::{Key, Kind, Metadata, Resource};
use crate::model::snapshot::Snapshot;

const NAME_BYTES_MAX: usize = 253;

/// Returns what is wrong or doubtful in an object by itself, in the order of its fields.
pub fn object(resource: &Resource) -> Vec<Problem> {
    let mut problems = Problems::new(resource.key());
    metadata(resource.metadata(), resource.kind(), &mut problems);
    match resource {
        Resource::GrpcRoute(route) => grpc_route::check(route, &mut problems),
        Resource::HttpRoute(route) => route::check(route, &mut problems),
        Resource::Intention(intention) => intention::check(intention, &mut problems),
        Resource::Service(service) => service::check(&service.spec, &mut problems),
        Resource::TcpRoute(route) => tcp_route::check(route, &mut problems),
        Resource::TrafficPolicy(policy) => traffic_policy::check(&policy.spec, &mut problems),
    }
    problems.into_vec()
}

/// As [`object`], for an object that somebody writes: with what is wrong in what it leaves unsaid, which is no reason not to
/// obey one that was stored when it was not wrong yet.
pub fn written(resource: &Resource) -> Vec<Problem> {
    let mut problems = Problems::new(resource.key());
    if let Some(route) = Route::of(resource) {
        reference::unsaid(route.parents(), &mut problems);
    }
    let mut all = object(resource);
    all.extend(problems.into_vec());
    all
}

/// Returns what is wrong or doubtful between objects, each of which is valid by itself; `known` are the services that
/// some node announces.
pub fn set(resources: &[Resource], known: &BTreeSet<ServiceName>) -> Vec<Problem> {
    set::check(resources, known)
}

/// Returns what is wrong or doubtful once `written` has been written over, and `removed` taken out of, `stored`: every
/// problem of what is written, and those of other objects that were not there before. `known` are the services that some
/// node announces.
pub fn change(
    stored: &[Resource],
    written: &[Resource],
    removed: &BTreeSet<Key>,
    known: &BTreeSet<ServiceName>,
) -> Vec<Problem> {
    let mut problems: Vec<_> = written.iter().flat_map(self::written).collect();
    if problems.iter().any(Problem::is_error) {
        return problems;
    }
    let keys: BTreeSet<Key> = written.iter().map(Resource::key).collect();
    let stays = |object: &&Resource| {
        let key = object.key();
        !keys.contains(&key) && !removed.contains(&key)
    };
    let mut after: Vec<Resource> = stored.iter().filter(stays).cloned().collect();
    after.extend_from_slice(written);
    let before = set(stored, known);
    let is_news = |problem: &Problem| keys.contains(&problem.object) || !before.contains(problem);
    problems.extend(set(&after, known).into_iter().filter(is_news));
    problems
}

/// Decides whether a proxy can obey a snapshot, all of it; `before` is one that it can obey, whose objects need not be looked
/// at again.
///
/// # Errors
/// The first error, as a sentence that names the object and the field: the revision is to be refused.
pub fn snapshot(snapshot: &Snapshot, before: &Snapshot) -> Result<(), String> {
    let known: BTreeMap<_, _> = before.resources.iter().map(|resource| (resource.key(), resource)).collect();
    let new = snapshot.resources.iter().filter(|resource| known.get(&resource.key()) != Some(resource));
    let mut errors = new.flat_map(object).filter(Problem::is_error);
    errors.next().map_or(Ok(()), |problem| Err(problem.to_string()))
}

fn metadata(metadata: &Metadata, kind: Kind, problems: &mut Problems) {
    let name = &metadata.name;
    let valid = match kind {
        Kind::GrpcRoute | Kind::HttpRoute | Kind::Intention | Kind::TcpRoute | Kind::TrafficPolicy => {
            is_subdomain(name)
        }
        Kind::Service => is_label(name),
    };
    if !valid {
        let expected = match kind {
            Kind::GrpcRoute | Kind::HttpRoute | Kind::Intention | Kind::TcpRoute | Kind::TrafficPolicy => {
                "labels of a-z, 0-9 and '-' joined by dots, 253 bytes at most"
            }
            Kind::Service => "the name of a service: 1 to 63 of a-z, 0-9 and '-'",
        };
        problems.error("metadata.name", format!("'{name}' is not a name: expected {expected}"));
    }
    let namespace = &metadata.namespace;
    if !is_label(namespace) {
        let expected = "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
        problems
            .error("metadata.namespace", format!("'{namespace}' is not a namespace: expected {expected}"));
    } else if namespace == MESH_DOMAIN {
        problems.error(
            "metadata.namespace",
            format!("'{MESH_DOMAIN}' is the mesh's own domain, not a namespace"),
        );
    }
    if let Some(text) = &metadata.creation_timestamp
        && text.parse::<jiff::Timestamp>().is_err()
    {
        problems.error("metadata.creationTimestamp", format!("'{text}' is not a time: expected RFC 3339"));
    }
}

/// A DNS subdomain in lower case (RFC 1123): what Kubernetes takes for the name of an object.
fn is_subdomain(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label)
}
