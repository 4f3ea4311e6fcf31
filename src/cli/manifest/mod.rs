//! Files → resources, with file, line and column in everything that is said about them.
//!
//! Each document is looked at twice: once for its kind and its places ([`place`]), once for its fields, straight into the
//! type of that kind, because a type that is told apart while being read (serde's internally tagged enums) forgets where it
//! was. What `logic::validate` finds is then put back to its line by the path of the field.

pub mod files;
pub mod fault;
pub mod place;
pub mod unsupported;
mod words;
mod survey;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::cli::manifest::fault::{Fault, Origin};
use crate::cli::manifest::place::{Document, Misplaced, Place};
use crate::cli::manifest::words::explain;
use crate::logic::validate;
use crate::model::resource::{Key, Kind, Metadata, Object, Resource};

const FAULTS_MAX: usize = 50;

/// Why manifests could not be read. Nothing was sent anywhere.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// There is nothing in it.
    #[error("{0} has no objects in it: expected YAML with apiVersion, kind, metadata and spec")]
    Empty(String),
    /// Something in them is wrong.
    #[error("{}", joined(.0))]
    Faults(Vec<Fault>),
}

fn joined(faults: &[Fault]) -> String {
    let shown: Vec<_> = faults.iter().take(FAULTS_MAX).map(ToString::to_string).collect();
    let rest = faults.len().saturating_sub(FAULTS_MAX);
    if rest == 0 { shown.join("\n") } else { format!("{}\nand {rest} more", shown.join("\n")) }
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Every object with the place where it begins, in the order of files and documents.
    pub objects: Vec<(Resource, Origin)>,
    /// Doubts that do not stop anything.
    pub warnings: Vec<Fault>,
    /// Every text, by the name of its file.
    texts: BTreeMap<String, String>,
    /// Where each object stands in its text, by where it begins: thousands of sentences may have to find their place.
    spans: BTreeMap<Origin, Span>,
}

/// The lines of one document within a text.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: usize,
    end: usize,
    lines_before: usize,
}

impl Manifests {
    /// Returns what somebody else says about a field of an object, with the place where it is written; `None` for objects
    /// that are none of these.
    pub fn fault(&self, key: &Key, path: &str, message: &str) -> Option<Fault> {
        let (_, origin) = self.objects.iter().find(|(object, _)| object.key() == *key)?;
        let text = self.texts.get(&origin.file)?;
        let Span { begin, end, lines_before } = *self.spans.get(origin)?;
        let start = Place { line: origin.line, column: origin.column };
        let (kind, api_version) = (None, None);
        let own = text.get(begin..end)?;
        let document = Document { text: own, begin, lines_before, start, kind, api_version };
        let place = place::find(&document, path);
        let message = if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") };
        let origin = Origin { file: origin.file.clone(), line: place.line, column: place.column };
        Some(Fault::new(text, origin, message))
    }
}

/// Reads files, the `*.yaml`, `*.yml` and `*.json` in and below directories, sorted, and standard input (`-`), in the order
/// given.
///
/// # Errors
/// When anything cannot be read or any object is not valid: all faults of all files, not only the first.
pub fn read(paths: &[PathBuf]) -> Result<Manifests, Error> {
    let mut all = Manifests::default();
    let mut faults = Vec::new();
    for path in paths {
        let before = all.objects.len() + faults.len();
        for (name, text) in files::texts(path)? {
            match parse(&text, &name) {
                Ok(mut read) => {
                    all.texts.insert(name, text);
                    all.objects.append(&mut read.objects);
                    all.spans.append(&mut read.spans);
                    all.warnings.append(&mut read.warnings);
                }
                Err(mut found) => faults.append(&mut found),
            }
        }
        if all.objects.len() + faults.len() == before {
            return Err(Error::Empty(files::shown(path)));
        }
    }
    if faults.is_empty() { Ok(all) } else { Err(Error::Faults(faults)) }
}

