//! Reads one spec file separately, so that errors name file, line and column.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Error as YamlError, Location, MessageFormatter, UserMessageFormatter};

use super::Spec;
use super::place::Place;
use crate::base::error::Error;

/// Returns the fields in a spec file, checked against the spec.
///
/// # Errors
/// A usage error if it is not YAML, or not a spec; the message starts with `file:line:column`.
pub(super) fn read(text: &str, file: &str) -> Result<Value, Error> {
    let said: Value = parse(text, file)?;
    if said.is_null() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let spec: Spec = parse(text, file)?;
    let typed = serde_json::to_value(spec).map_err(|e| Error::usage(format!("{file}: {e}")))?;
    Ok(only_said(said, typed))
}

/// The maximum number of values, including those that aliases repeat: a spec of twenty clusters has a few hundred.
const VALUES_MAX: usize = 20_000;

/// The fix for a spec with more than one document.
const ONE_DOCUMENT: &str = "use a file for each; files are merged in the order of -f";

/// Parses a file that is not a spec, but as strict.
///
/// # Errors
/// A usage error; the message starts with `file:line:column`.
#[cfg(feature = "cli")]
pub(crate) fn parse_file<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Error> {
    parse(text, file).map_err(|mut error: Error| {
        error.message = error.message.replace("too large for a spec", "too large");
        if error.hint.as_deref() == Some(ONE_DOCUMENT) {
            error.hint = Some("use a file for each".into());
        }
        error
    })
}

/// Parses a file as any type.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Error> {
    // In free-form settings, `on`, `1_000` and `0755` are text, as in serde_yaml, which writes the stored spec
    // without quoting them.
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        budget: serde_saphyr::budget! { max_nodes: VALUES_MAX },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| explain(&e, text, file))
}

/// Returns the typed values of the fields in the file. Untyped parsing alone would turn `version: 1.30` into a
/// number; typed parsing alone would add every default.
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

/// Converts an error of the YAML parser into an error for the user.
fn explain(error: &YamlError, text: &str, file: &str) -> Error {
    let (mut what, mut hint) = describe(error);
    if matches!(error, YamlError::Unexpected { .. }) && error.location().is_some_and(|at| ends_there(text, at)) {
        what.push_str(", found nothing");
        hint = Some("remove the field, or give it a value".into());
    }
    // The message contains text of the file: control characters in it could affect a terminal.
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

/// Returns what is wrong, and the fix.
fn describe(error: &YamlError) -> (String, Option<String>) {
    let told = |what: &str, right: &str| (what.to_owned(), Some(right.to_owned()));
    match error.without_snippet() {
        YamlError::AliasError { error, .. } => describe(error),
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let fields = Some(format!("valid here: {}", expected.join(", ")));
            (format!("unknown field \"{field}\"{}", did_you_mean(field, expected)), fields)
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            let known = expected.join(", ");
            let what = format!("\"{variant}\" is not one of {known}{}", did_you_mean(variant, expected));
            (what, Some(format!("use one of {known}")))
        }
        YamlError::SerdeMissingField { field, .. } => {
            (format!("missing field \"{field}\""), Some(format!("add {field}: to this map")))
        }
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("field \"{key}\" is set twice"), Some("remove one of them".into()))
        }
        YamlError::MultipleDocuments { .. } => told("more than one YAML document", ONE_DOCUMENT),
        YamlError::Unexpected { expected: "mapping start", .. } => {
            told("expected a map of fields", "write field: value lines, or {field: value}")
        }
        YamlError::Unexpected { expected: "sequence start", .. } => {
            told("expected a list", "write one line - ITEM per item, or [ITEM, ITEM]")
        }
        YamlError::Unexpected { expected: "string scalar", .. } => {
            told("expected text", "write plain or quoted text")
        }
        YamlError::NullIntoString { .. } => {
            told("expected text, found nothing", "remove the field, or give it a value")
        }
        YamlError::InvalidScalar { ty: "u8", .. } => {
            told("expected a whole number from 0 to 255", "write digits only, such as 2")
        }
        YamlError::InvalidBooleanStrict { .. } => {
            told("expected true or false", "write true or false, without quotes")
        }
        YamlError::NonFiniteFloat { .. } => {
            told("expected a finite number", "write digits, or quote the value as text")
        }
        YamlError::UnknownAnchor { .. } => {
            told("alias without an anchor", "define the anchor first, as &NAME; quote text that begins with *")
        }
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. }
        | YamlError::AliasReplayCounterOverflow { .. } => {
            let what = format!("too large for a spec: more than {VALUES_MAX} values, or nested too deeply");
            (what, Some("write it without nested aliases".into()))
        }
        other => {
            let what = UserMessageFormatter.format_message(other).into_owned();
            let right = syntax_hint(&what);
            (what, Some(right.into()))
        }
    }
}

/// Returns the fix for a message of the YAML parser.
fn syntax_hint(what: &str) -> &'static str {
    const HINTS: [(&str, &str); 7] = [
        ("tabs disallowed", "indent YAML with spaces"),
        ("unclosed bracket", "close the bracket; quote text that contains brackets"),
        ("unclosed quote", "close the quote; use the other kind of quotes around text that contains one"),
        ("did not find expected key", "start all fields of a map in the same column, each as field: value"),
        ("DNS label", "write a name such as shop or eu-1"),
        ("IPv4", "write a subnet such as 172.30.0.0/24, or auto"),
        ("host bits set", "write the network address, or auto"),
    ];
    let known = HINTS.iter().find(|(words, _)| what.contains(words));
    known.map_or("write field: value lines, indented with spaces; quote other text", |(_, hint)| hint)
}

/// Returns `, did you mean "…"?` for the closest expected word, if one is close.
pub(crate) fn did_you_mean(word: &str, expected: &[&str]) -> String {
    expected
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(nearness, _)| *nearness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!(", did you mean \"{candidate}\"?"))
}

/// Whether a line has nothing after a field's colon: usually everything below it is commented out.
fn ends_there(text: &str, at: Location) -> bool {
    let line = text.lines().nth(index(at.line())).unwrap_or_default();
    let rest: String = line.chars().skip(index(at.column())).collect();
    let colon = line.chars().nth(index(at.column())) == Some(':');
    let rest = rest.trim_start_matches(':').trim_start();
    colon && (rest.is_empty() || rest.starts_with('#'))
}

/// Converts a line or column number to an index, which starts at 0.
fn index(number: u64) -> usize {
    usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX)
}

/// Returns the line, or the part around the position if it is too long, with carets below the characters in
/// question.
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

/// The maximum number of displayed characters of a line; a message may have twice as many.
const EXCERPT: usize = 240;

/// Truncates a message that quotes long text.
pub(super) fn clipped(message: String) -> String {
    const MAX_LENGTH: usize = 2 * EXCERPT;
    match message.char_indices().nth(MAX_LENGTH) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}
