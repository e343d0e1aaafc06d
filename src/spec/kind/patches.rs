//! Patches of a kind configuration that would have no effect, or change what the plan decides.

use serde_json::Value;

use super::Problem;
use crate::base::yaml::documents;
use crate::spec::Version;

/// Fields that the plan sets, by the kind of the patched document, and what to do instead.
const OWNED: [(&str, &str, &str); 8] = [
    ("ClusterConfiguration", "/networking/podSubnet", "set the cluster's podSubnet instead"),
    ("ClusterConfiguration", "/networking/serviceSubnet", "set the cluster's serviceSubnet instead"),
    ("ClusterConfiguration", "/networking/dnsDomain", "the mesh resolves names of cluster.local"),
    ("ClusterConfiguration", "/controllerManager/extraArgs/cluster-cidr", "set the cluster's podSubnet instead"),
    (
        "ClusterConfiguration",
        "/apiServer/extraArgs/service-cluster-ip-range",
        "set the cluster's serviceSubnet instead",
    ),
    ("KubeletConfiguration", "/clusterDomain", "the mesh resolves names of cluster.local"),
    ("KubeProxyConfiguration", "/mode", "the links between clusters require kube-proxy's iptables mode"),
    ("KubeProxyConfiguration", "/clusterCIDR", "set the cluster's podSubnet instead"),
];

/// Returns the version of kubeadm's API in which kind v0.33 configures a version of Kubernetes: its
/// pkg/cluster/internal/kubeadm/config.go.
fn kubeadm_version(kubernetes: Version) -> &'static str {
    if (kubernetes.major, kubernetes.minor) >= (1, 36) { "v1beta4" } else { "v1beta3" }
}

/// Adds the problems of the patches in a kind configuration. `kubernetes` is the version of its nodes, if known.
pub(super) fn problems(config: &Value, kubernetes: Option<Version>, found: &mut Vec<Problem>) {
    let nodes = config["nodes"].as_array().into_iter().flatten().enumerate();
    let nodes = nodes.map(|(index, node)| (format!("nodes[{index}]."), node));
    for (path, holder) in std::iter::once((String::new(), config)).chain(nodes) {
        for (path, patch) in items(&path, holder, "kubeadmConfigPatches") {
            if let Some(text) = patch.as_str() {
                merge_patch(&path, text, kubernetes, found);
            }
        }
        for (path, patch) in items(&path, holder, "kubeadmConfigPatchesJSON6902") {
            json_patch(&path, patch, kubernetes, found);
        }
    }
    for field in ["containerdConfigPatches", "containerdConfigPatchesJSON6902"] {
        for (path, patch) in items("", config, field) {
            let text = patch.as_str().unwrap_or_default();
            if text.contains("registry.mirrors") || text.contains("registry/mirrors") {
                found.push(Problem {
                    path,
                    // openperouter#314
                    what: "sets registry.mirrors, with which containerd 2.2 does not serve the kubelet: it reads hosts.toml files instead"
                        .into(),
                    fix: "mount a directory with REGISTRY/hosts.toml instead: nodes: [{extraMounts: [{hostPath: certs.d, containerPath: \
                        /etc/containerd/certs.d}]}]"
                        .into(),
                });
            }
        }
    }
}

fn items<'a>(path: &str, holder: &'a Value, field: &str) -> Vec<(String, &'a Value)> {
    let items = holder[field].as_array().into_iter().flatten().enumerate();
    items.map(|(index, item)| (format!("{path}{field}[{index}]"), item)).collect()
}

/// A patch in the form of the document that it changes.
fn merge_patch(path: &str, text: &str, kubernetes: Option<Version>, found: &mut Vec<Problem>) {
    let read = match documents(text) {
        Ok(read) => read,
        Err(error) => {
            let what = format!("is no YAML: line {}: {error}", error.place.line);
            return found.push(Problem { path: path.to_owned(), what, fix: "correct the patch".into() });
        }
    };
    for document in read {
        let of = document.value["kind"].as_str().unwrap_or_default();
        let version = document.value["apiVersion"].as_str().unwrap_or_default();
        let fix = "omit apiVersion: kind then adapts the patch to either version";
        found.extend(ineffective(path, version, kubernetes, fix));
        let sets = |pointer: &str| set_by(&document.value, pointer);
        found.extend(owned(path, of, sets));
    }
}

/// Whether a patch sets a field. `extraArgs` is a map, or in v1beta4 a list of names and values.
fn set_by(patch: &Value, pointer: &str) -> bool {
    let named = || {
        let (list, name) = pointer.rsplit_once('/')?;
        Some(patch.pointer(list)?.as_array()?.iter().any(|item| item["name"] == name))
    };
    patch.pointer(pointer).is_some() || named().unwrap_or_default()
}

/// A JSON patch with the group, version and kind of the document that it changes.
fn json_patch(path: &str, patch: &Value, kubernetes: Option<Version>, found: &mut Vec<Problem>) {
    let text = |field: &str| patch[field].as_str().unwrap_or_default();
    let version = format!("{}/{}", text("group"), text("version"));
    found.extend(ineffective(path, &version, kubernetes, "set the version that kind uses"));
    let operations = documents(text("patch")).unwrap_or_default();
    let operations: Vec<&Value> = operations.iter().filter_map(|read| read.value.as_array()).flatten().collect();
    let sets = |pointer: &str| operations.iter().any(|operation| operation["path"] == pointer);
    found.extend(owned(path, text("kind"), sets));
}

