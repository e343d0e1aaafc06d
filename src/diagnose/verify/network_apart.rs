//! `network.apart`

use anyhow::ensure;
use kube::ResourceExt;
use serde_json::json;

use super::check::{Trial, Undecided, check};
use super::namespaces::Cluster;
use crate::base::names::PORT;
use crate::base::wait::Poll;
use crate::cluster::mesh::{ISTIO_NAMESPACE, envoy, gateway};
use crate::cluster::pods;

check!("network.apart", run,
    claim: "pods of another network are not reached by address, and calls to them go through its gateway on port 15443, \
        which reads the wanted Service from TLS (SNI)",
    evidence: "direct requests and who answered, the endpoints in the caller's proxy, and the connections of the gateway",
    sabotage: "a node gets a route to the pods of the other network",
    hint: "kindmesh status shows the gateways; kindmesh logs link shows who changes routes; kindmesh up repairs them");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    trial.apply().await?;
    let bench = trial.bench;
    for from in &bench.clusters {
        for to in bench.clusters.iter().filter(|to| to.network != from.network) {
            direct(trial, from, to).await?;
        }
    }
    if bench.is_apart() {
        through_gateway(trial).await?;
    }
    Ok(())
}

/// Checks that a pod does not reach a pod of another network by address. Both networks may have the same addresses, so an answer
/// counts only if it comes from the other cluster.
async fn direct(trial: &Trial<'_>, from: &Cluster, to: &Cluster) -> anyhow::Result<()> {
    let bench = trial.bench;
    let mut plain = bench.prober(from, "plain").await?;
    let peer = bench.prober(to, "plain").await?.address;
    let outcome = plain.message(&peer, json!({})).await?;
    let way = format!("{} ({}) → {peer} ({})", plain.address, from.name(), to.name());
    trial.record(format!("{way}: {}", outcome.describe()));
    let direct = outcome.served_by() == to.name();
    if direct && (from.spec.exists() || to.spec.exists()) {
        // Whoever made these clusters may have made routes between them, too.
        return Err(Undecided(format!("{way}: reached directly; kindmesh did not create these clusters")).into());
    }
    ensure!(!direct, "{way}: reached directly, not through a gateway");
    Ok(())
}

/// Checks that the caller's calls go through the producer's gateway.
async fn through_gateway(trial: &Trial<'_>) -> anyhow::Result<()> {
    const SERVICE: &str = "identity";
    let bench = trial.bench;
    let producer = bench.producer();
    let addresses = gateway::addresses(&producer.client, &producer.spec.gateway.addresses).await?;
    ensure!(!addresses.is_empty(), "the gateway of {} has no address", producer.name());
    let endpoints = bench.endpoints(SERVICE).await?;
    trial.record(format!("endpoints of {SERVICE} in the caller's proxy: {}", endpoints.join(", ")));
    let expected = format!("{}, port {}", addresses.join(", "), gateway::PORT);
    ensure!(
        gateway::are(&endpoints, &addresses),
        "the caller's proxy calls {}, not {expected}",
        endpoints.join(", ")
    );
    let mut calling = bench.calling().await?;
    let outcome = trial.until("a call to succeed", async || {
        let outcome = calling.message(SERVICE, json!({})).await?;
        Ok(if outcome.status() == 200 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    let outcome = outcome.await?;
    trial.record(format!("POST http://{SERVICE}:{PORT}/producer/messages: {}", outcome.describe()));
    ensure!(outcome.served_by() == producer.name(), "{} responded, not {}", outcome.served_by(), producer.name());

    let sni = envoy::through_gateway(PORT, &bench.host(SERVICE));
    let pods = pods::ready(&producer.client, ISTIO_NAMESPACE, gateway::SELECTOR).await?;
    let mut connections = 0;
    for pod in &pods {
        let said = envoy::page(&producer.client, ISTIO_NAMESPACE, &pod.name_any(), "clusters").await?;
        connections += connected(&said, &sni);
    }
    trial.record(format!("connections of the gateway of {} for {sni}: {connections}", producer.name()));
    ensure!(connections > 0, "the gateway of {} had no connection for {sni}", producer.name());
    Ok(())
}

/// The connections to all endpoints of a cluster in Envoy's `/clusters`.
fn connected(said: &str, cluster: &str) -> u64 {
    let count = |line: &str| line.strip_prefix(cluster)?.split_once("::cx_total::")?.1.parse::<u64>().ok();
    said.lines().filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_cluster_are_counted() {
        let said = "outbound_.8080_._.a.b::10.0.0.1:8080::cx_total::2\n\
            outbound_.8080_._.a.b::10.0.0.2:8080::cx_total::1\n\
            outbound_.8080_._.a.b::10.0.0.2:8080::rq_total::9\n\
            outbound_.8080_._.b.b::10.0.0.2:8080::cx_total::7\n";
        assert_eq!(connected(said, "outbound_.8080_._.a.b"), 3);
    }
}
