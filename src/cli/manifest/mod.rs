//! Files → resources, with file, line and column in everything that is said about them.
//!
//! Each document is looked at twice: once for its kind and its places ([`place`]), once for its fields, straight into the
//! type of that kind, because a type that is told apart while being read (serde's internally tagged enums) forgets where it
//! was. What `logic::validate` finds is then put back to its line by the path of the field.

pub mod fault;
pub mod place;
pub mod unsupported;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::cli::manifest::fault::{Fault, Origin};
use crate::cli::manifest::place::{Document, Place};
use crate::logic::validate;
use crate::model::resource::{Kind, Metadata, Object, Resource};

/// Most bytes of one file.
pub const FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// Most files of all arguments together.
pub const FILES_MAX: usize = 10_000;
const FAULTS_MAX: usize = 50;
const STANDARD_INPUT: &str = "standard input";
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Why manifests could not be read. Nothing was sent anywhere.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// As it was named.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is larger than any manifest.
    #[error("{file} is larger than {} MiB: this is no manifest", FILE_BYTES_MAX >> 20)]
    TooLarge {
        /// As it was named.
        file: String,
    },
    /// A file is not text.
    #[error("{file} is not UTF-8 text: byte {at} is wrong")]
    NotText {
        /// As it was named.
        file: String,
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// More files than anybody writes.
    #[error("{0} has too many files: {FILES_MAX} at most")]
    TooMany(String),
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
}

/// Reads files, the `*.yaml`, `*.yml` and `*.json` of directories, and standard input (`-`), in the order given.
///
/// # Errors
/// When anything cannot be read or any object is not valid: all faults of all files, not only the first.
pub fn read(paths: &[PathBuf]) -> Result<Manifests, Error> {
    let mut all = Manifests::default();
    let mut faults = Vec::new();
    for path in paths {
        let before = all.objects.len() + faults.len();
        for (name, text) in texts(path)? {
            match parse(&text, &name) {
                Ok(mut read) => {
                    all.objects.append(&mut read.objects);
                    all.warnings.append(&mut read.warnings);
                }
                Err(mut found) => faults.append(&mut found),
            }
        }
        if all.objects.len() + faults.len() == before {
            return Err(Error::Empty(shown(path)));
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
            Err((place, message)) => {
                faults.push(fault(place, message));
                continue;
            }
        };
        for problem in validate::object(&resource) {
            let message = if problem.path.is_empty() {
                problem.message.clone()
            } else {
                format!("{}: {}", problem.path, problem.message)
            };
            let list = if problem.is_error() { &mut faults } else { &mut read.warnings };
            list.push(fault(place::find(document, &problem.path), message));
        }
        read.objects.push((resource, origin(document.start)));
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

type Misplaced = (Place, String);

fn resource(document: &Document<'_>) -> Result<Resource, Misplaced> {
    let (api_version, version_at) = document
        .api_version
        .as_ref()
        .ok_or_else(|| (document.start, "the field 'apiVersion' is missing".to_owned()))?;
    let (text, kind_at) =
        document.kind.as_ref().ok_or_else(|| (document.start, "the field 'kind' is missing".to_owned()))?;
    let same_kind = Kind::ALL.iter().copied().find(|kind| kind.as_str() == text);
    let kind = same_kind.filter(|kind| kind.api_version() == api_version);
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
    match kind {
        Kind::HttpRoute => object(document).map(Resource::HttpRoute),
        Kind::Intention => object(document).map(Resource::Intention),
        Kind::Service => object(document).map(Resource::Service),
        Kind::TrafficPolicy => object(document).map(Resource::TrafficPolicy),
    }
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
}

fn object<S: DeserializeOwned>(document: &Document<'_>) -> Result<Object<S>, Misplaced> {
    match serde_saphyr::from_str::<Envelope<S>>(document.text) {
        Ok(Envelope { metadata, spec, .. }) => Ok(Object { metadata, spec }),
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

/// Says what is wrong in the words of this program.
#[expect(clippy::wildcard_enum_match_arm, reason = "the parser's list of errors is open")]
fn explain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    let expected = |choices: &[&str]| match choices {
        [] => "none is expected here".to_owned(),
        choices => format!("expected {}", choices.join(", ")),
    };
    match error {
        E::SerdeUnknownField { field, expected: known, .. } => match unsupported::field(field) {
            Some(sentence) => format!("unknown field '{field}': {sentence}"),
            None => format!("unknown field '{field}': {}", expected(known)),
        },
        E::SerdeUnknownVariant { variant, expected: known, .. } => match unsupported::choice(variant) {
            Some(sentence) => format!("'{variant}': {sentence}"),
            None => format!("'{variant}' is not one of the choices: {}", expected(known)),
        },
        E::SerdeMissingField { field, .. } => format!("the field '{field}' is missing"),
        E::SerdeInvalidType { unexpected, expected, .. }
        | E::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("this is {unexpected}: expected {expected}")
        }
        E::DuplicateMappingKey { key: Some(key), .. } => format!("the field '{key}' is there twice"),
        E::Unexpected { expected, .. } => format!("expected {expected}"),
        E::InvalidScalar { ty, .. } => format!("this is not a valid {ty}"),
        E::NullIntoString { .. } => "this value is empty: expected text".to_owned(),
        E::UnknownAnchor { .. } => "this alias (*) has no anchor (&)".to_owned(),
        E::Message { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { STANDARD_INPUT.to_owned() } else { path.display().to_string() }
}

/// Reads what an argument names: `(name, text)` of each file.
fn texts(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let failed = |source| Error::Read { file: shown(path), source };
    if path == Path::new("-") {
        return Ok(vec![(shown(path), bounded(std::io::stdin().lock(), path)?)]);
    }
    if !path.is_dir() {
        return Ok(vec![(shown(path), bounded(File::open(path).map_err(failed)?, path)?)]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let named = file.extension().and_then(|extension| extension.to_str());
        if named.is_some_and(|extension| EXTENSIONS.contains(&extension)) && file.is_file() {
            files.push(file);
        }
        if files.len() > FILES_MAX {
            return Err(Error::TooMany(shown(path)));
        }
    }
    files.sort();
    let open = |file: &PathBuf| {
        let opened = File::open(file).map_err(|source| Error::Read { file: shown(file), source })?;
        Ok((shown(file), bounded(opened, file)?))
    };
    files.iter().map(open).collect()
}

fn bounded(source: impl Read, path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let read = source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Read { file: shown(path), source })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::TooLarge { file: shown(path) });
    }
    String::from_utf8(bytes)
        .map_err(|error| Error::NotText { file: shown(path), at: error.utf8_error().valid_up_to() })
}
