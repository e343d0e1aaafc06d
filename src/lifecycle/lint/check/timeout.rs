//! Timeouts that leave no time for retries.

use serde_json::Value;

use crate::lifecycle::lint::mesh::{Mesh, Source};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "timeout-cuts-retries",
    summary: "A timeout of a route that ends before its last retry begins",
    reason: "The timeout is for the whole call: the first try and all retries. All of them take up to (attempts + 1) × \
        perTryTimeout; if the timeout is attempts × perTryTimeout or less, the last retry never begins when tries take that long.",
    severity: Severity::Warning,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    mesh.of_istio("VirtualService").flat_map(|(number, service)| judge(number, service)).collect()
}

fn judge(number: usize, service: &Source) -> Vec<Finding> {
    let judge = |(index, route): (usize, &Value)| {
        let timeout_text = route["timeout"].as_str()?;
        let retries = &route["retries"];
        let each_text = retries["perTryTimeout"].as_str()?;
        let (timeout, each, attempts) = (micros(timeout_text)?, micros(each_text)?, retries["attempts"].as_u64()?);
        // 0s is no timeout.
        if timeout == 0 || each == 0 || attempts == 0 || timeout > attempts * each {
            return None;
        }
        let begin = timeout.div_ceil(each) - 1;
        let whole = (attempts + 1) * each;
        Some(RULE.found(
            number,
            format!("spec.http[{index}].timeout"),
            format!(
                "timeout {timeout_text} leaves time for {begin} of {attempts} retries with perTryTimeout {each_text}"
            ),
            format!(
                "set timeout to {} or more, that is (attempts + 1) × perTryTimeout, or perTryTimeout to {} or less",
                shown(whole),
                shown(timeout / (attempts + 1)),
            ),
        ))
    };
    service.list("http").iter().enumerate().filter_map(judge).collect()
}

/// Returns a duration such as `1.5s` or `1m30s` in microseconds.
fn micros(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3_600_000_000.0,
            "m" => 60_000_000.0,
            "s" => 1_000_000.0,
            "ms" => 1_000.0,
            "us" | "µs" => 1.0,
            "ns" => 0.001,
            _ => return None,
        };
        rest = &rest[end..];
        let part = (number * unit).round();
        if !(0.0..1e15).contains(&part) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        {
            sum += part as u64;
        }
    }
    (!text.is_empty()).then_some(sum)
}

fn shown(micros: u64) -> String {
    match micros {
        _ if micros.is_multiple_of(1_000_000) => format!("{}s", micros / 1_000_000),
        _ => format!("{}ms", micros / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{found, routes};

    fn with(timeout: &str, retries: &str) -> Vec<Finding> {
        found(&routes(&format!("http: [{{timeout: {timeout}, retries: {{{retries}}}}}]")), find)
    }

    #[test]
    fn timeout_that_ends_before_the_last_retry_is_found() {
        let found = with("5s", "attempts: 3, perTryTimeout: 2s");
        assert_eq!(found[0].what, "timeout 5s leaves time for 2 of 3 retries with perTryTimeout 2s");
        assert_eq!(
            found[0].fix,
            "set timeout to 8s or more, that is (attempts + 1) × perTryTimeout, or perTryTimeout to 1250ms or less"
        );
        assert_eq!(with("2s", "attempts: 1, perTryTimeout: 2s")[0].path, "spec.http[0].timeout");
        assert!(with("500ms", "attempts: 2, perTryTimeout: 1s")[0].what.contains("time for 0 of 2 retries"));
    }

    #[test]
    fn timeout_that_only_shortens_the_last_retry_is_clean() {
        for (timeout, retries) in [
            ("5s", "attempts: 2, perTryTimeout: 2s"),
            ("6s", "attempts: 2, perTryTimeout: 2s"),
            ("0s", "attempts: 2, perTryTimeout: 2s"),
            ("1s", "attempts: 2"),
            ("1s", "attempts: 0, perTryTimeout: 2s"),
            ("soon", "attempts: 2, perTryTimeout: 2s"),
        ] {
            assert_eq!(with(timeout, retries), [], "{timeout}, {retries}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("5s", Some(5_000_000)),
            ("1.5s", Some(1_500_000)),
            ("1m30s", Some(90_000_000)),
            ("250ms", Some(250_000)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("5d", None),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
    }
}
