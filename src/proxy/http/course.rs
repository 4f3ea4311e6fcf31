//! The course of one call to a service: which endpoint takes the next attempt, whether there is a next one, and what is
//! learned from each.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::logic::balance::balancer::{Algorithm, HashKey};
use crate::logic::balance::hash;
use crate::logic::balance::session::{self, Carrier, Session, SessionRules};
use crate::logic::http::grpc;
use crate::logic::http::head::RequestHead;
use crate::logic::resilience::deadline::Deadline;
use crate::logic::resilience::outcome::{Grade, Outcome};
use crate::logic::resilience::retry::{self, ATTEMPT, Attempt, NO_RETRY, Purse, RetryRules, Stop, Verdict};
use crate::logic::resilience::timeouts::TimeoutRules;
use crate::model::call::Tried;
use crate::model::identity::Subject;
use crate::model::view::EdgeProtocol;
use crate::net::clock;
use crate::proxy::failure::{Failed, Failure};
use crate::proxy::http::client::Http;
use crate::proxy::http::exchange::Callee;
use crate::proxy::http::message::{self, Answer};
use crate::proxy::upstream::endpoint::{Target, now_ns, ns_of};
use crate::proxy::upstream::{Occasion, Upstream};

/// A call to a service, as every attempt sees it.
pub(crate) struct Call<'a> {
    /// Who calls.
    pub(crate) source: &'a Arc<Subject>,
    /// Which service.
    pub(crate) upstream: &'a Upstream,
    /// By which rule.
    pub(crate) rule: Option<&'a Arc<str>>,
    /// What is asked, as links carry it.
    pub(crate) head: &'a RequestHead,
    /// From which address.
    pub(crate) from: IpAddr,
    /// Limits of time, of the rule and of the service.
    pub(crate) timeouts: TimeoutRules,
    /// How its client stays with its endpoint, by the rule or the service.
    pub(crate) session: Option<&'a SessionRules>,
    /// When it is tried again, by the rule or the service.
    pub(crate) retry: Cow<'a, RetryRules>,
    /// When the caller's time is over.
    pub(crate) deadline: Option<Deadline>,
}

/// What was tried for one call so far.
pub(crate) struct Course {
    /// Endpoints that had their turn, by index.
    tried: Vec<usize>,
    /// Attempts so far, the present one included.
    pub(crate) attempts: u32,
    /// Those that the budget paid for.
    retries: u32,
    key: Option<u64>,
    session: Option<Session>,
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// As far as retries care; `None` when no other attempt would help.
    outcome: Option<Outcome>,
    /// What went wrong here, or what the called proxy says went wrong there.
    failure: Option<Failure>,
}

