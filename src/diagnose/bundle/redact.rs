//! Removes secrets from text: the known secrets of this environment, and whatever looks like a secret.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::{Captures, Regex};

/// The replacement of a secret.
pub const REMOVED: &str = "[removed]";

/// Shorter secrets are not removed: they cannot be distinguished from other words.
const SHORTEST: usize = 16;

/// The known secrets of an environment.
#[derive(Debug, Default)]
pub struct Redactor {
    /// The longest first: if one contains another, removing the shorter one first would leave the rest.
    known: BTreeSet<(Reverse<usize>, String)>,
}

impl Redactor {
    /// Adds a secret: a key file, a token, a kubeconfig, the value of a Secret. Certificates are public and stay.
    pub fn learn(&mut self, secret: &[u8]) {
        let Ok(text) = std::str::from_utf8(secret) else {
            self.know(&STANDARD.encode(secret));
            return;
        };
        if text.contains("-----BEGIN CERTIFICATE") && !text.contains("PRIVATE KEY") {
            return;
        }
        if text.contains("kind: Config") || text.contains("\"kind\":\"Config\"") {
            self.know(&STANDARD.encode(text));
            self.learn_kubeconfig(text);
            return;
        }
        self.know(&STANDARD.encode(text));
        self.know(&STANDARD.encode(text.trim_end()));
        text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).for_each(|line| self.know(line));
    }

    /// Adds the user credentials of a kubeconfig. The rest is not secret.
    fn learn_kubeconfig(&mut self, text: &str) {
        let Ok(config) = serde_yaml::from_str::<serde_json::Value>(text) else { return };
        for user in config["users"].as_array().into_iter().flatten() {
            for field in ["client-key-data", "token", "password"] {
                let Some(value) = user["user"][field].as_str() else { continue };
                self.know(value);
                if let Ok(key) = STANDARD.decode(value) {
                    self.learn(&key);
                } else {
                    self.know(&STANDARD.encode(value));
                }
            }
        }
    }

    fn know(&mut self, text: &str) {
        if text.len() >= SHORTEST {
            self.known.insert((Reverse(text.len()), text.to_owned()));
        }
    }

    /// Returns a file's content without secrets. Invalid UTF-8 is replaced.
    pub fn redact(&self, content: Vec<u8>) -> Vec<u8> {
        match String::from_utf8(content) {
            Ok(text) => self.redact_text(&text).into_bytes(),
            Err(error) => self.redact_text(&String::from_utf8_lossy(error.as_bytes())).into_bytes(),
        }
    }

    /// Returns a text without secrets.
    pub fn redact_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (_, known) in &self.known {
            if text.contains(known.as_str()) {
                text = text.replace(known.as_str(), REMOVED);
            }
        }
        for (pattern, replacement) in LOOKS.iter() {
            text = pattern.replace_all(&text, *replacement).into_owned();
        }
        let kept = |found: &Captures<'_>| if is_private(&found[0]) { REMOVED.into() } else { found[0].to_owned() };
        ENCODED_PEM.replace_all(&text, kept).into_owned()
    }
}

/// Whether Base64-encoded PEM contains a private key. It may be truncated: only whole groups of four characters are
/// decoded.
fn is_private(encoded: &str) -> bool {
    let encoded = encoded.trim_end_matches('=');
    let whole = &encoded[..encoded.len() / 4 * 4];
    // What cannot be decoded is removed.
    STANDARD.decode(whole).map_or(true, |text| String::from_utf8_lossy(&text).contains("PRIVATE KEY"))
}

