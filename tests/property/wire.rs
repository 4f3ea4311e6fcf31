//! Gossip packets: what is encoded decodes to itself, any bytes are safe, and a packet stays within its limit.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mesh::logic::gossip::catalog::Verdict;
use mesh::logic::gossip::cluster::{Cluster, Settings};
use mesh::logic::gossip::rumor::Rumors;
use mesh::logic::gossip::sync::{Answer, Offer, Rest};
use mesh::logic::gossip::wire::{Identity, PACKET_BYTES_MAX, Packet, Signed, Word, decode, encode};
use proptest::prelude::*;

fn identity() -> impl Strategy<Value = Identity> {
    let addr = (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    ("[a-z]([a-z0-9]{0,60})", any::<u64>(), any::<u16>(), addr)
        .prop_map(|(node, epoch, life, addr)| Identity { node: node.parse().unwrap(), epoch, life, addr })
}

fn signed() -> impl Strategy<Value = Signed> {
    (
        prop::collection::vec(any::<u8>(), 0..600),
        any::<[u8; 32]>(),
        any::<u64>(),
        any::<[u8; 16]>(),
        any::<[u8; 32]>(),
    )
        .prop_map(|(body, key, not_after_ms, issuer, half)| {
            let (pass, signature) = ([half, half].concat(), [half, key].concat());
            Signed { body, key, not_after_ms, issuer, pass, signature }
        })
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        signed().prop_map(Word::Record),
        (identity(), any::<u64>()).prop_map(|(speaker, version)| Word::Notice {
            node: speaker.node,
            epoch: speaker.epoch,
            version,
            at: speaker.addr,
        }),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..200), prop::collection::vec(word(), 0..2))
            .prop_map(|(swim, words)| Packet::Gossip { swim, words }),
        (identity(), any::<u16>()).prop_map(|(about, incarnation)| Packet::Doubt { about, incarnation }),
        (identity(), any::<u16>()).prop_map(|(about, incarnation)| Packet::Proof { about, incarnation }),
    ]
}

fn cluster() -> Cluster {
    let me = Identity { node: "me".parse().unwrap(), epoch: 1, life: 0, addr: "10.0.0.1:1".parse().unwrap() };
    let settings = Settings { me, seeds: Vec::new(), known: Vec::new(), seed: 1, wall_ms: 1 };
    Cluster::new(settings, mesh::net::clock::now())
}

proptest! {
    #[test]
    fn a_packet_decodes_to_itself(packet in packet()) {
        let bytes = encode(&packet);
        prop_assume!(bytes.len() <= PACKET_BYTES_MAX);

        prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
    }

    #[test]
    fn a_packet_with_something_behind_it_is_refused(packet in packet(), tail in any::<u8>()) {
        let mut bytes = encode(&packet);
        bytes.push(tail);

        prop_assert!(Packet::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_harm_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Packet::decode(&bytes);
        let _ = decode::<Offer>(&bytes);
        let _ = decode::<Answer>(&bytes);
        let _ = decode::<Rest>(&bytes);
        if let Ok(signed) = decode::<Signed>(&bytes) {
            let _ = signed.statement();
        }
    }

    #[test]
    fn any_packets_at_any_time_harm_nothing(
        packets in prop::collection::vec((packet(), prop::collection::vec(any::<u8>(), 0..40), 0u64..5000), 0..30),
    ) {
        let mut cluster = cluster();
        let mut now = mesh::net::clock::now();
        let from = "10.0.0.2:1".parse().unwrap();

        for (packet, noise, later) in packets {
            now += Duration::from_millis(later);
            let mut bytes = encode(&packet);
            let _ = cluster.handle_packet(from, &bytes, &mut |_, _| Verdict::Genuine, now);
            let at = bytes.len() / 2;
            bytes.splice(at.., noise);
            let _ = cluster.handle_packet(from, &bytes, &mut |_, _| Verdict::Genuine, now);
            cluster.handle_timeout(now);
            while let Some(transmit) = cluster.poll_transmit() {
                prop_assert!(transmit.payload.len() <= PACKET_BYTES_MAX);
            }
            while cluster.poll_exchange().is_some() {}
            let _ = cluster.poll_catalog(now);
        }
    }

    #[test]
    fn rumours_fit_into_a_packet_and_end(
        words in prop::collection::vec((identity(), word()), 0..30),
        swim in 0usize..PACKET_BYTES_MAX - 8,
    ) {
        let mut rumors = Rumors::default();
        for (about, word) in words {
            rumors.add(about.node, word);
        }

        for _ in 0..2000 {
            let words = rumors.take(PACKET_BYTES_MAX - 8 - swim, 3);
            let packet = Packet::Gossip { swim: vec![0; swim], words };
            prop_assert!(encode(&packet).len() <= PACKET_BYTES_MAX);
        }
        for _ in 0..200 {
            rumors.take(PACKET_BYTES_MAX - 8, 3);
        }

        prop_assert!(rumors.is_empty());
    }
}
