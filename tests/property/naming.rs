//! Names: addresses that stand for services on every host alike, and what a name server says of both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use mesh::logic::compile::{Policy, compile};
use mesh::logic::naming::book::{AddressBook, NAMES_MAX, is_virtual};
use mesh::logic::naming::zone::{Answer, Datum, Kind, Lead, Zone};
use mesh::model::endpoint::{Announcement, Catalog, Member, MemberState, NodeRecord, Role};
use mesh::model::intention::{Action, Mode};
use mesh::model::name::ServiceName;
use mesh::model::service::Protocol;
use mesh::model::snapshot::{GossipKeys, Snapshot};
use proptest::prelude::*;

/// Names of which no two meet, as they are few.
fn names() -> impl Strategy<Value = BTreeSet<ServiceName>> {
    let name = ("[a-z][a-z0-9]{0,8}", "[a-l][a-z]{0,4}")
        .prop_map(|(name, namespace)| ServiceName::new(&name, &namespace).unwrap());
    proptest::collection::btree_set(name, 0..40)
}

fn book(names: impl IntoIterator<Item = ServiceName>) -> AddressBook {
    let mut book = AddressBook::default();
    for name in names {
        book.enter([&name]);
    }
    book
}

fn numbered(number: u32) -> ServiceName {
    format!("s{number}").parse().unwrap()
}

/// Two names that have the same first choice.
fn rivals() -> (ServiceName, ServiceName) {
    let mut taken: BTreeMap<Ipv4Addr, ServiceName> = BTreeMap::new();
    (0..1_000_000)
        .map(numbered)
        .find_map(|name| {
            let first = book([name.clone()]).address(&name).unwrap().v4;
            taken.insert(first, name.clone()).map(|other| (other, name))
        })
        .expect("of a million names, two meet among 134 million addresses")
}

proptest! {
    #[test]
    fn every_host_finds_the_same_addresses_in_whatever_order_it_hears_of_the_names(
        order in names().prop_flat_map(|names| Just(names.into_iter().collect::<Vec<_>>()).prop_shuffle()),
    ) {
        let one = book(order.iter().cloned());
        let other = book(order.iter().rev().cloned());

        prop_assert_eq!(one, other);
    }

    #[test]
    fn each_service_has_addresses_of_its_own_in_the_ranges_and_they_lead_back_to_it(names in names()) {
        let book = book(names.iter().cloned());

        let mut seen = BTreeSet::new();
        for name in &names {
            let address = book.address(name).unwrap();
            for addr in [IpAddr::from(address.v4), address.v6.into()] {
                prop_assert!(is_virtual(addr), "{addr}");
                prop_assert!(seen.insert(addr), "{addr} stands for two");
                prop_assert_eq!(book.service(addr), Some(name));
            }
        }
        prop_assert_eq!(book.entries().count(), names.len());
    }

    #[test]
    fn an_address_stays_when_services_come_and_go(
        first in names(), then in proptest::collection::vec(names(), 0..5),
    ) {
        let mut book = book(first.iter().cloned());
        let before: Vec<_> = first.iter().map(|name| book.address(name)).collect();

        for names in &then {
            book.enter(names);
        }

        let after: Vec<_> = first.iter().map(|name| book.address(name)).collect();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn any_question_is_answered_without_harm_and_only_ours_is_answered_by_us(
        name in "([-_a-z0-9]{0,5}\\.){0,4}(mesh|arpa|in-addr.arpa|ip6.arpa|org)?", v6: bool,
    ) {
        let zone = zone(&[("web", &[80]), ("cart.shop", &[81])], Lead::Virtual { v6 });

        for kind in KINDS {
            let answer = zone.answer(&name, kind);
            if name.rsplit('.').next() != Some("mesh") {
                prop_assert_eq!(answer, Answer::Elsewhere, "{}", name);
            }
        }
    }

    #[test]
    fn the_name_of_an_address_is_found_only_in_the_ranges(bits: u32) {
        let zone = zone(&[("web", &[80])], Lead::Virtual { v6: true });
        let addr = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = addr.octets();

        let answer = zone.answer(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), Kind::Ptr);

        prop_assert_eq!(answer == Answer::Elsewhere, !is_virtual(addr.into()));
    }
}

const KINDS: [Kind; 8] =
    [Kind::A, Kind::Aaaa, Kind::Srv, Kind::Ptr, Kind::Soa, Kind::Ns, Kind::Any, Kind::Other];

