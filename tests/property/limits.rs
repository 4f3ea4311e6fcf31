//! Retries, budgets, ejection, rates, shedding and faults: each equal to its description, whatever happens in which order.

use std::collections::VecDeque;
use std::time::Duration;

use mesh::logic::resilience::avoid::{Admit, Avoidance};
use mesh::logic::resilience::backoff::Backoff;
use mesh::logic::resilience::budget::{BudgetRules, RetryBudget};
use mesh::logic::resilience::concurrency::{Concurrency, ConcurrencyRules};
use mesh::logic::resilience::fault::{Abort, Chance, Fault, FaultRules};
use mesh::logic::resilience::limits::{Limit, LimitRules};
use mesh::logic::resilience::outcome::{Grade, Outcome};
use mesh::logic::resilience::outlier::{self, Ejections, OutlierRules, Streak, Tally};
use mesh::logic::resilience::rate::{Rate, Sources, retry_after_s};
use mesh::logic::resilience::retry::{
    self, ATTEMPTS_MAX, Attempt, Codes, Purse, RetryRules, Stop, Verdict, attempt_number,
};
use mesh::logic::resilience::timeouts::TimeoutRules;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// An attempt that failed with 503 and may be repeated.
const FAILED: Attempt = Attempt {
    outcome: Outcome::Status(503),
    attempts: 1,
    retries: 0,
    idempotent: true,
    replayable: true,
    carried: 1,
    refused: false,
    retry_after: None,
    left: None,
};

fn decide(rules: &RetryRules, attempt: &Attempt) -> Verdict {
    let purse = Purse { budget: &mut RetryBudget::new(), workers: 1, now_ns: 0 };
    retry::decide(rules, attempt, purse, 0)
}

fn stops(attempt: Attempt) -> Option<Stop> {
    match decide(&RetryRules::default(), &attempt) {
        Verdict::Again(_) => None,
        Verdict::Stop(stop) => Some(stop),
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Unsent),
        Just(Outcome::Unseen),
        Just(Outcome::Broken),
        Just(Outcome::Late),
        (100u16..600).prop_map(Outcome::Status),
        (0u8..20).prop_map(Outcome::Grpc),
    ]
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    let millis = |max: u64| proptest::option::of((0..max).prop_map(Duration::from_millis));
    (any_outcome(), (1u32..7, 0u32..5, 0u32..5), any::<(bool, bool, bool)>(), millis(500), millis(500))
        .prop_map(
            |(
                outcome,
                (attempts, retries, carried),
                (idempotent, replayable, refused),
                retry_after,
                left,
            )| Attempt {
                outcome,
                attempts,
                retries,
                idempotent,
                replayable,
                carried,
                refused,
                retry_after,
                left,
            },
        )
}

