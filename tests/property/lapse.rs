//! A connection whose peer's certificate is over goes on while control vouches for the peer, and for a grace without.

use std::time::{Duration, Instant};

use mesh::logic::pki::lapse::{GRACE, Lapse, Standing};
use mesh::net::clock;
use proptest::prelude::*;

const END_MS: u64 = 1_000_000;

/// Looks at one moment after another: after how many seconds, at which time of day, vouched for until when.
fn looks(begin: Instant, each: &[(u64, u64, Option<u64>)]) -> Vec<Standing> {
    let (mut lapse, mut now) = (Lapse::default(), begin);
    let look = |(after_s, now_ms, vouched_ms): &(u64, u64, Option<u64>)| {
        now += Duration::from_secs(*after_s);
        lapse.look((END_MS, *vouched_ms), *now_ms, now)
    };
    each.iter().map(look).collect()
}

proptest! {
    #[test]
    fn nothing_ends_while_the_certificate_is_good_or_the_peer_vouched_for(
        each in prop::collection::vec((0_u64..1000, 0..2 * END_MS, any::<bool>()), 1..20),
    ) {
        let each: Vec<_> = each
            .into_iter()
            .map(|(after_s, now_ms, is_good)| if is_good {
                (after_s, now_ms.min(END_MS), None)
            } else {
                (after_s, now_ms, Some(now_ms))
            })
            .collect();

        for (standing, (_, now_ms, _)) in looks(clock::now(), &each).into_iter().zip(&each) {
            prop_assert_eq!(standing, if *now_ms <= END_MS { Standing::Sound } else { Standing::Closing });
        }
    }

    #[test]
    fn the_grace_is_whole_however_far_the_time_of_day_jumps(jump_ms in 1_u64..1 << 50, step_s in 1_u64..20) {
        let steps = GRACE.as_secs() / step_s + 2;
        let each: Vec<_> = (0..steps).map(|step| (step_s, END_MS + jump_ms + step * step_s, Some(END_MS))).collect();

        for (standing, step) in looks(clock::now(), &each).into_iter().zip(0_u64..) {
            let is_over = step * step_s >= GRACE.as_secs();
            prop_assert_eq!(standing, if is_over { Standing::Over } else { Standing::Closing });
        }
    }
}

#[test]
fn a_renewal_or_a_clock_that_is_set_back_begins_the_grace_anew() {
    let (late, half, whole) = (END_MS + 1, GRACE.as_secs() / 2, GRACE.as_secs());
    for mends in [(1, late, Some(late)), (1, END_MS, None)] {
        let each = [(0, late, None), (half, late, None), mends, (half, late, None), (whole - 1, late, None)];
        let again = looks(clock::now(), &each);
        assert!(!again.contains(&Standing::Over), "{again:?}");
    }
    assert_eq!(looks(clock::now(), &[(0, late, None), (whole, late, None)])[1], Standing::Over);
}
