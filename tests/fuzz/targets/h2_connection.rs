//! A connection of HTTP/2: no caller and no service makes our side panic, hang, or hold more than it may.
#![no_main]

#[path = "../checks/h2_connection.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
