//! Frames of HTTP/2: their headers, their content and their settings.

use mesh::logic::http::h2::frame::{
    FRAME_BYTES_MAX, Fault, Header, Kind, Settings, WINDOW_MAX, write_client_settings, write_server_settings,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn setting(name: u16, value: u32) -> Vec<u8> {
    [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat()
}

proptest! {
    #[test]
    fn a_header_that_is_taken_can_be_written_again(bytes in any::<[u8; 9]>()) {
        if let Ok(header) = Header::decode(bytes) {
            prop_assert!(header.length <= FRAME_BYTES_MAX && header.stream <= WINDOW_MAX);
            if header.kind != Kind::Unknown {
                // All but the reserved bit, which is passed over (RFC 9113 §4.1).
                let mut expected = bytes;
                expected[5] &= 0x7f;
                prop_assert_eq!(header.encode(), expected);
            }
        }
    }

    #[test]
    fn content_is_what_padding_and_priority_leave(content in vec(any::<u8>(), 0..300), padding: Option<u8>, priority: bool) {
        let mut payload = Vec::new();
        payload.extend(padding);
        if priority {
            payload.extend([0, 0, 0, 3, 15]);
        }
        payload.extend(&content);
        payload.extend(vec![0; padding.unwrap_or(0).into()]);
        let flags = if padding.is_some() { 0x8 } else { 0 } | if priority { 0x20 } else { 0 };
        let header = Header { length: payload.len(), kind: Kind::Headers, flags, stream: 1 };
        prop_assert_eq!(header.content(&payload), Ok(content.as_slice()));
    }

    #[test]
    fn content_is_a_part_of_any_payload_or_refused(payload in vec(any::<u8>(), 0..300), flags: u8, headers: bool) {
        let kind = if headers { Kind::Headers } else { Kind::Data };
        let header = Header { length: payload.len(), kind, flags, stream: 1 };
        if let Ok(content) = header.content(&payload) {
            prop_assert!(payload.as_ptr_range().contains(&content.as_ptr()) || content.is_empty());
            prop_assert!(content.len() <= payload.len());
        }
    }

    #[test]
    fn settings_of_any_kind_are_taken_or_refused(payload in vec(any::<[u8; 6]>(), 0..20)) {
        let mut settings = Settings::default();
        _ = settings.read(&payload.concat());
        prop_assert!(settings.window <= WINDOW_MAX);
    }
}

#[test]
fn frames_are_of_their_length_and_in_their_place() {
    let header = |length: usize, kind: Kind, stream: u32| {
        Header::decode(Header { length, kind, flags: 0, stream }.encode()).map(|_| ())
    };
    for (length, kind, stream, fault) in [
        (FRAME_BYTES_MAX + 1, Kind::Data, 1, Fault::BadLength),
        (4, Kind::Priority, 1, Fault::BadLength),
        (5, Kind::Reset, 1, Fault::BadLength),
        (7, Kind::Settings, 0, Fault::BadLength),
        (7, Kind::Ping, 0, Fault::BadLength),
        (7, Kind::GoAway, 0, Fault::BadLength),
        (3, Kind::WindowUpdate, 1, Fault::BadLength),
        (1, Kind::Data, 0, Fault::Misplaced),
        (1, Kind::Headers, 0, Fault::Misplaced),
        (1, Kind::Continuation, 0, Fault::Misplaced),
        (4, Kind::Reset, 0, Fault::Misplaced),
        (6, Kind::Settings, 1, Fault::Misplaced),
        (8, Kind::Ping, 1, Fault::Misplaced),
        (8, Kind::GoAway, 1, Fault::Misplaced),
    ] {
        assert_eq!(header(length, kind, stream), Err(fault), "{kind:?}");
    }
    assert_eq!(header(4, Kind::WindowUpdate, 0), Ok(()));
    assert_eq!(header(3, Kind::Unknown, 7), Ok(()));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (name, value, fault) in [
        (2, 2, Fault::BadSetting),
        (4, WINDOW_MAX + 1, Fault::BadWindow),
        (5, (1 << 14) - 1, Fault::BadSetting),
        (5, 1 << 24, Fault::BadSetting),
        (8, 2, Fault::BadSetting),
    ] {
        assert_eq!(Settings::default().read(&setting(name, value)), Err(fault), "{name}");
    }
}

#[test]
fn what_we_say_of_ourselves_can_be_read() {
    let mut bytes = Vec::new();
    write_server_settings(512, 70_000, 65_536, &mut bytes);
    let mut settings = Settings::default();
    settings.read(&bytes[9..]).unwrap();
    assert_eq!(
        settings,
        Settings { streams_max: 512, window: 70_000, takes_protocols: true, ..Settings::default() }
    );

    bytes.clear();
    write_client_settings(70_000, 65_536, &mut bytes);
    let mut settings = Settings::default();
    settings.read(&bytes[9..]).unwrap();
    assert_eq!(settings, Settings { window: 70_000, ..Settings::default() });
}
