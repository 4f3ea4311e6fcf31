//! What members say, which may be faulty: it makes no node panic, nor say what does not fit into a packet or is no packet; and
//! nobody who has no key says anything.
#![no_main]

#[path = "../checks/gossip.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
