//! Whether outlier detection, the circuit breaker of a DestinationRule, can eject any endpoint. Pure.
//!
//! Envoy ejects an endpoint only if the ejected ones, that one included, are at most `maxEjectionPercent` of all endpoints
//! that a proxy knows of a host or subset (`DetectorImpl::ejectHost`). Istio leaves Envoy's option to eject at least one endpoint
//! unset.

use serde_json::Value;

/// Envoy's default, in percent. Istio treats 0 as not set.
pub const DEFAULT_PERCENT: u64 = 10;

/// Returns the percentage of endpoints that an `outlierDetection` of a DestinationRule may eject.
pub fn percent(outlier_detection: &Value) -> u64 {
    match outlier_detection["maxEjectionPercent"].as_u64() {
        Some(percent) if percent > 0 => percent.min(100),
        _ => DEFAULT_PERCENT,
    }
}

/// Returns the lowest `maxEjectionPercent` that lets one of these endpoints be ejected.
pub fn lowest_percent(endpoints: u64) -> u64 {
    100_u64.div_ceil(endpoints.max(1))
}

/// Returns why none of the endpoints can be ejected, if none can: the circuit breaker never opens. Without endpoints there is
/// nothing to say.
pub fn impossible(percent: u64, endpoints: u64) -> Option<String> {
    if endpoints == 0 || percent >= lowest_percent(endpoints) {
        return None;
    }
    let of = if endpoints == 1 { "the only endpoint".to_owned() } else { format!("{endpoints} endpoints") };
    Some(format!("at most {percent} % of {of} may be ejected, which is less than one"))
}

/// Returns the change of a DestinationRule that lets the circuit breaker open.
pub fn cure(endpoints: u64) -> String {
    match lowest_percent(endpoints) {
        100 => "set maxEjectionPercent: 100".to_owned(),
        lowest => format!("set maxEjectionPercent to {lowest} or more; 100 lets all endpoints be ejected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoint_is_ejected_if_its_share_is_allowed() {
        for (percent, endpoints, possible) in [
            (10, 1, false),
            (10, 9, false),
            (10, 10, true),
            (50, 1, false),
            (50, 2, true),
            (33, 3, false),
            (34, 3, true),
            (100, 1, true),
            (10, 0, true),
        ] {
            assert_eq!(impossible(percent, endpoints).is_none(), possible, "{percent} % of {endpoints}");
        }
    }

    #[test]
    fn default_applies_to_zero_and_nothing() {
        assert_eq!(percent(&json!({})), 10);
        assert_eq!(percent(&json!({"maxEjectionPercent": 0})), 10);
        assert_eq!(percent(&json!({"maxEjectionPercent": 400})), 100);
        assert_eq!(percent(&json!({"maxEjectionPercent": 50})), 50);
    }

    #[test]
    fn cure_lets_one_endpoint_be_ejected() {
        for endpoints in 1..200 {
            assert_eq!(impossible(lowest_percent(endpoints), endpoints), None);
        }
        assert_eq!(cure(1), "set maxEjectionPercent: 100");
        assert!(cure(3).starts_with("set maxEjectionPercent to 34 or more"));
    }
}
