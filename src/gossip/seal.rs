//! Seals and opens everything that gossip sends: AES-256-GCM under keys derived from the mesh's ring of keys.
//!
//! A packet is `version 1 | key id 1 | sender 8 | epoch 8 | salt 4 | counter 8 | ciphertext | tag 16`. All nodes share the ring,
//! and 96-bit random nonces under one key would wear out in days on a large mesh; so every sender has its own key,
//! HKDF-SHA-256 (RFC 5869) of the ring's key, the mesh's name, the sender and its epoch, and counts its nonces. The salt is random for
//! each process, lest one that starts twice in one millisecond repeats a nonce. A window of 64 counters per sender, as in
//! RFC 4303 §3.4.3, refuses what was heard before.
//!
//! A stream begins with a greeting from each side, `version 1 | key id 1 | random 32`; both greetings go into its two keys,
//! so that nothing recorded from one stream opens in another.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::model::identity::TrustDomain;
use crate::model::name::NodeName;
use crate::model::snapshot::GossipKeys;

/// Most bytes of a sealed packet.
pub const SEALED_BYTES_MAX: usize = 1350;
/// Most keys in a ring: old, current and next.
pub const KEYS_MAX: usize = 3;
/// Most senders remembered; beyond it the one heard longest ago is forgotten.
pub const SENDERS_MAX: usize = 8192;
/// Bytes of a stream's greeting.
pub const GREETING_BYTES: usize = 34;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 30;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

const _: () = assert!(
    crate::logic::gossip::wire::PACKET_BYTES_MAX + HEADER_BYTES + TAG_BYTES <= SEALED_BYTES_MAX,
    "a full packet must fit into its envelope"
);

/// Why a packet or frame was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too short, too long, or of another version.
    #[error("not a sealed packet")]
    Malformed,
    /// Sealed with a key that is not in the ring.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// Sealed by another mesh, or changed on its way.
    #[error("does not open")]
    Forged,
    /// Heard before, or too old to tell.
    #[error("heard before")]
    Replayed,
}

/// Why a ring of keys is unusable: the text says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRing(pub &'static str);

/// A mesh's ring of keys, ready to derive from. The first seals, all open.
pub struct Ring {
    keys: Vec<(u8, Prk)>,
}

