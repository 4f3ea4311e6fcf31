//! Compiling: deterministic, and every service stands for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh::logic::balance::balancer::{Algorithm, HashKey};
use mesh::logic::balance::hash;
use mesh::logic::compile::{Policy, Rulebook, compile};
use mesh::logic::request::Head;
use mesh::logic::resilience::rate::Rate;
use mesh::logic::resilience::retry::Codes;
use mesh::logic::route::table::RouteKind;
use mesh::logic::traffic::TrafficRules;
use mesh::model::endpoint::{Announcement, Catalog, Member, MemberState, NodeRecord, Role, Standing};
use mesh::model::intention::{Action, Mode};
use mesh::model::name::{NodeName, ServiceName, ZoneName};
use mesh::model::resource::{Object, Resource};
use mesh::model::route::{
    HttpBackendRef, HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpRouteSpec, ParentRef, PathMatchKind,
};
use mesh::model::service::Protocol;
use mesh::model::service_spec::{HealthCheck, ServiceSpec, TcpProbe};
use mesh::model::snapshot::{GossipKeys, Snapshot};
use proptest::prelude::*;

use crate::property::route::metadata;

pub(crate) fn snapshot(resources: Vec<Resource>) -> Snapshot {
    Snapshot {
        revision: 7,
        trust_domain: "test".parse().unwrap(),
        bundle: vec![],
        resources,
        default_action: Action::Allow,
        mode: Mode::Enforce,
        gossip: GossipKeys { ring: vec![], seeds: vec![] },
        banned: vec![],
        bans: None,
        draining: Vec::new(),
        controls: vec![],
    }
}

fn announcement(service: &str, port: u16, protocol: Protocol) -> Announcement {
    Announcement { service: name(service), port, protocol, weight: 100, healthy: true }
}

fn member(node: &str, state: MemberState, services: Vec<Announcement>) -> (NodeName, Member) {
    let node: NodeName = node.parse().unwrap();
    let record = NodeRecord {
        node: node.clone(),
        epoch: 1,
        version: 1,
        role: Role::Proxy,
        addr: "192.0.2.1:15008".parse().unwrap(),
        zone: Some("east".parse().unwrap()),
        build: "0.1.0".to_owned(),
        draining: false,
        services,
    };
    let gossip = "192.0.2.1:7946".parse().unwrap();
    (node, Member { record: Some(record), state, gossip, since_ms: 0, rtt_us: None, vouched_ms: None })
}

fn catalog(members: impl IntoIterator<Item = (NodeName, Member)>) -> Catalog {
    Catalog { members: members.into_iter().collect() }
}

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn me() -> NodeName {
    "host-1".parse().unwrap()
}

fn route(route: &str, namespace: Option<&str>, parent: &str, backend: &str) -> Resource {
    let parent = ParentRef {
        namespace: namespace.map(str::to_owned),
        name: parent.to_owned(),
        ..ParentRef::default()
    };
    let backend = HttpBackendRef {
        group: None,
        kind: None,
        namespace: None,
        name: backend.to_owned(),
        port: None,
        weight: 1,
        filters: vec![],
    };
    let rule = HttpRouteRule { backend_refs: vec![backend], ..HttpRouteRule::default() };
    let spec = HttpRouteSpec { parent_refs: vec![parent], hostnames: vec![], rules: vec![rule] };
    Resource::HttpRoute(Object::new(metadata(route, None), spec))
}

fn service(service: &str, protocol: Option<Protocol>, health_check: Option<HealthCheck>) -> Resource {
    Resource::Service(Object::new(
        metadata(service, None),
        ServiceSpec { protocol, health_check, ports: vec![] },
    ))
}

fn first_backend(policy: &Policy, service: &str) -> Option<String> {
    let headers = mesh::logic::http::fields::Fields::new();
    let head = Head { method: &http::Method::GET, path: "/", query: None, authority: None, fields: &headers };
    let rule = policy.service(&name(service))?.routes.table(None)?.find(&head)?;
    rule.backends.first().map(|backend| backend.service.to_string())
}

