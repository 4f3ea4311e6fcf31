//! The program itself: one static file that says what it is.

use std::fs;

use crate::stage::mesh::Mesh;
use crate::stage::place::Place;
use crate::stage::process::{Done, run};
use crate::stage::program;
use crate::stage::wait::seconds;

/// What a proxy that waits may have in memory of its program, KiB, of some 36,000: half of it is enough for what is built
/// here, whose functions have other names in part than those of a release.
const PROGRAM_MAX: u64 = 18 * 1024;

fn mesh(arguments: &[&str]) -> Done {
    run(&Place::here(), seconds(10), program::mesh(), arguments)
}

/// Returns the little-endian number at a place of an ELF file.
fn number(file: &[u8], at: usize, bytes: usize) -> usize {
    file[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

#[test]
fn it_is_one_static_position_independent_file_without_a_loader() {
    const DYN: usize = 3;
    const INTERP: usize = 3;
    const NEEDED: usize = 1;
    const DYNAMIC: usize = 2;
    let file = fs::read(program::mesh()).unwrap();
    let (headers, size, count) = (number(&file, 32, 8), number(&file, 54, 2), number(&file, 56, 2));

    assert_eq!(&file[..5], b"\x7fELF\x02");
    assert_eq!(number(&file, 16, 2), DYN, "not position-independent");
    assert!(count > 2);
    for header in (0..count).map(|index| headers + index * size) {
        let kind = number(&file, header, 4);
        assert_ne!(kind, INTERP, "it asks for a dynamic loader");
        if kind == DYNAMIC {
            let (start, length) = (number(&file, header + 8, 8), number(&file, header + 32, 8));
            assert!((start..start + length).step_by(16).all(|entry| number(&file, entry, 8) != NEEDED));
        }
    }
    let ldd = run(&Place::here(), seconds(10), "ldd", &[program::mesh().to_str().unwrap()]);
    assert!((ldd.out + &ldd.err).contains("statically linked"));
}

#[test]
fn what_a_waiting_proxy_needs_of_it_stands_together() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let proxy = mesh.proxy(&here, "idle").join(&mesh.token(&[])).start();
    std::thread::sleep(seconds(3));

    let mapped = proxy.process.memory_kib("RssFile");

    assert!(mapped < PROGRAM_MAX, "{mapped} KiB of the program are in memory: is it time for .ci/layout?");
}

#[test]
fn it_says_its_version_and_what_it_can_do() {
    let version = mesh(&["version"]).ok();
    let help = mesh(&["--help"]).ok();

    assert!(version.starts_with("mesh ") && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    for command in
        ["control", "proxy", "top", "demo", "token", "apply", "get", "delete", "check", "stat", "edges"]
    {
        assert!(help.contains(command), "{command} is missing in:\n{help}");
    }
}

#[test]
fn wrong_usage_is_status_2_and_an_absent_control_plane_status_3() {
    let home = tempfile::tempdir().unwrap();
    let missing = format!("unix://{}/none.sock", home.path().display());

    assert!(mesh(&["nonsense"]).failed(2).contains("nonsense"));
    assert!(mesh(&["proxy", "--service", "web"]).failed(2).contains("web"));
    assert!(mesh(&["edges", "--control", &missing]).failed(3).contains("none.sock"));
}
