//! What can happen between clusters, and the values it takes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What happens while a fault is active.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Kind {
    /// No packet between pods passes, nor any to gateways. Control planes stay connected.
    Cut,
    /// No packet passes between the nodes at all, so control planes are disconnected, too.
    Partition,
    /// Packets are lost at random, in each direction.
    Loss {
        /// The probability that a packet is lost, in percent.
        percent: f64,
    },
    /// The rate of traffic is limited, in each direction.
    Bandwidth {
        /// The rate, in kbit/s.
        kilobits: u32,
    },
    /// Packets take longer, in each direction.
    Delay {
        /// The additional time, in milliseconds.
        millis: u32,
    },
    /// The time that packets take varies, in each direction.
    Jitter {
        /// The largest deviation, in milliseconds.
        millis: u32,
    },
    /// istiod of one cluster is gone.
    KillIstiod,
}

impl Kind {
    /// Returns the name, as typed: `kill-istiod`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Partition => "partition",
            Self::Loss { .. } => "loss",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Delay { .. } => "delay",
            Self::Jitter { .. } => "jitter",
            Self::KillIstiod => "kill-istiod",
        }
    }

    /// Whether nothing passes between the clusters' pods.
    pub fn is_total(&self) -> bool {
        matches!(self, Self::Cut | Self::Partition)
    }

    /// Returns the value as the node's script takes it, if it has one.
    pub(super) fn value(&self) -> Option<String> {
        match self {
            Self::Loss { percent } => Some(format!("{}", percent / 100.0)),
            Self::Bandwidth { kilobits } => Some(kilobits.to_string()),
            Self::Delay { millis } | Self::Jitter { millis } => Some(millis.to_string()),
            Self::Cut | Self::Partition | Self::KillIstiod => None,
        }
    }

    /// Reads a name and a value as the node's script takes it.
    pub(super) fn read(name: &str, value: Option<&str>) -> Option<Self> {
        Some(match (name, value) {
            ("cut", None) => Self::Cut,
            ("partition", None) => Self::Partition,
            // Rounded: the probability was a decimal fraction.
            ("loss", Some(value)) => Self::Loss { percent: (value.parse::<f64>().ok()? * 1e6).round() / 1e4 },
            ("bandwidth", Some(value)) => Self::Bandwidth { kilobits: value.parse().ok()? },
            ("delay", Some(value)) => Self::Delay { millis: value.parse().ok()? },
            ("jitter", Some(value)) => Self::Jitter { millis: value.parse().ok()? },
            ("kill-istiod", None) => Self::KillIstiod,
            _ => return None,
        })
    }
}

/// What happens, without where: `10 % of packets lost`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("link cut"),
            Self::Partition => f.write_str("network partitioned"),
            Self::Loss { percent } => write!(f, "{percent} % of packets lost"),
            Self::Bandwidth { kilobits } => write!(f, "bandwidth limited to {}", rate(*kilobits)),
            Self::Delay { millis } => write!(f, "packets delayed by {millis} ms"),
            Self::Jitter { millis } => write!(f, "delay of packets varied by {millis} ms"),
            Self::KillIstiod => f.write_str("istiod stopped"),
        }
    }
}

fn rate(kilobits: u32) -> String {
    match kilobits {
        whole if whole.is_multiple_of(1_000_000) => format!("{} Gbit/s", whole / 1_000_000),
        whole if whole.is_multiple_of(1000) => format!("{} Mbit/s", whole / 1000),
        other => format!("{other} kbit/s"),
    }
}

/// Parses a percentage from above 0 to 100: `10%` or `0.5`.
///
/// # Errors
/// What is expected.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let valid = number.filter(|number: &f64| (0.01..=100.0).contains(number));
    valid.ok_or_else(|| "expected a percentage from 0.01% to 100%, such as 10%".into())
}

/// Parses a rate to kbit/s: `500kbit`, `10mbit`, `1gbit`.
///
/// # Errors
/// What is expected.
pub fn bandwidth(text: &str) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    let factors = [("kbit", 1), ("mbit", 1000), ("gbit", 1_000_000)];
    let found = factors
        .iter()
        .find_map(|(unit, factor)| lower.strip_suffix(unit)?.parse::<u32>().ok()?.checked_mul(*factor));
    let valid = found.filter(|kilobits| (8..=10_000_000).contains(kilobits));
    valid.ok_or_else(|| "expected a rate from 8kbit to 10gbit, such as 500kbit or 1mbit".into())
}

/// Parses a time of packets, from 1 ms to 10 s: `100ms` or `2s`.
///
/// # Errors
/// What is expected.
pub fn latency(text: &str) -> Result<Duration, String> {
    let millis = match text.strip_suffix("ms") {
        Some(number) => number.parse::<u64>().ok(),
        None => text.strip_suffix('s').and_then(|number| number.parse::<u64>().ok()?.checked_mul(1000)),
    };
    let valid = millis.filter(|millis| (1..=10_000).contains(millis));
    valid.map(Duration::from_millis).ok_or_else(|| "expected a time from 1ms to 10s, such as 100ms".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_way_to_a_node() {
        for percent in [0.01, 0.1, 7.0, 33.3, 100.0] {
            for kind in [
                Kind::Cut,
                Kind::Loss { percent },
                Kind::Bandwidth { kilobits: 500 },
                Kind::Delay { millis: 1 },
                Kind::Jitter { millis: 20 },
                Kind::Partition,
                Kind::KillIstiod,
            ] {
                assert_eq!(Kind::read(kind.name(), kind.value().as_deref()), Some(kind));
            }
        }
        assert_eq!(Kind::read("loss", None), None);
        assert_eq!(Kind::read("other", None), None);
    }

    #[test]
    fn values_are_read_and_bounded() {
        assert_eq!((percent("10%"), percent("0.5")), (Ok(10.0), Ok(0.5)));
        assert_eq!((bandwidth("500kbit"), bandwidth("1Mbit")), (Ok(500), Ok(1000)));
        assert_eq!(
            (latency("100ms"), latency("2s")),
            (Ok(Duration::from_millis(100)), Ok(Duration::from_secs(2)))
        );
        for wrong in ["", "0", "101%", "-1%", "x", "NaN"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "1", "7kbit", "11gbit", "1mbps", "9999999gbit"] {
            assert!(bandwidth(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0ms", "11s", "100", "1m", "-1s"] {
            assert!(latency(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_have_the_largest_whole_unit() {
        assert_eq!(Kind::Bandwidth { kilobits: 2000 }.to_string(), "bandwidth limited to 2 Mbit/s");
        assert_eq!(Kind::Bandwidth { kilobits: 1500 }.to_string(), "bandwidth limited to 1500 kbit/s");
    }
}
