//! Which engine: found once as the docker client finds it, and handed to everything that talks to one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// Where the engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As in `DOCKER_HOST`: `unix:///var/run/docker.sock`, `tcp://10.0.0.1:2376`.
    pub host: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem` for a TCP endpoint with TLS.
    pub tls: Option<PathBuf>,
    /// What decided: for messages.
    pub source: String,
}

/// What the choice depends on, so that it can be tested without touching the process.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Environment variables.
    pub variables: HashMap<String, String>,
    /// The user's home folder.
    pub home: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let variables: HashMap<_, _> = std::env::vars().collect();
        let home = variables.get("HOME").map(PathBuf::from).unwrap_or_default();
        Self { variables, home }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The folder of the Docker configuration.
    pub fn docker_config(&self) -> PathBuf {
        self.get("DOCKER_CONFIG").map_or_else(|| self.home.join(".docker"), PathBuf::from)
    }
}

/// The socket where an engine usually answers.
pub const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "currentContext")]
    current_context: String,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Endpoints")]
    endpoints: HashMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(default, rename = "Host")]
    host: String,
}

/// Finds the engine in the order of the docker client: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context of
/// the Docker configuration, the default socket.
///
/// # Errors
/// A missing prerequisite when a named context does not exist, or the endpoint is of a kind that cannot be used.
pub fn resolve(around: &Surroundings) -> Result<Endpoint, Error> {
    let config = around.docker_config();
    let endpoint = if let Some(host) = around.get("DOCKER_HOST") {
        let verify = around.get("DOCKER_TLS_VERIFY").is_some();
        let folder = around.get("DOCKER_CERT_PATH").map_or_else(|| config.clone(), PathBuf::from);
        Endpoint { host: host.into(), tls: verify.then_some(folder), source: "DOCKER_HOST".into() }
    } else if let Some(context) = around.get("DOCKER_CONTEXT") {
        of_context(&config, context, "DOCKER_CONTEXT")?
    } else {
        let text = std::fs::read_to_string(config.join("config.json")).unwrap_or_default();
        let current = serde_json::from_str::<Config>(&text).map(|config| config.current_context);
        match current.as_deref() {
            Ok("") | Err(_) => default_socket("the default socket"),
            Ok(context) => of_context(&config, context, "the Docker configuration")?,
        }
    };
    match endpoint.host.split("://").next() {
        Some("unix" | "tcp" | "http" | "https") => Ok(endpoint),
        Some("ssh") => Err(Error::prerequisite(format!(
            "the engine at {} ({}) is reached over ssh, which kindmesh does not speak",
            endpoint.host, endpoint.source
        ))
        .hint("forward its socket: ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST, then DOCKER_HOST=unix:///tmp/docker.sock")),
        _ => Err(Error::prerequisite(format!(
            "\"{}\" ({}) is no engine address: it must begin with unix:// or tcp://",
            endpoint.host, endpoint.source
        ))
        .hint("unset DOCKER_HOST, or: docker context ls")),
    }
}

fn default_socket(source: &str) -> Endpoint {
    Endpoint { host: DEFAULT_SOCKET.into(), tls: None, source: source.into() }
}

fn of_context(config: &Path, name: &str, named_by: &str) -> Result<Endpoint, Error> {
    let source = format!("context \"{name}\" of {named_by}");
    if name == "default" {
        return Ok(default_socket(&source));
    }
    // The docker client keeps each context in a folder named by the SHA-256 of the context's name.
    let id = hex(&Sha256::digest(name));
    let path = config.join("contexts/meta").join(&id).join("meta.json");
    let missing = |why: String| {
        Error::prerequisite(format!("the Docker {source} cannot be used: {why}"))
            .hint("docker context ls shows those there are; docker context use default goes back")
    };
    let text = std::fs::read_to_string(&path).map_err(|e| missing(format!("{}: {e}", path.display())))?;
    let meta: ContextMeta =
        serde_json::from_str(&text).map_err(|e| missing(format!("{}: {e}", path.display())))?;
    let host = meta
        .endpoints
        .get("docker")
        .map(|endpoint| endpoint.host.clone())
        .ok_or_else(|| missing("it has no docker endpoint".into()))?;
    if host.is_empty() {
        return Ok(default_socket(&source));
    }
    let tls = Some(config.join("contexts/tls").join(id).join("docker")).filter(|folder| folder.is_dir());
    Ok(Endpoint { host, tls, source })
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Endpoint {
    /// The environment variables that make the docker client, and so kind, use this engine.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("DOCKER_HOST", self.host.clone())];
        if let Some(folder) = &self.tls {
            variables.push(("DOCKER_TLS_VERIFY", "1".into()));
            variables.push(("DOCKER_CERT_PATH", folder.display().to_string()));
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(home: &Path, variables: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            variables: variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            home: home.to_owned(),
        }
    }

    fn context(home: &Path, name: &str, host: &str) {
        let folder = home.join(".docker/contexts/meta").join(hex(&Sha256::digest(name)));
        std::fs::create_dir_all(&folder).unwrap();
        let meta = serde_json::json!({"Name": name, "Endpoints": {"docker": {"Host": host}}});
        std::fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
    }

    #[test]
    fn the_default_socket_when_nothing_is_said() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(resolve(&around(home.path(), &[])).unwrap().host, DEFAULT_SOCKET);
    }

    #[test]
    fn docker_host_beats_contexts() {
        let home = tempfile::tempdir().unwrap();
        context(home.path(), "desktop", "unix:///desktop.sock");
        let host = [("DOCKER_HOST", "unix:///host.sock"), ("DOCKER_CONTEXT", "desktop")];
        assert_eq!(resolve(&around(home.path(), &host)).unwrap().host, "unix:///host.sock");
        let context = [("DOCKER_CONTEXT", "desktop")];
        assert_eq!(resolve(&around(home.path(), &context)).unwrap().host, "unix:///desktop.sock");
    }

    #[test]
    fn the_current_context_of_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        context(home.path(), "colima", "unix:///colima.sock");
        std::fs::write(home.path().join(".docker/config.json"), r#"{"currentContext": "colima"}"#).unwrap();
        let found = resolve(&around(home.path(), &[])).unwrap();
        assert_eq!(found.host, "unix:///colima.sock");
        assert_eq!(found.source, "context \"colima\" of the Docker configuration");
    }

    #[test]
    fn a_context_that_is_gone_is_named() {
        let home = tempfile::tempdir().unwrap();
        let error = resolve(&around(home.path(), &[("DOCKER_CONTEXT", "gone")])).unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Prerequisite);
        assert!(error.message.contains("context \"gone\" of DOCKER_CONTEXT"), "{}", error.message);
    }

    #[test]
    fn tls_goes_to_kind_too() {
        let home = tempfile::tempdir().unwrap();
        let variables =
            [("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        let found = resolve(&around(home.path(), &variables)).unwrap();
        assert_eq!(
            found.variables(),
            [
                ("DOCKER_HOST", "tcp://h:2376".to_owned()),
                ("DOCKER_TLS_VERIFY", "1".to_owned()),
                ("DOCKER_CERT_PATH", "/certs".to_owned())
            ]
        );
    }

    #[test]
    fn ssh_is_refused_with_the_way_around() {
        let home = tempfile::tempdir().unwrap();
        let error = resolve(&around(home.path(), &[("DOCKER_HOST", "ssh://me@host")])).unwrap_err();
        assert!(error.hint.unwrap().contains("ssh -NL"));
    }
}
