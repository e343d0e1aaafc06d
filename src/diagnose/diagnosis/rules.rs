//! The known causes, one rule each. More specific causes come first, consequences last.

use std::sync::LazyLock;

use regex::Regex;

use super::Source::{self, Answer, Error, Event, Istiod, Log, Node, Proxy, State};

/// How a cause is recognized and described.
#[derive(Debug)]
pub struct Rule {
    /// The stable ID.
    pub id: &'static str,
    /// The sources that the pattern applies to.
    pub told_by: &'static [Source],
    /// A regular expression for one line.
    pub pattern: &'static str,
    /// What is wrong. `{1}` is the first matching group of the pattern, `{of}` the section's title, `{log}` a log's
    /// last line.
    pub sentence: &'static str,
    /// The fix.
    pub hint: &'static str,
}

const EVERYWHERE: &[Source] = &[Error, State, Event, Log, Node, Istiod, Proxy, Answer];
/// Messages of Kubernetes or the engine about a container that does not run yet.
const STARTING: &[Source] = &[Error, State, Event];
/// The same, for the current state.
const STATED: &[Source] = &[Error, State];
/// The result of a failed call.
const CALLING: &[Source] = &[Answer, Proxy, Error];

/// Causes for which a node never becomes ready, so that waiting for it is of no use.
pub const NEVER_PASS: &[&str] = &["kubernetes.feature-gate", "kubernetes.api"];

