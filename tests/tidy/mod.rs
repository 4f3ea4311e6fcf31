//! The guard of the house: order, planes, purity, owners, sizes, names, imports and places.
//!
//! Each rule is a function from source texts to complaints; it is run on this package, and on bad samples to show that
//! it can fail.

mod source;

use std::fs;
use std::path::Path;

use source::{House, code, module, references, roots, walk, without_tests};

/// What the pure layers may use of the world outside.
const PURE: [&str; 2] = ["model", "logic"];
const PURE_CRATES: [&str; 11] = [
    "serde",
    "schemars",
    "thiserror",
    "http",
    "httparse",
    "bytes",
    "regex",
    "ipnet",
    "tracing",
    "data_encoding",
    "jiff",
];
/// What a part of the pure layers may use besides: a protocol in its own words, and draws from a seed that it is given.
const GUESTS: [(&str, &str); 3] =
    [("foca", "logic/gossip/"), ("postcard", "logic/gossip/"), ("rand", "logic/gossip/")];
const IMPURE: [&str; 14] = [
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime::now",
    "async fn",
    "async move",
    ".await",
    "thread_rng",
    "rand::rng(",
];

const PLANES: [&str; 3] = ["proxy", "control", "top"];

/// Who may use a big dependency: paths below `src/` that a user's path must begin with.
const OWNERS: [(&[&str], &[&str]); 9] = [
    (&["sled"], &["net/disk.rs"]),
    (&["hickory_resolver", "hickory_proto"], &["net/resolve.rs", "net/dns/"]),
    (
        &["rustls", "tokio_rustls", "rustls_pki_types", "webpki", "rcgen", "x509_parser"],
        &["identity/", "control/root", "control/authority", "gossip/pass"],
    ),
    (
        &["hyper", "hyper_util"],
        &["net/", "proxy/http", "proxy/upstream", "api/", "control/http", "proxy/prober", "cli/demo"],
    ),
    (&["axum", "tower"], &["control/http", "proxy/admin", "cli/demo"]),
    (&["ratatui", "crossterm"], &["top/"]),
    (&["clap", "clap_complete", "anyhow"], &["cli/"]),
    (&["foca"], &["logic/gossip"]),
    (&["mimalloc"], &["main.rs"]),
];

const FILE_LINES_MAX: usize = 600;
const MAP_LINES_MAX: usize = 300;
const NAMELESS: [&str; 10] =
    ["util", "utils", "helper", "helpers", "common", "misc", "types", "manager", "base", "core"];

// --- the rules ------------------------------------------------------------------------------------------------------

fn order(house: &House) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, text) in sources(house) {
        let ours = module(file);
        for theirs in references(&without_tests(&code(text))) {
            complaints.extend(upward(house, &ours, &theirs).map(|why| {
                format!(
                    "{file} uses crate::{}: {why}. Move the code down, move the type to model, or pass the thing as an \
                     argument",
                    theirs.join("::")
                )
            }));
        }
    }
    complaints
}

/// Why one module may not use a path, if so.
fn upward(house: &House, ours: &[String], theirs: &[String]) -> Option<String> {
    for (level, our) in ours.iter().enumerate() {
        let parent = &ours[..level];
        let children = house.children(parent);
        let rank = |name: &String| children.iter().position(|child| child == name);
        let their = theirs.get(level);
        if their == Some(our) {
            continue;
        }
        let map =
            if parent.is_empty() { "lib.rs".to_owned() } else { format!("{}/mod.rs", parent.join("/")) };
        let Some(their_rank) = their.and_then(rank) else {
            return Some(format!("{map} is above it and not to be used from inside"));
        };
        let Some(our_rank) = rank(our) else {
            return Some(format!("{our} is not declared in {map}"));
        };
        return (their_rank > our_rank).then(|| {
            format!("{map} declares {} as number {their_rank}, after {our} as {our_rank}", theirs[level])
        });
    }
    None
}

fn planes(house: &House) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, text) in sources(house) {
        let ours = module(file);
        let Some(plane) = ours.first().filter(|name| PLANES.contains(&name.as_str())) else { continue };
        for theirs in references(&code(text)) {
            if theirs.first().is_some_and(|other| PLANES.contains(&other.as_str()) && other != plane) {
                complaints.push(format!(
                    "{file} uses crate::{}: planes meet through api and gossip",
                    theirs.join("::")
                ));
            }
        }
    }
    complaints
}

fn purity(house: &House, dependencies: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, text) in sources(house) {
        if !module(file).first().is_some_and(|layer| PURE.contains(&layer.as_str())) {
            continue;
        }
        let text = without_tests(&code(text));
        for root in roots(&text) {
            let guest = GUESTS.iter().any(|(name, place)| *name == root && file.starts_with(place));
            if dependencies.iter().any(|name| name == root) && !PURE_CRATES.contains(&root) && !guest {
                complaints.push(format!("{file} uses {root}: model and logic are pure"));
            }
        }
        for word in IMPURE.iter().filter(|word| text.contains(**word)) {
            complaints.push(format!("{file} says '{word}': model and logic do no IO and have no clock"));
        }
    }
    complaints
}