impl fmt::Debug for Ring {
    /// Shows the ids only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl Ring {
    /// Reads the keys of the mesh `trust_domain`.
    ///
    /// # Errors
    /// When there is none, there are more than [`KEYS_MAX`], or one is not 32 bytes in base64.
    pub fn new(keys: &GossipKeys, trust_domain: &TrustDomain) -> Result<Self, BadRing> {
        if keys.ring.is_empty() {
            return Err(BadRing("there is no key"));
        }
        if keys.ring.len() > KEYS_MAX {
            return Err(BadRing("there are more than three keys"));
        }
        let salt = [b"mesh gossip v1\0".as_slice(), trust_domain.as_str().as_bytes()].concat();
        let salt = Salt::new(HKDF_SHA256, &salt);
        let keys = keys.ring.iter().map(|(id, text)| {
            let key = BASE64.decode(text.as_bytes()).map(Zeroizing::new);
            let key = key.ok().filter(|key| key.len() == KEY_BYTES).ok_or(BadRing("a key is damaged"))?;
            Ok((*id, salt.extract(&key)))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    fn first(&self) -> Option<u8> {
        self.keys.first().map(|(id, _)| *id)
    }

    /// Derives the key for `purpose` from the key `id`.
    fn derive(&self, id: u8, purpose: &[&[u8]]) -> Option<LessSafeKey> {
        let (_, key) = self.keys.iter().find(|(known, _)| *known == id)?;
        let derived = key.expand(purpose, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }
}

/// One process of a node, as envelopes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sender {
    node: [u8; 8],
    epoch: u64,
    salt: [u8; 4],
}

impl Sender {
    fn derive(&self, ring: &Ring, id: u8) -> Option<LessSafeKey> {
        ring.derive(id, &[b"packet", &self.node, &self.epoch.to_be_bytes()])
    }
}

/// Which counters of a sender were heard: the highest, and a bit for each of the 64 up to it.
#[derive(Debug, Default)]
struct Window {
    highest: u64,
    heard: u64,
}

impl Window {
    /// Returns whether `counter` is new, and notes it.
    fn admit(&mut self, counter: u64) -> bool {
        if self.heard == 0 || counter > self.highest {
            let ahead = counter - self.highest;
            self.heard = if ahead < 64 { self.heard << ahead } else { 0 } | 1;
            self.highest = counter;
            return true;
        }
        let bit = match self.highest - counter {
            behind @ 0..64 => 1 << behind,
            _ => return false,
        };
        let new = self.heard & bit == 0;
        self.heard |= bit;
        new
    }
}

struct Known {
    keys: BTreeMap<u8, LessSafeKey>,
    window: Window,
    heard_at: u64,
}

/// Seals what this node sends and opens what it hears.
pub struct Seal {
    ring: Ring,
    me: Sender,
    counter: u64,
    sealing: Option<(u8, LessSafeKey)>,
    senders: BTreeMap<Sender, Known>,
    opened: u64,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("ring", &self.ring)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// Begins to seal as `node`, in its process of `epoch`; `salt` is random.
    pub fn new(ring: Ring, node: &NodeName, epoch: u64, salt: [u8; 4]) -> Self {
        let mut hash = [0; 8];
        hash.copy_from_slice(digest(&SHA256, node.as_str().as_bytes()).as_ref().split_at(8).0);
        let me = Sender { node: hash, epoch, salt };
        let mut seal = Self { ring, me, counter: 0, sealing: None, senders: BTreeMap::new(), opened: 0 };
        seal.choose_key();
        seal
    }

    /// Replaces the ring. Counters go on: a key that stays never sees a nonce twice.
    pub fn rekey(&mut self, ring: Ring) {
        self.ring = ring;
        for known in self.senders.values_mut() {
            known.keys.clear();
        }
        self.choose_key();
    }

    fn choose_key(&mut self) {
        let id = self.ring.first();
        self.sealing = id.and_then(|id| Some((id, self.me.derive(&self.ring, id)?)));
    }

    /// Seals a packet. `None` when it is too long, which the protocol rules out.
    pub fn seal(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let (id, key) = self.sealing.as_ref()?;
        self.counter += 1;
        let mut packet = Vec::with_capacity(HEADER_BYTES + payload.len() + TAG_BYTES);
        packet.extend_from_slice(&[VERSION, *id]);
        packet.extend_from_slice(&self.me.node);
        packet.extend_from_slice(&self.me.epoch.to_be_bytes());
        packet.extend_from_slice(&self.me.salt);
        packet.extend_from_slice(&self.counter.to_be_bytes());
        let header: [u8; HEADER_BYTES] = packet.as_slice().try_into().ok()?;
        let mut body = payload.to_vec();
        let nonce = nonce(self.me.salt, self.counter);
        key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).ok()?;
        packet.append(&mut body);
        (packet.len() <= SEALED_BYTES_MAX).then_some(packet)
    }

    /// Opens a packet in place and returns what was sealed.
    ///
    /// # Errors
    /// When it is not one of ours, or was heard before. Nothing is remembered of such a packet.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], Refused> {
        if packet.len() > SEALED_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let (header, body) = packet.split_at_mut_checked(HEADER_BYTES).ok_or(Refused::Malformed)?;
        let header: [u8; HEADER_BYTES] = (&*header).try_into().map_err(|_| Refused::Malformed)?;
        let (id, sender, counter) = parse(&header).ok_or(Refused::Malformed)?;
        let nonce = nonce(sender.salt, counter);
        let known = self.senders.get(&sender).and_then(|known| known.keys.get(&id));
        let (fresh, opened);
        if let Some(key) = known {
            fresh = None;
            opened = key.open_in_place(nonce, Aad::from(header), body);
        } else {
            let key = sender.derive(&self.ring, id).ok_or(Refused::UnknownKey)?;
            opened = key.open_in_place(nonce, Aad::from(header), body);
            fresh = Some(key);
        }
        let opened = opened.map_err(|_| Refused::Forged)?;
        // From here on it is known that a member sent it.
        if self.note(sender, id, fresh, counter) { Ok(opened) } else { Err(Refused::Replayed) }
    }

    fn note(&mut self, sender: Sender, id: u8, fresh: Option<LessSafeKey>, counter: u64) -> bool {
        self.opened += 1;
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&sender) {
            let oldest =
                self.senders.iter().min_by_key(|(_, known)| known.heard_at).map(|(sender, _)| *sender);
            if let Some(oldest) = oldest {
                self.senders.remove(&oldest);
            }
        }
        let known = self.senders.entry(sender).or_insert_with(|| Known {
            keys: BTreeMap::new(),
            window: Window::default(),
            heard_at: 0,
        });
        known.heard_at = self.opened;
        if let Some(key) = fresh {
            known.keys.insert(id, key);
        }
        known.window.admit(counter)
    }

