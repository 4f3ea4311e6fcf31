//! Exchanges of everything with other members, begun and answered; and the look at how members are reached, which tries them
//! all.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::gossip::seal::{GREETING_BYTES, Refused};
use crate::gossip::socket::{Channel, EXCHANGE_MAX, Error};
use crate::gossip::voice::{ASKING_MAX, Status, Voice, count};
use crate::logic::gossip::catalog::NODES_MAX;
use crate::logic::gossip::sync::{Answer, Offer, Rest};
use crate::model::endpoint::{Contact, Reach};
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::net::{clock, task};

/// Most exchanges answered at once: each may hold 8 MiB.
const ANSWERING_MAX: usize = 16;
/// Most of those for one address, so that a single stranger who holds connections open cannot keep members out.
const ANSWERING_ONE_MAX: usize = 8;
/// Longest time to make a connection: a host that is off answers nothing at all.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// Longest time until a caller has said which key it speaks with.
const GREETING_MAX: Duration = Duration::from_secs(2);
/// Most members that a look tries.
const LOOKED_MAX: usize = 64;

impl Voice {
    /// Begins an exchange, unless one with the same node is under way.
    pub(crate) fn ask(self: &Rc<Self>, with: SocketAddr) {
        if !self.asking.borrow_mut().insert(with) {
            return;
        }
        let voice = Rc::clone(self);
        task::spawn_local("gossip exchange", async move {
            let outcome = within(EXCHANGE_MAX, voice.ask_all(with)).await;
            voice.asking.borrow_mut().remove(&with);
            if let Err(error) = outcome {
                count(&voice.tally.exchanges_failed);
                tracing::debug!(%with, %error, "gossip exchange failed");
                voice.speaker.borrow_mut().cluster.exchange_failed(with);
            } else {
                count(&voice.tally.exchanges);
            }
            voice.changed.notify_one();
        });
    }

    async fn ask_all(&self, with: SocketAddr) -> Result<(), Error> {
        let mine = self.greeting()?;
        let dial = async { Ok(TcpStream::connect(with).await?) };
        let mut channel = Channel::new(within(DIAL_MAX, dial).await?);
        channel.greet(&mine).await?;
        let theirs = channel.greeted().await?;
        let halves = self.speaker.borrow().seal.stream(&mine, &theirs, true)?;
        channel.secure(halves);
        let offer = {
            let speaker = self.speaker.borrow();
            speaker.parcel(speaker.cluster.offer(clock::now()), None)
        };
        channel.send(&offer).await?;
        let answer = channel.receive().await?;
        let (answer, theirs): (Answer, _) = self.speaker.borrow_mut().unpack(&answer)?;
        let node = answer.me.node.clone();
        let rest = {
            let speaker = &mut *self.speaker.borrow_mut();
            let (checker, now_ms) = (&mut speaker.checker, clock::wall_ms());
            let mut judge = |signed: &_, node: &_| checker.check(signed, node, now_ms);
            speaker.cluster.conclude(with, answer, &mut judge, clock::now())?
        };
        let (rest, known) = {
            let speaker = self.speaker.borrow();
            (speaker.parcel(rest, theirs), speaker.bans.as_ref().map(|list| list.revision))
        };
        channel.send(&rest).await?;
        let was_sent = theirs.zip(known).is_some_and(|(theirs, known)| theirs < known);
        // Whoever has been sent the list has it once it has read all of the message, and so ends the exchange.
        if !was_sent || channel.ended().await {
            self.note_heard(&node, theirs.max(known.filter(|_| was_sent)));
        }
        Ok(())
    }

    /// Answers an exchange, unless too many are under way.
    pub(crate) fn answer_on(self: &Rc<Self>, stream: TcpStream, from: IpAddr) {
        {
            let mut answering = self.answering.borrow_mut();
            let same = answering.iter().filter(|other| **other == from).count();
            if answering.len() >= ANSWERING_MAX || same >= ANSWERING_ONE_MAX {
                return;
            }
            answering.push(from);
        }
        let voice = Rc::clone(self);
        task::spawn_local("gossip answer", async move {
            let outcome = within(EXCHANGE_MAX, voice.answer_all(stream)).await;
            let mut answering = voice.answering.borrow_mut();
            if let Some(index) = answering.iter().position(|other| *other == from) {
                answering.swap_remove(index);
            }
            drop(answering);
            match outcome {
                Ok(()) => count(&voice.tally.exchanges),
                Err(error) => {
                    count(&voice.tally.exchanges_failed);
                    tracing::debug!(%error, "gossip exchange not answered");
                }
            }
            voice.changed.notify_one();
        });
    }

