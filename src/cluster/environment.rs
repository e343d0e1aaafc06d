//! An environment that was made: its stored spec, its files, and clients for its clusters.

use kube::Client;

use crate::base::error::Error;
use crate::base::hint::up_hint;
use crate::base::names;
use crate::cluster::client;
use crate::cluster::refusal::{Record, Records};
use crate::host::docker::Engine;
use crate::host::state::{self, Files, Folders};
use crate::plan::admission::Past;
use crate::plan::inventory::{self, Inventory};
use crate::plan::{self, Plan};
use crate::spec::{self, Spec};

/// An environment as its files tell it.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The spec it was made from.
    pub spec: Spec,
    /// Its files.
    pub files: Files,
    records: Records,
}

/// The stored spec of an environment, if it has one.
///
/// # Errors
/// When it is there and cannot be read: written by another version, or by hand.
pub fn stored(files: &Files) -> anyhow::Result<Option<Spec>> {
    let path = files.spec();
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    Ok(Some(spec::from_text(&text, &path.display().to_string())?.spec))
}

/// Stores the spec that the environment is made from.
///
/// # Errors
/// The file system's.
pub fn store(files: &Files, spec: &Spec) -> anyhow::Result<bool> {
    state::write_private(&files.spec(), spec::to_yaml(spec)?.as_bytes())
}

/// What the files of an environment tell of it.
///
/// # Errors
/// When one of them cannot be read.
pub fn past(files: &Files) -> anyhow::Result<Past> {
    Ok(Past { engine: files.engine_on_file()?, spec: stored(files)? })
}

impl Environment {
    /// Opens the environment of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(folders: &Folders, name: &str) -> anyhow::Result<Self> {
        let files = folders.environment(name);
        match stored(&files)? {
            Some(spec) => Ok(Self { spec, files, records: Records::default() }),
            None => Err(absent(name).into()),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// The names of its clusters.
    pub fn cluster_names(&self) -> Vec<&str> {
        self.spec.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
    }

    /// The cluster of that name.
    ///
    /// # Errors
    /// A usage error that lists those there are.
    pub fn cluster(&self, name: &str) -> Result<&spec::Cluster, Error> {
        self.spec.clusters.iter().find(|cluster| cluster.name.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = self.spec.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
            Error::usage(format!("environment \"{}\" has no cluster \"{name}\"", self.name()))
                .hint(format!("its clusters are: {}", names.join(", ")))
        })
    }

    /// The cluster whose caller is to call: the one named, else the first that has one.
    ///
    /// # Errors
    /// A usage error that lists those there are.
    pub fn caller<'a>(&'a self, named: Option<&'a spec::Label>) -> Result<&'a str, Error> {
        let samples = &self.spec.samples;
        let from = match named.or(samples.caller.clusters.first()) {
            Some(from) if samples.enabled => from.as_str(),
            _ => return Err(Error::usage("this environment has no caller: its samples are off")),
        };
        self.cluster(from)?;
        if !samples.caller.clusters.iter().any(|cluster| cluster.as_str() == from) {
            let callers: Vec<_> = samples.caller.clusters.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format!("cluster {from} has no caller"))
                .hint(format!("callers run in: {}", callers.join(", "))));
        }
        Ok(from)
    }

    /// The context of a cluster in the environment's kubeconfig.
    pub fn context(&self, cluster: &str) -> String {
        format!("kind-{}", names::kind_name(self.name(), cluster))
    }

    /// The plan of the environment as it is. Which image the samples would have does not matter to one that is there,
    /// and no executable is read for it.
    ///
    /// # Errors
    /// When it cannot be planned.
    pub fn plan(&self, engine: &Engine, mut inventory: Inventory) -> Result<Plan, Error> {
        inventory.executable = Some(inventory::Executable {
            os: engine.facts.os.clone(),
            architecture: engine.facts.architecture.clone(),
            digest: String::new(),
        });
        plan::plan(&self.spec, &inventory)
    }

    /// Why a cluster's API server may refuse something for a while, as far as this process knows.
    pub fn record(&self, cluster: &str) -> Record {
        self.records.of(cluster)
    }

    /// A client for a cluster's API server, each of whose calls is bounded in time: see [`client::connect`].
    ///
    /// # Errors
    /// When the cluster's kubeconfig file is missing or cannot be used.
    pub async fn client(&self, cluster: &str) -> anyhow::Result<Client> {
        let path = self.files.of_cluster(cluster, "kubeconfig");
        if !path.exists() {
            let message = format!("cluster {cluster} of environment \"{}\" has no kubeconfig", self.name());
            return Err(Error::environment(message).hint(up_hint(self.name())).into());
        }
        client::connect(&path).await
    }
}

/// There is no environment of that name.
pub fn absent(name: &str) -> Error {
    Error::environment(format!("there is no environment \"{name}\"")).hint(up_hint(name))
}
