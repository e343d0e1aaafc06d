//! One environment as a value: create it, call through it, delete it.
//!
//! ```no_run
//! use kindmesh::Environment;
//! use kindmesh::environment::Request;
//!
//! # #[tokio::main]
//! # async fn main() -> anyhow::Result<()> {
//! let environment = Environment::builder().name("demo").spec("samples: {producer: {replicas: 1}}").up().await?;
//! let answer = environment.call("cluster1", &Request { delay: 100, ..Request::default() }).await?;
//! println!("{} from {:?}", answer.status_code, answer.served_by());
//! environment.down().await
//! # }
//! ```
//!
//! Errors are [`anyhow::Error`]s. [`find_error`](crate::find_error) returns the [`Error`](crate::Error) inside,
//! with the evidence and a hint. The futures of [`Builder::up`] and [`Environment::down`] are not `Send`: await
//! them in `main` or in a test, not in `tokio::spawn`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::Events;
use crate::base::hint::up_hint;
use crate::base::wait;
use crate::cluster::call::{self, Caller};
use crate::cluster::environment;
use crate::host::state::Directories;
use crate::lifecycle::up::{self, up};
use crate::lifecycle::{down, locked};
use crate::spec::load::FILES_VARIABLE;
use crate::spec::{self, Loaded, Sources, environment_name};

pub use crate::cluster::call::{Answer, Request};
pub use crate::sample::Protocol;

/// The timeout of one call. The sample caller itself times out after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);
/// The timeout of deleting an environment.
const DOWN_TIMEOUT: Duration = Duration::from_secs(300);

/// Which environment, and how to create it.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    name: Option<String>,
    files: Vec<PathBuf>,
    text: Option<String>,
    timeout: Option<Duration>,
    folders: Option<Directories>,
}

impl Builder {
    /// Sets the environment's name: a DNS label of at most 20 characters. The default is the spec's name, else
    /// `kindmesh`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets a spec as YAML text, on top of the defaults. No file is read then.
    #[must_use]
    pub fn spec(mut self, yaml: impl Into<String>) -> Self {
        self.text = Some(yaml.into());
        self
    }

    /// Adds a spec file, like `kindmesh up -f FILE`. May be called repeatedly: later files override earlier ones.
    #[must_use]
    pub fn spec_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Sets the timeout of [`Builder::up`]; 15 minutes by default, for a first run that pulls every image.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the state directory and the cache directory. The defaults are `$XDG_STATE_HOME/kindmesh` and
    /// `$XDG_CACHE_HOME/kindmesh`, as for the command.
    #[must_use]
    pub fn folders(mut self, state: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        self.folders = Some(Directories { state: state.into(), cache: cache.into() });
        self
    }

    /// Creates or repairs the environment, like `kindmesh up`. Returns when a cross-cluster call has succeeded.
    /// Without [`Builder::spec`] and [`Builder::spec_file`], it uses the spec that `kindmesh up` would use in the
    /// working directory.
    ///
    /// # Errors
    /// If the environment does not work, with the evidence and a hint. What was created is kept: another `up`
    /// continues.
    pub async fn up(self) -> anyhow::Result<Environment> {
        install_tls();
        let (loaded, folders) = (self.load()?, self.state()?);
        let mut options = up::Options::default();
        options.timeout = self.timeout.unwrap_or(options.timeout);
        up(&loaded, &options, &folders, &Events::silent()).await?;
        Environment::of(folders, loaded.spec.name.as_str())
    }

    /// Opens a running environment. Changes nothing.
    ///
    /// # Errors
    /// If there is no environment of that name.
    pub fn open(self) -> anyhow::Result<Environment> {
        install_tls();
        let name = match &self.text {
            Some(_) => self.load()?.spec.name,
            None => self.sources()?.name()?,
        };
        Environment::of(self.state()?, name.as_str())
    }

    fn state(&self) -> Result<Directories, Error> {
        self.folders.clone().map_or_else(Directories::of_process, Ok)
    }

    fn sources(&self) -> anyhow::Result<Sources> {
        let invalid = |error| {
            let name = self.name.as_deref().unwrap_or_default();
            Error::usage(format!("{name:?} is not a valid environment name: {error}"))
        };
        Ok(Sources {
            directory: std::env::current_dir().context("reading the working directory")?,
            variable: std::env::var_os(FILES_VARIABLE),
            environment: None,
            files: self.files.clone(),
            name: self.name.as_deref().map(environment_name).transpose().map_err(invalid)?,
        })
    }

