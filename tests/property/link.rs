//! The words of the link between proxies: frames, heads, windows, and the pulse.

use std::time::{Duration, Instant};

use http::Method;
use mesh::logic::http::fields::{Fields, is_value};
use mesh::logic::http::head::{RequestHead, ResponseHead, Version};
use mesh::logic::link::frame::{Code, HEADER_BYTES, Header, Violation};
use mesh::logic::link::head::{
    self, FIELDS_MAX, read_fields, read_request, read_response, write_fields, write_request, write_response,
};
use mesh::logic::link::pulse::{Beat, PING_EVERY, PING_PATIENCE, Pulse};
use mesh::logic::link::window::{Habit, Receiving, Sending, WINDOW_INITIAL, WINDOW_MAX};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn fields() -> impl Strategy<Value = Fields> {
    vec(("[!#-'*+.0-9A-Z^-z|~-]{1,20}", "([!-~\u{80}-\u{ff}]([ \t!-~]{0,40}[!-~])?)?"), 0..20).prop_map(
        |list| {
            let mut fields = Fields::new();
            for (name, value) in list {
                fields.append(name.as_bytes(), value.as_bytes());
            }
            fields
        },
    )
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::Http10), Just(Version::Http11), Just(Version::Http2)]
}

fn request() -> impl Strategy<Value = RequestHead> {
    let path = prop_oneof![Just(String::new()), Just("*".to_owned()), "/[!-~\u{e0}-\u{ff}]{0,60}"];
    let authority = option::of("[a-z0-9.-]{1,30}(:[0-9]{1,5})?");
    ("[A-Z]{1,20}", path, authority, version(), option::of("[a-z0-9/ ,]{1,20}"), fields()).prop_map(
        |(method, path, authority, version, protocol, fields)| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            RequestHead { method, path, authority, version, protocol, fields }
        },
    )
}

fn response() -> impl Strategy<Value = ResponseHead> {
    (100_u16..=999, option::of("[ -~]{0,30}"), version(), fields()).prop_map(
        |(status, reason, version, fields)| {
            let reason = reason.map(|reason| reason.into_bytes().into());
            ResponseHead { status, reason, version, fields }
        },
    )
}

