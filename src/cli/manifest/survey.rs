//! A document that cannot be read → everything that is wrong in it, not only that at which the reader stopped.
//!
//! The reader's word counts: only a document that it has refused is looked at here. It is compared with the schema of its kind,
//! field by field; what does not fit is noted and left out, and what is left, as far as it makes an object, is validated.

use serde_json::{Map, Value};

use crate::cli::manifest::place::{self, Document, Misplaced, Spot, Step};
use crate::cli::manifest::words::{no_choice, unknown_field, words_of};
use crate::logic::validate;
use crate::logic::validate::problem::Problem;
use crate::model::resource::{Kind, Resource};

/// Faults of one document that are looked for: whoever made more of them has not begun to write it.
const FAULTS_MAX: usize = 50;
/// Levels of a schema that are followed; ours have a third of them.
const DEPTH_MAX: usize = 32;

/// Returns all that is wrong in a document of this kind, ordered by place. `first` is what its reader says.
pub(crate) fn faults(document: &Document<'_>, kind: Kind, first: Misplaced) -> Vec<Misplaced> {
    let mut all = vec![first];
    if let Ok(value) = serde_saphyr::from_str::<Value>(document.text) {
        let schema = kind.schema().to_value();
        let mut survey = Survey { root: &schema, found: Vec::new(), path: Vec::new() };
        let left = survey.look(&schema, &value);
        let faults = survey.found.iter().map(|fault| fault.placed(document));
        let mut known = all.clone();
        for (place, message) in faults {
            // The reader tells of one of them too, where it is missing perhaps by another place.
            let told = known.iter().position(|(at, said)| *at == place || *said == message);
            match told {
                Some(index) => _ = known.remove(index),
                None => all.push((place, message)),
            }
        }
        all.extend(left.map(|left| problems(document, left, &survey.found)).unwrap_or_default());
    }
    all.sort_by_key(|(place, _)| (place.line, place.column));
    all
}

/// Validates what is left of a document, and keeps what is not about what was left out.
fn problems(document: &Document<'_>, mut left: Value, found: &[Found]) -> Vec<Misplaced> {
    if let Some(fields) = left.as_object_mut() {
        fields.remove("status");
    }
    let Ok(resource) = serde_json::from_value::<Resource>(left) else { return Vec::new() };
    let is_apart = |problem: &Problem| {
        let about = place::steps(&problem.path);
        !found.iter().any(|fault| fault.path.starts_with(&about) || about.starts_with(&fault.path))
    };
    let wrong = validate::written(&resource).into_iter().filter(Problem::is_error).filter(is_apart);
    let placed = |problem: Problem| {
        let place = place::find(document, &problem.path);
        (place, format!("{}: {}", problem.path, problem.message))
    };
    wrong.take(FAULTS_MAX).map(placed).collect()
}

/// Something that does not fit the schema, and was left out.
struct Found {
    path: Vec<Step>,
    spot: Spot,
    message: String,
}

impl Found {
    fn placed(&self, document: &Document<'_>) -> Misplaced {
        (place::find_at(document, &self.path, self.spot), self.message.clone())
    }
}

/// A walk over a value and its schema.
struct Survey<'s> {
    root: &'s Value,
    found: Vec<Found>,
    path: Vec<Step>,
}

