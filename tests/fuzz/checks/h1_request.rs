//! Requests: no bytes make the parser panic, cutting them changes nothing, and what is accepted is written without doubt.

use mesh::logic::detect::{Detection, detect};
use mesh::logic::http::h1::request::{Limits, parse};
use mesh::logic::http::h1::write;
use mesh::logic::http::head::Version;

/// Fails on bytes that break the rule.
pub(crate) fn check(input: &[u8]) {
    let Some((&at, text)) = input.split_first() else { return };
    let whole = parse(text, Limits::default());
    let cut = text.len() * usize::from(at) / 256;
    match parse(&text[..cut], Limits::default()) {
        Ok(None) => {}
        Ok(early) => assert_eq!(Ok(early), whole),
        Err(early) => assert_eq!(Some(early.status), whole.as_ref().err().map(|refusal| refusal.status)),
    }
    let early = detect(&text[..cut]);
    assert!(early == Detection::NeedMore || early == detect(text), "what is said of a beginning is final");
    let Ok(Some((read, len))) = whole else { return };
    assert!(text[..len].ends_with(b"\r\n\r\n"));

    let mut written = Vec::new();
    write::request(&read.head, read.framing, &mut written);
    let (again, taken) =
        parse(&written, Limits::default()).expect("what was accepted is good").expect("it is whole");
    assert_eq!(taken, written.len());
    assert_eq!(again.framing, read.framing);
    let mut head = read.head;
    head.version = Version::Http11;
    assert_eq!(again.head, head);
}
