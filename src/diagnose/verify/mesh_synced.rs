//! `mesh.synced`

use anyhow::ensure;

use kube::ResourceExt;

use super::check::{Trial, check};
use super::namespaces::Cluster;
use crate::base::names::PORT;
use crate::base::wait::Poll;
use crate::cluster::mesh::{gateway, istiod};

check!("mesh.synced", run,
    claim: "every istiod has synced every other cluster, also remote ones, whose proxies it configures; and the caller's proxy has \
        exactly the producers as endpoints, or their gateway if they are on another network",
    evidence: "each istiod's list of clusters, and of proxies of remote clusters; the caller's proxy's endpoints and the pods' addresses",
    sabotage: "a remote secret is removed",
    hint: "kindmesh up exchanges the remote secrets again");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    for cluster in bench.clusters.iter().filter(|cluster| !cluster.is_remote()) {
        for known in istiod::remote_clusters(&cluster.client).await? {
            let told: Vec<_> = known.iter().map(|other| format!("{} {}", other.id, other.sync_status)).collect();
            trial.record(format!("istiod of {} lists: {}", cluster.name(), told.join(", ")));
            for other in bench.clusters.iter().filter(|other| other.name() != cluster.name()) {
                let synced = known.iter().any(|known| known.id == other.name() && known.sync_status == "synced");
                ensure!(
                    synced,
                    "istiod of {} has not synced {}: does its remote secret exist?",
                    cluster.name(),
                    other.name()
                );
            }
        }
        trial.record(format!(
            "kubectl --context {} -n istio-system exec deploy/istiod -- pilot-discovery request GET /debug/clusterz",
            cluster.context
        ));
    }
    for cluster in bench.clusters.iter().filter(|cluster| cluster.is_remote()) {
        configured(trial, cluster).await?;
    }
    let pods = bench.pods(bench.producer(), "producer").await?;
    let address = |pod: k8s_openapi::api::core::v1::Pod| Some(format!("{}:{PORT}", pod.status?.pod_ip?));
    let mut expected: Vec<String> = match bench.is_apart() {
        true => gateway::addresses(&bench.producer().client, &bench.producer().spec.gateway.addresses).await?,
        false => pods.into_iter().filter_map(address).collect(),
    };
    expected.sort();
    let is_expected = |known: &[String]| match bench.is_apart() {
        true => gateway::are(known, &expected),
        false => known == expected,
    };
    let known = trial.until("the caller's proxy to have exactly the producers", async || {
        let known = bench.endpoints("identity").await?;
        let told = format!("it has {known:?}, not {expected:?}");
        Ok(if is_expected(&known) { Poll::Ready(known) } else { Poll::NotYet(told) })
    });
    trial.record(format!("the caller's proxy has {}", known.await?.join(", ")));
    trial.record(format!(
        "{} exec deploy/caller -c istio-proxy -- pilot-agent request GET clusters",
        bench.kubectl(bench.caller())
    ));
    Ok(())
}

/// Checks that the proxies of probes in a remote cluster are connected to the istiod of its primary, and to no other.
async fn configured(trial: &Trial<'_>, cluster: &Cluster) -> anyhow::Result<()> {
    let bench = trial.bench;
    let primary = bench.control_plane_of(cluster);
    let mut connected = Vec::new();
    for pod in istiod::ready(&primary.client).await? {
        connected.extend(istiod::proxies(&primary.client, &pod.name_any()).await?);
    }
    for role in ["caller", "producer"] {
        for pod in bench.pods(cluster, role).await? {
            let proxy = format!("{}.{}", pod.name_any(), bench.namespace);
            let known = connected.iter().find(|known| known.proxy == proxy);
            ensure!(
                known.is_some(),
                "the proxy of {proxy} in {} is not connected to istiod of {}",
                cluster.name(),
                primary.name()
            );
            let id = known.map(|known| known.cluster_id.clone()).unwrap_or_default();
            ensure!(
                id == cluster.name(),
                "istiod of {} counts {proxy} to {id}, not {}",
                primary.name(),
                cluster.name()
            );
            trial.record(format!("istiod of {} configures {proxy} in {}", primary.name(), cluster.name()));
        }
    }
    Ok(())
}