#[test]
fn a_service_is_known_once_announced_or_spoken_of() {
    let gone = member("host-2", MemberState::Dead, vec![announcement("gone", 1, Protocol::Http)]);
    let resources = vec![route("r", None, "front", "nowhere"), service("declared", None, None)];
    let policy = compile(&snapshot(resources), &catalog([gone]), &me());

    for known in ["gone", "front", "declared"] {
        assert!(policy.service(&name(known)).is_some_and(|service| service.endpoints.is_empty()), "{known}");
    }
    for unknown in ["nowhere", "front.shop"] {
        assert!(policy.service(&name(unknown)).is_none(), "{unknown}");
    }
    assert_eq!(first_backend(&policy, "front").as_deref(), Some("nowhere.default"));
    assert!(policy.service(&name("declared")).unwrap().routes.is_empty());
}

#[test]
fn endpoints_come_sorted_with_their_standing_and_without_banned_nodes() {
    let services = || vec![announcement("web", 9, Protocol::Http), announcement("web", 8, Protocol::Http)];
    let catalog = catalog([
        member("host-3", MemberState::Suspect, services()),
        member("host-2", MemberState::Alive, services()),
        member("host-4", MemberState::Alive, services()),
    ]);
    let snapshot = Snapshot { banned: vec!["host-4".parse().unwrap()], ..snapshot(vec![]) };

    let policy = compile(&snapshot, &catalog, &"host-2".parse().unwrap());

    let web = policy.service(&name("web")).unwrap();
    let places: Vec<_> = web.endpoints.iter().map(|at| (at.node.as_str(), at.port, at.standing)).collect();
    let expected = [
        ("host-2", 8, Standing::Ready),
        ("host-2", 9, Standing::Ready),
        ("host-3", 8, Standing::Suspect),
        ("host-3", 9, Standing::Suspect),
    ];
    assert_eq!(places, expected);
    assert!(web.weights.uniform && web.weights.heaviest == 100);
    assert_eq!(policy.zone().map(ZoneName::as_str), Some("east"));
}

#[test]
fn the_protocol_is_what_the_object_says_else_what_all_nodes_say() {
    let catalog = catalog([
        member(
            "host-2",
            MemberState::Alive,
            vec![announcement("a", 1, Protocol::Grpc), announcement("b", 2, Protocol::Http)],
        ),
        member(
            "host-3",
            MemberState::Alive,
            vec![announcement("a", 1, Protocol::Grpc), announcement("b", 2, Protocol::Tcp)],
        ),
    ]);
    let protocol = |resources, service| {
        let policy = compile(&snapshot(resources), &catalog, &me());
        policy.service(&name(service)).unwrap().protocol
    };

    assert_eq!(protocol(vec![], "a"), Protocol::Grpc);
    assert_eq!(protocol(vec![], "b"), Protocol::Detect);
    assert_eq!(protocol(vec![service("b", Some(Protocol::H2c), None)], "b"), Protocol::H2c);
    let policy = compile(&snapshot(vec![service("b", Some(Protocol::H2c), None)]), &catalog, &me());
    let web = policy.service(&name("b")).unwrap();
    assert!(web.endpoints.iter().all(|endpoint| endpoint.protocol == Protocol::H2c));
}

#[test]
fn health_checks_reach_the_nodes() {
    let check: HealthCheck = serde_json::from_str(r#"{"tcp": {}}"#).unwrap();
    let policy = compile(&snapshot(vec![service("db", None, Some(check))]), &catalog([]), &me());

    let check = policy.health_check(&name("db")).unwrap();
    assert_eq!(
        (check.tcp, check.interval().as_secs(), check.timeout().as_secs()),
        (Some(TcpProbe {}), 10, 2)
    );
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (2, 3));
    assert!(policy.health_check(&name("web")).is_none());
}

