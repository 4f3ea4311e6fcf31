//! Blocks of HTTP/2's fields: no bytes make the decoder panic or keep more than it may, and what is accepted is written and
//! read again as the same.

use mesh::logic::http::h2::head::{
    read_request, read_response, read_trailers, write_request, write_response, write_trailers,
};
use mesh::logic::http::h2::hpack::Decoder;

const HELD_BYTES_MAX: usize = 24 << 10;

/// Fails on bytes that break the rule: blocks of one connection, each behind its length in one byte, of which the lowest bits
/// say what it is taken for as well.
pub(crate) fn check(input: &[u8]) {
    let mut decoder = Decoder::new();
    let mut rest = input;
    while let Some((&length, behind)) = rest.split_first() {
        let (block, next) = behind.split_at(behind.len().min(length.into()));
        rest = next;
        if !is_good(&mut decoder, block, length % 3) {
            return;
        }
        assert!(decoder.allocated() <= HELD_BYTES_MAX);
    }
}

/// Reads a block and what is written of it; tells whether the connection can go on.
fn is_good(decoder: &mut Decoder, block: &[u8], kind: u8) -> bool {
    let mut written = Vec::new();
    let mut plain = Decoder::new();
    match kind {
        0 => {
            let Ok(read) = read_request(decoder, block) else { return false };
            if let Ok(head) = read {
                write_request(&head, &mut written).expect("it was said");
                assert_eq!(read_request(&mut plain, &written), Ok(Ok(head)));
            }
        }
        1 => {
            let Ok(read) = read_response(decoder, block) else { return false };
            if let Ok(head) = read {
                write_response(&head, &mut written).expect("it was said");
                assert_eq!(read_response(&mut plain, &written), Ok(Ok(head)));
            }
        }
        _ => {
            let Ok(read) = read_trailers(decoder, block) else { return false };
            if let Ok(fields) = read {
                write_trailers(&fields, &mut written);
                assert_eq!(read_trailers(&mut plain, &written), Ok(Ok(fields)));
            }
        }
    }
    assert_eq!(plain.allocated(), 0, "what is written needs no memory");
    true
}
