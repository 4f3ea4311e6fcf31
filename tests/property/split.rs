//! Splitting: shares follow weights.

use mesh::logic::route::filter::Filters;
use mesh::logic::route::split::choose;
use mesh::logic::route::table::{Backend, Rule};
use proptest::prelude::*;

fn rule(weights: &[u32]) -> Rule {
    let backend = |(index, weight): (usize, &u32)| Backend {
        service: format!("backend-{index}").parse().unwrap(),
        port: None,
        weight: *weight,
        filters: Filters::default(),
    };
    let backends = weights.iter().enumerate().map(backend).collect();
    Rule { label: "r/0".into(), backends, ..Rule::default() }
}

proptest! {
    // case 76
    #[test]
    fn the_share_of_each_backend_is_its_weight(weights in proptest::collection::vec(0u32..=1_000_000, 1..16)) {
        const DRAWS: u64 = 4_096;
        let rule = rule(&weights);
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut taken = vec![0u64; weights.len()];
        for step in 0..DRAWS {
            // Evenly spaced draws: the share is exact up to one draw at each border.
            let Some(backend) = choose(&rule, step * (u64::MAX / DRAWS)) else {
                prop_assert_eq!(total, 0);
                return Ok(());
            };
            let at = rule.backends.iter().position(|other| other.service == backend.service).unwrap();
            taken[at] += 1;
        }
        for (weight, taken) in weights.iter().zip(taken) {
            let share = u64::from(*weight) * DRAWS / total.max(1);
            prop_assert!(taken.abs_diff(share) <= 2, "{} of {} expected, {} taken", share, DRAWS, taken);
        }
    }

    // case 76
    #[test]
    fn a_backend_of_weight_0_is_never_chosen(weights in proptest::collection::vec(0u32..3, 0..16), draw: u64) {
        let rule = rule(&weights);
        let chosen = choose(&rule, draw);
        prop_assert_eq!(chosen.is_some(), weights.iter().any(|weight| *weight > 0));
        prop_assert!(chosen.is_none_or(|backend| backend.weight > 0));
    }
}
