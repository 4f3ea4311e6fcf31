//! Balancing: never the worse, never the unusable, and never nobody while somebody is left.

use std::cmp::Ordering;

use mesh::logic::balance::ewma::Ewma;
use mesh::logic::balance::hash;
use mesh::logic::balance::pick::{Candidate, Draw, pick_two_choices};
use mesh::model::endpoint::Standing;
use proptest::prelude::*;

const READY: Candidate =
    Candidate { weight: 100, pending: 0, latency_ns: 1e6, standing: Standing::Ready, avoided: false };

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let standings = prop_oneof![
        Just(Standing::Ready),
        Just(Standing::Suspect),
        Just(Standing::Unhealthy),
        Just(Standing::Draining)
    ];
    (0u32..3, 0u32..5, 0.0f64..1e9, standings, any::<bool>()).prop_map(
        |(weight, pending, latency_ns, standing, avoided)| Candidate {
            weight,
            pending,
            latency_ns,
            standing,
            avoided,
        },
    )
}

/// How often each of `pool` is picked in `draws` draws.
fn counts(pool: &[Candidate], draws: u64, tried: &[usize]) -> Vec<u64> {
    let mut counts = vec![0; pool.len()];
    for draw in 0..draws {
        if let Some(index) = pick_two_choices(pool, Draw(draw), tried) {
            counts[index] += 1;
        }
    }
    counts
}

proptest! {
    #[test]
    fn whoever_is_picked_belongs_to_the_best_class_there_is(
        pool in proptest::collection::vec(any_candidate(), 0..9),
        tried in proptest::collection::vec(0usize..9, 0..4),
        draw: u64,
    ) {
        let class = |index: usize| (pool[index].avoided, tried.contains(&index), pool[index].standing);
        let best = (0..pool.len()).filter(|index| pool[*index].weight > 0).map(class).min();
        let picked = pick_two_choices(pool.as_slice(), Draw(draw), &tried);
        prop_assert_eq!(picked.map(class), best);
        prop_assert!(picked.is_none_or(|index| pool[index].weight > 0));
    }

    // case 74
    #[test]
    fn the_most_expensive_of_equal_weights_is_never_taken(
        costs in proptest::collection::vec((0u32..50, 1.0f64..1e9), 2..12),
        draw: u64,
    ) {
        let pool: Vec<_> =
            costs.iter().map(|(pending, latency_ns)| Candidate { pending: *pending, latency_ns: *latency_ns, ..READY }).collect();
        let picked = pick_two_choices(pool.as_slice(), Draw(draw), &[]).unwrap();
        let worse = pool.iter().enumerate().filter(|(index, _)| *index != picked);
        prop_assert!(worse.into_iter().any(|(_, other)| pool[picked].cost().total_cmp(&other.cost()) != Ordering::Greater));
    }

    #[test]
    fn the_same_draw_picks_the_same(pool in proptest::collection::vec(any_candidate(), 0..9), draw: u64) {
        let pick = || pick_two_choices(pool.as_slice(), Draw(draw), &[]);
        prop_assert_eq!(pick(), pick());
    }

    #[test]
    fn an_estimate_stays_between_what_was_seen(samples in proptest::collection::vec((1u64..1_000_000_000, 0u64..20_000_000_000), 1..20)) {
        let mut ewma = Ewma::new(0);
        let mut now = 0;
        for (sample, wait) in &samples {
            now += wait;
            let before = ewma.project(now);
            ewma = ewma.observe(*sample, now);
            let sample = *sample as f64;
            prop_assert!(ewma.estimate_ns >= sample, "a peak is believed at once");
            prop_assert!(ewma.estimate_ns <= before.max(sample) + sample, "no more than decay and sample add up to");
        }
        prop_assert!(ewma.project(now + 1_000_000) <= ewma.project(now), "silence makes attractive");
        prop_assert_eq!(ewma.observe(1, 0).at_ns, now.max(ewma.at_ns));
    }
}

// case 74
#[test]
fn with_equal_costs_everybody_gets_about_the_same() {
    let counts = counts(&[READY; 5], 10_000, &[]);

    assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
}

#[test]
fn with_equal_costs_shares_follow_weights() {
    let pool: Vec<_> = [100, 300, 600].iter().map(|weight| Candidate { weight: *weight, ..READY }).collect();

    let counts = counts(&pool, 10_000, &[]);

    for (count, share) in counts.iter().zip([1_000u64, 3_000, 6_000]) {
        assert!(count.abs_diff(share) < 300, "{counts:?}");
    }
}

