//! What a scalar means to kubectl: the rules of go-yaml v2 for YAML 1.1, and of Go for writing the result as JSON.

use serde_json::{Number, Value};

const TRUE: [&str; 11] = ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"];
const FALSE: [&str; 11] = ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"];
const NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];
const NOT_FINITE: [&str; 12] =
    [".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF"];

/// Returns the value of a plain scalar.
///
/// # Errors
/// What is wrong with it: JSON has no infinity.
pub(super) fn plain(text: &str) -> Result<Value, String> {
    if NULL.contains(&text) {
        return Ok(Value::Null);
    }
    if let Some(value) = boolean(text) {
        return Ok(Value::Bool(value));
    }
    if NOT_FINITE.contains(&text) {
        return Err(format!("{text} is not a number in JSON"));
    }
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.'));
    let number = if is_number && !is_timestamp(text) { number(text) } else { None };
    Ok(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// Returns the value of a scalar with a tag of YAML's own, such as `int` of `!!int`. Other tags are empty and make
/// it text.
///
/// # Errors
/// If the scalar does not fit its tag.
pub(super) fn tagged(text: &str, tag: &str) -> Result<Value, String> {
    let resolved = match tag {
        "bool" | "int" | "float" | "null" => plain(text)?,
        // kubectl decodes it, and the fields that hold such data expect base64.
        "binary" => return Err("the tag !!binary is not supported: write the base64 text without it".into()),
        _ => return Ok(Value::String(text.to_owned())),
    };
    let fits = match tag {
        "bool" => resolved.is_boolean(),
        "null" => resolved.is_null(),
        "int" => resolved.as_number().is_some_and(|number| !number.is_f64()),
        _ => resolved.is_number(),
    };
    if fits { Ok(resolved) } else { Err(format!("the value is not of the type !!{tag}")) }
}

/// Returns the name of a field that is written as this scalar, if it may be one.
pub(super) fn key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn boolean(text: &str) -> Option<bool> {
    if TRUE.contains(&text) { Some(true) } else { FALSE.contains(&text).then_some(false) }
}

/// Whether a scalar begins like a date: those stay text, also `2026-01-02`.
fn is_timestamp(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits == 4 && text.as_bytes().get(4) == Some(&b'-')
}

fn number(text: &str) -> Option<Number> {
    if text.starts_with('.') {
        return decimal(text);
    }
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    integer(&digits).or_else(|| decimal(&digits))
}

/// Reads an integer as Go does for base 0: `0x`, `0o`, `0b` and `0` are prefixes.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let number = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        false => Some(number.into()),
        true => 0i64.checked_sub_unsigned(number).map(Number::from),
    }
}

/// Reads a decimal. Go writes one without a fraction as an integer: `08` is no octal number, so it is 8.
fn decimal(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // `inf` and `nan` are text.
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return format!("{number:.0}").parse::<i64>().ok().map(Number::from);
    }
    Number::from_f64(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        for (text, meant) in [
            ("0400", json!(256)),
            ("0o400", json!(256)),
            ("0755", json!(493)),
            ("08", json!(8)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("-0x10", json!(-16)),
            ("1_000", json!(1000)),
            ("+7", json!(7)),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("1.0", json!(1)),
            ("1.50", json!(1.5)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("yes", json!(true)),
            ("On", json!(true)),
            ("y", json!(true)),
            ("NO", json!(false)),
            ("off", json!(false)),
            ("~", Value::Null),
            ("", Value::Null),
            ("Null", Value::Null),
        ] {
            assert_eq!(plain(text).unwrap(), meant, "{text}");
        }
    }

    #[test]
    fn other_plain_scalars_are_text() {
        for text in [
            "yEs",
            "nil",
            "1.2.3",
            "12:30",
            "100m",
            "64Mi",
            "2026-01-02",
            "2026-01-02T03:04:05Z",
            "0x",
            "0o9",
            "0xyz",
            "-",
            "+",
            ".",
            "...",
            "-x",
            "inf",
            "nan",
            "+inf",
            "_1",
            "1e",
            "http://x",
            "=",
            "<<",
            "0b12",
            "--1",
            "0x-1",
        ] {
            assert_eq!(plain(text).unwrap(), json!(text), "{text}");
        }
    }

    #[test]
    fn tags_decide_the_type() {
        assert_eq!(tagged("5", "str").unwrap(), json!("5"));
        assert_eq!(tagged("5", "int").unwrap(), json!(5));
        assert_eq!(tagged("yes", "bool").unwrap(), json!(true));
        assert_eq!(tagged("5", "float").unwrap(), json!(5));
        assert_eq!(tagged("2026-01-02", "timestamp").unwrap(), json!("2026-01-02"));
        assert_eq!(tagged("5", "").unwrap(), json!("5"));
        assert_eq!(tagged("x", "int").unwrap_err(), "the value is not of the type !!int");
        assert!(tagged("aGk=", "binary").unwrap_err().contains("base64"));
    }
}
