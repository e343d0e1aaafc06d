//! Reading one spec file by itself, so that what is wrong in it is named with file, line and column.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Error as YamlError, Location, MessageFormatter, UserMessageFormatter};

use super::Spec;
use super::place::Place;
use crate::base::error::Error;

/// What a spec file says, checked against the spec: only the fields that are in the file.
///
/// # Errors
/// Wrong usage when it is not YAML, or not a spec; the message starts with `file:line:column`.
pub(super) fn read(text: &str, file: &str) -> Result<Value, Error> {
    let said: Value = parse(text, file)?;
    if said.is_null() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let spec: Spec = parse(text, file)?;
    let typed = serde_json::to_value(spec).map_err(|e| Error::usage(format!("{file}: {e}")))?;
    Ok(only_said(said, typed))
}

/// The most values of a spec, those that aliases repeat included: a spec of twenty clusters has a few hundred.
const VALUES_MAX: usize = 20_000;

/// Reads a file as any type.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Error> {
    // In free-form settings `on`, `1_000` and `0755` are text, as serde_yaml has it: it wrote the stored spec
    // without quotes around them.
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        budget: serde_saphyr::budget! { max_nodes: VALUES_MAX },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| explain(&e, text, file))
}

/// The typed values of the fields that were said. The untyped reading alone would make a number of
/// `version: 1.30`, the typed one alone would add every default.
fn only_said(said: Value, typed: Value) -> Value {
    match (said, typed) {
        (Value::Object(said), Value::Object(mut typed)) => Value::Object(
            said.into_iter()
                .filter_map(|(key, said)| {
                    let typed = typed.remove(&key)?;
                    Some((key, only_said(said, typed)))
                })
                .collect(),
        ),
        (_, typed) => typed,
    }
}

/// An error of the YAML reader in the user's terms.
fn explain(error: &YamlError, text: &str, file: &str) -> Error {
    let (mut what, mut hint) = describe(error);
    if matches!(error, YamlError::Unexpected { .. }) && error.location().is_some_and(|at| ends_there(text, at)) {
        what.push_str(", found nothing");
        hint = Some("leave the field out, or fill it".into());
    }
    // The text in a message is the file's: it may hold control characters, which a terminal would obey.
    let what = clipped(what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect());
    let explained = match error.location() {
        Some(at) => Error::usage(format!("{file}:{}:{}: {what}", at.line(), at.column()))
            .evidence(excerpt(text, Place::of(at))),
        None => Error::usage(format!("{file}: {what}")),
    };
    match hint {
        Some(hint) => explained.hint(hint),
        None => explained,
    }
}

/// What is wrong, and what would be right.
fn describe(error: &YamlError) -> (String, Option<String>) {
    let told = |what: &str, right: &str| (what.to_owned(), Some(right.to_owned()));
    match error.without_snippet() {
        YamlError::AliasError { error, .. } => describe(error),
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let fields = Some(format!("the fields here are {}", expected.join(", ")));
            (format!("unknown field \"{field}\"{}", did_you_mean(field, expected)), fields)
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            let known = expected.join(", ");
            let what = format!("\"{variant}\" is not one of {known}{}", did_you_mean(variant, expected));
            (what, Some(format!("write one of {known}")))
        }
        YamlError::SerdeMissingField { field, .. } => {
            (format!("the field \"{field}\" is missing"), Some(format!("add {field}: to this map")))
        }
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("the field \"{key}\" is given twice"), Some("keep one of the two".into()))
        }
        YamlError::MultipleDocuments { .. } => {
            told("more than one YAML document", "give each its own file, they are merged in the order of -f")
        }
        YamlError::Unexpected { expected: "mapping start", .. } => {
            told("expected a map of fields here", "write field: value lines, or {field: value}")
        }
        YamlError::Unexpected { expected: "sequence start", .. } => {
            told("expected a list here", "write a line - ITEM for each, or [ITEM, ITEM]")
        }
        YamlError::Unexpected { expected: "string scalar", .. } => {
            told("expected text here", "write plain or quoted text")
        }
        YamlError::NullIntoString { .. } => {
            told("expected text here, found nothing", "leave the field out, or fill it")
        }
        YamlError::InvalidScalar { ty: "u8", .. } => {
            told("expected a whole number from 0 to 255", "write digits alone, such as 2")
        }
        YamlError::InvalidBooleanStrict { .. } => {
            told("expected true or false", "write true or false, without quotes")
        }
        YamlError::NonFiniteFloat { .. } => {
            told("expected a finite number here", "write digits, or quote it as text")
        }
        YamlError::UnknownAnchor { .. } => told(
            "an alias of what has no anchor",
            "anchor it first, as &NAME; text that begins with * has to be quoted",
        ),
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. }
        | YamlError::AliasReplayCounterOverflow { .. } => {
            let what = format!("too much for a spec: more than {VALUES_MAX} values, or too deep");
            (what, Some("write it out, without aliases within aliases".into()))
        }
        other => {
            let what = UserMessageFormatter.format_message(other).into_owned();
            let right = syntax_hint(&what);
            (what, Some(right.into()))
        }
    }
}

