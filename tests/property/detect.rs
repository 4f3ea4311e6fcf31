//! Detection: final once made, never fooled by where the bytes are cut.

use mesh::logic::detect::{Detection, detect};
use proptest::prelude::*;

#[test]
fn request_lines_are_told_from_text_protocols() {
    let cases: [(&[u8], Detection); 22] = [
        (b"", Detection::NeedMore),
        (b"G", Detection::NeedMore),
        (b"GET / HTT", Detection::NeedMore),
        (b"GET / HTTP/1.", Detection::Http1),
        (b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", Detection::Http1),
        (b"GET / HTTP/1.0\n", Detection::Http1),
        (b"\r\nGET /a?b=c HTTP/1.1\r\n", Detection::Http1),
        (b"M-SEARCH * HTTP/1.1\r\n", Detection::Http1),
        (b"CONNECT db:5432 HTTP/1.1\r\n", Detection::Http1),
        (b"GET http://web.mesh/ HTTP/1.1\r\n", Detection::Http1),
        (b"PRI * HTTP/2.0", Detection::Http2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detection::Http2),
        (b"PRI ", Detection::NeedMore),
        (b"PRI * HTTP/2.1\r\n", Detection::Opaque),
        (b"GET /\r\n", Detection::Opaque),
        (b"GET key\r\n", Detection::Opaque),
        (b"EHLO mail.example\r\n", Detection::Opaque),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Detection::Opaque),
        (b"*1\r\n$4\r\nPING\r\n", Detection::Opaque),
        (b"\x16\x03\x01\x02\x00\x01", Detection::Opaque),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Detection::Opaque),
        (b"GET  / HTTP/1.1\r\n", Detection::Opaque),
    ];

    for (bytes, expected) in cases {
        assert_eq!(detect(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_bounded_number_of_bytes_always_decides() {
    let mut line = b"GET /".to_vec();
    line.resize(1_100, b'a');
    assert_eq!(detect(&line), Detection::Http1);
    assert_eq!(detect(&[b'A'; 64]), Detection::Opaque);
}

fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        "(\r\n){0,3}[A-Z]{1,12} [!-~]{0,40} ?(HTTP/[0-2]\\.[0-9])?\r?\n?".prop_map(String::into_bytes),
        "PRI \\* HTTP/[12].[0-9]\r\n".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn more_bytes_never_change_a_decision(bytes in beginnings(), more in proptest::collection::vec(any::<u8>(), 0..32)) {
        let mut decided = Detection::NeedMore;
        let all: Vec<u8> = bytes.into_iter().chain(more).collect();
        for end in 0..=all.len() {
            let found = detect(&all[..end]);
            if decided != Detection::NeedMore {
                prop_assert_eq!(found, decided, "after {} bytes", end);
            }
            decided = found;
        }
    }

    #[test]
    fn every_request_is_http(method in "[A-Z]{1,16}", path in "/[!-~]{0,60}", minor in 0..2) {
        let line = format!("{method} {path} HTTP/1.{minor}\r\nHost: web\r\n");
        prop_assert_eq!(detect(line.as_bytes()), Detection::Http1);
    }
}
