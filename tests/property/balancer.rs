//! Turns, rings, zones, sessions and slow start: shares as promised, keys that stay, and never nobody while somebody is
//! left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh::logic::balance::balancer::{Algorithm, BalanceRules, Balancer, HashKey, Turn};
use mesh::logic::balance::hash;
use mesh::logic::balance::locality::{Health, Spread, Vicinity};
use mesh::logic::balance::pick::{Candidate, Draw, Pool, WHOLE};
use mesh::logic::balance::ring_hash::{Bound, Ring};
use mesh::logic::balance::round_robin::{RoundRobin, TURNS_MAX};
use mesh::logic::balance::session::{self, Carrier, Session, SessionRules};
use mesh::logic::balance::slow_start::SlowStart;
use mesh::model::endpoint::{Catalog, Endpoint, Member, MemberState, NodeRecord, Role, Standing};
use mesh::model::name::ZoneName;
use mesh::model::service::Protocol;
use proptest::prelude::*;

const READY: Candidate =
    Candidate { weight: 100, pending: 0, latency_ns: 1e6, standing: Standing::Ready, avoided: false };

fn endpoint(node: usize, zone: Option<&str>, weight: u32) -> Endpoint {
    Endpoint {
        node: format!("host-{node}").parse().unwrap(),
        addr: "192.0.2.1:15008".parse().unwrap(),
        port: 80,
        protocol: Protocol::Http,
        zone: zone.map(|zone| zone.parse().unwrap()),
        weight,
        standing: Standing::Ready,
    }
}

fn turn(number: u64) -> Turn {
    Turn { draw: Draw(hash::mix(number)), ticket: number, key: None, pending: 0 }
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    let keyed = |max_load_percent| Algorithm::ConsistentHash { key: HashKey::Source, max_load_percent };
    prop_oneof![
        Just(Algorithm::PeakEwma),
        Just(Algorithm::LeastRequest),
        Just(Algorithm::RoundRobin),
        Just(Algorithm::Random),
        Just(keyed(None)),
        Just(keyed(Some(125))),
    ]
}

fn any_place() -> impl Strategy<Value = (Endpoint, Candidate)> {
    let standing = prop_oneof![
        4 => Just(Standing::Ready),
        1 => Just(Standing::Suspect),
        1 => Just(Standing::Unhealthy),
        1 => Just(Standing::Draining),
    ];
    let zone = proptest::option::of(prop_oneof![Just("east"), Just("west"), Just("north")]);
    (0usize..40, zone, 0u32..4, standing, any::<bool>(), 0u32..5).prop_map(
        |(node, zone, weight, standing, avoided, pending)| {
            (
                endpoint(node, zone, weight),
                Candidate { weight, pending, latency_ns: f64::from(pending) * 1e6, standing, avoided },
            )
        },
    )
}

fn east() -> Vicinity {
    Vicinity {
        zone: Some("east".parse().unwrap()),
        rtt_us: [("west".parse().unwrap(), 9_000), ("north".parse().unwrap(), 30_000)].into(),
        nodes: BTreeMap::new(),
    }
}

