//! The examples are valid, and there is one for every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mesh::cli::manifest;
use mesh::logic::validate;
use mesh::model::resource::{Kind, Resource};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/examples")
}

#[test]
fn every_kind_has_an_example_file_of_its_name() {
    let read = manifest::read(&[directory()]).unwrap_or_else(|error| panic!("{error}"));
    let mut files: BTreeMap<String, BTreeSet<Kind>> = BTreeMap::new();
    for (object, origin) in &read.objects {
        let stem = PathBuf::from(&origin.file).file_stem().unwrap().to_string_lossy().into_owned();
        files.entry(stem).or_default().insert(object.kind());
    }

    for kind in Kind::ALL {
        let stem = kind.as_str().to_ascii_lowercase();
        assert!(files.get(&stem).is_some_and(|kinds| kinds.contains(kind)), "no {stem}.yaml with a {kind}");
    }
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
}

#[test]
fn examples_do_not_contradict_each_other() {
    let read = manifest::read(&[directory()]).unwrap_or_else(|error| panic!("{error}"));
    let objects: Vec<Resource> = read.objects.into_iter().map(|(object, _)| object).collect();
    let names = [
        "web",
        "web-v1",
        "web-v2",
        "api",
        "reports",
        "db",
        "orders",
        "orders-v1",
        "orders-v2",
        "audit",
        "shop-next",
        "db-next",
        "db-api",
        "db-replica",
    ];
    let known = names.iter().map(|name| name.parse().unwrap()).collect();

    // Routes and intentions are examples of two things, and not of one mesh: the first lead around the second.
    let mut problems = validate::set(&objects, &known);
    problems.retain(|problem| !problem.message.contains("gets in here"));
    assert_eq!(problems, []);
}

#[test]
fn examples_survive_the_trip_through_the_api() {
    let read = manifest::read(&[directory()]).unwrap_or_else(|error| panic!("{error}"));
    assert!(read.objects.len() >= Kind::ALL.len());

    for (object, _) in read.objects {
        let text = serde_json::to_string(&object).unwrap();
        assert_eq!(serde_json::from_str::<Resource>(&text).unwrap(), object);
    }
}