#[test]
fn a_route_of_one_namespace_for_a_service_of_another_is_for_callers_of_the_first() {
    let Resource::HttpRoute(mut theirs) = route("r", Some("shop"), "web", "api") else { unreachable!() };
    let consumer = Resource::HttpRoute(theirs.clone());
    theirs.metadata.namespace = "shop".to_owned();
    theirs.metadata.name = "own".to_owned();
    let policy = compile(&snapshot(vec![consumer, Resource::HttpRoute(theirs)]), &catalog([]), &me());

    let web = policy.service(&name("web.shop")).unwrap();
    let label = |namespace| web.routes.table(namespace).map(|table| table.rules()[0].label.to_string());
    assert_eq!(policy.services().count(), 1);
    assert_eq!(label(None).as_deref(), Some("own/0"));
    assert_eq!(label(Some("shop")).as_deref(), Some("own/0"));
    assert_eq!(label(Some("else")).as_deref(), Some("own/0"));
    assert_eq!(label(Some("default")).as_deref(), Some("r/0"));
}

#[test]
fn of_routes_of_several_kinds_for_one_service_the_most_specific_kind_counts() {
    let of = |kind: &str, api: &str, rule: serde_json::Value| -> Resource {
        serde_json::from_value(serde_json::json!({
            "apiVersion": format!("gateway.networking.k8s.io/{api}"), "kind": kind, "metadata": {"name": kind.to_lowercase()},
            "spec": {"parentRefs": [{"name": "web"}], "rules": [rule]},
        }))
        .unwrap()
    };
    let backend = serde_json::json!({"backendRefs": [{"name": "api"}]});
    let all = [
        of("TCPRoute", "v1alpha2", backend.clone()),
        of("HTTPRoute", "v1", backend.clone()),
        of("GRPCRoute", "v1", backend),
    ];

    for (count, kind) in [(1, RouteKind::Tcp), (2, RouteKind::Http), (3, RouteKind::Grpc)] {
        let policy = compile(&snapshot(all[..count].to_vec()), &catalog([]), &me());
        let table = policy.service(&name("web")).unwrap().routes.table(None).unwrap().clone();
        assert_eq!((table.kind, table.rules().len()), (kind, 1));
    }
}

#[test]
fn a_new_revision_keeps_the_tables_that_it_does_not_change() {
    let version = |resource: Resource, version: u32| {
        let mut resource = resource;
        resource.metadata_mut().resource_version = Some(version.to_string());
        resource
    };
    let one = version(route("one", None, "web", "api"), 1);
    let two = version(route("two", None, "db", "api"), 2);
    let changed = version(route("two", None, "db", "web"), 3);
    let table = |rulebook: &Rulebook, service: &str| {
        let policy = rulebook.policy(&catalog([]));
        policy.service(&name(service)).unwrap().routes.table(None).unwrap().clone()
    };
    let before = Rulebook::new(&snapshot(vec![one.clone(), two]), &me());

    let after = before.next(&snapshot(vec![one, changed]));

    assert!(std::sync::Arc::ptr_eq(&table(&before, "web"), &table(&after, "web")));
    assert!(!std::sync::Arc::ptr_eq(&table(&before, "db"), &table(&after, "db")));
    let backend = table(&after, "db").rules()[0].backends[0].service.to_string();
    assert_eq!(backend, "web.default");
    let more = before.next(&snapshot(vec![
        version(route("one", None, "web", "api"), 1),
        version(route("zero", None, "web", "api"), 9),
    ]));
    assert_eq!(table(&more, "web").rules().len(), 2);
}

fn any_catalog() -> impl Strategy<Value = Catalog> {
    let state = prop_oneof![Just(MemberState::Alive), Just(MemberState::Suspect), Just(MemberState::Dead)];
    let said = proptest::collection::vec(("[a-d]", 1u16..4), 0..4);
    proptest::collection::btree_map("host-[1-4]", (state, said), 0..4).prop_map(|nodes| {
        catalog(nodes.into_iter().map(|(node, (state, said))| {
            let services: BTreeMap<_, _> = said.into_iter().collect();
            let services =
                services.iter().map(|(name, port)| announcement(name, *port, Protocol::Http)).collect();
            member(&node, state, services)
        }))
    })
}