proptest! {
    #[test]
    fn whatever_the_algorithm_somebody_of_the_best_class_of_all_zones_is_picked(
        algorithm in any_algorithm(),
        places in proptest::collection::vec(any_place(), 0..12),
        tried in proptest::collection::vec(0usize..12, 0..3),
        zones: bool,
        number: u64,
        key in proptest::option::of(any::<u64>()),
    ) {
        let (endpoints, pool): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let rules = BalanceRules { algorithm, zones, ..BalanceRules::default() };
        let balancer = Balancer::new(&rules, &endpoints, &east());
        let spread = balancer.spread(pool.as_slice());
        let turn = Turn { key, pending: 7, ..turn(number) };

        let picked = balancer.pick(pool.as_slice(), &spread, turn, &tried);

        let class = |index: usize| (pool[index].avoided, tried.contains(&index), pool[index].standing);
        let best = (0..pool.len()).filter(|index| pool[*index].weight > 0).map(class).min();
        prop_assert_eq!(picked.map(class), best);
        prop_assert!(picked.is_none_or(|index| pool[index].weight > 0));
        prop_assert_eq!(balancer.pick(pool.as_slice(), &spread, turn, &tried), picked, "same arguments, same pick");
    }

    #[test]
    fn everybody_has_as_many_turns_as_weight(weights in proptest::collection::vec(0u32..9, 1..9)) {
        let turns = RoundRobin::new(weights.iter().copied());
        let pool: Vec<_> = weights.iter().map(|weight| Candidate { weight: *weight, ..READY }).collect();
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut counts = vec![0; weights.len()];
        for ticket in 0..total {
            counts[turns.pick(pool.as_slice(), ticket, Draw(ticket), &[]).unwrap()] += 1;
        }
        prop_assert_eq!(counts, weights);
    }

    // case 75
    #[test]
    fn a_key_moves_only_from_who_goes_and_to_who_comes(
        hashes in proptest::collection::btree_set(any::<u64>(), 2..12),
        gone: prop::sample::Index,
        keys in proptest::collection::vec(any::<u64>(), 50),
    ) {
        let hashes: Vec<u64> = hashes.into_iter().collect();
        let gone = gone.index(hashes.len());
        let mut fewer = hashes.clone();
        fewer.remove(gone);
        let owner = |hashes: &[u64], key: u64| {
            let ring = Ring::new(hashes.iter().map(|hash| (*hash, 100)));
            ring.pick(vec![READY; hashes.len()].as_slice(), key, None, &[]).map(|index| hashes[index])
        };
        for key in keys {
            let (all, left) = (owner(&hashes, key), owner(&fewer, key));
            prop_assert!(all == left || all == Some(hashes[gone]), "{key} moved between endpoints that stayed");
        }
    }

    #[test]
    fn no_endpoint_has_more_than_its_bound(count in 2usize..10, percent in 101u32..300, keys in proptest::collection::vec(0u64..3, 200)) {
        let ring = Ring::new((0..count as u64).map(|index| (hash::mix(index), 100)));
        let mut pool = vec![READY; count];
        for (pending, key) in keys.iter().enumerate() {
            let bound = Bound { percent, pending: pending as u64 };
            let index = ring.pick(pool.as_slice(), hash::mix(*key), Some(bound), &[]).unwrap();
            pool[index].pending += 1;
            let fair = (pending + 1) as f64 / count as f64 * f64::from(percent) / 100.0;
            prop_assert!(f64::from(pool[index].pending) <= fair.ceil());
        }
    }

    #[test]
    fn spreads_follow_health_and_lose_nothing(
        levels in proptest::collection::vec((1u64..100, 0u64..100), 1..5),
        first_percent in 0u32..=100,
        draws in 1u64..1_000,
    ) {
        let levels: Vec<_> = levels
            .into_iter()
            .map(|(capacity, healthy)| Health { capacity, healthy: healthy.min(capacity) })
            .collect();
        let spread = Spread::new(&levels, first_percent, 140);
        let level = spread.draw(&mut Draw(draws));
        prop_assert!(level < levels.len());
        if first_percent > 0 && levels.iter().any(|level| level.healthy > 0) {
            prop_assert!(levels[level].healthy > 0, "a level without anybody healthy gets nothing: {spread:?}");
        }
    }

    #[test]
    fn tokens_come_back_as_they_went(endpoint: u64, began_s: u32, noise in proptest::collection::vec(any::<u8>(), 0..40)) {
        let session = Session { endpoint, began_s, used_s: began_s };
        prop_assert_eq!(Session::parse(session.token().as_bytes()), Some(session));
        if let Some(parsed) = Session::parse(&noise) {
            let token = parsed.token();
            prop_assert_eq!(token.as_bytes(), noise.as_slice());
        }
        let _ = session::cookie(&noise, "mesh-session");
    }

    #[test]
    fn a_share_only_grows_and_is_whole_in_the_end(window_ms in 1u64..100_000, percent in 1u32..=100, steps in 1u64..50) {
        let start = SlowStart { window: Duration::from_millis(window_ms), min_percent: percent };
        let shares: Vec<_> = (0..=steps).map(|step| start.share(Duration::from_millis(window_ms * step / steps))).collect();
        prop_assert!(shares.is_sorted());
        prop_assert!(shares[0] >= 1 && shares[0] >= WHOLE * percent / 100);
        prop_assert_eq!(shares.last(), Some(&WHOLE));
    }
}