/// The causes. The first match wins.
pub const CAUSES: &[Rule] = &[
    // The host.
    Rule {
        id: "inotify.limit",
        told_by: EVERYWHERE,
        // The kernel reports ENOSPC for a watch over the limit, and EMFILE for an instance over the limit.
        pattern: r"(?i)too many open files|(?:inotify|fsnotify|file watcher|watch).*no space left on device",
        sentence: "the kernel's inotify limits are too low for this number of nodes",
        hint: "raise the limits: sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512; \
               then kindmesh up",
    },
    Rule {
        id: "disk.full",
        told_by: EVERYWHERE,
        pattern: r"(?i)no space left on device|NodeHasDiskPressure|condition: \[DiskPressure\]|kubernetes\.io/disk-pressure|low on resource: ephemeral-storage|disk quota exceeded",
        sentence: "a disk is full",
        hint: "check disk usage: docker system df; df -h; free some space, then kindmesh up",
    },
    Rule {
        id: "memory.short",
        told_by: EVERYWHERE,
        pattern: r"(?i)low on resource: memory|NodeHasInsufficientMemory|kubernetes\.io/memory-pressure|out of memory: killed process|cannot allocate memory",
        sentence: "the engine is out of memory",
        hint: "give the engine more memory (4 GB for two clusters), or stop other programs; then kindmesh up",
    },
    Rule {
        id: "cgroup.v1",
        told_by: &[Error, Node],
        pattern: r"(?i)kubelet is configured to not run on a host using cgroup v1|cgroup v1 support is unsupported",
        sentence: "this kubelet refuses to run on a host with cgroup v1",
        hint: "boot the host with cgroup v2, or remove kubernetes.nodeImage from the spec, so that kindmesh \
            configures the kubelet to accept v1; then kindmesh down and kindmesh up",
    },
    Rule {
        id: "kubernetes.feature-gate",
        told_by: &[Error, Node],
        // Of the kubelet, the API server and kubeadm: component-base/featuregate, kubeadm/app/apis/kubeadm/validation.
        pattern: r"unrecognized feature gate: ([\w.-]+)|([\w.-]+) is not a valid feature name|cannot set feature gate ([\w.-]+) to \w+, feature is locked to \w+",
        sentence: "this version of Kubernetes does not have the feature gate {1}, or does not let it be set",
        hint: "remove it from the cluster's kind settings (featureGates, or a kubeadm patch), or choose a node image that has it; \
            then kindmesh up",
    },
    Rule {
        id: "kubernetes.api",
        told_by: &[Error, Node],
        pattern: r"unknown api groups? (\S+)",
        sentence: "this version of Kubernetes does not have the API group {1}",
        hint: "remove it from runtimeConfig in the cluster's kind settings; then kindmesh up",
    },
    Rule {
        id: "engine.stale",
        told_by: EVERYWHERE,
        pattern: r"is in Running state but has no containerd Task set",
        sentence: "the engine was killed, and reports nodes as running that are not",
        hint: "restart the engine, such as with sudo systemctl restart docker; then kindmesh up",
    },
    Rule {
        id: "engine.rootless",
        told_by: &[Error],
        pattern: r"running kind with rootless provider requires|Delegate=yes",
        sentence: "the engine is rootless and lacks the cgroup delegation that nodes require",
        hint: "use an engine that runs as root, or follow https://kind.sigs.k8s.io/docs/user/rootless; then \
            kindmesh up",
    },
    Rule {
        id: "clock.skew",
        told_by: EVERYWHERE,
        pattern: r"(?i)certificate has expired or is not yet valid: current time (\S+) is (before|after) (\S+)|certificate has expired or is not yet valid|CERTIFICATE_(?:NOT_YET_VALID|HAS_EXPIRED)|token (?:used before issued|is not valid yet|has expired)|(?:this machine|the host)'s clock says",
        sentence: "the clocks of the host and the engine differ, or one has stopped",
        hint: "compare the clocks: date; docker run --rm busybox date; set the clock or restart the engine (its \
            clock stops while a laptop sleeps); then kindmesh up",
    },
    // Networks and names of the engine.
    Rule {
        id: "network.pool",
        told_by: &[Error],
        pattern: r"(?i)pool overlaps with other one on this address space|could not find an available, non-overlapping|predefined address pools have been fully subnetted",
        sentence: "the engine has no free subnet for the network: other networks or the routes of a VPN use all of \
            them",
        hint: "set network.subnet in kindmesh.yaml to a free one, or remove unused networks: docker network \
            prune; then kindmesh up",
    },
    Rule {
        id: "port.taken",
        told_by: &[Error],
        pattern: r"(?i)Bind for (\S+) failed: port is already allocated|listen tcp\S* (\S+): bind: address already in use",
        sentence: "another program uses the address {1}",
        hint: "find it: docker ps; stop it, or change the port in the cluster's kind settings; then kindmesh up",
    },
    Rule {
        id: "name.taken",
        told_by: &[Error],
        pattern: r#"(?i)container name "/?([^"]+)" is already in use|node\(s\) already exist for a cluster with the name "?([^"\s]+)"#,
        sentence: "container {1} exists, but kindmesh did not create it",
        hint: "choose another environment name with --name, or remove the container if it is yours: docker rm \
            -fv {1}",
    },
    Rule {
        id: "kubeconfig.lock",
        told_by: &[Error],
        pattern: r"failed to lock config file: (?:open )?([^:\s]+)",
        sentence: "a kind process that was killed left its kubeconfig lock: {1}",
        hint: "if no kind process is running, delete the lock: rm {1}; then kindmesh up",
    },
    // Images that a node pulls itself: it has neither the engine's credentials nor its certificates.
    Rule {
        id: "node-pull.rate-limit",
        told_by: STARTING,
        pattern: r#"(?i)(?:Failed to pull image|ErrImagePull|ImagePullBackOff|failed to pull and unpack image).*(?:toomanyrequests|429 Too Many Requests|pull rate limit)"#,
        sentence: "the registry's rate limit is reached, for an image that the node pulls itself",
        hint: "docker login alone does not help: nodes do not have its credentials; log in, then repeat kindmesh deploy, which pulls \
            with them and loads the image; or by hand: docker pull IMAGE; kindmesh image load IMAGE",
    },
    Rule {
        id: "node-pull.denied",
        told_by: STARTING,
        pattern: r#"(?i)(?:Failed to pull image|ErrImagePull|ImagePullBackOff|failed to pull and unpack image).*(?:pull access denied|401 Unauthorized|403 Forbidden|no basic auth|insufficient_scope|unauthorized:)"#,
        sentence: "the registry denied the node's pull: the image does not exist, or requires credentials, which the node does not have",
        hint: "check the name; docker login alone does not help: log in, then repeat kindmesh deploy, which pulls with its credentials \
            and loads the image; or by hand: docker pull IMAGE; kindmesh image load IMAGE; or give the pod an imagePullSecret",
    },
    Rule {
        id: "node-pull.certificate",
        told_by: STARTING,
        pattern: r#"(?:Failed to pull image|ErrImagePull|ImagePullBackOff|failed to pull and unpack image).*https?://([^/"]+)/.*x509: certificate signed by unknown authority"#,
        sentence: "the node does not trust the certificate of {1}: nodes do not have this host's root certificates, such as that \
            of a company's proxy",
        hint: "load the image instead: docker pull IMAGE; kindmesh image load IMAGE; or mount this host's \
            /etc/ssl/certs/ca-certificates.crt into the nodes with extraMounts in the kind settings of each cluster, then kindmesh \
            down and kindmesh up",
    },
    // Images.
    Rule {
        id: "registry.certificate",
        told_by: STARTING,
        pattern: r#"(?:Get|Head) "?https?://([^/"]+)/(?:v2/|token).*x509: certificate signed by unknown authority"#,
        sentence: "the engine does not trust the certificate of the registry {1}, such as that of a company's proxy",
        hint: "add the root certificate on the engine's host: sudo cp CA.crt /usr/local/share/ca-certificates/ && sudo \
            update-ca-certificates && sudo systemctl restart docker; then kindmesh up",
    },
    Rule {
        id: "client.old",
        told_by: &[Error],
        pattern: r"client version (\S+) is too old\. Minimum supported API version is ([\d.]+)",
        sentence: "the docker client, which kind runs, is too old for the engine: its API version is {1}",
        hint: "install the current docker client, and put it first on PATH: https://docs.docker.com/engine/install/; then kindmesh up",
    },
    Rule {
        id: "image.rate-limit",
        told_by: STARTING,
        pattern: r"(?i)toomanyrequests|429 Too Many Requests|pull rate limit",
        sentence: "the registry's rate limit is reached",
        hint: "log in for a higher limit: docker login; or wait an hour; or set mesh.hub to a mirror; then \
            kindmesh up",
    },
    Rule {
        id: "image.content",
        told_by: EVERYWHERE,
        pattern: r"content digest (sha256:[0-9a-f]+): not found",
        sentence: "the engine exported an image without all of its layers",
        hint: "pull it again for this platform only: docker pull --platform; then kindmesh up",
    },
    Rule {
        id: "image.platform",
        told_by: STARTING,
        pattern: r"(?i)no matching manifest for (\S+)|no match for platform in manifest|exec format error",
        sentence: "the image is not built for this engine's architecture",
        hint: "set samples.image or mesh.hub to an image for this architecture; then kindmesh up",
    },
    Rule {
        id: "image.denied",
        told_by: STARTING,
        pattern: r"pull access denied(?: for (\S+?),)?|(?i)unauthorized: (?:authentication required|incorrect)|authorization failed: no basic auth|insufficient_scope",
        sentence: "the registry denied the pull: the image does not exist, or requires a login",
        hint: "check the name (samples.image, mesh.hub, mesh.version), or log in: docker login; then kindmesh up",
    },
    Rule {
        id: "image.missing",
        told_by: STARTING,
        pattern: r#"manifest for (\S+) not found|failed to resolve (?:reference|image) "?([^"\s]+)"?: [^:]+(?::[^:]+)*: not found|(?i)manifest unknown|repository name not known"#,
        sentence: "the registry does not have the image",
        hint: "check the name (samples.image, mesh.hub, mesh.version); then kindmesh up",
    },
    Rule {
        id: "registry.unreachable",
        told_by: STARTING,
        pattern: r#"(?:Get|Head) "?https?://([^/"]+)/v2/.*(?:dial tcp|lookup|timeout|connection refused|EOF|TLS handshake|deadline exceeded)"#,
        sentence: "the registry {1} cannot be reached",
        hint: "check the image's name (samples.image, mesh.hub, mesh.values) and the connection to {1}: proxy, \
            DNS, VPN; then kindmesh up",
    },
    Rule {
        id: "image.not-on-node",
        told_by: STARTING,
        pattern: r#"ErrImageNeverPull|Container image "([^"]+)" is not present with pull policy of Never"#,
        sentence: "the image is not on the node, and its pull policy is Never",
        hint: "set the image with mesh.hub or samples.image, then kindmesh up: it loads those images into nodes, \
            but no others that mesh.values names",
    },
    Rule {
        id: "image.pull",
        told_by: STARTING,
        pattern: r#"(?:ErrImagePull|ImagePullBackOff|InvalidImageName)(?:.*?image "([^"]+)")?|(?:Failed to pull|Back-off pulling) image "([^"]+)"|Failed to apply default image tag "([^"]+)""#,
        sentence: "the node cannot pull the image {1}",
        hint: "check its name (samples.image, mesh.hub, mesh.values), then kindmesh up; it loads only its own images into nodes",
    },
    // The cluster.
    Rule {
        id: "pod.unschedulable",
        told_by: STATED,
        pattern: r"\d+/\d+ nodes are available: .*Insufficient (cpu|memory)",
        sentence: "no node has enough {1} left for the pod's request",
        hint: "lower the requests in mesh.values (pilot.resources.requests, global.proxy.resources.requests), \
            or give the engine more CPU and memory; then kindmesh up",
    },
    Rule {
        id: "pod.unscheduled",
        told_by: STATED,
        pattern: r"\d+/\d+ nodes are available: (.+)",
        sentence: "no node accepts the pod: {1}",
        hint: "check the node: kindmesh logs node; then kindmesh up",
    },
    Rule {
        id: "pod.security",
        told_by: STARTING,
        pattern: r#"violates PodSecurity "([^":]+)"#,
        sentence: "the namespace enforces the PodSecurity level {1}, which refuses the pods",
        hint: "if the message names istio-init: label the namespace pod-security.kubernetes.io/enforce=privileged, because that \
            container needs NET_ADMIN; otherwise set what the message asks for in the container's securityContext",
    },
    Rule {
        id: "pod.quota",
        told_by: STARTING,
        pattern: r"(?:exceeded|failed) quota: ([^,:\s]+)",
        sentence: "the ResourceQuota {1} refuses the pods",
        hint: "raise the quota, or set or lower requests and limits of the containers; those of the proxy are the annotations \
            sidecar.istio.io/proxyCPU, proxyMemory, proxyCPULimit and proxyMemoryLimit of the pods",
    },
    Rule {
        id: "webhook.no-route",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*no route to host"#,
        sentence: "the API server cannot reach istiod's Service: kube-proxy does not work on the node",
        hint: "check the node: kindmesh logs node; then kindmesh up",
    },
    Rule {
        id: "webhook.refused",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*(?:connection refused|no endpoints available|connection reset)"#,
        sentence: "istiod is not running, but its webhook {1} must admit every pod",
        hint: "check istiod: kindmesh logs istiod; then kindmesh up",
    },
    Rule {
        id: "webhook.trust",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*x509:"#,
        sentence: "the API server does not trust istiod's webhook {1}: istiod's root of trust was replaced",
        hint: "run kindmesh up, which restarts istiod; istiod then writes its root CA into the webhook",
    },
    Rule {
        id: "webhook.timeout",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*(?:deadline exceeded|Client\.Timeout|i/o timeout)"#,
        sentence: "istiod's webhook {1} does not respond in time",
        hint: "check whether istiod is overloaded or cannot be reached: kindmesh logs istiod; kindmesh status",
    },
    // Between clusters.
    Rule {
        id: "remote-secret.loopback",
        told_by: &[Istiod, Error],
        pattern: r"https://(127\.[\d.]+|localhost|\[::1\])(?::\d+)?\S*.*connection refused",
        sentence: "a remote secret points to {1}, which inside istiod's pod is the pod itself",
        hint: "run kindmesh up, which creates remote secrets with node names; delete the ones created by \
            hand; list them: kubectl -n istio-system get secrets -l istio/multiCluster=true",
    },
    Rule {
        id: "remote-secret.name",
        told_by: &[Istiod, Error],
        pattern: r"x509: certificate is valid for .+, not (\S+)",
        sentence: "a remote secret points to {1}, which is not in the API server's certificate: a node's \
            address has changed",
        hint: "run kindmesh up, which creates remote secrets with node names: these do not change",
    },
    Rule {
        id: "remote-secret.ca",
        told_by: &[Istiod, Error],
        pattern: r"https://([^/:]+):6443.*x509: certificate signed by unknown authority",
        sentence: "the remote secret for {1} is from an earlier cluster: its API server now has another CA",
        hint: "run kindmesh up, which recreates it",
    },
    Rule {
        id: "remote-secret.token",
        told_by: &[Istiod],
        pattern: r"(?i)remote.*(?:Unauthorized|must be logged in|asked for the client to provide credentials)|(?:Unauthorized|asked for the client to provide credentials).*remote",
        sentence: "a peer's API server no longer accepts the reader token in its remote secret",
        hint: "run kindmesh up, which recreates it",
    },
    Rule {
        id: "remote.unreachable",
        told_by: &[Istiod],
        pattern: r"dial tcp(?: |: lookup )(\S+?:6443|\S+-control-plane)(?: on \S+)?: (?:connect: )?(?:no route to host|connection refused|i/o timeout|no such host|network is unreachable)",
        sentence: "istiod cannot reach a peer's API server at {1}",
        hint: "check whether its node is running and the link is up: kindmesh status; kindmesh logs link; then \
            kindmesh up",
    },
    Rule {
        id: "trust.roots",
        told_by: &[Answer, Proxy, Log, Error],
        pattern: r"CERTIFICATE_VERIFY_FAILED|TLSV1_ALERT_UNKNOWN_CA|SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        sentence: "the clusters do not trust each other: their meshes have different roots of trust",
        hint: "compare the roots: kindmesh verify trust; then kindmesh up, which installs one root CA and restarts \
            istiod and the samples",
    },
    Rule {
        id: "service.missing",
        told_by: &[Answer],
        pattern: r"(?i)failed to lookup address information|name or service not known|no such host|name does not resolve|nodename nor servname|temporary failure in name resolution|does not resolve",
        sentence: "the host name does not resolve: the caller's cluster has no Service of that name",
        hint: "run kindmesh up, which creates a stub Service; check it: kubectl -n sample get \
            service sample-producer",
    },
    Rule {
        id: "policy.denied",
        told_by: CALLING,
        pattern: r"RBAC: access denied",
        sentence: "an AuthorizationPolicy in the producer's cluster denies the call",
        hint: "list the applied policies: kindmesh apply --list; remove this one: kindmesh unapply authz deny",
    },
    Rule {
        id: "network.label",
        told_by: &[State],
        pattern: r"namespace istio-system of (\S+) (?:has no label|is labeled) topology\.istio\.io/network",
        sentence: "istiod assigns the pods of {1} to another network, and there is no gateway to it",
        hint: "run kindmesh up, which sets the label topology.istio.io/network again",
    },
    Rule {
        id: "link.cut",
        told_by: &[State],
        pattern: r"(\S+) to the pods of \S+: link disabled",
        sentence: "the link of node {1} is disabled: /etc/kindmesh/cut exists",
        hint: "enable the link: docker exec {1} rm /etc/kindmesh/cut; then kindmesh up",
    },
    Rule {
        id: "link.broken",
        told_by: &[Answer, Proxy, State],
        pattern: r"(?i)no route to host|network is unreachable|connection timed out|connect(?:ion)?[_ ]error:[_ ](?:110|113|101)|remote[_ ]connection[_ ]failure|connection[_ ]timeout|to the pods of \S+: no route",
        sentence: "no connection from the caller's cluster reaches the producer's pods",
        hint: "check the link's routes: kindmesh status; kindmesh logs link; then kindmesh up",
    },
];

