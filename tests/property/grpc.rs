//! What a proxy reads of gRPC.

use mesh::logic::http::fields::Fields;
use mesh::logic::http::grpc::{is_unary, status};
use proptest::prelude::*;

fn message(content: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

proptest! {
    #[test]
    fn a_body_is_unary_when_it_is_one_message_or_none(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        seen in 5_usize..50,
        cut in 1_usize..5,
    ) {
        let body: Vec<u8> = contents.iter().flat_map(|content| message(content)).collect();
        let begin = &body[..seen.min(body.len())];
        prop_assert_eq!(is_unary(begin, body.len()), contents.len() < 2);
        // What is less, or more, than it says.
        prop_assert!(body.is_empty() || contents.len() > 1 || !is_unary(begin, body.len() - 1));
        prop_assert!(!is_unary(begin, body.len() + 1));
        // A beginning that does not say how long the message is.
        prop_assert!(body.is_empty() || !is_unary(&begin[..cut], body.len()));
    }

    #[test]
    fn a_status_is_a_number(code: u16, other in "[a-z -]{0,9}") {
        let told = |value: &str| {
            let mut fields = Fields::default();
            fields.append(b"grpc-status", value.as_bytes());
            status(&fields)
        };
        prop_assert_eq!(told(&code.to_string()), Some(code));
        prop_assert_eq!((told(&other), status(&Fields::default())), (None, None));
    }
}
