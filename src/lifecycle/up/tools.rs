//! The tools that `up` runs, each located only when it is needed.

use std::path::PathBuf;

use anyhow::Context;
use tokio::sync::OnceCell;

use crate::base::event::{Events, Outcome, Step};
use crate::cluster::mesh::render;
use crate::host::tool::{self, Found, Tool};
use crate::plan::{Cluster, Plan};

pub(super) struct Tools {
    cache: PathBuf,
    /// The versions of Istio in the plan.
    istio_versions: Vec<String>,
    events: Events,
    kind: OnceCell<Found>,
    /// In the order of the versions.
    istioctl: OnceCell<Vec<Found>>,
}

impl Tools {
    pub(super) fn new(cache: PathBuf, plan: &Plan, events: Events) -> Self {
        let istio_versions = plan.istio_versions().into_iter().map(str::to_owned).collect();
        Self { cache, istio_versions, events, kind: OnceCell::new(), istioctl: OnceCell::new() }
    }

    pub(super) async fn kind(&self) -> anyhow::Result<PathBuf> {
        let find = || async {
            let step = self.events.step(Tool::Kind.name(), None);
            step.run(async |step| self.find(Tool::Kind, tool::KIND_VERSION, step).await).await
        };
        Ok(self.kind.get_or_try_init(find).await?.path.clone())
    }

    /// Returns istioctl of a version in the plan. The first call finds those of all versions, in one step.
    pub(super) async fn istioctl(&self, version: &str) -> anyhow::Result<Found> {
        let find = || async {
            let step = self.events.step(Tool::Istioctl.name(), None);
            step.run(async |step| {
                let (mut all, mut changed) = (Vec::new(), false);
                for version in &self.istio_versions {
                    let found = self.find(Tool::Istioctl, version, step).await?;
                    changed |= found.changed;
                    all.push(found.value);
                }
                Ok(Outcome { value: all, changed })
            })
            .await
        };
        let all = self.istioctl.get_or_try_init(find).await?;
        let found = self.istio_versions.iter().zip(all).find(|(has, _)| *has == version);
        let (_, found) = found.with_context(|| format!("the plan has no Istio {version}"))?;
        Ok(found.clone())
    }

    /// Returns the manifests of the Istio that is installed in a cluster of the plan, from the cache or rendered; none if the Istio that is
    /// there is used.
    pub(super) async fn rendered(&self, cluster: &Cluster) -> anyhow::Result<String> {
        if !cluster.installs_istio() {
            return Ok(String::new());
        }
        let step = self.events.step("render", Some(&cluster.name));
        let istioctl = async || self.istioctl(&cluster.istio_version).await;
        step.run(async |_| render::manifests(&self.cache, cluster, istioctl).await).await
    }

    async fn find(&self, tool: Tool, version: &str, step: &Step) -> anyhow::Result<Outcome<Found>> {
        let found = tool::find(tool, version, &self.cache, step).await?;
        if let Some(warning) = &found.warning {
            step.note(warning);
        }
        let changed = found.source == tool::Source::Download;
        Ok(Outcome { value: found, changed })
    }
}
