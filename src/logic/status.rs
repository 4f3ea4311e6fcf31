//! Resources × services that are there → how each route fares, in the conditions and reasons of the Gateway API.

use std::collections::{BTreeMap, BTreeSet};

use crate::logic::compile::{is_at, parents};
use crate::logic::route::table::{Route, RouteKind};
use crate::logic::validate;
use crate::logic::validate::problem::Problem;
use crate::model::name::ServiceName;
use crate::model::resource::Resource;
use crate::model::route::ParentRef;
use crate::model::route_filter::HttpRouteFilter;
use crate::model::route_status::{
    CONTROLLER, Condition, ConditionStatus, ConditionType, ParentStatus, Reason, RouteStatus,
};
use crate::model::service_spec::ServicePort;

/// What is to be known of everything to say how one route fares.
#[derive(Debug, Default)]
pub struct Fates<'a> {
    /// Every service that is announced or spoken of, with its ports.
    services: BTreeMap<ServiceName, &'a [ServicePort]>,
    /// The kind that counts for a service, one of its ports, and callers of a namespace.
    strongest: BTreeMap<(ServiceName, Option<u16>, &'a str), RouteKind>,
}

/// A service that a route sends to, and the port of it.
type Reference<'a> = (&'a str, Option<&'a str>, Option<u16>);

impl<'a> Fates<'a> {
    /// Looks at everything; `announced` are the services that some node runs.
    pub fn new(
        resources: impl IntoIterator<Item = &'a Resource> + Clone,
        announced: impl IntoIterator<Item = ServiceName>,
    ) -> Self {
        let mut fates = Self::default();
        fates.services.extend(announced.into_iter().map(|name| (name, &[][..])));
        for resource in resources.clone() {
            if let Resource::Service(service) = resource
                && let Ok(name) = ServiceName::new(&service.metadata.name, &service.metadata.namespace)
            {
                fates.services.insert(name, &service.spec.ports);
            }
        }
        for route in resources.into_iter().filter_map(Route::of) {
            for (service, parent, _) in parents(route) {
                for port in fates.ports(&service, parent) {
                    let key = (service.clone(), port, route.metadata().namespace.as_str());
                    let strongest = fates.strongest.entry(key).or_default();
                    *strongest = route.kind().max(*strongest);
                }
            }
        }
        fates
    }

    /// Returns how a route fares; `None` for what is none.
    pub fn of(&self, resource: &Resource) -> Option<RouteStatus> {
        let route = Route::of(resource)?;
        let generation = route.metadata().generation.unwrap_or(1);
        let say = |kind, holds: bool, reason, message: String| Condition {
            kind,
            status: if holds { ConditionStatus::True } else { ConditionStatus::False },
            reason,
            message,
            observed_generation: generation,
            last_transition_time: None,
        };
        let missing = self.missing(resource, route);
        let resolved = if missing.is_empty() {
            let message = "every service that it sends to is there".to_owned();
            say(ConditionType::ResolvedRefs, true, Reason::ResolvedRefs, message)
        } else {
            say(ConditionType::ResolvedRefs, false, Reason::BackendNotFound, missing.join("; "))
        };
        let faults = Faults::of(resource, route);
        let parent = |parent: &ParentRef| {
            let (accepted, reason, message) = match &faults {
                Faults::All(first) => (false, Reason::UnsupportedValue, first.clone()),
                Faults::None | Faults::Some(_) => self.accepted(route, parent),
            };
            let mut conditions =
                vec![say(ConditionType::Accepted, accepted, reason, message), resolved.clone()];
            if let (Faults::Some(first), true) = (&faults, accepted) {
                let message =
                    format!("Fall Back: proxies keep the last revision that they could obey: {first}");
                let kind = ConditionType::PartiallyInvalid;
                conditions.push(say(kind, true, Reason::UnsupportedValue, message));
            }
            ParentStatus { parent_ref: parent.clone(), controller_name: CONTROLLER.to_owned(), conditions }
        };
        Some(RouteStatus { parents: route.parents().iter().map(parent).collect() })
    }

