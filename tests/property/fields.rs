//! Header fields: equal to a naive list of names and values, whatever is done to them; and what belongs to a connection.

use mesh::logic::http::fields::{Fields, is_name, is_value, items};
use mesh::logic::http::{authority, hop};
use proptest::prelude::*;

pub(crate) fn fields(list: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.append(name.as_bytes(), value.as_bytes());
    }
    fields
}

pub(crate) fn text(fields: &Fields) -> Vec<(String, String)> {
    let own = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (own(name), own(value))).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Append(String, Vec<u8>),
    Set(String, Vec<u8>),
    Remove(String),
    RetainLonger(usize),
    Clear,
}

/// Few names in several cases, so that they meet.
fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "A", "ab", "aB", "Host", "HOST", "set-cookie", "Set-Cookie", "x_y"])
        .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b' '), Just(b'\t'), 0x21u8..0x7f, 0x80u8..=0xff];
    proptest::collection::vec(byte, 0..12).prop_map(|bytes| bytes.trim_ascii().to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (name(), value()).prop_map(|(name, value)| Step::Append(name, value)),
        4 => (name(), value()).prop_map(|(name, value)| Step::Set(name, value)),
        2 => name().prop_map(Step::Remove),
        1 => (0usize..6).prop_map(Step::RetainLonger),
        1 => Just(Step::Clear),
    ]
}

fn model(list: &mut Vec<(String, Vec<u8>)>, step: &Step) {
    match step {
        Step::Append(name, value) => list.push((name.clone(), value.clone())),
        Step::Set(name, value) => {
            let Some(first) = list.iter().position(|(other, _)| other.eq_ignore_ascii_case(name)) else {
                return list.push((name.clone(), value.clone()));
            };
            list[first].1.clone_from(value);
            let mut index = 0;
            list.retain(|(other, _)| {
                index += 1;
                index - 1 <= first || !other.eq_ignore_ascii_case(name)
            });
        }
        Step::Remove(name) => list.retain(|(other, _)| !other.eq_ignore_ascii_case(name)),
        Step::RetainLonger(len) => list.retain(|(_, value)| value.len() > *len),
        Step::Clear => list.clear(),
    }
}

fn apply(fields: &mut Fields, step: &Step) {
    match step {
        Step::Append(name, value) => fields.append(name.as_bytes(), value),
        Step::Set(name, value) => fields.set(name, value),
        Step::Remove(name) => {
            let had = fields.contains(name);
            assert_eq!(fields.remove(name), had);
        }
        Step::RetainLonger(len) => fields.retain(|_, value| value.len() > *len),
        Step::Clear => fields.clear(),
    }
}

proptest! {
    #[test]
    fn fields_are_a_list_of_names_and_values(steps in proptest::collection::vec(step(), 0..40), asked in name()) {
        let mut fields = Fields::new();
        let mut list = Vec::new();

        for step in &steps {
            apply(&mut fields, step);
            model(&mut list, step);
        }

        let listed: Vec<(String, Vec<u8>)> =
            fields.iter().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())).collect();
        prop_assert_eq!(&listed, &list);
        prop_assert_eq!(fields.len(), list.len());
        prop_assert_eq!(fields.is_empty(), list.is_empty());
        prop_assert_eq!(fields.bytes(), list.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>());
        let expected: Vec<&[u8]> = list
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(&asked))
            .map(|(_, value)| value.as_slice())
            .collect();
        prop_assert_eq!(fields.get(&asked), expected.first().copied());
        prop_assert_eq!(fields.contains(&asked), !expected.is_empty());
        prop_assert_eq!(fields.all(&asked).collect::<Vec<_>>(), expected);
        let mut copy = Fields::with_capacity(1, 1);
        for (name, value) in &list {
            copy.append(name.to_ascii_uppercase().as_bytes(), value);
        }
        prop_assert_eq!(&copy, &fields);
        prop_assert_eq!(&fields.clone(), &fields);
    }

    #[test]
    fn a_name_is_a_token_and_a_value_is_on_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let separators = b"\"(),/:;<=>?@[\\]{}";

        let token = !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_graphic() && !separators.contains(b));
        let line = bytes.iter().all(|b| *b == b'\t' || (!b.is_ascii_control()));

        prop_assert_eq!(is_name(&bytes), token);
        prop_assert_eq!(is_value(&bytes), line);
    }

    #[test]
    fn stripping_twice_is_stripping_once(
        steps in proptest::collection::vec(
            (
                proptest::sample::select(vec!["Connection", "TE", "x-a", "Host", "Keep-Alive", "Upgrade", "Content-Length"]),
                proptest::sample::select(vec!["close", "x-a, te", "trailers", "TE, host", "content-length", "gzip, Trailers"]),
            ),
            0..12,
        ),
    ) {
        let mut once = fields(&steps);
        let hosts = once.all("host").count();
        let lengths = once.all("content-length").count();

        hop::strip(&mut once);
        let mut twice = once.clone();
        hop::strip(&mut twice);

        prop_assert_eq!(text(&twice), text(&once));
        prop_assert!(!once.contains("connection") && !once.contains("keep-alive") && !once.contains("upgrade"));
        prop_assert_eq!(once.all("host").count(), hosts);
        prop_assert_eq!(once.all("content-length").count(), lengths);
        prop_assert!(once.all("te").all(|value| value == b"trailers"));
    }

    #[test]
    fn an_authority_is_read_or_refused(text in "[a-z0-9.:@%\\[\\]-]{0,12}") {
        if let Some(named) = authority::parse(text.as_bytes()) {
            prop_assert!(!named.contains('@'));
            prop_assert_eq!(authority::parse(named.as_bytes()), Some(named));
            let again = match authority::port(named) {
                Some(_) => named.rsplit_once(':').unwrap().0.to_owned(),
                None => named.to_owned(),
            };
            prop_assert_eq!(authority::host(named), again);
        }
    }
}

