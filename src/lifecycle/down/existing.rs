//! What `down` deletes in clusters that exist.

use anyhow::Context;
use futures::future::try_join_all;
use kube::Client;
use tokio::time::Instant;

use super::Down;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::client;
use crate::cluster::environment::Environment;
use crate::cluster::existing::{self, remove};
use crate::cluster::refusal::Record;
use crate::host::kubeconfig::contexts::Users;

/// A cluster, its client, and the record of its refusals.
type Cluster<'a> = (&'a str, Client, Record);

/// Deletes what kindmesh created in the clusters of an environment that exist. Returns whether there was anything, and what was kept,
/// a line each.
pub(super) async fn remove(
    opened: &Environment,
    deadline: Instant,
    events: &Events,
) -> anyhow::Result<(bool, Vec<String>)> {
    let exist = opened.spec.clusters.iter().filter(|cluster| cluster.exists());
    // All are reachable before anything is deleted.
    let open = async |name: &'_ str| {
        let client = opened.client(name).await.map_err(|error| unreachable(opened, name, error))?;
        anyhow::Ok((client, opened.record(name)))
    };
    let names: Vec<&str> = exist.map(|cluster| cluster.name.as_str()).collect();
    let opened_all = try_join_all(names.iter().map(|name| open(name))).await?;
    let clusters: Vec<Cluster<'_>> =
        names.into_iter().zip(opened_all).map(|(name, (client, record))| (name, client, record)).collect();
    remove_from(opened.name(), &clusters, deadline, events).await
}

/// Deletes what an environment, whose files may be lost, has in the clusters of the user's contexts.
///
/// # Errors
/// A usage error if a context does not exist, or its cluster has no record of the environment; otherwise an API server's.
pub async fn remove_in_contexts(
    environment: &str,
    contexts: &[String],
    deadline: Instant,
    events: &Events,
) -> anyhow::Result<Down> {
    let users = Users::of_process()?;
    for context in contexts {
        users.require(context)?;
    }
    let mut clusters = Vec::new();
    for context in contexts {
        let client = client::of_context(&users, context).await?.client;
        let what = || format!("looking for an environment in the cluster of context {context}");
        match existing::recorded_environment(&client).await.with_context(what)? {
            Some(recorded) if recorded == environment => {}
            Some(other) => {
                let what = format!("the cluster of context {context} belongs to environment \"{other}\"");
                return Err(Error::usage(what).hint(format!("to delete that one: --name {other}")).into());
            }
            None => {
                let what = format!("no environment is recorded in the cluster of context {context}");
                return Err(Error::usage(what).hint("name the contexts in which the mesh was installed").into());
            }
        }
        clusters.push((context.as_str(), client, Record::default()));
    }
    let (any, kept) = remove_from(environment, &clusters, deadline, events).await?;
    Ok(Down { any, kept, ..Down::default() })
}

async fn remove_from(
    environment: &str,
    clusters: &[Cluster<'_>],
    deadline: Instant,
    events: &Events,
) -> anyhow::Result<(bool, Vec<String>)> {
    // No istiod may read a cluster whose objects are going.
    let withdrawn = try_join_all(clusters.iter().map(async |(name, client, record)| {
        let step = events.step("withdraw", Some(name));
        step.run(async |step| {
            let changed = remove::withdraw(client, environment, record, step, deadline).await?;
            Ok(Outcome { value: changed, changed })
        })
        .await
    }));
    let mut changed = withdrawn.await?.contains(&true);
    let removed = try_join_all(clusters.iter().map(async |(name, client, record)| {
        let step = events.step("remove-mesh", Some(name));
        step.run(async |step| {
            let removed = remove::remove(client, environment, name, record, step, deadline).await?;
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
    let context = format!("connecting to cluster {cluster}, in which kindmesh created objects");
    match error.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(error) => Error::environment(context)
            .evidence(crate::base::error::brief(error))
            .hint(format!("make its context work; if the cluster no longer exists: rm -r {folder}"))
            .into(),
    }
}
