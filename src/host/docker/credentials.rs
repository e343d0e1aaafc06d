//! Registry credentials from the Docker configuration, looked up like the docker client does.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::plan::image_names::reference;

/// How long a credential helper may take: a locked keychain may prompt the user.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);
/// The key of Docker Hub's credentials.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The user name that marks an identity token in the helpers' protocol.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize, Default)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    store: String,
    #[serde(default, rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    /// Base64 of `user:password`.
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

#[derive(Deserialize)]
struct Helped {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Config {
    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).ok()?).ok()
    }

    /// Returns the helper for the credentials with this key, if one is configured.
    fn helper(&self, key: &str) -> Option<&str> {
        let helper = self.helpers.get(key).unwrap_or(&self.store);
        Some(helper.as_str()).filter(|helper| !helper.is_empty())
    }
}

/// Returns the helper that the configuration in `folder` names for the registry of `image`, if it is not on `path`:
/// then the docker client fails to pull.
pub fn missing_helper(folder: &Path, image: &str, path: &OsStr) -> Option<String> {
    let config = Config::read(folder)?;
    let helper = config.helper(key(image))?;
    let mut folders = std::env::split_paths(path);
    let there = folders.any(|folder| folder.join(format!("docker-credential-{helper}")).is_file());
    (!there).then(|| helper.to_owned())
}

/// Returns the credentials for the registry of `image`, if the configuration in `folder` has any. If a helper
/// fails or is missing, those in the file are used.
pub async fn for_image(folder: &Path, image: &str) -> Option<DockerCredentials> {
    let config = Config::read(folder)?;
    let key = key(image);
    if let Some(helper) = config.helper(key) {
        let command = Command::new(format!("docker-credential-{helper}"));
        if let Some(helped) = ask(command, key).await {
            return Some(helped);
        }
    }
    of_file(&config.auths, key)
}

/// Returns the key of the credentials for an image's registry.
fn key(image: &str) -> &str {
    match reference::registry(image) {
        "docker.io" | "index.docker.io" => DOCKER_HUB,
        registry => registry,
    }
}

/// Returns the file's entry for exactly this key, else for another spelling of the same host.
fn of_file(auths: &BTreeMap<String, Auth>, key: &str) -> Option<DockerCredentials> {
    let exact = auths.get(key).and_then(|auth| usable(auth, key));
    let same_host = || auths.iter().filter(|(other, _)| host(other) == host(key));
    exact.or_else(|| same_host().find_map(|(_, auth)| usable(auth, key)))
}

/// Returns the host, with its port if it has one, of `host`, `host:port` or `https://host/v1/`.
fn host(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" => "docker.io",
        host => host,
    }
}

/// Returns an entry as the engine requires it, with user and password or with an identity token; none if it has
/// neither. The file's `auth` encodes user and password.
fn usable(auth: &Auth, key: &str) -> Option<DockerCredentials> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let decoded = BASE64_STANDARD.decode(auth.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    // Old clients padded the text with NULs before encoding it.
    let (username, password) = match pair {
        Some((username, password)) => (username, password.trim_end_matches('\0')),
        None => (auth.username.as_str(), auth.password.as_str()),
    };
    let identitytoken = some(&auth.identity_token);
    (identitytoken.is_some() || !username.is_empty()).then(|| DockerCredentials {
        username: some(username),
        password: some(password),
        identitytoken,
        serveraddress: Some(key.to_owned()),
        ..DockerCredentials::default()
    })
}

