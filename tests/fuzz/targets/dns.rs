//! Questions of names: no packet makes the server panic, and whatever is said of it fits, and is none that is answered again.
#![no_main]

#[path = "../checks/dns.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