proptest! {
    #[test]
    fn nothing_is_repeated_that_may_not_be(attempt in any_attempt(), draw: u64) {
        let rules = RetryRules::default();
        let purse = Purse { budget: &mut RetryBudget::new(), workers: 1, now_ns: 0 };
        if let Verdict::Again(wait) = retry::decide(&rules, &attempt, purse, draw) {
            prop_assert!(attempt.replayable && attempt.attempts < ATTEMPTS_MAX);
            let free = matches!(attempt.outcome, Outcome::Unsent | Outcome::Unseen);
            prop_assert!(free || attempt.idempotent && !attempt.refused);
            prop_assert!(free || attempt.retries + attempt.carried.max(1) - 1 < rules.attempts);
            prop_assert!(wait <= rules.backoff.cap);
            prop_assert!(free || attempt.left.is_none_or(|left| wait < left));
            prop_assert_eq!(free, wait.is_zero());
        }
    }

    // case 71
    #[test]
    fn retries_never_exceed_their_share_in_any_interval_nor_in_any_moment(
        steps in proptest::collection::vec((0u64..400, 0u32..6, 0u32..12), 1..120),
        percent in 0u32..=100,
        min_per_second in 0u32..5,
    ) {
        let rules = BudgetRules { percent, interval: Duration::from_secs(10), min_per_second };
        let mut budget = RetryBudget::new();
        let (mut now, mut requests, mut retries) = (0, VecDeque::new(), VecDeque::new());
        for (wait_ms, asked, wanted) in steps {
            now += wait_ms * MS;
            for _ in 0..asked {
                budget.deposit(&rules, now);
                requests.push_back(now);
            }
            for _ in 0..wanted {
                if !budget.withdraw(&rules, 1, now) {
                    continue;
                }
                retries.push_back(now);
                // Slots are whole: what is counted reaches back nine to ten seconds.
                let within = |list: &VecDeque<u64>, ns: u64| list.iter().filter(|at| **at + ns > now).count() as u64;
                let before = |ns| within(&retries, ns) - 1;
                let (percent, least, requested) =
                    (u64::from(percent), u64::from(min_per_second), within(&requests, 10 * SECOND));
                prop_assert!(before(9 * SECOND) * 100 < percent * requested + 1_000 * least);
                let moment = (within(&requests, SECOND) * 10).max(requested);
                prop_assert!(before(1) * 1_000 < percent * moment + 1_000 * least, "no burst");
            }
        }
    }

    #[test]
    fn a_rate_lets_in_its_burst_and_then_its_rate(
        requests in 1u32..200,
        burst in 1u32..50,
        waits in proptest::collection::vec(0u64..50, 1..300),
    ) {
        let rate = Rate::new(requests, Duration::from_secs(1), burst);
        let (mut empty, mut now, mut admitted) = (0, 5 * SECOND, 0u64);
        let began = now;
        for wait_ms in waits {
            now += wait_ms * MS;
            match rate.admit(empty, now) {
                Ok(next) => {
                    empty = next;
                    admitted += 1;
                }
                Err(wait) => {
                    let later = now + wait.as_nanos() as u64;
                    prop_assert!(rate.admit(empty, later).is_ok(), "what it says is true");
                    prop_assert!(rate.admit(empty, later - 1).is_err(), "and exact");
                }
            }
            let earned = (now - began) / rate.every_ns;
            prop_assert!(admitted <= earned + u64::from(burst));
        }
    }

    #[test]
    fn sources_are_bounded_and_none_gets_more_than_its_rate(
        max in 1usize..6,
        calls in proptest::collection::vec((0u8..9, 0u64..3_000), 1..300),
    ) {
        let rate = Rate::new(1, Duration::from_secs(1), 2);
        let mut sources = Sources::new(max);
        let mut now = 0;
        let mut let_in: Vec<(u8, u64)> = Vec::new();
        for (source, wait_ms) in calls {
            now += wait_ms * MS;
            if sources.admit(rate, &source, now).is_ok() {
                let_in.push((source, now));
            }
            prop_assert!(sources.len() <= max);
            let lately = let_in.iter().filter(|(who, at)| *who == source && *at + 10 * SECOND > now).count();
            // Its own limit and the one that all others share: at worst both within one stretch.
            prop_assert!(lately <= 2 * 12, "{lately} in 10 s");
        }
    }

    // case 73
    #[test]
    fn ejection_leaves_one_and_never_more_than_its_share_takes(
        tallies in proptest::collection::vec((0u32..300, 0u32..300, any::<bool>()), 0..20),
        max_percent in 0u32..=100,
    ) {
        let tallies: Vec<_> =
            tallies.into_iter().map(|(fine, errors, ejected)| Tally { fine, errors, ejected }).collect();
        let rules = OutlierRules { max_percent, ..OutlierRules::default() };
        let chosen = outlier::compare(&rules, &tallies);
        let already = tallies.iter().filter(|tally| tally.ejected).count();
        prop_assert!(chosen.iter().all(|index| !tallies[*index].ejected));
        if !chosen.is_empty() {
            let out = already + chosen.len();
            prop_assert!(out < tallies.len());
            prop_assert!(out <= (tallies.len() * max_percent as usize / 100).max(1));
        }
    }

    #[test]
    fn a_streak_counts_what_came_in_a_row(grades in proptest::collection::vec(0u8..3, 0..40)) {
        let grades: Vec<_> = grades
            .into_iter()
            .map(|grade| [Grade::Fine, Grade::ServerError, Grade::GatewayError][usize::from(grade)])
            .collect();
        let streak = grades.iter().fold(Streak::default(), |streak, grade| streak.record(*grade));
        let run = |fits: fn(&Grade) -> bool| grades.iter().rev().take_while(|grade| fits(grade)).count() as u32;
        prop_assert_eq!(streak.gateway, run(|grade| *grade == Grade::GatewayError));
        prop_assert_eq!(streak.server, run(|grade| *grade != Grade::Fine));
    }

    #[test]
    fn an_adaptive_limit_stays_within_its_bounds(
        samples in proptest::collection::vec((0u64..10 * SECOND, 0u32..2_000), 0..200),
        min in 1u32..50,
        more in 0u32..500,
    ) {
        let rules = ConcurrencyRules::Adaptive { min, max: min + more };
        let mut limit = Concurrency::new(rules);
        for (latency, under_way) in samples {
            limit.record(rules, latency, under_way);
            prop_assert!((min..=min + more).contains(&limit.limit()));
            prop_assert!(limit.admits(min - 1) && !limit.admits(min + more));
        }
    }

    #[test]
    fn attempt_numbers_are_read_or_one(value in proptest::collection::vec(any::<u8>(), 0..12)) {
        prop_assert!(attempt_number(Some(&value)) >= 1);
    }
}

