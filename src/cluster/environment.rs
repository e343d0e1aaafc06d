//! An existing environment: its stored spec, its files, and clients for its clusters.

use kube::Client;

use crate::base::error::Error;
use crate::base::hint::up_hint;
use crate::base::names;
use crate::cluster::client;
use crate::cluster::refusal::{Record, Records};
use crate::host::docker::Engine;
use crate::host::state::{self, Directories, Files};
use crate::plan::admission::Past;
use crate::plan::inventory::{self, Inventory};
use crate::plan::{self, Plan};
use crate::spec::{self, Spec};

/// An environment as recorded in its files.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its stored spec.
    pub spec: Spec,
    /// Its files.
    pub files: Files,
    records: Records,
}

/// Returns the stored spec of an environment, if any.
///
/// # Errors
/// If it exists and cannot be read: written by another version, or by hand.
pub fn stored(files: &Files) -> anyhow::Result<Option<Spec>> {
    let path = files.spec();
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    Ok(Some(spec::from_text(&text, &path.display().to_string())?.spec))
}

/// Stores the spec of an environment.
///
/// # Errors
/// The file system's.
pub fn store(files: &Files, spec: &Spec) -> anyhow::Result<bool> {
    state::write_private(&files.spec(), spec::to_yaml(spec)?.as_bytes())
}

/// Returns what the files of an environment record.
///
/// # Errors
/// If one of them cannot be read.
pub fn past(files: &Files) -> anyhow::Result<Past> {
    Ok(Past { engine: files.engine_on_file()?, spec: stored(files)? })
}

impl Environment {
    /// Opens the environment of that name.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn open(folders: &Directories, name: &str) -> anyhow::Result<Self> {
        let files = folders.environment(name);
        match stored(&files)? {
            Some(spec) => Ok(Self { spec, files, records: Records::default() }),
            None => Err(absent(name).into()),
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// Returns the names of its clusters.
    pub fn cluster_names(&self) -> Vec<&str> {
        self.spec.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
    }

    /// Returns the cluster of that name.
    ///
    /// # Errors
    /// A usage error that lists the valid names.
    pub fn cluster(&self, name: &str) -> Result<&spec::Cluster, Error> {
        self.spec.clusters.iter().find(|cluster| cluster.name.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = self.spec.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
            Error::usage(format!("environment \"{}\" has no cluster \"{name}\"", self.name()))
                .hint(format!("use one of {}", names.join(", ")))
        })
    }

    /// Returns the cluster to call from: the specified one, else the first with a caller.
    ///
    /// # Errors
    /// A usage error that lists the valid names.
    pub fn caller<'a>(&'a self, named: Option<&'a spec::Label>) -> Result<&'a str, Error> {
        let samples = &self.spec.samples;
        let from = match named.or(samples.caller.clusters.first()) {
            Some(from) if samples.enabled => from.as_str(),
            _ => return Err(Error::usage("this environment has no caller: samples are disabled")),
        };
        self.cluster(from)?;
        if !samples.caller.clusters.iter().any(|cluster| cluster.as_str() == from) {
            let callers: Vec<_> = samples.caller.clusters.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format!("cluster {from} has no caller"))
                .hint(format!("use a cluster with a caller: {}", callers.join(", "))));
        }
        Ok(from)
    }

    /// Returns the context of a cluster in the environment's kubeconfig.
    pub fn context(&self, cluster: &str) -> String {
        format!("kind-{}", names::kind_name(self.name(), cluster))
    }

    /// Returns the plan of the existing environment. The name of the sample image does not matter for it, so no executable
    /// is read.
    ///
    /// # Errors
    /// If it cannot be planned.
    pub fn plan(&self, engine: &Engine, mut inventory: Inventory) -> Result<Plan, Error> {
        inventory.executable = Some(inventory::Executable {
            os: engine.facts.os.clone(),
            architecture: engine.facts.architecture.clone(),
            digest: String::new(),
        });
        plan::plan(&self.spec, &inventory)
    }

    /// Returns the reasons known to this process why a cluster's API server may refuse requests for a while.
    pub fn record(&self, cluster: &str) -> Record {
        self.records.of(cluster)
    }

    /// Returns a client for a cluster's API server. Each of its requests has a timeout: see [`client::connect`].
    ///
    /// # Errors
    /// If the cluster's kubeconfig file is missing or invalid.
    pub async fn client(&self, cluster: &str) -> anyhow::Result<Client> {
        let path = self.files.of_cluster(cluster, "kubeconfig");
        if !path.exists() {
            let message = format!("cluster {cluster} of environment \"{}\" has no kubeconfig", self.name());
            return Err(Error::environment(message).hint(up_hint(self.name())).into());
        }
        client::connect(&path).await
    }
}

/// Returns the error for an environment that does not exist.
pub fn absent(name: &str) -> Error {
    Error::environment(format!("environment \"{name}\" not found")).hint(up_hint(name))
}
