//! Rolling a program over the mesh: bounds at every step, an end, and a stop at the first failure.

use std::collections::{BTreeMap, BTreeSet};

use mesh::logic::roll::{HOSTS_MAX, Host, Standing, next};
use mesh::model::name::ServiceName;
use proptest::prelude::*;

fn hosts() -> impl Strategy<Value = Vec<Host>> {
    let services = prop::collection::btree_set(0_u8..4, 0..4);
    prop::collection::vec((services, 0_u8..5), 1..24).prop_map(|hosts| {
        let host = |(index, (services, state)): (usize, (BTreeSet<u8>, u8))| Host {
            node: format!("host-{index}").parse().unwrap(),
            services: services.iter().map(|service| format!("s{service}").parse().unwrap()).collect(),
            standing: match state {
                0 => Standing::Current,
                1 => Standing::Away,
                _ => Standing::Behind,
            },
        };
        hosts.into_iter().enumerate().map(host).collect()
    })
}

fn set(hosts: &mut [Host], index: usize, standing: Standing) {
    hosts[index].standing = standing;
}

fn indices(hosts: &[Host], standing: &Standing) -> Vec<usize> {
    (0..hosts.len()).filter(|index| hosts[*index].standing == *standing).collect()
}

/// Begins what is next; returns how many that were.
fn step(hosts: &mut [Host], at_once: usize) -> usize {
    let chosen: BTreeSet<_> = next(hosts, at_once).into_iter().cloned().collect();
    for host in hosts.iter_mut().filter(|host| chosen.contains(&host.node)) {
        assert_eq!(host.standing, Standing::Behind, "only who is behind changes");
        host.standing = Standing::Changing;
    }
    chosen.len()
}

fn within_bounds(hosts: &[Host], at_once: usize) -> bool {
    let mut busy: BTreeMap<&ServiceName, usize> = BTreeMap::new();
    let changing: Vec<_> = hosts.iter().filter(|host| host.standing == Standing::Changing).collect();
    for service in changing.iter().flat_map(|host| &host.services) {
        *busy.entry(service).or_default() += 1;
    }
    let is_proven = hosts.iter().any(|host| host.standing == Standing::Current);
    let most = if is_proven { HOSTS_MAX } else { 1 };
    changing.len() <= most && busy.values().all(|count| *count <= at_once)
}

proptest! {
    #[test]
    fn every_host_that_is_there_comes_to_run_it_within_bounds_at_each_step(
        hosts in hosts(), at_once in 1_usize..4, order in prop::collection::vec(any::<prop::sample::Index>(), 64)
    ) {
        let mut hosts = hosts;
        for pick in order {
            step(&mut hosts, at_once);
            prop_assert!(within_bounds(&hosts, at_once));
            let changing = indices(&hosts, &Standing::Changing);
            if changing.is_empty() {
                break;
            }
            set(&mut hosts, changing[pick.index(changing.len())], Standing::Current);
        }
        prop_assert_eq!(indices(&hosts, &Standing::Behind), Vec::<usize>::new());
    }

    #[test]
    fn nobody_begins_after_a_failure(hosts in hosts(), at_once in 1_usize..4, pick in any::<prop::sample::Index>()) {
        let mut hosts = hosts;
        step(&mut hosts, at_once);
        let index = pick.index(hosts.len());
        set(&mut hosts, index, Standing::Failed("it does not start".to_owned()));

        prop_assert_eq!(step(&mut hosts, at_once), 0);
    }
}

#[test]
fn the_first_host_goes_alone() {
    let host = |index: u8, standing| Host {
        node: format!("host-{index}").parse().unwrap(),
        services: BTreeSet::new(),
        standing,
    };
    let all_behind: Vec<_> = (0..3).map(|index| host(index, Standing::Behind)).collect();
    let one_done = [host(0, Standing::Current), host(1, Standing::Behind), host(2, Standing::Behind)];

    assert_eq!(next(&all_behind, 1).len(), 1);
    assert_eq!(next(&one_done, 1).len(), 2);
}