#[test]
fn by_default_only_what_is_safe_is_retried() {
    for outcome in [Outcome::Unsent, Outcome::Unseen] {
        assert_eq!(stops(Attempt { outcome, idempotent: false, ..FAILED }), None, "{outcome:?}");
    }
    for outcome in [Outcome::Broken, Outcome::Late, Outcome::Status(503)] {
        assert_eq!(stops(Attempt { outcome, ..FAILED }), None, "{outcome:?}");
        assert_eq!(stops(Attempt { outcome, idempotent: false, ..FAILED }), Some(Stop::Final), "{outcome:?}");
    }
    for outcome in [Outcome::Status(200), Outcome::Status(500), Outcome::Status(504), Outcome::Grpc(14)] {
        assert_eq!(stops(Attempt { outcome, ..FAILED }), Some(Stop::Final), "{outcome:?}");
    }
}

#[test]
fn what_a_policy_lists_is_retried_whatever_the_method() {
    let rules =
        RetryRules { codes: Codes::Listed([500, 503].into()), grpc_codes: 1 << 14, ..RetryRules::default() };
    let again = |outcome| {
        matches!(decide(&rules, &Attempt { outcome, idempotent: false, ..FAILED }), Verdict::Again(_))
    };

    assert!(again(Outcome::Status(500)) && again(Outcome::Status(503)) && again(Outcome::Grpc(14)));
    assert!(!again(Outcome::Status(502)) && !again(Outcome::Grpc(13)) && !again(Outcome::Broken));
    assert!(!again(Outcome::Late));
    let rules = RetryRules { codes: Codes::Listed([504].into()), ..RetryRules::default() };
    let late = Attempt { outcome: Outcome::Late, idempotent: false, ..FAILED };
    assert!(matches!(decide(&rules, &late), Verdict::Again(_)));
}

#[test]
fn no_retries_means_that_a_request_leaves_the_proxy_once() {
    let rules = RetryRules { attempts: 0, codes: Codes::Listed([503].into()), ..RetryRules::default() };
    let verdict = |outcome| decide(&rules, &Attempt { outcome, ..FAILED });

    for outcome in [Outcome::Unseen, Outcome::Broken, Outcome::Late, Outcome::Status(503)] {
        assert_eq!(verdict(outcome), Verdict::Stop(Stop::Final));
    }
    assert_eq!(verdict(Outcome::Unsent), Verdict::Again(Duration::ZERO), "it has not left yet");
}

#[test]
fn each_reason_to_stop_has_its_name() {
    assert_eq!(stops(Attempt { attempts: 3, retries: 2, ..FAILED }), Some(Stop::Attempts));
    assert_eq!(stops(Attempt { attempts: 5, outcome: Outcome::Unseen, ..FAILED }), Some(Stop::Attempts));
    assert_eq!(stops(Attempt { replayable: false, ..FAILED }), Some(Stop::Body));
    assert_eq!(stops(Attempt { left: Some(Duration::from_millis(5)), ..FAILED }), Some(Stop::Time));
    assert_eq!(stops(Attempt { retry_after: Some(Duration::from_secs(1)), ..FAILED }), Some(Stop::Time));
    assert_eq!(stops(Attempt { refused: true, ..FAILED }), Some(Stop::Chain));
    assert_eq!(stops(Attempt { carried: 3, ..FAILED }), Some(Stop::Chain));
    assert!(Stop::Attempts.is_exhausted() && Stop::Budget.is_exhausted() && !Stop::Final.is_exhausted());
}

#[test]
fn a_service_that_asks_to_wait_a_little_is_given_the_time() {
    let asked = Duration::from_millis(200);
    let verdict = decide(&RetryRules::default(), &Attempt { retry_after: Some(asked), ..FAILED });

    assert_eq!(verdict, Verdict::Again(asked));
}

/// Calls reaching the last of `layers` services for one call of the first, when the last always fails with 503 and each
/// layer hands the attempt's number on.
fn amplification(layers: u32, carried: u32) -> u64 {
    if layers == 0 {
        return 1;
    }
    let (mut calls, mut attempt) = (0, FAILED);
    loop {
        calls += amplification(layers - 1, carried + attempt.retries);
        let state = Attempt { carried, ..attempt };
        match decide(&RetryRules::default(), &state) {
            Verdict::Again(_) => {
                attempt = Attempt { attempts: state.attempts + 1, retries: state.retries + 1, ..FAILED }
            }
            Verdict::Stop(_) => return calls,
        }
    }
}