/// What would be right, by the words of the YAML reader.
fn syntax_hint(what: &str) -> &'static str {
    const HINTS: [(&str, &str); 7] = [
        ("tabs disallowed", "YAML is indented with spaces"),
        ("unclosed bracket", "close it; text with brackets in it has to be quoted"),
        ("unclosed quote", "close it; text with a quote in it is put into the other kind of quotes"),
        ("did not find expected key", "the fields of one map begin in the same column, each as field: value"),
        ("DNS label", "write a name such as shop or eu-1"),
        ("IPv4", "write a subnet such as 172.30.0.0/24, or auto"),
        ("address bits behind its prefix", "write the network's own address, or auto"),
    ];
    let known = HINTS.iter().find(|(words, _)| what.contains(words));
    known.map_or("YAML is field: value lines, indented with spaces; other text has to be quoted", |(_, hint)| hint)
}

/// `, did you mean "…"?` for the expected word that is nearest, if one is near.
pub(super) fn did_you_mean(word: &str, expected: &[&str]) -> String {
    expected
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(nearness, _)| *nearness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!(", did you mean \"{candidate}\"?"))
}

/// Whether a line has nothing behind a field's colon: what was below it is commented out, mostly.
fn ends_there(text: &str, at: Location) -> bool {
    let line = text.lines().nth(index(at.line())).unwrap_or_default();
    let rest: String = line.chars().skip(index(at.column())).collect();
    let colon = line.chars().nth(index(at.column())) == Some(':');
    let rest = rest.trim_start_matches(':').trim_start();
    colon && (rest.is_empty() || rest.starts_with('#'))
}

/// A number of a line or column, counted from 0.
fn index(number: u64) -> usize {
    usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX)
}

/// The line in question, or what is around the place in one that is too long to read, and below it a caret for each
/// character meant.
pub(super) fn excerpt(text: &str, Place { line, column, length }: Place) -> String {
    let Some(source) = text.lines().nth(index(line)) else { return String::new() };
    let source: Vec<char> = source.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = index(column).min(source.len());
    let from = column.saturating_sub(if source.len() > EXCERPT { EXCERPT / 2 } else { EXCERPT });
    let to = source.len().min(from + EXCERPT);
    let carets = usize::try_from(length).unwrap_or(1).clamp(1, (to - column).max(1));
    let dots = |cut: bool| if cut { "…" } else { "" };
    let (before, after) = (dots(from > 0), dots(to < source.len()));
    let shown: String = source[from..to].iter().collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(before.chars().count() + column - from);
    format!("{number} | {before}{shown}{after}\n{margin} | {indent}{}", "^".repeat(carets))
}

/// The most characters of a line, and of a message, that are shown.
const EXCERPT: usize = 240;

/// A message that quotes what is too long to read, without the rest of it.
pub(super) fn clipped(message: String) -> String {
    const LONGEST: usize = 2 * EXCERPT;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}
