//! What is wrong with a manifest, in the words of this program.

use crate::cli::manifest::unsupported;

/// Returns what a value of one of Rust's types is to people.
pub(crate) fn words_of(ty: &str) -> String {
    match ty {
        "u8" => "a number of 0 to 255".to_owned(),
        "u16" => "a number of 0 to 65535".to_owned(),
        "u32" => format!("a number of 0 to {}", u32::MAX),
        "u64" | "u128" | "usize" => "a number of 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "bool" => "'true' or 'false'".to_owned(),
        other => format!("a valid {other}"),
    }
}

/// Says that a mapping has a field that it should not have.
pub(crate) fn unknown_field(field: &str, known: &[&str]) -> String {
    match unsupported::field(field) {
        Some(sentence) => format!("unknown field '{field}': {sentence}"),
        None => format!("unknown field '{field}': {}", expected(known)),
    }
}

/// Says that a value is none of a list.
pub(crate) fn no_choice(value: &str, known: &[&str]) -> String {
    match unsupported::choice(value) {
        Some(sentence) => format!("'{value}': {sentence}"),
        None => format!("'{value}' is not one of the choices: {}", expected(known)),
    }
}

fn expected(choices: &[&str]) -> String {
    match choices {
        [] => "none is expected here".to_owned(),
        choices => format!("expected {}", choices.join(", ")),
    }
}

/// Says what is wrong in the words of this program.
#[expect(clippy::wildcard_enum_match_arm, reason = "the parser's list of errors is open")]
pub(crate) fn explain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    match error {
        E::SerdeUnknownField { field, expected: known, .. } => unknown_field(field, known),
        E::SerdeUnknownVariant { variant, expected: known, .. } => no_choice(variant, known),
        E::SerdeMissingField { field, .. } => format!("the field '{field}' is missing"),
        E::SerdeInvalidType { unexpected, expected, .. }
        | E::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("this is {unexpected}: expected {expected}")
        }
        E::DuplicateMappingKey { key: Some(key), .. } => format!("the field '{key}' is there twice"),
        E::Unexpected { expected, .. } => format!("expected {expected}"),
        E::InvalidScalar { ty, .. } => format!("this is not {}", words_of(ty)),
        E::NullIntoString { .. } => "this value is empty: expected text".to_owned(),
        E::UnknownAnchor { .. } => "this alias (*) has no anchor (&)".to_owned(),
        E::Message { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
