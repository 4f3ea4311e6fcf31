//! The table of what is supported of the Gateway API: each line names a test that there is.

use std::path::PathBuf;

/// The cells of the table's lines that show a test: its name, and the file.
fn shown(readme: &str) -> Vec<(String, String)> {
    let lines = readme.lines().filter(|line| line.starts_with("| ") && line.contains("](tests/"));
    let cells = lines.map(|line| {
        let link = line.rsplit_once('[').unwrap().1;
        let (name, rest) = link.split_once("](").unwrap();
        (name.to_owned(), rest.split_once(')').unwrap().0.to_owned())
    });
    cells.collect()
}

#[test]
fn every_feature_that_is_claimed_has_its_test() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let shown = shown(&readme);
    assert!(shown.len() >= 25, "{} lines", shown.len());

    for (name, file) in shown {
        let text =
            std::fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {name}(")), "there is no test {name} in {file}");
    }
}