/// Asks a credential helper (`docker-credential-NAME get`), with the docker client's protocol.
async fn ask(mut command: Command, key: &str) -> Option<DockerCredentials> {
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let answer = async {
        let mut child = command.spawn().ok()?;
        let mut input = child.stdin.take()?;
        // A helper may exit without reading its input: only its output counts.
        let _ = input.write_all(key.as_bytes()).await;
        drop(input);
        child.wait_with_output().await.ok()
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, answer).await.ok()??;
    if !output.status.success() {
        return None;
    }
    let helped: Helped = serde_json::from_slice(&output.stdout).ok()?;
    let mut credentials = DockerCredentials { serveraddress: Some(key.into()), ..DockerCredentials::default() };
    if helped.username == TOKEN_USER {
        credentials.identitytoken = Some(helped.secret);
    } else {
        credentials.username = Some(helped.username);
        credentials.password = Some(helped.secret);
    }
    Some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Returns the user and password for an image with this Docker configuration.
    async fn found(config: &Value, image: &str) -> Option<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let found = for_image(folder.path(), image).await?;
        Some((found.username?, found.password?))
    }

    fn auth(user: &str, password: &str) -> Value {
        json!({"auth": BASE64_STANDARD.encode(format!("{user}:{password}"))})
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.into(), password.into()))
    }

    #[tokio::test]
    async fn credentials_are_decoded_for_the_engine() {
        let config = json!({"auths": {
            DOCKER_HUB: auth("ada", "pw:with:colons"), "registry.example:5000": auth("own", "pw\0\0")}});
        assert_eq!(found(&config, "istio/pilot:1").await, pair("ada", "pw:with:colons"));
        assert_eq!(found(&config, "docker.io/istio/pilot:1").await, pair("ada", "pw:with:colons"));
        assert_eq!(found(&config, "registry.example:5000/pilot:1").await, pair("own", "pw"));
        assert_eq!(found(&config, "registry.example/pilot:1").await, None);
        assert_eq!(found(&config, "other.example/pilot:1").await, None);
    }

    #[tokio::test]
    async fn registry_is_matched_by_host() {
        for key in ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/", "r.example:5000/v2/"]
        {
            let config = json!({"auths": {key: auth("own", "pw"), "r.example": auth("other", "pw")}});
            assert_eq!(found(&config, "r.example:5000/a:1").await, pair("own", "pw"), "{key}");
        }
        for key in [DOCKER_HUB, "https://index.docker.io/v1", "index.docker.io", "docker.io", "https://docker.io"]
        {
            let config = json!({"auths": {key: auth("hub", "pw"), "https://index.docker.io/v1/access-token": {}}});
            assert_eq!(found(&config, "alpine").await, pair("hub", "pw"), "{key}");
        }
    }

    #[tokio::test]
    async fn empty_credentials_are_ignored() {
        let config = json!({"auths": {"a.example": {}, "b.example": {"auth": "?"}, "c.example": {"auth": ""}}});
        for image in ["a.example/a", "b.example/a", "c.example/a"] {
            assert_eq!(found(&config, image).await, None);
        }
    }

    #[tokio::test]
    async fn missing_helper_falls_back_to_the_file() {
        let config =
            json!({"credsStore": "of-kindmesh-tests-that-is-missing", "auths": {"a.example": auth("own", "pw")}});
        assert_eq!(found(&config, "a.example/a:1").await, pair("own", "pw"));
        assert_eq!(found(&config, "b.example/a:1").await, None);
    }

    #[test]
    fn credential_helper_not_on_path_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str();
        let missing = |image: &str| missing_helper(folder.path(), image, path);
        assert_eq!(missing("alpine"), None);
        let config = json!({"credsStore": "desktop", "credHelpers": {"r.example": "own", "s.example": ""}});
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        assert_eq!(missing("alpine").as_deref(), Some("desktop"));
        assert_eq!(missing("r.example/a:1").as_deref(), Some("own"));
        assert_eq!(missing("s.example/a:1"), None);
        std::fs::write(folder.path().join("docker-credential-own"), "").unwrap();
        assert_eq!(missing("r.example/a:1"), None);
    }

    #[tokio::test]
    async fn credential_helper_protocol() {
        let helper = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "helper"]);
            command
        };
        let answer = r#"[ "$1 $(cat)" = "get r.example" ] && printf '{"Username": "%s", "Secret": "s"}'"#;
        let named = ask(helper(&format!("{answer} ada")), "r.example").await.unwrap();
        assert_eq!((named.username.as_deref(), named.password.as_deref()), (Some("ada"), Some("s")));
        let token = ask(helper(&format!("{answer} '<token>'")), "r.example").await.unwrap();
        assert_eq!((token.username, token.identitytoken.as_deref()), (None, Some("s")));
        let fails = r#"echo '{"Username": "u", "Secret": "s"}'; exit 1"#;
        assert!(ask(helper(fails), "r.example").await.is_none());
        assert!(ask(helper("echo credentials not found in native keychain"), "r.example").await.is_none());
    }
}
