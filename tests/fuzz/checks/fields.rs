//! What proxies read in the fields of a message: no bytes make a reader panic, and what is written anew says the same.

use mesh::logic::authorize::request::canonical;
use mesh::logic::balance::session::{Session, SessionRules, cookie};
use mesh::logic::http::fields::{Fields, is_name, is_value};
use mesh::logic::http::head::RequestHead;
use mesh::logic::http::trace::{Invalid, b3, mend, read, traceparent};
use mesh::logic::http::{authority, grpc, hop};
use mesh::logic::resilience::deadline::grpc_timeout;
use mesh::logic::route::filter::cors::Cors;
use mesh::logic::route::query;
use mesh::model::route_filter::CorsFilter;

/// Fails on bytes that break the rule: lines of which each is a name, a colon and a value.
pub(crate) fn check(input: &[u8]) {
    let mut fields = Fields::new();
    for line in input.split(|byte| *byte == b'\n') {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or_default());
        let value = value.strip_prefix(b":").unwrap_or(value);
        value_alone(value);
        if is_name(name) && is_value(value) {
            fields.append(name, value);
        }
    }
    trace(&fields);
    _ = (grpc::is_grpc(&fields), grpc::status(&fields));
    cors(&fields);
    connection(fields);
}

/// The readers of one value, which take bytes that no field can have as well.
fn value_alone(value: &[u8]) {
    _ = (traceparent(value), b3(value), grpc_timeout(value), cookie(value, SessionRules::NAME));
    for bytes in [0, value.len(), value.len() + 1] {
        assert!(
            bytes == 0 || !grpc::is_unary(value, bytes) || value.len() >= 5,
            "it was not said how long it is"
        );
    }
    if let Some(session) = Session::parse(value) {
        assert_eq!(Session::parse(session.token().as_bytes()), Some(session));
    }
    if let Some(authority) = authority::parse(value) {
        assert_eq!(authority::parse(authority.as_bytes()), Some(authority));
        let host = authority::host(authority);
        let port = authority::port(authority).map_or_else(String::new, |port| port.to_string());
        assert!(!host.is_empty() && authority.starts_with(host) && authority.ends_with(&port));
    }
    if let Ok(text) = str::from_utf8(value) {
        _ = query::first(text, "a");
        path(text);
    }
}

/// A path is resolved whatever is in it: nothing leads back out of a folder, and nothing is without an end.
fn path(text: &str) {
    if !text.starts_with('/') {
        return;
    }
    let resolved = canonical(text);
    assert!(resolved.starts_with('/') && !resolved.contains("//"), "{resolved}");
    assert!(resolved.split('/').all(|segment| segment != "." && segment != ".."), "{resolved}");
    assert_eq!(canonical(&format!("{text}/.")), canonical(&format!("{text}/")));
}

fn trace(before: &Fields) {
    let mut after = before.clone();
    let mut draw = 0;
    let found = mend(&mut after, || {
        draw += 1;
        draw
    });
    assert_eq!(read(&after), Ok(found), "it can be followed from there on");
    match read(before) {
        Ok(_) => assert_eq!(after, *before),
        Err(Invalid) => {
            assert_eq!((after.all("traceparent").count(), after.contains("tracestate")), (1, false));
        }
    }
}

fn cors(fields: &Fields) {
    let one = |text: &str| vec![text.to_owned()];
    let cors = Cors::new(&CorsFilter {
        allow_origins: one("https://*.example.com"),
        allow_credentials: Some(true),
        allow_methods: one("*"),
        allow_headers: one("*"),
        expose_headers: one("*"),
        max_age: 5,
    });
    let head = RequestHead { path: "/".to_owned(), fields: fields.clone(), ..RequestHead::default() };
    _ = cors.preflight(&head);
    if let Some(grant) = cors.grant(fields) {
        let mut answered = Fields::new();
        grant.apply(&mut answered);
        assert!(
            answered
                .get("access-control-allow-origin")
                .is_some_and(|origin| fields.get("origin") == Some(origin))
        );
    }
}

/// What belongs to a connection goes at once.
fn connection(mut fields: Fields) {
    hop::strip(&mut fields);
    assert!(!fields.contains("connection") && !fields.contains("transfer-encoding"));
    let once = fields.clone();
    hop::strip(&mut fields);
    assert_eq!(fields, once);
}