/// Parses one text, which is called `file` in what is said about it.
///
/// # Errors
/// Every fault of the text that could be found, in its order.
pub fn parse(text: &str, file: &str) -> Result<Manifests, Vec<Fault>> {
    let origin = |place: Place| Origin { file: file.to_owned(), line: place.line, column: place.column };
    let fault = |place: Place, message: String| Fault::new(text, origin(place), message);
    let documents = place::documents(text).map_err(|error| {
        vec![fault(Place::of_error(&error), format!("this is not YAML: {}", error.kind()))]
    })?;
    let mut read = Manifests::default();
    let mut faults = Vec::new();
    for document in &documents {
        let resource = match resource(document) {
            Ok(resource) => resource,
            Err(found) => {
                faults.extend(found.into_iter().map(|(place, message)| fault(place, message)));
                continue;
            }
        };
        for problem in validate::written(&resource) {
            let message = if problem.path.is_empty() {
                problem.message.clone()
            } else {
                format!("{}: {}", problem.path, problem.message)
            };
            let list = if problem.is_error() { &mut faults } else { &mut read.warnings };
            list.push(fault(place::find(document, &problem.path), message));
        }
        let (begin, end) = (document.begin, document.begin + document.text.len());
        let span = Span { begin, end, lines_before: document.lines_before };
        read.spans.insert(origin(document.start), span);
        read.objects.push((resource, origin(document.start)));
    }
    faults.sort_by(|a, b| a.origin.cmp(&b.origin));
    read.warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// Reads a document.
///
/// # Errors
/// All that is wrong in it, ordered by place.
fn resource(document: &Document<'_>) -> Result<Resource, Vec<Misplaced>> {
    let kind = kind_of(document).map_err(|fault| vec![fault])?;
    let read = match kind {
        Kind::GrpcRoute => object(document).map(Resource::GrpcRoute),
        Kind::HttpRoute => object(document).map(Resource::HttpRoute),
        Kind::Intention => object(document).map(Resource::Intention),
        Kind::Service => object(document).map(Resource::Service),
        Kind::TcpRoute => object(document).map(Resource::TcpRoute),
        Kind::TrafficPolicy => object(document).map(Resource::TrafficPolicy),
    };
    read.map_err(|first| survey::faults(document, kind, first))
}

/// Finds out what a document says to be.
fn kind_of(document: &Document<'_>) -> Result<Kind, Misplaced> {
    let (api_version, version_at) = document
        .api_version
        .as_ref()
        .ok_or_else(|| (document.start, "the field 'apiVersion' is missing".to_owned()))?;
    let (text, kind_at) =
        document.kind.as_ref().ok_or_else(|| (document.start, "the field 'kind' is missing".to_owned()))?;
    let same_kind = Kind::ALL.iter().copied().find(|kind| kind.as_str() == text);
    let kind = same_kind.filter(|kind| kind.has_version(api_version));
    let Some(kind) = kind else {
        if let Some(sentence) = unsupported::kind(api_version, text) {
            return Err((*kind_at, sentence));
        }
        if let Some(kind) = same_kind {
            let expected = kind.api_version();
            return Err((*version_at, format!("'{api_version}' has no kind {kind}: expected '{expected}'")));
        }
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        return Err((*kind_at, format!("there is no kind '{text}': expected {}", known.join(", "))));
    };
    Ok(kind)
}

/// A manifest of a kind that is known already.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    spec: S,
    /// What `mesh get` prints of how an object fares; whoever writes it back has no say in that.
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
}

fn object<S: DeserializeOwned>(document: &Document<'_>) -> Result<Object<S>, Misplaced> {
    match serde_saphyr::from_str::<Envelope<S>>(document.text) {
        Ok(Envelope { metadata, spec, .. }) => Ok(Object::new(metadata, spec)),
        Err(error) => {
            let error = error.without_snippet();
            let place = error.location().filter(|at| at.line() > 0).map(|at| Place {
                line: at.line() as usize + document.lines_before,
                column: at.column() as usize,
            });
            Err((place.unwrap_or(document.start), explain(error)))
        }
    }
}
