//! What differs between two texts, line by line: the longest common subsequence by dynamic programming (Wagner and Fischer
//! 1974), written as `diff -u` writes it. What begins and ends alike is set aside first; texts whose middles are too large for
//! the table differ as a whole there.

/// Most cells of the table: two middles of some 2,000 lines each.
const CELLS_MAX: usize = 4 << 20;
/// Lines shown around what differs.
const CONTEXT: usize = 3;

/// One line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// In both.
    Same(&'a str),
    /// Only in the old text.
    Old(&'a str),
    /// Only in the new text.
    New(&'a str),
}

/// Compares two texts: their lines in order, what goes before what comes.
pub fn lines<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old.iter().skip(head).rev().zip(new.iter().skip(head).rev()).take_while(|(a, b)| a == b);
    let tail = tail.count();
    let middle = |all: &[&'a str]| all.get(head..all.len() - tail).unwrap_or_default().to_vec();
    let mut found: Vec<_> = old.iter().take(head).map(|line| Line::Same(line)).collect();
    found.extend(compare(&middle(&old), &middle(&new)));
    found.extend(old.iter().skip(old.len() - tail).map(|line| Line::Same(line)));
    found
}

fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let width = new.len() + 1;
    if (old.len() + 1).saturating_mul(width) > CELLS_MAX {
        return old
            .iter()
            .map(|line| Line::Old(line))
            .chain(new.iter().map(|line| Line::New(line)))
            .collect();
    }
    // common[i * width + j]: length of the longest common subsequence of old[i..] and new[j..].
    let mut common = vec![0_u32; (old.len() + 1) * width];
    let at = |i: usize, j: usize| i * width + j;
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            common[at(i, j)] = if a == b {
                common[at(i + 1, j + 1)] + 1
            } else {
                common[at(i + 1, j)].max(common[at(i, j + 1)])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut found = Vec::new();
    loop {
        match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) if a == b => {
                found.push(Line::Same(a));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none() || common[at(i + 1, j)] >= common[at(i, j + 1)] => {
                found.push(Line::Old(a));
                i += 1;
            }
            (_, Some(b)) => {
                found.push(Line::New(b));
                j += 1;
            }
            (_, None) => return found,
        }
    }
}

/// Returns the unified form without the two lines of file names: hunks with some lines around each difference; empty when
/// the texts are the same.
pub fn unified(old: &str, new: &str) -> String {
    let all = lines(old, new);
    let changed: Vec<_> =
        all.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))).map(|(at, _)| at).collect();
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for at in changed {
        let (begin, end) = (at.saturating_sub(CONTEXT), (at + CONTEXT + 1).min(all.len()));
        match hunks.last_mut() {
            Some(last) if begin <= last.end => last.end = end,
            Some(_) | None => hunks.push(begin..end),
        }
    }
    hunks.into_iter().map(|hunk| written(&all, hunk)).collect()
}

fn written(all: &[Line<'_>], hunk: std::ops::Range<usize>) -> String {
    let count = |lines: &[Line<'_>], old: bool| {
        let of_side = |line: &&Line<'_>| match line {
            Line::Same(_) => true,
            Line::Old(_) => old,
            Line::New(_) => !old,
        };
        lines.iter().filter(of_side).count()
    };
    let (before, inside) = (all.get(..hunk.start), all.get(hunk));
    let (before, inside) = (before.unwrap_or_default(), inside.unwrap_or_default());
    let span = |old: bool| {
        let (skipped, length) = (count(before, old), count(inside, old));
        // An empty range stands after the line that it names.
        format!("{},{length}", if length == 0 { skipped } else { skipped + 1 })
    };
    let mut text = format!("@@ -{} +{} @@\n", span(true), span(false));
    for line in inside {
        let (mark, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Old(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        text.push(mark);
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::logic::difference::unified;

    #[test]
    fn a_changed_line_stands_among_three_of_its_neighbours() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";

        assert_eq!(unified(old, new), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
        assert_eq!(unified(old, old), "");
        assert_eq!(unified("", "a\n"), "@@ -0,0 +1,1 @@\n+a\n");
    }

    #[test]
    fn differences_far_from_each_other_are_hunks_of_their_own() {
        let old = (1..=20).fold(String::new(), |text, n| text + &n.to_string() + "\n");
        let new = old.replacen("2\n", "two\n", 1).replace("19\n", "");

        let text = unified(&old, &new);

        assert_eq!(text.lines().filter(|line| line.starts_with("@@")).count(), 2, "{text}");
        assert!(text.contains("@@ -16,5 +16,4 @@"), "{text}");
    }
}
