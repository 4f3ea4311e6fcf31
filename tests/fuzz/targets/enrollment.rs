//! What somebody shows to be let in: no certificate, signing request or join token makes its reader panic.
#![no_main]

#[path = "../checks/enrollment.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