#[test]
fn what_belongs_to_the_connection_is_taken_off() {
    let mut fields = fields(&[
        ("Connection", "close, X-Foo , te"),
        ("Host", "web"),
        ("x-foo", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("connection", "Host, Content-Length, ,Authorization"),
        ("Authorization", "Basic x"),
        ("Content-Length", "3"),
        ("TE", "gzip;q=0.5, trailers"),
        ("Trailer", "Grpc-Status"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("X-Bar", "2"),
    ]);

    hop::strip(&mut fields);

    let expected = [
        ("Host", "web"),
        ("Content-Length", "3"),
        ("TE", "trailers"),
        ("Trailer", "Grpc-Status"),
        ("X-Bar", "2"),
    ];
    assert_eq!(text(&fields), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn te_without_trailers_does_not_travel() {
    let mut fields = fields(&[("te", "gzip, deflate"), ("a", "b")]);

    hop::strip(&mut fields);

    assert_eq!(text(&fields), [("a".to_owned(), "b".to_owned())]);
}

#[test]
fn items_are_trimmed_and_never_empty() {
    let found: Vec<&[u8]> = items(b" a ,, b\t,\t, c d").collect();

    assert_eq!(found, [&b"a"[..], b"b", b"c d"]);
    assert!(fields(&[("Connection", "x, Upgrade")]).lists("connection", "upgrade"));
    assert!(!fields(&[("Connection", "x-upgrade")]).lists("connection", "upgrade"));
}

#[test]
fn debug_shows_text_but_no_secret() {
    let shown =
        format!("{:?}", fields(&[("Authorization", "Bearer abc"), ("X-A", "b\"\u{e9}"), ("COOKIE", "id=1")]));

    assert!(shown.contains("X-A") && shown.contains("Authorization"), "{shown}");
    assert!(!shown.contains("abc") && !shown.contains("id=1"), "{shown}");
}

#[test]
fn authorities_are_host_and_port() {
    for (text, host, port) in [
        ("web", "web", None),
        ("web.mesh:80", "web.mesh", Some(80)),
        ("[::1]", "[::1]", None),
        ("[2001:db8::7]:8443", "[2001:db8::7]", Some(8443)),
        ("10.0.0.1:1", "10.0.0.1", Some(1)),
        ("a_b-c.d~e:0", "a_b-c.d~e", Some(0)),
        ("%41b", "%41b", None),
    ] {
        assert_eq!(authority::parse(text.as_bytes()), Some(text));
        assert_eq!((authority::host(text), authority::port(text)), (host, port), "{text}");
    }
    assert_eq!(authority::parse(b"web:"), Some("web"));
    assert_eq!(authority::parse(b"[::1]:"), Some("[::1]"));
    for text in [
        "",
        ":80",
        "a b",
        "a:b",
        "a:1:2",
        "a:65536",
        "a:-1",
        "a:+1",
        "u@a",
        "u:p@a:1",
        "a/b",
        "a?b",
        "[::1",
        "::1",
        "[::1]x",
        "[x]",
        "[::1]80",
        "%4",
        "%zz",
        "a,b c",
        "h\u{e9}",
        "a\0",
        "[fe80::1%25eth0]",
    ] {
        assert_eq!(authority::parse(text.as_bytes()), None, "{text}");
    }
}
