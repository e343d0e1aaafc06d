//! Selects the engine: once, by the rules of the docker client, for everything that connects to it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::{Reason, Refused};
use crate::base::digest::hex;
use crate::base::error::Error;

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As in `DOCKER_HOST`: `unix:///var/run/docker.sock`, `tcp://10.0.0.1:2376`.
    pub host: String,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem` for a TCP endpoint with TLS.
    pub tls: Option<PathBuf>,
    /// What selected it, for messages.
    pub source: String,
}

/// The inputs of the selection, so that tests do not depend on the process's environment.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Environment variables.
    pub variables: HashMap<String, String>,
    /// The user's home directory.
    pub home: PathBuf,
}

impl Surroundings {
    /// Reads them from this process.
    pub fn of_process() -> Self {
        // Variables that are not UTF-8 are ignored.
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let variables: HashMap<_, _> = std::env::vars_os().filter_map(text).collect();
        let home = variables.get("HOME").map(PathBuf::from).unwrap_or_default();
        Self { variables, home }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the directory of the Docker configuration.
    pub fn docker_config(&self) -> PathBuf {
        self.get("DOCKER_CONFIG").map_or_else(|| self.home.join(".docker"), PathBuf::from)
    }
}

/// The docker client's variables with which it would use another engine, or this one differently than kindmesh does; from
/// <https://docs.docker.com/reference/cli/docker/#environment-variables>. The others are left: `DOCKER_CONFIG` has the
/// credentials, which kindmesh uses too.
const UNWANTED_VARIABLES: [&str; 6] = [
    // The other engine.
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    // The version that both sides support is negotiated.
    "DOCKER_API_VERSION",
    // Nodes have the engine's platform.
    "DOCKER_DEFAULT_PLATFORM",
    // Node images are built here, or have no signatures.
    "DOCKER_CONTENT_TRUST",
    "DOCKER_CONTENT_TRUST_SERVER",
];
/// The variables of an engine with TLS.
const TLS_VARIABLES: [&str; 2] = ["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"];

/// The default socket of an engine.
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
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// Finds the engine in the order of the docker client: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context of the
/// Docker configuration, the default socket.
///
/// # Errors
/// A missing prerequisite if a named context does not exist, or the endpoint is of an unsupported type.
pub fn resolve(around: &Surroundings) -> Result<Endpoint, Refused> {
    let config = around.docker_config();
    let found = if let Some(host) = around.get("DOCKER_HOST") {
        of_variables(around, &config, host)
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
    usable(found)
}

/// An endpoint as configured, which may be unsupported.
struct Found {
    endpoint: Endpoint,
    /// The setting that disables the verification of the engine's certificate, if any does.
    unverified: Option<&'static str>,
}

fn of_variables(around: &Surroundings, config: &Path, host: &str) -> Found {
    let verify = around.get("DOCKER_TLS_VERIFY").is_some();
    let folder = around.get("DOCKER_CERT_PATH").map_or_else(|| config.to_owned(), PathBuf::from);
    let endpoint = Endpoint { host: host.into(), tls: verify.then_some(folder), source: "DOCKER_HOST".into() };
    let unverified = around.get("DOCKER_TLS").filter(|_| !verify).map(|_| "DOCKER_TLS without DOCKER_TLS_VERIFY");
    Found { endpoint, unverified }
}

fn default_socket(source: &str) -> Found {
    let endpoint = Endpoint { host: DEFAULT_SOCKET.into(), tls: None, source: source.into() };
    Found { endpoint, unverified: None }
}

fn of_context(config: &Path, name: &str, named_by: &str) -> Result<Found, Refused> {
    let source = format!("context \"{name}\" of {named_by}");
    if name == "default" {
        return Ok(default_socket(&source));
    }
    // The docker client keeps each context in a directory named by the SHA-256 of the context's name.
    let id = hex(&Sha256::digest(name));
    let path = config.join("contexts/meta").join(&id).join("meta.json");
    let missing = |why: String| {
        let error = Error::prerequisite(format!("the Docker {source} cannot be used: {why}"))
            .hint("list the contexts: docker context ls; switch back: docker context use default");
        Refused::new(Reason::Address, error)
    };
    let text = std::fs::read_to_string(&path).map_err(|e| missing(format!("{}: {e}", path.display())))?;
    let mut meta: ContextMeta =
        serde_json::from_str(&text).map_err(|e| missing(format!("{}: {e}", path.display())))?;
    let docker = meta.endpoints.remove("docker").ok_or_else(|| missing("it has no docker endpoint".into()))?;
    if docker.host.is_empty() {
        return Ok(default_socket(&source));
    }
    let tls = Some(config.join("contexts/tls").join(id).join("docker")).filter(|folder| folder.is_dir());
    let unverified = docker.skip_tls_verify.then_some("SkipTLSVerify");
    Ok(Found { endpoint: Endpoint { host: docker.host, tls, source }, unverified })
}

/// Rejects endpoints that do not work, or not securely, before kindmesh connects to them.
fn usable(found: Found) -> Result<Endpoint, Refused> {
    let Found { mut endpoint, unverified } = found;
    let where_to = format!("the engine at {} ({})", endpoint.host, endpoint.source);
    let refuse = |reason: Reason, message: String, hint: String| {
        Err(Refused::new(reason, Error::prerequisite(message).hint(hint)))
    };
    match endpoint.host.split_once("://").map(|(scheme, _)| scheme) {
        // A socket never uses TLS, whatever the variables say, as in the docker client.
        Some("unix") => endpoint.tls = None,
        Some("tcp" | "http" | "https") => {
            if !is_this_machine(&endpoint.host) {
                let message = format!(
                    "{where_to} is on another host: kind would publish the API servers on that host's \
                        127.0.0.1, which cannot be reached from this host"
                );
                return refuse(Reason::Remote, message, forward_hint());
            }
            if let Some(by) = unverified {
                let message = format!("{where_to} would not be verified ({by}), which kindmesh does not support");
                return refuse(Reason::Address, message, TLS_HINT.into());
            }
            check_tls(&endpoint, &where_to).map_err(|error| Refused::new(Reason::Address, error))?;
        }
        Some("ssh") => {
            let message = format!("{where_to} uses ssh, which kindmesh does not support");
            return refuse(Reason::Remote, message, forward_hint());
        }
        _ => {
            let message = format!(
                "\"{}\" ({}) is not an engine address: it must start with unix:// or tcp://",
                endpoint.host, endpoint.source
            );
            return refuse(Reason::Address, message, "unset DOCKER_HOST, or check: docker context ls".into());
        }
    }
    Ok(endpoint)
}

/// Both sides are verified or neither: the client library does not support TLS without a client certificate.
fn check_tls(endpoint: &Endpoint, where_to: &str) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::prerequisite(format!("{where_to} {why}")).hint(TLS_HINT));
    let Some(folder) = &endpoint.tls else {
        return match endpoint.host.starts_with("https://") {
            true => refuse("requires TLS, but no certificates are configured".into()),
            false => Ok(()),
        };
    };
    let missing: Vec<_> = TLS_FILES.into_iter().filter(|file| !folder.join(file).is_file()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => refuse(format!(
            "uses TLS, but {} has no {}: TLS requires all of {}",
            folder.display(),
            missing.join(", "),
            TLS_FILES.join(", ")
        )),
    }
}

/// The files of a TLS endpoint: the CA of the engine's certificate, and the client's certificate and key.
const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];
const TLS_HINT: &str = "configure CA, certificate and key: DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or \
    docker context update NAME --docker host=…,ca=…,cert=…,key=…";

fn forward_hint() -> String {
    "run kindmesh on that host, or in a container that shares the network of the engine's, with DOCKER_HOST=tcp://127.0.0.1:2375; or \
        forward its socket, and for each cluster the port that you set in its kind.networking.apiServerPort: ssh -NL \
        /tmp/docker.sock:/var/run/docker.sock -L PORT:127.0.0.1:PORT HOST, then DOCKER_HOST=unix:///tmp/docker.sock"
        .into()
}

/// Whether a TCP address is this host's own. An invalid address fails later, when connecting.
fn is_this_machine(address: &str) -> bool {
    let Ok(address) = address.parse::<http::Uri>() else { return true };
    let Some(host) = address.host() else { return true };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

impl Endpoint {
    /// Returns the environment variables with which the docker client, and so kind, uses this engine.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("DOCKER_HOST", self.host.clone())];
        if let Some(folder) = &self.tls {
            variables.push(("DOCKER_TLS_VERIFY", "1".into()));
            variables.push(("DOCKER_CERT_PATH", folder.display().to_string()));
        }
        variables
    }

    /// Makes a docker client, or kind, use this engine as kindmesh does, whatever this process's environment says.
    pub fn select(&self, command: &mut Command) {
        // Only variables that are set, so that the command line in an error stays short.
        for variable in self.removed_variables().filter(|variable| std::env::var_os(variable).is_some()) {
            command.env_remove(variable);
        }
        command.envs(self.variables());
    }

    /// Returns the environment variables that must not reach the docker client. None of them is in [`Self::variables`].
    fn removed_variables(&self) -> impl Iterator<Item = &'static str> {
        let tls = self.tls.is_none().then_some(TLS_VARIABLES).into_iter().flatten();
        UNWANTED_VARIABLES.into_iter().chain(tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::hex;
    use crate::base::error::Kind;

    fn around(home: &Path, variables: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            variables: variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            home: home.to_owned(),
        }
    }

    fn context(home: &Path, name: &str, docker: serde_json::Value) {
        let folder = home.join(".docker/contexts/meta").join(hex(&Sha256::digest(name)));
        std::fs::create_dir_all(&folder).unwrap();
        let meta = serde_json::json!({"Name": name, "Endpoints": {"docker": docker}});
        std::fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
    }

    fn at(host: &str) -> serde_json::Value {
        serde_json::json!({"Host": host})
    }

    /// Writes TLS files to a directory.
    fn certificates(folder: &Path, names: &[&str]) {
        std::fs::create_dir_all(folder).unwrap();
        for name in names {
            std::fs::write(folder.join(name), "").unwrap();
        }
    }

    fn refused(home: &Path, variables: &[(&str, &str)]) -> Error {
        let refused = resolve(&around(home, variables)).unwrap_err();
        let reason = if refused.error.hint.as_ref().is_some_and(|hint| hint.contains("ssh -NL")) {
            Reason::Remote
        } else {
            Reason::Address
        };
        assert_eq!((refused.reason, refused.error.kind), (reason, Kind::Prerequisite));
        refused.error
    }

    #[test]
    fn default_socket_without_configuration() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(resolve(&around(home.path(), &[])).unwrap().host, DEFAULT_SOCKET);
    }

    #[test]
    fn docker_host_beats_contexts() {
        let home = tempfile::tempdir().unwrap();
        context(home.path(), "desktop", at("unix:///desktop.sock"));
        let host = [("DOCKER_HOST", "unix:///host.sock"), ("DOCKER_CONTEXT", "desktop")];
        assert_eq!(resolve(&around(home.path(), &host)).unwrap().host, "unix:///host.sock");
        let context = [("DOCKER_CONTEXT", "desktop")];
        assert_eq!(resolve(&around(home.path(), &context)).unwrap().host, "unix:///desktop.sock");
    }

    #[test]
    fn current_context_of_the_docker_configuration() {
        let home = tempfile::tempdir().unwrap();
        context(home.path(), "colima", at("unix:///colima.sock"));
        std::fs::write(home.path().join(".docker/config.json"), r#"{"currentContext": "colima"}"#).unwrap();
        let found = resolve(&around(home.path(), &[])).unwrap();
        assert_eq!(found.host, "unix:///colima.sock");
        assert_eq!(found.source, "context \"colima\" of the Docker configuration");
    }

    #[test]
    fn missing_context_is_named() {
        let home = tempfile::tempdir().unwrap();
        let error = refused(home.path(), &[("DOCKER_CONTEXT", "gone")]);
        assert!(error.message.contains("context \"gone\" of DOCKER_CONTEXT"), "{}", error.message);
    }

    #[test]
    fn tls_goes_to_kind_too() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("certs");
        certificates(&folder, &TLS_FILES);
        let folder = folder.to_str().unwrap();
        let variables =
            [("DOCKER_HOST", "tcp://localhost:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", folder)];
        let found = resolve(&around(home.path(), &variables)).unwrap();
        assert_eq!(
            found.variables(),
            [
                ("DOCKER_HOST", "tcp://localhost:2376".to_owned()),
                ("DOCKER_TLS_VERIFY", "1".to_owned()),
                ("DOCKER_CERT_PATH", folder.to_owned())
            ]
        );
        assert_eq!(found.removed_variables().collect::<Vec<_>>(), UNWANTED_VARIABLES);
    }

    #[test]
    fn tls_variables_are_removed_without_tls() {
        let home = tempfile::tempdir().unwrap();
        context(home.path(), "plain", at("tcp://127.0.0.1:2375"));
        let inherited = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        for chosen in [("DOCKER_HOST", "unix:///host.sock"), ("DOCKER_CONTEXT", "plain")] {
            let found = resolve(&around(home.path(), &[inherited[0], inherited[1], chosen])).unwrap();
            assert_eq!(found.variables(), [("DOCKER_HOST", found.host.clone())]);
            let removed: Vec<_> = found.removed_variables().collect();
            assert!(inherited.iter().all(|(name, _)| removed.contains(name)), "{removed:?}");
        }
    }

    #[test]
    fn tls_engine_is_verified_or_rejected() {
        let home = tempfile::tempdir().unwrap();
        let unverified = serde_json::json!({"Host": "tcp://localhost:2376", "SkipTLSVerify": true});
        context(home.path(), "unverified", unverified);
        let error = refused(home.path(), &[("DOCKER_CONTEXT", "unverified")]);
        assert!(error.message.contains("(SkipTLSVerify)"), "{}", error.message);

        let host = ("DOCKER_HOST", "tcp://localhost:2376");
        let error = refused(home.path(), &[host, ("DOCKER_TLS", "1")]);
        assert!(error.message.contains("DOCKER_TLS without"), "{}", error.message);

        context(home.path(), "no-client", at("tcp://localhost:2376"));
        let id = hex(&Sha256::digest("no-client"));
        certificates(&home.path().join(".docker/contexts/tls").join(id).join("docker"), &["ca.pem"]);
        let error = refused(home.path(), &[("DOCKER_CONTEXT", "no-client")]);
        assert!(error.message.contains("has no cert.pem, key.pem"), "{}", error.message);

        refused(home.path(), &[("DOCKER_HOST", "https://localhost:2376")]);
    }

    #[test]
    fn remote_engine_is_an_error_with_a_workaround() {
        let home = tempfile::tempdir().unwrap();
        for host in
            ["ssh://me@host", "tcp://build.example:2375", "tcp://192.168.0.2:2376", "https://[fd00::2]:2376"]
        {
            let error = refused(home.path(), &[("DOCKER_HOST", host)]);
            assert!(error.hint.unwrap().contains("ssh -NL"), "{host}");
        }
        for host in ["tcp://localhost:2375", "tcp://127.0.0.2:2375", "tcp://[::1]:2375", "http://127.0.0.1:2375"] {
            assert_eq!(resolve(&around(home.path(), &[("DOCKER_HOST", host)])).unwrap().host, host);
        }
    }

    #[test]
    fn invalid_engine_address_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        for host in ["localhost:2375", "npipe:////./pipe/docker_engine", "/var/run/docker.sock"] {
            assert!(
                refused(home.path(), &[("DOCKER_HOST", host)]).message.contains("is not an engine address"),
                "{host}"
            );
        }
    }
}
