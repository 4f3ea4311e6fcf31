//! Every field that can be written is shown at work, and what it leaves alone, by a test through two proxies.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mesh::model::resource::Kind;
use serde_json::Value;

/// The fields below a schema that have none below them, by their paths, without the numbers of items.
fn leaves(root: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let mut schema = schema;
    loop {
        let parts = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
        let part = parts.iter().find(|part| part["type"] != "null");
        let reference = schema["$ref"].as_str().map(|name| name.trim_start_matches('#'));
        schema = match (reference, part, schema.get("items")) {
            (Some(name), ..) => root.pointer(name).unwrap(),
            (None, Some(part), _) => part,
            (None, None, Some(items)) => items,
            (None, None, None) => break,
        };
    }
    match schema["properties"].as_object().filter(|fields| !fields.is_empty()) {
        None => _ = found.insert(at.to_owned()),
        Some(fields) => {
            for (name, field) in fields {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                leaves(root, field, &at, found);
            }
        }
    }
}

/// The names of all tests in and below a directory.
fn tests_in(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let tests = text.split("test]\n").skip(1).chain(text.split("worker_threads = 2)]\n").skip(1));
            let names = tests.filter_map(|test| test.split_once("fn ")?.1.split_once('('));
            found.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn every_field_of_every_kind_is_shown_at_work_through_two_proxies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut through_proxies = BTreeSet::new();
    tests_in(&root.join("data_path"), &mut through_proxies);
    tests_in(&root.join("e2e"), &mut through_proxies);
    let mut missing = BTreeSet::new();
    for kind in Kind::ALL {
        let schema = kind.schema().to_value();
        let mut fields = BTreeSet::new();
        leaves(&schema, &schema["properties"]["spec"], "", &mut fields);
        missing.extend(fields.into_iter().map(|field| (kind.as_str().to_owned(), field)));
    }
    let all = missing.clone();
    assert!(all.len() > 250, "{}", all.len());

    let table = fs::read_to_string(root.join("data/fields.txt")).unwrap();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [kind, field, shown, not_done] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not four words: {line}");
        };
        let prefix = field.strip_suffix('*').unwrap_or("\0");
        let is_meant = |at: &(String, String)| at.0 == kind && (at.1 == field || at.1.starts_with(prefix));
        assert!(all.iter().any(is_meant), "there is no such field: {line}");
        missing.retain(|at| !is_meant(at));
        for test in [shown, not_done] {
            assert!(through_proxies.contains(test), "there is no test {test}: {line}");
        }
    }

    assert!(missing.is_empty(), "no test is named for {missing:#?}");
}
