//! Deadlines, back-off, avoidance and health: each equal to its description, whatever happens in which order.

use std::time::Duration;

use mesh::logic::resilience::avoid::{Admit, Avoidance, PENALTY, PROBE_PATIENCE};
use mesh::logic::resilience::backoff::Backoff;
use mesh::logic::resilience::deadline::{self, Limit};
use mesh::logic::resilience::probe::Health;
use mesh::model::service_spec::HealthCheck;
use mesh::net::clock;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Admit,
    Fail(u64),
    Succeed,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..70 * SECOND).prop_map(Step::Wait),
        Just(Step::Admit),
        any::<u64>().prop_map(Step::Fail),
        Just(Step::Succeed),
    ]
}

proptest! {
    #[test]
    fn a_delay_lies_between_half_and_all_of_the_doubled_base(failures in 1u32..40, draw: u64) {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_mins(1) };
        let whole = Duration::from_secs(1 << failures.saturating_sub(1).min(10)).min(backoff.cap);
        let delay = backoff.delay(failures, draw);
        prop_assert!(delay >= whole / 2 && delay <= whole, "{:?} of {:?}", delay, whole);
    }

    #[test]
    fn at_most_one_probe_goes_out_and_none_before_the_back_off(steps in proptest::collection::vec(any_step(), 1..60)) {
        let (mut state, mut now) = (Avoidance::default(), 0u64);
        let (mut opened, mut probed): (Option<u64>, Option<u64>) = (None, None);
        for step in steps {
            match step {
                Step::Wait(wait) => now += wait,
                Step::Succeed => {
                    state.succeeded();
                    (opened, probed) = (None, None);
                    prop_assert!(!state.avoided(now));
                }
                Step::Fail(draw) => {
                    let before = state;
                    state.failed(now, draw);
                    prop_assert!(state.avoided(now));
                    if state != before {
                        (opened, probed) = (Some(now), None);
                    }
                }
                Step::Admit => match state.admit(now) {
                    Admit::Yes => prop_assert_eq!(opened, None),
                    Admit::No => prop_assert!(opened.is_some()),
                    Admit::Probe => {
                        let open_for = now - opened.unwrap();
                        prop_assert!(u128::from(open_for) >= (PENALTY.base / 2).as_nanos());
                        let patience = PROBE_PATIENCE.as_nanos() as u64;
                        prop_assert!(probed.is_none_or(|sent| now - sent >= patience), "two probes at once");
                        probed = Some(now);
                    }
                },
            }
        }
    }

    // case 62
    #[test]
    fn an_attempt_never_outlives_its_request(
        request in proptest::option::of(0u64..5_000),
        attempt in proptest::option::of(0u64..5_000),
        caller in proptest::option::of(0u64..5_000),
        late in 0u64..5_000,
    ) {
        let began = clock::now();
        let now = began + Duration::from_millis(late);
        let millis = |limit: Option<u64>| limit.map(Duration::from_millis);
        let whole = deadline::request(millis(request), millis(caller), began);
        let one = deadline::attempt(millis(attempt), whole, now);

        let limits = [request, caller];
        prop_assert_eq!(whole.map(|d| d.at - began), millis(limits.into_iter().flatten().min()));
        let soonest = [whole.map(|d| d.at), attempt.map(|limit| now + Duration::from_millis(limit))];
        prop_assert_eq!(one.map(|d| d.at), soonest.into_iter().flatten().min());
        if let Some(one) = one {
            prop_assert_eq!(one.limit == Limit::Request, whole.is_some_and(|whole| whole.at <= one.at));
        }
    }

    #[test]
    fn health_changes_only_after_enough_outcomes_in_a_row(
        outcomes in proptest::collection::vec(any::<bool>(), 1..60),
        healthy_threshold in 1u32..5,
        unhealthy_threshold in 1u32..5,
    ) {
        let check = HealthCheck {
            http: None,
            grpc: None,
            tcp: None,
            interval: "1s".to_owned(),
            timeout: "1s".to_owned(),
            healthy_threshold,
            unhealthy_threshold,
        };
        let mut health = Health::default();
        prop_assert!(!health.is_healthy());
        for (index, outcome) in outcomes.iter().enumerate() {
            let before = health.is_healthy();
            health = health.record(*outcome, &check);
            let streak = outcomes[..=index].iter().rev().take_while(|other| *other == outcome).count() as u32;
            let expected = if index == 0 {
                *outcome
            } else if *outcome {
                before || streak >= healthy_threshold
            } else {
                before && streak < unhealthy_threshold
            };
            prop_assert_eq!(health.is_healthy(), expected, "after {}", index);
        }
    }

    // case 62
    #[test]
    fn grpc_timeouts_never_panic(value in proptest::collection::vec(any::<u8>(), 0..12)) {
        let _ = deadline::grpc_timeout(&value);
    }
}

// case 62
#[test]
fn grpc_timeouts_have_up_to_eight_digits_and_a_unit() {
    assert_eq!(deadline::grpc_timeout(b"100m"), Some(Duration::from_millis(100)));
    assert_eq!(deadline::grpc_timeout(b"99999999H"), Some(Duration::from_hours(99_999_999)));
    assert_eq!(deadline::grpc_timeout(b"5u"), Some(Duration::from_micros(5)));
    for wrong in [&b""[..], b"m", b"1", b"100000000m", b"1x", b"-1S"] {
        assert_eq!(deadline::grpc_timeout(wrong), None);
    }
}
