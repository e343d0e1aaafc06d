//! The validated types of a spec's values.

use std::fmt;
use std::str::FromStr;

use ipnet::Ipv4Net;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A DNS label (RFC 1123): lower-case letters, digits and inner hyphens, 1 to 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Creates a label from a literal, without validation.
    pub(crate) fn literal(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() {
            Err("a name must not be empty: use lower-case letters, digits, and hyphens between them".into())
        } else if text.len() > 63 {
            Err(format!("\"{text}\" is too long for a DNS label: at most 63 characters are allowed"))
        } else if !text.chars().all(inner) || text.starts_with('-') || text.ends_with('-') {
            let what =
                format!("\"{text}\" is not a DNS label: lower-case letters, digits, and hyphens between them");
            Err(what + &suggestion(text))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// Returns `, did you mean "…"?` with a similar valid label, if there is one.
fn suggestion(text: &str) -> String {
    let lower = text.to_ascii_lowercase().replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), "-");
    let words: Vec<_> = lower.split('-').filter(|word| !word.is_empty()).collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(", did you mean \"{}\"?", words.join("-")),
    }
}

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Label {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Label".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A DNS label (RFC 1123).",
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "maxLength": 63
        })
    }
}

/// An IPv4 subnet, or `auto`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subnet {
    /// An unused subnet.
    #[default]
    Auto,
    /// This subnet.
    Fixed(Ipv4Net),
}

impl Subnet {
    /// Whether it is an unused subnet.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if text.contains(':') {
            return Err(format!("\"{text}\" is IPv6: only IPv4 is supported"));
        }
        let net: Ipv4Net = text
            .parse()
            .map_err(|_| format!("\"{text}\" is neither auto nor an IPv4 subnet such as 172.30.0.0/24"))?;
        if net.trunc() != net {
            return Err(format!("\"{text}\" has host bits set: did you mean {}?", net.trunc()));
        }
        Ok(Self::Fixed(net))
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        match subnet {
            Subnet::Auto => "auto".into(),
            Subnet::Fixed(net) => net.to_string(),
        }
    }
}

impl JsonSchema for Subnet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Subnet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`auto`, or an IPv4 subnet in CIDR notation.",
            "pattern": "^(auto|[0-9.]+/[0-9]+)$"
        })
    }
}
