//! Which of a rule's backends takes a request: weighted choice from one random draw.

use crate::logic::route::table::{Backend, Rule};

/// Returns the backend that `draw`, uniform over all of `u64`, falls on: each in proportion to its weight.
///
/// Returns `None` when no backend has weight, which is answered 500.
pub fn choose(rule: &Rule, draw: u64) -> Option<&Backend> {
    if let [only] = rule.backends.as_slice() {
        return (only.weight > 0).then_some(only);
    }
    let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    // The high half of the product maps the draw evenly onto 0..total, without the bias or cost of a remainder
    // (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    let mut point = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
    rule.backends.iter().find(|backend| {
        let weight = u64::from(backend.weight);
        let here = point < weight;
        point = point.saturating_sub(weight);
        here
    })
}