#[test]
fn of_two_names_that_meet_the_one_known_first_keeps_the_address_on_this_host() {
    let (one, other) = rivals();

    let (first, second) = (book([one.clone(), other.clone()]), book([other.clone(), one.clone()]));

    assert_eq!(first.address(&one).unwrap().v4, second.address(&other).unwrap().v4);
    assert_ne!(first.address(&one), first.address(&other));
    let mut together = AddressBook::default();
    together.enter([&other, &one]);
    assert_eq!(together, if one < other { first } else { second }, "by name when they come together");
}

#[test]
fn names_that_are_gone_are_forgotten_only_when_there_are_too_many() {
    let many: Vec<_> = (0..NAMES_MAX as u32).map(numbered).collect();
    let mut book = AddressBook::default();
    book.enter(&many);
    let (kept, gone) = (&many[0], &many[1]);
    let before = book.address(kept);
    assert!(book.address(gone).is_some());

    let new: ServiceName = "new".parse().unwrap();
    book.enter([kept, &new]);

    assert_eq!(book.address(kept), before);
    assert_eq!(book.address(gone), None);
    assert_eq!(book.entries().count(), 2);
}

/// A policy that knows these services with these ports.
fn policy(services: &[(&str, &[u16])]) -> Policy {
    let said = services.iter().flat_map(|(name, ports)| {
        ports.iter().map(|port| Announcement {
            service: name.parse().unwrap(),
            port: *port,
            protocol: Protocol::Detect,
            weight: 100,
            healthy: true,
        })
    });
    let record = NodeRecord {
        node: "host".parse().unwrap(),
        epoch: 1,
        version: 1,
        role: Role::Proxy,
        addr: "192.0.2.1:15008".parse().unwrap(),
        zone: None,
        build: "0.1.0".to_owned(),
        draining: false,
        services: said.collect(),
    };
    let gossip = "192.0.2.1:7946".parse().unwrap();
    let member = Member {
        record: Some(record),
        state: MemberState::Alive,
        gossip,
        since_ms: 0,
        rtt_us: None,
        vouched_ms: None,
    };
    let snapshot = Snapshot {
        revision: 7,
        trust_domain: "test".parse().unwrap(),
        bundle: vec![],
        resources: vec![],
        default_action: Action::Allow,
        mode: Mode::Enforce,
        gossip: GossipKeys { ring: vec![], seeds: vec![] },
        banned: vec![],
        bans: None,
        draining: Vec::new(),
        controls: vec![],
    };
    let catalog = Catalog { members: [("host".parse().unwrap(), member)].into() };
    compile(&snapshot, &catalog, &"me".parse().unwrap())
}

pub(crate) fn zone(services: &[(&str, &[u16])], lead: Lead) -> Zone {
    let policy = policy(services);
    let book = book(policy.services().map(|(name, _)| name.clone()));
    Zone::new(&policy, book.into(), lead)
}

fn nothing() -> Answer {
    Answer::Nothing { zone: "mesh".to_owned() }
}

fn unknown() -> Answer {
    Answer::Unknown { zone: "mesh".to_owned() }
}

#[test]
fn both_forms_of_a_name_have_the_addresses_that_stand_for_the_service() {
    let zone = zone(&[("web", &[80]), ("cart.shop", &[81])], Lead::Virtual { v6: true });
    let web = zone.address(&"web".parse().unwrap()).unwrap();
    let cart = zone.address(&"cart.shop".parse().unwrap()).unwrap();

    for (name, address) in [("web.mesh", web), ("web.default.mesh", web), ("cart.shop.mesh", cart)] {
        let (v4, v6) = (Datum::A(address.v4), Datum::Aaaa(address.v6));
        assert_eq!(zone.answer(name, Kind::A), Answer::Records(vec![v4.clone()]), "{name}");
        assert_eq!(zone.answer(name, Kind::Aaaa), Answer::Records(vec![v6.clone()]), "{name}");
        assert_eq!(zone.answer(name, Kind::Any), Answer::Records(vec![v4, v6]), "{name}");
        assert_eq!(zone.answer(name, Kind::Other), nothing(), "{name}");
    }
    assert_eq!(zone.answer("web", Kind::A), Answer::Elsewhere, "a name of one label may be anybody's");
    assert_eq!(zone.answer("web.default", Kind::A), Answer::Elsewhere);
}

