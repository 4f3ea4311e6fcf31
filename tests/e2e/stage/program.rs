//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the release build of `mesh`: `MESH_BIN` where it is set, else the one of this package, brought up to date.
pub(crate) fn mesh() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("MESH_BIN").map(PathBuf::from) {
            assert!(given.is_file(), "MESH_BIN is {}, which is no file", given.display());
            return given.canonicalize().unwrap();
        }
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Does nothing when it is up to date, which only cargo can tell.
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--bin", "mesh"])
            .current_dir(package)
            .status()
            .expect("cargo can be started");
        assert!(built.success(), "the release build failed");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| package.join("target"), PathBuf::from);
        let program = target.join("x86_64-unknown-linux-gnu/release/mesh");
        assert!(program.is_file(), "{} is missing after it was built", program.display());
        program
    })
}

/// Returns a Python with the modules that the scripts need; fails the test when there is none.
pub(crate) fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let given = std::env::var("MESH_TEST_PYTHON").ok();
        let candidates = given.into_iter().chain(["/usr/bin/python3".to_owned(), "python3".to_owned()]);
        let usable = |python: &String| {
            let probe = Command::new(python).args(["-c", "import grpc, websockets"]).output();
            probe.is_ok_and(|output| output.status.success())
        };
        candidates
            .into_iter()
            .find(usable)
            .expect("a python3 with grpcio and websockets (tests/e2e/peers.sh)")
    })
}

/// Returns the path of a script beside the scenarios.
pub(crate) fn script(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    path
}