#[test]
fn turns_of_one_endpoint_are_spread_evenly() {
    let turns = RoundRobin::new([1, 3]);
    let pool = [Candidate { weight: 1, ..READY }, Candidate { weight: 3, ..READY }];
    let order: Vec<_> =
        (0..8).map(|ticket| turns.pick(pool.as_slice(), ticket, Draw(0), &[]).unwrap()).collect();

    assert_eq!(order, [1, 1, 0, 1, 1, 1, 0, 1]);
}

#[test]
fn lists_of_turns_are_bounded_whatever_the_weights() {
    let turns = RoundRobin::new([1_000_000, 999_999, 1]);
    let pool = [1_000_000, 999_999, 1].map(|weight| Candidate { weight, ..READY });
    let picked: BTreeSet<_> =
        (0..TURNS_MAX + 4).filter_map(|ticket| turns.pick(pool.as_slice(), ticket, Draw(0), &[])).collect();

    assert_eq!(picked, [0, 1, 2].into());
    assert!(format!("{turns:?}").len() < 20_000);
}

#[test]
fn when_it_cannot_take_its_turn_all_others_share_it() {
    let turns = RoundRobin::new([1; 5]);
    let mut pool = [Candidate { weight: 1, ..READY }; 5];
    pool[2].avoided = true;
    let mut counts = [0u64; 5];
    for ticket in 0..10_000 {
        counts[turns.pick(pool.as_slice(), ticket, Draw(ticket), &[]).unwrap()] += 1;
    }

    assert_eq!(counts[2], 0);
    assert!([0, 1, 3, 4].iter().all(|index| (2_300..2_700).contains(&counts[*index])), "{counts:?}");
}

// case 75
#[test]
fn a_ring_shares_keys_by_weight() {
    let ring = Ring::new((0..8).map(|index| (hash::mix(index), if index < 4 { 100 } else { 50 })));
    let pool: Vec<_> =
        (0..8).map(|index| Candidate { weight: if index < 4 { 100 } else { 50 }, ..READY }).collect();
    let mut counts = [0u64; 8];
    for key in 0..30_000 {
        counts[ring.pick(pool.as_slice(), hash::mix(key), None, &[]).unwrap()] += 1;
    }

    for (index, count) in counts.iter().enumerate() {
        let fair = if index < 4 { 5_000 } else { 2_500 };
        assert!(count.abs_diff(fair) < fair / 3, "{counts:?}");
    }
}

// case 75
#[test]
fn the_key_of_an_ejected_endpoint_goes_to_the_same_other_and_comes_back() {
    let ring = Ring::new((0..5).map(|index| (hash::mix(index), 100)));
    let well = [READY; 5];
    for key in (0..200).map(hash::mix) {
        let owner = ring.pick(well.as_slice(), key, None, &[]).unwrap();
        let mut ill = well;
        ill[owner].avoided = true;
        let other = ring.pick(ill.as_slice(), key, None, &[]).unwrap();

        assert_ne!(owner, other);
        assert_eq!(ring.pick(ill.as_slice(), key, None, &[]), Some(other));
        assert_eq!(ring.pick(well.as_slice(), key, None, &[owner]), Some(other), "a retry goes there too");
    }
}

fn zoned() -> Vec<Endpoint> {
    let zones = ["west", "east", "north", "east", "west", "north"];
    zones.iter().enumerate().map(|(node, zone)| endpoint(node, Some(zone), 100)).collect()
}

/// The share of calls that each of six endpoints gets, percent.
fn shares(vicinity: &Vicinity, pool: &[Candidate]) -> Vec<u64> {
    let balancer = Balancer::new(&BalanceRules::default(), &zoned(), vicinity);
    let spread = balancer.spread(pool);
    let mut counts = vec![0; pool.len()];
    for number in 0..10_000 {
        counts[balancer.pick(pool, &spread, turn(number), &[]).unwrap()] += 1;
    }
    counts.iter().map(|count| (count + 50) / 100).collect()
}

#[test]
fn the_own_zone_takes_all_while_it_is_well() {
    let shares = shares(&east(), &[READY; 6]);

    assert_eq!(
        (shares[1] + shares[3], shares[0] + shares[2] + shares[4] + shares[5]),
        (100, 0),
        "{shares:?}"
    );
}

