//! What members say, which may be faulty: it makes no node panic, nor say what does not fit into a packet or is no packet; and
//! nobody who has no key says anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh::gossip::bans::disclose;
use mesh::gossip::seal::{GREETING_BYTES, Ring, Seal};
use mesh::logic::gossip::catalog::Verdict;
use mesh::logic::gossip::cluster::{Cluster, Settings};
use mesh::logic::gossip::sync::{Answer, Offer, Rest};
use mesh::logic::gossip::wire::{Identity, PACKET_BYTES_MAX, Packet, Signed, decode, encode};
use mesh::model::snapshot::GossipKeys;
use mesh::net::clock;

/// One unit of the time between two messages.
const MOMENT: Duration = Duration::from_millis(20);

/// Fails on bytes that break the rule: messages, each behind what it is, how much later it comes, and its length in two bytes.
pub(crate) fn check(input: &[u8]) {
    let me = Identity { node: "me".parse().expect("a name"), epoch: 1, life: 0, addr: at(1) };
    let mut now = clock::now();
    let settings = Settings { me, seeds: Vec::new(), known: Vec::new(), seed: 1, wall_ms: 1 };
    let mut cluster = Cluster::new(settings, now);
    let mut rest = input;
    while let Some(([kind, later, high, low], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (said, next) = behind.split_at(behind.len().min(length));
        rest = next;
        now += MOMENT * u32::from(*later);
        hear(&mut cluster, kind % 7, said, now);
        cluster.handle_timeout(now);
        while let Some(transmit) = cluster.poll_transmit() {
            assert!(transmit.payload.len() <= PACKET_BYTES_MAX);
            assert!(Packet::decode(&transmit.payload).is_ok());
        }
        while cluster.poll_exchange().is_some() {}
        _ = cluster.poll_catalog(now);
        assert!(decode::<Offer>(&encode(&cluster.offer(now))).is_ok());
    }
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 1))
}

fn hear(cluster: &mut Cluster, kind: u8, said: &[u8], now: Instant) {
    let mut judge = |_: &Signed, _: &_| Verdict::Genuine;
    match kind {
        0 | 1 => _ = cluster.handle_packet(at(2), said, &mut judge, now),
        2 => _ = again::<Offer>(said).map(|offer| cluster.answer(offer, now)),
        3 => _ = again::<Answer>(said).map(|answer| cluster.conclude(at(2), answer, &mut judge, now)),
        4 => _ = again::<Rest>(said).map(|rest| cluster.finish(rest, &mut judge, now)),
        5 => _ = again::<Answer>(said).map(|legacy| cluster.inherit(legacy, &mut judge, now)),
        _ => sealed(said),
    }
}

/// Reads a message, and what is written of it.
fn again<T>(said: &[u8]) -> Option<T>
where
    T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
{
    let read: T = decode(said).ok()?;
    assert_eq!(decode::<T>(&encode(&read)).as_ref(), Ok(&read));
    Some(read)
}

fn sealed(said: &[u8]) {
    // A key of 32 zeros.
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
    let keys = GossipKeys { ring: vec![(1, key)], seeds: Vec::new() };
    let ring = Ring::new(&keys, &"shop.test".parse().expect("a domain")).expect("a ring");
    let mut seal = Seal::new(ring, &"me".parse().expect("a name"), 1, [0; 4]);
    assert!(seal.open(&mut said.to_vec()).is_err(), "nobody has sealed this");
    if let Some((greeting, frame)) = said.split_first_chunk::<GREETING_BYTES>()
        && let Some(ours) = seal.greeting([7; 32])
        && let Ok(mut streams) = seal.stream(greeting, &ours, false)
    {
        assert!(streams.receive.open([0; 4], &mut frame.to_vec()).is_err(), "nobody has sealed this");
    }
    _ = disclose(said);
}
