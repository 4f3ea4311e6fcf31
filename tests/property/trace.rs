//! What a request says of its trace, against a naive reading of the specifications; and what becomes of what says nothing.

use mesh::logic::http::fields::Fields;
use mesh::logic::http::trace::{Invalid, b3, mend, read, traceparent};
use proptest::prelude::*;

use crate::property::fields::{fields, text};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// As the grammar says it (Trace Context §3.2.2).
fn naive(text: &str) -> Option<String> {
    let rule = regex::Regex::new(
        "^(?<version>[0-9a-f]{2})-(?<id>[0-9a-f]{32})-(?<parent>[0-9a-f]{16})-[0-9a-f]{2}(?<rest>-.*)?$",
    );
    let said = rule.unwrap().captures(text)?;
    let zero = |name: &str| said[name].bytes().all(|digit| digit == b'0');
    let ends = match &said["version"] {
        "ff" => false,
        "00" => said.name("rest").is_none(),
        _ => true,
    };
    (ends && !zero("id") && !zero("parent")).then(|| said["id"].to_owned())
}

/// A `traceparent` with a mistake now and then.
fn nearly() -> impl Strategy<Value = String> {
    let digits = |count: usize| {
        prop_oneof![
            8 => proptest::string::string_regex(&format!("[0-9a-f]{{{count}}}")).unwrap(),
            1 => Just("0".repeat(count)),
            1 => proptest::string::string_regex(&format!("[0-9a-fA-F]{{{},{}}}", count - 1, count + 1)).unwrap(),
        ]
    };
    let version = prop_oneof![4 => Just("00".to_owned()), 1 => Just("ff".to_owned()), 3 => digits(2)];
    let rest = prop_oneof![6 => Just(String::new()), 2 => "-[ -~]{0,9}", 1 => "[ -~]{1,9}"];
    let dash = || prop_oneof![30 => Just("-"), 1 => Just("_")];
    (version, dash(), digits(32), dash(), digits(16), dash(), digits(2), rest).prop_map(
        |(version, one, id, two, parent, three, flags, rest)| {
            format!("{version}{one}{id}{two}{parent}{three}{flags}{rest}")
        },
    )
}

proptest! {
    // case 87
    #[test]
    fn a_traceparent_is_what_the_grammar_says(value in prop_oneof![9 => nearly(), 1 => "[ -~]{0,70}"]) {
        let read = traceparent(value.as_bytes()).ok().map(|id| id.to_string());

        prop_assert_eq!(read, naive(&value));
    }

    // case 87
    #[test]
    fn no_bytes_are_too_odd_to_be_read(value in proptest::collection::vec(any::<u8>(), 0..80), at in 0usize..55) {
        let mut odd = PARENT.as_bytes().to_vec();
        odd.splice(at.., value.iter().copied());

        _ = (traceparent(&value), b3(&value), traceparent(&odd), b3(&odd));
    }

    // case 87
    #[test]
    fn whatever_is_said_a_trace_can_be_followed_from_there_on(
        said in proptest::collection::vec(
            (
                proptest::sample::select(vec!["traceparent", "Traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "a"]),
                prop_oneof![
                    4 => Just(PARENT.to_owned()),
                    2 => Just(TRACE.to_owned()),
                    2 => nearly(),
                    1 => "[!-~]{0,20}",
                ],
            ),
            0..6,
        ),
        draws in any::<u64>(),
    ) {
        let list: Vec<_> = said.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let before = fields(&list);
        let mut after = before.clone();
        let found = mend(&mut after, || draws);

        prop_assert_eq!(read(&after), Ok(found));
        let parents: Vec<_> = before.all("traceparent").collect();
        match (&parents[..], read(&before)) {
            (_, Ok(_)) => prop_assert_eq!(text(&after), text(&before)),
            (parents, Err(Invalid)) => {
                prop_assert!(!parents.is_empty());
                prop_assert_eq!(after.all("traceparent").count(), 1);
                prop_assert!(!after.contains("tracestate"));
                prop_assert!(after.get("traceparent").unwrap().ends_with(b"-00"));
                let others = |fields: &Fields| {
                    let mut others = text(fields);
                    others.retain(|(name, _)| !name.to_lowercase().starts_with("trace"));
                    others
                };
                prop_assert_eq!(others(&after), others(&before));
            }
        }
    }
}

// case 87
#[test]
fn parents_of_each_kind_are_told_apart() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let zeros = "0".repeat(32);
    for (value, valid) in [
        (format!("00-{id}-00f067aa0ba902b7-01"), true),
        (format!("00-{id}-00f067aa0ba902b7-ff"), true),
        (format!("01-{id}-00f067aa0ba902b7-01"), true),
        (format!("cc-{id}-00f067aa0ba902b7-01-what-the-future-will-be-like"), true),
        (format!("cc-{id}-00f067aa0ba902b7-01-"), true),
        (format!("cc-{id}-00f067aa0ba902b7-01.what-the-future-will-be-like"), false),
        (format!("00-{id}-00f067aa0ba902b7-01-what-the-future-will-be-like"), false),
        (format!("00-{id}-00f067aa0ba902b7-01-"), false),
        (format!("ff-{id}-00f067aa0ba902b7-01"), false),
        (format!("0g-{id}-00f067aa0ba902b7-01"), false),
        (format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()), false),
        (format!("00-{id}-00F067AA0BA902B7-01"), false),
        (format!("00-{id}-00f067aa0ba902b7-0A"), false),
        (format!("00-{zeros}-00f067aa0ba902b7-01"), false),
        (format!("00-{id}-0000000000000000-01"), false),
        (format!("00-{id}-00f067aa0ba902b7-1"), false),
        (format!("00-{id}-00f067aa0ba902b7"), false),
        (format!("00{id}00f067aa0ba902b701"), false),
        (String::new(), false),
    ] {
        let read = traceparent(value.as_bytes()).map(|id| id.to_string());

        assert_eq!(read, if valid { Ok(id.to_owned()) } else { Err(Invalid) }, "{value}");
    }
}

