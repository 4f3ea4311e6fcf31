//! Arguments → texts: files, the manifests in and below directories, standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes of one file.
pub const FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// Most files of one argument.
pub const FILES_MAX: usize = 10_000;
/// Directories below the one that was named.
const DEPTH_MAX: usize = 32;
const STANDARD_INPUT: &str = "standard input";
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Why a text could not be read.
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
}

/// Returns a path as it is spoken of.
pub(crate) fn shown(path: &Path) -> String {
    if path == Path::new("-") { STANDARD_INPUT.to_owned() } else { path.display().to_string() }
}

/// Reads what an argument names: `(name, text)` of each file, sorted.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn texts(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let failed = |source| Error::Read { file: shown(path), source };
    if path == Path::new("-") {
        return Ok(vec![(shown(path), bounded(std::io::stdin().lock(), path)?)]);
    }
    if !path.is_dir() {
        return Ok(vec![(shown(path), bounded(File::open(path).map_err(failed)?, path)?)]);
    }
    let mut files = Vec::new();
    collect(path, path, DEPTH_MAX, &mut files)?;
    files.sort();
    let open = |file: &PathBuf| {
        let opened = File::open(file).map_err(|source| Error::Read { file: shown(file), source })?;
        Ok((shown(file), bounded(opened, file)?))
    };
    files.iter().map(open).collect()
}

/// Finds the manifests below a directory. Hidden directories, such as `.git`, and links to directories are passed over.
fn collect(root: &Path, dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Read { file: shown(dir), source };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type().map_err(failed)?.is_dir() {
            if !hidden && depth > 0 {
                collect(root, &file, depth - 1, files)?;
            }
            continue;
        }
        let named = file.extension().and_then(|extension| extension.to_str());
        if named.is_some_and(|extension| EXTENSIONS.contains(&extension)) && file.is_file() {
            files.push(file);
        }
        if files.len() > FILES_MAX {
            return Err(Error::TooMany(shown(root)));
        }
    }
    Ok(())
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
