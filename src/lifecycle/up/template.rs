//! Templates: snapshots that `up` takes of what it created, so that the next `up` with the same result need not create it.
//!
//! A template is taken of clusters that this `up` created, before anyone else can have changed them. Its key is a digest of
//! everything that decides the result, so a template is never out of date; it is only not found. The root of trust is not
//! part of it: every restored environment gets a new one. The steps after a restore are those after a creation.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::Run;
use super::cluster::Ready;
use crate::base::blocking::elsewhere;
use crate::base::digest;
use crate::base::error;
use crate::base::event::{Outcome, Step};
use crate::cluster::mesh::roots;
use crate::host::kind;
use crate::host::snapshot::{self, Snapshot, Store, etcd, restore};
use crate::host::trust::Intermediate;
use crate::lifecycle::snapshot::take;
use crate::plan::{Cluster, image_names};

/// The version of what is done besides what is part of the key.
const RECIPE: &str = "1";
/// The number of templates to keep: each has some 65 MB for two clusters.
const KEPT: usize = 4;
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
}

/// The templates, and what this run has done with them.
#[derive(Debug)]
pub(super) struct Templates {
    store: Store,
    origin: Origin,
    /// The digest of the kindmesh executable.
    executable: String,
    found: OnceCell<Option<Snapshot>>,
    /// The number of clusters that this run created with kind.
    created: AtomicUsize,
}

impl Templates {
    pub(super) fn new(store: Store, origin: Origin, executable: String) -> Self {
        Self { store, origin, executable, found: OnceCell::new(), created: AtomicUsize::new(0) }
    }

    pub(super) fn created(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether existing clusters are replaced.
    pub(super) fn replaces(&self) -> bool {
        matches!(self.origin, Origin::Snapshot(_))
    }
}

impl Run {
    /// Creates a missing cluster from a snapshot or the template of this plan, if there is one. Returns whether it did;
    /// otherwise the cluster has to be created.
    pub(super) async fn restore(&self, cluster: &Cluster, node_image: &str, step: &Step) -> anyhow::Result<bool> {
        let key = match &self.templates.origin {
            Origin::Fresh => return Ok(false),
            Origin::Snapshot(snapshot) => {
                let saved = snapshot.manifest.clusters.get(&cluster.name);
                let saved = saved.with_context(|| format!("the snapshot has no cluster {}", cluster.name))?;
                self.restore_from(snapshot, saved, cluster, &[], step).await?;
                return Ok(true);
            }
            Origin::Template if !self.can_have_template(node_image) => return Ok(false),
            Origin::Template => self.template_key(node_image)?,
        };
        let find = async || {
            self.templates.store.open(&key).unwrap_or_else(|error| {
                step.note(format!("template {key} is not used: {}", error::brief(error)));
                None
            })
        };
        let found = self.templates.found.get_or_init(find).await;
        let Some(snapshot) = found else { return Ok(false) };
        let Some(saved) = snapshot.manifest.clusters.get(&cluster.name) else { return Ok(false) };
        let trust =
            Intermediate::ensure(&self.files.trust(), &self.root, &self.plan.environment, &cluster.name)?.value;
        let objects = roots::with_trust(&saved.objects, &trust);
        if let Err(error) = self.restore_from(snapshot, saved, cluster, &objects, step).await {
            let (name, why) = (&cluster.name, error::brief(error));
            step.note(format!("creating cluster {name} instead of using template {key}: {why}"));
            self.templates.store.remove(&key)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Creates a cluster from a snapshot; `objects` replace those in its data.
    async fn restore_from(
        &self,
        snapshot: &Snapshot,
        saved: &snapshot::Cluster,
        cluster: &Cluster,
        objects: &[Value],
        step: &Step,
    ) -> anyhow::Result<()> {
        let (network, image) = (&self.plan.network.name, &snapshot.manifest.node_image);
        let create = async {
            kind::remove_nodes(&self.engine, network, step, |node| node.kind_name == cluster.kind_name).await?;
            restore::create(&self.engine, saved, &cluster.nodes, image, network).await
        };
        let ((), images) = futures::try_join!(create, self.built_image())?;
        let transaction = etcd::transaction(objects);
        let source = restore::Source { snapshot, cluster: saved, images, transaction };
        restore::fill(&self.engine, &cluster.nodes, &source).await
    }

    /// Returns an archive of the sample image, if kindmesh builds it: then the node image does not contain it.
    async fn built_image(&self) -> anyhow::Result<Option<Arc<File>>> {
        let Some(samples) = self.plan.samples.as_ref().filter(|samples| samples.build) else { return Ok(None) };
        let image = std::slice::from_ref(&samples.image);
        self.images.ensure(image).await?;
        Ok(Some(self.sample_images.archive(&self.engine, image).await?))
    }

    /// Keeps a template if this run created every cluster. A failure costs only the next `up` time.
    pub(super) async fn keep_template(&self, made: &[Ready<'_>]) -> anyhow::Result<()> {
        let node_image = self.images.ensure_baked().await?;
        if self.templates.created.load(Ordering::Relaxed) != made.len() || !self.can_have_template(&node_image) {
            return Ok(());
        }
        let key = self.template_key(&node_image)?;
        let step = self.events.step("template", None);
        step.run(async |step| {
            if let Err(error) = self.take_template(&key, made).await {
                step.note(format!("no template kept: {}", error::brief(error)));
                return Ok(Outcome::unchanged(()));
            }
            Ok(Outcome::changed(()))
        })
        .await
    }

    async fn take_template(&self, key: &str, made: &[Ready<'_>]) -> anyhow::Result<()> {
        let store = self.templates.store.clone();
        elsewhere(move || store.sweep()).await?;
        let begun = self.templates.store.begin(key)?;
        let clusters: Vec<_> = made.iter().map(|ready| (ready.cluster, &ready.client)).collect();
        match take(&self.engine, &self.plan, &clusters, false, &begun).await {
            Ok(manifest) => {
                begun.complete(&manifest)?;
                self.templates.store.keep_newest(KEPT)
            }
            Err(error) => {
                begun.discard()?;
                Err(error)
            }
        }
    }

    /// Whether a template may exist. With kind's own node image, images were loaded into nodes and would be missing.
    fn can_have_template(&self, node_image: &str) -> bool {
        let built = [image_names::BAKED_REPOSITORY, image_names::ARCHIVE_REPOSITORY];
        built.iter().any(|repository| node_image.starts_with(&format!("{repository}:")))
    }

    /// Returns the name of the template: a digest of everything that decides what `up` creates.
    fn template_key(&self, node_image: &str) -> anyhow::Result<String> {
        let proxies = PROXIES.map(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()));
        let decides = serde_json::to_vec(&(
            RECIPE,
            &self.templates.executable,
            &self.engine.facts.id,
            node_image,
            &self.plan,
            &self.spec,
            proxies,
        ))?;
        Ok(digest::hex(&Sha256::digest(&decides))[..16].to_owned())
    }
}