fn any_resources() -> impl Strategy<Value = Vec<Resource>> {
    let routes = proptest::collection::btree_map("r[0-9]", ("[a-d]", "[a-e]"), 0..4);
    routes.prop_map(|routes| {
        routes.iter().map(|(name, (parent, backend))| route(name, None, parent, backend)).collect()
    })
}

proptest! {
    #[test]
    fn equal_arguments_make_equal_policies(
        catalog in any_catalog(),
        (one, other) in any_resources().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
    ) {
        let one = compile(&snapshot(one), &catalog, &me());
        let other = compile(&snapshot(other), &catalog, &me());
        prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    #[test]
    fn a_resource_of_another_service_changes_nothing(catalog in any_catalog(), resources in any_resources()) {
        let before = compile(&snapshot(resources.clone()), &catalog, &me());
        let mut more = resources;
        more.extend([route("extra", None, "other", "a"), service("other", Some(Protocol::Tcp), None)]);
        let after = compile(&snapshot(more), &catalog, &me());
        for (name, service) in before.services() {
            let now = after.service(name);
            prop_assert_eq!(now.map(|now| format!("{now:?}")), Some(format!("{service:?}")));
        }
        prop_assert_eq!(after.services().count(), before.services().count() + 1);
    }

    #[test]
    fn every_endpoint_that_may_be_called_is_there(catalog in any_catalog()) {
        let policy = compile(&snapshot(vec![]), &catalog, &me());
        for (name, service) in policy.services() {
            prop_assert_eq!(service.endpoints.len(), catalog.endpoints(name).len());
            prop_assert!(service.endpoints.is_sorted_by_key(|at| (at.node.clone(), at.port)));
        }
    }
}

fn traffic(policy: &str, created: Option<u8>, spec: &str) -> Resource {
    let spec = serde_json::from_str(spec).unwrap();
    Resource::TrafficPolicy(Object::new(metadata(policy, created), spec))
}

#[test]
fn a_service_without_a_policy_has_the_defaults_and_one_with_it_what_it_says() {
    let spec = r#"{"targetRef": {"name": "web"}, "retry": {"attempts": 1, "codes": [503, 500]},
        "timeouts": {"request": "0s", "backendRequest": "2s", "idle": "0s"},
        "rateLimit": {"perSource": {"requests": 60, "interval": "1m", "burst": 5}},
        "loadBalancing": {"policy": "ConsistentHash", "consistentHash": {"header": "X-User"}}}"#;
    let policy =
        compile(&snapshot(vec![traffic("p", None, spec), service("api", None, None)]), &catalog([]), &me());

    assert_eq!(*policy.service(&name("api")).unwrap().traffic, TrafficRules::default());
    let web = &policy.service(&name("web")).unwrap().traffic;
    assert_eq!((web.retry.attempts, &web.retry.codes), (1, &Codes::Listed([500, 503].into())));
    assert_eq!(web.retry.backoff, TrafficRules::default().retry.backoff);
    let times = (web.timeouts.request, web.timeouts.attempt, web.timeouts.idle, web.timeouts.idle_stream);
    assert_eq!(times, (None, Some(Duration::from_secs(2)), None, None));
    assert_eq!(web.rate.and_then(|rate| rate.per_source), Some(Rate { every_ns: 1_000_000_000, burst: 5 }));
    let key = HashKey::Header("x-user".into());
    assert_eq!(web.balance.algorithm, Algorithm::ConsistentHash { key, max_load_percent: None });
    assert!(!web.balance.zones, "a key has one endpoint for callers of all zones");
}

