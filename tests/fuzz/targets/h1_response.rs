//! Responses: no bytes make the parser panic, cutting them changes nothing, and what is accepted is written without doubt.
#![no_main]

#[path = "../checks/h1_response.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
