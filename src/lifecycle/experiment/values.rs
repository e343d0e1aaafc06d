//! The values in an experiment's file.

use std::time::Duration;

/// Reads a time: `500ms`, `10s`, `2m`.
///
/// # Errors
/// What is expected.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let read = units.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(*factor)
    });
    read.map(Duration::from_millis).ok_or_else(|| "expected a time such as 500ms, 10s or 2m".into())
}

/// Reads a percentage from 0 to 100: `2%`.
///
/// # Errors
/// What is expected.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let valid = number.filter(|number| (0.0..=100.0).contains(number));
    valid.ok_or_else(|| "expected a percentage from 0% to 100%, such as 2%".into())
}

/// Reads a region or a zone: the value of a label.
///
/// # Errors
/// What is expected.
pub(super) fn place(text: &str) -> Result<String, String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match text.is_empty() || text.len() > 63 || !text.chars().all(valid) {
        true => Err("expected letters, digits, - _ and ., such as zone1".into()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_a_unit() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!((percent("0%"), percent("0.5%")), (Ok(0.0), Ok(0.5)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "+1s", "1h", "99999999999999999999s", "9999999999999999999m"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "2", "-1%", "101%", "x%", "NaN%", "%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
