//! Names that somebody may have meant who named a service that is not there.

use std::collections::BTreeSet;

use crate::model::name::ServiceName;

/// How many names are proposed at most: more are no help.
const SHOWN_MAX: usize = 3;
/// One wrong character in so many is a misspelling; more make another word.
const BYTES_PER_SLIP: usize = 4;

/// Returns the names that `wanted` may be a misspelling of, the closest first: the same in another namespace, or one that
/// differs by a slip of the fingers or two. Empty when it is one of them itself. O(known).
pub fn similar<'a>(
    wanted: &ServiceName,
    known: impl IntoIterator<Item = &'a ServiceName>,
) -> Vec<&'a ServiceName> {
    let mut close = BTreeSet::new();
    for name in known {
        if name == wanted {
            return Vec::new();
        }
        if wanted.namespace() != name.namespace() {
            close.extend((wanted.name() == name.name()).then_some((1, name)));
            continue;
        }
        let (length, other) = (wanted.name().len(), name.name().len());
        let most = (length / BYTES_PER_SLIP).max(1);
        // Of a name of two letters, every other one is half right. Most others are told apart by their length, which counts
        // where a thousand routes name services that are not there yet.
        if length.min(other) < 3 || length.abs_diff(other) > most {
            continue;
        }
        let slips = slips(wanted.name(), name.name());
        if slips <= most {
            close.insert((slips, name));
        }
    }
    close.into_iter().map(|(_, name)| name).take(SHOWN_MAX).collect()
}

/// Returns what to add to a sentence about a service that is not there: `; did you mean web.default?`, or nothing.
pub fn hint<'a>(wanted: &ServiceName, known: impl IntoIterator<Item = &'a ServiceName>) -> String {
    let names: Vec<_> = similar(wanted, known).iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

/// Returns whether one word may be a misspelling of another: `services` of `service`. ASCII.
pub fn are_close(wanted: &str, known: &str) -> bool {
    wanted != known && slips(wanted, known) <= (wanted.len() / BYTES_PER_SLIP).max(1)
}

/// Returns how many characters are missing, too many, wrong, or swapped with their neighbour (optimal string alignment;
/// Damerau 1964). Labels are ASCII and of 63 bytes at most.
fn slips(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let wrong = at(&last, j) + usize::from(byte != other);
            let mut best = wrong.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let is_swapped = i > 0 && j > 0 && a.get(i - 1) == Some(other) && b.get(j - 1) == Some(byte);
            if is_swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use crate::logic::naming::similar::{hint, similar};
    use crate::model::name::ServiceName;

    fn names(texts: &str) -> Vec<ServiceName> {
        texts.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_slip_of_the_fingers_is_recognised_and_another_word_is_not() {
        let known = names("checkout cart cart.shop web api orders-v2");
        for (wanted, expected) in [
            ("chekcout", "checkout"),
            ("checkot", "checkout"),
            ("checkouts", "checkout"),
            ("checkout.shop", "checkout"),
            ("crat", "cart"),
            ("carts", "cart"),
            ("card.shop", "cart.shop"),
            ("wbe", "web"),
            ("orders-v1", "orders-v2"),
            ("payment", ""),
            ("car-wash", ""),
            ("db", ""),
            ("web", ""),
        ] {
            let found = similar(&wanted.parse().unwrap(), &known);
            assert_eq!(found, names(expected).iter().collect::<Vec<_>>(), "{wanted}");
        }
    }

    #[test]
    fn the_closest_are_named_first_and_no_more_than_three() {
        let known = names("cart-a cart-b cart-c cart-d cart");

        assert_eq!(hint(&"cart".parse().unwrap(), &known), "", "it is there itself");
        assert_eq!(
            hint(&"cart-x".parse().unwrap(), &known),
            "; did you mean cart-a.default or cart-b.default or cart-c.default?"
        );
    }
}
