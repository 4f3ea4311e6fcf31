//! Has the linker put first, and close together, what runs in a proxy that serves: see the head of `functions.ld`.
#![expect(clippy::print_stdout, reason = "so a build script speaks with cargo")]

use std::env;

/// Where the order of the functions stands, from the root of the package.
const ORDER: &str = "assets/layout/functions.ld";

fn main() {
    println!("cargo::rerun-if-changed={ORDER}");
    // It takes the linker some seconds, which a program for tests is not worth.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Ok(root) = env::var("CARGO_MANIFEST_DIR")
    {
        println!("cargo::rustc-link-arg-bin=mesh=-T{root}/{ORDER}");
    }
}