    fn load(&self) -> anyhow::Result<Loaded> {
        let sources = self.sources()?;
        let Some(text) = &self.text else { return Ok(sources.load()?) };
        let mut loaded = spec::from_text(text, "the spec")?;
        loaded.spec.name = sources.name.unwrap_or(loaded.spec.name);
        Ok(loaded)
    }
}

/// One TLS provider for the process. A program that has chosen one already keeps it.
pub(super) fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A running environment.
#[derive(Debug, Clone)]
pub struct Environment {
    pub(super) opened: environment::Environment,
    pub(super) folders: Directories,
}

impl Environment {
    /// Returns a builder.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn of(folders: Directories, name: &str) -> anyhow::Result<Self> {
        Ok(Self { opened: environment::Environment::open(&folders, name)?, folders })
    }

    /// Returns the environment's name.
    pub fn name(&self) -> &str {
        self.opened.name()
    }

    /// Returns the names of its clusters.
    pub fn clusters(&self) -> Vec<&str> {
        self.opened.cluster_names()
    }

    /// Returns the path of the kubeconfig with a context for each cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.opened.files.kubeconfig()
    }

    /// Returns the name of a cluster's context in that kubeconfig.
    ///
    /// # Errors
    /// A usage error that lists the existing clusters.
    pub fn context(&self, cluster: &str) -> Result<String, Error> {
        self.opened.cluster(cluster)?;
        Ok(self.opened.context(cluster))
    }

    /// Returns a client for a cluster's API server.
    ///
    /// # Errors
    /// A usage error that lists the existing clusters; or if the cluster has no kubeconfig.
    pub async fn client(&self, cluster: &str) -> anyhow::Result<Client> {
        self.opened.cluster(cluster)?;
        self.opened.client(cluster).await
    }

    /// Makes the sample caller of a cluster call the sample producer, like `kindmesh call`. Every status of the
    /// producer or the mesh is a response, not an error.
    ///
    /// # Errors
    /// A usage error for a cluster without a caller; or if the caller itself cannot be reached.
    pub async fn call(&self, from: &str, request: &Request) -> anyhow::Result<Answer> {
        let from = self.opened.caller(Some(&from.parse().map_err(Error::usage)?))?.to_owned();
        locked::require_running(self.name(), &[&from]).await?;
        let client = self.client(&from).await?;
        let namespace = self.opened.spec.samples.namespace.as_str();
        let called = async {
            let caller = Caller::connect(&client, namespace).await;
            caller.map_err(|error| call::unreached(error, &from))?.call(request).await
        };
        tokio::time::timeout(CALL_TIMEOUT, called).await.map_err(|_| {
            Error::environment(format!("the caller in {from} did not respond within {} s", CALL_TIMEOUT.as_secs()))
                .hint(format!("check what is wrong: kindmesh status; repair: {}", up_hint(self.name())))
        })?
    }

    /// Deletes the environment: everything that `up` created.
    ///
    /// # Errors
    /// Errors of the engine or the file system; or if it takes longer than 5 minutes. Another `down` continues.
    pub async fn down(self) -> anyhow::Result<()> {
        let events = Events::silent();
        let deadline = Instant::now() + DOWN_TIMEOUT;
        let down = down::down(&self.folders, self.name(), deadline, &events);
        let late = || {
            Error::environment(format!("not deleted after {} s", DOWN_TIMEOUT.as_secs()))
                .hint(format!("kindmesh down --name {} continues", self.name()))
        };
        wait::within(deadline, &events, down, late).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_spec_overrides_defaults_and_name_overrides_spec() {
        let builder = Environment::builder().spec("{name: spec, samples: {enabled: false}}");
        let loaded = builder.clone().load().unwrap();
        assert_eq!((loaded.spec.name.as_str(), loaded.spec.samples.enabled), ("spec", false));
        assert_eq!(builder.name("mine").load().unwrap().spec.name.as_str(), "mine");
    }

    #[test]
    fn error_states_the_problem_and_the_valid_values() {
        let error = Environment::builder().name("Not a name").load().unwrap_err();
        assert!(error.to_string().starts_with("\"Not a name\" is not a valid environment name: "), "{error}");
        let error = Environment::builder().spec("clusters: 3").load().unwrap_err();
        assert!(error.to_string().contains("the spec:1:11"), "{error}");
    }

    #[tokio::test]
    async fn missing_environment_cannot_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let builder = Environment::builder().name("absent").folders(folder.path(), folder.path());
        let error = builder.open().unwrap_err();
        assert_eq!(error.to_string(), "environment \"absent\" not found");
        let hint = crate::base::error::find(&error).unwrap().hint.clone();
        assert_eq!(hint.as_deref(), Some("kindmesh up --name absent"));
    }
}
