//! Counting frames of HTTP/2 that carry nothing.

use mesh::logic::http::flood::{FREE_PER_SECOND, Meter};
use proptest::collection::vec;
use proptest::prelude::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
    bytes.extend(vec![kind; length.into()]);
    bytes
}

/// Whether a frame counts: all but heads, data, and the end of a body.
fn counts((kind, flags, length): (u8, u8, u8)) -> bool {
    match kind {
        0 => length == 0 && flags & 1 == 0,
        1 => false,
        _ => true,
    }
}

fn fed(bytes: &[u8], cut: usize) -> bool {
    let mut meter = Meter::default();
    bytes.chunks(cut).fold(false, |_, part| meter.received(part))
}

proptest! {
    #[test]
    fn it_makes_no_difference_how_the_bytes_are_cut_up(
        frames in vec((0u8..12, 0u8..2, 0u8..40), 0..200),
        times in 1usize..60,
        cut in 1usize..100,
    ) {
        let once: Vec<u8> = frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
        let bytes = [PREFACE, &once.repeat(times)].concat();
        let counted = times * frames.iter().filter(|frame| counts(**frame)).count();
        prop_assert_eq!(fed(&bytes, cut), counted as u64 >= FREE_PER_SECOND);
    }

    #[test]
    fn who_is_sent_much_may_say_more(sent in 0usize..1_000_000) {
        let mut meter = Meter::default();
        meter.sent(sent);
        let pings = [PREFACE, &frame(6, 0, 8).repeat(FREE_PER_SECOND as usize)].concat();
        prop_assert_eq!(meter.received(&pings), sent < 32);
    }
}

#[test]
fn a_new_second_brings_new_frames_but_no_more_than_before() {
    let mut meter = Meter::default();
    let pings = frame(6, 0, 8).repeat(FREE_PER_SECOND as usize - 1);
    assert!(!meter.received(PREFACE));
    for _ in 0..3 {
        assert!(!meter.received(&pings));
        meter.renew();
        meter.renew();
    }
    assert!(meter.received(&frame(6, 0, 8).repeat(FREE_PER_SECOND as usize)));
}

#[test]
fn pings_do_not_earn_what_they_cost() {
    let mut meter = Meter::default();
    assert!(!meter.received(PREFACE));
    let ping = frame(6, 0, 8);
    let until = (0..3 * FREE_PER_SECOND).find(|_| {
        meter.sent(ping.len());
        meter.received(&ping)
    });
    assert!(until.is_some());
}
