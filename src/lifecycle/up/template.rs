//! Templates: snapshots that `up` takes of what it created, so that the next `up` with the same result need not create it.
//!
//! A template is taken of clusters that this `up` created, before anyone else can have changed them. Its key is a digest of
//! everything that decides the result, so a template is never out of date; it is only not found. The root of trust is not
//! part of it: every restored environment gets a new one. The steps after a restore are those after a creation.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::DynamicObject;
use sha2::{Digest, Sha256};

use super::cluster::Ready;
use super::{OnEngine, Run};
use crate::base::digest;
use crate::base::error::{self, Error};
use crate::base::event::{Events, Outcome, Step};
use crate::base::hint::{down_hint, up_hint};
use crate::cluster::link;
use crate::cluster::mesh::roots;
use crate::cluster::rollout::Workload;
use crate::diagnose::diagnosis::waits;
use crate::host::docker::{Engine, bake};
use crate::host::kind;
use crate::host::snapshot::{self, Snapshot, Store, pending, restore};
use crate::host::trust::Intermediate;
use crate::lifecycle::snapshot::{take, write};
use crate::plan::inventory::Inventory;
use crate::plan::{self, Cluster, Plan, image_names};
use crate::spec::{Spec, Subnet};

/// The version of what is done besides what is part of the key.
const RECIPE: &str = "3";
/// The number of templates to keep: each has some 55 MB for two clusters.
const KEPT: usize = 4;
/// How long keeping a template may take. Measured: 1.2 s.
const TEMPLATE_TIMEOUT: Duration = Duration::from_secs(60);
/// Variables from which kind takes proxies for the nodes.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/// Where missing clusters come from.
#[derive(Debug, Clone, Default)]
pub enum Origin {
    /// From the template of the plan, if there is one.
    #[default]
    Template,
    /// From kind and kubeadm.
    Fresh,
    /// From this snapshot, with its root of trust. It replaces existing clusters, too.
    Snapshot(Box<Snapshot>),
    /// From this snapshot, with a new root of trust, for an environment that does not exist yet.
    New(Box<Snapshot>),
}

impl Origin {
    /// Returns how to continue after an interrupted run.
    pub(super) fn next(&self, environment: &str) -> String {
        match self {
            Self::Template | Self::Fresh => format!("{} continues", up_hint(environment)),
            Self::Snapshot(snapshot) => format!("kindmesh snapshot restore {} starts over", snapshot.name),
            Self::New(snapshot) => {
                let (down, from) = (down_hint(environment), &snapshot.name);
                format!("{down}, then kindmesh up --from {from} --name {environment} starts over")
            }
        }
    }
}

/// Whether no template of an environment is kept: some of its clusters are never created, or the records of its clusters have keys of
/// the user.
fn has_no_template(spec: &Spec) -> bool {
    spec.trust.from.is_some() || spec.clusters.iter().any(|cluster| cluster.exists())
}

/// Where the missing clusters of one run come from.
#[derive(Debug)]
pub(super) enum Source {
    /// kind creates them.
    Kind,
    /// A template.
    Template(Snapshot),
    /// A snapshot, with its root of trust; it replaces existing clusters.
    Snapshot(Snapshot),
    /// A snapshot, with a new root of trust.
    New(Snapshot),
}

impl Source {
    /// Returns the source of a run: for [`Origin::Template`], the template of this spec if there is one.
    pub(super) async fn of(
        origin: &Origin,
        engine: &Engine,
        spec: &Spec,
        inventory: &Inventory,
        store: &Store,
        events: &Events,
    ) -> anyhow::Result<Self> {
        match origin {
            Origin::Fresh => Ok(Self::Kind),
            Origin::Snapshot(snapshot) => Ok(Self::Snapshot((**snapshot).clone())),
            Origin::New(snapshot) => {
                let name = spec.name.as_str();
                if inventory.environments.contains_key(name) {
                    return Err(Error::usage(format!("environment {name} already exists"))
                        .hint(format!("choose another name with --name, or delete it: {}", down_hint(name)))
                        .into());
                }
                Ok(Self::New((**snapshot).clone()))
            }
            Origin::Template if has_no_template(spec) => Ok(Self::Kind),
            Origin::Template => {
                let plan = plan::anonymous(spec, inventory)?;
                let mut node_images = BTreeMap::new();
                for name in plan.node_images() {
                    // Without these images the engine has no template either.
                    let Some(built) = bake::name(engine, name, &plan.stable_images_on(name)).await else {
                        return Ok(Self::Kind);
                    };
                    node_images.insert(name.to_owned(), built);
                }
                let key = key(engine, spec, inventory, &plan, &node_images)?;
                Ok(match store.open(&key) {
                    Ok(Some(template)) => Self::Template(template),
                    Ok(None) => Self::Kind,
                    Err(error) => {
                        events.note(format!("template {key} is not used: {}", error::brief(error)));
                        Self::Kind
                    }
                })
            }
        }
    }

