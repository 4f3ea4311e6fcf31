//! The latency histogram: merging loses nothing, quantiles are near the truth.

use mesh::logic::metric::histogram::{Histogram, Sparse};
use proptest::collection::vec;
use proptest::prelude::*;

/// The largest value that has a bucket of its own scale.
const LARGEST: u64 = (1 << 34) - 1;

/// Latencies of every magnitude, not only large ones.
fn latency() -> impl Strategy<Value = u64> {
    (0_u32..34).prop_flat_map(|bits| 0..=(1_u64 << bits))
}

proptest! {
    #[test]
    fn merging_is_recording_everything(parts in vec(vec(latency(), 0..50), 0..6)) {
        let all: Histogram = parts.iter().flatten().copied().collect();

        let mut merged = Histogram::default();
        for part in &parts {
            merged.merge(&part.iter().copied().collect());
        }

        prop_assert_eq!(merged, all);
    }

    #[test]
    fn equal_parts_add_up_to_the_whole(values in vec(latency(), 0..100), of in 1_u64..70) {
        let whole: Histogram = values.into_iter().collect();

        let mut sum = Histogram::default();
        for index in 0..of {
            sum.merge(&whole.part(index, of));
        }

        prop_assert_eq!(sum, whole);
    }

    #[test]
    fn the_sparse_form_loses_nothing(values in vec(any::<u64>(), 0..100)) {
        let histogram: Histogram = values.into_iter().collect();

        let text = serde_json::to_string(&histogram).unwrap();

        prop_assert_eq!(&serde_json::from_str::<Histogram>(&text).unwrap(), &histogram);
        prop_assert_eq!(&Histogram::from(Sparse::from(&histogram)), &histogram);
    }

    #[test]
    fn a_quantile_is_off_by_less_than_one_percent(mut values in vec(latency(), 1..200), q in 0.0_f64..=1.0) {
        let histogram: Histogram = values.iter().copied().collect();
        values.sort_unstable();
        let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let truth = values[rank - 1].min(LARGEST) as f64;

        let found = histogram.quantile_us(q).unwrap() as f64;

        prop_assert!((found - truth).abs() <= truth * 0.008, "found {found}, truth {truth}");
    }

    #[test]
    fn counts_until_a_limit_grow_to_the_total(values in vec(latency(), 0..100), mut limits in vec(latency(), 2..10)) {
        let histogram: Histogram = values.iter().copied().collect();
        limits.sort_unstable();

        let counts: Vec<_> = limits.iter().map(|limit| histogram.count_until(*limit)).collect();

        prop_assert!(counts.is_sorted());
        prop_assert_eq!(histogram.count_until(u64::MAX), values.len() as u64);
        for (limit, count) in limits.iter().zip(counts) {
            let surely = values.iter().filter(|value| **value <= *limit).count() as u64;
            prop_assert!(count >= surely);
        }
    }

    #[test]
    fn pairs_from_the_network_never_panic_nor_take_much_room(pairs in vec((any::<u16>(), any::<u32>()), 0..50)) {
        let text = serde_json::json!({ "buckets": pairs, "sum_us": u64::MAX }).to_string();

        let mut histogram: Histogram = serde_json::from_str(&text).unwrap();
        histogram.merge(&histogram.clone());
        histogram.record(7);

        let filled = serde_json::to_value(&histogram).unwrap()["buckets"].as_array().unwrap().len();
        prop_assert!(filled <= 2_000);
        prop_assert!(histogram.quantile_us(1.0).is_some());
    }
}

#[test]
fn an_empty_histogram_has_no_quantile() {
    assert_eq!(Histogram::default().quantile_us(0.5), None);
}
