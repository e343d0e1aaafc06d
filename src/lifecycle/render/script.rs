//! The script that applies rendered files: the same steps as `up`, with standard tools.

use crate::base::error::Error;
use crate::cluster::mesh::remote::READER_TOKEN_NAME;
use crate::host::docker::sample_image::{ENTRYPOINT, USER};
use crate::plan::{Cluster, Docker, MANAGED_BY, Plan};
use crate::spec::Profile;

/// Returns the script for a plan.
///
/// # Errors
/// A usage error if kind creates none of the clusters.
pub(super) fn apply(plan: &Plan) -> Result<String, Error> {
    let Docker { network, platform, profile, .. } = plan.docker()?;
    let mut script = format!(
        "#!/usr/bin/env bash\n\
         # Creates environment {0} from the files next to this script, like `kindmesh up`. Requires docker, kind and kubectl.\n\
         set -euo pipefail\n\
         cd \"$(dirname \"$0\")\"\n\
         export KUBECONFIG=$PWD/kubeconfig KIND_EXPERIMENTAL_PROVIDER=docker KIND_EXPERIMENTAL_DOCKER_NETWORK={1}\n\n",
        plan.environment, network.name
    );
    let mut line = |text: String| {
        script.push_str(&text);
        script.push('\n');
    };
    line("# The network, labeled so that `kindmesh list` and `kindmesh down` find it.".into());
    let labels: String = network.labels.iter().map(|(key, value)| format!(" --label {key}={value}")).collect();
    let mtu = network.mtu.map(|mtu| format!(" -o com.docker.network.driver.mtu={mtu}")).unwrap_or_default();
    line(format!(
        "docker network inspect {0} >/dev/null 2>&1 ||\n  docker network create --subnet {1} --ip-range {2}{mtu}{labels} {0}",
        network.name,
        network.subnet,
        network.nodes()
    ));
    line(
        "\n# Pull images that the engine does not have; the sample image is built from the kindmesh executable."
            .into(),
    );
    if let Some(samples) = plan.samples.as_ref().filter(|samples| samples.build) {
        line(format!(
            "docker image inspect {0} >/dev/null 2>&1 ||\n  docker import -c 'ENTRYPOINT [\"{ENTRYPOINT}\"]' -c 'USER {USER}:{USER}' sample-image.tar {0}",
            samples.image
        ));
    }
    for image in plan.images() {
        line(format!("docker image inspect {image} >/dev/null 2>&1 || docker pull --platform {platform} {image}"));
    }
    for cluster in &plan.clusters {
        line(format!("\n# {}", cluster.name));
        create(plan, cluster, *profile, &mut line);
    }
    line("\n# Remote secrets: each istiod reads the API servers of its peers.".into());
    line(READER.replace("TOKEN_NAME", READER_TOKEN_NAME).replace("MANAGED_BY", MANAGED_BY));
    for cluster in plan.clusters.iter().filter(|cluster| !cluster.is_remote()) {
        for peer in plan.peers(cluster) {
            line(format!("reader {} {} {} {}", cluster.context, peer.context, peer.name, peer.api_server));
        }
    }
    for cluster in plan.clusters.iter().filter(|cluster| cluster.is_remote()) {
        let primary = &plan.control_plane_of(cluster).name;
        line(format!(
            "\n# {} waits for istiod of {primary}, which writes its certificate into the webhook.",
            cluster.name
        ));
        line(format!(
            "for second in $(seq 300); do kubectl --context {0} get mutatingwebhookconfiguration istio-sidecar-injector -o yaml | \
                grep -q caBundle && break; [ $second -lt 300 ] || {{ echo 'error: istiod of {primary} has not served {1} within 5 minutes; \
                its log: kubectl --context {2} -n istio-system logs deploy/istiod' >&2; exit 1; }}; sleep 1; done",
            cluster.context,
            cluster.name,
            plan.control_plane_of(cluster).context
        ));
        if plan.has_gateways() {
            line(applied(cluster, "gateway.yaml"));
        }
    }
    if plan.samples.is_some() {
        line("\n# The sample services.".into());
        for cluster in &plan.clusters {
            line(applied(cluster, "samples.yaml"));
        }
    }
    Ok(script)
}

fn applied(cluster: &Cluster, file: &str) -> String {
    format!(
        "kubectl --context {} apply --server-side --force-conflicts --field-manager {MANAGED_BY} -f {}/{file}",
        cluster.context, cluster.name
    )
}

fn create(plan: &Plan, cluster: &Cluster, profile: Profile, line: &mut impl FnMut(String)) {
    let name = &cluster.name;
    line(format!("kind create cluster --config {name}/kind.yaml"));
    for node in cluster.nodes() {
        line(format!(
            "tar -C {name}/node --owner=0 --group=0 --mode=u+rwX,go+rX -c . | docker exec -i {node} tar --no-overwrite-dir -C / -x"
        ));
        line(format!(
            "docker exec {node} sh -c 'touch /etc/kindmesh/created && systemctl daemon-reload && systemctl enable --quiet --now kindmesh-link kindmesh-boot kindmesh-balancer'"
        ));
        line(format!(
            "docker save {} | docker exec -i {node} ctr --namespace k8s.io images import -",
            plan.images_of(cluster).join(" ")
        ));
    }
    if profile == Profile::Disposable {
        line(applied(cluster, "coredns.yaml"));
    }
    line(applied(cluster, if cluster.is_remote() { "namespace.yaml" } else { "cacerts.yaml" }));
    line(applied(cluster, "istio-crds.yaml"));
    line(format!(
        "kubectl --context {} wait --for condition=Established -f {name}/istio-crds.yaml",
        cluster.context
    ));
    line(format!("kubectl --context {} -n kube-system rollout status daemonset/kube-proxy", cluster.context));
    line(applied(cluster, "istio.yaml"));
    if cluster.is_remote() {
        return;
    }
    line(format!("kubectl --context {} -n istio-system rollout status deployment/istiod", cluster.context));
    if plan.remotes_of(cluster).next().is_some() {
        line(applied(cluster, "exposed-istiod.yaml"));
    }
    if plan.has_gateways() {
        line(applied(cluster, "gateway.yaml"));
    }
}

/// `reader CONTEXT PEER_CONTEXT PEER SERVER`: creates the remote secret for PEER in the cluster of CONTEXT.
const READER: &str = r#"reader() {
  local ca token secret=TOKEN_NAME
  until token=$(kubectl --context "$2" -n istio-system get secret $secret -o 'jsonpath={.data.token}') && [ -n "$token" ]; do sleep 1; done
  ca=$(kubectl --context "$2" -n istio-system get secret $secret -o 'jsonpath={.data.ca\.crt}')
  kubectl --context "$1" apply --server-side --field-manager MANAGED_BY -f - <<YAML
apiVersion: v1
kind: Secret
metadata:
  name: istio-remote-secret-$3
  namespace: istio-system
  labels: {istio/multiCluster: "true", app.kubernetes.io/managed-by: MANAGED_BY}
  annotations: {networking.istio.io/cluster: $3}
stringData:
  $3: |
    apiVersion: v1
    kind: Config
    clusters: [{name: $3, cluster: {server: "$4", certificate-authority-data: $ca}}]
    users: [{name: $3, user: {token: $(base64 -d <<<"$token")}}]
    contexts: [{name: $3, context: {cluster: $3, user: $3}}]
    current-context: $3
YAML
}"#;
