//! Renewal lies in its window, retries are patient and bounded, alarms come in order.

use mesh::logic::pki::rotation::{Stage, Validity};
use proptest::prelude::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn validity() -> impl Strategy<Value = Validity> {
    (0..4_000_000_000_000_u64, prop_oneof![0..10_000_u64, 0..400 * DAY_MS])
        .prop_map(|(not_before_ms, life)| Validity { not_before_ms, not_after_ms: not_before_ms + life })
}

proptest! {
    #[test]
    fn renewal_lies_in_its_window_and_before_any_alarm(validity in validity(), draw: u64) {
        let life = validity.not_after_ms - validity.not_before_ms;
        let age = validity.renew_ms(draw) - validity.not_before_ms;

        prop_assert!(u128::from(age) * 1000 + 1000 > u128::from(life) * 500, "{age} of {life}");
        prop_assert!(u128::from(age) * 1000 <= u128::from(life) * 660, "{age} of {life}");
        prop_assert!(life == 0 || validity.stage(validity.renew_ms(draw)) == Stage::Sound);
    }

    #[test]
    fn retries_wait_longer_and_never_too_long(validity in validity(), failures in 0_u32..100, draw: u64) {
        let wait = validity.retry_ms(failures, draw);
        let life = validity.not_after_ms - validity.not_before_ms;

        prop_assert!(wait >= 50);
        prop_assert!(wait <= (life / 50).clamp(100, 300_000), "{wait} of {life}");
        prop_assert!(validity.retry_ms(failures + 1, draw) >= wait);
    }

    /// Whatever is planned for a later time than this, no clock that is right has planned.
    #[test]
    fn plans_of_a_right_clock_are_kept_and_those_of_one_that_was_ahead_are_not(
        validity in validity(),
        failures in 1_u32..100,
        now_ms in 0..5_000_000_000_000_u64,
        draw: u64,
    ) {
        let latest = validity.latest_ms(failures, now_ms);

        prop_assert!(now_ms + validity.retry_ms(failures, draw) <= latest, "the plan after a failure");
        if now_ms >= validity.not_before_ms {
            prop_assert!(validity.renew_ms(draw) <= validity.latest_ms(0, now_ms), "the first plan");
            prop_assert!(latest <= validity.renew_ms(u64::MAX).max(now_ms) + 300_001);
        } else {
            prop_assert_eq!(validity.latest_ms(0, now_ms), now_ms, "it is not valid yet");
            prop_assert!(latest <= now_ms + 300_000);
        }
    }

    #[test]
    fn stages_follow_each_other(validity in validity(), a: u32, b: u32) {
        let life = validity.not_after_ms - validity.not_before_ms;
        let at = |share: u32| validity.not_before_ms + ((u128::from(life) * 2 * u128::from(share)) >> 32) as u64;

        prop_assert!(validity.stage(at(a.min(b))) <= validity.stage(at(a.max(b))));
        prop_assert_eq!(validity.stage(validity.not_after_ms), Stage::Expired);
    }
}

#[test]
fn renewals_are_spread_over_the_whole_window() {
    let validity = Validity { not_before_ms: 0, not_after_ms: 1_000_000 };
    let draws = 1000_u64;
    let mut tenths = [0_u32; 10];

    for draw in 0..draws {
        let renew_ms = validity.renew_ms(draw * (u64::MAX / draws));
        tenths[((renew_ms - 500_000) / 16_000).min(9) as usize] += 1;
    }

    assert!(tenths.iter().all(|count| (95..=105).contains(count)), "{tenths:?}");
}

#[test]
fn alarms_come_at_four_fifths_and_shortly_before_the_end() {
    let validity = Validity { not_before_ms: 1000, not_after_ms: 2000 };
    let stage = |age: u64| validity.stage(1000 + age);

    assert_eq!(
        [stage(0), stage(799), stage(800), stage(949)].as_slice(),
        &[Stage::Sound, Stage::Sound, Stage::Late, Stage::Late]
    );
    assert_eq!(
        [stage(950), stage(999), stage(1000)].as_slice(),
        &[Stage::Critical, Stage::Critical, Stage::Expired]
    );
}

#[test]
fn a_day_long_certificate_is_tried_many_times_before_it_ends() {
    let validity = Validity { not_before_ms: 0, not_after_ms: DAY_MS };
    let mut now_ms = validity.renew_ms(u64::MAX);
    let mut tries = 0;

    while validity.stage(now_ms) != Stage::Expired {
        tries += 1;
        now_ms += validity.retry_ms(tries, u64::MAX);
    }

    assert!(tries > 90, "{tries}");
}
