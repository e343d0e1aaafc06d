//! Refusals of clusters that exist, by the facts about them, before anything is changed. All are reported at once: who may change
//! such a cluster often has to ask somebody else for each of them.
//!
//! | refuses | fix |
//! |---|---|
//! | [`same_cluster`], [`other_cluster`], [`other_environment`]: a cluster that is not the one that is meant | the context |
//! | [`permissions`]: a user who may not do what `up` does | the ClusterRole |
//! | [`istio`], [`webhooks`], [`definitions`]: an Istio that kindmesh did not install, or one of another shape | `mesh.install` |
//! | [`cacerts`], [`remote_secrets`], [`namespaces`]: other objects of another owner that `up` would have to change | |
//! | [`api_servers`], [`pod_subnets`]: addresses that peers cannot reach | `apiServer`, `network` |
//! | [`fitness`]: a cluster in which the mesh cannot work | |

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use http::Uri;

use crate::base::error::{Error, Kind};
use crate::base::hint::down_hint;
use crate::base::names::ISTIO_NAMESPACE;
use crate::plan::consent::quoted;
use crate::plan::existing::{Facts, Left};
use crate::plan::permissions;
use crate::spec::subnets::overlaps;
use crate::spec::{self, Spec};

mod fitness;
mod istio;

/// What the guards decide by.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The spec.
    pub spec: &'a Spec,
    /// The facts about each cluster that exists, by its name in the mesh.
    pub facts: &'a BTreeMap<String, Facts>,
    /// The UIDs of the clusters of this environment that an earlier `up` changed, by name.
    pub known: &'a BTreeMap<String, String>,
    /// The CustomResourceDefinitions that the mesh needs, with the versions that they serve.
    pub definitions: &'a BTreeMap<String, BTreeSet<String>>,
    /// What new pods request in each namespace.
    pub needs: &'a BTreeMap<String, Left>,
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    kind: Kind,
    what: String,
    evidence: Vec<String>,
    fix: String,
}

impl Refusal {
    fn usage(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, what: what.into(), evidence: Vec::new(), fix: fix.into() }
    }

    fn prerequisite(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { kind: Kind::Prerequisite, ..Self::usage(what, fix) }
    }
}