impl Ended {
    /// Looks at what came of an attempt.
    pub(crate) fn of(answered: Result<(&Answer, &Callee<'_>), &Failed>, protocol: EdgeProtocol) -> Self {
        let (answer, callee) = match answered {
            Err(failed) => return Self { outcome: failed.failure.outcome(), failure: Some(failed.failure) },
            Ok(answered) => answered,
        };
        let failure = message::told_failure(&answer.head.fields);
        // An instance that has enough to do is well: what it says is an answer.
        let broke = failure.filter(|failure| *failure != Failure::Overloaded);
        let outcome = broke.map_or_else(|| Some(said(answer, callee, protocol)), Failure::outcome);
        Self { outcome, failure }
    }

    /// Returns whether this is what the caller gets, whatever the rules.
    fn is_fine(self) -> bool {
        self.failure.is_none() && matches!(self.outcome, Some(Outcome::Status(..400) | Outcome::Grpc(0)))
    }

    /// Returns what people are told of an attempt that another one follows.
    pub(crate) fn told(self, target: &Target, took: Duration) -> Tried {
        let ended = match (self.failure, self.outcome) {
            (Some(failure), _) => failure.token().to_owned(),
            (None, Some(Outcome::Status(status))) => status.to_string(),
            (None, Some(Outcome::Grpc(status))) => format!("grpc {status}"),
            (None, Some(Outcome::Unsent | Outcome::Unseen | Outcome::Broken | Outcome::Late) | None) => {
                "no answer".to_owned()
            }
        };
        Tried::new(&target.endpoint.node, ended, took)
    }

    fn grade(self) -> Option<Grade> {
        match self.failure {
            None | Some(Failure::Late) => self.outcome.and_then(Outcome::grade),
            Some(_) => None,
        }
    }

    /// Notes what the attempt, sent at `began` and ended now, says of the endpoint; a `probe` was to find out whether it
    /// works again.
    pub(crate) fn learn(
        self,
        http: &Http,
        (upstream, target): (&Upstream, &Target),
        began: Instant,
        probe: bool,
    ) {
        let now_ns = now_ns();
        if let Some(grade) = self.grade() {
            upstream.judge(target, (grade, probe), now_ns, || http.context.draw());
        }
        match self.failure {
            None => target.live.answered(now_ns.saturating_sub(ns_of(began)), now_ns),
            Some(Failure::Overloaded) if self.outcome.is_some() => target.live.connected(),
            Some(failure) if failure.blames_endpoint() => {
                upstream.blame(target, now_ns, http.context.draw());
            }
            Some(_) => {}
        }
    }
}

/// What a response says: for gRPC its status, when it ends with the head, or has come whole with it. For what is yet to come
/// no head is held back.
fn said(answer: &Answer, callee: &Callee<'_>, protocol: EdgeProtocol) -> Outcome {
    let head = &answer.head;
    let status = match protocol {
        EdgeProtocol::Grpc if head.status == 200 => {
            grpc::status(&head.fields).or_else(|| callee.unary_status())
        }
        EdgeProtocol::Grpc | EdgeProtocol::Http | EdgeProtocol::Tcp => None,
    };
    let code = status.and_then(|status| u8::try_from(status).ok());
    code.map_or(Outcome::Status(head.status), Outcome::Grpc)
}

impl Course {
    /// Begins the course of a call.
    pub(crate) fn new(call: &Call<'_>) -> Self {
        let rules = &call.upstream.traffic;
        let session = call.session.and_then(|rules| session_of(rules, call.head));
        let key = key(&rules.balance.algorithm, call.head, call.from);
        Self { tried: Vec::new(), attempts: 0, retries: 0, key, session }
    }

    /// Picks the endpoint of the next attempt.
    pub(crate) fn next<'u>(
        &mut self,
        http: &Http,
        upstream: &'u Upstream,
        now_ns: u64,
    ) -> Option<(usize, &'u Target)> {
        self.attempts += 1;
        let turns = upstream.takes_turns();
        upstream.pick(&Occasion {
            draw: http.context.draw(),
            now_ns,
            ticket: if turns { http.context.budgets.ticket(&upstream.load) } else { 0 },
            key: self.key,
            session: self.session.map(|session| session.endpoint),
            tried: &self.tried,
        })
    }

    /// Decides what follows the attempt at the endpoint `index`. The request is `whole` when it can be sent again.
    pub(crate) fn decide(
        &mut self,
        http: &Http,
        call: &Call<'_>,
        (ended, answer, index): (Ended, Option<&Answer>, usize),
        whole: bool,
    ) -> Verdict {
        let Some(outcome) = ended.outcome.filter(|_| !ended.is_fine()) else {
            return Verdict::Stop(Stop::Final);
        };
        let others =
            call.upstream.targets.len() > self.tried.len() + usize::from(!self.tried.contains(&index));
        if outcome == Outcome::Unseen && !others {
            // Nobody else is there, and who cannot be reached now cannot be reached at once.
            return Verdict::Stop(Stop::Final);
        }
        let fields = answer.map(|answer| &answer.head.fields);
        let said = |name: &str| fields.and_then(|fields| fields.get(name));
        let left = call.deadline.map(|deadline| deadline.at.saturating_duration_since(clock::now()));
        let attempt = Attempt {
            outcome,
            attempts: self.attempts,
            retries: self.retries,
            idempotent: call.head.method.is_idempotent(),
            replayable: whole,
            carried: retry::attempt_number(call.head.fields.get(ATTEMPT)),
            refused: said(NO_RETRY).is_some(),
            retry_after: said("retry-after").and_then(seconds),
            left,
        };
        let rules = &*call.retry;
        let (workers, now_ns) = (http.context.shared.workers(), now_ns());
        let draw = http.context.draw();
        let verdict = http.context.budgets.spend(&call.upstream.load, |budget| {
            retry::decide(rules, &attempt, Purse { budget, workers, now_ns }, draw)
        });
        if matches!(verdict, Verdict::Again(_)) {
            self.retries += u32::from(outcome.is_charged());
            if outcome != Outcome::Unsent {
                self.tried.push(index);
            }
        }
        verdict
    }

