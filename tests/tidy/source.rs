//! Reads Rust source as far as the guard needs: which modules are declared, which paths are mentioned.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Source files by their path below `src/`.
pub(crate) struct House {
    pub(crate) files: BTreeMap<String, String>,
}

impl House {
    /// Reads every file below `src/` of this package.
    pub(crate) fn of_this_package() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        walk(&root, &mut |path| {
            if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(path).unwrap());
            }
        });
        assert!(files.len() > 20, "only {} files below {}", files.len(), root.display());
        Self { files }
    }

    /// Makes a house of samples.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// Returns the modules that a module declares in files of their own, in order.
    pub(crate) fn children(&self, module: &[String]) -> Vec<String> {
        let folder = module.join("/");
        let name = if folder.is_empty() { "lib.rs".to_owned() } else { format!("{folder}/mod.rs") };
        let Some(text) = self.files.get(&name) else { return Vec::new() };
        let text = code(text);
        let declared = text.lines().filter_map(|line| {
            let rest = line.trim().strip_suffix(';')?;
            let (before, name) = rest.rsplit_once("mod ")?;
            let visibility = before.trim();
            (visibility.is_empty() || visibility.starts_with("pub")).then(|| name.trim().to_owned())
        });
        declared.collect()
    }
}

/// What fuzzing leaves in `tests/fuzz`, and git ignores.
const LEFT_BY_FUZZING: [&str; 4] = ["target", "corpus", "artifacts", "Cargo.lock"];

/// Calls `visit` for every file below a folder.
pub(crate) fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if LEFT_BY_FUZZING.iter().any(|left| path.ends_with(Path::new("fuzz").join(left))) {
            continue;
        }
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}

/// Returns the module that a file is: `model/name.rs` and `model/name/mod.rs` are both `[model, name]`.
pub(crate) fn module(file: &str) -> Vec<String> {
    let path = file.strip_suffix(".rs").unwrap();
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Returns the text with comments and the insides of literals blanked, line by line as before.
pub(crate) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest));
        // A raw string's prefix must not be the end of a name: `for"` is none, but `r"` is.
        let in_name = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match skipped {
            Some(length) if !(in_name && first.is_alphabetic()) => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let (change, step) = match rest {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth += change;
        at += step;
        if depth == 0 {
            return Some(at);
        }
    }
    Some(text.len())
}

fn literal(text: &str) -> Option<usize> {
    let plain = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let prefix = text.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &raw[hashes + 1..];
            let length = body.find(&end).map_or(body.len(), |at| at + end.len());
            return Some(prefix + 1 + hashes + 1 + length);
        }
    }
    let quote = plain.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' {
        // A lifetime has no closing quote after its one character.
        let mut inside = plain[1..].chars();
        if inside.next()? != '\\' && inside.next()? != '\'' {
            return None;
        }
    }
    let mut escaped = false;
    for (at, c) in plain.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(prefix + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// Returns code without the items that exist under test only.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at + MARK.len()..];
        rest = &item[item_length(item)..];
    }
    out + rest
}

fn item_length(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Returns every path that begins with `crate::`, as its segments after `crate`.
pub(crate) fn references(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, matched) in code.match_indices("crate::") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':')) {
            tree(&code[at + matched.len()..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads a path or a braced list of paths; returns what follows it.
fn tree<'a>(text: &'a str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            if rest.is_empty() {
                return rest;
            }
            let depth = path.len();
            let after = tree(rest, path, found);
            path.truncate(depth);
            // Whatever stands between two paths (a comma, an `as` name) is skipped.
            let next = after.find([',', '}']).unwrap_or(after.len());
            rest = after[next..].strip_prefix(',').unwrap_or(&after[next..]);
        }
    }
    let length = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    if !name.is_empty() && name != "self" {
        path.push(name.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(more) if more.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{') => {
            tree(more, path, found)
        }
        _ => {
            found.push(path.clone());
            rest
        }
    }
}

/// Returns the first segments of all paths: `std` of `std::fs::read`, `tokio` of `use tokio::net;`.
pub(crate) fn roots(code: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("::") {
        let name = last_name(&code[..at]);
        let before = &code[..at - name.len()];
        if !name.is_empty() && !before.ends_with("::") {
            found.insert(name);
        }
    }
    let plain = code.lines().filter_map(|line| line.trim().strip_prefix("use ")?.strip_suffix(';'));
    found.extend(plain.map(|path| path.split([' ', ':']).next().unwrap_or(path)));
    found
}

fn last_name(code: &str) -> &str {
    let start = code
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(0, |at| at + code[at..].chars().next().map_or(1, char::len_utf8));
    &code[start..]
}