#[test]
fn of_two_policies_the_oldest_counts_whole() {
    let spec =
        |attempts| format!(r#"{{"targetRef": {{"name": "web"}}, "retry": {{"attempts": {attempts}}}}}"#);
    let attempts = |resources| {
        let policy = compile(&snapshot(resources), &catalog([]), &me());
        policy.service(&name("web")).unwrap().traffic.retry.attempts
    };
    let old = traffic("z", Some(1), &spec(1));
    let new = traffic("a", Some(2), &spec(3));
    let none = traffic("b", None, &spec(4));

    assert_eq!(attempts(vec![new.clone(), old, none.clone()]), 1);
    assert_eq!(attempts(vec![new, none.clone()]), 3);
    assert_eq!(attempts(vec![none]), 4);
}

#[test]
fn endpoints_are_ready_to_be_picked_from() {
    let nodes = ["host-2", "host-3"];
    let said = || vec![announcement("web", 8, Protocol::Http)];
    let catalog = catalog(nodes.map(|node| member(node, MemberState::Alive, said())));
    let policy = compile(&snapshot(vec![]), &catalog, &me());

    let web = policy.service(&name("web")).unwrap();
    let places: Vec<_> =
        web.endpoints.iter().map(|endpoint| web.balancer.find(hash::endpoint(endpoint))).collect();
    assert_eq!(places, [Some(0), Some(1)]);
}

/// A thousand routes of five rules each, for two hundred services, each on ten nodes of a hundred.
fn large() -> (Snapshot, Catalog) {
    let rule = |number: usize, index: usize| {
        let (kind, end) = match index {
            0 => (PathMatchKind::Exact, ""),
            // Without optimisation, each takes several milliseconds.
            1 if number.is_multiple_of(20) => (PathMatchKind::RegularExpression, "[0-9]+"),
            1 => (PathMatchKind::RegularExpression, ""),
            _ => (PathMatchKind::PathPrefix, ""),
        };
        let path = HttpPathMatch { kind, value: format!("/area-{number}/part-{index}{end}") };
        let wanted = HttpRouteMatch { path: Some(path), ..HttpRouteMatch::default() };
        let Resource::HttpRoute(route) = route("r", None, "web", "web") else { unreachable!() };
        HttpRouteRule { matches: vec![wanted], ..route.spec.rules[0].clone() }
    };
    let routes = (0..1_000).map(|number| {
        let Resource::HttpRoute(mut made) =
            route(&format!("route-{number}"), None, &format!("service-{}", number % 200), "service-0")
        else {
            unreachable!()
        };
        made.spec.rules = (0..5).map(|index| rule(number, index)).collect();
        Resource::HttpRoute(made)
    });
    let members = (0..100usize).map(|node| {
        let here = (0..20).map(|index| {
            announcement(&format!("service-{}", (node * 20 + index) % 200), 8_080, Protocol::Http)
        });
        member(&format!("host-{node}"), MemberState::Alive, here.collect())
    });
    (snapshot(routes.collect()), catalog(members))
}

#[test]
fn a_thousand_routes_and_two_hundred_services_compile_in_well_under_a_second() {
    let (snapshot, catalog) = large();
    let clock = mesh::net::clock::now;

    let began = clock();
    let rulebook = Rulebook::new(&snapshot, &me());
    let ready = clock();
    let policy = rulebook.policy(&catalog);
    let joined = clock();

    assert_eq!(policy.services().count(), 200);
    assert_eq!(policy.service(&name("service-7")).unwrap().endpoints.len(), 10);
    // Without optimisation, on a busy machine; optimised, it is a small part of it.
    assert!(ready - began < Duration::from_secs(5), "resources: {:?}", ready - began);
    assert!(joined - ready < Duration::from_secs(1), "a change of the catalogue: {:?}", joined - ready);
}

#[test]
fn a_node_that_is_to_drain_is_called_last_whatever_it_says_of_itself() {
    let web = || vec![announcement("web", 80, Protocol::Http)];
    let members = catalog(["host-1", "host-2"].map(|node| member(node, MemberState::Alive, web())));
    let draining = Snapshot { draining: vec!["host-2".parse().unwrap()], ..snapshot(vec![]) };

    let policy = compile(&draining, &members, &me());

    let endpoints = &policy.service(&name("web")).unwrap().endpoints;
    let standings: Vec<_> = endpoints.iter().map(|endpoint| endpoint.standing).collect();
    assert_eq!(standings, [Standing::Ready, Standing::Draining]);
}
