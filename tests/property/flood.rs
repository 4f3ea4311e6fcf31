//! Counting frames of HTTP/2 that carry nothing.

use std::time::{Duration, Instant};

use mesh::logic::http::flood::{EARNED_MAX, FREE_PER_SECOND, Meter};
use proptest::prelude::*;

/// Tells whether one of so many frames at one time is one too many.
fn is_flood(meter: &mut Meter, frames: u64, now: Instant) -> bool {
    (0..frames).any(|_| meter.received(now))
}

proptest! {
    #[test]
    fn who_is_sent_much_may_say_more(sent in 0usize..1_000_000, frames in 0..2 * FREE_PER_SECOND) {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        meter.sent(sent);
        prop_assert_eq!(is_flood(&mut meter, frames, now), frames >= FREE_PER_SECOND + sent as u64 / 32);
    }

    #[test]
    fn frames_that_come_slowly_are_no_flood(millis in 1u64..20, seconds in 1u64..10) {
        let begun = Instant::now();
        let mut meter = Meter::new(begun);
        // One in `millis` milliseconds: as many as are free, or fewer.
        let all = seconds * 1_000 / millis;
        let is_flood = (0..all).any(|at| meter.received(begun + Duration::from_millis(at * millis)));
        prop_assert!(!is_flood);
    }
}

#[test]
fn a_new_second_brings_new_frames_but_no_more_than_before() {
    let begun = Instant::now();
    let mut meter = Meter::new(begun);
    for second in 1..4 {
        let now = begun + Duration::from_secs(second);
        assert!(!is_flood(&mut meter, FREE_PER_SECOND - 1, now));
    }
    assert!(is_flood(&mut meter, 2 * FREE_PER_SECOND, begun + Duration::from_secs(4)));
}

#[test]
fn nobody_saves_up_more_than_an_honest_peer_may_owe() {
    let now = Instant::now();
    let mut meter = Meter::new(now);
    meter.sent(1 << 30);
    assert!(!is_flood(&mut meter, EARNED_MAX - 1, now));
    assert!(is_flood(&mut meter, 1, now));
}

#[test]
fn pings_do_not_earn_what_they_cost() {
    let now = Instant::now();
    let mut meter = Meter::new(now);
    let until = (0..3 * FREE_PER_SECOND).find(|_| {
        meter.sent(17);
        meter.received(now)
    });
    assert!(until.is_some());
}