/// Consequences. They count only if no cause is found.
pub const SYMPTOMS: &[Rule] = &[
    Rule {
        id: "endpoints.none",
        told_by: CALLING,
        pattern: r"(?i)no[_ ]healthy[_ ]upstream|0 of \d+ endpoints are known",
        sentence: "the caller's proxy has no healthy endpoint of the producer",
        hint: "check whether producers are ready and istiod is connected to their cluster: kindmesh status; \
            kindmesh logs producer; then kindmesh up",
    },
    Rule {
        id: "call.timeout",
        told_by: &[Answer, Proxy],
        pattern: r"upstream request timeout|response_timeout",
        sentence: "the producer did not respond within the mesh's timeout for a call",
        hint: "check whether calls reach the producer, and whether it is slow: kindmesh status; kindmesh logs \
            producer; kindmesh logs proxy",
    },
    Rule {
        id: "connection.closed",
        told_by: &[Answer, Proxy],
        pattern: r"(?i)connection[_ ]termination|connection reset by peer|\bEOF\b|closed before message completed",
        sentence: "the producer closed the connection during the call",
        hint: "check whether it restarted: kindmesh logs producer --previous; kindmesh logs proxy",
    },
    Rule {
        id: "container.memory",
        told_by: STARTING,
        pattern: r"(\S+): .*OOMKilled|OOMKilled",
        sentence: "a container exceeded its memory limit and was killed",
        hint: "raise its limit: in its manifest, or in mesh.values and then kindmesh up",
    },
    Rule {
        id: "container.crashes",
        told_by: STARTING,
        pattern: r"(\S+): CrashLoopBackOff|(\S+) exited with status \d+|Back-off restarting failed container (\S+)",
        sentence: "the container {1} has crashed; its last log line: {log}",
        hint: "check its log: kubectl logs POD --previous; kindmesh logs istiod|caller|proxy --previous for those of kindmesh",
    },
];

/// Rules with compiled patterns.
type Compiled = Vec<(&'static Rule, Regex)>;

fn compile(rules: &'static [Rule]) -> Compiled {
    rules.iter().map(|rule| (rule, Regex::new(rule.pattern).expect("a test compiles every pattern"))).collect()
}

/// [`CAUSES`], compiled.
pub(super) static COMPILED_CAUSES: LazyLock<Compiled> = LazyLock::new(|| compile(CAUSES));
/// [`SYMPTOMS`], compiled.
pub(super) static COMPILED_SYMPTOMS: LazyLock<Compiled> = LazyLock::new(|| compile(SYMPTOMS));

/// Adds flags to the kindmesh commands in a text.
pub(super) fn with_flags(text: &str, flags: &str) -> String {
    if text.contains(flags) {
        return text.to_owned();
    }
    static COMMAND: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\bkindmesh (?:up|down|status|logs(?: [a-z]+)?|verify|apply|unapply)\b")
            .expect("a test uses it")
    });
    COMMAND.replace_all(text, |found: &regex::Captures<'_>| format!("{}{flags}", &found[0])).into_owned()
}