fn ineffective(path: &str, api_version: &str, kubernetes: Option<Version>, fix: &str) -> Option<Problem> {
    let version = api_version.strip_prefix("kubeadm.k8s.io/")?;
    let kubernetes = kubernetes?;
    let used = kubeadm_version(kubernetes);
    (version != used).then(|| Problem {
        path: path.to_owned(),
        what: format!(
            "has no effect: it is for kubeadm.k8s.io/{version}, and kind configures Kubernetes {}.{} with {used}",
            kubernetes.major, kubernetes.minor
        ),
        fix: fix.to_owned(),
    })
}

fn owned(path: &str, of: &str, sets: impl Fn(&str) -> bool) -> Vec<Problem> {
    let touched = OWNED.iter().filter(|(kind, pointer, _)| *kind == of && sets(pointer));
    let problem = |(_, pointer, why): &(&str, &str, &str)| Problem {
        path: path.to_owned(),
        what: format!("may not set {} of {of}: {why}", pointer.trim_start_matches('/').replace('/', ".")),
        fix: "remove it from the patch".into(),
    };
    touched.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NEW: Version = Version { major: 1, minor: 36, patch: 4 };
    const OLD: Version = Version { major: 1, minor: 35, patch: 0 };

    fn told(config: Value, kubernetes: Option<Version>) -> Vec<String> {
        let mut found = Vec::new();
        problems(&config, kubernetes, &mut found);
        found.into_iter().map(|problem| format!("{} {}", problem.path, problem.what)).collect()
    }

    #[test]
    fn patch_for_another_version_of_kubeadm_has_no_effect() {
        let patch = |version: &str| json!({"kubeadmConfigPatches": [format!("apiVersion: kubeadm.k8s.io/{version}\nkind: ClusterConfiguration\n")]});
        assert_eq!(
            told(patch("v1beta3"), Some(NEW)),
            [
                "kubeadmConfigPatches[0] has no effect: it is for kubeadm.k8s.io/v1beta3, and kind configures Kubernetes 1.36 with \
                v1beta4"
            ]
        );
        assert_eq!(told(patch("v1beta4"), Some(NEW)), [""; 0]);
        assert_eq!(told(patch("v1beta4"), Some(OLD)).len(), 1);
        assert_eq!(told(patch("v1beta3"), Some(OLD)), [""; 0]);
        // Nothing is known about an image without a version.
        assert_eq!(told(patch("v1beta3"), None), [""; 0]);
        let json = json!({"nodes": [{"kubeadmConfigPatchesJSON6902": [{"group": "kubeadm.k8s.io", "version": "v1beta3",
            "kind": "InitConfiguration", "patch": "[]"}]}]});
        assert!(told(json, Some(NEW))[0].starts_with("nodes[0].kubeadmConfigPatchesJSON6902[0] has no effect"));
    }

    #[test]
    fn patches_may_not_set_what_the_plan_decides() {
        for (patch, said) in [
            (
                "kind: ClusterConfiguration\nnetworking: {podSubnet: 10.0.0.0/16}",
                "networking.podSubnet of ClusterConfiguration",
            ),
            (
                "kind: ClusterConfiguration\nnetworking: {dnsDomain: shop.local}",
                "networking.dnsDomain of ClusterConfiguration",
            ),
            ("kind: KubeProxyConfiguration\nmode: ipvs", "mode of KubeProxyConfiguration"),
            ("kind: KubeletConfiguration\nclusterDomain: x", "clusterDomain of KubeletConfiguration"),
            (
                "kind: ClusterConfiguration\ncontrollerManager: {extraArgs: [{name: cluster-cidr, value: 10.0.0.0/16}]}",
                "controllerManager.extraArgs.cluster-cidr of ClusterConfiguration",
            ),
        ] {
            let told = told(json!({"kubeadmConfigPatches": ["kind: InitConfiguration", patch]}), Some(NEW));
            assert_eq!(told.len(), 1, "{patch}");
            assert!(told[0].starts_with(&format!("kubeadmConfigPatches[1] may not set {said}: ")), "{told:?}");
        }
        let json = json!({"kubeadmConfigPatchesJSON6902": [{"group": "kubeproxy.config.k8s.io", "version": "v1alpha1",
            "kind": "KubeProxyConfiguration", "patch": "- {op: add, path: /mode, value: ipvs}"}]});
        assert!(told(json, Some(NEW))[0].contains("may not set mode of KubeProxyConfiguration"));
    }

    #[test]
    fn patch_that_is_no_yaml_is_named() {
        let told = told(json!({"kubeadmConfigPatches": ["a: b: c"]}), None);
        assert!(told[0].starts_with("kubeadmConfigPatches[0] is no YAML: line 1: "), "{told:?}");
    }

    #[test]
    fn mirrors_belong_in_hosts_files() {
        let patch = "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  endpoint = [\"http://mirror\"]";
        let mut found = Vec::new();
        problems(&json!({"containerdConfigPatches": [patch]}), None, &mut found);
        assert!(
            found[0].what.contains("registry.mirrors") && found[0].fix.contains("hosts.toml"),
            "{}",
            found[0].what
        );
        let told = told(
            json!({"containerdConfigPatches": ["[plugins.a]\n  config_path = \"/etc/containerd/certs.d\""]}),
            None,
        );
        assert_eq!(told, [""; 0]);
    }
}
