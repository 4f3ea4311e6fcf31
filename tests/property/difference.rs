//! Differences of texts: both can be read back from one, and it names no more lines than it must.

use mesh::logic::difference::{Line, lines, unified};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]{0,2}", 0..24)
        .prop_map(|lines| lines.iter().map(|l| format!("{l}\n")).collect())
}

/// The longest common subsequence, found the slow way.
fn longest(old: &[&str], new: &[&str]) -> usize {
    let mut row = vec![0; new.len() + 1];
    for a in old {
        let mut corner = 0;
        for (j, b) in new.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if a == b { corner + 1 } else { above.max(row[j]) };
            corner = above;
        }
    }
    row[new.len()]
}

proptest! {
    #[test]
    fn both_texts_can_be_read_back_and_as_much_as_possible_stays(old in text(), new in text()) {
        let found = lines(&old, &new);

        let side = |wanted: fn(&Line<'_>) -> bool| -> String {
            let of = |line: &Line<'_>| match *line { Line::Same(l) | Line::Old(l) | Line::New(l) => format!("{l}\n") };
            found.iter().filter(|line| wanted(line)).map(of).collect()
        };
        prop_assert_eq!(side(|line| !matches!(line, Line::New(_))), old.clone());
        prop_assert_eq!(side(|line| !matches!(line, Line::Old(_))), new.clone());
        let same = found.iter().filter(|line| matches!(line, Line::Same(_))).count();
        let (a, b): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
        prop_assert_eq!(same, longest(&a, &b));
        prop_assert_eq!(unified(&old, &new).is_empty(), old == new);
    }
}
