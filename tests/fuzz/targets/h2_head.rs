//! Blocks of HTTP/2's fields: no bytes make the decoder panic or keep more than it may, and what is accepted is written and
//! read again as the same.
#![no_main]

#[path = "../checks/h2_head.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
