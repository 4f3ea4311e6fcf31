//! Records: merging is commutative, associative and idempotent, and the forgotten stay away until they come back.

use mesh::logic::gossip::catalog::{Entry, FORGOTTEN_FOR, Merged, Records};
use mesh::logic::gossip::sync::{compare, digest, select};
use mesh::logic::gossip::wire::{Signed, Statement, encode};
use mesh::model::endpoint::{NodeRecord, Role};
use proptest::prelude::*;

fn entry_of(node: u8, epoch: u64, version: u64, build: &str, left: bool) -> Entry {
    let record = NodeRecord {
        node: format!("node-{node}").parse().unwrap(),
        epoch,
        version,
        role: Role::Proxy,
        addr: "10.0.0.1:1".parse().unwrap(),
        zone: None,
        build: build.to_owned(),
        draining: false,
        services: Vec::new(),
    };
    let body = encode(&Statement { record, left });
    let (pass, signature) = (vec![0; 64], vec![0; 64]);
    Entry::read(Signed { body, key: [0; 32], not_after_ms: 0, issuer: [0; 16], pass, signature }).unwrap()
}

fn entry() -> impl Strategy<Value = Entry> {
    (0u8..4, 0u64..3, 0u64..4, "[ab]", any::<bool>())
        .prop_map(|(node, epoch, version, build, left)| entry_of(node, epoch, version, &build, left))
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(entry(), 0..20)
}

fn merged<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Records {
    let mut records = Records::default();
    for entry in entries {
        records.merge(entry.clone());
    }
    records
}

fn shown(records: &Records) -> Vec<Entry> {
    records.iter().map(|entry| entry.as_ref().clone()).collect()
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(
        (entries, shuffled) in entries().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle())),
    ) {
        prop_assert_eq!(shown(&merged(&entries)), shown(&merged(&shuffled)));
    }

    #[test]
    fn hearing_it_again_changes_nothing(entries in entries()) {
        let mut records = merged(&entries);
        let before = shown(&records);

        for entry in &entries {
            prop_assert_eq!(records.merge(entry.clone()), Merged::Known);
        }

        prop_assert_eq!(shown(&records), before);
    }

    #[test]
    fn groups_may_merge_before_they_meet(a in entries(), b in entries(), c in entries()) {
        let ab = shown(&merged(a.iter().chain(&b)));
        let bc = shown(&merged(b.iter().chain(&c)));

        prop_assert_eq!(shown(&merged(ab.iter().chain(&c))), shown(&merged(a.iter().chain(&bc))));
    }

    #[test]
    fn what_is_kept_is_the_newest_of_each_node(entries in entries()) {
        let records = merged(&entries);

        for entry in &entries {
            prop_assert!(records.find(entry.node()).unwrap().writing() >= entry.writing());
            prop_assert!(!records.wants(entry.node(), entry.writing()));
        }
    }

    #[test]
    fn after_an_exchange_both_have_the_newest_of_both(a in entries(), b in entries()) {
        let (mut ours, mut theirs) = (merged(&a), merged(&b));

        let (lacking, wanted) = compare(&theirs, digest(&ours));
        let rest = select(&ours, &wanted);
        for signed in lacking {
            ours.merge(Entry::read(signed).unwrap());
        }
        for signed in rest {
            theirs.merge(Entry::read(signed).unwrap());
        }

        let writings = |records: &Records| {
            records.iter().map(|e| (e.node().clone(), e.writing())).collect::<Vec<_>>()
        };
        prop_assert_eq!(writings(&ours), writings(&theirs));
        prop_assert_eq!(writings(&ours), writings(&merged(a.iter().chain(&b))));
    }

    #[test]
    fn the_forgotten_are_refused_until_they_say_something_new(entries in entries()) {
        let mut records = merged(&entries);
        let now = mesh::net::clock::now();
        let known = shown(&records);

        for entry in &known {
            records.forget(entry.node(), now);
        }
        for entry in &entries {
            prop_assert_eq!(records.merge(entry.clone()), Merged::Forgotten);
        }
        for entry in &known {
            let (epoch, version) = entry.writing();
            let node = entry.node().as_str().as_bytes()[5] - b'0';
            prop_assert_eq!(records.merge(entry_of(node, epoch, version + 1, "c", false)), Merged::New);
        }
    }

    #[test]
    fn forgetting_ends(entries in entries()) {
        let mut records = merged(&entries);
        let now = mesh::net::clock::now();
        let known = shown(&records);
        for entry in &known {
            records.forget(entry.node(), now);
        }

        records.expire(now + FORGOTTEN_FOR);

        for entry in &known {
            prop_assert!(records.wants(entry.node(), entry.writing()));
        }
    }
}
