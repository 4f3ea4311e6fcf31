//! Bodies in chunks: no bytes make the decoder panic, and cutting them changes nothing.
#![no_main]

#[path = "../checks/h1_chunked.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
