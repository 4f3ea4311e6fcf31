//! The schemas of the kinds say what the types that read them take: the examples fit, and every field is explained.

use std::collections::BTreeSet;
use std::path::PathBuf;

use mesh::cli::manifest;
use mesh::model::resource::{Kind, Resource};
use mesh::model::route_filter::FilterKind;
use serde_json::{Value, json};

fn schema(kind: Kind) -> Value {
    kind.schema().to_value()
}

/// What is wrong with a value, as far as a schema tells it in the words that ours use.
fn complaints(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return complaints(root, &root["$defs"][name.trim_start_matches("#/$defs/")], value, at, found);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(parts) = schema[key].as_array() {
            let fits = parts.iter().any(|part| {
                let mut wrong = Vec::new();
                complaints(root, part, value, at, &mut wrong);
                wrong.is_empty()
            });
            if !fits {
                found.push(format!("{at}: fits none of {key}"));
            }
        }
    }
    let kinds: Vec<_> = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        _ => Vec::new(),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = kinds.is_empty() || kinds.contains(&is) || (is == "integer" && kinds.contains(&"number"));
    if !fits {
        found.push(format!("{at}: is {is}, not {kinds:?}"));
    }
    if schema.get("const").is_some_and(|wanted| wanted != value)
        || schema["enum"].as_array().is_some_and(|all| !all.contains(value))
    {
        found.push(format!("{at}: {value} is not a choice"));
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let known = schema["properties"].get(name);
                let other = schema.get("additionalProperties");
                match (known, other) {
                    (Some(known), _) => complaints(root, known, field, &format!("{at}.{name}"), found),
                    (None, Some(Value::Bool(false))) => found.push(format!("{at}.{name}: unknown")),
                    (None, Some(other)) => complaints(root, other, field, &format!("{at}.{name}"), found),
                    (None, None) => {}
                }
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(required.as_str().unwrap()) {
                    found.push(format!("{at}.{required}: missing"));
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                complaints(root, &schema["items"], item, &format!("{at}[{index}]"), found);
            }
            if schema["maxItems"].as_u64().is_some_and(|max| items.len() as u64 > max) {
                found.push(format!("{at}: too many"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn wrong(kind: Kind, value: &Value) -> Vec<String> {
    let schema = schema(kind);
    let mut found = Vec::new();
    complaints(&schema, &schema, value, "", &mut found);
    found
}

fn examples() -> Vec<Resource> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/examples");
    manifest::read(&[directory]).unwrap().objects.into_iter().map(|(object, _)| object).collect()
}

#[test]
fn the_examples_fit_their_schemas_and_unknown_fields_do_not() {
    let mut seen = BTreeSet::new();
    for object in examples() {
        let mut value = serde_json::to_value(&object).unwrap();
        assert_eq!(wrong(object.kind(), &value), Vec::<String>::new(), "{}", object.key());
        value["spec"]["noSuchField"] = json!(1);
        assert_eq!(wrong(object.kind(), &value), [".spec.noSuchField: unknown"]);
        seen.insert(object.kind());
    }
    assert_eq!(seen.len(), Kind::ALL.len());
}

#[test]
fn every_field_of_every_kind_is_explained() {
    fn check(root: &Value, schema: &Value, at: &str, depth: usize, count: &mut usize) {
        let Some(properties) = schema["properties"].as_object().filter(|_| depth < 8) else { return };
        for (name, field) in properties {
            let at = format!("{at}.{name}");
            let mut inner = field;
            let mut said = field["description"].is_string();
            loop {
                let parts = inner["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
                let part = parts.iter().find(|part| part["type"] != "null");
                let name = inner["$ref"].as_str().map(|name| name.trim_start_matches("#/$defs/"));
                inner = match (name, part, inner.get("items")) {
                    (Some(name), ..) => &root["$defs"][name],
                    (None, Some(part), _) => part,
                    (None, None, Some(items)) => items,
                    (None, None, None) => break,
                };
                said |= inner["description"].is_string();
            }
            assert!(said, "{at} is not explained");
            *count += 1;
            check(root, inner, &at, depth + 1, count);
        }
    }
    for kind in Kind::ALL {
        let schema = schema(*kind);
        let mut count = 0;
        check(&schema, &schema, kind.as_str(), 0, &mut count);
        assert!(count > 10, "{kind}");
        assert!(schema["description"].as_str().is_some_and(|words| words.len() > 10), "{kind}");
    }
}

#[test]
fn a_kind_of_route_is_explained_with_the_filters_that_it_can_have_and_no_others() {
    let filters = |kind: Kind| {
        let schema = schema(kind);
        let choices = schema["$defs"]["FilterKind"]["oneOf"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = choices.iter().map(|one| one["const"].as_str().unwrap().to_owned()).collect();
        let fields =
            schema["$defs"]["HttpRouteFilter"]["properties"].as_object().cloned().unwrap_or_default();
        let fields: Vec<_> = fields.keys().filter(|name| *name != "type").cloned().collect();
        (names, fields)
    };
    let all = |kinds: &[FilterKind]| {
        let mut fields: Vec<_> = kinds.iter().map(|kind| kind.field().to_owned()).collect();
        fields.sort();
        (kinds.iter().map(|kind| kind.name().to_owned()).collect::<Vec<_>>(), fields)
    };

    assert_eq!(filters(Kind::HttpRoute), all(&FilterKind::ALL));
    assert_eq!(filters(Kind::GrpcRoute), all(&FilterKind::GRPC));
    assert_eq!(filters(Kind::TcpRoute), (Vec::new(), Vec::new()));
    for kind in FilterKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
    for kind in [Kind::GrpcRoute, Kind::TcpRoute] {
        let text = schema(kind).to_string();
        for gone in ["urlRewrite", "cors", "HttpPathModifier", "CorsFilter", "HttpUrlRewrite"] {
            assert!(!text.contains(gone), "{kind}: {gone}");
        }
    }
    assert!(!schema(Kind::TcpRoute).to_string().contains("filters\""), "backends of TCP have no filters");
}
