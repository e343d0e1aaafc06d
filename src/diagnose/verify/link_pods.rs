//! `link.pods`

use serde_json::Value;

use super::check::{Trial, check};

check!("link.pods", run,
    claim: "pods of each cluster reach pods of every other cluster of the same network by address, and between clusters that kind \
        created keep their own source address",
    evidence: "who connected to whom, and the source address that the server saw",
    sabotage: "the link of one cluster is disabled, by its flag file on the node",
    hint: "kindmesh status shows the link; kindmesh up repairs it");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    for from in &bench.clusters {
        let mut prober = bench.prober(from, "plain").await?;
        for to in bench.clusters.iter().filter(|to| to.name() != from.name() && to.network == from.network) {
            let peer = bench.prober(to, "plain").await?.address;
            let probed = prober.send(&peer, "/probe/peer", None).await?;
            let way = format!("{} ({}) → {peer} ({})", prober.address, from.name(), to.name());
            if let Some(error) = &probed.error {
                anyhow::bail!("{way}: no response after {} ms: {error}", probed.millis);
            }
            let seen: Value = serde_json::from_str(&probed.body).unwrap_or_default();
            trial.record(format!("{way}: {} after {} ms", probed.body, probed.millis));
            let ours = !from.spec.exists() && !to.spec.exists();
            anyhow::ensure!(
                !ours || seen["address"] == prober.address.as_str(),
                "{way}: the server saw {}: the address was translated on the way",
                seen["address"]
            );
        }
        trial.record(format!("{} get pods -o wide", bench.kubectl(from)));
    }
    Ok(())
}
