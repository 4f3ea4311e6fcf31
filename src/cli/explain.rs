//! `mesh explain`: what can be written in an object, from the very types that read it.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::cli::exit::{Exit, refuse};
use crate::cli::output::{self, Tone};
use crate::model::resource::Kind;

/// Flags of `mesh explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// A kind, and a field of it: intention.spec.rules.paths
    #[arg(value_name = "KIND[.FIELD…]")]
    field: String,
    /// Show the fields below as well
    #[arg(long)]
    recursive: bool,
    /// How to print: text, or the JSON Schema (json)
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

/// How a schema is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// JSON Schema, draft 2020-12.
    Json,
}

/// Levels of a recursive listing: types may contain themselves.
const DEPTH_MAX: usize = 12;
/// Columns of text that is wrapped.
const WIDTH: usize = 100;

/// Explains a kind or a field.
///
/// # Errors
/// When there is no such kind or field; those of standard output.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let mut words = args.field.split('.').filter(|word| !word.is_empty());
    let kind = words.next().unwrap_or_default();
    let kind: Kind = kind.parse().map_err(|text: String| refuse(Exit::Usage, text))?;
    let path: Vec<&str> = words.collect();
    let schema = kind.schema().to_value();
    let book = Book { definitions: schema.get("$defs").and_then(Value::as_object) };
    let found = book.find(&schema, &path).map_err(|missing| refuse(Exit::NotFound, missing.words(kind)))?;
    if args.output == Form::Json {
        let mut whole = found.schema.clone();
        if let (Some(definitions), Some(whole)) = (schema.get("$defs"), whole.as_object_mut()) {
            whole.entry("$defs").or_insert_with(|| definitions.clone());
        }
        output::json(&whole)?;
        return Ok(Exit::Done);
    }
    let colour = output::colour(&std::io::stdout());
    output::write(&book.page((kind, &path), &found, args.recursive, colour))?;
    Ok(Exit::Done)
}

/// A schema's definitions.
#[derive(Clone, Copy)]
struct Book<'s> {
    definitions: Option<&'s Map<String, Value>>,
}

/// A field that was found.
struct Found<'s> {
    /// As its parent has it: description and default of the field itself.
    said: &'s Value,
    /// What is in it; of a list, in each of its items.
    schema: &'s Value,
    required: bool,
}

/// A field that was not.
struct Missing {
    after: String,
    name: String,
    known: Vec<String>,
}

impl Missing {
    fn words(&self, kind: Kind) -> String {
        let known = if self.known.is_empty() { "it has no fields".to_owned() } else { self.known.join(", ") };
        format!("there is no field '{}' in {kind}{}: expected {known}", self.name, self.after)
    }
}

impl<'s> Book<'s> {
    /// Follows references, takes the part that is not null, and leaves lists for their items.
    fn resolve(self, schema: &'s Value) -> &'s Value {
        let parts =
            ["anyOf", "allOf"].into_iter().filter_map(|key| schema.get(key).and_then(Value::as_array));
        let part = parts.flatten().find(|part| part.get("type").is_none_or(|kind| kind != "null"));
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix("#/$defs/"));
        let named = name.and_then(|name| self.definitions?.get(name));
        match (named.or(part), schema.get("items")) {
            (Some(next), _) | (None, Some(next)) => self.resolve(next),
            (None, None) => schema,
        }
    }

