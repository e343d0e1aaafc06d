//! The parts of an environment that can be reached.

use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use serde_json::{Value, json};

use super::redact::Redactor;
use super::{Part, cluster, engine};
use crate::cluster::environment::{self, Environment};
use crate::diagnose::doctor;
use crate::diagnose::status;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::record;
use crate::host::state::{Directories, Files};
use crate::host::trust;
use crate::plan::Plan;
use crate::plan::inventory::Inventory;
use crate::spec::Origins;

/// The timeout of a cluster's API server.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of a layer of the status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts of an environment that can be reached.
pub(super) struct Look {
    name: String,
    folders: Directories,
    files: Files,
    opened: Option<Environment>,
    pub(super) engine: Option<Engine>,
    pub(super) inventory: Option<Inventory>,
    plan: Option<Plan>,
    /// The clusters whose API servers respond.
    pub(super) clients: Vec<(String, Client)>,
    missing: Vec<String>,
}

impl Look {
    pub(super) async fn around(folders: &Directories, name: &str) -> Self {
        let files = folders.environment(name);
        let mut look = Self {
            name: name.to_owned(),
            folders: folders.clone(),
            opened: None,
            engine: None,
            inventory: None,
            plan: None,
            clients: Vec::new(),
            missing: Vec::new(),
            files,
        };
        match Environment::open(folders, name) {
            Ok(opened) => look.opened = Some(opened),
            Err(error) => look.miss("the stored spec", &error),
        }
        if !environment::may_have_nodes(look.opened.as_ref().map(|opened| &opened.spec)) {
            look.inventory = Some(Inventory::default());
            look.make_plan();
            look.connect().await;
            return look;
        }
        match Engine::connect().await {
            Ok(engine) => {
                match gather::gather(&engine).await {
                    Ok(inventory) => look.inventory = Some(inventory),
                    Err(error) => look.miss("the inventory", &error),
                }
                look.engine = Some(engine);
            }
            Err(error) => look.miss("the engine", &error.into()),
        }
        look.make_plan();
        look.connect().await;
        look
    }

    fn miss(&mut self, what: &str, error: &anyhow::Error) {
        self.missing.push(format!("{what}: {error:#}"));
    }

    fn make_plan(&mut self) {
        let (Some(opened), Some(inventory)) = (&self.opened, &self.inventory) else { return };
        match opened.plan_with(self.engine.as_ref(), inventory.clone()) {
            Ok(plan) => self.plan = Some(plan),
            Err(error) => self.miss("the plan", &error),
        }
    }

    async fn connect(&mut self) {
        let Some(opened) = &self.opened else { return };
        let tries = opened.spec.clusters.iter().map(|cluster| async {
            let name = cluster.name.to_string();
            let connect = async {
                let client = opened.client(&name).await?;
                client.apiserver_version().await?;
                anyhow::Ok(client)
            };
            let client = match tokio::time::timeout(RESPONSE_TIMEOUT, connect).await {
                Ok(client) => client,
                Err(_) => Err(anyhow::anyhow!("no response within {} s", RESPONSE_TIMEOUT.as_secs())),
            };
            (name, client)
        });
        for (name, client) in join_all(tries).await {
            match client {
                Ok(client) => self.clients.push((name, client)),
                Err(error) => self.missing.push(format!("the API server of {name}: {error:#}")),
            }
        }
    }

    /// Whether anything of this environment exists.
    pub(super) fn any(&self) -> bool {
        let on_engine = self.inventory.as_ref().is_some_and(|found| found.environments.contains_key(&self.name));
        self.files.exist() || on_engine
    }

    /// Returns what could not be reached.
    pub(super) fn missing(&self) -> Vec<String> {
        self.missing.clone()
    }

    /// Adds every secret of the environment to the redactor: its key files, its kubeconfigs, and the Secrets of
    /// its clusters.
    pub(super) async fn teach(&self, redactor: &mut Redactor) {
        let clusters = self.files.clusters();
        let kubeconfigs = clusters.iter().map(|cluster| self.files.of_cluster(cluster, "kubeconfig"));
        let trust =
            std::fs::read_dir(self.files.trust()).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in kubeconfigs.chain(trust).chain([self.files.kubeconfig()]) {
            if let Ok(content) = std::fs::read(path) {
                redactor.learn(&content);
            }
        }
        for secrets in join_all(self.clients.iter().map(|(_, client)| cluster::secrets(client))).await {
            secrets.iter().for_each(|secret| redactor.learn(secret));
        }
    }