#[test]
fn weights_count_in_worse_classes_too() {
    let suspect = |weight| Candidate { weight, standing: Standing::Suspect, ..READY };

    let counts = counts(&[suspect(100), suspect(900)], 10_000, &[]);

    assert!(counts[0].abs_diff(1_000) < 300, "{counts:?}");
}

#[test]
fn the_slower_of_two_is_taken_only_when_the_other_was_tried() {
    let pool = [Candidate { pending: 4, ..READY }, READY];

    assert_eq!(counts(&pool, 100, &[]), [0, 100]);
    assert_eq!(counts(&pool, 100, &[1]), [100, 0]);
    assert_eq!(counts(&pool, 100, &[0, 1]), [0, 100]);
}

// case 73
#[test]
fn when_all_are_avoided_the_call_goes_out_all_the_same() {
    let pool = [Candidate { avoided: true, ..READY }; 3];

    assert!(counts(&pool, 300, &[]).iter().all(|count| *count > 0));
}

#[test]
fn an_estimate_halves_as_tower_would() {
    let ewma = Ewma { estimate_ns: 100e6, at_ns: 0 };

    let tenth = (-0.1f64).exp();
    let after = ewma.observe(50_000_000, 1_000_000_000);
    assert!((after.estimate_ns - (100e6 * tenth + 50e6 * (1.0 - tenth))).abs() < 1.0);
    assert!((ewma.project(10_000_000_000) - 100e6 / std::f64::consts::E).abs() < 1.0);
}

#[test]
fn a_new_endpoint_is_called_within_a_few_sequential_calls() {
    let mut estimates =
        [Ewma::new(0).observe(2_000_000, 0), Ewma::new(0).observe(2_000_000, 0), Ewma::new(0)];
    let mut first = None;
    for call in 0..20u64 {
        let now = call * 10_000_000;
        let pool = estimates.map(|ewma| Candidate { latency_ns: ewma.project(now), ..READY });
        let picked = pick_two_choices(pool.as_slice(), Draw(call), &[]).unwrap();
        if picked == 2 {
            first = first.or(Some(call));
        }
        estimates[picked] = estimates[picked].observe(2_000_000, now);
    }

    assert!(first.is_some_and(|call| call < 8), "first called at {first:?}");
}

#[test]
fn a_new_endpoint_is_not_flooded_before_its_first_answer() {
    let mut pending = [0u32; 4];
    for draw in 0..400 {
        let latency = |index: usize| if index == 3 { 0.0 } else { 50e6 };
        let pool: Vec<_> = (0..4)
            .map(|index| Candidate { pending: pending[index], latency_ns: latency(index), ..READY })
            .collect();
        pending[pick_two_choices(pool.as_slice(), Draw(draw), &[]).unwrap()] += 1;
    }

    assert!(pending[3] <= 110, "{pending:?}");
}

// case 74
#[test]
fn a_slow_one_of_three_is_hardly_called_and_comes_back_once_it_is_quick_again() {
    const MS: u64 = 1_000_000;
    let (mut estimates, mut now) = ([Ewma::new(0); 3], 0);
    // A minute of calls, a hundred each second and one after another: how often each of three is called.
    let mut minute = |third_ms: u64| {
        let mut counts = [0; 3];
        for _ in 0..6_000 {
            now += 10 * MS;
            let pool = estimates.map(|ewma| Candidate { latency_ns: ewma.project(now), ..READY });
            let picked = pick_two_choices(pool.as_slice(), Draw(hash::mix(now)), &[]).unwrap();
            let took = MS * if picked == 2 { third_ms } else { 2 };
            estimates[picked] = estimates[picked].observe(took, now + took);
            counts[picked] += 1;
        }
        counts
    };

    let (slow, recovering, recovered, quick) = (minute(100), minute(2), minute(2), minute(2));

    assert!((1..60).contains(&slow[2]), "less than one in a hundred: {slow:?}");
    // What it took is forgotten within some 40 seconds; from then on it is called more and more often.
    assert!(recovering[2] > 30, "{recovering:?}");
    assert!(recovered[2] > 600, "{recovered:?}");
    assert!(quick.iter().all(|count| (1_800..2_200).contains(count)), "a third each: {quick:?}");
}