    fn accepted(&self, route: Route<'_>, parent: &ParentRef) -> (bool, Reason, String) {
        let own = &route.metadata().namespace;
        let of = parent.namespace.as_ref().unwrap_or(own);
        let Some(service) =
            ServiceName::new(&parent.name, of).ok().filter(|name| self.services.contains_key(name))
        else {
            let message = format!("no node announces service {}.{of} yet", parent.name);
            return (false, Reason::NoMatchingParent, message);
        };
        let ports = self.ports(&service, parent);
        if ports.is_empty() {
            return (false, Reason::NoMatchingParent, format!("service {service} has no such port"));
        }
        let counts = |port: &Option<u16>| {
            self.strongest.get(&(service.clone(), *port, own.as_str())) == Some(&route.kind())
        };
        if !ports.iter().any(counts) {
            let message = format!("a route of a more specific kind for service {service} takes its place");
            return (false, Reason::Conflicted, message);
        }
        let whose = if of == own { "all callers".to_owned() } else { format!("callers in namespace {own}") };
        (true, Reason::Accepted, format!("attached to service {service} for {whose}"))
    }

    /// Returns which ports of a service a reference means; one that stands for all of them without any.
    fn ports(&self, service: &ServiceName, parent: &ParentRef) -> Vec<Option<u16>> {
        let ports = self.services.get(service).copied().unwrap_or_default();
        if ports.is_empty() {
            return vec![None];
        }
        ports.iter().filter(|port| is_at(parent, port)).map(|port| Some(port.port)).collect()
    }

    /// Returns what of the services that a route sends to is not there, in words.
    fn missing(&self, resource: &Resource, route: Route<'_>) -> Vec<String> {
        let own = &route.metadata().namespace;
        let backends = route.backends().into_iter().flatten();
        let backends =
            backends.map(|backend| (backend.name.as_str(), backend.namespace.as_deref(), backend.port));
        let mut said = BTreeSet::new();
        for (name, namespace, port) in backends.chain(mirrors(resource)) {
            let namespace = namespace.unwrap_or(own);
            let known =
                ServiceName::new(name, namespace).ok().and_then(|name| self.services.get(&name).copied());
            match (known, port) {
                (None, _) => {
                    said.insert(format!("no node announces service {name}.{namespace} yet"));
                }
                (Some(ports), Some(port))
                    if !ports.is_empty() && ports.iter().all(|known| known.port != port) =>
                {
                    said.insert(format!("service {name}.{namespace} has no port {port}"));
                }
                (Some(_), _) => {}
            }
        }
        said.into_iter().collect()
    }
}

/// Returns the services that get copies.
fn mirrors(resource: &Resource) -> Vec<Reference<'_>> {
    let filters: Vec<&HttpRouteFilter> = match resource {
        Resource::HttpRoute(route) => {
            let rules = route.spec.rules.iter();
            rules
                .flat_map(|rule| {
                    rule.filters.iter().chain(rule.backend_refs.iter().flat_map(|backend| &backend.filters))
                })
                .collect()
        }
        Resource::GrpcRoute(route) => {
            let rules = route.spec.rules.iter();
            rules
                .flat_map(|rule| {
                    rule.filters.iter().chain(rule.backend_refs.iter().flat_map(|backend| &backend.filters))
                })
                .collect()
        }
        Resource::TcpRoute(_)
        | Resource::Intention(_)
        | Resource::Service(_)
        | Resource::TrafficPolicy(_) => Vec::new(),
    };
    let mirrors = filters.into_iter().filter_map(|filter| filter.request_mirror.as_ref());
    mirrors
        .map(|mirror| {
            let backend = &mirror.backend_ref;
            (backend.name.as_str(), backend.namespace.as_deref(), backend.port)
        })
        .collect()
}

/// Which rules of a stored route cannot be obeyed: none, as nothing else is stored, unless it was by a version of this
/// program that could.
enum Faults {
    None,
    /// With the first.
    Some(String),
    /// With the first.
    All(String),
}

impl Faults {
    fn of(resource: &Resource, route: Route<'_>) -> Self {
        let errors: Vec<_> = validate::object(resource).into_iter().filter(Problem::is_error).collect();
        let Some(first) = errors.first().map(ToString::to_string) else { return Self::None };
        let wrong = |index: usize| {
            let at = format!("spec.rules[{index}]");
            errors.iter().any(|error| error.path.starts_with(&at))
        };
        let rules = route.backends().len();
        let elsewhere = errors.iter().any(|error| !error.path.starts_with("spec.rules["));
        if elsewhere || (0..rules).all(wrong) { Self::All(first) } else { Self::Some(first) }
    }
}
