//! The later word on bans counts, whoever brings it; and whatever else a message holds is none.

use std::sync::Arc;

use mesh::gossip::bans::{Enclosure, bans_message, disclose, enclose};
use mesh::logic::bans::{amend, in_force, is_newer, newest};
use mesh::logic::gossip::wire::encode;
use mesh::model::identity::TrustDomain;
use mesh::model::name::NodeName;
use mesh::model::snapshot::{BanList, Snapshot};
use proptest::prelude::*;

use crate::property::compile;

fn nodes() -> impl Strategy<Value = Vec<NodeName>> {
    prop::collection::btree_set("[a-d]", 0..4)
        .prop_map(|names| names.into_iter().map(|name| name.parse().unwrap()).collect())
}

fn list() -> impl Strategy<Value = BanList> {
    (0_u64..6, nodes()).prop_map(|(revision, nodes)| {
        let (signature, issuer) = ("c2lnbmF0dXJl".to_owned(), "aXNzdWVy".to_owned());
        BanList { revision, nodes, signature, issuer }
    })
}

fn snapshot() -> impl Strategy<Value = Arc<Snapshot>> {
    (0_u64..6, nodes()).prop_map(|(revision, banned)| {
        Arc::new(Snapshot { revision, banned, ..compile::snapshot(Vec::new()) })
    })
}

proptest! {
    #[test]
    fn the_later_of_snapshot_and_list_counts(snapshot in snapshot(), list in prop::option::of(list())) {
        let banned = in_force(&snapshot, list.as_ref());
        let amended = amend(&snapshot, list.as_ref());

        match &list {
            Some(list) if list.revision > snapshot.revision => prop_assert_eq!(banned, &list.nodes),
            Some(_) | None => prop_assert_eq!(banned, &snapshot.banned),
        }
        prop_assert_eq!(&amended.banned, banned);
        prop_assert_eq!(&Snapshot { banned: snapshot.banned.clone(), ..amended.as_ref().clone() }, snapshot.as_ref());
    }

    #[test]
    fn whoever_has_an_older_list_is_sent_the_newer_one_and_nobody_else(
        known in prop::option::of(list()),
        theirs in prop::option::of(0_u64..6),
    ) {
        let sent = disclose(&enclose(known.as_ref(), theirs)).unwrap();

        let revision = known.as_ref().map_or(0, |known| known.revision);
        match &sent {
            Enclosure::List(list) => {
                prop_assert_eq!(Some(list), known.as_ref());
                prop_assert!(theirs.unwrap() < revision);
            }
            Enclosure::At(told) => {
                prop_assert_eq!(*told, revision);
                prop_assert!(theirs.is_none_or(|theirs| theirs >= revision));
            }
        }
    }

    #[test]
    fn of_two_lists_one_at_most_takes_the_place_of_the_other(a in list(), b in list()) {
        prop_assert!(!(is_newer(&a, Some(&b)) && is_newer(&b, Some(&a))));
        prop_assert!(is_newer(&a, None));
        prop_assert_eq!(is_newer(&a, Some(&b)), a.revision > b.revision);
        let kept = newest(Some(b.clone()), Some(a.clone())).unwrap();
        prop_assert_eq!(&kept, if is_newer(&a, Some(&b)) { &a } else { &b });
        prop_assert_eq!(newest(None, Some(a.clone())), newest(Some(a), None));
    }

    #[test]
    fn what_is_signed_tells_lists_apart(a in list(), b in list()) {
        let mesh: TrustDomain = "test".parse().unwrap();
        let message = |list: &BanList| bans_message(&mesh, list.revision, &list.nodes);

        prop_assert_eq!(message(&a) == message(&b), a.revision == b.revision && a.nodes == b.nodes);
        prop_assert_ne!(message(&a), bans_message(&"other".parse().unwrap(), a.revision, &a.nodes));
    }

    #[test]
    fn any_bytes_are_safe_and_a_certificate_is_none(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        list in list(),
        cut in any::<prop::sample::Index>(),
    ) {
        _ = disclose(&bytes);
        _ = disclose(&[b"mesh bans\0", bytes.as_slice()].concat());
        let whole = enclose(Some(&list), Some(0));
        prop_assert_eq!(disclose(&whole[..cut.index(whole.len())]), None);
        prop_assert_eq!(disclose(&[whole, vec![0]].concat()), None);
        prop_assert_eq!(disclose(&[&[0x30], encode(&Enclosure::List(list)).as_slice()].concat()), None);
    }
}