    async fn answer_all(&self, stream: TcpStream) -> Result<(), Error> {
        let mine = self.greeting()?;
        let mut channel = Channel::new(stream);
        let theirs = within(GREETING_MAX, channel.greeted()).await?;
        channel.greet(&mine).await?;
        let halves = self.speaker.borrow().seal.stream(&theirs, &mine, false)?;
        channel.secure(halves);
        let offer = channel.receive().await?;
        let (offer, theirs): (Offer, _) = self.speaker.borrow_mut().unpack(&offer)?;
        let answer = self.speaker.borrow_mut().cluster.answer(offer, clock::now())?;
        self.changed.notify_one();
        let answer = self.speaker.borrow().parcel(answer, theirs);
        channel.send(&answer).await?;
        let rest = channel.receive().await?;
        let (rest, _): (Rest, _) = self.speaker.borrow_mut().unpack(&rest)?;
        self.note_call(&rest.me.node);
        let speaker = &mut *self.speaker.borrow_mut();
        let (checker, now_ms) = (&mut speaker.checker, clock::wall_ms());
        let mut judge = |signed: &_, node: &_| checker.check(signed, node, now_ms);
        Ok(speaker.cluster.finish(rest, &mut judge, clock::now())?)
    }

    fn greeting(&self) -> Result<[u8; GREETING_BYTES], Error> {
        Ok(self.speaker.borrow().seal.greeting(rand::random()).ok_or(Refused::UnknownKey)?)
    }

    /// Tries an exchange with the members that are there, and publishes under `number` how each is reached.
    pub(crate) fn look(self: &Rc<Self>, number: u64, status: &watch::Sender<Status>) {
        let (voice, status) = (Rc::clone(self), status.clone());
        task::spawn_local("gossip look", async move {
            let members: Vec<_> = {
                let speaker = voice.speaker.borrow();
                let present = speaker.cluster.present().take(LOOKED_MAX);
                present.map(|(seen, answered)| (seen.clone(), answered)).collect()
            };
            let voice = &voice;
            let tried = futures_util::stream::iter(members).map(|(seen, answered)| async move {
                let outcome = within(EXCHANGE_MAX, voice.ask_all(seen.identity.addr)).await;
                let called = voice.called.borrow().get(&seen.identity.node).copied();
                let heard = voice.heard_from.borrow().get(&seen.identity.addr).copied();
                Contact {
                    node: seen.identity.node,
                    gossip: seen.identity.addr,
                    state: seen.state,
                    answered_ms_ago: answered.map(ms_since),
                    heard_ms_ago: heard.map(ms_since),
                    exchange_error: outcome.err().map(|error| error.to_string()),
                    called_ms_ago: called.map(ms_since),
                }
            });
            let mut contacts: Vec<_> = tried.buffer_unordered(ASKING_MAX).collect().await;
            contacts.sort_by(|a, b| a.node.cmp(&b.node));
            let reach = Reach { speaking_ms: ms_since(voice.began), contacts };
            status.send_modify(|status| status.looked = (number, Arc::new(reach)));
        });
    }

    /// Notes which list of bans a member has. What it says when it begins an exchange itself does not count: whoever has the
    /// keys could say so in its name, and this one was called at the member's address.
    fn note_heard(&self, node: &NodeName, revision: Option<Revision>) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(revision) = revision
            && (heard.len() < NODES_MAX || heard.contains_key(node))
        {
            heard.insert(node.clone(), revision);
        }
    }

    /// Notes that a member has begun an exchange.
    fn note_call(&self, node: &NodeName) {
        let mut called = self.called.borrow_mut();
        if called.len() < NODES_MAX || called.contains_key(node) {
            called.insert(node.clone(), clock::now());
        }
    }
}

fn ms_since(instant: Instant) -> u64 {
    u64::try_from(clock::now().saturating_duration_since(instant).as_millis()).unwrap_or(u64::MAX)
}

async fn within<T>(most: Duration, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(most, step).await.unwrap_or(Err(Error::Late))
}
