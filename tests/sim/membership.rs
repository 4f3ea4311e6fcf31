//! What membership promises: everyone is found, the dead are noticed, partitions heal, good-byes are not deaths.

use std::time::Duration;

use mesh::logic::gossip::wire::{Packet, Word, encode};
use mesh::model::endpoint::{Catalog, MemberState};

use crate::sim::world::{World, name, seed, statement};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns a settled mesh of `n`.
fn mesh_of(n: usize, seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..n {
        world.join();
        world.run_for(Duration::from_millis(20));
    }
    world.run_until(secs(30), "all see all", World::agrees);
    world
}

#[test]
fn nodes_that_join_at_once_all_see_each_other() {
    let mut world = World::new(seed(1));
    for _ in 0..50 {
        world.join();
    }

    let took = world.run_until(secs(15), "all see all", World::agrees);

    assert!(took <= secs(12), "{took:?}");
    assert!(world.nodes.iter().all(|node| node.cluster.is_ready()));
    assert_eq!(world.deaths_seen(), 0);
}

#[test]
fn who_says_that_it_is_ready_is_known_to_a_small_mesh_and_knows_it() {
    for n in [1, 2, 5, 8] {
        let mut world = mesh_of(n, seed(11));

        let new = world.join();
        world.run_until(secs(2), "it is ready", |world| world.nodes[new].cluster.is_ready());

        // What it said last is on its way; a catalogue is told every 50 ms.
        world.run_for(Duration::from_millis(150));
        for other in 0..n {
            let (here, there) = (world.catalog(new), world.catalog(other));
            let knows = |catalog: &Catalog, index: usize| {
                catalog.members.get(&name(index)).is_some_and(|member| member.record.is_some())
            };
            assert!(knows(&there, new), "{other} of {n} does not know it");
            assert!(knows(&here, other), "it does not know {other} of {n}");
        }
    }
}

#[test]
fn without_exchanges_of_everything_a_join_is_never_complete() {
    let mut world = World::new(seed(2));
    world.exchanges = false;

    for _ in 0..20 {
        world.join();
    }
    world.run_for(secs(120));

    assert!(!world.agrees(), "then the exchange is not needed, and this file should say so");
}

#[test]
fn a_crash_is_suspected_and_noticed_by_all_in_time() {
    for n in [3, 10] {
        let mut world = mesh_of(n, seed(3));
        world.crash(n - 1);

        let suspected = world.run_until(secs(5), "someone suspects", |world| {
            (0..n - 1).any(|by| world.state(n - 1, by) != Some(MemberState::Alive))
        });
        let rest = world.run_until(secs(6), "all know it dead", |world| {
            (0..n - 1).all(|by| world.state(n - 1, by) == Some(MemberState::Dead))
        });

        let took = suspected + rest;
        assert!(suspected <= Duration::from_millis(2500), "{n}: suspected after {suspected:?}");
        assert!(took <= secs(6), "{n}: dead after {took:?}");
        world.run_for(secs(20));
        assert!(world.agrees());
        assert_eq!(world.deaths_seen(), n - 1);
    }
}

#[test]
fn a_quarter_of_all_packets_lost_kills_nobody() {
    let mut world = mesh_of(15, seed(4));
    world.loss_percent = 25;

    world.run_for(secs(180));

    assert_eq!(world.deaths_seen(), 0);
}

#[test]
fn a_process_that_stood_still_declares_nobody_dead_when_it_wakes() {
    let mut world = mesh_of(10, seed(5));

    world.stop_for(4, secs(20));
    world.run_for(secs(19));
    assert_eq!(world.state(4, 0), Some(MemberState::Dead));
    let back = world.run_until(secs(30), "it is back everywhere", World::agrees);

    let own = &world.nodes[4].history;
    assert!(own.iter().all(|(_, _, state)| *state != MemberState::Dead), "{own:?}");
    assert!(back <= secs(15), "{back:?}");
}

// case 86
#[test]
fn a_long_partition_heals_by_itself_within_a_minute() {
    let mut world = mesh_of(12, seed(6));
    world.divide(|index| index >= 5);
    world.run_for(secs(600));
    assert_eq!(world.state(7, 1), Some(MemberState::Dead));
    assert_eq!(world.state(1, 7), Some(MemberState::Dead));
    assert_eq!(world.state(8, 7), Some(MemberState::Alive));

    world.heal();
    let took = world.run_until(secs(60), "all see all again", World::agrees);

    assert!(took <= secs(45), "{took:?}");
}

#[test]
fn two_nodes_parted_for_an_hour_find_each_other_again() {
    let mut world = mesh_of(2, seed(7));
    world.divide(|index| index == 1);
    world.run_for(secs(4000));

    world.heal();

    world.run_until(secs(60), "both see both", World::agrees);
}

#[test]
fn a_restarted_node_replaces_its_former_self() {
    let mut world = mesh_of(8, seed(8));
    world.crash(3);
    world.run_for(secs(1));

    world.restart(3, Duration::ZERO);

    world.run_until(secs(10), "all see its new self", World::agrees);
}

#[test]
fn a_node_whose_clock_was_set_back_still_comes_back() {
    let mut world = mesh_of(8, seed(9));
    world.crash(3);
    world.run_for(secs(10));

    world.restart(3, secs(7200));

    world.run_until(secs(20), "all see its new self", World::agrees);
}

#[test]
fn a_good_bye_is_no_death() {
    let mut world = mesh_of(12, seed(10));
    world.loss_percent = 10;

    world.leave(5);
    let others =
        |world: &World| (0..12).filter(|by| *by != 5).all(|by| world.state(5, by) == Some(MemberState::Left));
    let took = world.run_until(secs(3), "all heard the good-bye", others);

    assert!(took <= secs(2), "{took:?}");
    world.run_for(secs(60));
    assert_eq!(world.deaths_seen(), 0);
}

#[test]
fn the_gone_are_forgotten_by_all_and_do_not_come_back() {
    let mut world = mesh_of(6, seed(11));
    world.leave(4);
    world.crash(5);
    world.run_for(secs(660));
    assert_eq!(world.state(4, 0), None, "left ten minutes ago");
    assert_eq!(world.state(5, 0), Some(MemberState::Dead));

    world.run_for(secs(3100));

    for by in 0..4 {
        assert_eq!(world.state(5, by), None, "dead for an hour");
    }
}

#[test]
fn a_node_cannot_speak_for_another() {
    let mut world = mesh_of(5, seed(12));
    let (victim, liar) = (name(1), name(2));
    let epoch = world.nodes[1].cluster.me().epoch;
    let forged = statement(&victim, &liar, epoch, 99, true);
    let packet = encode(&Packet::Gossip { swim: Vec::new(), words: vec![Word::Record(forged)] });

    for to in [0, 1, 3, 4] {
        world.inject(2, to, packet.clone());
    }
    world.run_for(secs(30));

    assert!(world.agrees());
    assert!(world.nodes.iter().all(|node| {
        node.history.iter().all(|(_, _, state)| !matches!(state, MemberState::Left | MemberState::Dead))
    }));
}
