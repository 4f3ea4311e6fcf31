//! Records of TLS: no bytes make the opener panic, what is sealed opens as the same, and nothing else opens.
#![no_main]

#[path = "../checks/tls_record.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
