//! Recorded texts, each of which must match its cause. The comment names the source; texts without one were
//! recorded in the test lab.

use super::*;

#[test]
fn recorded_texts_have_their_causes() {
    let recorded = [
        // kind#2586, kubernetes#104303
        (
            "inotify.limit",
            Source::Log,
            r#"E0809 12:32:22.155120       1 run.go:74] "command failed" err="failed complete: too many open files""#,
        ),
        ("inotify.limit", Source::Node, "Failed to create control group inotify object: Too many open files"),
        // kubeblocks#8460
        ("inotify.limit", Source::Log, "failed to create fsnotify watcher: too many open files"),
        ("inotify.limit", Source::Node, "inotify_add_watch /sys/fs/cgroup/kubelet: no space left on device"),
        // karmada#4106
        ("disk.full", Source::Error, "write /var/lib/docker/tmp/GetImageBlob: no space left on device"),
        ("disk.full", Source::Error, "No space left on device (os error 28)"),
        // k8s-snap#1456
        (
            "disk.full",
            Source::Event,
            "FailedScheduling: 0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        (
            "disk.full",
            Source::State,
            "Evicted: The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi",
        ),
        (
            "memory.short",
            Source::State,
            "Evicted: The node was low on resource: memory. Container app was using 30Mi",
        ),
        // kind#4077
        (
            "cgroup.v1",
            Source::Node,
            r#"E1101 10:00:00.000000     500 run.go:72] "command failed" err="failed to run Kubelet: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release""#,
        ),
        // The words of cmd/kubelet/app/server.go; then gardener#3140, kubeadm#2436
        (
            "kubernetes.feature-gate",
            Source::Node,
            r#"E1128 10:00:00.000000     800 run.go:72] "command failed" err="failed to set feature gates from initial flags-based config: unrecognized feature gate: OldGate""#,
        ),
        (
            "kubernetes.feature-gate",
            Source::Node,
            r#"2026-11-28T10:00:00.0Z stderr F Error: invalid argument "OldGate=true" for "--feature-gates" flag: unrecognized feature gate: OldGate"#,
        ),
        (
            "kubernetes.feature-gate",
            Source::Node,
            "cannot set feature gate DoneGate to false, feature is locked to true",
        ),
        (
            "kubernetes.feature-gate",
            Source::Error,
            r#"featureGates: Invalid value: {"OldGate":true}: OldGate is not a valid feature name."#,
        ),
        ("kubernetes.api", Source::Node, "Error: unknown api groups old.example.io"),
        (
            "engine.stale",
            Source::Error,
            "Command Output: container 754d28591ef3 is in Running state but has no containerd Task set",
        ),
        // kind#3234
        (
            "engine.rootless",
            Source::Error,
            r#"ERROR: failed to create cluster: running kind with rootless provider requires setting systemd property "Delegate=yes", see https://kind.sigs.k8s.io/docs/user/rootless/"#,
        ),
        // for-mac#17
        (
            "clock.skew",
            Source::Istiod,
            "x509: certificate has expired or is not yet valid: current time 2026-11-24T05:00:00Z is before 2026-11-24T07:12:10Z",
        ),
        (
            "clock.skew",
            Source::Proxy,
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_NOT_YET_VALID",
        ),
        // compose#6153
        (
            "network.pool",
            Source::Error,
            "Error response from daemon: could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        ),
        (
            "network.pool",
            Source::Error,
            "Error response from daemon: all predefined address pools have been fully subnetted",
        ),
        (
            "network.pool",
            Source::Error,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            "port.taken",
            Source::Error,
            "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:6443 failed: port is already allocated",
        ),
        (
            "name.taken",
            Source::Error,
            r#"docker: Error response from daemon: Conflict. The container name "/a-b-control-plane" is already in use by container "12". You have to remove (or rename) that container to be able to reuse that name."#,
        ),
        // kind#1425
        (
            "kubeconfig.lock",
            Source::Error,
            "ERROR: failed to create cluster: failed to lock config file: open /home/ada/.kube/config.lock: file exists",
        ),
        // sail#564, kiali#3777
        (
            "node-pull.rate-limit",
            Source::Event,
            r#"Failed: Failed to pull image "busybox": rpc error: code = Unknown desc = failed to pull and unpack image "docker.io/library/busybox:latest": failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/busybox/manifests/sha256:50aa4698fa6262977cff89181b2664b99d8a56dbca847bf62f2ef04854597cf8: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit."#,
        ),
        // idpbuilder#229
        (
            "node-pull.denied",
            Source::State,
            r#"app: ErrImagePull failed to pull and unpack image "r.example/app:1": failed to resolve reference "r.example/app:1": pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"#,
        ),
        (
            "node-pull.denied",
            Source::Event,
            r#"Failed: Failed to pull image "r.example/app:1": failed to resolve reference "r.example/app:1": unexpected status from HEAD request to https://r.example/v2/app/manifests/1: 401 Unauthorized"#,
        ),
        // kind#1010, eks-anywhere#171
        (
            "node-pull.certificate",
            Source::Event,
            r#"Failed: Failed to pull image "public.ecr.aws/app:1": failed to pull and unpack image "public.ecr.aws/app:1": failed to resolve reference "public.ecr.aws/app:1": failed to do request: Head "https://public.ecr.aws/v2/app/manifests/1": tls: failed to verify certificate: x509: certificate signed by unknown authority"#,
        ),
        // rancher-desktop#305
        (
            "node-pull.certificate",
            Source::Event,
            r#"Failed to pull image "docker.io/moby/buildkit:v0.8.3": failed to authorize: failed to fetch anonymous token: Get "https://auth.docker.io/token?service=registry.docker.io": x509: certificate signed by unknown authority"#,
        ),
        (
            "registry.certificate",
            Source::Error,
            r#"Get "https://registry-1.docker.io/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority"#,
        ),
        // kind#1365, docker-stack-deploy#9
        (
            "client.old",
            Source::Error,
            "Error response from daemon: client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version",
        ),
        // arquillian-cube#1423
        (
            "image.rate-limit",
            Source::Error,
            "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
        ),
        // kind#3795
        (
            "image.content",
            Source::Error,
            "ctr: content digest sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed: not found",
        ),
        (
            "image.platform",
            Source::Error,
            "Docker responded with status code 404: no matching manifest for linux/arm64/v8 in the manifest list entries",
        ),
        (
            "image.denied",
            Source::Error,
            "pull access denied for nosuch/image, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        (
            "image.missing",
            Source::Error,
            "manifest for istio/pilot:9.9.9 not found: manifest unknown: manifest unknown",
        ),
        (
            "image.missing",
            Source::Event,
            r#"Failed: Failed to pull image "docker.io/istio/pilot:9": rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/istio/pilot:9": failed to resolve reference "docker.io/istio/pilot:9": docker.io/istio/pilot:9: not found"#,
        ),
        (
            "registry.unreachable",
            Source::Event,
            r#"Failed: Failed to pull image "docker.io/istio/pilot:9": failed to do request: Head "https://registry-1.docker.io/v2/istio/pilot/manifests/9": dial tcp: lookup registry-1.docker.io on 172.30.0.1:53: no such host"#,
        ),
        (
            "image.not-on-node",
            Source::State,
            r#"app: ErrImageNeverPull Container image "kindmesh.local/sample:1" is not present with pull policy of Never"#,
        ),
        ("image.pull", Source::State, r#"discovery: ImagePullBackOff Back-off pulling image "nosuch:1""#),
        // istio#22619
        (
            "pod.unschedulable",
            Source::State,
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        (
            "pod.unscheduled",
            Source::State,
            "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
        ),
        // istio#35894
        (
            "pod.security",
            Source::State,
            r#"FailedCreate: pods "web-6d4cf56db6-x2x7k" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "istio-init" must set securityContext.allowPrivilegeEscalation=false)"#,
        ),
        // istio#9332
        (
            "pod.quota",
            Source::Event,
            r#"FailedCreate: create Pod db-0 in StatefulSet db failed error: pods "db-0" is forbidden: exceeded quota: small, requested: limits.memory=1Gi, used: limits.memory=1Gi, limited: limits.memory=1Gi"#,
        ),
        (
            "pod.quota",
            Source::Error,
            r#"0 of 1 ready: pods "db-0" is forbidden: failed quota: small: must specify limits.memory for: istio-proxy"#,
        ),
        // metallb#1540
        (
            "webhook.no-route",
            Source::State,
            r#"FailedCreate: Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod.istio-system.svc:443/inject?timeout=10s": dial tcp 10.101.3.4:443: connect: no route to host"#,
        ),
        (
            "webhook.refused",
            Source::State,
            r#"FailedCreate: Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod.istio-system.svc:443/inject?timeout=10s": dial tcp 10.101.3.4:443: connect: connection refused"#,
        ),
        // istio#43593
        (
            "webhook.timeout",
            Source::State,
            r#"FailedCreate: Error creating: Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod.istio-system.svc:443/inject?timeout=10s": context deadline exceeded"#,
        ),
        (
            "webhook.trust",
            Source::State,
            r#"FailedCreate: failed calling webhook "rev.validation.istio.io": Post "https://istiod.istio-system.svc:443/validate": x509: certificate signed by unknown authority"#,
        ),
        // istio#31081
        (
            "remote-secret.loopback",
            Source::Istiod,
            r#"error	klog	failed to list *v1.Pod: Get "https://127.0.0.1:43345/api/v1/pods?limit=500": dial tcp 127.0.0.1:43345: connect: connection refused"#,
        ),
        // kind#2045
        (
            "remote-secret.name",
            Source::Istiod,
            r#"Get "https://172.18.0.3:6443/api/v1/pods": tls: failed to verify certificate: x509: certificate is valid for 10.96.0.1, 172.18.0.2, 127.0.0.1, not 172.18.0.3"#,
        ),
        // istio#51376
        (
            "remote-secret.ca",
            Source::Istiod,
            r#"Get "https://e-b-control-plane:6443/api/v1/namespaces?limit=500": tls: failed to verify certificate: x509: certificate signed by unknown authority"#,
        ),
        (
            "remote.unreachable",
            Source::Istiod,
            r#"Get "https://e-b-control-plane:6443/api/v1/pods": dial tcp 172.30.0.3:6443: connect: no route to host"#,
        ),
        (
            "remote.unreachable",
            Source::Istiod,
            r#"Get "https://e-b-control-plane:6443/api/v1/pods": dial tcp: lookup e-b-control-plane on 10.101.0.10:53: no such host"#,
        ),
        // istio#32501
        (
            "trust.roots",
            Source::Answer,
            "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: TLS error: 268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
        ),
        // istio#52356
        (
            "trust.roots",
            Source::Proxy,
            "TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end",
        ),
        // istio#17087
        ("service.missing", Source::Answer, "the host name sample-producer does not resolve"),
        ("policy.denied", Source::Answer, "RBAC: access denied"),
        // istio#49412
        (
            "network.label",
            Source::State,
            "namespace istio-system of cluster2 has no label topology.istio.io/network",
        ),
        (
            "link.broken",
            Source::Answer,
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, transport failure reason: delayed connect error: 113",
        ),
        ("link.cut", Source::State, "ev-cluster1-control-plane to the pods of cluster2: link disabled"),
        ("link.broken", Source::State, "ev-cluster1-control-plane to the pods of cluster2: no route"),
        ("call.timeout", Source::Answer, "the caller got status 504: upstream request timeout"),
        ("endpoints.none", Source::Answer, "no healthy upstream"),
        (
            "connection.closed",
            Source::Answer,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        ),
        (
            "container.memory",
            Source::State,
            "app: CrashLoopBackOff back-off 10s restarting failed container; last run: OOMKilled, status 137",
        ),
        (
            "container.crashes",
            Source::State,
            "discovery: CrashLoopBackOff back-off 20s restarting failed container=discovery pod=istiod-1",
        ),
    ];
    for (id, of, line) in recorded {
        assert_eq!(cause_of(of, line), Some(id), "{line}");
    }
    let never: Vec<_> =
        rules().map(|rule| rule.id).filter(|id| !recorded.iter().any(|(known, ..)| known == id)).collect();
    // The message differs between versions: no recording was found.
    assert_eq!(never, ["remote-secret.token"]);
}
