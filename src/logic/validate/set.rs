//! Do all objects make sense together: do they name services that exist, does every rule ever apply.

use std::collections::{BTreeMap, BTreeSet};

use crate::logic::authorize::{self, Source};
use crate::logic::compile::{in_force, parents, target};
use crate::logic::naming::similar;
use crate::logic::route::table::{Route, RouteKind};
use crate::logic::validate::problem::{Problem, Problems};
use crate::logic::validate::reach;
use crate::model::intention::{Action, IntentionSpec, Mode, ServicePattern};
use crate::model::name::ServiceName;
use crate::model::resource::{Key, Metadata, Object, Resource};
use crate::model::service::Protocol;
use crate::model::traffic_policy::TrafficPolicySpec;

/// Returns what is wrong or doubtful between objects, each of which is valid by itself; `known` are the services that
/// some node announces.
pub fn check(resources: &[Resource], known: &BTreeSet<ServiceName>) -> Vec<Problem> {
    let known = known_services(resources, known);
    let mut problems = Vec::new();
    let mut keys = BTreeSet::new();
    for resource in resources {
        let mut found = Problems::new(resource.key());
        if !keys.insert(resource.key()) {
            found.error("metadata.name", "there is a second object of this kind, namespace and name");
        }
        if let Some(route) = Route::of(resource) {
            dangling_route(route, &known, &mut found);
        }
        match resource {
            Resource::GrpcRoute(_)
            | Resource::HttpRoute(_)
            | Resource::TcpRoute(_)
            | Resource::Service(_) => {}
            Resource::Intention(intention) => dangling_intention(intention, &known, &mut found),
            Resource::TrafficPolicy(policy) => dangling_policy(policy, &known, &mut found),
        }
        problems.extend(found.into_vec());
    }
    problems.extend(reach::check(resources));
    problems.extend(contradictions(resources));
    problems.extend(deaf(resources));
    problems.extend(unguarded(resources));
    problems.extend(outranked(resources));
    problems
}

fn known_services(resources: &[Resource], announced: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    let mut known = announced.clone();
    for resource in resources {
        match resource {
            Resource::Service(service) => {
                let Metadata { name, namespace, .. } = &service.metadata;
                known.extend(ServiceName::new(name, namespace));
            }
            Resource::GrpcRoute(_)
            | Resource::HttpRoute(_)
            | Resource::Intention(_)
            | Resource::TcpRoute(_)
            | Resource::TrafficPolicy(_) => {}
        }
    }
    known
}

fn dangling_route(route: Route<'_>, known: &BTreeSet<ServiceName>, problems: &mut Problems) {
    let own = &route.metadata().namespace;
    for (index, parent) in route.parents().iter().enumerate() {
        let name = ServiceName::new(&parent.name, parent.namespace.as_ref().unwrap_or(own));
        if let Some(name) = name.ok().filter(|name| !known.contains(name)) {
            problems.warning(
                format!("spec.parentRefs[{index}].name"),
                format!("no node announces service {name} yet{}", similar::hint(&name, known)),
            );
        }
    }
    let meanwhile = match route.kind() {
        RouteKind::Http => "its share of requests is answered with 500",
        RouteKind::Grpc => "its share of calls is answered with UNAVAILABLE",
        RouteKind::Tcp => "its share of connections is closed",
    };
    for (path, name) in backends(route) {
        if !known.contains(&name) {
            let hint = similar::hint(&name, known);
            problems.warning(path, format!("no node announces service {name} yet: {meanwhile}{hint}"));
        }
    }
}

/// Returns the services that a route leads to, each with the path of the field that names it.
fn backends(route: Route<'_>) -> Vec<(String, ServiceName)> {
    let own = &route.metadata().namespace;
    let mut found = Vec::new();
    for (index, backends) in route.backends().into_iter().enumerate() {
        for (at, backend) in backends.iter().enumerate() {
            let name = ServiceName::new(&backend.name, backend.namespace.as_ref().unwrap_or(own));
            found.extend(name.ok().map(|name| (format!("spec.rules[{index}].backendRefs[{at}].name"), name)));
        }
    }
    found
}

fn dangling_intention(
    intention: &Object<IntentionSpec>,
    known: &BTreeSet<ServiceName>,
    problems: &mut Problems,
) {
    let namespace = &intention.metadata.namespace;
    let mut check = |name: &ServiceName, path: String| {
        if !known.contains(name) {
            let hint = similar::hint(name, known);
            problems.warning(path, format!("no node announces service {name} yet{hint}"));
        }
    };
    if let Ok(ServicePattern::One(name)) = authorize::destination(&intention.spec.destination, namespace) {
        check(&name, "spec.destination".to_owned());
    }
    for (index, wanted) in intention.spec.sources.iter().enumerate() {
        if let Ok(Source::Service(ServicePattern::One(name))) = authorize::source(wanted, namespace) {
            check(&name, format!("spec.sources[{index}].service"));
        }
    }
}

