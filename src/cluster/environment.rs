//! An existing environment: its stored spec, its files, and clients for its clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::Client;
use tokio::sync::Mutex;

use crate::base::error::Error;
use crate::base::hint::up_hint;
use crate::base::names;
use crate::cluster::refusal::{Record, Records};
use crate::cluster::{client, existing};
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::kubeconfig::contexts::Users;
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
    clients: Clients,
}

/// The clients of clusters that exist, by name, so that their credentials are requested once. Clones share them.
#[derive(Clone, Default)]
struct Clients(Arc<Mutex<BTreeMap<String, Client>>>);

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients { .. }")
    }
}

/// The plan of an environment, and the engine that it was planned on.
#[derive(Debug)]
pub struct Planned {
    /// None if all clusters exist already.
    pub engine: Option<Engine>,
    /// The plan.
    pub plan: Plan,
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

/// Whether an environment may have nodes on the engine: kind creates some of its clusters, or its spec is not known.
pub fn may_have_nodes(spec: Option<&Spec>) -> bool {
    spec.is_none_or(Spec::has_kind_clusters)
}

/// Connects to the engine and inspects it, if the environment with this spec may have nodes there.
///
/// # Errors
/// The engine's.
pub async fn look(spec: Option<&Spec>) -> anyhow::Result<(Option<Engine>, Inventory)> {
    if !may_have_nodes(spec) {
        return Ok((None, Inventory::default()));
    }
    let engine = Engine::connect().await?;
    let inventory = gather::gather(&engine).await?;
    Ok((Some(engine), inventory))
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
            Some(spec) => Ok(Self { spec, files, records: Records::default(), clients: Clients::default() }),
            None => Err(absent(name).into()),
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// Returns its versions of Istio, each once: of an Istio that is used as it is, the one that the last `up` found.
    pub fn istio_versions(&self) -> String {
        if self.spec.mesh.install {
            return self.spec.istio_versions();
        }
        let found = |name: &str| Some(self.files.known(name).ok()??.istio);
        let versions: BTreeSet<String> = self.cluster_names().into_iter().filter_map(found).collect();
        versions.into_iter().collect::<Vec<_>>().join(", ")
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

    /// Whether a cluster exists already, so that kindmesh does not own its nodes.
    pub fn exists(&self, cluster: &str) -> bool {
        self.cluster(cluster).is_ok_and(spec::Cluster::exists)
    }

    /// Returns the context of a cluster in the environment's kubeconfig.
    pub fn context(&self, cluster: &str) -> String {
        match self.exists(cluster) {
            true => names::existing_context(self.name(), cluster),
            false => format!("kind-{}", names::kind_name(self.name(), cluster)),
        }
    }

    /// Returns the plan of the existing environment. The name of the sample image does not matter for it, so no executable
    /// is read.
    ///
    /// # Errors
    /// If it cannot be planned.
    pub fn plan(&self, engine: &Engine, inventory: Inventory) -> anyhow::Result<Plan> {
        self.plan_with(Some(engine), inventory)
    }

    /// Returns the plan of the existing environment, and connects to the engine if kind created any of its clusters.
    ///
    /// # Errors
    /// If it cannot be planned, or the engine does not respond.
    pub async fn planned(&self) -> anyhow::Result<Planned> {
        let (engine, inventory) = look(Some(&self.spec)).await?;
        let plan = self.plan_with(engine.as_ref(), inventory)?;
        Ok(Planned { engine, plan })
    }

    /// Returns the plan, with an engine if kind created any of the clusters.
    ///
    /// # Errors
    /// If it cannot be planned.
    pub fn plan_with(&self, engine: Option<&Engine>, mut inventory: Inventory) -> anyhow::Result<Plan> {
        for cluster in self.spec.clusters.iter().filter(|cluster| cluster.exists()) {
            let known = self.files.known(cluster.name.as_str())?.unwrap_or_default();
            inventory.existing.insert(cluster.name.to_string(), known);
        }
        inventory.executable = engine.map(|engine| inventory::Executable {
            os: engine.facts.os.clone(),
            architecture: engine.facts.architecture.clone(),
            digest: String::new(),
        });
        Ok(plan::plan(&self.spec, &inventory)?)
    }

    /// Returns the reasons known to this process why a cluster's API server may refuse requests for a while.
    pub fn record(&self, cluster: &str) -> Record {
        self.records.of(cluster)
    }

    /// Returns a client for a cluster's API server. Each of its requests has a timeout: see [`client::connect`].
    ///
    /// # Errors
    /// If the cluster's kubeconfig file is missing or invalid; for a cluster that exists, if its context is, or names another
    /// cluster than when `up` ran.
    pub async fn client(&self, cluster: &str) -> anyhow::Result<Client> {
        if let Some(context) = &self.cluster(cluster)?.context {
            return self.client_of(cluster, context).await;
        }
        let path = self.files.of_cluster(cluster, "kubeconfig");
        if !path.exists() {
            let message = format!("cluster {cluster} of environment \"{}\" has no kubeconfig", self.name());
            return Err(Error::environment(message).hint(up_hint(self.name())).into());
        }
        client::connect(&path).await
    }

    async fn client_of(&self, cluster: &str, context: &str) -> anyhow::Result<Client> {
        let mut clients = self.clients.0.lock().await;
        if let Some(client) = clients.get(cluster) {
            return Ok(client.clone());
        }
        let users = Users::of_process()?;
        users.require(context)?;
        let found = client::of_context(&users, context).await?;
        let uid = existing::uid(&found.client).await?;
        let recorded = self.files.known(cluster)?.unwrap_or_default().uid;
        if !recorded.is_empty() && uid != recorded {
            let message = format!("context {context} names another cluster than when kindmesh installed the mesh");
            return Err(Error::usage(message)
                .evidence(format!("UID of namespace kube-system: {uid}, was {recorded}"))
                .hint(format!("make it name that cluster again, at {}", found.server))
                .into());
        }
        clients.insert(cluster.to_owned(), found.client.clone());
        Ok(found.client)
    }
}

/// Returns the error for an environment that does not exist.
pub fn absent(name: &str) -> Error {
    Error::environment(format!("environment \"{name}\" not found")).hint(up_hint(name))
}
