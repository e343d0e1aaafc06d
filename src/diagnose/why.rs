//! Explains a call hop by hop, with the first hop that fails and its fix.
//!
//! ```text
//! gather: clusters, istiod, the caller's proxy, nodes ─► facts ─► hops: one file each, pure functions of the facts
//! ```
//!
//! It inspects the state that decides the call's result, and sends no request in the caller's name. To TCP ports it opens
//! connections that send nothing.

use std::time::Duration;

use serde::Serialize;

use crate::cluster::environment::Environment;

mod caller;
mod cluster;
mod connect;
mod endpoints;
mod facts;
mod far_side;
mod gather;
mod link;
mod name;
mod network_policy;
mod policy;
mod protocol;
mod read;
mod remote;
mod route;
mod service;
#[cfg(test)]
mod testing;
mod tls;
mod trial;
mod url;
mod visibility;

use facts::Facts;
pub use protocol::{Speaks, declares_bytes};
pub use url::Address;

/// The verdict on a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The hop lets the call pass.
    Ok,
    /// The hop fails the call, always or sometimes.
    Wrong,
    /// The hop could not be inspected.
    Unknown,
    /// The call does not use the hop.
    Skipped,
}

/// One hop of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The stable ID.
    pub hop: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// The evidence.
    pub saw: String,
    /// The fix of a failing hop, with the command to run.
    pub cure: Option<String>,
}

impl Hop {
    fn ok(hop: &'static str, saw: impl Into<String>) -> Self {
        Self { hop, verdict: Verdict::Ok, saw: saw.into(), cure: None }
    }

    fn wrong(hop: &'static str, saw: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { hop, verdict: Verdict::Wrong, saw: saw.into(), cure: Some(cure.into()) }
    }

    fn unknown(hop: &'static str, saw: impl Into<String>) -> Self {
        Self { hop, verdict: Verdict::Unknown, saw: saw.into(), cure: None }
    }

    fn skipped(hop: &'static str, saw: impl Into<String>) -> Self {
        Self { hop, verdict: Verdict::Skipped, saw: saw.into(), cure: None }
    }
}

/// The explanation of a call.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The caller's cluster.
    pub from: String,
    /// The caller's namespace.
    pub namespace: String,
    /// The caller's pod, if one was found.
    pub pod: Option<String>,
    /// The target of the call, as given.
    pub url: String,
    /// What the client speaks: by the target's scheme, else as the Service's port declares.
    pub protocol: Speaks,
    /// The hops, in the order of the call.
    pub hops: Vec<Hop>,
    /// The first failing hop.
    pub first_wrong: Option<&'static str>,
}

/// The caller.
#[derive(Debug, Clone, Default)]
pub struct From {
    /// The namespace. Default: the target's, else the samples'.
    pub namespace: Option<String>,
    /// A prefix of the pod's name. Default: any ready pod.
    pub pod: Option<String>,
}

/// Explains a call from a cluster to a target.
///
/// # Errors
/// A usage error for an unknown cluster; an environment error if the
/// caller's cluster does not respond.
pub async fn why(
    environment: &Environment,
    cluster: &str,
    address: &Address,
    from: &From,
    within: Duration,
) -> anyhow::Result<Explanation> {
    let facts = gather::gather(environment, cluster, address, from, within).await?;
    Ok(explain(&facts, address.text()))
}

/// The functions that judge one hop each, in the order of the call.
const HOPS: [fn(&Facts) -> Hop; 13] = [
    caller::judge,
    name::judge,
    service::judge,
    endpoints::judge,
    remote::judge,
    visibility::judge,
    link::judge,
    network_policy::judge,
    route::judge,
    cluster::judge,
    tls::judge,
    policy::judge,
    far_side::judge,
];

fn explain(facts: &Facts, url: &str) -> Explanation {
    let mut hops: Vec<Hop> = HOPS.iter().map(|judge| judge(facts)).collect();
    hops.extend(trial::judge(facts));
    if facts.call.outside.is_some() {
        let after_name = hops.iter_mut().skip(2);
        after_name.for_each(|hop| *hop = Hop::skipped(hop.hop, "the Service is an alias of a host outside"));
    }
    let first_wrong = hops.iter().find(|hop| hop.verdict == Verdict::Wrong).map(|hop| hop.hop);
    Explanation {
        from: facts.call.cluster.clone(),
        namespace: facts.call.namespace.clone(),
        pod: facts.caller.as_ref().map(|caller| caller.pod.clone()),
        url: url.to_owned(),
        protocol: facts.call.speaks,
        hops,
        first_wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::testing::works;
    use super::*;

    #[test]
    fn working_call_has_no_failing_hop() {
        let explained = explain(&works(), "http://orders:8080/");
        assert_eq!(explained.first_wrong, None);
        let wrong: Vec<_> = explained.hops.iter().filter(|hop| hop.verdict != Verdict::Ok).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn each_fault_has_its_first_failing_hop() {
        let broken = |change: fn(&mut Facts)| {
            let mut facts = works();
            change(&mut facts);
            explain(&facts, "http://orders:8080/").first_wrong
        };
        assert_eq!(broken(|facts| facts.clusters[0].service = None), Some("name"));
        assert_eq!(broken(|facts| facts.clusters[1].pods.clear()), Some("endpoints"));
        assert_eq!(broken(|facts| facts.synced = Some(Vec::new())), Some("remote"));
        assert_eq!(broken(|facts| facts.clusters[1].linked = facts::Linked::Cut), Some("link"));
        assert_eq!(broken(|facts| facts.clusters[1].pods[0].meshed = false), None);
    }
}
