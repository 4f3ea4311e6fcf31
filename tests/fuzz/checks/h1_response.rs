//! Responses: no bytes make the parser panic, cutting them changes nothing, and what is accepted is written without doubt.

use http::Method;
use mesh::logic::http::h1::response::parse;
use mesh::logic::http::h1::write;
use mesh::logic::http::head::Version;

/// Fails on bytes that break the rule.
pub(crate) fn check(input: &[u8]) {
    let [at, asked, text @ ..] = input else { return };
    let method = [Method::GET, Method::HEAD, Method::CONNECT][usize::from(asked % 3)].clone();
    let whole = parse(text, &method);
    let cut = text.len() * usize::from(*at) / 256;
    match parse(&text[..cut], &method) {
        Ok(None) => {}
        Ok(early) => assert_eq!(Ok(early), whole),
        Err(_) => assert!(whole.is_err()),
    }
    let Ok(Some((read, len))) = whole else { return };
    assert!(text[..len].ends_with(b"\r\n\r\n"));

    let mut written = Vec::new();
    let framing = write::response(&read.head, read.announced, Version::Http11, read.keep_alive, &mut written);
    let (again, taken) = parse(&written, &method).expect("what was accepted is good").expect("it is whole");
    assert_eq!(taken, written.len());
    assert_eq!(again.announced, framing);
    let mut head = read.head;
    head.version = Version::Http11;
    assert_eq!(again.head, head);
}
