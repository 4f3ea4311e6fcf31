//! Who is there: an adapter over the `foca` crate (SWIM with suspicion and incarnations). Nothing else knows that crate.
//!
//! Where we differ from plain SWIM:
//! - a process that stood still (stopped, starved, suspended) does not count the time in which it could not hear answers:
//!   its clock is set back by the lag, so that it wakes up believing what it believed before;
//! - after Lifeguard (Dadgar, Phillips, Currey 2017), a node to whom several others went silent at once doubts itself first:
//!   it waits a second suspicion timeout before it declares them dead. Lifeguard scales by a score fed with nacks; we count
//!   the different members that failed since the last one that answered, which needs no further messages;
//! - a suspect is told so directly and repeatedly (Lifeguard's buddy system piggybacks on pings), so that it can refute in
//!   time even when a quarter of all packets is lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{
    AccumulatingRuntime, Config, Foca, Header, Message, NoCustomBroadcast, OwnedNotification, PeriodicParams,
    PostcardCodec, Timer,
};
use rand::{SeedableRng as _, rngs::StdRng};

use crate::logic::gossip::rumor::Rumors;
use crate::logic::gossip::wire::{Identity, SWIM_BYTES_MAX};
use crate::model::name::NodeName;

/// How often one member is probed.
pub const PROBE_PERIOD: Duration = Duration::from_millis(500);
/// How long a direct answer may take before others are asked to try.
pub const PROBE_RTT: Duration = Duration::from_millis(200);
/// Shortest time from suspicion to death.
pub const SUSPICION_MIN: Duration = Duration::from_secs(2);
/// How often what is new is told to [`FANOUT`] random members.
pub const GOSSIP_PERIOD: Duration = Duration::from_millis(200);
/// How many members are told at once.
pub const FANOUT: usize = 3;
/// A timer as late as this means that this process stood still.
const LAG_MIN: Duration = Duration::from_millis(300);
/// How often a suspect is told that it is one.
const DOUBT_PERIOD: Duration = Duration::from_millis(200);
/// Most news of one exchange that are passed on by rumour; of more, a rejoining half of the mesh, anti-entropy tells.
const TELL_MAX: usize = 256;
/// For how long death is remembered here; the cluster reaps earlier.
const REMEMBER_DEAD: Duration = Duration::from_hours(24);

/// Whether a member answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum State {
    /// It does.
    Alive,
    /// It did not lately.
    Suspect,
    /// It is taken for dead.
    Down,
}

/// What is believed of one process of a node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Belief {
    /// The process.
    pub identity: Identity,
    /// Counts its refutations.
    pub incarnation: u16,
    /// Whether it answers.
    pub state: State,
}

/// A suspect that is to be told so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The suspect.
    pub about: Identity,
    /// At which incarnation it is suspected.
    pub incarnation: u16,
}

/// An answer that came to a probe.
#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    micros: u32,
    at: Instant,
}

/// The membership of one node: a machine with timers. After every `handle_*`, drain the `poll_*`.
pub struct Membership {
    foca: Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    timers: BinaryHeap<Reverse<Due>>,
    due_count: u64,
    sends: VecDeque<(Identity, Vec<u8>)>,
    /// How far this machine's clock is behind: the time in which it stood still.
    lost: Duration,
    probed: Option<(Identity, u8, Instant)>,
    round_trips: BTreeMap<NodeName, RoundTrip>,
    /// Members that failed a probe since the last that answered one.
    silent: BTreeSet<NodeName>,
    doubts: BTreeMap<NodeName, Instant>,
    doubts_due: VecDeque<Doubt>,
    sized_for: usize,
    changed: bool,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("me", self.foca.identity()).finish_non_exhaustive()
    }
}

/// A timer of `foca`. They must fire in the order of their deadlines, and of their kinds where those are equal.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    timer: Timer<Identity>,
    /// Keeps equal ones in the order in which they were set.
    count: u64,
    /// Whether it was put off once because this node doubted itself.
    put_off: bool,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at
            .cmp(&other.at)
            .then_with(|| self.timer.cmp(&other.timer))
            .then_with(|| self.count.cmp(&other.count))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns the time from suspicion to death in a mesh of `members`: `0.5 s · 3 · log10(n)`, at least [`SUSPICION_MIN`].
