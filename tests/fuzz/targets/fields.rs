//! What proxies read in the fields of a message: no bytes make a reader panic, and what is written anew says the same.
#![no_main]

#[path = "../checks/fields.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
