//! Why a call ends where it does: the decisions of the caller's proxy and of the called one, made here from the same
//! snapshot and catalogue by the same deciders. What only a proxy knows (latencies, what is under way) stays with it.

use crate::api::why::{
    Why, WhyBackend, WhyEndpoint, WhyHead, WhyIntention, WhyRequest, WhyRoute, WhyTraffic,
};
use crate::control::plane::Plane;
use crate::logic::authorize::request::Asked;
use crate::logic::authorize::{Call, Verdict, authorize};
use crate::logic::balance::balancer::{Algorithm, BalanceRules, HashKey};
use crate::logic::compile::{Policy, ServicePolicy, compile, in_force};
use crate::logic::http::fields::Fields;
use crate::logic::http::head::RequestHead;
use crate::logic::metric::report::ProxyStatus;
use crate::logic::naming::similar;
use crate::logic::request::Head;
use crate::logic::route::filter::Filters;
use crate::logic::route::table::{RouteKind, Rule};
use crate::model::endpoint::Catalog;
use crate::model::identity::Subject;
use crate::model::name::{NodeName, ServiceName};
use crate::model::resource::{Key, Resource};

/// Header fields of one question.
const HEADERS_MAX: usize = 128;

/// Answers a question.
///
/// # Errors
/// With a sentence, when it is not a request that anybody could send.
pub fn why(plane: &Plane, question: WhyRequest) -> Result<Why, String> {
    let published = plane.publisher.newest();
    let catalog = plane.catalog.borrow().clone();
    let node = question.node.clone().or_else(|| home(&catalog, &question.source));
    let statuses = plane.collector.statuses();
    let status = statuses.iter().find(|(name, _)| Some(name) == node.as_ref()).map(|(_, status)| status);
    let me = node.clone().unwrap_or_else(|| plane.node.clone());
    let policy = compile(&published.snapshot, &catalog, &me);
    let desk = Desk { policy, resources: &published.snapshot.resources, status, source: &question.source };
    let named = Named { service: &question.destination, port: question.port };
    let head = question.request.as_ref().map(|asked| head_of(asked, &named)).transpose()?;
    let (route, backends, ending) = desk.decide(&question.destination, question.port, head);
    let taken = backends.iter().filter(|backend| backend.share > 0.0).collect::<Vec<_>>();
    let (outcome, passes) = match ending {
        Some(Ending { outcome, passes }) => (outcome, passes),
        None => (said(&taken), taken.iter().all(|backend| backend.refusal().is_none())),
    };
    Ok(Why {
        revision: published.revision(),
        source: question.source,
        node,
        destination: question.destination,
        request: question.request,
        route,
        backends,
        outcome,
        passes,
    })
}

/// Finds a node where the caller runs.
fn home(catalog: &Catalog, source: &Subject) -> Option<NodeName> {
    match source {
        Subject::Node(node) | Subject::Control(node) | Subject::Operator(node) => Some(node.clone()),
        Subject::Service(service) => catalog.endpoints(service).into_iter().map(|at| at.node).next(),
    }
}

/// Which service a request names.
struct Named<'q> {
    service: &'q ServiceName,
    port: Option<u16>,
}

impl Named<'_> {
    /// Returns the `Host` that callers usually say.
    fn host(&self) -> String {
        let host = self.service.host();
        self.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }
}

/// Makes the request. Its `Host` is the one that it says, else the usual one of the service.
fn head_of(asked: &WhyHead, named: &Named<'_>) -> Result<RequestHead, String> {
    let method = asked.method.parse().map_err(|_| format!("'{}' is not a method", asked.method))?;
    if !asked.path.starts_with('/') && asked.path != "*" {
        return Err(format!("'{}' is not a path: expected one that begins with '/'", asked.path));
    }
    if asked.headers.len() > HEADERS_MAX {
        return Err(format!("there are more than {HEADERS_MAX} header fields"));
    }
    let mut fields = Fields::new();
    let mut host = None;
    for (name, value) in &asked.headers {
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        let valid = http::HeaderName::try_from(&name).is_ok() && http::HeaderValue::try_from(value).is_ok();
        if !valid {
            return Err(format!("'{name}: {value}' is not a header field"));
        }
        if name == "host" {
            host = Some(value.to_owned());
        } else {
            fields.append(name.as_bytes(), value.as_bytes());
        }
    }
    let authority = Some(host.unwrap_or_else(|| named.host()));
    Ok(RequestHead { method, path: asked.path.clone(), authority, fields, ..RequestHead::default() })
}

/// Lets a request pass filters.
///
/// # Errors
/// When they answer it themselves: how.
fn filtered(mut head: RequestHead, filters: &Filters, service: &ServiceName) -> Result<RequestHead, String> {
    if let Some(answer) = filters.answer(&head, service.name()) {
        let location = answer.fields.get("location").map(|at| String::from_utf8_lossy(at).into_owned());
        let to = location.map(|location| format!(" to {location}")).unwrap_or_default();
        return Err(format!("{}{to}: a filter answers it", answer.status));
    }
    if let Some(change) = &filters.request {
        change.apply(&mut head.fields);
    }
    if let Some(rewrite) = &filters.rewrite {
        rewrite.apply(&mut head);
    }
    Ok(head)
}

