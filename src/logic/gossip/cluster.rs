//! One node's part in the gossip: the machine that joins membership, records, rumours and exchanges.
//!
//! Give it packets and the time (`handle_*`), then drain what it wants (`poll_*`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::logic::gossip::catalog::{Entry, Judge, Merged, Records, Verdict, Writing};
use crate::logic::gossip::contact::{Contacts, Draws};
use crate::logic::gossip::farewell::{self, Farewell};
use crate::logic::gossip::introduction::{Introduction, MET_MAX};
use crate::logic::gossip::membership::{Belief, FANOUT, GOSSIP_PERIOD, Membership, State};
use crate::logic::gossip::roster::{self, DEAD_FOR, Roster, Seen};
use crate::logic::gossip::rumor::Rumors;
use crate::logic::gossip::sync::{self, Aged, Answer, Offer, Rest};
use crate::logic::gossip::wire::{Error, Identity, PACKET_BYTES_MAX, Packet, Signed, Transmit, Word, encode};
use crate::model::endpoint::{Catalog, MemberState};
use crate::model::name::NodeName;

/// Shortest time between two catalogues.
pub const PUBLISH_PERIOD: Duration = Duration::from_millis(50);
/// How long changes of belief are gathered before they are looked at.
const REFRESH_DELAY: Duration = Duration::from_millis(10);
/// How often the dead are counted and round trips are looked at.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(10);
/// Room that a packet needs besides the membership message and the words.
const FRAME_BYTES: usize = 8;
/// Most announced writings waited for.
const NOTICED_MAX: usize = 4096;
/// Shortest time between two changes of epoch: two nodes of one name must not chase each other.
const ADOPT_PERIOD: Duration = Duration::from_secs(5);

/// What the machine begins with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This process.
    pub me: Identity,
    /// Where to find members.
    pub seeds: Vec<SocketAddr>,
    /// Members known to an earlier process.
    pub known: Vec<SocketAddr>,
    /// Randomness.
    pub seed: u64,
    /// The time of day at the beginning, Unix milliseconds.
    pub wall_ms: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Cluster {
    start: Instant,
    start_ms: u64,
    membership: Membership,
    records: Records,
    rumors: Rumors,
    contacts: Contacts,
    introduction: Introduction,
    draws: Draws,
    roster: Roster,
    noticed: BTreeMap<NodeName, Writing>,
    out: VecDeque<Transmit>,
    exchanges: VecDeque<SocketAddr>,
    refresh_at: Option<Instant>,
    gossip_at: Instant,
    housekeeping_at: Instant,
    publish_at: Instant,
    adopt_at: Instant,
    dirty: bool,
    farewell: Option<Farewell>,
}

