//! A mesh in virtual time: nodes, a network that delays, loses and divides, and one seed. `MESH_SEED=…` repeats a run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh::logic::gossip::catalog::{Entry, Verdict};
use mesh::logic::gossip::cluster::{Cluster, Settings};
use mesh::logic::gossip::contact::Draws;
use mesh::logic::gossip::sync::{Answer, Offer, Rest};
use mesh::logic::gossip::wire::{Identity, Signed, Statement, encode};
use mesh::model::endpoint::{Catalog, MemberState, NodeRecord, Role};
use mesh::model::name::NodeName;

const WALL_MS: u64 = 1_700_000_000_000;

/// One node: its machine, and what it saw.
pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    pub(crate) version: u64,
    pub(crate) up: bool,
    pub(crate) side: u8,
    stopped_until: Option<Instant>,
    /// Epoch of the last record that it made.
    spoken: u64,
    /// Every state that it ever published of another node, with the time, in order.
    pub(crate) history: Vec<(Duration, NodeName, MemberState)>,
    last: BTreeMap<NodeName, MemberState>,
    wake: Option<Instant>,
}

#[derive(Debug)]
enum Event {
    Wake(usize),
    Packet { from: SocketAddr, to: SocketAddr, payload: Vec<u8> },
    Offer { from: usize, to: SocketAddr, offer: Box<Offer> },
    Answer { from: usize, to: usize, answer: Box<Answer> },
    Rest { to: usize, rest: Box<Rest> },
    Failed { node: usize, with: SocketAddr },
}

/// The world.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) loss_percent: u64,
    pub(crate) exchanges: bool,
    pub(crate) packets: u64,
    start: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    bodies: BTreeMap<u64, Event>,
    count: u64,
    draws: Draws,
    divided: bool,
}

/// Returns the seed of this run: `MESH_SEED`, or `default`. It is printed, so that a failure can be repeated.
#[expect(clippy::print_stderr, reason = "shown when a test fails")]
pub(crate) fn seed(default: u64) -> u64 {
    let seed = std::env::var("MESH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    eprintln!("MESH_SEED={seed}");
    seed
}

pub(crate) fn name(index: usize) -> NodeName {
    format!("node-{index}").parse().unwrap()
}

fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250) as u8 + 1], 7946))
}

fn key_of(node: &NodeName) -> [u8; 32] {
    let mut key = [0; 32];
    for (slot, byte) in key.iter_mut().zip(node.as_str().bytes()) {
        *slot = byte;
    }
    key
}

/// Stands in for a signature: whoever has the key can make it.
fn toy_signature(key: &[u8; 32], body: &[u8]) -> Vec<u8> {
    let mut draws = Draws::new(
        body.iter()
            .chain(key)
            .fold(7, |hash: u64, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)),
    );
    (0..8).flat_map(|_| draws.draw().to_be_bytes()).collect()
}

/// Checks a record as the world's control plane would have it.
pub(crate) fn judge(signed: &Signed, node: &NodeName) -> Verdict {
    let genuine = signed.key == key_of(node) && signed.signature == toy_signature(&signed.key, &signed.body);
    if genuine { Verdict::Genuine } else { Verdict::Forged }
}