fn owners(house: &House) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, text) in &house.files {
        let text = without_tests(&code(text));
        let roots = roots(&text);
        for (names, places) in OWNERS {
            let used = names.iter().find(|name| roots.contains(*name));
            if let Some(used) = used.filter(|_| !places.iter().any(|place| file.starts_with(place))) {
                complaints.push(format!("{file} uses {used}, which belongs to {}", places.join(", ")));
            }
        }
    }
    complaints
}

fn sizes(house: &House) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, text) in &house.files {
        let lines = text.lines().count();
        let most = if file.ends_with("mod.rs") { MAP_LINES_MAX } else { FILE_LINES_MAX };
        if lines > most {
            complaints.push(format!("{file} has {lines} lines, {most} at most: look for the seam"));
        }
        if !text.starts_with("//!") {
            complaints.push(format!("{file} does not begin by saying what it knows (//!)"));
        }
    }
    complaints
}

fn names(house: &House) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in house.files.keys() {
        complaints.extend(
            module(file)
                .iter()
                .filter(|part| NAMELESS.contains(&part.as_str()))
                .map(|part| format!("{file}: '{part}' does not say what is inside")),
        );
    }
    complaints
}

fn imports(house: &House) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, text) in &house.files {
        for (number, line) in code(text).lines().enumerate() {
            if line.contains("super::") || line.trim_start().contains("use self::") {
                complaints.push(format!("{file}:{}: import by crate:: paths only", number + 1));
            }
        }
    }
    complaints
}

/// Files that are in the repository for good: they must make sense on any machine.
fn places(name: &str, text: &str) -> Vec<String> {
    let forbidden = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("deb.debian", ".org"),
        concat!("registry.npmjs", ".org"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/home", "/"),
    ];
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in forbidden.iter().filter(|word| line.contains(**word)) {
            complaints.push(format!("{name}:{}: names {word}", number + 1));
        }
    }
    complaints
}

/// Everything but the program's entry, which is outside the library.
fn sources(house: &House) -> impl Iterator<Item = (&String, &String)> {
    house.files.iter().filter(|(file, _)| *file != "main.rs")
}

/// Returns the names under which this package's dependencies are used.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| Some(line.split_once(" =")?.0.replace('-', "_")));
    names.filter(|name| !name.starts_with('#')).collect()
}

// --- this package ---------------------------------------------------------------------------------------------------

fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn modules_use_only_what_is_declared_above_them() {
    assert_tidy(&order(&House::of_this_package()));
}

#[test]
fn planes_do_not_know_each_other() {
    assert_tidy(&planes(&House::of_this_package()));
}

#[test]
fn model_and_logic_are_pure() {
    let dependencies = dependencies(&read("Cargo.toml"));

    assert!(dependencies.iter().any(|name| name == "tokio"), "{dependencies:?}");
    assert_tidy(&purity(&House::of_this_package(), &dependencies));
}

#[test]
fn big_dependencies_have_one_owner() {
    assert_tidy(&owners(&House::of_this_package()));
}

#[test]
fn files_are_of_readable_size_and_say_what_they_know() {
    assert_tidy(&sizes(&House::of_this_package()));
}

#[test]
fn files_are_named_for_what_is_inside() {
    assert_tidy(&names(&House::of_this_package()));
}

#[test]
fn imports_have_one_spelling() {
    assert_tidy(&imports(&House::of_this_package()));
}

#[test]
fn nothing_names_a_registry_or_a_place_of_one_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = Vec::new();
    let mut seen = 0;
    let mut look = |path: &Path| {
        if let Ok(text) = fs::read_to_string(path) {
            seen += 1;
            complaints.extend(places(path.strip_prefix(root).unwrap().to_str().unwrap(), &text));
        }
    };
    for folder in ["src", "tests", "assets", ".ci", ".cargo"].map(|name| root.join(name)) {
        if folder.is_dir() {
            walk(&folder, &mut look);
        }
    }
    for file in ["README.md", "install.sh", "Cargo.toml", ".clippy.toml", ".rustfmt.toml", ".deny.toml"] {
        look(&root.join(file));
    }

    assert!(seen > 40, "only {seen} files read");
    assert_tidy(&complaints);
}

#[test]
fn every_test_file_says_what_it_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut complaints = Vec::new();
    walk(&root, &mut |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        if path.extension().is_some_and(|end| end == "rs") && !text.starts_with("//!") {
            complaints.push(path.display().to_string());
        }
    });

    assert_tidy(&complaints);
}

// --- the guard can fail ---------------------------------------------------------------------------------------------

