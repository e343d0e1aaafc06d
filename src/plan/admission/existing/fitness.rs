//! Whether the mesh can work in a cluster that exists: its version, clock, quotas, Pod Security and nodes.

use std::collections::BTreeSet;

use super::{Found, Refusal, kubectl};
use crate::base::names::ISTIO_NAMESPACE;
use crate::plan::existing::Facts;
use crate::spec::versions::{kubernetes_minors, skew, supported_istio};
use crate::spec::{self, Version};

/// The architectures that Istio publishes images for.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];
/// Certificates that are created on this host are valid from an hour before their creation.
const BEHIND_MS: i64 = -3_600_000;
/// Tokens and certificates that the cluster issues may not be valid yet for peers and this host. Five minutes is what kubeadm
/// backdates its certificates by.
const AHEAD_MS: i64 = 300_000;

pub(super) fn versions(found: &Found<'_>) -> Vec<Refusal> {
    let mut refusals = found.each(|_, cluster, facts| {
        let istio = istio(found, cluster, facts)?;
        let Some(minors) = kubernetes_minors(istio) else {
            let what = format!("cluster {} has Istio {istio}, which is not supported", cluster.name);
            return Some(Refusal::prerequisite(what, format!("upgrade it: use one of {}", supported_istio())));
        };
        let kubernetes = kubernetes_minor(&facts.version);
        if kubernetes.is_some_and(|(major, minor)| major == 1 && minors.contains(&minor)) {
            return None;
        }
        let what = format!(
            "cluster {} has Kubernetes {}, but Istio {istio} supports Kubernetes 1.{} to 1.{}",
            cluster.name,
            facts.version,
            minors.start(),
            minors.end()
        );
        Some(Refusal::prerequisite(what, "choose another mesh.version, or upgrade the cluster"))
    });
    let all: Vec<Version> =
        found.clusters().filter_map(|(_, cluster, facts)| istio(found, cluster, facts)).collect();
    if let Some((oldest, newest)) = skew(all.iter().copied()) {
        let what = format!("Istio {oldest} and {newest} differ by more than one minor version");
        refusals.push(Refusal::prerequisite(what, "use the same minor version, or two successive ones"));
    }
    refusals
}

/// Returns the version of Istio that a cluster has or gets; none if it is not known.
fn istio(found: &Found<'_>, cluster: &spec::Cluster, facts: &Facts) -> Option<Version> {
    match found.spec.mesh.install {
        true => found.spec.istio_version_of(cluster).parse().ok(),
        false => facts.istiods.first()?.version.parse().ok(),
    }
}

/// Returns the major and minor version of `v1.36.4-gke.100`.
fn kubernetes_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn clocks(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|_, cluster, facts| {
        let ahead = facts.clock_ahead_ms;
        if (BEHIND_MS + 1..AHEAD_MS).contains(&ahead) {
            return None;
        }
        let (direction, why) = match ahead > 0 {
            true => ("ahead of", "what it signs is not valid yet elsewhere"),
            false => ("behind", "the mesh's certificates are not valid yet there"),
        };
        let seconds = ahead.unsigned_abs() / 1000;
        let what = format!("the clock of cluster {} is {seconds} s {direction} this host's: {why}", cluster.name);
        Some(Refusal::prerequisite(what, "synchronize the clock of this host, or those of the cluster's nodes"))
    })
}

pub(super) fn quotas(found: &Found<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (_, cluster, facts) in found.clusters() {
        for (name, needs) in found.needs {
            let Some(namespace) = facts.namespaces.get(name) else { continue };
            let left = &namespace.left;
            let short = [
                ("pods", left.pods, needs.pods),
                ("millicores of CPU", left.cpu_millis, needs.cpu_millis),
                ("bytes of memory", left.memory, needs.memory),
            ];
            let short = short.into_iter().filter_map(|(of, left, needs)| {
                let (left, needs) = (left?, needs?);
                (left < needs).then(|| format!("{left} {of} left, {needs} needed"))
            });
            let evidence: Vec<String> = short.collect();
            if !evidence.is_empty() {
                let what = format!("the quota of namespace {name} in cluster {} is too small", cluster.name);
                let refusal = Refusal::prerequisite(what, "raise the quota, or free some of it");
                refusals.push(Refusal { evidence, ..refusal });
            }
        }
    }
    refusals
}

/// Without Istio's CNI plugin, a pod's init container sets up the redirection to its proxy, which `baseline` forbids. istiod and
/// gateways fit `baseline`.
pub(super) fn pod_security(found: &Found<'_>) -> Vec<Refusal> {
    let samples = &found.spec.samples;
    let mut refusals = Vec::new();
    for (_, cluster, facts) in found.clusters() {
        let names = [(ISTIO_NAMESPACE, found.spec.mesh.install), (samples.namespace.as_str(), samples.enabled)];
        for (name, _) in names.into_iter().filter(|(_, used)| *used) {
            let enforced = facts.namespaces.get(name).and_then(|namespace| namespace.enforces.as_deref());
            let refuses = match enforced {
                Some("restricted") => true,
                Some("baseline") => name != ISTIO_NAMESPACE,
                _ => false,
            };
            if refuses {
                let what = format!(
                    "namespace {name} in cluster {} enforces the Pod Security level {}, which refuses the mesh's pods",
                    cluster.name,
                    enforced.unwrap_or_default()
                );
                let fix = format!(
                    "change the label: {} label namespace {name} --overwrite pod-security.kubernetes.io/enforce=privileged",
                    kubectl(cluster)
                );
                refusals.push(Refusal::prerequisite(what, fix));
            }
        }
    }
    refusals
}

pub(super) fn architectures(found: &Found<'_>) -> Vec<Refusal> {
    found.each(|_, cluster, facts| {
        let all: BTreeSet<&str> = facts.nodes.iter().map(|node| node.architecture.as_str()).collect();
        if all.is_empty() || all.iter().any(|is| ARCHITECTURES.contains(is)) {
            return None;
        }
        let all = all.into_iter().collect::<Vec<_>>().join(", ");
        let what = format!("no node of cluster {} can run the images of Istio: its nodes are {all}", cluster.name);
        Some(Refusal::prerequisite(what, format!("add nodes of {}", ARCHITECTURES.join(" or "))))
    })
}