#[test]
fn a_name_is_denied_only_if_there_is_nothing_at_it_nor_below_it() {
    let zone = zone(&[("web", &[80]), ("cart.shop", &[81])], Lead::Virtual { v6: false });

    for name in
        ["wrong.mesh", "cart.mesh", "a.web.mesh", "a.b.c.mesh", "web.shop.mesh", "_x.web.mesh", ".mesh"]
    {
        assert_eq!(zone.answer(name, Kind::A), unknown(), "{name}");
    }
    assert_eq!(zone.answer("shop.mesh", Kind::A), nothing(), "cart.shop.mesh is below it");
    assert_eq!(zone.answer("default.mesh", Kind::A), nothing());
    assert_eq!(zone.answer("web.mesh", Kind::Aaaa), nothing(), "no way to IPv6 addresses here");
    assert_eq!(zone.answer("mesh", Kind::A), nothing());
    assert_eq!(zone.answer("mesh", Kind::Soa), Answer::Records(vec![Datum::Soa]));
    assert_eq!(zone.answer("mesh", Kind::Ns), Answer::Records(vec![Datum::Ns]));
    assert_eq!(zone.answer("notmesh", Kind::A), Answer::Elsewhere);
}

#[test]
fn ports_are_those_of_the_instances() {
    let zone = zone(&[("web", &[8080, 8081])], Lead::Virtual { v6: true });
    let datum = |port| Datum::Srv { port, target: "web.default.mesh".to_owned() };

    for name in ["web.mesh", "_http._tcp.web.mesh", "_x._udp.web.default.mesh"] {
        let expected = Answer::Records(vec![datum(8080), datum(8081)]);
        assert_eq!(zone.answer(name, Kind::Srv), expected, "{name}");
    }
    assert_eq!(zone.answer("_http.web.mesh", Kind::Srv), unknown());
    assert_eq!(zone.answer("_http._tcp.wrong.mesh", Kind::Srv), unknown());
}

#[test]
fn without_interception_names_lead_to_the_outbound_listener() {
    let at = |listen: &str| zone(&[("web", &[8080])], Lead::Listener(listen.parse().unwrap()));
    let a = |ip: &str| Answer::Records(vec![Datum::A(ip.parse().unwrap())]);

    assert_eq!(at("127.0.0.1:15001").answer("web.mesh", Kind::A), a("127.0.0.1"));
    assert_eq!(at("127.0.0.1:15001").answer("web.mesh", Kind::Aaaa), nothing());
    assert_eq!(at("0.0.0.0:15001").answer("web.mesh", Kind::A), a("127.0.0.1"));
    assert_eq!(at("10.0.0.7:15001").answer("web.mesh", Kind::A), a("10.0.0.7"));
    assert_eq!(at("[::1]:15001").answer("web.mesh", Kind::A), nothing());
    let Answer::Records(records) = at("127.0.0.1:15001").answer("web.mesh", Kind::Srv) else { panic!() };
    assert_eq!(records, [Datum::Srv { port: 15_001, target: "web.default.mesh".to_owned() }]);
}

#[test]
fn addresses_lead_back_to_full_names() {
    let zone = zone(&[("web", &[80])], Lead::Virtual { v6: true });
    let address = zone.address(&"web".parse().unwrap()).unwrap();
    let [a, b, c, d] = address.v4.octets();
    let nibbles: Vec<_> =
        format!("{:032x}", address.v6.to_bits()).chars().rev().map(|nibble| nibble.to_string()).collect();
    let (v4, v6) = (format!("{d}.{c}.{b}.{a}.in-addr.arpa"), format!("{}.ip6.arpa", nibbles.join(".")));

    for name in [&v4, &v6] {
        let expected = Answer::Records(vec![Datum::Ptr("web.default.mesh".to_owned())]);
        assert_eq!(zone.answer(name, Kind::Ptr), expected, "{name}");
    }
    assert_eq!(zone.answer(&v4, Kind::A), Answer::Nothing { zone: format!("{a}.in-addr.arpa") });
    let free = zone.answer("1.0.0.240.in-addr.arpa", Kind::Ptr);
    assert_eq!(free, Answer::Unknown { zone: "240.in-addr.arpa".to_owned() });
    let zone_v6 = "0.0.8.6.3.7.5.6.d.6.d.f.ip6.arpa";
    let free = zone.answer(&format!("{}{zone_v6}", "0.".repeat(20)), Kind::Ptr);
    assert_eq!(free, Answer::Unknown { zone: "8.6.3.7.5.6.d.6.d.f.ip6.arpa".to_owned() });
    assert_eq!(zone.answer("1.0.0.127.in-addr.arpa", Kind::Ptr), Answer::Elsewhere);
}
