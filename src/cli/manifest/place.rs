//! Where things are in YAML: the documents of a text, and the line and column of a field by its path.

use serde_saphyr::granit_parser::{Event, Parser, ScanError, Span};

/// A place in a text; line and column (of characters) from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Something wrong, and where.
pub(crate) type Misplaced = (Place, String);

impl Place {
    fn of(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }

    /// Returns the place of a scanner's error.
    pub fn of_error(error: &ScanError) -> Self {
        Self { line: error.marker().line(), column: error.marker().col() + 1 }
    }
}

/// One document of a text.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    /// Its lines, with the `---` before it.
    pub text: &'a str,
    /// Where they begin in the whole text, bytes.
    pub begin: usize,
    /// Lines of the whole text before them.
    pub lines_before: usize,
    /// Where its content begins, in the whole text.
    pub start: Place,
    /// The value of `kind` at its top.
    pub kind: Option<(String, Place)>,
    /// The value of `apiVersion` at its top.
    pub api_version: Option<(String, Place)>,
}

/// Splits a text into its documents, leaving out empty ones.
#[expect(clippy::wildcard_enum_match_arm, reason = "the parser's list of events is open")]
pub fn documents(text: &str) -> Result<Vec<Document<'_>>, ScanError> {
    let mut found = Vec::new();
    let mut walk = Walk::default();
    let mut begin = Marks::default();
    let mut document: Option<Document<'_>> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        match &event {
            Event::DocumentStart(..) => {
                walk = Walk::default();
                begin = Marks::line_of(text, &span);
            }
            Event::DocumentEnd => {
                if let Some(mut document) = document.take() {
                    document.text = begin.slice_to(text, &span);
                    found.push(document);
                }
            }
            _ => {
                let Some(node) = walk.step(&event, &span) else { continue };
                let empty = node.scalar.is_some_and(|value| matches!(value, "" | "~" | "null"));
                if node.path.is_empty() && !empty {
                    let Marks { byte, lines_before } = begin;
                    let start = node.place;
                    let (kind, api_version) = (None, None);
                    document = Some(Document { text, begin: byte, lines_before, start, kind, api_version });
                }
                if let (Some(document), [Step::Key(key)], Some(value), false) =
                    (document.as_mut(), node.path, node.scalar, node.is_key)
                {
                    match key.as_str() {
                        "kind" => document.kind = Some((value.to_owned(), node.place)),
                        "apiVersion" => document.api_version = Some((value.to_owned(), node.place)),
                        _ => {}
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Finds the field at `path`, such as `spec.rules[0].name`, or the nearest one around it that is there.
///
/// The place is in the whole text: of a scalar, the value; of a mapping or list, its key.
pub fn find(document: &Document<'_>, path: &str) -> Place {
    find_near(document, &steps(path))
}

/// Which part of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Its name; of an item of a list, the item.
    Key,
    /// Its value, also where that is a mapping or a list.
    Value,
}

/// As [`find`], for one part of a field.
pub(crate) fn find_at(document: &Document<'_>, path: &[Step], spot: Spot) -> Place {
    let mut walk = Walk::default();
    for event in Parser::new_from_str(document.text) {
        let Ok((event, span)) = event else { break };
        let Some(node) = walk.step(&event, &span) else { continue };
        let is_spot = match path.last() {
            Some(Step::Key(_)) => node.is_key == (spot == Spot::Key),
            Some(Step::Index(_)) | None => !node.is_key,
        };
        if is_spot && node.path == path {
            return Place { line: node.place.line + document.lines_before, ..node.place };
        }
    }
    find_near(document, path)
}

fn find_near(document: &Document<'_>, wanted: &[Step]) -> Place {
    let mut best = (0, document.start);
    let mut walk = Walk::default();
    for event in Parser::new_from_str(document.text) {
        let Ok((event, span)) = event else { break };
        let Some(node) = walk.step(&event, &span) else { continue };
        let better = node.is_key || node.scalar.is_some() || matches!(node.path.last(), Some(Step::Index(_)));
        if better && node.path.len() >= best.0 && wanted.starts_with(node.path) && !node.path.is_empty() {
            let place = Place { line: node.place.line + document.lines_before, ..node.place };
            best = (node.path.len(), place);
        }
    }
    best.1
}

/// Where a document's lines begin.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    byte: usize,
    lines_before: usize,
}

impl Marks {
    fn line_of(text: &str, span: &Span) -> Self {
        let at = span.start.byte_offset().unwrap_or(0);
        let byte = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        Self { byte, lines_before: span.start.line() - 1 }
    }

    fn slice_to<'a>(&self, text: &'a str, end: &Span) -> &'a str {
        let end = end.start.byte_offset().unwrap_or(text.len());
        text.get(self.byte..end).unwrap_or_default()
    }
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into the field of this name.
    Key(String),
    /// Into the item of this number, from 0.
    Index(usize),
}

/// Reads a path such as `spec.rules[0].name`.
pub(crate) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let mut pieces = part.split('[');
        steps.extend(pieces.next().filter(|key| !key.is_empty()).map(|key| Step::Key(key.to_owned())));
        steps.extend(pieces.filter_map(|piece| piece.trim_end_matches(']').parse().ok().map(Step::Index)));
    }
    steps
}

/// A walk over the nodes of a document that knows the path of each.
#[derive(Debug, Default)]
struct Walk {
    path: Vec<Step>,
    open: Vec<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// A mapping; whether the next node is a key.
    Mapping {
        key_next: bool,
    },
    Sequence {
        next: usize,
    },
}

/// A key or value met on the walk.
struct Node<'w> {
    path: &'w [Step],
    place: Place,
    scalar: Option<&'w str>,
    is_key: bool,
}

impl Walk {
    /// Takes the next event; returns the node that begins with it, if one does.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser's list of events is open")]
    fn step<'w>(&'w mut self, event: &'w Event<'_>, span: &Span) -> Option<Node<'w>> {
        let (scalar, opens) = match event {
            Event::Scalar(value, ..) => (Some(value.as_ref()), None),
            Event::Alias(_) => (None, None),
            Event::MappingStart(..) => (None, Some(Open::Mapping { key_next: true })),
            Event::SequenceStart(..) => (None, Some(Open::Sequence { next: 0 })),
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                return None;
            }
            _ => return None,
        };
        let mut is_key = false;
        let depth = self.open.len();
        match self.open.last_mut() {
            None => {}
            Some(Open::Mapping { key_next }) => {
                is_key = *key_next;
                *key_next = !is_key;
                if is_key {
                    self.path.truncate(depth - 1);
                    self.path.push(Step::Key(scalar.unwrap_or_default().to_owned()));
                } else {
                    self.path.truncate(depth);
                }
            }
            Some(Open::Sequence { next }) => {
                self.path.truncate(depth - 1);
                self.path.push(Step::Index(*next));
                *next += 1;
            }
        }
        self.open.extend(opens);
        Some(Node { path: &self.path, place: Place::of(span), scalar, is_key })
    }
}
