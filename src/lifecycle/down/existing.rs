//! What `down` deletes in clusters that exist.

use futures::future::try_join_all;
use kube::Client;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment::Environment;
use crate::cluster::existing::remove;

/// Deletes what kindmesh created in the clusters of an environment that exist. Returns whether there was anything, and what was kept,
/// a line each.
pub(super) async fn remove(
    opened: &Environment,
    deadline: Instant,
    events: &Events,
) -> anyhow::Result<(bool, Vec<String>)> {
    let exist = opened.spec.clusters.iter().filter(|cluster| cluster.exists());
    let names: Vec<&str> = exist.map(|cluster| cluster.name.as_str()).collect();
    // All are reachable before anything is deleted.
    let open = async |name: &str| opened.client(name).await.map_err(|error| unreachable(opened, name, error));
    let clients: Vec<Client> = try_join_all(names.iter().map(|name| open(name))).await?;
    let clusters: Vec<(&str, &Client)> = names.iter().copied().zip(&clients).collect();
    // No istiod may read a cluster whose objects are going.
    let withdrawn = try_join_all(clusters.iter().map(async |(name, client)| {
        let step = events.step("withdraw", Some(name));
        step.run(async |step| {
            let record = opened.record(name);
            let changed = remove::withdraw(client, opened.name(), &record, step, deadline).await?;
            Ok(Outcome { value: changed, changed })
        })
        .await
    }));
    let mut changed = withdrawn.await?.contains(&true);
    let removed = try_join_all(clusters.iter().map(async |(name, client)| {
        let step = events.step("remove-mesh", Some(name));
        step.run(async |step| {
            let record = opened.record(name);
            let removed = remove::remove(client, opened.name(), name, &record, step, deadline).await?;
            for line in &removed.left {
                step.note(format!("kept: {line}"));
            }
            let changed = removed.changed;
            Ok(Outcome { value: removed, changed })
        })
        .await
    }));
    let mut kept = Vec::new();
    for removed in removed.await? {
        changed |= removed.changed;
        kept.extend(removed.left);
    }
    Ok((changed, kept))
}

fn unreachable(opened: &Environment, cluster: &str, error: anyhow::Error) -> anyhow::Error {
    let folder = opened.files.root.display();
    let context = format!("connecting to cluster {cluster}, in which kindmesh installed the mesh");
    match error.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(error) => Error::environment(context)
            .evidence(crate::base::error::brief(error))
            .hint(format!("make its context work; if the cluster no longer exists: rm -r {folder}"))
            .into(),
    }
}
