//! What somebody shows to be let in: no certificate, signing request or join token makes its reader panic.

use mesh::control::authority::prove;
use mesh::gossip::pass::Checker;
use mesh::identity::certificate::Certificate;
use mesh::model::identity::{SpiffeId, Subject};
use mesh::model::token::Token;

const NOW_MS: u64 = 1_800_000_000_000;

/// Fails on bytes that break the rule.
pub(crate) fn check(input: &[u8]) {
    let subject: Subject = "web".parse().expect("a subject");
    _ = prove(&subject, input).map(|proven| proven.fingerprint());
    if let Ok(certificate) = Certificate::parse(input) {
        for uri in &certificate.leaf.uris {
            if let Ok(id) = uri.parse::<SpiffeId>() {
                assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
    }
    Checker::new(vec![input.to_vec()]).admit(input, NOW_MS);
    if let Ok(text) = str::from_utf8(input) {
        if let Ok(token) = text.parse::<Token>() {
            assert!(token.to_string().parse() == Ok(token), "what it says is a token");
        }
        if let Ok(id) = text.parse::<SpiffeId>() {
            assert_eq!(id.to_string(), text);
        }
    }
}
