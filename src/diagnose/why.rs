//! Why a call is answered or not: what happens to it, hop by hop, and the first hop that is wrong, with its cure.
//!
//! ```text
//! gather: clusters, istiod, the caller's proxy, nodes ─► facts ─► hops, one a file, each a pure function of the facts
//! ```
//!
//! The call itself is not made: what is looked at is what decides it.

use std::time::Duration;

use serde::Serialize;

use crate::cluster::environment::Environment;

mod caller;
mod cluster;
mod endpoints;
mod facts;
mod far_side;
mod gather;
mod link;
mod name;
mod policy;
mod remote;
mod route;
mod service;
#[cfg(test)]
mod testing;
mod tls;
mod url;

use facts::Facts;
pub use url::Address;

/// What was found about a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It lets the call pass.
    Ok,
    /// It does not, or not always.
    Wrong,
    /// It could not be found out.
    Unknown,
    /// The call does not come this way.
    Skipped,
}

/// One hop of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Its name, stable.
    pub hop: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// What was seen.
    pub saw: String,
    /// What to do about one that is wrong, with the command to type.
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

/// What happens to a call.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The cluster that calls.
    pub from: String,
    /// The namespace that calls.
    pub namespace: String,
    /// The pod that calls, if one was found.
    pub pod: Option<String>,
    /// What is called.
    pub url: String,
    /// The hops, in the call's order.
    pub hops: Vec<Hop>,
    /// The first hop that is wrong.
    pub first_wrong: Option<&'static str>,
}

/// Who calls.
#[derive(Debug, Clone, Default)]
pub struct From {
    /// The namespace; none for the address's own, else the samples'.
    pub namespace: Option<String>,
    /// The beginning of a pod's name; none for any ready pod.
    pub pod: Option<String>,
}

/// Explains a call of an address from a cluster.
///
/// # Errors
/// A usage error for a cluster that is none and for an address that is no Service's; an environment error when the
/// cluster that calls does not answer.
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

/// The hops, each judged by itself, in the call's order.
const HOPS: [fn(&Facts) -> Hop; 11] = [
    caller::judge,
    name::judge,
    service::judge,
    endpoints::judge,
    remote::judge,
    link::judge,
    route::judge,
    cluster::judge,
    tls::judge,
    policy::judge,
    far_side::judge,
];

fn explain(facts: &Facts, url: &str) -> Explanation {
    let hops: Vec<Hop> = HOPS.iter().map(|judge| judge(facts)).collect();
    let first_wrong = hops.iter().find(|hop| hop.verdict == Verdict::Wrong).map(|hop| hop.hop);
    Explanation {
        from: facts.call.cluster.clone(),
        namespace: facts.call.namespace.clone(),
        pod: facts.caller.as_ref().map(|caller| caller.pod.clone()),
        url: url.to_owned(),
        hops,
        first_wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::testing::works;
    use super::*;

    #[test]
    fn of_a_call_that_works_every_hop_is_right() {
        let explained = explain(&works(), "http://orders:8080/");
        assert_eq!(explained.first_wrong, None);
        let wrong: Vec<_> = explained.hops.iter().filter(|hop| hop.verdict != Verdict::Ok).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn each_broken_situation_has_its_first_wrong_hop() {
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