    /// Begins a stream: returns the greeting to send. `random` is random.
    pub fn greeting(&self, random: [u8; 32]) -> Option<[u8; GREETING_BYTES]> {
        let mut greeting = [VERSION; GREETING_BYTES];
        let (head, tail) = greeting.split_at_mut(2);
        head.copy_from_slice(&[VERSION, self.ring.first()?]);
        tail.copy_from_slice(&random);
        Some(greeting)
    }

    /// Returns the two halves of a stream, once both greetings are known. The one who called goes first.
    ///
    /// # Errors
    /// When a key named is not in the ring.
    pub fn stream(
        &self,
        caller: &[u8; GREETING_BYTES],
        called: &[u8; GREETING_BYTES],
        am_caller: bool,
    ) -> Result<Streams, Refused> {
        let [(VERSION, calling), (VERSION, answering)] = [(caller[0], caller[1]), (called[0], called[1])]
        else {
            return Err(Refused::Malformed);
        };
        let derive = |id, way: &[u8]| {
            let key = self.ring.derive(id, &[b"stream", way, caller, called]).ok_or(Refused::UnknownKey)?;
            Ok(Frames { key, counter: 0 })
        };
        let (there, back) = (derive(calling, b"there")?, derive(answering, b"back")?);
        Ok(if am_caller {
            Streams { send: there, receive: back }
        } else {
            Streams { send: back, receive: there }
        })
    }
}

/// Both halves of a stream.
#[derive(Debug)]
pub struct Streams {
    /// Seals what is sent.
    pub send: Frames,
    /// Opens what is received.
    pub receive: Frames,
}

/// One half of a stream: frames in order, each sealed under the next counter.
pub struct Frames {
    key: LessSafeKey,
    counter: u64,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl Frames {
    /// Bytes by which a sealed frame is longer.
    pub const TAG_BYTES: usize = TAG_BYTES;

    /// Seals the next frame, bound to its `head`.
    pub fn seal(&mut self, head: [u8; 4], body: &mut Vec<u8>) -> Result<(), Refused> {
        let nonce = self.next();
        self.key.seal_in_place_append_tag(nonce, Aad::from(head), body).map_err(|_| Refused::Malformed)
    }

    /// Opens the next frame.
    pub fn open<'a>(&mut self, head: [u8; 4], body: &'a mut [u8]) -> Result<&'a [u8], Refused> {
        let nonce = self.next();
        self.key
            .open_in_place(nonce, Aad::from(head), body)
            .map(|opened| &*opened)
            .map_err(|_| Refused::Forged)
    }

    fn next(&mut self) -> Nonce {
        self.counter += 1;
        nonce([0; 4], self.counter)
    }
}