/// Returns a record about `about`, signed by `signer`.
pub(crate) fn statement(about: &NodeName, signer: &NodeName, epoch: u64, version: u64, left: bool) -> Signed {
    let record = NodeRecord {
        node: about.clone(),
        epoch,
        version,
        role: Role::Proxy,
        addr: "10.0.0.1:15008".parse().unwrap(),
        zone: None,
        build: "test".to_owned(),
        draining: false,
        services: Vec::new(),
    };
    let body = encode(&Statement { record, left });
    let key = key_of(signer);
    let signature = toy_signature(&key, &body);
    Signed { body, key, not_after_ms: u64::MAX, issuer: [0; 16], pass: vec![0; 64], signature }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let start = mesh::net::clock::now() + Duration::from_hours(24);
        Self {
            nodes: Vec::new(),
            loss_percent: 0,
            exchanges: true,
            packets: 0,
            start,
            now: start,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            count: 0,
            draws: Draws::new(seed),
            divided: false,
        }
    }

    /// Returns the time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn wall_ms(&self) -> u64 {
        WALL_MS + self.elapsed().as_millis() as u64
    }

    /// Adds a node that finds the mesh through node 0.
    pub(crate) fn join(&mut self) -> usize {
        let index = self.nodes.len();
        let node = self.boot(index, self.wall_ms());
        self.nodes.push(node);
        self.announce(index);
        index
    }

    fn boot(&mut self, index: usize, epoch: u64) -> Node {
        let me = Identity { node: name(index), epoch, life: 0, addr: addr(index) };
        let seeds = vec![addr(0)];
        let (seed, wall_ms) = (self.draws.draw(), self.wall_ms());
        let cluster = Cluster::new(Settings { me, seeds, known: Vec::new(), seed, wall_ms }, self.now);
        let (history, last) = (Vec::new(), BTreeMap::new());
        Node {
            cluster,
            version: 0,
            up: true,
            side: 0,
            stopped_until: None,
            spoken: epoch,
            history,
            last,
            wake: None,
        }
    }

    /// Makes a node say something new.
    pub(crate) fn announce(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        node.version += 1;
        let me = node.cluster.me().clone();
        node.spoken = me.epoch;
        let signed = statement(&me.node, &me.node, me.epoch, node.version, false);
        node.cluster.announce(Entry::read(signed).unwrap(), now);
        self.settle(index);
    }

    pub(crate) fn leave(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        node.version += 1;
        let me = node.cluster.me().clone();
        let signed = statement(&me.node, &me.node, me.epoch, node.version, true);
        node.cluster.leave(Entry::read(signed).unwrap(), now);
        self.settle(index);
    }

    pub(crate) fn crash(&mut self, index: usize) {
        self.nodes[index].up = false;
    }

    /// Starts a crashed node again, `behind` the right time.
    pub(crate) fn restart(&mut self, index: usize, behind: Duration) {
        let epoch = self.wall_ms() - behind.as_millis() as u64;
        self.nodes[index] = self.boot(index, epoch);
        self.announce(index);
    }

    /// Stops a node's process for a while: packets for it wait.
    pub(crate) fn stop_for(&mut self, index: usize, time: Duration) {
        self.nodes[index].stopped_until = Some(self.now + time);
    }

    /// Divides the network into the nodes that `other_side` names and the rest; or heals it.
    pub(crate) fn divide(&mut self, other_side: impl Fn(usize) -> bool) {
        self.divided = true;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.side = u8::from(other_side(index));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.divided = false;
    }

    /// Hands a packet to a node, as if it had come from node `from`.
    pub(crate) fn inject(&mut self, from: usize, to: usize, payload: Vec<u8>) {
        self.push(self.now, Event::Packet { from: addr(from), to: addr(to), payload });
    }

    pub(crate) fn catalog(&self, index: usize) -> Catalog {
        self.nodes[index].cluster.view()
    }

    pub(crate) fn state(&self, of: usize, seen_by: usize) -> Option<MemberState> {
        self.catalog(seen_by).members.get(&name(of)).map(|member| member.state)
    }

    /// Returns whether every running node sees exactly the running nodes as alive, with their records.
    pub(crate) fn agrees(&self) -> bool {
        let up: Vec<_> = (0..self.nodes.len()).filter(|index| self.nodes[*index].up).collect();
        up.iter().all(|by| {
            let catalog = self.catalog(*by);
            let alive = catalog.members.values().filter(|m| m.state == MemberState::Alive).count();
            alive == up.len()
                && up.iter().all(|of| {
                    let (epoch, version) = (self.nodes[*of].cluster.me().epoch, self.nodes[*of].version);
                    catalog.members.get(&name(*of)).is_some_and(|member| {
                        member.record.as_ref().is_some_and(|r| (r.epoch, r.version) == (epoch, version))
                    })
                })
        })
    }

    /// Runs until `done`, and returns how long it took; panics after `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        done: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begin = self.now;
        while !done(self) {
            assert!(self.now - begin < limit, "not within {limit:?}: {what}");
            self.run_for(Duration::from_millis(50));
        }
        self.now - begin
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, id))) = self.events.peek().copied() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = self.now.max(at);
            let event = self.bodies.remove(&id).unwrap();
            self.handle(event);
        }
        self.now = end;
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.bodies.insert(self.count, event);
        self.events.push(Reverse((at, self.count)));
    }

    fn index_of(&self, at: SocketAddr) -> Option<usize> {
        let std::net::IpAddr::V4(ip) = at.ip() else { return None };
        let [_, _, high, low] = ip.octets();
        let index = usize::from(high) * 250 + usize::from(low).checked_sub(1)?;
        (index < self.nodes.len()).then_some(index)
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.nodes[a], &self.nodes[b]);
        a.up && b.up && (!self.divided || a.side == b.side)
    }

    /// Puts an event off that would reach a stopped process.
    fn put_off(&mut self, index: usize, event: Event) -> Option<Event> {
        match self.nodes[index].stopped_until {
            Some(until) if until > self.now => {
                self.push(until, event);
                None
            }
            _ => Some(event),
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        let target = match &event {
            Event::Wake(index) => *index,
            Event::Packet { from, to, .. } => match (self.index_of(*from), self.index_of(*to)) {
                (Some(from), Some(to)) if self.connected(from, to) => to,
                _ => return,
            },
            Event::Offer { from, to, .. } => match self.index_of(*to) {
                Some(index) if self.connected(*from, index) && self.exchanges => index,
                _ => {
                    return self.push(now + Duration::from_secs(1), Event::Failed { node: *from, with: *to });
                }
            },
            Event::Answer { from, to, .. } => {
                if !self.connected(*from, *to) {
                    return;
                }
                *to
            }
            Event::Rest { to, .. } => *to,
            Event::Failed { node, .. } => *node,
        };
        if !self.nodes[target].up {
            return;
        }
        let Some(event) = self.put_off(target, event) else { return };
        let latency = self.latency();
        let node = &mut self.nodes[target];
        match event {
            Event::Wake(_) => {
                if node.wake.is_some_and(|at| at > now) {
                    return;
                }
                node.wake = None;
                node.cluster.handle_timeout(now);
            }
            Event::Packet { from, payload, .. } => {
                node.cluster.handle_packet(from, &payload, &mut judge, now).unwrap();
            }
            Event::Offer { from, offer, .. } => {
                let answer = Box::new(node.cluster.answer(*offer, now).unwrap());
                self.push(now + latency, Event::Answer { from: target, to: from, answer });
            }
            Event::Answer { from, answer, .. } => {
                let rest = Box::new(node.cluster.conclude(addr(from), *answer, &mut judge, now).unwrap());
                self.push(now + latency, Event::Rest { to: from, rest });
            }
            Event::Rest { rest, .. } => node.cluster.finish(*rest, &mut judge, now).unwrap(),
            Event::Failed { with, .. } => node.cluster.exchange_failed(with),
        }
        self.settle(target);
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(300 + self.draws.draw() % 1200)
    }

    /// Carries out what a node wants.
    fn settle(&mut self, index: usize) {
        let now = self.now;
        while let Some(transmit) = self.nodes[index].cluster.poll_transmit() {
            self.packets += 1;
            if self.draws.draw() % 100 >= self.loss_percent {
                let at = now + self.latency();
                let (from, to) = (addr(index), transmit.to);
                self.push(at, Event::Packet { from, to, payload: transmit.payload });
            }
        }
        while let Some(to) = self.nodes[index].cluster.poll_exchange() {
            let offer = Box::new(self.nodes[index].cluster.offer(now));
            let at = now + self.latency() * 3;
            self.push(at, Event::Offer { from: index, to, offer });
        }
        if self.nodes[index].cluster.is_gone() {
            self.nodes[index].up = false;
            return;
        }
        if let Some(catalog) = self.nodes[index].cluster.poll_catalog(now) {
            self.record(index, &catalog);
        }
        let node = &mut self.nodes[index];
        let epoch = node.cluster.me().epoch;
        if node.spoken < epoch {
            self.announce(index);
            return;
        }
        let at = self.nodes[index].cluster.poll_timeout().max(now + Duration::from_micros(10));
        if self.nodes[index].wake.is_none_or(|wake| at < wake) {
            self.nodes[index].wake = Some(at);
            self.push(at, Event::Wake(index));
        }
    }

    fn record(&mut self, index: usize, catalog: &Catalog) {
        let elapsed = self.elapsed();
        let node = &mut self.nodes[index];
        for (other, member) in &catalog.members {
            if node.last.insert(other.clone(), member.state) != Some(member.state) {
                node.history.push((elapsed, other.clone(), member.state));
            }
        }
    }

    /// Returns how often any node published another as dead that was up.
    pub(crate) fn deaths_seen(&self) -> usize {
        let all = self.nodes.iter().flat_map(|node| &node.history);
        all.filter(|(_, _, state)| *state == MemberState::Dead).count()
    }
}