/// `-----BEGIN` in Base64.
static ENCODED_PEM: LazyLock<Regex> = LazyLock::new(|| pattern(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]+=*"));

/// Patterns of secrets, and their replacements.
static LOOKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let looks = [
        // A private key, in JSON with escaped line breaks, or truncated.
        (
            r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
            "-----BEGIN $1----- [removed]",
        ),
        // A JSON web token, and one in Base64.
        (r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}", REMOVED),
        (r"ZXlK[A-Za-z0-9+/]{60,}=*", REMOVED),
        // Credentials in a URL.
        (r#"(\w+://)[^/\s:@"']+:[^/\s@"']+@"#, "$1[removed]@"),
        (r"(?i)\b(bearer|basic) [A-Za-z0-9._~+/-]{12,}=*", "$1 [removed]"),
        (r"(--(?:token|password|certificate-key|client-key-data)[ =])\S+", "$1[removed]"),
        // A field whose name suggests a secret.
        (
            r#"(?i)("?\b(?:password|passwd|token|auth|identitytoken|registrytoken|client-key-data|api[_-]?key|access[_-]?key|private[_-]?key)"?\s*[:=]\s*)("[^"{\[\n]+"|'[^'\n]+'|[^\s,"'{}\[\]]+)"#,
            r#"$1"[removed]""#,
        ),
        // An environment variable whose name suggests a secret.
        (
            r#"(?i)("name":\s*"[^"]*(?:password|token|secret|credential|api_?key|private_?key)[^"]*",\s*"value":\s*)"[^"]*""#,
            r#"$1"[removed]""#,
        ),
    ];
    looks.map(|(look, replacement)| (pattern(look), replacement)).to_vec()
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a test compiles every pattern")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::trust::Root;

    fn redacted(text: &str) -> String {
        Redactor::default().redact_text(text)
    }

    #[test]
    fn secret_patterns_are_removed() {
        let jwt = "eyJhbGciOiJSUzI1NiIs.eyJpc3MiOiJrdWJlcm5l.c2lnbmF0dXJlc2ln";
        for (text, without) in [
            ("token: abc.def", "token: \"[removed]\""),
            ("a token exists", "a token exists"),
            (r#"{"auth": "dXNlcjpwYXNz", "next": 1}"#, r#"{"auth": "[removed]", "next": 1}"#),
            (r#""serviceAccountToken": {"path": "x"}"#, r#""serviceAccountToken": {"path": "x"}"#),
            (r#""secretName": "cacerts""#, r#""secretName": "cacerts""#),
            (jwt, "[removed]"),
            ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer [removed]"),
            ("http://me:pass@proxy:3128/", "http://[removed]@proxy:3128/"),
            ("https://registry.example/a:1@sha256:12", "https://registry.example/a:1@sha256:12"),
            ("kubeadm join --token abcdef.0123456789abcdef x", "kubeadm join --token [removed] x"),
            (r#"{"name": "DB_PASSWORD", "value": "x"}"#, r#"{"name": "DB_PASSWORD", "value": "[removed]"}"#),
            (
                "-----BEGIN EC PRIVATE KEY-----\nAAAA\nBBBB\n-----END EC PRIVATE KEY-----\nafter",
                "-----BEGIN EC PRIVATE KEY----- [removed]\nafter",
            ),
            (
                r"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\nafter",
                r"-----BEGIN PRIVATE KEY----- [removed]\nafter",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            ),
        ] {
            assert_eq!(redacted(text), without);
        }
    }

    #[test]
    fn base64_keys_are_redacted_and_certificates_kept() {
        let key =
            STANDARD.encode("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n");
        let certificate = STANDARD.encode("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
        let text = redacted(&format!("key: {key}\ncertificate: {certificate}\ncut: {}", &key[..50]));
        assert_eq!(text, format!("key: [removed]\ncertificate: {certificate}\ncut: [removed]"));
    }

    #[test]
    fn known_secrets_are_removed_by_line_and_encoded() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::ensure(folder.path(), "e").unwrap().value;
        let key = std::fs::read_to_string(folder.path().join("root-key.pem")).unwrap();
        let mut redactor = Redactor::default();
        redactor.learn(key.as_bytes());
        redactor.learn(root.cert_pem().as_bytes());
        let body = key.lines().nth(1).unwrap();
        let text = format!("{body} {} {}", STANDARD.encode(&key), root.cert_pem());
        let without = redactor.redact_text(&text);
        assert!(!without.contains(body) && !without.contains(&STANDARD.encode(&key)[100..140]), "{without}");
        assert!(without.contains(root.cert_pem()), "certificates are public");
    }

    #[test]
    fn nested_secrets_are_fully_removed() {
        let mut redactor = Redactor::default();
        redactor.learn(b"0123456789abcdef");
        redactor.learn(b"a-longer-one-0123456789abcdef-z");
        let without = redactor.redact_text("a-longer-one-0123456789abcdef-z 0123456789abcdef");
        assert_eq!(without, "[removed] [removed]");
    }

    #[test]
    fn kubeconfig_credentials_are_secrets() {
        let key = STANDARD
            .encode("-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAtheline\n-----END RSA PRIVATE KEY-----\n");
        let config = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: a, cluster: {{server: \"https://some-long-name:6443\"}}}}]\nusers: [{{name: a, user: {{client-key-data: {key}, token: a-token-of-a-user}}}}]\n"
        );
        let mut redactor = Redactor::default();
        redactor.learn(config.as_bytes());
        let without = redactor
            .redact_text(&format!("{key} MIIEowIBAAKCAQEAtheline a-token-of-a-user https://some-long-name:6443"));
        assert_eq!(without, "[removed] [removed] [removed] https://some-long-name:6443");
    }
}