#[test]
fn half_of_the_own_zone_sends_the_rest_to_the_nearest_zone() {
    let mut pool = [READY; 6];
    pool[1].avoided = true;
    let shares = shares(&east(), &pool);

    assert!((68..=72).contains(&shares[3]), "140 % of one half: {shares:?}");
    assert!((28..=32).contains(&(shares[0] + shares[4])), "west is nearer than north: {shares:?}");
    assert_eq!(shares[2] + shares[5], 0);
}

#[test]
fn a_zone_that_is_gone_is_left_even_before_the_spread_knows() {
    let balancer = Balancer::new(&BalanceRules::default(), &zoned(), &east());
    let spread = balancer.spread([READY; 6].as_slice());
    let mut pool = [READY; 6];
    (pool[1].avoided, pool[3].standing) = (true, Standing::Unhealthy);

    for number in 0..100 {
        let picked = balancer.pick(pool.as_slice(), &spread, turn(number), &[]).unwrap();
        assert!([0, 4].contains(&picked), "{picked}");
    }
}

#[test]
fn one_endpoint_in_a_big_zone_is_not_drowned() {
    let endpoints: Vec<_> = ["east", "west", "west", "west"]
        .iter()
        .enumerate()
        .map(|(node, zone)| endpoint(node, Some(zone), 100))
        .collect();
    let zone = |zone: &str| Some(zone.parse().unwrap());
    let vicinity = Vicinity { nodes: [(zone("east"), 10), (zone("west"), 10)].into(), ..east() };

    assert_eq!(vicinity.own_percent(&endpoints), 50);
    assert_eq!(vicinity.own_percent(&zoned()), 66);
    assert_eq!(Vicinity { nodes: [(zone("east"), 1)].into(), ..east() }.own_percent(&endpoints), 25);
    assert_eq!(vicinity.own_percent(&endpoints[1..]), 100, "nothing is there to be drowned");
}

#[test]
fn zones_about_as_far_as_each_other_are_one_level() {
    let rtt_us = [("west".parse().unwrap(), 9_000), ("north".parse().unwrap(), 10_500)].into();
    let levels = Vicinity { rtt_us, ..east() }.levels(&zoned());

    assert_eq!(levels.len(), 2);
    assert_eq!(levels[0], [1, 3]);
    assert_eq!(Vicinity::default().levels(&zoned()), [[0, 1, 2, 3, 4, 5]], "no zone of one's own");
    assert_eq!(east().levels(&zoned()), [[1, 3], [0, 4], [2, 5]]);
}

#[test]
fn gossip_says_how_far_zones_are() {
    let member = |zone: &str, state, role, rtt_us| {
        let record = NodeRecord {
            node: "x".parse().unwrap(),
            epoch: 1,
            version: 1,
            role,
            addr: "192.0.2.1:1".parse().unwrap(),
            zone: Some(zone.parse().unwrap()),
            build: String::new(),
            draining: false,
            services: vec![],
        };
        Member {
            record: Some(record),
            state,
            gossip: "192.0.2.1:2".parse().unwrap(),
            since_ms: 0,
            rtt_us,
            vouched_ms: None,
        }
    };
    let members = [
        ("me", member("east", MemberState::Alive, Role::Proxy, None)),
        ("a", member("west", MemberState::Alive, Role::Proxy, Some(700))),
        ("b", member("west", MemberState::Alive, Role::Proxy, Some(500))),
        ("c", member("west", MemberState::Dead, Role::Proxy, Some(10))),
        ("d", member("west", MemberState::Alive, Role::Control, None)),
    ];
    let members = members.into_iter().map(|(name, member)| (name.parse().unwrap(), member)).collect();

    let vicinity = Vicinity::new(&Catalog { members }, &"me".parse().unwrap());

    assert_eq!(vicinity.zone.as_ref().map(ZoneName::as_str), Some("east"));
    assert_eq!(vicinity.rtt_us.into_values().collect::<Vec<_>>(), [500]);
    assert_eq!(vicinity.nodes.into_values().collect::<Vec<_>>(), [1, 2]);
}