    /// Returns the request as the next attempt sends it: with its number.
    pub(crate) fn numbered(&self, head: &RequestHead) -> RequestHead {
        let carried = retry::attempt_number(head.fields.get(ATTEMPT));
        let mut head = head.clone();
        head.fields.set(ATTEMPT, carried.saturating_add(self.retries).to_string().as_bytes());
        head
    }

    /// Returns whether attempts so far make the next one say its number.
    pub(crate) fn is_numbered(&self) -> bool {
        self.retries > 0
    }

    /// Tells the client of a session its endpoint, when that is another one than it had, or that the session is in use.
    pub(crate) fn remember(&self, rules: &SessionRules, target: &Target, answer: &mut Answer) {
        let endpoint = hash::endpoint(&target.endpoint);
        let known = self.session.filter(|session| session.endpoint == endpoint);
        if known.is_some() && rules.idle.is_none() {
            return;
        }
        let used_s = u32::try_from(clock::wall_ms() / 1_000).unwrap_or(u32::MAX);
        let began_s = known.map_or(used_s, |session| session.began_s);
        let token = Session { endpoint, began_s, used_s }.token();
        let fields = &mut answer.head.fields;
        match rules.carrier {
            Carrier::Header => fields.set(&rules.name, token.as_bytes()),
            // Others of the service's own stay.
            Carrier::Cookie => {
                let rest = |limit: Duration| limit.as_secs().saturating_sub(u64::from(used_s - began_s));
                let kept = rules.absolute.filter(|_| rules.permanent).map(rest);
                let cookie = session::set_cookie(&rules.name, &token, kept);
                fields.append(b"set-cookie", cookie.as_bytes());
            }
        }
    }
}

/// Returns the session that a request belongs to.
pub(crate) fn session_of(rules: &SessionRules, head: &RequestHead) -> Option<Session> {
    let token = match rules.carrier {
        Carrier::Header => head.fields.get(&rules.name),
        Carrier::Cookie => cookie(head, &rules.name),
    };
    token.and_then(Session::parse).filter(|session| !session.is_over(rules, clock::wall_ms() / 1_000))
}

fn cookie<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    head.fields.all("cookie").find_map(|field| session::cookie(field, name))
}

/// Returns the hash of what makes two calls the same, where `algorithm` goes by that.
fn key(algorithm: &Algorithm, head: &RequestHead, from: IpAddr) -> Option<u64> {
    let Algorithm::ConsistentHash { key, .. } = algorithm else { return None };
    match key {
        HashKey::Header(name) if **name == *"host" => {
            head.authority.as_ref().map(|host| hash::hash(host.as_bytes()))
        }
        HashKey::Header(name) => head.fields.get(name).map(hash::hash),
        HashKey::Cookie(name) => cookie(head, name).map(hash::hash),
        HashKey::Source => Some(hash::address(from)),
    }
}

fn seconds(value: &[u8]) -> Option<Duration> {
    std::str::from_utf8(value).ok()?.parse().ok().map(Duration::from_secs)
}