fn nonce(salt: [u8; 4], counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    let (head, tail) = bytes.split_at_mut(4);
    head.copy_from_slice(&salt);
    tail.copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn parse(header: &[u8; HEADER_BYTES]) -> Option<(u8, Sender, u64)> {
    let (&[version, id], rest) = header.split_first_chunk::<2>()?;
    let (node, rest) = rest.split_first_chunk::<8>()?;
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let (salt, counter) = rest.split_first_chunk::<4>()?;
    let counter = u64::from_be_bytes(counter.try_into().ok()?);
    let sender = Sender { node: *node, epoch: u64::from_be_bytes(*epoch), salt: *salt };
    (version == VERSION).then_some((id, sender, counter))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use crate::gossip::seal::{Refused, Ring, Seal, Window};
    use crate::model::snapshot::GossipKeys;

    fn ring(ids: &[u8]) -> Ring {
        let ring = ids.iter().map(|id| (*id, BASE64.encode(&[*id; 32]))).collect();
        Ring::new(&GossipKeys { ring, seeds: Vec::new() }, &"mesh-a".parse().unwrap()).unwrap()
    }

    fn seal(ids: &[u8], node: &str) -> Seal {
        Seal::new(ring(ids), &node.parse().unwrap(), 7, [1, 2, 3, 4])
    }

    #[test]
    fn what_one_seals_the_other_opens_once() {
        let (mut a, mut b) = (seal(&[1], "a"), seal(&[2, 1], "b"));
        let mut packet = a.seal(b"hello").unwrap();
        let mut again = packet.clone();

        assert_eq!(b.open(&mut packet).unwrap(), b"hello");
        assert_eq!(b.open(&mut again), Err(Refused::Replayed));
    }

    #[test]
    fn every_changed_byte_is_refused_and_remembered_nowhere() {
        let (mut a, mut b) = (seal(&[1], "a"), seal(&[1], "b"));
        let packet = a.seal(b"hello").unwrap();

        for index in 0..packet.len() {
            let mut changed = packet.clone();
            changed[index] ^= 1;
            assert!(b.open(&mut changed).is_err(), "byte {index}");
        }

        assert!(b.senders.is_empty());
        let mut unchanged = packet;
        assert_eq!(b.open(&mut unchanged).unwrap(), b"hello");
    }

    #[test]
    fn a_key_taken_out_of_the_ring_opens_nothing_more() {
        let (mut a, mut b) = (seal(&[1], "a"), seal(&[2, 1], "b"));
        assert!(b.open(&mut a.seal(b"x").unwrap()).is_ok());

        b.rekey(ring(&[2]));
        assert_eq!(b.open(&mut a.seal(b"x").unwrap()), Err(Refused::UnknownKey));
        a.rekey(ring(&[2]));

        assert!(b.open(&mut a.seal(b"x").unwrap()).is_ok());
    }

    #[test]
    fn the_window_takes_each_counter_once_and_late_ones_up_to_64() {
        let mut window = Window::default();

        assert!(window.admit(100));
        assert!(window.admit(37));
        assert!(!window.admit(36), "too old to tell");
        assert!(!window.admit(37) && !window.admit(100));
        assert!(window.admit(99) && !window.admit(99));
        assert!(window.admit(1000) && !window.admit(100));
        assert!(!window.admit(0) && window.admit(1001));
    }

    #[test]
    fn a_stream_opens_in_order_and_in_no_other_stream() {
        let (a, b) = (seal(&[1], "a"), seal(&[1], "b"));
        let (caller, called) = (a.greeting([1; 32]).unwrap(), b.greeting([2; 32]).unwrap());
        let mut there = a.stream(&caller, &called, true).unwrap();
        let mut here = b.stream(&caller, &called, false).unwrap();
        let mut other = b.stream(&caller, &b.greeting([3; 32]).unwrap(), false).unwrap();
        let mut body = b"offer".to_vec();
        there.send.seal([0; 4], &mut body).unwrap();

        assert_eq!(other.receive.open([0; 4], &mut body.clone()), Err(Refused::Forged));
        assert_eq!(here.receive.open([0; 4], &mut body.clone()).unwrap(), b"offer");
        assert_eq!(here.receive.open([0; 4], &mut body), Err(Refused::Forged), "not twice");
    }
}
