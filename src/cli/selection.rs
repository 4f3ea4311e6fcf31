//! Which objects a command line speaks of: `KIND`, `KIND NAME…` or `KIND/NAME…`, as kubectl reads them.

use std::collections::BTreeMap;

use crate::cli::exit::{Exit, refuse};
use crate::model::resource::{Key, Kind, Resource};

/// The objects of one kind that are spoken of; all of them when no name is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The kind.
    pub(crate) kind: Kind,
    /// The names, in the order in which they were given.
    pub(crate) names: Vec<String>,
}

/// Reads the words, one selection for each kind, in the order in which they were given.
///
/// # Errors
/// When there is no such kind, or both ways of writing are mixed.
pub(crate) fn parse(words: &[String]) -> anyhow::Result<Vec<Selection>> {
    if !words.iter().any(|word| word.contains('/')) {
        let Some((kind, names)) = words.split_first() else { return Ok(Vec::new()) };
        return Ok(vec![Selection { kind: kind_of(kind)?, names: names.to_vec() }]);
    }
    let mut selections: Vec<Selection> = Vec::new();
    for word in words {
        let mixed = || refuse(Exit::Usage, "write KIND NAME or KIND/NAME, not both at once".to_owned());
        let (kind, name) = word.split_once('/').ok_or_else(mixed)?;
        let kind = kind_of(kind)?;
        match selections.last_mut().filter(|last| last.kind == kind) {
            Some(last) => last.names.push(name.to_owned()),
            None => selections.push(Selection { kind, names: vec![name.to_owned()] }),
        }
    }
    Ok(selections)
}

/// As [`parse`], where only one kind makes sense.
///
/// # Errors
/// Those of [`parse`], and when there are several.
pub(crate) fn parse_one(words: &[String]) -> anyhow::Result<Selection> {
    let mut selections = parse(words)?;
    match (selections.pop(), selections.is_empty()) {
        (Some(selection), true) => Ok(selection),
        _ => Err(refuse(Exit::Usage, "this command takes one kind at a time".to_owned())),
    }
}

/// As [`parse_one`], where one object is spoken of.
///
/// # Errors
/// Those of [`parse_one`], and when there is not one name.
pub(crate) fn parse_key(words: &[String], namespace: &str) -> anyhow::Result<Key> {
    let Selection { kind, names } = parse_one(words)?;
    match names.as_slice() {
        [name] => Ok(Key { kind, namespace: namespace.to_owned(), name: name.clone() }),
        _ => Err(refuse(Exit::Usage, "this command takes one object: KIND NAME or KIND/NAME".to_owned())),
    }
}

/// Labels that objects are chosen by; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels(pub(crate) BTreeMap<String, String>);

impl Labels {
    /// Returns whether an object has all of them.
    pub(crate) fn are_on(&self, object: &Resource) -> bool {
        let has = &object.metadata().labels;
        self.0.iter().all(|(label, value)| has.get(label) == Some(value))
    }
}

/// Reads `LABEL=VALUE`, or several joined by commas.
///
/// # Errors
/// A sentence on what was expected.
pub(crate) fn labels(text: &str) -> Result<Labels, String> {
    let pair = |part: &str| {
        let (label, value) = part.split_once('=')?;
        let (label, value) = (label.trim(), value.trim_start_matches('=').trim());
        (!label.is_empty()).then(|| (label.to_owned(), value.to_owned()))
    };
    let pairs: Option<BTreeMap<_, _>> = text.split(',').map(pair).collect();
    pairs.map(Labels).ok_or_else(|| "expected LABEL=VALUE, several joined by commas".to_owned())
}

fn kind_of(text: &str) -> anyhow::Result<Kind> {
    text.parse().map_err(|text: String| refuse(Exit::Usage, text))
}

#[cfg(test)]
mod tests {
    use crate::cli::selection::{Selection, parse, parse_one};
    use crate::model::resource::Kind;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn selection(kind: Kind, names: &[&str]) -> Selection {
        Selection { kind, names: names.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_kind_is_followed_by_names_or_joined_to_each() {
        let both = vec![selection(Kind::HttpRoute, &["a", "b"])];

        assert_eq!(parse(&words("httproute a b")).unwrap(), both);
        assert_eq!(parse(&words("httproutes/a httproute/b")).unwrap(), both);
        assert_eq!(parse(&words("intentions")).unwrap(), [selection(Kind::Intention, &[])]);
        assert_eq!(
            parse(&words("httproute/a intention/b")).unwrap(),
            [selection(Kind::HttpRoute, &["a"]), selection(Kind::Intention, &["b"])]
        );
    }

    #[test]
    fn what_has_no_single_meaning_is_refused() {
        for line in ["httproute/a b", "httproute intention/b", "pods", "pods/a"] {
            assert!(parse(&words(line)).is_err(), "{line}");
        }
        assert!(parse_one(&words("httproute/a intention/b")).is_err());
    }
}