/// Refuses clusters that exist and that `up` may not change, or in which the mesh cannot work.
///
/// # Errors
/// The first refusal, with the others as evidence: a usage error if the spec names the wrong cluster or an object has another
/// owner, a missing prerequisite if the cluster lacks something.
pub fn clusters(found: &Found<'_>) -> Result<(), Error> {
    let guards: [fn(&Found<'_>) -> Vec<Refusal>; 17] = [
        same_cluster,
        other_cluster,
        other_environment,
        permissions,
        istio::guard,
        webhooks,
        definitions,
        namespaces,
        cacerts,
        remote_secrets,
        api_servers,
        pod_subnets,
        fitness::versions,
        fitness::clocks,
        fitness::quotas,
        fitness::pod_security,
        fitness::architectures,
    ];
    let mut refusals = guards.iter().flat_map(|guard| guard(found));
    let Some(Refusal { kind, what, evidence, fix }) = refusals.next() else { return Ok(()) };
    let mut error = Error::new(kind, what).hint(fix);
    error.evidence = evidence;
    for Refusal { what, evidence, fix, .. } in refusals {
        error.evidence.push(format!("also: {what}; fix: {fix}"));
        error.evidence.extend(evidence.iter().map(|line| format!("  {line}")));
    }
    Err(error)
}

impl<'a> Found<'a> {
    /// Returns the clusters that exist, with their place in the spec and the facts about them.
    fn clusters(&self) -> impl Iterator<Item = (usize, &'a spec::Cluster, &'a Facts)> + Clone {
        let (spec, facts) = (self.spec, self.facts);
        let found = move |(index, cluster): (usize, &'a spec::Cluster)| {
            Some((index, cluster, facts.get(cluster.name.as_str()).filter(|_| cluster.exists())?))
        };
        spec.clusters.iter().enumerate().filter_map(found)
    }

    /// Returns the Istio network of a cluster.
    fn network(&self, cluster: &'a spec::Cluster) -> &'a str {
        self.spec.network_of(cluster).unwrap_or(self.spec.name.as_str())
    }

    /// Returns each refusal of a single cluster.
    fn each(&self, refuse: impl Fn(usize, &spec::Cluster, &Facts) -> Option<Refusal>) -> Vec<Refusal> {
        self.clusters().filter_map(|(index, cluster, facts)| refuse(index, cluster, facts)).collect()
    }
}

fn context(cluster: &spec::Cluster) -> &str {
    cluster.context.as_deref().unwrap_or_default()
}

/// Returns the beginning of a command that a person can paste.
fn kubectl(cluster: &spec::Cluster) -> String {
    format!("kubectl --context {}", quoted(context(cluster)))
}

/// Returns the text for an object of another owner.
fn foreign(what: &str, name: &str, cluster: &spec::Cluster) -> String {
    format!("{what} {name} exists in cluster {}, but kindmesh did not create it", cluster.name)
}

/// Two contexts may name one cluster.
fn same_cluster(found: &Found<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut seen: BTreeMap<&str, &spec::Cluster> = BTreeMap::new();
    for (index, cluster, facts) in found.clusters() {
        if let Some(first) = seen.insert(&facts.uid, cluster) {
            let mut refusal = Refusal::usage(
                format!("clusters[{index}].context names the same cluster as that of {}", first.name),
                "name another context, or remove one of the two",
            );
            refusal.evidence = vec![format!(
                "contexts {} and {}: namespace kube-system has the UID {} in both",
                context(first),
                context(cluster),
                facts.uid
            )];
            refusals.push(refusal);
        }
    }
    refusals
}

/// The context may have been changed to name another cluster, in which the environment does not exist.
fn other_cluster(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|index, cluster, facts| {
        let known = found.known.get(cluster.name.as_str()).filter(|known| **known != facts.uid)?;
        let what = format!(
            "clusters[{index}].context {} names another cluster than when kindmesh installed the mesh",
            context(cluster)
        );
        let fix = format!("name the context of that cluster, or {} first", down_hint(found.spec.name.as_str()));
        let evidence = vec![format!("UID of namespace kube-system: {}, was {known}", facts.uid)];
        Some(Refusal { evidence, ..Refusal::usage(what, fix) })
    })
}

fn other_environment(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|_, cluster, facts| {
        // `up` records an environment in a cluster that exists before it installs Istio, and nothing in one that kind creates.
        if facts.environment.is_none() && facts.istiods.iter().any(|istiod| istiod.ours) {
            let what =
                format!("kindmesh created cluster {} with kind, for an environment of its own", cluster.name);
            return Some(Refusal::usage(what, "use another cluster"));
        }
        let other = facts.environment.as_deref().filter(|other| *other != found.spec.name.as_str())?;
        let what = format!("cluster {} belongs to environment \"{other}\"", cluster.name);
        Some(Refusal::usage(what, format!("{} first, or use another cluster", down_hint(other))))
    })
}

fn permissions(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|_, cluster, facts| {
        if facts.denied.is_empty() {
            return None;
        }
        let what = format!("the user of context {} may not do what kindmesh does", context(cluster));
        let fix = "ask an administrator for the ClusterRole of docs/existing-clusters.md";
        let evidence = permissions::lines(&facts.denied);
        Some(Refusal { evidence, ..Refusal::prerequisite(what, fix) })
    })
}

/// Webhooks without their istiod refuse pods, and they have the names of ours.
fn webhooks(found: &Found<'_>) -> Vec<Refusal> {
    if !found.spec.mesh.install {
        return Vec::new();
    }
    found.each(|_, cluster, facts| {
        // Those of an istiod are reported with it.
        if facts.istiods.iter().any(|istiod| !istiod.ours) {
            return None;
        }
        let webhook = facts.webhooks.iter().find(|webhook| !webhook.ours)?;
        let (kind, name) = (&webhook.kind, &webhook.name);
        let fix = format!("if nobody needs it: {} delete {kind} {name}", kubectl(cluster));
        Some(Refusal::usage(foreign(kind, name, cluster), fix))
    })
}