    /// Returns the parts of the archive.
    pub(super) async fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = self.own();
        if let Some(engine) = &self.engine {
            let found = self.inventory.as_ref().and_then(|inventory| inventory.environments.get(&self.name));
            parts.extend(engine::parts(engine, found));
        }
        for found in join_all(self.clients.iter().map(|(name, client)| cluster::parts(name, client))).await {
            parts.extend(found);
        }
        parts
    }

    /// Returns kindmesh's own data: the spec, the plan, the inventory, versions, the records of the last runs.
    fn own(&self) -> Vec<Part<'_>> {
        let mut parts = vec![Part::json("versions.json", self.versions())];
        if let Some(opened) = &self.opened {
            parts.push(Part::new("spec.yaml", async { crate::spec::to_yaml(&opened.spec) }));
        }
        if let Some(plan) = &self.plan {
            parts.push(Part::json("plan.json", plan));
        }
        if let Some(inventory) = &self.inventory {
            parts.push(Part::json("inventory.json", inventory));
        }
        if let (Some(inventory), Some(opened)) = (&self.inventory, &self.opened) {
            parts.push(Part::new("status.json", async move {
                let status =
                    status::status(self.engine.as_ref(), inventory.clone(), opened, STATUS_TIMEOUT).await?;
                Ok(serde_json::to_vec_pretty(&status)?)
            }));
        }
        if let Some(opened) = &self.opened {
            parts.push(Part::new("doctor.json", async move {
                let report =
                    doctor::doctor(&opened.spec, &Origins::default(), &self.folders, doctor::TIMEOUT).await;
                Ok(serde_json::to_vec_pretty(&report)?)
            }));
        }
        for run in record::list(&self.files) {
            let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
            parts.push(Part::new(format!("runs/{name}"), async move { Ok(std::fs::read(run)?) }));
        }
        if self.files.trust().is_dir() {
            parts.push(Part::json("certificates.json", self.certificates()));
        }
        for cluster in self.files.clusters() {
            for file in ["kind.yaml", "kind.log"] {
                let path = self.files.of_cluster(&cluster, file);
                // `up` does not recreate these files when they are lost.
                if !path.exists() {
                    continue;
                }
                parts.push(Part::new(
                    format!("clusters/{cluster}/{file}"),
                    async move { Ok(std::fs::read(path)?) },
                ));
            }
        }
        parts
    }

    fn versions(&self) -> Value {
        let facts = self.engine.as_ref().map(|engine| json!({"engine": engine.facts, "at": engine.endpoint.host}));
        json!({
            "kindmesh": env!("CARGO_PKG_VERSION"),
            "host": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            "engine": facts,
            "environment": self.inventory.as_ref().and_then(|found| found.environments.get(&self.name)).map(|found| &found.version),
            "nodeImage": self.opened.as_ref().map(|opened| opened.spec.node_images()),
            "istio": self.opened.as_ref().map(|opened| opened.istio_versions()),
        })
    }

    /// Returns the fields of the certificates, without the certificates themselves.
    fn certificates(&self) -> Value {
        let entries = std::fs::read_dir(self.files.trust()).into_iter().flatten().flatten();
        let describe =
            |path: std::path::PathBuf| {
                let name = path.file_name()?.to_string_lossy().into_owned();
                let pem = std::fs::read(&path).ok().filter(|_| name.ends_with("-cert.pem"))?;
                let said =
                    match trust::inspect(&pem) {
                        Ok(certificates) => json!(certificates.iter().map(|found| json!({
                    "subject": found.subject, "issuer": found.issuer,
                    "notBefore": found.not_before.to_string(), "notAfter": found.not_after.to_string(),
                })).collect::<Vec<_>>()),
                        Err(error) => json!(format!("{error:#}")),
                    };
                Some((name, said))
            };
        let found: serde_json::Map<String, Value> = entries.filter_map(|entry| describe(entry.path())).collect();
        Value::Object(found)
    }
}
