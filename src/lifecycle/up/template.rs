//! Templates: snapshots that `up` takes of what it created, so that the next `up` with the same result need not create it.
//!
//! A template is taken of clusters that this `up` created, before anyone else can have changed them. Its key is a digest of
//! everything that decides the result, so a template is never out of date; it is only not found. The root of trust is not
//! part of it: every restored environment gets a new one. The steps after a restore are those after a creation.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
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
use crate::host::snapshot::{self, Manifest, Snapshot, Store, capture, etcd, restore};
use crate::host::trust::Intermediate;
use crate::plan::{Cluster, image_names};

/// The version of what is done besides what is part of the key.
const RECIPE: &str = "1";
/// The number of templates to keep: each has some 65 MB for two clusters.
const KEPT: usize = 4;
/// Variables from which kind takes proxies for the nodes.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/// The templates, and what this run has done with them.
#[derive(Debug)]
pub(super) struct Templates {
    store: Store,
    /// Whether to create everything.
    fresh: bool,
    /// The digest of the kindmesh executable.
    executable: String,
    found: OnceCell<Option<Snapshot>>,
    /// The number of clusters that this run created with kind.
    created: AtomicUsize,
}

impl Templates {
    pub(super) fn new(store: Store, fresh: bool, executable: String) -> Self {
        Self { store, fresh, executable, found: OnceCell::new(), created: AtomicUsize::new(0) }
    }

    pub(super) fn created(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }
}

impl Run {
    /// Creates a missing cluster from the template of this plan, if there is one. Returns whether it did; otherwise the
    /// cluster has to be created.
    pub(super) async fn restore(&self, cluster: &Cluster, node_image: &str, step: &Step) -> anyhow::Result<bool> {
        if self.templates.fresh || !self.can_have_template(node_image) {
            return Ok(false);
        }
        let key = self.template_key(node_image)?;
        let find = async || {
            self.templates.store.open(&key).unwrap_or_else(|error| {
                step.note(format!("template {key} is not used: {}", error::brief(error)));
                None
            })
        };
        let found = self.templates.found.get_or_init(find).await;
        let Some(snapshot) = found else { return Ok(false) };
        let Some(saved) = snapshot.manifest.clusters.get(&cluster.name) else { return Ok(false) };
        let restored = self.restore_from(snapshot, saved, cluster, node_image, step).await;
        if let Err(error) = restored {
            step.note(format!(
                "creating cluster {} instead of using template {key}: {}",
                cluster.name,
                error::brief(error)
            ));
            self.templates.store.remove(&key)?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn restore_from(
        &self,
        snapshot: &Snapshot,
        saved: &snapshot::Cluster,
        cluster: &Cluster,
        node_image: &str,
        step: &Step,
    ) -> anyhow::Result<()> {
        let (environment, network) = (&self.plan.environment, &self.plan.network.name);
        let trust = Intermediate::ensure(&self.files.trust(), &self.root, environment, &cluster.name)?.value;
        let create = async {
            kind::remove_nodes(&self.engine, network, step, |node| node.kind_name == cluster.kind_name).await?;
            restore::create(&self.engine, saved, &cluster.nodes, node_image, network).await
        };
        let ((), images) = futures::try_join!(create, self.built_image())?;
        let transaction = etcd::transaction(&roots::with_trust(&saved.objects, &trust));
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
        let taken = try_join_all(made.iter().map(async |ready| {
            let folder = begun.file("");
            let nodes = ready.cluster.nodes.iter().map(|node| capture::node(&self.engine, node, &folder));
            let (nodes, objects) = futures::try_join!(try_join_all(nodes), roots::objects(&ready.client))?;
            anyhow::Ok((ready.cluster.name.clone(), snapshot::Cluster { nodes, objects }))
        }));
        let completed = match taken.await {
            Ok(clusters) => {
                let manifest =
                    Manifest::now(&self.plan.environment, clusters.into_iter().collect::<BTreeMap<_, _>>());
                begun.complete(&manifest)?;
                return self.templates.store.keep_newest(KEPT);
            }
            Err(error) => error,
        };
        begun.discard()?;
        Err(completed)
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
