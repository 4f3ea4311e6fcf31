//! The filter language: terms joined by spaces, all of which must hold; `-` before one negates it.
//!
//! `svc:pay*` `src:` `dst:` `node:` `zone:` `kind:` `is:failing` compare text, with `*` for anything;
//! `rps>10` `err%>1` `ok%<99` `p99>200ms` `p50<5ms` `denied>0` compare numbers; any other word is looked for everywhere.

use crate::top::health::Status;

/// Most characters of a filter: what fits in a line anyone reads.
pub const FILTER_CHARS_MAX: usize = 200;

/// What a filter can ask of one row. Empty fields answer no question.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Services it is of.
    pub services: Vec<String>,
    /// Who calls.
    pub source: String,
    /// Who is called.
    pub destination: String,
    /// Nodes it is on.
    pub nodes: Vec<String>,
    /// Failure domains it is in.
    pub zones: Vec<String>,
    /// Its kind or protocol.
    pub kind: String,
    /// How it is.
    pub status: Option<Status>,
    /// Requests per second.
    pub rps: Option<f64>,
    /// Share of success.
    pub success: Option<f64>,
    /// Percentiles, ms: 50, 95, 99.
    pub latency_ms: [Option<f64>; 3],
    /// Denied per second.
    pub denied: Option<f64>,
    /// Whatever else is written on it.
    pub text: String,
}

/// A filter that was understood. The default one lets everything through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Text(Field, String),
    Number(Quantity, Order, f64),
    Word(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Service,
    Source,
    Destination,
    Node,
    Zone,
    Kind,
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantity {
    Rps,
    Error,
    Success,
    P50,
    P95,
    P99,
    Denied,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Above,
    Below,
}

/// Names of the text fields, for completion.
pub const FIELDS: [&str; 7] = ["svc:", "src:", "dst:", "node:", "zone:", "kind:", "is:"];
/// Names of the quantities, for completion.
pub const QUANTITIES: [&str; 7] = ["rps>", "err%>", "ok%<", "p50>", "p95>", "p99>", "denied>"];

/// The part of a filter that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a filter: try svc:NAME, err%>1, p99>200ms, is:failing or a word")]
pub struct Error(pub String);

impl Filter {
    /// Parses a filter.
    ///
    /// # Errors
    /// When a term has the form of a comparison and its field or number is unknown.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let terms = text.split_whitespace().map(term).collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    /// Returns whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Returns whether a row with these facts is let through.
    pub fn admits(&self, facts: &Facts) -> bool {
        self.terms.iter().all(|term| term.test.holds(facts) != term.negated)
    }
}

fn term(text: &str) -> Result<Term, Error> {
    let wrong = || Error(text.to_owned());
    let (negated, body) = match text.strip_prefix('-') {
        Some(body) if !body.is_empty() => (true, body),
        _ => (false, text),
    };
    let body = body.to_lowercase();
    if let Some(at) = body.find(['>', '<']) {
        let (name, rest) = body.split_at(at);
        let order = if rest.starts_with('>') { Order::Above } else { Order::Below };
        let quantity = quantity(name).ok_or_else(wrong)?;
        let number = number(rest.trim_start_matches(['>', '<', '='])).ok_or_else(wrong)?;
        return Ok(Term { negated, test: Test::Number(quantity, order, number) });
    }
    if let Some((name, value)) = body.split_once(':') {
        let field = field(name).ok_or_else(wrong)?;
        return Ok(Term { negated, test: Test::Text(field, value.to_owned()) });
    }
    Ok(Term { negated, test: Test::Word(body) })
}

fn field(name: &str) -> Option<Field> {
    Some(match name {
        "svc" | "service" => Field::Service,
        "src" | "source" | "from" => Field::Source,
        "dst" | "destination" | "to" => Field::Destination,
        "node" => Field::Node,
        "zone" => Field::Zone,
        "kind" | "proto" => Field::Kind,
        "is" | "status" => Field::Status,
        _ => return None,
    })
}

fn quantity(name: &str) -> Option<Quantity> {
    Some(match name {
        "rps" => Quantity::Rps,
        "err%" | "err" => Quantity::Error,
        "ok%" | "ok" => Quantity::Success,
        "p50" => Quantity::P50,
        "p95" => Quantity::P95,
        "p99" => Quantity::P99,
        "denied" => Quantity::Denied,
        _ => return None,
    })
}

/// Reads `10`, `1.5k`, `200ms`, `2s`, `0.7%`.
fn number(text: &str) -> Option<f64> {
    let units = [("ms", 1.0), ("us", 0.001), ("s", 1000.0), ("m", 60_000.0), ("k", 1000.0), ("%", 1.0)];
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)))
        .unwrap_or((text, 1.0));
    digits.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| value * factor)
}

impl Test {
    fn holds(&self, facts: &Facts) -> bool {
        match self {
            Self::Text(field, pattern) => field.texts(facts).iter().any(|text| matches(pattern, text)),
            Self::Number(quantity, order, limit) => quantity.of(facts).is_some_and(|value| match order {
                Order::Above => value > *limit,
                Order::Below => value < *limit,
            }),
            Self::Word(word) => mentions(facts, word),
        }
    }
}

impl Field {
    fn texts(self, facts: &Facts) -> Vec<&str> {
        match self {
            Self::Service => {
                let mut names: Vec<&str> = facts.services.iter().map(String::as_str).collect();
                names.extend(
                    [facts.source.as_str(), facts.destination.as_str()].iter().filter(|s| !s.is_empty()),
                );
                names
            }
            Self::Source => vec![&facts.source],
            Self::Destination => vec![&facts.destination],
            Self::Node => facts.nodes.iter().map(String::as_str).collect(),
            Self::Zone => facts.zones.iter().map(String::as_str).collect(),
            Self::Kind => vec![&facts.kind],
            Self::Status => facts.status.map(Status::word).into_iter().collect(),
        }
    }
}

impl Quantity {
    fn of(self, facts: &Facts) -> Option<f64> {
        let [p50, p95, p99] = facts.latency_ms;
        match self {
            Self::Rps => facts.rps,
            Self::Error => facts.success.map(|share| (1.0 - share) * 100.0),
            Self::Success => facts.success.map(|share| share * 100.0),
            Self::P50 => p50,
            Self::P95 => p95,
            Self::P99 => p99,
            Self::Denied => facts.denied,
        }
    }
}

fn mentions(facts: &Facts, word: &str) -> bool {
    let lists = facts.services.iter().chain(&facts.nodes).chain(&facts.zones);
    let singles = [&facts.source, &facts.destination, &facts.kind, &facts.text];
    let said = facts.status.is_some_and(|status| status.word() == word);
    said || lists.chain(singles).any(|text| text.to_lowercase().contains(word))
}

/// Whole match, `*` for anything; without one, a beginning is enough.
fn matches(pattern: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    if !pattern.contains('*') {
        return text.starts_with(pattern);
    }
    let mut rest = text.as_str();
    let mut parts = pattern.split('*').peekable();
    let mut first = true;
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        if last {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(0) => rest = rest.get(part.len()..).unwrap_or_default(),
            Some(at) if !first => rest = rest.get(at + part.len()..).unwrap_or_default(),
            _ => return false,
        }
        first = false;
    }
    true
}