pub fn suspicion(members: usize) -> Duration {
    let scaled = PROBE_PERIOD.mul_f64(3.0 * (members.max(1) as f64).log10().max(1.0));
    scaled.max(SUSPICION_MIN)
}

fn tuning(members: usize) -> Config {
    let one = NonZeroUsize::MIN;
    let fanout = NonZeroUsize::new(FANOUT).unwrap_or(one);
    let every = |frequency, num_members| Some(PeriodicParams { frequency, num_members });
    let transmissions = u8::try_from(Rumors::tellings(members)).unwrap_or(u8::MAX);
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_RTT,
        num_indirect_probes: fanout,
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MAX),
        suspect_to_down_after: suspicion(members),
        remove_down_after: Some(REMEMBER_DEAD),
        max_packet_size: NonZeroUsize::new(SWIM_BYTES_MAX).unwrap_or(one),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(30), one),
        periodic_announce_to_down_members: every(Duration::from_secs(10), one),
        periodic_gossip: every(GOSSIP_PERIOD, fanout),
    }
}

impl foca::Identity for Identity {
    /// The name alone: a node that moves to another address is still the same node.
    type Addr = NodeName;

    fn renew(&self) -> Option<Self> {
        let life = self.life.checked_add(1)?;
        Some(Self { life, ..self.clone() })
    }

    fn addr(&self) -> NodeName {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.age(), &self.addr) > (adversary.age(), &adversary.addr)
    }
}

fn to_foca(belief: Belief) -> foca::Member<Identity> {
    let state = match belief.state {
        State::Alive => foca::State::Alive,
        State::Suspect => foca::State::Suspect,
        State::Down => foca::State::Down,
    };
    foca::Member::new(belief.identity, belief.incarnation, state)
}

fn from_foca(member: &foca::Member<Identity>) -> Belief {
    let state = match member.state() {
        foca::State::Alive => State::Alive,
        foca::State::Suspect => State::Suspect,
        foca::State::Down => State::Down,
    };
    Belief { identity: member.id().clone(), incarnation: member.incarnation(), state }
}

impl Membership {
    /// Begins alone.
    pub fn new(me: Identity, seed: u64) -> Self {
        let foca = Foca::new(me, tuning(1), StdRng::seed_from_u64(seed), PostcardCodec);
        Self {
            foca,
            runtime: AccumulatingRuntime::new(),
            timers: BinaryHeap::new(),
            due_count: 0,
            sends: VecDeque::new(),
            lost: Duration::ZERO,
            probed: None,
            round_trips: BTreeMap::new(),
            silent: BTreeSet::new(),
            doubts: BTreeMap::new(),
            doubts_due: VecDeque::new(),
            sized_for: 1,
            changed: true,
        }
    }

    /// Returns who this node is: it changes when the node has to come back from being declared dead.
    pub fn me(&self) -> &Identity {
        self.foca.identity()
    }

    /// Takes a membership message. What is wrong with it harms nothing and is only told in the trace.
    pub fn handle_message(&mut self, bytes: &[u8], now: Instant) {
        let outcome = self.foca.handle_data(bytes, &mut self.runtime);
        self.settle(outcome, now);
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(at) = self.poll_timeout() {
            let lag = now.saturating_duration_since(at);
            if lag >= LAG_MIN {
                tracing::debug!(lag_ms = lag.as_millis() as u64, "gossip stood still");
                self.lost += lag;
            }
        }
        while let Some(Reverse(due)) = self.timers.peek() {
            if due.at + self.lost > now {
                break;
            }
            let Some(Reverse(due)) = self.timers.pop() else { break };
            self.fire(due, now);
        }
        self.raise_doubts(now);
    }

    fn fire(&mut self, mut due: Due, now: Instant) {
        let death = matches!(due.timer, Timer::ChangeSuspectToDown { .. });
        if death && !due.put_off && self.silent.len() > 1 {
            due.at += suspicion(self.sized_for);
            due.put_off = true;
            self.timers.push(Reverse(due));
            return;
        }
        let outcome = self.foca.handle_timer(due.timer, &mut self.runtime);
        self.settle(outcome, now);
    }