/// Writes with what `write` is and returns the bytes.
fn written<T>(what: &T, write: fn(&T, &mut Vec<u8>) -> Result<(), head::Error>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(what, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn a_header_that_is_taken_is_written_as_it_was(bytes: [u8; HEADER_BYTES]) {
        if let Ok(header) = Header::decode(bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn every_code_has_one_number(number: u8) {
        let code = Code::from_number(number);
        let known = number >= 64 || (1..=8).contains(&number);
        prop_assert_eq!(code.number() == number, known);
        prop_assert!(known || code == Code::Internal);
    }

    #[test]
    fn a_request_is_read_as_it_was_written(request in request()) {
        prop_assert_eq!(read_request(&written(&request, write_request)), Ok(request));
    }

    #[test]
    fn a_response_is_read_as_it_was_written(response in response()) {
        prop_assert_eq!(read_response(&written(&response, write_response)), Ok(response));
    }

    #[test]
    fn no_bytes_make_a_head_that_http1_could_not_carry(
        request in request(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = written(&request, write_request);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        _ = read_response(&bytes);
        _ = read_fields(&bytes);
        if let Ok(request) = read_request(&bytes) {
            prop_assert!(!request.path.bytes().any(|byte| byte <= b' ' || byte == 0x7f));
            prop_assert!(request.authority.is_none_or(|name| name.bytes().all(|byte| byte.is_ascii_graphic())));
            prop_assert!(request.protocol.is_none_or(|name| is_value(name.as_bytes())));
            for (name, value) in request.fields.iter() {
                prop_assert!(!name.iter().any(|byte| byte.is_ascii_control() || b" :".contains(byte)));
                prop_assert!(is_value(value));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_reason_to_panic(bytes in vec(any::<u8>(), 0..200)) {
        _ = read_request(&bytes);
        _ = read_response(&bytes);
        _ = read_fields(&bytes);
    }

    /// Whatever the sizes and the times: both ends count the same, and nothing is granted that was not there.
    #[test]
    fn both_ends_of_a_window_agree(
        steps in vec((0_usize..40_000, 0_usize..40_000, 0_u64..500), 1..300),
        budget in 0_u64..(8 << 20),
    ) {
        let trip = Some(Duration::from_micros(200));
        let mut now = Instant::now();
        let (mut sending, mut receiving) = (Sending::default(), Receiving::new(now));
        let (mut left, mut unread) = (budget, 0);
        for (send, take, elapsed) in steps {
            now += Duration::from_micros(elapsed);
            let send = send.min(sending.left());
            sending.sent(send);
            prop_assert_eq!(receiving.received(send), Ok(()));
            unread += send;
            let take = take.min(unread);
            unread -= take;
            if receiving.taken(take) {
                let credit = receiving.credit(now, trip, &mut left);
                prop_assert_eq!(sending.credit(credit), Ok(()));
            }
            prop_assert_eq!(left + receiving.growth(), budget);
            let size = u64::from(WINDOW_INITIAL) + receiving.growth();
            prop_assert!(size <= u64::from(WINDOW_MAX));
            prop_assert!(sending.left() + unread <= size as usize, "more is under way than the window has");
        }
        prop_assert!(sending.left() + unread > 0, "nothing may be sent and nothing is left to take");
        prop_assert_eq!(receiving.received(sending.left() + 1), Err(Violation::Overrun));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_head_that_is_cut_off_or_goes_on_is_not_taken(request in request(), response in response(), more: u8) {
        let (mut asked, mut answered) = (written(&request, write_request), written(&response, write_response));
        for length in 0..asked.len() {
            prop_assert_eq!(read_request(&asked[..length]), Err(head::Error::Malformed));
        }
        for length in 0..answered.len() {
            prop_assert_eq!(read_response(&answered[..length]), Err(head::Error::Malformed));
        }
        asked.push(more);
        answered.push(more);
        prop_assert_eq!(read_request(&asked), Err(head::Error::Malformed));
        prop_assert_eq!(read_response(&answered), Err(head::Error::Malformed));
    }
}

#[test]
fn a_head_with_too_much_is_neither_written_nor_read() {
    let mut many = Fields::new();
    for _ in 0..=FIELDS_MAX {
        many.append(b"a", b"b");
    }
    let mut large = Fields::new();
    for _ in 0..2 {
        large.append(b"a", &[b'b'; 60_000]);
    }

    assert_eq!(write_fields(&many, &mut Vec::new()), Err(head::Error::TooLarge));
    assert_eq!(write_fields(&large, &mut Vec::new()), Err(head::Error::TooLarge));
    assert_eq!(read_fields(&(FIELDS_MAX as u16 + 1).to_be_bytes()), Err(head::Error::TooLarge));
}

#[test]
fn a_window_grows_only_when_it_held_the_sender_up() {
    let start = Instant::now();
    let trip = Duration::from_millis(1);
    let credit_after = |elapsed, trip| {
        let mut receiving = Receiving::new(start);
        receiving.received(WINDOW_INITIAL as usize).unwrap();
        assert!(!receiving.taken(WINDOW_INITIAL as usize / 2 - 1));
        assert!(receiving.taken(1));
        let credit = receiving.credit(start + elapsed, trip, &mut (1 << 20));
        (credit, receiving.growth())
    };
    let half = WINDOW_INITIAL / 2;

    assert_eq!(credit_after(trip * 2, Some(trip)), (half + WINDOW_INITIAL, WINDOW_INITIAL.into()));
    assert_eq!(credit_after(trip * 3, Some(trip)), (half, 0));
    assert_eq!(credit_after(Duration::ZERO, None), (half, 0));
}

#[test]
fn a_new_stream_begins_with_what_others_came_to_need() {
    let now = Instant::now();
    let trip = Some(Duration::from_millis(1));
    let (mut habit, mut budget) = (Habit::default(), 4 << 20);
    let mut first = Receiving::new(now);
    assert_eq!(habit.begin(&mut first, &mut budget), 0, "nothing is known yet");
    first.received(WINDOW_INITIAL as usize).unwrap();
    first.taken(WINDOW_INITIAL as usize);
    first.credit(now, trip, &mut budget);
    habit.learn(&first);

    let mut second = Receiving::new(now);
    let before = budget;
    assert_eq!(habit.begin(&mut second, &mut budget), WINDOW_INITIAL);
    assert_eq!(before - budget, second.growth());
    assert_eq!(second.received(2 * WINDOW_INITIAL as usize), Ok(()));
    assert_eq!(second.received(1), Err(Violation::Overrun));

    let mut small_budget = u64::from(WINDOW_INITIAL) * 4 - 1;
    assert_eq!(habit.begin(&mut Receiving::new(now), &mut small_budget), 0, "the rest is for who needs it");

    for _ in 0..8 {
        habit.learn(&Receiving::new(now));
    }
    assert_eq!(habit.begin(&mut Receiving::new(now), &mut budget), 0, "nobody needed it lately");
}

#[test]
fn an_impossible_credit_is_not_taken() {
    let mut sending = Sending::default();

    assert_eq!(sending.credit(0), Err(Violation::BadCredit));
    assert_eq!(sending.credit(u32::MAX), Err(Violation::BadCredit));
    assert_eq!(sending.credit((1 << 31) - 1), Err(Violation::BadCredit));
    assert_eq!(sending.left(), WINDOW_INITIAL as usize);
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let start = Instant::now();
    let mut pulse = Pulse::new(start);
    let asked = start + PING_EVERY;

    assert_eq!(pulse.look(start, PING_EVERY), Beat::Wait(asked));
    assert_eq!(pulse.look(asked, PING_EVERY), Beat::Ask);
    assert_eq!(pulse.ask(asked), Some(1));
    assert_eq!(pulse.ask(asked), None, "one at a time");
    assert_eq!(pulse.look(asked, PING_EVERY), Beat::Wait(asked + PING_PATIENCE));
    assert_eq!(pulse.look(asked + PING_PATIENCE, PING_EVERY), Beat::Dead);
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let start = Instant::now();
    let mut pulse = Pulse::new(start);
    pulse.ask(start);
    pulse.hear(start + Duration::from_secs(3));

    assert_eq!(pulse.look(start + PING_PATIENCE, PING_EVERY), Beat::Wait(start + Duration::from_secs(7)));
}

#[test]
fn a_process_that_stood_still_does_not_blame_its_peer() {
    let start = Instant::now();
    let mut pulse = Pulse::new(start);
    pulse.ask(start);
    pulse.look(start, PING_EVERY);
    let woken = start + Duration::from_mins(1);

    assert_eq!(pulse.look(woken, PING_EVERY), Beat::Wait(woken + PING_PATIENCE));
    assert_eq!(pulse.look(woken + PING_PATIENCE, PING_EVERY), Beat::Dead);
}

#[test]
fn the_round_trip_follows_the_least() {
    let start = Instant::now();
    let mut pulse = Pulse::new(start);
    let mut measure = |at: Instant, millis| {
        let number = pulse.ask(at).unwrap();
        pulse.answer(number, at + Duration::from_millis(millis)).unwrap();
        pulse.round_trip().unwrap()
    };

    assert_eq!(measure(start, 8), Duration::from_millis(8));
    assert_eq!(measure(start, 2), Duration::from_millis(2));
    assert_eq!(measure(start, 10), Duration::from_millis(3));
    assert_eq!(pulse.answer(3, start), Err(Violation::Unasked));
}