// case 72
#[test]
fn retries_add_up_along_a_chain_but_do_not_multiply() {
    assert_eq!(amplification(1, 1), 3);
    // 3 of the first, 3 + 2 + 1 instead of 3 × 3; then 10 instead of 27 and 15 instead of 81.
    assert_eq!([2, 3, 4].map(|layers| amplification(layers, 1)), [6, 10, 15]);
}

// case 71
#[test]
fn a_service_that_only_fails_gets_a_third_more_at_most() {
    let rules = BudgetRules::default();
    let mut budget = RetryBudget::new();
    let mut first_second = 0;
    let mut retries = 0u32;
    for call in 0..6_000u64 {
        let now = call * 10 * MS;
        budget.deposit(&rules, now);
        for _ in 0..2 {
            if budget.withdraw(&rules, 1, now) {
                retries += 1;
                first_second += u32::from(now < SECOND);
            }
        }
    }

    assert!(first_second <= 31, "{first_second}: nothing was saved up");
    assert!(
        (1_700..=1_830).contains(&retries),
        "{retries} in 60 s at 100 requests a second: 20 + 10 each second"
    );
}

// case 71
#[test]
fn workers_share_what_little_called_services_may_retry() {
    let count = |workers| {
        let mut budget = RetryBudget::new();
        (0..100).filter(|_| budget.withdraw(&BudgetRules::default(), workers, 0)).count()
    };

    assert_eq!((count(1), count(5)), (10, 2));
}

// case 73
#[test]
fn five_gateway_errors_in_a_row_eject_and_twice_as_long_the_next_time() {
    let rules = OutlierRules::default();
    let streak = |outcomes: &[Outcome]| {
        outcomes.iter().filter_map(|outcome| outcome.grade()).fold(Streak::default(), Streak::record)
    };
    assert!(streak(&[Outcome::Status(503); 5]).is_enough(&rules));
    assert!(streak(&[Outcome::Late; 5]).is_enough(&rules));
    assert!(!streak(&[Outcome::Status(503); 4]).is_enough(&rules));
    assert!(!streak(&[Outcome::Status(500); 50]).is_enough(&rules));
    assert!(!streak(&[Outcome::Grpc(5); 50]).is_enough(&rules));

    let (mut avoidance, mut ejections) = (Avoidance::default(), Ejections::default());
    ejections.eject(&mut avoidance, &rules, 0, u64::MAX);
    assert!(avoidance.avoided(9 * SECOND) && !avoidance.avoided(11 * SECOND));
    avoidance.succeeded();
    assert!(avoidance.avoided(9 * SECOND), "an answer to an older call does not end it");

    assert_eq!(avoidance.admit(11 * SECOND), Admit::Probe);
    ejections.eject(&mut avoidance, &rules, 11 * SECOND, u64::MAX);
    assert!(avoidance.avoided(30 * SECOND) && !avoidance.avoided(32 * SECOND));

    assert_eq!(avoidance.admit(32 * SECOND), Admit::Probe);
    avoidance.succeeded();
    assert!(!avoidance.avoided(32 * SECOND));
    ejections.calm();
    ejections.calm();
    assert_eq!(ejections, Ejections::default());
}

#[test]
fn the_one_that_fails_much_more_often_than_others_is_found() {
    let rules = OutlierRules::default();
    let tally = |fine, errors| Tally { fine, errors, ejected: false };

    let none: [usize; 0] = [];

    let bad =
        [tally(1_000, 0), tally(990, 10), tally(1_000, 0), tally(600, 400), tally(1_000, 5), tally(1_000, 3)];
    assert_eq!(outlier::compare(&rules, &bad), [3]);
    let slightly = [tally(1_000, 0), tally(1_000, 0), tally(1_000, 0), tally(1_000, 0), tally(980, 20)];
    assert_eq!(outlier::compare(&rules, &slightly), none, "2 % is nothing, however many deviations it is");
    assert_eq!(outlier::compare(&rules, &bad[..4]), none, "too few to compare");
    let all = [tally(100, 900); 6];
    assert_eq!(outlier::compare(&rules, &all), none, "all fail alike: it is not the endpoints");
    assert_eq!(outlier::compare(&OutlierRules { volume: 0, ..rules }, &bad), none, "switched off");
}