    /// Makes the plan use the subnets and the identity of the source. A template whose subnets are in use is not used.
    ///
    /// # Errors
    /// For a snapshot, if its subnets are in use.
    pub(super) fn assume(&mut self, spec: &Spec, inventory: &mut Inventory) -> anyhow::Result<()> {
        let (Self::Template(snapshot) | Self::Snapshot(snapshot) | Self::New(snapshot)) = &*self else {
            return Ok(());
        };
        let manifest = &snapshot.manifest;
        let network = (spec.network.subnet == Subnet::Auto).then_some(manifest.subnet);
        let assumed = inventory.assume(spec.name.as_str(), &manifest.identity, network, &manifest.subnets());
        match (assumed, &*self) {
            (Ok(()), _) => Ok(()),
            (Err(_), Self::Template(_)) => {
                *self = Self::Kind;
                Ok(())
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// Returns the name of a template: a digest of everything that decides what `up` creates. `plan` is anonymous.
fn key(
    engine: &Engine,
    spec: &Spec,
    inventory: &Inventory,
    plan: &Plan,
    node_images: &BTreeMap<String, String>,
) -> anyhow::Result<String> {
    let proxies = PROXIES.map(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()));
    let executable = inventory.executable.as_ref().map(|executable| &executable.digest);
    let spec = plan::anonymous_spec(spec);
    let decides = serde_json::to_vec(&(RECIPE, executable, &engine.facts.id, node_images, plan, spec, proxies))?;
    Ok(digest::hex(&Sha256::digest(&decides))[..16].to_owned())
}

/// A cluster could not be created from a template of another environment, and kind cannot create it under that name.
#[derive(Debug, thiserror::Error)]
#[error("template {0} cannot be used")]
pub(super) struct Unusable(pub(super) String);

/// The templates, and what this run has done with them.
#[derive(Debug)]
pub(super) struct Templates {
    pub(super) store: Store,
    /// Where missing clusters come from.
    pub(super) source: Source,
    /// What a new template depends on besides the spec.
    pub(super) inventory: Inventory,
    /// The number of clusters that this run created with kind.
    created: AtomicUsize,
}

impl Templates {
    pub(super) fn new(store: Store, source: Source, inventory: Inventory) -> Self {
        Self { store, source, inventory, created: AtomicUsize::new(0) }
    }

    pub(super) fn created(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether existing clusters are replaced.
    pub(super) fn replaces(&self) -> bool {
        matches!(self.source, Source::Snapshot(_))
    }
}

impl Run {
    /// Creates a missing cluster from a snapshot or a template, if there is one. Returns whether it did; otherwise the
    /// cluster has to be created.
    pub(super) async fn restore(&self, cluster: &Cluster, node_image: &str, step: &Step) -> anyhow::Result<bool> {
        let saved = |snapshot: &Snapshot| snapshot.manifest.clusters.get(&cluster.name).cloned();
        let environment = &self.plan.environment;
        let signer = &self.plan.control_plane_of(cluster).name;
        let trust = || self.authority()?.intermediate(&self.files.trust(), environment, signer);
        let OnEngine { engine, existing, templates, .. } = self.on_engine()?;
        let restored = self.plan.docker()?.identity.is_some();
        let template = match &templates.source {
            Source::Kind => return self.require_own_identity(cluster).map(|()| false),
            Source::Snapshot(snapshot) | Source::New(snapshot) => {
                let saved = saved(snapshot);
                let saved = saved.with_context(|| format!("the snapshot has no cluster {}", cluster.name))?;
                let trust = if templates.replaces() { None } else { Some(trust()?) };
                self.restore_from(snapshot, &saved, cluster, trust.as_ref(), step).await?;
                return Ok(true);
            }
            Source::Template(template) => template,
        };
        // Without nodes, the environment can start over under its own name.
        let may_start_over = restored && existing.nodes.is_empty();
        let Some(saved) = saved(template).filter(|saved| saved.node_image == node_image) else {
            return match may_start_over {
                true => Err(Unusable(template.name.clone()).into()),
                false => self.require_own_identity(cluster).map(|()| false),
            };
        };
        let trust = trust()?;
        let Err(error) = self.restore_from(template, &saved, cluster, Some(&trust), step).await else {
            return Ok(true);
        };
        // One node may have failed while another one is being created.
        pending::settle(engine, &self.files, step).await?;
        let (key, name) = (&template.name, &cluster.name);
        if restored && !may_start_over {
            return Err(error);
        }
        step.note(format!("template {key} is not used, creating cluster {name}: {}", error::brief(error)));
        if may_start_over {
            return Err(Unusable(key.clone()).into());
        }
        templates.store.remove(key)?;
        Ok(false)
    }

    /// Fails if a cluster belongs to clusters that were created under another name: kind would create it under this one.
    fn require_own_identity(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let identity = self.on_engine()?.existing.identities.get(&cluster.name);
        let Some(identity) = identity else { return Ok(()) };
        let environment = &self.plan.environment;
        Err(Error::environment(format!(
            "cluster {} was created from a template that no longer exists",
            cluster.name
        ))
        .evidence(format!("its nodes have the names of environment {identity}, which kind cannot give them"))
        .hint(format!("recreate the environment: {}, then {}", down_hint(environment), up_hint(environment)))
        .into())
    }

    /// Creates a cluster from a snapshot; with `trust`, it gets this intermediate CA.
    async fn restore_from(
        &self,
        snapshot: &Snapshot,
        saved: &snapshot::Cluster,
        cluster: &Cluster,
        trust: Option<&Intermediate>,
        step: &Step,
    ) -> anyhow::Result<()> {
        let (docker, engine) = (self.plan.docker()?, &self.on_engine()?.engine);
        let (planned, network, manifest) = (cluster.kind()?, &docker.network.name, &snapshot.manifest);
        let create = async {
            // kind's; that of an earlier cluster may have the same port.
            let _ = std::fs::remove_file(self.files.of_cluster(&cluster.name, "kubeconfig"));
            kind::remove_nodes(engine, network, step, |node| node.kind_name == planned.name).await?;
            restore::create(engine, saved, cluster, network, &self.files).await
        };
        let ((), images) = futures::try_join!(create, self.built_image())?;
        let gateway = docker.gateway();
        let moved = (plan::first_address(manifest.subnet) != gateway).then_some(gateway);
        // Addresses of the snapshot's network, but not of this cluster's range: nobody would hold them.
        let kept = |address| !manifest.subnet.contains(&address) || planned.balances(address);
        let objects = roots::changed(&saved.objects, trust, moved, kept);
        let files = link::files(&self.plan, cluster)?;
        let source = restore::Source { snapshot, cluster: saved, images, objects, files };
        restore::fill(engine, cluster.nodes(), &source).await
    }

    /// Returns an archive of the sample image, if kindmesh builds it: then the node image does not contain it.
    async fn built_image(&self) -> anyhow::Result<Option<Arc<File>>> {
        let Some(samples) = self.plan.samples.as_ref().filter(|samples| samples.build) else { return Ok(None) };
        let image = std::slice::from_ref(&samples.image);
        let OnEngine { engine, images, sample_images, .. } = self.on_engine()?;
        images.ensure(image).await?;
        Ok(Some(sample_images.archive(engine, image).await?))
    }

    /// Waits until the workloads are ready that were ready in the snapshot.
    pub(super) async fn ensure_saved_workloads(&self, made: &[Ready<'_>]) -> anyhow::Result<()> {
        let source = self.on_engine.as_ref().map(|on| &on.templates.source);
        let Some(Source::Snapshot(snapshot) | Source::New(snapshot)) = source else { return Ok(()) };
        let each = made.iter().map(async |ready| {
            let name = &ready.cluster.name;
            let saved = snapshot.manifest.clusters.get(name).into_iter().flat_map(|saved| &saved.ready);
            let objects = saved.map(|object| serde_json::from_value(object.clone()));
            let objects = objects.collect::<Result<Vec<DynamicObject>, _>>().context("reading the snapshot")?;
            let step = self.events.step("rollout", Some(name));
            step.run(async |step| {
                for workload in objects.iter().filter_map(Workload::of) {
                    // Steps of this run may have deleted it, such as a sample that the spec does not have.
                    if workload.get(&ready.client).await?.is_some() {
                        let deadline = self.wait_deadline();
                        waits::workload(&ready.client, &workload, &ready.record, step, deadline).await?;
                    }
                }
                Ok(Outcome::unchanged(()))
            })
            .await
        });
        try_join_all(each).await.map(drop)
    }

    /// Keeps a template if this run created every cluster. A failure costs only the next `up` time.
    pub(super) async fn keep_template(&self, made: &[Ready<'_>]) -> anyhow::Result<()> {
        let created = self.on_engine.as_ref().map(|on| on.templates.created.load(Ordering::Relaxed));
        if created != Some(made.len()) || has_no_template(&self.spec) {
            return Ok(());
        }
        let step = self.events.step("template", None);
        step.run(async |step| {
            let taken = tokio::time::timeout(TEMPLATE_TIMEOUT, self.take_template(made)).await;
            let late = |_| anyhow::anyhow!("not finished within {} s", TEMPLATE_TIMEOUT.as_secs());
            let taken = taken.map_err(late).flatten();
            let changed = taken.unwrap_or_else(|error| {
                step.note(format!("no template kept: {}", error::brief(error)));
                false
            });
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Returns whether a template was kept.
    async fn take_template(&self, made: &[Ready<'_>]) -> anyhow::Result<bool> {
        let OnEngine { engine, images, templates, .. } = self.on_engine()?;
        let node_images = images.ensure_all_baked().await?;
        // With kind's own node image, images were loaded into nodes and would be missing.
        if !node_images.values().all(|name| image_names::is_built(name)) {
            return Ok(false);
        }
        let inventory = &templates.inventory;
        let plan = plan::anonymous(&self.spec, inventory)?;
        let key = key(engine, &self.spec, inventory, &plan, node_images)?;
        let clusters: Vec<_> = made.iter().map(|ready| (ready.cluster, &ready.client)).collect();
        let store = &templates.store;
        write(store, &key, async |begun| take(engine, &self.plan, &clusters, false, begun).await).await?;
        store.keep_newest(KEPT)?;
        Ok(true)
    }
}
