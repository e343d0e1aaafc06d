//! `mesh.values`: which Helm values of Istio it may contain.

use super::problems::Problems;
use super::{Values, did_you_mean, owned};

/// Istio values that the plan or another field of the spec sets, and what sets them. `mesh.values` are merged last
/// and are the same for every cluster: any of these would break the mesh.
const OWNED: [(&str, &str); 21] = [
    ("global.meshID", "all clusters share the ID that the plan sets"),
    ("global.network", "it follows from the topology"),
    ("global.multiCluster.clusterName", "it is the cluster's name, which remote secrets use"),
    ("global.externalIstiod", "use clusters[].mesh.controlPlane"),
    ("global.remotePilotAddress", "use clusters[].mesh.controlPlane"),
    ("istiodRemote.enabled", "use clusters[].mesh.controlPlane"),
    ("istiodRemote.injectionPath", "it is the name and the network of the remote cluster"),
    ("istiodRemote.injectionURL", "use clusters[].mesh.controlPlane"),
    ("hub", "use mesh.hub"),
    ("tag", "use mesh.version"),
    ("profile", "kindmesh chooses it, and a profile's settings can be written here as values"),
    ("global.hub", "use mesh.hub"),
    ("global.tag", "use mesh.version"),
    ("global.istioNamespace", "the mesh is installed in istio-system"),
    ("meshConfig.rootNamespace", "the mesh's policies are in istio-system"),
    // With a revision, the namespaces' istio-injection label no longer selects this control plane.
    ("revision", "sidecar injection requires a control plane without a revision"),
    // Identities are compared across clusters, and the checks look for cluster.local.
    ("meshConfig.trustDomain", "identities in all clusters use cluster.local"),
    // Another signer would not use the shared root of trust.
    ("global.caAddress", "workload certificates are issued from the shared root of trust"),
    ("global.pilotCertProvider", "workload certificates are issued from the shared root of trust"),
    // istiod would then leave the redirection to an agent that nobody installs.
    ("pilot.cni.enabled", "kindmesh does not install Istio's CNI agent"),
    // With DNS capture, a name would also resolve in a cluster without its Service; the pattern relies on it failing.
    (
        "meshConfig.defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE",
        "DNS capture is off: a name resolves only with a Service",
    ),
];

/// Istio's Helm values at the top level: `message Values` of istio 1.31, operator/pkg/apis/values_types.proto, which istioctl
/// reads strictly, without those of components that kindmesh does not install.
const KNOWN: [&str; 15] = [
    "base",
    "compatibilityVersion",
    "defaultRevision",
    "experimental",
    "gatewayClasses",
    "gateways",
    "global",
    "istiodRemote",
    "meshConfig",
    "ownerName",
    "pilot",
    "revision",
    "revisionTags",
    "sidecarInjectorWebhook",
    "telemetry",
];

/// Fields of an IstioOperator that only a whole one has.
const ENVELOPE: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];

/// Returns the problems of `mesh.values`: the path, what is wrong, and the fix.
pub(super) fn problems(values: &Values) -> Vec<(String, String, String)> {
    let mut found = Problems::default();
    if ENVELOPE.iter().any(|field| values.contains_key(*field)) {
        found.add(
            "mesh.values",
            "is a whole IstioOperator, but takes Istio's Helm values",
            "write the contents of its spec.values here, and its spec.meshConfig as mesh.values.meshConfig; its hub and tag are \
                mesh.hub and mesh.version; omit its profile and components: kindmesh chooses them",
        );
        return found.0;
    }
    for (within, what) in owned::problems(values, &OWNED) {
        found.add(&format!("mesh.values.{within}"), what, "remove it");
    }
    for name in values.keys().map(String::as_str) {
        let is_owned = OWNED.iter().any(|(field, _)| *field == name);
        if is_owned || KNOWN.contains(&name) {
            continue;
        }
        let (what, hint) = match name {
            "components" => (
                "is a field of an IstioOperator's spec, not a Helm value: kindmesh chooses the components".to_owned(),
                "remove it; resources and variables of istiod are mesh.values.pilot.resources and .env, those of proxies \
                    mesh.values.global.proxy.resources"
                    .to_owned(),
            ),
            "namespace" | "installPackagePath" | "unvalidatedValues" | "addonComponents" => {
                ("is a field of an IstioOperator's spec, not a Helm value".to_owned(), "remove it".to_owned())
            }
            "cni" | "istio_cni" => {
                ("has no effect: kindmesh does not install Istio's CNI agent".to_owned(), "remove it".to_owned())
            }
            "ztunnel" => {
                ("has no effect: kindmesh does not install ztunnel, proxies are sidecars".to_owned(), "remove it".to_owned())
            }
            _ => (
                format!("is no Helm value of Istio{}", did_you_mean(name, &KNOWN)),
                format!("valid here: {}", KNOWN.join(", ")),
            ),
        };
        found.add(&format!("mesh.values.{name}"), what, hint);
    }
    found.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(values: Value) -> Vec<String> {
        let values: Values = serde_json::from_value(values).unwrap();
        problems(&values).into_iter().map(|(path, what, _)| format!("{path} {what}")).collect()
    }

    #[test]
    fn helm_values_have_no_problems() {
        let values =
            json!({"pilot": {"env": {"A": "b"}}, "global": {"proxy": {}}, "meshConfig": {"accessLogFile": ""}});
        assert_eq!(told(values), [""; 0]);
    }

    #[test]
    fn istio_operator_is_not_helm_values() {
        let spec = json!({"meshConfig": {}, "values": {"pilot": {}}});
        let operator = json!({"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": spec});
        assert_eq!(told(operator), ["mesh.values is a whole IstioOperator, but takes Istio's Helm values"]);
        assert_eq!(told(json!({"spec": {}})).len(), 1);
        for (values, said) in [
            (json!({"components": {}}), "mesh.values.components is a field of an IstioOperator's spec"),
            (json!({"hub": "registry.example"}), "mesh.values.hub may not be set: use mesh.hub"),
            (json!({"tag": 1}), "mesh.values.tag may not be set: use mesh.version"),
            (json!({"profile": "default"}), "mesh.values.profile may not be set: kindmesh chooses it"),
            (json!({"namespace": "x"}), "mesh.values.namespace is a field of an IstioOperator's spec"),
        ] {
            let told = told(values);
            assert!(told.len() == 1 && told[0].starts_with(said), "{told:?}");
        }
    }

    #[test]
    fn values_without_effect_and_unknown_ones_are_refused() {
        for (values, said) in [
            (json!({"cni": {}}), "mesh.values.cni has no effect: kindmesh does not install Istio's CNI agent"),
            (json!({"ztunnel": {}}), "mesh.values.ztunnel has no effect"),
            (
                json!({"meshconfig": {}}),
                "mesh.values.meshconfig is no Helm value of Istio, did you mean \"meshConfig\"?",
            ),
            (json!({"values": {}}), "mesh.values.values is no Helm value of Istio"),
            (json!({"pilot": 1}), "mesh.values.pilot must be a map"),
        ] {
            let told = told(values);
            assert!(told.len() == 1 && told[0].starts_with(said), "{told:?}");
        }
    }
}