// case 73
#[test]
fn one_endpoint_is_never_ejected_and_of_two_only_one() {
    let rules = OutlierRules::default();

    assert!(!outlier::may_eject(&rules, 1, 0));
    assert!(outlier::may_eject(&rules, 2, 0) && !outlier::may_eject(&rules, 2, 1));
    assert!(outlier::may_eject(&rules, 3, 0) && !outlier::may_eject(&rules, 3, 1));
    assert!(!outlier::may_eject(&OutlierRules { max_percent: 0, ..OutlierRules::default() }, 9, 0));
    let half = OutlierRules { min_health_percent: 50, ..rules };
    assert!(outlier::panics(&half, 149, 300) && !outlier::panics(&half, 150, 300));
}

#[test]
fn an_adaptive_limit_shrinks_under_load_and_grows_back() {
    let rules = ConcurrencyRules::Adaptive { min: 5, max: 200 };
    let mut limit = Concurrency::new(rules);
    // A service that works on 50 at a time: what is above waits.
    let latency = |under_way: u32| 10 * MS * u64::from(under_way.max(50)) / 50;
    for _ in 0..2_000 {
        let under_way = limit.limit();
        limit.record(rules, latency(under_way), under_way);
    }
    let found = limit.limit();
    assert!((50..=200).contains(&found), "{found}");

    for _ in 0..200 {
        limit.record(rules, 500 * MS, limit.limit());
    }
    assert!(limit.limit() < found / 2, "{} of {found}", limit.limit());

    let low = limit.limit();
    for _ in 0..2_000 {
        limit.record(rules, 10 * MS, limit.limit());
    }
    assert!(limit.limit() > low);
    let idle = limit;
    limit.record(rules, 10 * MS, 1);
    assert_eq!(limit.limit(), idle.limit(), "a limit that is not used says nothing");
}

#[test]
fn caps_let_in_exactly_as_many_as_they_say() {
    let rules = LimitRules { connections_max: 1, pending_max: 2, requests_max: 3 };
    for (limit, max) in [(Limit::Connections, 1), (Limit::Pending, 2), (Limit::Requests, 3)] {
        assert!(rules.admits(limit, max - 1) && !rules.admits(limit, max));
    }
}

#[test]
fn retry_after_is_in_whole_seconds_and_never_none() {
    let cases = [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)];
    for (wait_ms, seconds) in cases {
        assert_eq!(retry_after_s(Duration::from_millis(wait_ms)), seconds);
    }
}

#[test]
fn faults_come_as_often_as_they_should_and_independently() {
    let abort = Abort { status: 503, grpc_status: 14 };
    let rules = FaultRules {
        delay: Some((Chance { numerator: 10, denominator: 100 }, Duration::from_secs(1))),
        abort: Some((Chance { numerator: 1, denominator: 4 }, abort)),
    };
    let faults: Vec<Fault> =
        (0..100_000).map(|draw| rules.decide(mesh::logic::balance::hash::mix(draw))).collect();
    let count = |fits: fn(&Fault) -> bool| faults.iter().filter(|fault| fits(fault)).count();

    assert!(count(|fault| fault.delay.is_some()).abs_diff(10_000) < 500);
    assert!(count(|fault| fault.abort.is_some()).abs_diff(25_000) < 700);
    assert!(count(|fault| fault.delay.is_some() && fault.abort.is_some()).abs_diff(2_500) < 300);
    let always = Chance { numerator: 1, denominator: 1 };
    let never = Chance { numerator: 0, denominator: 1 };
    for draw in [0, 1, u64::MAX] {
        assert_eq!(FaultRules { delay: None, abort: Some((always, abort)) }.decide(draw).abort, Some(abort));
        assert_eq!(FaultRules { delay: None, abort: Some((never, abort)) }.decide(draw), Fault::default());
    }
}

#[test]
fn the_time_of_a_route_goes_before_that_of_the_policy() {
    let second = Some(Duration::from_secs(1));
    let policy = TimeoutRules { request: second, attempt: second, ..TimeoutRules::default() };

    assert_eq!(policy.with_route(None, None), policy);
    let route = policy.with_route(Some(Duration::ZERO), Some(Duration::from_millis(5)));
    assert_eq!((route.request, route.attempt), (None, Some(Duration::from_millis(5))));
}

#[test]
fn a_back_off_of_retries_begins_small_and_ends_at_its_cap() {
    let Backoff { base, cap } = RetryRules::default().backoff;

    assert_eq!((base, cap), (Duration::from_millis(25), Duration::from_millis(250)));
}