/// A CustomResourceDefinition of another owner is used as it is, if it serves what the mesh needs.
fn definitions(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|_, cluster, facts| {
        let lacks = |(name, needed): (&String, &BTreeSet<String>)| {
            let definition = facts.definitions.get(name).filter(|definition| !definition.ours)?;
            let missing: Vec<&str> = needed.difference(&definition.served).map(String::as_str).collect();
            (!missing.is_empty()).then(|| format!("{name} does not serve {}", missing.join(", ")))
        };
        let evidence: Vec<String> = found.definitions.iter().filter_map(lacks).collect();
        if evidence.is_empty() {
            return None;
        }
        let what = format!(
            "the CustomResourceDefinitions of Istio in cluster {} are of another version, and kindmesh did not create them",
            cluster.name
        );
        Some(Refusal { evidence, ..Refusal::usage(what, "let their owner upgrade or delete them") })
    })
}

/// kindmesh labels its namespaces for the mesh, which it does not do to those of others.
fn namespaces(found: &Found<'_>) -> Vec<Refusal> {
    let samples = &found.spec.samples;
    let mut refusals = Vec::new();
    for (_, cluster, facts) in found.clusters() {
        let is_foreign = |name: &str| facts.namespaces.get(name).is_some_and(|namespace| !namespace.ours);
        // That of another Istio is reported with it.
        let has_istio = facts.istiods.iter().any(|istiod| !istiod.ours);
        if found.spec.mesh.install && !has_istio && is_foreign(ISTIO_NAMESPACE) {
            match facts.has_cacerts_of_others() {
                true => refusals.extend(network_label(found, cluster, facts)),
                false => {
                    let fix =
                        format!("if nobody needs it: {} delete namespace {ISTIO_NAMESPACE}", kubectl(cluster));
                    refusals.push(Refusal::usage(foreign("namespace", ISTIO_NAMESPACE, cluster), fix));
                }
            }
        }
        let name = samples.namespace.as_str();
        if samples.enabled && is_foreign(name) {
            refusals.push(Refusal::usage(
                foreign("namespace", name, cluster),
                "choose another one: samples.namespace",
            ));
        }
    }
    refusals
}

/// A namespace of another owner, with cacerts, is used as it is: it needs the label that kindmesh gives its own.
fn network_label(found: &Found<'_>, cluster: &spec::Cluster, facts: &Facts) -> Option<Refusal> {
    let network = found.network(cluster);
    let has = facts.namespaces.get(ISTIO_NAMESPACE)?.network.as_deref();
    if has == Some(network) {
        return None;
    }
    let label = format!("topology.istio.io/network={network}");
    let what = format!("namespace {ISTIO_NAMESPACE} of cluster {} does not have the label {label}", cluster.name);
    let mut refusal = Refusal::usage(
        what,
        format!("{} label namespace {ISTIO_NAMESPACE} --overwrite {label}", kubectl(cluster)),
    );
    refusal.evidence = has.map(|has| format!("its network is {has}")).into_iter().collect();
    Some(refusal)
}