/// A pool in which the last endpoint is new.
struct Cold(usize, u32);

impl Pool for Cold {
    fn len(&self) -> usize {
        self.0
    }

    fn candidate(&self, _: usize) -> Candidate {
        READY
    }

    fn share(&self, index: usize) -> u32 {
        if index + 1 == self.0 { self.1 } else { WHOLE }
    }
}

#[test]
fn a_new_endpoint_gets_its_share_of_its_share_by_any_algorithm() {
    let endpoints: Vec<_> = (0..4).map(|node| endpoint(node, None, 100)).collect();
    for algorithm in [Algorithm::PeakEwma, Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random]
    {
        let rules = BalanceRules { algorithm: algorithm.clone(), ..BalanceRules::default() };
        let balancer = Balancer::new(&rules, &endpoints, &Vicinity::default());
        let share = |pool: &Cold| {
            let picks =
                (0..10_000).filter_map(|number| balancer.pick(pool, &Spread::default(), turn(number), &[]));
            picks.filter(|index| *index == 3).count()
        };

        let tenth = share(&Cold(4, WHOLE / 10));
        assert!((150..350).contains(&tenth), "{algorithm:?}: {tenth} instead of 250");
        let whole = share(&Cold(4, WHOLE));
        assert!((2_300..2_700).contains(&whole), "{algorithm:?}: {whole} instead of 2500");
    }
    let alone = Balancer::new(&BalanceRules::default(), &endpoints[..1], &Vicinity::default());
    assert_eq!(alone.pick(&Cold(1, 1), &Spread::default(), turn(1), &[]), Some(0));
}

#[test]
fn a_session_goes_on_where_it_began_until_that_is_no_good() {
    let endpoints: Vec<_> = (0..3).map(|node| endpoint(node, None, 100)).collect();
    let balancer = Balancer::new(&BalanceRules::default(), &endpoints, &Vicinity::default());
    let place = hash::endpoint(&endpoints[1]);
    let find = |change: fn(&mut Candidate), tried: &[usize]| {
        let mut pool = [READY; 3];
        change(&mut pool[1]);
        balancer.find_session(pool.as_slice(), place, tried)
    };

    assert_eq!(find(|_| {}, &[]), Some(1));
    assert_eq!(find(|it| it.weight = 0, &[]), Some(1), "weight 0 takes no new sessions, but keeps its own");
    assert_eq!(find(|it| it.avoided = true, &[]), None);
    assert_eq!(find(|it| it.standing = Standing::Draining, &[]), None);
    assert_eq!(find(|_| {}, &[1]), None);
    assert_eq!(balancer.find(12345), None, "gone");
}

#[test]
fn a_session_ends_after_its_time() {
    let rules = |absolute| SessionRules {
        carrier: Carrier::Cookie,
        name: "s".into(),
        absolute,
        idle: None,
        permanent: false,
    };
    let session = Session { endpoint: 1, began_s: 1_000, used_s: 1_000 };

    assert!(!session.is_over(&rules(None), u64::MAX));
    let minute = rules(Some(Duration::from_mins(1)));
    assert!(!session.is_over(&minute, 1_059) && session.is_over(&minute, 1_060));
    assert!(session.is_over(&minute, 999), "one from the future was not made here");
}

#[test]
fn cookies_are_found_among_others() {
    let field = b"a=1; mesh-session=abc;mesh-session-2=x; mesh-session=later";

    assert_eq!(session::cookie(field, "mesh-session"), Some(&b"abc"[..]));
    assert_eq!(session::cookie(field, "mesh-session-2"), Some(&b"x"[..]));
    assert_eq!(session::cookie(field, "mesh"), None);
    assert_eq!(session::cookie(b"", "a"), None);
    assert_eq!(session::set_cookie("s", "t", None), "s=t; Path=/; HttpOnly; SameSite=Lax");
}

#[test]
fn all_proxies_hash_alike() {
    assert_eq!(hash::hash(b""), 0xc381_7c01_6ba4_ff30, "changing the hash moves every key");
    assert_eq!(hash::hash(b"alice"), 0x1a04_6f57_3e1e_5475);
    assert_eq!(hash::endpoint(&endpoint(1, None, 1)), 0x46cf_8395_2caf_6155);
}