    fn find(self, root: &'s Value, path: &[&str]) -> Result<Found<'s>, Missing> {
        let mut found = Found { said: root, schema: root, required: false };
        for (depth, name) in path.iter().enumerate() {
            let schema = self.resolve(found.schema);
            let properties = schema.get("properties").and_then(Value::as_object);
            let bare = name.split('[').next().unwrap_or_default();
            let Some(said) = properties.and_then(|properties| properties.get(bare)) else {
                let before: Vec<_> = path.iter().take(depth).copied().collect();
                let after = if before.is_empty() { String::new() } else { format!(".{}", before.join(".")) };
                let known = properties.map(|all| all.keys().cloned().collect()).unwrap_or_default();
                return Err(Missing { after, name: bare.to_owned(), known });
            };
            found = Found { said, schema: self.resolve(said), required: is_required(schema, bare) };
        }
        Ok(found)
    }

    /// Returns the type as people write it: `[]Object`, `string`, `map[string]string`.
    fn kind(self, schema: &Value) -> String {
        if let Some(items) = schema.get("items") {
            return format!("[]{}", self.kind(items));
        }
        let parts =
            ["anyOf", "allOf"].into_iter().filter_map(|key| schema.get(key).and_then(Value::as_array));
        if let Some(part) = parts.flatten().find(|part| part.get("type").is_none_or(|kind| kind != "null")) {
            return self.kind(part);
        }
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix("#/$defs/"));
        if let Some(named) = name.and_then(|name| self.definitions?.get(name)) {
            return self.kind(named);
        }
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => Some(kind.as_str()),
            // Of a value that can be a number or a text, the text can say more.
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).rfind(|kind| *kind != "null"),
            _ => None,
        };
        match kind {
            Some("object") if schema.get("properties").is_some() => "Object".to_owned(),
            Some("object") => match schema.get("additionalProperties").filter(|more| more.is_object()) {
                Some(values) => format!("map[string]{}", self.kind(values)),
                None => "Object".to_owned(),
            },
            Some(kind) => kind.to_owned(),
            None if schema.get("oneOf").is_some() => "string".to_owned(),
            None => "any".to_owned(),
        }
    }

    fn page(self, (kind, path): (Kind, &[&str]), found: &Found<'_>, recursive: bool, colour: bool) -> String {
        let head = |title: &str| Tone::Strong.paint(title, colour);
        let mut text = format!("{}     {kind}\n", head("KIND:"));
        _ = writeln!(text, "{}  {}", head("VERSION:"), kind.api_version());
        if !path.is_empty() {
            let required = if found.required { "   (required)" } else { "" };
            let kind = self.kind(found.said);
            _ = writeln!(text, "{}    {} <{kind}>{required}", head("FIELD:"), path.join("."));
        }
        let inner = self.resolve(found.schema);
        let mut said: Vec<&str> = Vec::new();
        for schema in [found.said, inner] {
            said.extend(description(schema).filter(|words| !said.contains(words)));
        }
        if !said.is_empty() {
            _ = writeln!(text, "\n{}", head("DESCRIPTION:"));
            for words in said {
                text.push_str(&wrapped(words, 4));
            }
        }
        let facts = Self::facts(found.said, inner);
        if !facts.is_empty() {
            text.push('\n');
            for (title, fact) in &facts {
                _ = writeln!(text, "{}  {fact}", head(title));
            }
        }
        let choices = choices(inner);
        if !choices.is_empty() {
            _ = writeln!(text, "\n{}", head("ONE OF:"));
            for (choice, meaning) in choices {
                _ = write!(text, "  {choice}\n{}", wrapped(meaning, 6));
            }
        }
        if inner.get("properties").is_some() {
            _ = writeln!(text, "\n{}", head("FIELDS:"));
            self.fields(inner, (2, if recursive { DEPTH_MAX } else { 1 }), recursive, &mut text);
        }
        text
    }

    fn fields(self, schema: &Value, (indent, depth): (usize, usize), brief: bool, text: &mut String) {
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, said) in properties.into_iter().flatten() {
            let required = if is_required(schema, name) { " -required-" } else { "" };
            let pad = " ".repeat(indent);
            _ = write!(text, "{pad}{name}  <{}>{required}", self.kind(said));
            let inner = self.resolve(said);
            let facts = Self::facts(said, inner);
            for (title, fact) in &facts {
                _ = write!(text, "  {} {fact}", title.trim_end_matches(':').to_ascii_lowercase());
            }
            let names: Vec<_> = choices(inner).into_iter().map(|(choice, _)| choice).collect();
            if !names.is_empty() {
                _ = write!(text, "  one of {}", names.join(", "));
            }
            text.push('\n');
            if brief {
                if depth > 1 {
                    self.fields(inner, (indent + 2, depth - 1), brief, text);
                }
                continue;
            }
            if let Some(words) = description(said).or_else(|| description(inner)) {
                text.push_str(&wrapped(words, indent + 4));
            }
            text.push('\n');
        }
    }

    /// Returns what can be said in a word: default and limits.
    fn facts(said: &Value, inner: &Value) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(default) = said.get("default").filter(|default| !is_nothing(default)) {
            facts.push(("DEFAULT:", plain(default)));
        }
        let limits = [said, inner].into_iter().flat_map(|schema| {
            // The length of a list is one of entries, and of a text one of bytes, whatever else a schema says.
            let is_list = schema.get("items").is_some();
            let limit = |key: &str, words: &str| {
                let applies = match key.get(3..) {
                    Some("Items") => is_list,
                    Some("Length") => !is_list,
                    Some(_) | None => true,
                };
                schema.get(key).filter(|_| applies).map(|limit| format!("{words} {}", plain(limit)))
            };
            [
                limit("minItems", "entries at least"),
                limit("maxItems", "entries at most"),
                limit("minLength", "bytes at least"),
                limit("maxLength", "bytes at most"),
                limit("minimum", "from"),
                limit("maximum", "to"),
                limit("pattern", "like"),
            ]
        });
        let mut seen: Vec<String> = Vec::new();
        for limit in limits.flatten() {
            if !seen.contains(&limit) {
                seen.push(limit);
            }
        }
        if !seen.is_empty() {
            facts.push(("LIMITS:", seen.join(", ")));
        }
        facts
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|required| required == name))
}

fn description(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str).filter(|words| !words.is_empty())
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns what a field may be, with what each means.
fn choices(schema: &Value) -> Vec<(String, &str)> {
    let each = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<_> = each
        .flat_map(|choice| {
            let said = description(choice).unwrap_or_default();
            let one = choice.get("const").map(|one| (plain(one), said));
            let some = choice.get("enum").and_then(Value::as_array).into_iter().flatten();
            one.into_iter().chain(some.map(move |one| (plain(one), said))).collect::<Vec<_>>()
        })
        .collect();
    let all = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    found.extend(all.map(|one| (plain(one), "")));
    found
}

/// Returns text in lines of some width, indented; empty for no text.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let mut line = " ".repeat(indent);
        for word in paragraph.split_whitespace() {
            if line.len() + word.len() + 1 > WIDTH && !line.trim().is_empty() {
                out.push_str(line.trim_end());
                out.push('\n');
                line = " ".repeat(indent);
            }
            line.push_str(word);
            line.push(' ');
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