    /// Returns when to call [`Self::handle_timeout`] next; `None` while alone.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse(due)| due.at + self.lost);
        let doubt = self.doubts.values().min().copied();
        [timer, doubt].into_iter().flatten().min()
    }

    /// Returns the next message to send, and to whom.
    pub fn poll_transmit(&mut self) -> Option<(Identity, Vec<u8>)> {
        self.sends.pop_front()
    }

    /// Returns the next suspect to be told.
    pub fn poll_doubt(&mut self) -> Option<Doubt> {
        self.doubts_due.pop_front()
    }

    /// Returns whether anything may have changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns what is believed of every node but this one, the dead included; in no order.
    pub fn beliefs(&self) -> impl Iterator<Item = Belief> {
        let me = &self.foca.identity().node;
        self.foca.iter_membership_state().filter(move |member| member.id().node != *me).map(from_foca)
    }

    /// Returns the members that are there, suspects included; in no order.
    pub fn active(&self) -> impl Iterator<Item = &Identity> {
        self.foca.iter_members().map(foca::Member::id)
    }

    /// Returns how many other members are there.
    pub fn active_len(&self) -> usize {
        self.foca.num_members()
    }

    /// Returns the last measured round trip to `node`, microseconds.
    pub fn round_trip_us(&self, node: &NodeName) -> Option<u32> {
        self.round_trips.get(node).map(|trip| trip.micros)
    }

    /// Returns when `node` last answered a probe.
    pub fn answered_at(&self, node: &NodeName) -> Option<Instant> {
        self.round_trips.get(node).map(|trip| trip.at)
    }

    /// Takes what another node believes. With `tell`, passes on what is new.
    ///
    /// That someone is dead who is not dead here is taken as a suspicion, which it can refute (as memberlist does when it
    /// merges states): otherwise, when a partition heals, each side would kill the other's members once more.
    pub fn learn(&mut self, beliefs: Vec<Belief>, tell: bool, now: Instant) {
        let known: BTreeMap<NodeName, Belief> =
            self.beliefs().map(|belief| (belief.identity.node.clone(), belief)).collect();
        let me = self.foca.identity().clone();
        let mut doubted = Vec::new();
        let news = beliefs.into_iter().filter_map(|mut belief| {
            if belief.identity.node == me.node {
                // Older lives of this node are over; a newer one is not met here but in `adopt`.
                return (belief.identity == me).then_some(belief);
            }
            if let Some(known) = known.get(&belief.identity.node) {
                if known.identity == belief.identity
                    && belief.state == State::Down
                    && known.state != State::Down
                {
                    belief.state = State::Suspect;
                    belief.incarnation = belief.incarnation.max(known.incarnation);
                    doubted.push(belief.identity.node.clone());
                }
                if *known == belief {
                    return None;
                }
            }
            Some(belief)
        });
        let news: Vec<_> = news.map(to_foca).collect();
        let tell = tell && news.len() <= TELL_MAX;
        self.doubts.extend(doubted.into_iter().map(|node| (node, now)));
        let outcome = self.foca.apply_many(news.into_iter(), tell, &mut self.runtime);
        self.settle(outcome, now);
    }

    /// Becomes a later process of this node, at `epoch`: another one of a higher epoch was heard of, or the address is another.
    pub fn adopt(&mut self, epoch: u64, addr: SocketAddr, now: Instant) {
        let new = Identity { epoch, life: 0, addr, ..self.foca.identity().clone() };
        let outcome = self.foca.change_identity(new, &mut self.runtime);
        self.settle(outcome, now);
        self.reconnect(now);
    }

    /// Takes a doubt about this node: refutes it. Returns the incarnation to answer with; `None` when it is about another
    /// process of this node.
    pub fn handle_doubt(&mut self, about: &Identity, incarnation: u16, now: Instant) -> Option<u16> {
        let mine = self.foca.identity() == about;
        let above = incarnation.checked_add(1).filter(|_| mine)?;
        let suspected = foca::Member::new(about.clone(), incarnation, foca::State::Suspect);
        let outcome = self.foca.apply_many(std::iter::once(suspected), true, &mut self.runtime);
        self.settle(outcome, now);
        Some(above)
    }

    /// Takes the answer to a doubt.
    pub fn handle_proof(&mut self, about: Identity, incarnation: u16, now: Instant) {
        if about.node != self.foca.identity().node {
            let alive = foca::Member::new(about, incarnation, foca::State::Alive);
            let outcome = self.foca.apply_many(std::iter::once(alive), true, &mut self.runtime);
            self.settle(outcome, now);
        }
    }

    /// Takes it as certain that `identity` is gone: it said so. Others are not told: they hear the same good-bye, and
    /// without it they would take this for a death.
    pub fn bury(&mut self, identity: Identity, now: Instant) {
        let down = foca::Member::down(identity);
        let outcome = self.foca.apply_many(std::iter::once(down), false, &mut self.runtime);
        self.settle(outcome, now);
    }

    /// Forgets a member that is gone, so that its name takes no room.
    pub fn forget(&mut self, identity: &Identity, now: Instant) {
        self.round_trips.remove(&identity.node);
        let outcome = self.foca.handle_timer(Timer::RemoveDown(identity.clone()), &mut self.runtime);
        self.settle(outcome, now);
    }

    /// Goes on with the members known: `foca` waits for a message after every change of identity.
    fn reconnect(&mut self, now: Instant) {
        let outcome = self.foca.apply_many(std::iter::empty(), false, &mut self.runtime);
        self.settle(outcome, now);
    }

    /// Carries out what `foca` asked for.
    fn settle(&mut self, outcome: Result<(), foca::Error>, now: Instant) {
        if let Err(error) = outcome {
            tracing::trace!(%error, "membership message refused");
        }
        let mut rejoined = false;
        while let Some(notice) = self.runtime.to_notify() {
            rejoined |= self.note(notice, now);
        }
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.sends.push_back((to, bytes.to_vec()));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            // The cluster decides when the dead are forgotten.
            if !matches!(timer, Timer::RemoveDown(_)) {
                self.due_count += 1;
                let at = now.checked_sub(self.lost).unwrap_or(now) + after;
                self.timers.push(Reverse(Due { at, timer, count: self.due_count, put_off: false }));
            }
        }
        self.changed = true;
        self.resize();
        if rejoined {
            self.reconnect(now);
        }
    }

    /// Returns whether this node changed its identity.
    fn note(&mut self, notice: OwnedNotification<Identity>, now: Instant) -> bool {
        match notice {
            OwnedNotification::DataSent(Header { dst, message: Message::Ping(number), .. }) => {
                self.probed = Some((dst, number, now));
            }
            OwnedNotification::DataReceived(Header { src, message, .. }) => self.heard(&src, &message, now),
            OwnedNotification::ProbeFailed(_, identity) => {
                self.silent.insert(identity.node.clone());
                self.doubts.insert(identity.node, now);
            }
            OwnedNotification::MemberDown(identity) => {
                self.doubts.remove(&identity.node);
            }
            OwnedNotification::Rejoin(_) => return true,
            OwnedNotification::DataSent(_)
            | OwnedNotification::MemberUp(_)
            | OwnedNotification::Rename(..)
            | OwnedNotification::Active
            | OwnedNotification::Idle
            | OwnedNotification::Defunct => {}
        }
        false
    }

    fn heard(&mut self, from: &Identity, message: &Message<Identity>, now: Instant) {
        match message {
            Message::Ack(number) => {
                self.silent.clear();
                if let Some((_, _, sent)) = self.probed.take_if(|(to, n, _)| to == from && n == number) {
                    let micros = now.saturating_duration_since(sent).as_micros();
                    let micros = u32::try_from(micros).unwrap_or(u32::MAX);
                    self.round_trips.insert(from.node.clone(), RoundTrip { micros, at: now });
                }
            }
            Message::ForwardedAck { .. } => self.silent.clear(),
            Message::Ping(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => {}
        }
    }

    /// Adapts suspicion and retransmissions to the size of the mesh.
    fn resize(&mut self) {
        let members = self.foca.num_members() + 1;
        if members != self.sized_for {
            self.sized_for = members;
            if let Err(error) = self.foca.set_config(tuning(members)) {
                tracing::debug!(%error, "membership kept its tuning");
            }
        }
    }

    fn raise_doubts(&mut self, now: Instant) {
        let due: Vec<NodeName> =
            self.doubts.iter().filter(|(_, at)| **at <= now).map(|(node, _)| node.clone()).collect();
        for node in due {
            let belief = self.beliefs().find(|belief| belief.identity.node == node);
            match belief {
                Some(Belief { identity, incarnation, state: State::Suspect }) => {
                    self.doubts_due.push_back(Doubt { about: identity, incarnation });
                    self.doubts.insert(node, now + DOUBT_PERIOD);
                }
                Some(Belief { state: State::Alive | State::Down, .. }) | None => {
                    self.doubts.remove(&node);
                }
            }
        }
    }
}
