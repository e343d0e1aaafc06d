//! `mtls.identity`

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::json;

use super::check::{Trial, check};
use crate::cluster::mesh::ISTIO_NAMESPACE;
use crate::host::trust::{chains_to, inspect};

check!("mtls.identity", run,
    claim: "the producer receives the caller's identity, from a certificate of the caller's own cluster, or of its primary",
    evidence: "the last element of x-forwarded-client-cert, and the issuer of its certificate",
    sabotage: "mutual TLS is disabled for the whole mesh",
    hint: "look for a PeerAuthentication with DISABLE and a DestinationRule with tls.mode DISABLE: \
           kubectl get peerauthentications,destinationrules -A");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    trial.apply().await?;
    let bench = trial.bench;
    let outcome = bench.calling().await?.message("identity", json!({})).await?;
    trial.record(format!("POST http://identity:8080/producer/messages: {}", outcome.describe()));
    ensure!(outcome.status() == 200, "the call failed: {}", outcome.describe());
    let header = outcome.header("x-forwarded-client-cert");
    let header = header.context("the producer received no caller identity: the call came without mutual TLS")?;
    let last = header.rsplit(',').next().unwrap_or_default();
    let part = |name: &str| last.split(';').find_map(|part| part.trim().strip_prefix(name));
    let uri = part("URI=").context("x-forwarded-client-cert has no identity")?;
    trial.record(format!("x-forwarded-client-cert: By={};URI={uri}", part("By=").unwrap_or_default()));
    let expected = format!("spiffe://cluster.local/ns/{}/sa/caller", bench.namespace);
    ensure!(uri == expected, "the producer received the identity {uri}, not {expected}");

    let chain = part("Chain=").context("x-forwarded-client-cert has no chain: is proxyHeaders.chain enabled?")?;
    let chain = decoded(chain.trim_matches('"'));
    let api: Api<Secret> = Api::namespaced(bench.control_plane_of(bench.caller()).client.clone(), ISTIO_NAMESPACE);
    let cacerts = api.get("cacerts").await.context("reading cacerts of the caller's control plane")?;
    let intermediate =
        cacerts.data.and_then(|mut data| data.remove("ca-cert.pem")).context("cacerts has no ca-cert.pem")?.0;
    let issuer = inspect(&chain)?.first().map(|leaf| leaf.issuer.clone()).unwrap_or_default();
    trial.record(format!("the caller's certificate was issued by {issuer}"));
    ensure!(
        chains_to(&chain, &intermediate),
        "the caller's certificate was issued by {issuer}, which is not the intermediate CA of {}",
        bench.control_plane_of(bench.caller()).name()
    );
    Ok(())
}

/// Decodes the percent-encoding of a certificate in a header.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match (first, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_codes_are_undone() {
        assert_eq!(decoded("a%20b%0A%2B+%"), b"a b\n++%");
    }
}
