//! Heads on a link: no bytes make the reader panic, and what is read is written and read again as the same.
#![no_main]

#[path = "../checks/link_head.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