impl<'s> Survey<'s> {
    /// Returns what is left of a value once all that does not fit is out; `None` when nothing is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what fits is listed; all else does not")]
    fn look(&mut self, schema: &'s Value, value: &Value) -> Option<Value> {
        let schema = self.resolved(schema, value)?;
        if let Some(choices) = choices(schema) {
            return self.choice(&choices, value);
        }
        let kinds = kinds(schema);
        let has = |kind: &str| kinds.contains(&kind);
        match value {
            Value::Null if has("null") || kinds.is_empty() => Some(Value::Null),
            Value::Object(fields) if has("object") => self.mapping(schema, fields),
            Value::Array(items) if has("array") => {
                let of = schema.get("items").unwrap_or(&Value::Null);
                let mut left = Vec::new();
                let mut whole = true;
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    let item = self.look(of, item);
                    self.path.pop();
                    whole &= item.is_some();
                    left.extend(item);
                }
                // Without one of its items, the places of those behind it would not be theirs.
                whole.then_some(Value::Array(left))
            }
            Value::Bool(_) if has("boolean") => Some(value.clone()),
            Value::Number(number) if has("integer") || has("number") => {
                let fits = number.as_i64().is_some_and(|number| in_range(schema, number));
                if fits { Some(value.clone()) } else { self.wrong(format!("this is not {}", words(schema))) }
            }
            Value::String(text) if has("string") || kinds.is_empty() => Some(Value::String(text.clone())),
            Value::String(text) if has("integer") => match text.parse::<i64>() {
                Ok(number) if in_range(schema, number) => Some(number.into()),
                Ok(_) | Err(_) => self.wrong(format!("this is not {}", words(schema))),
            },
            // Whatever is written as a plain word can be read as text. Which word it was is not known of `yes` and `no`.
            Value::Number(_) if has("string") => Some(Value::String(value.to_string())),
            Value::Bool(_) if has("string") => None,
            _ if kinds.is_empty() => Some(value.clone()),
            _ => self.wrong(format!("this is {}: expected {}", what(value), words(schema))),
        }
    }

    fn mapping(&mut self, schema: &'s Value, fields: &Map<String, Value>) -> Option<Value> {
        let empty = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let others = schema.get("additionalProperties");
        let mut left = Map::new();
        let mut lost = Vec::new();
        for (name, value) in fields {
            self.path.push(Step::Key(name.clone()));
            let of = schema.get("properties").and_then(|known| known.get(name));
            match of.or_else(|| others.filter(|others| others.is_object())) {
                Some(of) => match self.look(of, value) {
                    Some(value) => _ = left.insert(name.clone(), value),
                    None => lost.push(name),
                },
                None if others == Some(&Value::Bool(false)) => {
                    let expected = known.keys().map(String::as_str).collect::<Vec<_>>();
                    self.note(Spot::Key, unknown_field(name, &expected));
                }
                None => _ = left.insert(name.clone(), value.clone()),
            }
            self.path.pop();
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let mut whole = true;
        for name in required.filter_map(Value::as_str).filter(|name| !left.contains_key(*name)) {
            whole = false;
            if !lost.iter().any(|lost| *lost == name) {
                self.note(Spot::Key, format!("the field '{name}' is missing"));
            }
        }
        whole.then_some(Value::Object(left))
    }

    fn choice(&mut self, choices: &[&str], value: &Value) -> Option<Value> {
        match value {
            Value::String(text) if choices.contains(&text.as_str()) => Some(value.clone()),
            Value::String(text) => self.wrong(no_choice(text, choices)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong(format!("this is {}: expected {}", what(value), choices.join(", ")))
            }
        }
    }

    /// Follows references, and takes the side of an alternative that is not about nothing.
    fn resolved(&self, mut schema: &'s Value, value: &Value) -> Option<&'s Value> {
        for _ in 0..DEPTH_MAX {
            let reference = schema.get("$ref").and_then(Value::as_str);
            let parts = schema.get("anyOf").and_then(Value::as_array);
            schema = match (reference, parts) {
                (Some(name), _) => self.root.pointer(name.trim_start_matches('#'))?,
                (None, Some(parts)) => {
                    let is_null = |part: &&Value| part.get("type").is_some_and(|kind| kind == "null");
                    parts.iter().find(|part| is_null(part) == value.is_null()).or(parts.first())?
                }
                (None, None) => return Some(schema),
            };
        }
        None
    }

    fn wrong(&mut self, message: String) -> Option<Value> {
        self.note(Spot::Value, message);
        None
    }

    fn note(&mut self, spot: Spot, message: String) {
        if self.found.len() < FAULTS_MAX {
            self.found.push(Found { path: self.path.clone(), spot, message });
        }
    }
}

fn kinds(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}

/// Returns the values of a closed list; `None` for any other schema.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return Some(all.iter().filter_map(Value::as_str).collect());
    }
    let parts = schema.get("oneOf").and_then(Value::as_array)?;
    // Where some choices are explained and others are not, the latter come as one list.
    let of = |part| choices(part).or_else(|| Some(vec![Value::as_str(Value::get(part, "const")?)?]));
    parts.iter().map(of).collect::<Option<Vec<_>>>().map(|parts| parts.concat())
}

fn in_range(schema: &Value, number: i64) -> bool {
    let (least, most) = match integer(schema) {
        "u8" => (0, i64::from(u8::MAX)),
        "u16" => (0, i64::from(u16::MAX)),
        "u32" => (0, i64::from(u32::MAX)),
        "u64" => (0, i64::MAX),
        "i32" => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    (least..=most).contains(&number)
}

/// Returns which of Rust's integers a schema is of.
fn integer(schema: &Value) -> &'static str {
    match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => "u8",
        Some("uint16") => "u16",
        Some("uint32") => "u32",
        Some("uint64" | "uint") => "u64",
        Some("int32") => "i32",
        Some(_) | None => "i64",
    }
}

/// Returns what is expected, for people.
fn words(schema: &Value) -> String {
    let kinds = kinds(schema);
    match kinds.iter().find(|kind| **kind != "null") {
        Some(&"object") => "a mapping of fields".to_owned(),
        Some(&"array") => "a list".to_owned(),
        Some(&"boolean") => words_of("bool"),
        Some(&"string") => "text".to_owned(),
        Some(_) | None => words_of(integer(schema)),
    }
}

/// Returns what a value is, for people.
fn what(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(text) => format!("'{text}'"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}