const LIB: (&str, &str) = ("lib.rs", "//! Map.\npub mod model;\npub mod proxy;\npub mod control;\n");

fn one(complaints: &[String], part: &str) {
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains(part), "{complaints:?}");
}

#[test]
fn a_use_of_something_above_is_found_wherever_it_is_written() {
    for text in [
        "use crate::proxy::Thing;",
        "use crate::{model::name::Name, proxy::Thing};",
        "use crate::{\n    // first\n    proxy::{self as p},\n};",
        "fn f() -> crate::proxy::Thing { todo!() }",
        "#[cfg(test)]\nmod tests {}\nuse crate::proxy::Thing;",
    ] {
        let house = House::of(&[
            LIB,
            ("model/mod.rs", "//! Map.\npub mod name;\n"),
            ("model/name.rs", text),
            ("proxy/mod.rs", "//! Map."),
        ]);

        one(&order(&house), "crate::proxy");
    }
}

#[test]
fn order_holds_inside_folders_and_towards_the_own_map() {
    let house = |text| {
        House::of(&[
            LIB,
            ("model/mod.rs", "//! Map.\npub mod name;\npub mod route;\nuse crate::model::route::Route;"),
            ("model/name.rs", text),
            ("model/route.rs", "use crate::model::name::Name;"),
        ])
    };

    one(&order(&house("use crate::model::route::Route;")), "after name");
    one(&order(&house("use crate::model::Thing;")), "model/mod.rs is above it");
    one(&order(&house("use crate::model;")), "model/mod.rs is above it");
    assert_tidy(&order(&house("use crate::model::name::Own;\nuse std::fmt;")));
}

#[test]
fn comments_texts_and_tests_are_not_uses() {
    let text = "// crate::proxy::A\n/* crate::proxy /* crate::proxy */ */\nconst A: &str = \"crate::proxy::A\";\n\
                const B: &str = r#\"crate::proxy::\"B\"#;\nconst C: char = '\"';\nfn f<'a>(x: &'a str) {}\n\
                #[cfg(test)]\nmod tests { use crate::proxy::C; fn f() { if true {} } }\n";
    let house = House::of(&[LIB, ("model/mod.rs", text)]);

    assert_tidy(&order(&house));
}

#[test]
fn a_plane_that_uses_another_is_found() {
    let house = House::of(&[LIB, ("control/mod.rs", "//! x\nuse crate::proxy::Thing;")]);

    one(&planes(&house), "control/mod.rs uses crate::proxy::Thing");
}

#[test]
fn impure_logic_is_found() {
    let dependencies = ["tokio".to_owned(), "serde".to_owned(), "foca".to_owned()];
    let check = |file, text| purity(&House::of(&[(file, text)]), &dependencies);

    one(&check("model/a.rs", "use tokio::net::TcpStream;"), "tokio");
    one(&check("logic/a.rs", "use foca::Foca;"), "foca");
    one(&check("logic/a.rs", "fn f() { std::fs::read(p); }"), "std::fs");
    one(&check("logic/a.rs", "fn f() { let t = Instant::now(); }"), "Instant::now");
    one(&check("logic/a.rs", "async fn f() {}"), "async fn");
    assert_tidy(&check("logic/gossip/a.rs", "use foca::Foca;\nuse serde::Serialize;"));
    assert_tidy(&check("net/a.rs", "use tokio::net::TcpStream;"));
}

#[test]
fn a_dependency_outside_its_owner_is_found() {
    let check = |file, text| owners(&House::of(&[(file, text)]));

    one(&check("control/store.rs", "use sled::Db;"), "sled");
    one(&check("cli/top.rs", "fn f(e: crossterm::event::Event) {}"), "crossterm");
    one(&check("net/tls.rs", "use rustls;"), "rustls");
    assert_tidy(&check("net/disk.rs", "use sled::Db;"));
    assert_tidy(&check("control/a.rs", "// sled::Db\nuse crate::net::disk::sled_like::X;"));
}

#[test]
fn long_silent_and_nameless_files_are_found() {
    let long = "//! x\n".repeat(FILE_LINES_MAX + 1);
    let map = "//! x\n".repeat(MAP_LINES_MAX + 1);

    one(&sizes(&House::of(&[("a/b.rs", &long)])), "601 lines");
    one(&sizes(&House::of(&[("a/mod.rs", &map)])), "301 lines");
    one(&sizes(&House::of(&[("a/b.rs", "use std::fmt;")])), "does not begin");
    one(&names(&House::of(&[("net/utils.rs", "")])), "utils");
    one(&names(&House::of(&[("net/common/mod.rs", "")])), "common");
    one(&imports(&House::of(&[("a.rs", "use super::b;")])), "a.rs:1");
    assert_tidy(&imports(&House::of(&[("a.rs", "pub(super) fn f() {}")])));
    one(&places("README.md", concat!("see /wo", "rk/x")), "README.md:1");
}