fn dangling_policy(
    policy: &Object<TrafficPolicySpec>,
    known: &BTreeSet<ServiceName>,
    problems: &mut Problems,
) {
    if let Some(name) = target(policy).filter(|name| !known.contains(name)) {
        let hint = similar::hint(&name, known);
        problems.warning("spec.targetRef.name", format!("no node announces service {name} yet{hint}"));
    }
}

/// Finds traffic policies that never apply, because an older one is about the same service.
fn outranked(resources: &[Resource]) -> Vec<Problem> {
    let policies: Vec<_> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::TrafficPolicy(policy) => Some((policy, resource.key())),
            Resource::GrpcRoute(_)
            | Resource::HttpRoute(_)
            | Resource::Intention(_)
            | Resource::Service(_)
            | Resource::TcpRoute(_) => None,
        })
        .collect();
    let winners = in_force(policies.iter().map(|(policy, _)| *policy));
    let mut problems = Vec::new();
    for (policy, key) in policies {
        let Some(service) = target(policy) else { continue };
        let Some(winner) = winners.get(&service).filter(|winner| winner.metadata != policy.metadata) else {
            continue;
        };
        let mut found = Problems::new(key);
        let name = &winner.metadata.name;
        found.warning(
            "spec.targetRef.name",
            format!(
                "TrafficPolicy/{name} is older and about service {service} too: this one is not in force"
            ),
        );
        problems.extend(found.into_vec());
    }
    problems
}

/// Finds rules about requests for services that are declared to speak none: nobody looks into their connections.
fn deaf(resources: &[Resource]) -> Vec<Problem> {
    let mut opaque = BTreeSet::new();
    for resource in resources {
        if let Resource::Service(service) = resource
            && service.spec.protocol == Some(Protocol::Tcp)
        {
            opaque.extend(ServiceName::new(&service.metadata.name, &service.metadata.namespace));
        }
    }
    let mut problems = Vec::new();
    for resource in resources {
        let Resource::Intention(intention) = resource else { continue };
        let Metadata { namespace, .. } = &intention.metadata;
        let Ok(ServicePattern::One(name)) = authorize::destination(&intention.spec.destination, namespace)
        else {
            continue;
        };
        if opaque.contains(&name) && !intention.spec.rules.is_empty() {
            let does = match intention.spec.action {
                Action::Allow => "allow none of them",
                Action::Deny => "deny all of them",
            };
            let mut found = Problems::new(resource.key());
            let message = format!(
                "service {name} speaks tcp: nobody looks into its connections, and these rules {does}"
            );
            found.warning("spec.rules", message);
            problems.extend(found.into_vec());
        }
    }
    problems
}

/// Finds ways around an intention: a route of a service that only some may call, to one that nobody is kept from.
///
/// What decides is who calls the backend in the end, so that its intentions hold on every way to it; those of the
/// service that was named say nothing of it.
fn unguarded(resources: &[Resource]) -> Vec<Problem> {
    let mut guarded = Vec::new();
    for resource in resources {
        if let Resource::Intention(intention) = resource
            && intention.spec.action == Action::Allow
            && intention.spec.mode != Some(Mode::Audit)
        {
            guarded
                .extend(authorize::destination(&intention.spec.destination, &intention.metadata.namespace));
        }
    }
    let is_guarded =
        |service: &ServiceName| guarded.iter().any(|pattern| authorize::covers(pattern, service));
    let mut problems = Vec::new();
    for resource in resources {
        let Some(route) = Route::of(resource) else { continue };
        let Some((service, ..)) = parents(route).find(|(service, ..)| is_guarded(service)) else { continue };
        let mut found = Problems::new(resource.key());
        for (path, name) in backends(route) {
            if !is_guarded(&name) {
                found.warning(
                    path,
                    format!(
                        "only some may call {service}, and no intention says who may call {name}: whoever is \
                         refused there gets in here, unless the mesh denies by default"
                    ),
                );
            }
        }
        problems.extend(found.into_vec());
    }
    problems
}

/// Finds callers that one intention allows and another denies.
fn contradictions(resources: &[Resource]) -> Vec<Problem> {
    let mut said: BTreeMap<(String, String), BTreeMap<bool, Key>> = BTreeMap::new();
    let mut problems = Vec::new();
    for resource in resources {
        let Resource::Intention(intention) = resource else { continue };
        let namespace = &intention.metadata.namespace;
        let Ok(destination) = authorize::destination(&intention.spec.destination, namespace) else {
            continue;
        };
        if !intention.spec.rules.is_empty() || intention.spec.mode == Some(Mode::Audit) {
            continue;
        }
        let mut found = Problems::new(resource.key());
        let allows = intention.spec.action == Action::Allow;
        for (index, wanted) in intention.spec.sources.iter().enumerate() {
            let Ok(source) = authorize::source(wanted, namespace) else { continue };
            let by = said.entry((format!("{destination:?}"), format!("{source:?}"))).or_default();
            if let Some(other) = by.get(&!allows) {
                found.warning(
                    format!("spec.sources[{index}]"),
                    format!("{other} says the opposite of the same caller: the one that denies wins"),
                );
            }
            by.entry(allows).or_insert_with(|| resource.key());
        }
        problems.extend(found.into_vec());
    }
    problems
}
