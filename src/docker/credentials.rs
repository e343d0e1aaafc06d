//! Registry credentials from the Docker configuration, as the docker client would use them.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

/// How long a credential helper may take; a locked key chain may ask the user.
const HELPER_WITHIN: Duration = Duration::from_secs(20);
/// The key under which Docker Hub's credentials are kept.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Deserialize, Default)]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    store: String,
    #[serde(default, rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    #[serde(default)]
    auth: String,
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

/// The credentials for the registry of `image`, if the configuration in `folder` has any.
pub async fn for_image(folder: &Path, image: &str) -> Option<DockerCredentials> {
    let text = tokio::fs::read_to_string(folder.join("config.json")).await.ok()?;
    let config: Config = serde_json::from_str(&text).ok()?;
    let key = key(image);
    let helper = config.helpers.get(&key).or(Some(&config.store)).filter(|helper| !helper.is_empty());
    if let Some(helper) = helper {
        if let Some(helped) = ask(helper, &key).await {
            return Some(helped);
        }
    }
    let auth = config.auths.get(&key).or_else(|| config.auths.get(&format!("https://{key}")))?;
    // The engine takes the Base64 of `user:password` as it stands in the file.
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some(DockerCredentials {
        auth: some(&auth.auth),
        identitytoken: some(&auth.identity_token),
        serveraddress: Some(key),
        ..DockerCredentials::default()
    })
}

/// The name under which credentials for an image's registry are kept.
fn key(image: &str) -> String {
    match super::image::registry(image) {
        "docker.io" => DOCKER_HUB.into(),
        registry => registry.into(),
    }
}

/// Asks a credential helper (`docker-credential-NAME get`), whose protocol is the docker client's.
async fn ask(helper: &str, key: &str) -> Option<DockerCredentials> {
    let mut child = tokio::process::Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut input = child.stdin.take()?;
    input.write_all(key.as_bytes()).await.ok()?;
    drop(input);
    let output = tokio::time::timeout(HELPER_WITHIN, child.wait_with_output()).await.ok()?.ok()?;
    let helped: Helped = serde_json::from_slice(&output.stdout).ok()?;
    let mut credentials = DockerCredentials { serveraddress: Some(key.into()), ..DockerCredentials::default() };
    // The helpers' protocol marks an identity token by this user name.
    if helped.username == "<token>" {
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

    #[tokio::test]
    async fn credentials_of_the_file_are_found_by_registry() {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({"auths": {
            DOCKER_HUB: {"auth": "aHViOnB3"}, "registry.example:5000": {"auth": "b3duOnB3"}}});
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let auth = async |image| for_image(folder.path(), image).await.and_then(|found| found.auth);
        assert_eq!(auth("istio/pilot:1").await.as_deref(), Some("aHViOnB3"));
        assert_eq!(auth("registry.example:5000/pilot:1").await.as_deref(), Some("b3duOnB3"));
        assert_eq!(auth("other.example/pilot:1").await, None);
    }
}
