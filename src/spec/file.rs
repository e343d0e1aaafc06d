//! Reading one spec file by itself, so that what is wrong in it is named with file, line and column.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Error as YamlError, Location, MessageFormatter, UserMessageFormatter};

use super::Spec;
use crate::error::Error;

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

/// Reads a file as any type.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Error> {
    // In free-form settings `on`, `1_000` and `0755` are text, as serde_yaml has it: it wrote the stored spec
    // without quotes around them.
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
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
    let what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let explained = match error.location() {
        Some(at) => Error::usage(format!("{file}:{}:{}: {what}", at.line(), at.column())).evidence(excerpt(
            text,
            at.line(),
            at.column(),
            at.span().len(),
        )),
        None => Error::usage(format!("{file}: {what}")),
    };
    match hint {
        Some(hint) => explained.hint(hint),
        None => explained,
    }
}

fn describe(error: &YamlError) -> (String, Option<String>) {
    match error.without_snippet() {
        YamlError::AliasError { error, .. } => describe(error),
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let fields = Some(format!("the fields here are {}", expected.join(", ")));
            (format!("unknown field \"{field}\"{}", did_you_mean(field, expected)), fields)
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            let known = expected.join(", ");
            (format!("\"{variant}\" is not one of {known}{}", did_you_mean(variant, expected)), None)
        }
        YamlError::SerdeMissingField { field, .. } => (format!("the field \"{field}\" is missing"), None),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("the field \"{key}\" is given twice"), Some("keep one of the two".into()))
        }
        YamlError::MultipleDocuments { .. } => {
            let hint = "give each its own file, they are merged in the order of -f";
            ("more than one YAML document".into(), Some(hint.into()))
        }
        YamlError::Unexpected { expected: "mapping start", .. } => ("expected a map of fields here".into(), None),
        YamlError::Unexpected { expected: "sequence start", .. } => ("expected a list here".into(), None),
        YamlError::Unexpected { expected: "string scalar", .. } => ("expected text here".into(), None),
        YamlError::NullIntoString { .. } => ("expected text here, found nothing".into(), None),
        YamlError::InvalidScalar { ty: "u8", .. } => ("expected a whole number from 0 to 255".into(), None),
        YamlError::InvalidBooleanStrict { .. } => ("expected true or false".into(), None),
        other => {
            let what = UserMessageFormatter.format_message(other).into_owned();
            let tabs = what.contains("tabs disallowed");
            (what, tabs.then(|| "YAML is indented with spaces".into()))
        }
    }
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

/// The line in question, and below it a caret for each character meant.
fn excerpt(text: &str, line: u64, column: u64, len: u64) -> String {
    let Some(source) = text.lines().nth(index(line)) else { return String::new() };
    let source: String = source.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = index(column).min(source.chars().count());
    let carets = usize::try_from(len).unwrap_or(1).clamp(1, (source.chars().count() - column).max(1));
    let number = line.to_string();
    format!("{number} | {source}\n{} | {}{}", " ".repeat(number.len()), " ".repeat(column), "^".repeat(carets))
}
