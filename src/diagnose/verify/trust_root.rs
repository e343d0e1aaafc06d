//! `trust.root`

use std::sync::Arc;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use super::check::{Trial, check};
use super::namespaces::Cluster;
use crate::cluster::mesh::envoy::config_dump;
use crate::cluster::mesh::{ISTIO_NAMESPACE, istiod, pod};
use crate::host::trust::{chains_to, inspect, leads_to};

check!("trust.root", run,
    claim: "every istiod and every workload chains to the same root, each cluster through its own intermediate CA, or that of the \
        cluster whose istiod its proxies use",
    evidence: "the chains that istiods present on port 15012 and that proxies have, by subject and digest",
    sabotage: "one cluster gets cacerts of another root",
    hint: "kindmesh up restores the intermediate CAs, and restarts pods that use others");

const ISTIOD_PORT: u16 = 15012;

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    let mut roots: Vec<(String, String)> = Vec::new();
    let mut intermediates: Vec<(String, String)> = Vec::new();
    for cluster in &bench.clusters {
        let signer = bench.control_plane_of(cluster);
        let cacerts = cacerts(signer).await?;
        let root = cacerts("root-cert.pem")?;
        let intermediate = cacerts("ca-cert.pem")?;
        let known = (inspect(&root)?, inspect(&intermediate)?);
        let (root_is, intermediate_is) = (&known.0[0], &known.1[0]);
        trial.record(format!(
            "{}: root {} ({}), intermediate {} ({})",
            cluster.name(),
            root_is.subject,
            short(&root_is.sha256),
            intermediate_is.subject,
            short(&intermediate_is.sha256)
        ));
        if cluster.is_remote() {
            workloads(trial, cluster, &root, &intermediate).await?;
            continue;
        }
        leads_to(&cacerts("cert-chain.pem")?, &intermediate, &root)
            .with_context(|| format!("cert-chain.pem of {}", cluster.name()))?;
        roots.push((cluster.name().to_owned(), root_is.sha256.clone()));
        intermediates.push((cluster.name().to_owned(), intermediate_is.sha256.clone()));
        istiods(trial, cluster, &root, &intermediate).await?;
        workloads(trial, cluster, &root, &intermediate).await?;
    }
    let (first, root) = &roots[0];
    for (cluster, other) in &roots {
        ensure!(
            other == root,
            "{cluster} has the root {} and {first} has {}: they do not trust each other",
            short(other),
            short(root)
        );
    }
    for (index, (cluster, intermediate)) in intermediates.iter().enumerate() {
        let same = intermediates[..index].iter().find(|(_, other)| other == intermediate);
        ensure!(same.is_none(), "{cluster} has the same intermediate CA as {}", same.map_or("", |(name, _)| name));
    }
    Ok(())
}

/// Returns the content of a cluster's `cacerts`, by file.
async fn cacerts(cluster: &Cluster) -> anyhow::Result<impl Fn(&str) -> anyhow::Result<Vec<u8>>> {
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), ISTIO_NAMESPACE);
    let name = cluster.name().to_owned();
    let secret = api.get("cacerts").await.with_context(|| format!("reading cacerts of {name}"))?;
    let data = secret.data.unwrap_or_default();
    Ok(move |file: &str| {
        let content = data.get(file).map(|bytes| bytes.0.clone());
        content.with_context(|| format!("cacerts of {name} has no {file}"))
    })
}

/// Checks that every istiod's handshake succeeds against this root, through this intermediate CA.
async fn istiods(trial: &Trial<'_>, cluster: &Cluster, root: &[u8], intermediate: &[u8]) -> anyhow::Result<()> {
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_slice(root).context("reading the root")?)?;
    let config = rustls::ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let pods = istiod::ready(&cluster.client).await?;
    ensure!(!pods.is_empty(), "no istiod is ready in {}", cluster.name());
    for found in pods {
        let name = found.name_any();
        let (stream, _forwarding) = pod::forward(&cluster.client, ISTIO_NAMESPACE, &name, ISTIOD_PORT).await?;
        let server = ServerName::try_from("istiod.istio-system.svc")?;
        let tls = connector.connect(server, stream).await;
        let tls = tls.with_context(|| format!("{name} of {} does not chain to its root", cluster.name()))?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let own = CertificateDer::from_pem_slice(intermediate).context("reading the intermediate CA")?;
        ensure!(
            chain.contains(&own),
            "{name} of {} chains to the root, but not through its cluster's intermediate CA",
            cluster.name()
        );
        trial.record(format!(
            "{}: {name}:{ISTIOD_PORT} presents {} certificates, verified",
            cluster.name(),
            chain.len()
        ));
    }
    Ok(())
}

/// Checks the certificates of the probes' proxies in a cluster.
async fn workloads(trial: &Trial<'_>, cluster: &Cluster, root: &[u8], intermediate: &[u8]) -> anyhow::Result<()> {
    let bench = trial.bench;
    for role in ["caller", "producer"] {
        for found in bench.pods(cluster, role).await? {
            let pod = found.name_any();
            let secrets =
                config_dump::part(&cluster.client, &bench.namespace, &pod, "dynamic_active_secrets").await?;
            let chain = config_dump::chain(&secrets);
            let chain = chain.with_context(|| format!("the proxy of {pod} has no certificate"))?;
            let trusts = config_dump::roots(&secrets);
            let trusts = inspect(&trusts.with_context(|| format!("the proxy of {pod} has no root"))?)?;
            let held = inspect(root)?;
            ensure!(
                trusts.iter().any(|certificate| certificate.sha256 == held[0].sha256),
                "the proxy of {pod} in {} trusts {}, not its cluster's root {}",
                cluster.name(),
                short(&trusts[0].sha256),
                short(&held[0].sha256)
            );
            ensure!(
                chains_to(&chain, intermediate),
                "the certificate of {pod} is not signed by the intermediate CA of {}",
                cluster.name()
            );
            trial.record(format!(
                "{}: the proxy of {pod} has a certificate of this intermediate CA",
                cluster.name()
            ));
        }
    }
    Ok(())
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
