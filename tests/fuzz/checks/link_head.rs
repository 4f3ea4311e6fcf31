//! Heads on a link: no bytes make the reader panic, and what is read is written and read again as the same.

use mesh::logic::link::head::{
    read_fields, read_request, read_response, write_fields, write_request, write_response,
};

/// Fails on bytes that break the rule.
pub(crate) fn check(input: &[u8]) {
    let mut written = Vec::new();
    if let Ok(head) = read_request(input) {
        write_request(&head, &mut written).expect("it fitted");
        assert_eq!(read_request(&written), Ok(head));
    }
    written.clear();
    if let Ok(head) = read_response(input) {
        write_response(&head, &mut written).expect("it fitted");
        assert_eq!(read_response(&written), Ok(head));
    }
    written.clear();
    if let Ok(fields) = read_fields(input) {
        write_fields(&fields, &mut written).expect("it fitted");
        assert_eq!(read_fields(&written), Ok(fields));
    }
}
