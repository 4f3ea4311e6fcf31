//! A connection between proxies, or of HTTP/2: nobody on the other side makes ours panic, hang, or hold more than it may.
#![no_main]

#[path = "../checks/connection.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