/// How a call ends that comes to no backend.
struct Ending {
    outcome: String,
    passes: bool,
}

/// What decides one question.
struct Desk<'a> {
    policy: Policy,
    resources: &'a [Resource],
    status: Option<&'a ProxyStatus>,
    source: &'a Subject,
}

impl Desk<'_> {
    /// Goes through the stages; returns how the call ends if it does so before a backend.
    fn decide(
        &self,
        wanted: &ServiceName,
        port: Option<u16>,
        head: Option<RequestHead>,
    ) -> (Option<WhyRoute>, Vec<WhyBackend>, Option<Ending>) {
        let Some(service) = self.at(wanted, port) else {
            let hint = similar::hint(wanted, self.policy.services().map(|(name, _)| name));
            let outcome = format!("404 (NR): no node announces {wanted}, and no object speaks of it{hint}");
            return (None, Vec::new(), Some(Ending { outcome, passes: false }));
        };
        let table = service.routes.table(self.source.service().map(ServiceName::namespace));
        let rule = match (table, &head) {
            (None, _) => return (None, vec![self.backend((wanted, port), 1.0, head.as_ref())], None),
            (Some(table), None) if table.kind != RouteKind::Tcp => {
                return (None, vec![self.backend((wanted, port), 1.0, None)], None);
            }
            (Some(table), None) => table.rules().first(),
            (Some(table), Some(head)) => table.find(&view(head)),
        };
        let Some(rule) = rule else {
            let route = WhyRoute { rule: None, object: None, written: None };
            let outcome = format!("404 (NR): {wanted} has routes, and no rule of them takes this request");
            return (Some(route), Vec::new(), Some(Ending { outcome, passes: false }));
        };
        let route = self.route(wanted, rule);
        let head = match head.map(|head| filtered(head, &rule.filters, wanted)).transpose() {
            Ok(head) => head,
            Err(outcome) => return (Some(route), Vec::new(), Some(Ending { outcome, passes: true })),
        };
        let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        if total == 0 {
            let outcome = format!("500 (NC): rule {} has no backend with a share", rule.label);
            return (Some(route), Vec::new(), Some(Ending { outcome, passes: false }));
        }
        let each = rule.backends.iter().map(|backend| {
            let share = f64::from(backend.weight) / total as f64;
            let place = (&backend.service, backend.port);
            match head.clone().map(|head| filtered(head, &backend.filters, &backend.service)).transpose() {
                Ok(head) => self.backend(place, share, head.as_ref()),
                Err(answer) => {
                    WhyBackend { answered: Some(answer), ..self.backend(place, share, head.as_ref()) }
                }
            }
        });
        (Some(route), each.collect(), None)
    }

    /// Finds a service, or one of its ports.
    fn at(&self, service: &ServiceName, port: Option<u16>) -> Option<&ServicePolicy> {
        let policy = self.policy.service(service)?;
        match (port, policy.ports.as_slice()) {
            (_, []) | (None, _) => Some(policy),
            (Some(port), ports) => ports.iter().find(|(number, _)| *number == port).map(|(_, policy)| policy),
        }
    }

    /// Finds the rule as it was written, by its label.
    fn route(&self, wanted: &ServiceName, rule: &Rule) -> WhyRoute {
        let label = rule.label.to_string();
        let found = label.rsplit_once('/').and_then(|(route, rule)| {
            let named = |object: &&Resource| {
                let spec = serde_json::to_value(object).unwrap_or_default();
                let is_route = spec["spec"]["parentRefs"]
                    .as_array()
                    .is_some_and(|parents| parents.iter().any(|parent| parent["name"] == wanted.name()));
                object.metadata().name == route && is_route
            };
            let object = self.resources.iter().find(named)?;
            let spec = serde_json::to_value(object).unwrap_or_default();
            let rules = spec["spec"]["rules"].as_array().cloned().unwrap_or_default();
            let by_name = rules.iter().find(|written| written["name"] == rule);
            let written = by_name.or_else(|| rules.get(rule.parse::<usize>().ok()?)).cloned();
            Some((object.key(), written))
        });
        let (key, written) = found.map_or((None, None), |(key, written)| (Some(key), written));
        WhyRoute { rule: Some(label), object: key.as_ref().map(Key::path), written }
    }

    fn backend(
        &self,
        (service, port): (&ServiceName, Option<u16>),
        share: f64,
        head: Option<&RequestHead>,
    ) -> WhyBackend {
        let known = self.at(service, port);
        let asked = head.map_or(Asked::Connection, |head| Asked::Request(view(head)));
        let verdict = authorize(&self.policy, &Call { peer: self.source, destination: service, asked });
        let intention = match verdict {
            Verdict::Allow { by, audit } => {
                WhyIntention { allowed: true, by: by.to_string(), audit: audit.map(|rule| rule.to_string()) }
            }
            Verdict::Deny { rule } => WhyIntention { allowed: false, by: rule.to_string(), audit: None },
        };
        WhyBackend {
            service: service.clone(),
            share,
            answered: None,
            request: head.map(shown),
            known: known.is_some(),
            endpoints: known.map(|known| self.endpoints(service, known)).unwrap_or_default(),
            traffic: self.traffic(service, known),
            intention,
        }
    }

    fn endpoints(&self, service: &ServiceName, known: &ServicePolicy) -> Vec<WhyEndpoint> {
        let here = self.policy.zone();
        let each = known.endpoints.iter().map(|at| WhyEndpoint {
            node: at.node.clone(),
            addr: at.addr,
            port: at.port,
            zone: at.zone.clone(),
            near: here.is_some() && at.zone.as_ref() == here,
            standing: at.standing,
            weight: at.weight,
            avoided: self.avoided(service, &at.node),
        });
        each.collect()
    }

    /// Returns why the caller's proxy avoids an instance, by its own last report.
    fn avoided(&self, service: &ServiceName, node: &NodeName) -> Option<String> {
        let ejected = &self.status?.ejected;
        ejected.iter().find(|one| one.service == *service && one.node == *node).map(|one| one.reason.clone())
    }

    fn traffic(&self, service: &ServiceName, known: Option<&ServicePolicy>) -> WhyTraffic {
        let policies = self.resources.iter().filter_map(|resource| {
            let Resource::TrafficPolicy(policy) = resource else { return None };
            Some((policy, resource.key()))
        });
        let policies: Vec<_> = policies.collect();
        let winner = in_force(policies.iter().map(|(policy, _)| *policy));
        let winner = winner.get(service).map(|winner| &winner.metadata);
        let object = policies.iter().find(|(policy, _)| Some(&policy.metadata) == winner);
        let rules = known.map(|known| known.traffic.as_ref().clone()).unwrap_or_default();
        let ms = |time: Option<std::time::Duration>| time.map(|time| time.as_millis() as u64);
        WhyTraffic {
            object: object.map(|(_, key)| key.path()),
            balancing: balancing(&rules.balance),
            request_timeout_ms: ms(rules.timeouts.request),
            attempt_timeout_ms: ms(rules.timeouts.attempt),
            retries: rules.retry.attempts,
        }
    }
}

