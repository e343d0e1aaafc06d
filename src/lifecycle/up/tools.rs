//! The tools that `up` runs, each located only when it is needed.

use std::path::PathBuf;

use tokio::sync::OnceCell;

use crate::base::event::{Events, Outcome};
use crate::host::tool::{self, Found, Tool};

pub(super) struct Tools {
    cache: PathBuf,
    istio_version: String,
    events: Events,
    kind: OnceCell<Found>,
    istioctl: OnceCell<Found>,
}

impl Tools {
    pub(super) fn new(cache: PathBuf, istio_version: &str, events: Events) -> Self {
        let istio_version = istio_version.to_owned();
        Self { cache, istio_version, events, kind: OnceCell::new(), istioctl: OnceCell::new() }
    }

    pub(super) async fn kind(&self) -> anyhow::Result<PathBuf> {
        let found = self.kind.get_or_try_init(|| self.find(Tool::Kind, tool::KIND_VERSION));
        Ok(found.await?.path.clone())
    }

    pub(super) async fn istioctl(&self) -> anyhow::Result<Found> {
        let found = self.istioctl.get_or_try_init(|| self.find(Tool::Istioctl, &self.istio_version));
        found.await.cloned()
    }

    async fn find(&self, tool: Tool, version: &str) -> anyhow::Result<Found> {
        self.events
            .step(tool.name(), None)
            .run(async |step| {
                let found = tool::find(tool, version, &self.cache, step).await?;
                if let Some(warning) = &found.warning {
                    step.note(warning);
                }
                let changed = found.source == tool::Source::Download;
                Ok(Outcome { value: found, changed })
            })
            .await
    }
}
