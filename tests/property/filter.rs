//! Filters: header fields come out as the manifest says.

use mesh::logic::http::fields::Fields;
use mesh::logic::route::filter::{Filter, on_request, on_response};
use mesh::model::route::{FilterKind, HeaderField, HeaderModifier, HttpRouteFilter};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn filter(kind: FilterKind, modifier: HeaderModifier) -> Filter {
    let (request, response) = match kind {
        FilterKind::RequestHeaderModifier => (Some(modifier), None),
        FilterKind::ResponseHeaderModifier => (None, Some(modifier)),
    };
    let wanted =
        HttpRouteFilter { kind, request_header_modifier: request, response_header_modifier: response };
    Filter::new(&wanted).unwrap()
}

fn fields(fields: &BTreeMap<String, String>) -> Vec<HeaderField> {
    fields.iter().map(|(name, value)| HeaderField { name: name.clone(), value: value.clone() }).collect()
}

fn map(fields: &[(String, String)]) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    headers
}

fn values(headers: &Fields, name: &str) -> Vec<String> {
    headers.all(name).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

proptest! {
    #[test]
    fn set_replaces_add_appends_remove_removes(
        before in proptest::collection::vec(("[a-f]", "[0-9]{1,3}"), 0..8),
        set in proptest::collection::btree_map("[ab]", "[0-9]{1,3}", 0..3),
        add in proptest::collection::btree_map("[cd]", "[0-9]{1,3}", 0..3),
        remove in proptest::collection::btree_set("[e]", 0..2),
    ) {
        let original = map(&before);
        let mut changed = original.clone();
        let modifier =
            HeaderModifier { set: fields(&set), add: fields(&add), remove: remove.iter().cloned().collect() };
        let filters = [filter(FilterKind::RequestHeaderModifier, modifier)];
        on_request(&filters, &mut changed);

        for name in ["a", "b", "c", "d", "e", "f"] {
            let mut expected = values(&original, name);
            if let Some(value) = set.get(name) {
                expected = vec![value.clone()];
            }
            expected.extend(add.get(name).cloned());
            if remove.contains(name) {
                expected.clear();
            }
            prop_assert_eq!(values(&changed, name), expected, "{}", name);
        }
        let mut response = original.clone();
        on_response(&filters, &mut response);
        prop_assert_eq!(response, original);
    }
}

#[test]
fn names_of_filters_have_no_case_and_the_first_of_equal_ones_counts() {
    let twice = vec![
        HeaderField { name: "X-Area".into(), value: "one".into() },
        HeaderField { name: "x-area".into(), value: "two".into() },
    ];
    let filters = [filter(
        FilterKind::ResponseHeaderModifier,
        HeaderModifier { set: twice, ..HeaderModifier::default() },
    )];
    let mut headers = map(&[("x-area".to_owned(), "zero".to_owned())]);

    on_response(&filters, &mut headers);

    assert_eq!(values(&headers, "x-area"), ["one"]);
}