fn view(head: &RequestHead) -> Head<'_> {
    let (path, query) = head.path_and_query();
    let authority = head.authority.as_deref();
    Head { method: &head.method, path, query, authority, fields: &head.fields }
}

fn shown(head: &RequestHead) -> WhyHead {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.fields.iter().map(|(name, value)| (text(name), text(value)));
    WhyHead { method: head.method.to_string(), path: head.path.clone(), headers: headers.collect() }
}

fn balancing(rules: &BalanceRules) -> String {
    let algorithm = match &rules.algorithm {
        Algorithm::PeakEwma => "the better of two, by latency and load (PeakEwma)".to_owned(),
        Algorithm::LeastRequest => "the better of two, by load (LeastRequest)".to_owned(),
        Algorithm::RoundRobin => "each in turn (RoundRobin)".to_owned(),
        Algorithm::Random => "any (Random)".to_owned(),
        Algorithm::ConsistentHash { key, .. } => match key {
            HashKey::Header(name) => format!("the same for the same header {name} (ConsistentHash)"),
            HashKey::Cookie(name) => format!("the same for the same cookie {name} (ConsistentHash)"),
            HashKey::Source => "the same for the same client (ConsistentHash)".to_owned(),
        },
    };
    if rules.zones { format!("{algorithm}, the own zone first") } else { algorithm }
}

impl WhyBackend {
    /// Returns how a call ends that comes here, when it does not go through.
    fn refusal(&self) -> Option<String> {
        let service = &self.service;
        if self.answered.is_some() {
            return None;
        }
        if !self.known {
            return Some(format!("500 (NC): no node announces {service}"));
        }
        if self.endpoints.is_empty() {
            return Some(format!("503 (UH): {service} has no endpoint"));
        }
        (!self.intention.allowed).then(|| format!("403 (RBAC): {} refuses it", self.intention.by))
    }
}

/// Says how the call ends at the backends that have a share.
fn said(taken: &[&WhyBackend]) -> String {
    let each = taken.iter().map(|backend| match (backend.refusal(), &backend.answered) {
        (Some(refusal), _) => refusal,
        (None, Some(answer)) => answer.clone(),
        (None, None) => format!("it goes to {}", backend.service),
    });
    let mut sentences: Vec<String> = each.collect();
    if let [only] = sentences.as_mut_slice() {
        return std::mem::take(only);
    }
    let shares = taken
        .iter()
        .zip(sentences)
        .map(|(backend, sentence)| format!("{:.0} %: {sentence}", backend.share * 100.0));
    shares.collect::<Vec<_>>().join("; ")
}
