//! Do routes, and the rules in them, ever take anything, or do others always go before.

use std::collections::BTreeMap;

use crate::logic::compile::{is_at, parents};
use crate::logic::route::table::{Route, precedence};
use crate::logic::validate::problem::{Problem, Problems};
use crate::model::grpc_route::GrpcRouteMatch;
use crate::model::name::ServiceName;
use crate::model::resource::{Key, Resource};
use crate::model::route::{HeaderMatchKind, HttpHeaderMatch, HttpRouteMatch, PathMatchKind};
use crate::model::service_spec::ServicePort;

/// Where routes compete: for calls to one port of a service (`None` for one without ports of its own), of callers of the
/// routes' namespace or of all.
type Place<'a> = (ServiceName, Option<u16>, &'a str);

/// What does not apply to calls to a service: the route, the service, and the rule, or `None` for all of them.
type Hidden = (Key, ServiceName, Option<usize>);

/// Finds routes that never apply because there is one of a more specific kind, and rules that never apply because others
/// with the very same conditions go before.
///
/// Only equal matches can hide each other: of two different ones, the one that takes less goes first by precedence. (A
/// regular expression that takes all of a prefix does too; nobody can tell that from its text.)
pub fn check(resources: &[Resource]) -> Vec<Problem> {
    let mut places_of: BTreeMap<(Key, ServiceName), usize> = BTreeMap::new();
    let mut hidden: BTreeMap<Hidden, (usize, String)> = BTreeMap::new();
    for ((service, ..), mut routes) in places(resources) {
        routes.sort_by_cached_key(|(_, route)| precedence(route.metadata()));
        let Some(strongest) = routes.iter().map(|(_, route)| route.kind()).max() else { continue };
        let winner = routes.iter().find(|(_, route)| route.kind() == strongest).map(|(key, _)| key.clone());
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        for (key, route) in routes {
            *places_of.entry((key.clone(), service.clone())).or_default() += 1;
            let mut hide = |rule: Option<usize>, by: String| {
                hidden.entry((key.clone(), service.clone(), rule)).or_insert((0, by)).0 += 1;
            };
            if route.kind() != strongest {
                hide(None, winner.as_ref().map(ToString::to_string).unwrap_or_default());
                continue;
            }
            for (index, by) in hidden_rules(route, &mut first) {
                hide(Some(index), by);
            }
        }
    }
    // What applies at one port is no mistake.
    let everywhere = hidden.into_iter().filter(|((key, service, _), (count, _))| {
        places_of.get(&(key.clone(), service.clone())).is_some_and(|places| places == count)
    });
    everywhere.flat_map(|(what, (_, by))| problem(what, &by, resources)).collect()
}

/// Returns the rules of a route that others go before, and which. `first` has, for each match seen so far, the rule that it
/// belongs to.
fn hidden_rules(route: Route<'_>, first: &mut BTreeMap<String, String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, wanted) in conditions(route).into_iter().enumerate() {
        let before: Option<Vec<_>> = wanted.iter().map(|wanted| first.get(wanted)).collect();
        let by = before.as_ref().and_then(|before| before.first());
        found.extend(by.map(|by| (index, (*by).clone())));
        let rule = || format!("rule {index} of {}", route.metadata().name);
        for wanted in wanted {
            first.entry(wanted).or_insert_with(rule);
        }
    }
    found
}

fn problem((key, service, rule): Hidden, by: &str, resources: &[Resource]) -> Vec<Problem> {
    let mut found = Problems::new(key.clone());
    if let Some(index) = rule {
        found.warning(
            format!("spec.rules[{index}]"),
            format!(
                "this rule never applies to calls to {service}: {by} has the same matches and goes before"
            ),
        );
    } else {
        let route = resources.iter().find(|resource| resource.key() == key).and_then(Route::of);
        let at = route.and_then(|route| parents(route).position(|(parent, ..)| parent == service));
        found.warning(
            format!("spec.parentRefs[{}]", at.unwrap_or(0)),
            format!("{by} is of a more specific kind: this route does not apply to calls to {service}"),
        );
    }
    found.into_vec()
}

/// Returns which routes there are at each place, each once.
fn places(resources: &[Resource]) -> BTreeMap<Place<'_>, Vec<(Key, Route<'_>)>> {
    let mut ports: BTreeMap<ServiceName, &[ServicePort]> = BTreeMap::new();
    for resource in resources {
        if let Resource::Service(service) = resource
            && let Ok(name) = ServiceName::new(&service.metadata.name, &service.metadata.namespace)
        {
            ports.insert(name, &service.spec.ports);
        }
    }
    let mut places: BTreeMap<Place<'_>, Vec<(Key, Route<'_>)>> = BTreeMap::new();
    for resource in resources {
        let Some(route) = Route::of(resource) else { continue };
        for (service, parent, _) in parents(route) {
            let meant: Vec<Option<u16>> = match ports.get(&service).copied().unwrap_or_default() {
                [] => vec![None],
                ports => {
                    ports.iter().filter(|port| is_at(parent, port)).map(|port| Some(port.port)).collect()
                }
            };
            for port in meant {
                let place = (service.clone(), port, route.metadata().namespace.as_str());
                let there = places.entry(place).or_default();
                if there.iter().all(|(key, _)| *key != resource.key()) {
                    there.push((resource.key(), route));
                }
            }
        }
    }
    places
}

/// Returns, for each rule, a text for each of its matches that is the same for two of them exactly when they take the same
/// calls for the same reasons.
fn conditions(route: Route<'_>) -> Vec<Vec<String>> {
    match route {
        Route::Http(route) => route.spec.rules.iter().map(|rule| of_each(&rule.matches, of_http)).collect(),
        Route::Grpc(route) => route.spec.rules.iter().map(|rule| of_each(&rule.matches, of_grpc)).collect(),
        // The first takes every connection.
        Route::Tcp(route) => route.spec.rules.iter().map(|_| vec![String::new()]).collect(),
    }
}

/// Returns the text of each match; a rule without any has the one that takes everything.
fn of_each<M: Default>(matches: &[M], of: fn(&M) -> String) -> Vec<String> {
    if matches.is_empty() { vec![of(&M::default())] } else { matches.iter().map(of).collect() }
}

fn of_http(wanted: &HttpRouteMatch) -> String {
    let (kind, path) = match &wanted.path {
        None => (PathMatchKind::PathPrefix, ""),
        Some(path) => match path.kind {
            PathMatchKind::PathPrefix => (path.kind, path.value.trim_end_matches('/')),
            PathMatchKind::Exact | PathMatchKind::RegularExpression => (path.kind, path.value.as_str()),
        },
    };
    let mut query = BTreeMap::new();
    for param in &wanted.query_params {
        query.entry(&param.name).or_insert_with(|| (format!("{:?}", param.kind), &param.value));
    }
    format!("{kind:?} {path:?} {:?} {} {query:?}", wanted.method, of_headers(&wanted.headers))
}

fn of_grpc(wanted: &GrpcRouteMatch) -> String {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let method = wanted.method.clone().unwrap_or_default();
    let (service, name) = (said(&method.service), said(&method.method));
    let kind = if service.is_none() && name.is_none() { HeaderMatchKind::Exact } else { method.kind };
    format!("{kind:?} {service:?} {name:?} {}", of_headers(&wanted.headers))
}

fn of_headers(headers: &[HttpHeaderMatch]) -> String {
    let mut by_name = BTreeMap::new();
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        by_name.entry(name).or_insert_with(|| (format!("{:?}", header.kind), &header.value));
    }
    format!("{by_name:?}")
}