impl Cluster {
    /// Begins alone.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let mut draws = Draws::new(settings.seed);
        let addr = settings.me.addr;
        Self {
            start: now,
            start_ms: settings.wall_ms,
            membership: Membership::new(settings.me, draws.draw()),
            records: Records::default(),
            rumors: Rumors::default(),
            contacts: Contacts::new(addr, &settings.seeds, &settings.known, draws.draw(), now),
            introduction: Introduction::default(),
            draws,
            roster: Roster::default(),
            noticed: BTreeMap::new(),
            out: VecDeque::new(),
            exchanges: VecDeque::new(),
            refresh_at: Some(now),
            gossip_at: now,
            housekeeping_at: now + HOUSEKEEPING_PERIOD,
            publish_at: now,
            adopt_at: now,
            dirty: true,
            farewell: None,
        }
    }

    /// Returns which process this node is: what it says must carry this epoch.
    pub fn me(&self) -> &Identity {
        self.membership.me()
    }

    /// Returns whether the catalogue is as complete as it can be, and members know what this node says of itself.
    pub fn is_ready(&self) -> bool {
        let is_alone = !self.contacts.has_joined() && self.records.find(&self.me().node).is_some();
        self.contacts.is_ready() && (self.introduction.is_over() || is_alone)
    }

    /// Returns whether the last catalogue was told that [`Self::poll_catalog`] has to tell.
    pub fn is_told(&self) -> bool {
        !self.dirty
    }

    /// Replaces the seeds.
    pub fn set_seeds(&mut self, seeds: &[SocketAddr], now: Instant) {
        self.contacts.set_seeds(seeds, now);
    }

    /// Returns the gossip addresses of the members that are there, sorted.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.active_addrs().into_iter().collect()
    }

    /// Returns the members that are there, with the time of the last packet that each answered directly.
    pub fn present(&self) -> impl Iterator<Item = (&Seen, Option<Instant>)> {
        let here = self.roster.all().filter(|seen| seen.is_here());
        here.map(|seen| (seen, self.membership.answered_at(&seen.identity.node)))
    }

    // --- packets ----------------------------------------------------------------------------------------------------

    /// Takes an opened packet.
    ///
    /// # Errors
    /// When it is not a packet; nothing happened then.
    pub fn handle_packet(
        &mut self,
        from: SocketAddr,
        payload: &[u8],
        judge: Judge<'_>,
        now: Instant,
    ) -> Result<(), Error> {
        let packet = Packet::decode(payload)?;
        if self.farewell.is_some() {
            return Ok(());
        }
        match packet {
            Packet::Gossip { swim, words } => {
                if !swim.is_empty() {
                    self.membership.handle_message(&swim, now);
                }
                for word in words {
                    self.handle_word(from, word, judge, now);
                }
            }
            Packet::Doubt { about, incarnation } => {
                if let Some(incarnation) = self.membership.handle_doubt(&about, incarnation, now) {
                    let payload = encode(&Packet::Proof { about, incarnation });
                    self.out.push_back(Transmit { to: from, payload });
                }
            }
            Packet::Proof { about, incarnation } => self.membership.handle_proof(about, incarnation, now),
        }
        self.after(now);
        Ok(())
    }

    fn handle_word(&mut self, from: SocketAddr, word: Word, judge: Judge<'_>, now: Instant) {
        match word {
            Word::Record(signed) => self.take_record(Some(from), signed, true, judge, now),
            Word::Notice { node, epoch, version, at } => {
                let writing = (epoch, version);
                let heard = self.noticed.get(&node).is_some_and(|noticed| *noticed >= writing);
                if heard || node == self.me().node || !self.records.wants(&node, writing) {
                    return;
                }
                if self.noticed.len() < NOTICED_MAX || self.noticed.contains_key(&node) {
                    self.noticed.insert(node.clone(), writing);
                    let delay = self.draws.jitter(Duration::from_millis(200));
                    self.contacts.want(at, now + delay);
                    self.rumors.add(node.clone(), Word::Notice { node, epoch, version, at });
                }
            }
        }
    }

    /// Takes a record if it is new and genuine; with `tell`, passes it on.
    fn take_record(
        &mut self,
        from: Option<SocketAddr>,
        signed: Signed,
        tell: bool,
        judge: Judge<'_>,
        now: Instant,
    ) {
        let Ok(entry) = Entry::read(signed) else { return };
        let node = entry.node().clone();
        if node == self.me().node {
            let epoch = entry.statement.record.epoch;
            if epoch > self.me().epoch && judge(&entry.signed, &node) == Verdict::Genuine {
                self.adopt(epoch, now);
            }
            return;
        }
        if !self.records.wants(&node, entry.writing()) {
            return;
        }
        match judge(&entry.signed, &node) {
            Verdict::Genuine => {
                if tell {
                    self.tell(&entry);
                }
                if self.records.merge(entry) == Merged::New {
                    self.noticed.remove(&node);
                    self.touch(now);
                    self.dirty = true;
                }
            }
            Verdict::Forged => tracing::debug!(node = %node, "gossip record refused: not by its node"),
            Verdict::UnknownIssuer => {
                if let Some(from) = from {
                    self.contacts.want(from, now + Duration::from_millis(100));
                }
            }
        }
    }

    /// Begins to pass on a record, or where to get it when it is too long for a packet.
    fn tell(&mut self, entry: &Entry) {
        let node = entry.node().clone();
        let word = Word::Record(entry.signed.clone());
        let word = if word.size() + FRAME_BYTES <= PACKET_BYTES_MAX {
            word
        } else {
            let (epoch, version) = entry.writing();
            let at = self.roster.find(&node).map_or(self.me().addr, |seen| seen.identity.addr);
            Word::Notice { node: node.clone(), epoch, version, at }
        };
        self.rumors.add(node, word);
    }

    /// Returns the next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some((to, swim)) = self.membership.poll_transmit() {
            let here = self.roster.find(&to.node).is_none_or(Seen::is_here);
            let room = PACKET_BYTES_MAX.saturating_sub(swim.len() + FRAME_BYTES);
            let tellings = Rumors::tellings(self.membership.active_len());
            let words = if here { self.rumors.take(room, tellings) } else { Vec::new() };
            return Some(Transmit { to: to.addr, payload: encode(&Packet::Gossip { swim, words }) });
        }
        if let Some(doubt) = self.membership.poll_doubt() {
            let to = doubt.about.addr;
            let payload = encode(&Packet::Doubt { about: doubt.about, incarnation: doubt.incarnation });
            return Some(Transmit { to, payload });
        }
        self.out.pop_front()
    }

    // --- time -------------------------------------------------------------------------------------------------------

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.farewell.is_some() {
            self.say_farewell(now);
            return;
        }
        self.membership.handle_timeout(now);
        self.after(now);
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh(now);
        }
        if self.gossip_at <= now && !self.rumors.is_empty() {
            self.gossip(now);
        }
        if self.housekeeping_at <= now {
            self.housekeeping_at = now + HOUSEKEEPING_PERIOD;
            self.keep_house(now);
        }
        self.introduction.handle_timeout(now);
        if self.contacts.poll_timeout() <= now {
            let (active, dead) = (self.active_addrs(), self.roster.dead());
            let with = self.contacts.handle_timeout(&active, &dead, now);
            let fresh = with.into_iter().filter(|addr| !self.exchanges.contains(addr));
            self.exchanges.extend(fresh.collect::<Vec<_>>());
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Instant {
        if let Some(farewell) = &self.farewell {
            return farewell.next();
        }
        let gossip = (!self.rumors.is_empty() && self.membership.active_len() > 0).then_some(self.gossip_at);
        let publish = self.dirty.then_some(self.publish_at);
        let always = [self.contacts.poll_timeout(), self.housekeeping_at];
        let introduction = self.introduction.poll_timeout();
        let sometimes = [self.membership.poll_timeout(), self.refresh_at, introduction, gossip, publish];
        always.into_iter().chain(sometimes.into_iter().flatten()).min().unwrap_or(self.housekeeping_at)
    }

    fn after(&mut self, now: Instant) {
        if self.membership.take_changed() {
            self.touch(now);
        }
    }

    fn touch(&mut self, now: Instant) {
        self.refresh_at.get_or_insert(now + REFRESH_DELAY);
    }

    /// Tells what is new to a few random members.
    fn gossip(&mut self, now: Instant) {
        self.gossip_at = now + GOSSIP_PERIOD;
        let mut to: Vec<_> = self.active_addrs().into_iter().collect();
        self.draws.choose(&mut to, FANOUT);
        let tellings = Rumors::tellings(self.membership.active_len());
        for to in to {
            let words = self.rumors.take(PACKET_BYTES_MAX - FRAME_BYTES, tellings);
            if !words.is_empty() {
                let payload = encode(&Packet::Gossip { swim: Vec::new(), words });
                self.out.push_back(Transmit { to, payload });
            }
        }
    }

    /// Looks at what membership believes and at the records, and notes what changed.
    fn refresh(&mut self, now: Instant) {
        self.refresh_at = None;
        let look = self.roster.look(&self.membership, &self.records, self.clock_ms(now));
        for identity in look.arrived {
            self.records.recall(&identity.node);
            let record = self.records.find(&identity.node);
            if record.is_none_or(|entry| entry.statement.record.epoch < identity.epoch) {
                // Its announcement is probably under way; if not, it is fetched.
                self.contacts.want(identity.addr, now + Duration::from_secs(1));
            }
        }
        for identity in look.departed {
            self.membership.bury(identity, now);
        }
        self.membership.take_changed();
        self.dirty |= self.roster.take_changed();
    }

    /// Forgets who is gone for long, and looks at round trips.
    fn keep_house(&mut self, now: Instant) {
        self.records.expire(now);
        self.roster.time_all(&self.membership);
        for identity in self.roster.expired(self.clock_ms(now)) {
            self.roster.remove(&identity.node);
            self.records.forget(&identity.node, now);
            self.rumors.drop_node(&identity.node);
            self.membership.forget(&identity, now);
        }
        self.dirty |= self.roster.take_changed();
    }

    fn clock_ms(&self, now: Instant) -> u64 {
        self.start_ms + now.saturating_duration_since(self.start).as_millis() as u64
    }

    fn active_addrs(&self) -> BTreeSet<SocketAddr> {
        self.membership.active().map(|identity| identity.addr).collect()
    }

    fn adopt(&mut self, epoch: u64, now: Instant) {
        if now >= self.adopt_at {
            self.adopt_at = now + ADOPT_PERIOD;
            self.membership.adopt(epoch.saturating_add(1), self.me().addr, now);
            self.after(now);
        }
    }

    /// Goes on at another address, which members take over as they would that of a later process.
    pub fn relocate(&mut self, addr: SocketAddr, now: Instant) {
        self.contacts.relocate(addr, now);
        self.membership.adopt(self.me().epoch.saturating_add(1), addr, now);
    }

    // --- what the planes say and see ----------------------------------------------------------------------------------

    /// Says something new of this node. The record must carry the epoch of [`Self::me`].
    pub fn announce(&mut self, entry: Entry, now: Instant) {
        self.tell(&entry);
        self.records.merge(entry);
        self.dirty = true;
        self.gossip_at = now;
        self.introduce(now);
    }

    /// Meets members directly, once there is something to say and somebody to say it to.
    fn introduce(&mut self, now: Instant) {
        let speaks = self.records.find(&self.me().node).is_some();
        if self.introduction.is_begun() || !speaks || !self.contacts.has_joined() {
            return;
        }
        let mut members: Vec<_> = self.active_addrs().into_iter().collect();
        self.draws.choose(&mut members, MET_MAX);
        for member in &members {
            self.contacts.want(*member, now);
        }
        self.introduction.begin(members, now);
    }

    /// Says good-bye with a last record, small enough for a packet; [`Self::is_gone`] tells when it has been said.
    ///
    /// Membership is not told: whoever hears the good-bye buries the node, and nobody hears of a death first.
    pub fn leave(&mut self, entry: Entry, now: Instant) {
        let mut to: Vec<_> = self.active_addrs().into_iter().collect();
        self.draws.choose(&mut to, farewell::MEMBERS);
        let words = vec![Word::Record(entry.signed.clone())];
        self.records.merge(entry);
        let payload = encode(&Packet::Gossip { swim: Vec::new(), words });
        self.farewell = Some(Farewell::new(to, payload, now));
        self.say_farewell(now);
    }

    fn say_farewell(&mut self, now: Instant) {
        let copies = self.farewell.iter_mut().flat_map(|farewell| farewell.say(now));
        self.out.extend(copies.map(|(to, payload)| Transmit { to, payload }));
    }

    /// Returns whether the good-bye has been said often enough to stop.
    pub fn is_gone(&self) -> bool {
        self.farewell.as_ref().is_some_and(Farewell::is_over)
    }

    /// Returns the catalogue when it changed, at most each [`PUBLISH_PERIOD`].
    pub fn poll_catalog(&mut self, now: Instant) -> Option<Catalog> {
        if !self.dirty || now < self.publish_at {
            return None;
        }
        self.dirty = false;
        self.publish_at = now + PUBLISH_PERIOD;
        Some(self.view())
    }

    /// Returns everything known, this node included.
    pub fn view(&self) -> Catalog {
        let me = self.me();
        let state = if self.farewell.is_some() { MemberState::Left } else { MemberState::Alive };
        let (entry, stands) = (self.records.find(&me.node), (state, me.addr, self.start_ms));
        let mut members = self.roster.members(&self.records);
        members.insert(me.node.clone(), roster::member(entry, true, stands, None));
        Catalog { members }
    }

    // --- exchanges --------------------------------------------------------------------------------------------------

    /// Returns the next node to exchange everything with: [`Self::offer`] to it, and tell what came of it.
    pub fn poll_exchange(&mut self) -> Option<SocketAddr> {
        self.exchanges.pop_front()
    }

    /// Notes that an exchange came to nothing.
    pub fn exchange_failed(&mut self, with: SocketAddr) {
        self.contacts.failed(with);
        self.introduction.met(with);
    }

    /// Begins an exchange.
    pub fn offer(&self, now: Instant) -> Offer {
        Offer { me: self.me().clone(), beliefs: self.aged(now), digest: sync::digest(&self.records) }
    }

    /// Answers an exchange.
    ///
    /// # Errors
    /// When the offer is larger than any mesh; nothing happened then.
    pub fn answer(&mut self, offer: Offer, now: Instant) -> Result<Answer, Error> {
        offer.check()?;
        if offer.me.node != self.me().node {
            self.learn(&offer.me, offer.beliefs, now);
        }
        let (records, wanted) = sync::compare(&self.records, offer.digest);
        let wanted = wanted.into_iter().filter(|node| *node != self.me().node).collect();
        Ok(Answer { me: self.me().clone(), beliefs: self.aged(now), records, wanted })
    }

    /// Takes the answer to an exchange begun with `with`, and returns what to send last.
    ///
    /// # Errors
    /// When the answer is larger than any mesh; nothing happened then.
    pub fn conclude(
        &mut self,
        with: SocketAddr,
        answer: Answer,
        judge: Judge<'_>,
        now: Instant,
    ) -> Result<Rest, Error> {
        answer.check()?;
        if answer.me.node == self.me().node {
            self.contacts.is_myself(with);
        } else {
            self.learn(&answer.me, answer.beliefs, now);
            self.take_records(answer.records, judge, now);
            self.contacts.succeeded();
        }
        let mut wanted = answer.wanted;
        if self.introduction.expects(&with) {
            wanted.push(self.me().node.clone());
        }
        let records = sync::select(&self.records, &wanted);
        self.introduction.met(with);
        self.introduce(now);
        Ok(Rest { me: self.me().clone(), records })
    }

    /// Takes the last message of an exchange that this node answered.
    ///
    /// # Errors
    /// When it is larger than any mesh; nothing happened then.
    pub fn finish(&mut self, rest: Rest, judge: Judge<'_>, now: Instant) -> Result<(), Error> {
        rest.check()?;
        if rest.me.node != self.me().node {
            self.learn(&rest.me, Vec::new(), now);
            self.take_records(rest.records, judge, now);
            self.contacts.succeeded();
            self.introduce(now);
        }
        Ok(())
    }

    /// Returns everything known, for a process of this node that goes on in this one's place.
    pub fn bequeath(&self, now: Instant) -> Answer {
        let records = self.records.iter().map(|entry| entry.signed.clone()).collect();
        Answer { me: self.me().clone(), beliefs: self.aged(now), records, wanted: Vec::new() }
    }

    /// Takes over what the process before this one knew, as [`Self::bequeath`] gave it: the catalogue is complete then.
    ///
    /// # Errors
    /// When it is larger than any mesh; nothing happened then.
    pub fn inherit(&mut self, legacy: Answer, judge: Judge<'_>, now: Instant) -> Result<(), Error> {
        legacy.check()?;
        for signed in legacy.records {
            self.take_record(None, signed, false, judge, now);
        }
        self.believe(legacy.beliefs, None, now);
        self.contacts.succeeded();
        self.introduction.leave_out();
        self.refresh(now);
        Ok(())
    }

    fn aged(&self, now: Instant) -> Vec<Aged> {
        let now_ms = self.clock_ms(now);
        let aged = |belief: Belief| {
            let seen = self.roster.find(&belief.identity.node);
            let age_ms = seen.map_or(0, |seen| now_ms.saturating_sub(seen.since_ms));
            Aged { belief, age_s: (age_ms / 1000) as u32 }
        };
        self.membership.beliefs().map(aged).collect()
    }

    /// Takes over what another node believes, and that it is there itself.
    fn learn(&mut self, peer: &Identity, beliefs: Vec<Aged>, now: Instant) {
        let me = self.me().clone();
        let later = beliefs.iter().map(|aged| &aged.belief.identity);
        let later =
            later.filter(|other| other.node == me.node && other.age() > me.age()).max_by_key(|id| id.age());
        if let Some(epoch) = later.map(|identity| identity.epoch) {
            self.adopt(epoch, now);
        }
        self.believe(beliefs, Some(peer), now);
    }

    /// Takes over beliefs, and that `peer` is there.
    fn believe(&mut self, beliefs: Vec<Aged>, peer: Option<&Identity>, now: Instant) {
        let (me, now_ms) = (self.me().clone(), self.clock_ms(now));
        let mut news = Vec::with_capacity(beliefs.len() + 1);
        for Aged { belief, age_s } in beliefs {
            let node = &belief.identity.node;
            let age = Duration::from_secs(u64::from(age_s));
            if belief.state == State::Down && *node != me.node && self.roster.find(node).is_none() {
                if age >= DEAD_FOR || self.records.has_forgotten(node) {
                    continue;
                }
                let since_ms = now_ms.saturating_sub(age.as_millis() as u64);
                self.roster.note(&belief.identity, MemberState::Dead, since_ms);
            }
            news.push(belief);
        }
        news.extend(peer.map(|peer| Belief { identity: peer.clone(), incarnation: 0, state: State::Alive }));
        let tell = self.membership.active_len() > 0;
        self.membership.learn(news, tell, now);
        self.after(now);
    }

    fn take_records(&mut self, records: Vec<Signed>, judge: Judge<'_>, now: Instant) {
        // One or two are news to others as well; many mean that this node was behind.
        let tell = records.len() <= FANOUT;
        for signed in records {
            self.take_record(None, signed, tell, judge, now);
        }
    }
}