/// The secrets cacerts of another owner are used as they are, if every cluster has one and all share a root certificate.
fn cacerts(found: &Found<'_>) -> Vec<Refusal> {
    let theirs = |facts: &Facts| facts.has_cacerts_of_others();
    let first = found.clusters().find(|(_, _, facts)| theirs(facts));
    let lacks = |cluster: &&spec::Cluster| !found.facts.get(cluster.name.as_str()).is_some_and(theirs);
    let without: Vec<&str> =
        found.spec.clusters.iter().filter(lacks).map(|cluster| cluster.name.as_str()).collect();
    let roots = found.clusters().filter_map(|(_, _, facts)| facts.cacerts.as_ref()).map(|cacerts| &cacerts.roots);
    let common = roots.cloned().reduce(|one, other| &one & &other).unwrap_or_default();
    let what = match first {
        // An Istio that is used signs with them. Without an istiod, that is what is missing.
        None if !found.spec.mesh.install && found.facts.values().all(|facts| !facts.istiods.is_empty()) => {
            "the clusters have no secrets cacerts, so proxies of one do not trust those of another".into()
        }
        None => return Vec::new(),
        Some((_, first, _)) => {
            let what = foreign("secret cacerts", "in istio-system", first);
            if let Some(from) = &found.spec.trust.from {
                return vec![Refusal::usage(what, format!("remove trust.from {from} to use it, or delete it"))];
            }
            match without.as_slice() {
                [] if !common.is_empty() => return Vec::new(),
                [] => "the secrets cacerts of the clusters have no root certificate in common".into(),
                without => format!("{what}, and {} cannot get a certificate of its root", without.join(", ")),
            }
        }
    };
    let fix = match found.spec.mesh.install {
        true => "delete the secrets, then give every cluster certificates of one root with trust.from",
        false => {
            "give every istiod certificates of one root: \
             https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/"
        }
    };
    let of = |(_, cluster, facts): (usize, &spec::Cluster, &Facts)| {
        let roots = facts.cacerts.iter().flat_map(|cacerts| &cacerts.roots).map(String::as_str);
        format!("{}: {}", cluster.name, roots.collect::<Vec<_>>().join(", "))
    };
    let evidence = if without.is_empty() { found.clusters().map(of).collect() } else { Vec::new() };
    vec![Refusal { evidence, ..Refusal::usage(what, fix) }]
}

/// istiod follows every remote secret in its namespace.
fn remote_secrets(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|_, cluster, facts| {
        let is_ours = |name: &str| found.spec.clusters.iter().any(|other| other.name.as_str() == name);
        // An Istio that is used as it is may have more peers.
        let unwanted = |name: &str| found.spec.mesh.install || is_ours(name);
        let secret = facts.remote_secrets.iter().find(|secret| !secret.ours && unwanted(&secret.cluster))?;
        let what = format!(
            "remote secret {} for cluster \"{}\" exists in cluster {}, but kindmesh did not create it",
            secret.name, secret.cluster, cluster.name
        );
        let fix = match found.spec.mesh.install {
            true => format!(
                "if nobody needs it: {} -n {ISTIO_NAMESPACE} delete secret {}",
                kubectl(cluster),
                secret.name
            ),
            // Deleting it would cut a mesh that works.
            false => "use clusters that are not connected to each other yet".into(),
        };
        Some(Refusal::usage(what, fix))
    })
}

/// The address in a kubeconfig is for this host. Whether peers reach it is tested from inside later; a loopback address cannot.
fn api_servers(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|index, cluster, facts| {
        if cluster.api_server.is_some() {
            return None;
        }
        let url: Uri = facts.server.parse().ok()?;
        let host = url.host()?.trim_matches(['[', ']']);
        let address: Option<IpAddr> = host.parse().ok();
        // k3d writes 0.0.0.0.
        let is_local = address.is_some_and(|address| address.is_loopback() || address.is_unspecified());
        if !is_local && host != "localhost" {
            return None;
        }
        let what = format!(
            "the API server of cluster {} is at {}, which its peers cannot reach",
            cluster.name, facts.server
        );
        let fix = format!(
            "set clusters[{index}].apiServer to a URL that pods of the other clusters reach, and that its certificate names"
        );
        Some(Refusal::usage(what, fix))
    })
}

fn pod_subnets(found: &Found<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (place, (index, cluster, facts)) in found.clusters().enumerate() {
        for (_, other, others) in found.clusters().take(place) {
            if found.spec.network_of(cluster) != found.spec.network_of(other) {
                continue;
            }
            let of = |facts: &'_ Facts| {
                facts.nodes.iter().flat_map(|node| node.pod_subnets.clone()).collect::<Vec<_>>()
            };
            let (own, theirs) = (of(facts), of(others));
            let pair =
                own.iter().find_map(|one| Some((one, theirs.iter().find(|other| overlaps(*one, **other))?)));
            if let Some((one, taken)) = pair {
                let what = format!(
                    "pods of cluster {} have addresses of {one}, which overlaps {taken} of cluster {} on the same network",
                    cluster.name, other.name
                );
                let fix = format!("put it on a network of its own: clusters[{index}].network: {}", cluster.name);
                refusals.push(Refusal::usage(what, fix));
            }
        }
    }
    refusals
}

#[cfg(test)]
mod tests;