// case 87
#[test]
fn a_trace_of_b3_is_known_by_either_form_and_in_either_length() {
    let read = |list: &[(&str, &str)]| read(&fields(list)).unwrap().map(|id| id.to_string());
    let (short, span) = ("8448eb211c80319c", "b7ad6b7169203331");

    for (value, id) in [
        (format!("{TRACE}-{span}"), Some(TRACE)),
        (format!("{TRACE}-{span}-1"), Some(TRACE)),
        (format!("{short}-{span}-d-05e3ac9a4f6e3b90"), Some(short)),
        ("0".to_owned(), None),
        (TRACE.to_owned(), None),
        (format!("{TRACE}-{span}-2"), None),
        (format!("{TRACE}-{span}-1-05e3"), None),
        (format!("{TRACE}-{span}-1-05e3ac9a4f6e3b90-"), None),
        (format!("{}-{span}-1", TRACE.to_uppercase()), None),
        (format!("{}-{span}-1", &TRACE[1..]), None),
    ] {
        assert_eq!(read(&[("b3", &value)]).as_deref(), id, "{value}");
    }
    assert_eq!(read(&[("X-B3-TraceId", short), ("X-B3-SpanId", span)]).as_deref(), Some(short));
    assert_eq!(read(&[("x-b3-traceid", &"0".repeat(32))]), None);
    assert_eq!(read(&[("b3", &format!("{short}-{span}")), ("traceparent", PARENT)]).as_deref(), Some(TRACE));
    assert_eq!(read(&[("x-b3-traceid", TRACE), ("b3", &format!("{short}-{span}"))]).as_deref(), Some(short));
}

// case 87
#[test]
fn a_new_trace_takes_the_place_of_what_is_none() {
    let said = [
        ("tracestate", "a=1"),
        ("TraceParent", "x"),
        ("b", "1"),
        ("traceparent", PARENT),
        ("Tracestate", "b=2"),
    ];
    let mut fields = fields(&said);
    let mut draws = [0, 0, 0].into_iter();

    let id = mend(&mut fields, || draws.next().unwrap());

    // Not even then is a name zero.
    assert_eq!(id.unwrap().to_string(), "00000000000000000000000000000001");
    let parent = "00-00000000000000000000000000000001-0000000000000001-00";
    assert_eq!(
        text(&fields),
        [("TraceParent".to_owned(), parent.to_owned()), ("b".to_owned(), "1".to_owned())]
    );
}
