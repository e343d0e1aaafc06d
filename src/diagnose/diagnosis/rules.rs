//! The causes that are known by name: one rule each, the more telling before what follows from it.

use std::sync::LazyLock;

use regex::Regex;

use super::Source::{self, Answer, Error, Event, Istiod, Log, Node, Proxy, State};

/// How a cause is recognised and what is said of it.
#[derive(Debug)]
pub struct Rule {
    /// Its name, stable.
    pub id: &'static str,
    /// Where its words count.
    pub told_by: &'static [Source],
    /// A regular expression for one line.
    pub pattern: &'static str,
    /// What is wrong. `{1}` is the first group of the pattern that took part, `{of}` the place, `{log}` a log's last line.
    pub sentence: &'static str,
    /// What to do.
    pub hint: &'static str,
}

const EVERYWHERE: &[Source] = &[Error, State, Event, Log, Node, Istiod, Proxy, Answer];
/// What Kubernetes or the engine says while a container is not there yet.
const STARTING: &[Source] = &[Error, State, Event];
/// The same, as it is now.
const STATED: &[Source] = &[Error, State];
/// What a failed call shows.
const CALLING: &[Source] = &[Answer, Proxy, Error];

/// What is wrong. The first that fits decides.
pub const CAUSES: &[Rule] = &[
    // The machine.
    Rule {
        id: "inotify.limit",
        told_by: EVERYWHERE,
        // A watch too many is reported as a full disk, an instance too many as too many files.
        pattern: r"(?i)too many open files|(?:inotify|fsnotify|file watcher|watch).*no space left on device",
        sentence: "the engine's kernel allows too few inotify watches or instances for so many nodes",
        hint: "raise the limits: sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512; \
               then kindmesh up",
    },
    Rule {
        id: "disk.full",
        told_by: EVERYWHERE,
        pattern: r"(?i)no space left on device|NodeHasDiskPressure|condition: \[DiskPressure\]|kubernetes\.io/disk-pressure|low on resource: ephemeral-storage|disk quota exceeded",
        sentence: "a disk is full",
        hint: "see what takes the space: docker system df, df -h; free some, then kindmesh up",
    },
    Rule {
        id: "memory.short",
        told_by: EVERYWHERE,
        pattern: r"(?i)low on resource: memory|NodeHasInsufficientMemory|kubernetes\.io/memory-pressure|out of memory: killed process|cannot allocate memory",
        sentence: "the engine is out of memory",
        hint: "give the engine more memory (4 GB for two clusters), or take something else down; then kindmesh up",
    },
    Rule {
        id: "cgroup.v1",
        told_by: &[Error, Node],
        pattern: r"(?i)kubelet is configured to not run on a host using cgroup v1|cgroup v1 support is unsupported",
        sentence: "this kubelet refuses the host's cgroup v1",
        hint: "boot the host with cgroup v2, or leave kubernetes.nodeImage as it is: kindmesh then tells the kubelet to accept v1; kindmesh down, then kindmesh up",
    },
    Rule {
        id: "engine.rootless",
        told_by: &[Error],
        pattern: r"running kind with rootless provider requires|Delegate=yes",
        sentence: "the engine runs without root and may not delegate what nodes need",
        hint: "use an engine with root, or follow https://kind.sigs.k8s.io/docs/user/rootless; then kindmesh up",
    },
    Rule {
        id: "clock.skew",
        told_by: EVERYWHERE,
        pattern: r"(?i)certificate has expired or is not yet valid: current time (\S+) is (before|after) (\S+)|certificate has expired or is not yet valid|CERTIFICATE_(?:NOT_YET_VALID|HAS_EXPIRED)|token (?:used before issued|is not valid yet|has expired)|this machine's clock says",
        sentence: "the clocks of this machine and of the engine differ, or stood still",
        hint: "compare them: date; docker run --rm busybox date; set the clock or restart the engine (a laptop's sleep does that); then kindmesh up",
    },
    // Networks and names of the engine.
    Rule {
        id: "network.pool",
        told_by: &[Error],
        pattern: r"(?i)pool overlaps with other one on this address space|could not find an available, non-overlapping|predefined address pools have been fully subnetted",
        sentence: "the engine has no address range for the network: others, or a VPN's routes, have them all",
        hint: "name a free one with network.subnet in kindmesh.yaml, or remove what is unused: docker network prune; then kindmesh up",
    },
    Rule {
        id: "port.taken",
        told_by: &[Error],
        pattern: r"(?i)Bind for (\S+) failed: port is already allocated|listen tcp\S* (\S+): bind: address already in use",
        sentence: "the port {1} is taken by another program",
        hint: "see by which: docker ps; end it, or change the port in the cluster's kind settings; then kindmesh up",
    },
    Rule {
        id: "name.taken",
        told_by: &[Error],
        pattern: r#"(?i)container name "/?([^"]+)" is already in use|node\(s\) already exist for a cluster with the name "?([^"\s]+)"#,
        sentence: "there is a container {1} that belongs to somebody else",
        hint: "choose another environment name with --name, or remove it if it is yours: docker rm -fv {1}",
    },
    Rule {
        id: "kubeconfig.lock",
        told_by: &[Error],
        pattern: r"failed to lock config file: (?:open )?([^:\s]+)",
        sentence: "the lock of a kind that was killed is still there: {1}",
        hint: "if no kind runs, delete it: rm {1}; then kindmesh up",
    },
    // Images.
    Rule {
        id: "image.rate-limit",
        told_by: STARTING,
        pattern: r"(?i)toomanyrequests|429 Too Many Requests|pull rate limit",
        sentence: "the registry's limit of pulls is reached",
        hint: "docker login raises it; or wait an hour; or name a mirror with mesh.hub; then kindmesh up",
    },
    Rule {
        id: "image.content",
        told_by: EVERYWHERE,
        pattern: r"content digest (sha256:[0-9a-f]+): not found",
        sentence: "the engine exported an image without all of its layers",
        hint: "pull it for this platform alone (docker pull --platform), then kindmesh up",
    },
    Rule {
        id: "image.platform",
        told_by: STARTING,
        pattern: r"(?i)no matching manifest for (\S+)|no match for platform in manifest|exec format error",
        sentence: "the image is not made for this engine's architecture",
        hint: "name an image that is, with samples.image or mesh.hub; then kindmesh up",
    },
    Rule {
        id: "image.denied",
        told_by: STARTING,
        pattern: r"pull access denied(?: for (\S+?),)?|(?i)unauthorized: (?:authentication required|incorrect)|authorization failed: no basic auth|insufficient_scope",
        sentence: "the registry does not give the image: it does not exist there, or wants a login",
        hint: "check the name (samples.image, mesh.hub, mesh.version), or docker login; then kindmesh up",
    },
    Rule {
        id: "image.missing",
        told_by: STARTING,
        pattern: r#"manifest for (\S+) not found|failed to resolve (?:reference|image) "?([^"\s]+)"?: [^:]+(?::[^:]+)*: not found|(?i)manifest unknown|repository name not known"#,
        sentence: "the registry has no such image",
        hint: "check the name (samples.image, mesh.hub, mesh.version); then kindmesh up",
    },
    Rule {
        id: "registry.unreachable",
        told_by: STARTING,
        pattern: r#"(?:Get|Head) "?https?://([^/"]+)/v2/.*(?:dial tcp|lookup|timeout|connection refused|EOF|TLS handshake|deadline exceeded)"#,
        sentence: "the registry {1} cannot be reached",
        hint: "check the image's name (samples.image, mesh.hub, mesh.values) and the way to {1}: proxy, DNS, VPN; then kindmesh up",
    },
    Rule {
        id: "image.not-on-node",
        told_by: STARTING,
        pattern: r#"ErrImageNeverPull|Container image "([^"]+)" is not present with pull policy of Never"#,
        sentence: "the image is not on the node, and may not be pulled there",
        hint: "kindmesh up loads the images of mesh.hub and samples.image into the nodes; others that mesh.values names it does not",
    },
    Rule {
        id: "image.pull",
        told_by: STARTING,
        pattern: r#"(?:ErrImagePull|ImagePullBackOff|InvalidImageName)(?:.*?image "([^"]+)")?|(?:Failed to pull|Back-off pulling) image "([^"]+)"|Failed to apply default image tag "([^"]+)""#,
        sentence: "the node cannot pull the image {1}",
        hint: "check its name (samples.image, mesh.hub, mesh.values): kindmesh up loads only its own images into nodes; then kindmesh up",
    },
    // The cluster.
    Rule {
        id: "pod.unschedulable",
        told_by: STATED,
        pattern: r"\d+/\d+ nodes are available: .*Insufficient (cpu|memory)",
        sentence: "no node has enough {1} left for what the pod asks for",
        hint: "ask for less in mesh.values (pilot.resources.requests, global.proxy.resources.requests), or give the engine more; then kindmesh up",
    },
    Rule {
        id: "pod.unscheduled",
        told_by: STATED,
        pattern: r"\d+/\d+ nodes are available: (.+)",
        sentence: "no node takes the pod: {1}",
        hint: "see the node's state: kindmesh logs node; then kindmesh up",
    },
    Rule {
        id: "webhook.no-route",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*no route to host"#,
        sentence: "the API server cannot reach istiod's Service, because kube-proxy does not work on the node",
        hint: "see why: kindmesh logs node; then kindmesh up",
    },
    Rule {
        id: "webhook.refused",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*(?:connection refused|no endpoints available|connection reset)"#,
        sentence: "istiod is not up, and its webhook {1} has to agree to every pod",
        hint: "see why: kindmesh logs istiod; then kindmesh up",
    },
    Rule {
        id: "webhook.trust",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*x509:"#,
        sentence: "the API server does not trust istiod's webhook {1}: istiod's root of trust was replaced",
        hint: "start istiod anew, it writes its root into the webhook: kindmesh up",
    },
    Rule {
        id: "webhook.timeout",
        told_by: STATED,
        pattern: r#"failed calling (?:admission )?webhook "([^"]+)".*(?:deadline exceeded|Client\.Timeout|i/o timeout)"#,
        sentence: "istiod's webhook {1} does not answer in time",
        hint: "see whether istiod is overloaded or cut off: kindmesh logs istiod; kindmesh status",
    },
    // Between clusters.
    Rule {
        id: "remote-secret.loopback",
        told_by: &[Istiod, Error],
        pattern: r"https://(127\.[\d.]+|localhost|\[::1\])(?::\d+)?\S*.*connection refused",
        sentence: "a remote secret names {1}, which inside istiod's pod is the pod itself",
        hint: "kindmesh up writes remote secrets with node names; delete one that was made by hand: kubectl -n istio-system get secrets -l istio/multiCluster=true",
    },
    Rule {
        id: "remote-secret.name",
        told_by: &[Istiod, Error],
        pattern: r"x509: certificate is valid for .+, not (\S+)",
        sentence: "a remote secret names the API server {1}, which its certificate does not: the address of a node has changed",
        hint: "kindmesh up writes remote secrets with node names, which do not change",
    },
    Rule {
        id: "remote-secret.ca",
        told_by: &[Istiod, Error],
        pattern: r"https://([^/:]+):6443.*x509: certificate signed by unknown authority",
        sentence: "the remote secret for {1} is of an earlier cluster: its API server has another CA now",
        hint: "kindmesh up writes it anew",
    },
    Rule {
        id: "remote-secret.token",
        told_by: &[Istiod],
        pattern: r"(?i)remote.*(?:Unauthorized|must be logged in|asked for the client to provide credentials)|(?:Unauthorized|asked for the client to provide credentials).*remote",
        sentence: "another cluster's API server no longer takes the token in its remote secret",
        hint: "kindmesh up writes it anew",
    },
    Rule {
        id: "remote.unreachable",
        told_by: &[Istiod],
        pattern: r"dial tcp(?: |: lookup )(\S+?:6443|\S+-control-plane)(?: on \S+)?: (?:connect: )?(?:no route to host|connection refused|i/o timeout|no such host|network is unreachable)",
        sentence: "istiod does not reach another cluster's API server at {1}",
        hint: "see whether its node runs and the link is there: kindmesh status; kindmesh logs link; then kindmesh up",
    },
    Rule {
        id: "trust.roots",
        told_by: &[Answer, Proxy, Log, Error],
        pattern: r"CERTIFICATE_VERIFY_FAILED|TLSV1_ALERT_UNKNOWN_CA|SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        sentence: "the clusters do not trust each other: their meshes have different roots of trust",
        hint: "kindmesh verify trust shows both; kindmesh up gives them one root and starts istiod and the samples anew",
    },
    Rule {
        id: "service.missing",
        told_by: &[Answer],
        pattern: r"(?i)failed to lookup address information|name or service not known|no such host|name does not resolve|nodename nor servname|temporary failure in name resolution|does not resolve",
        sentence: "the host name does not resolve: the caller's cluster has no Service of that name",
        hint: "a Service without pods is enough: kindmesh up makes it; kubectl -n sample get service sample-producer shows it",
    },
    Rule {
        id: "policy.denied",
        told_by: CALLING,
        pattern: r"RBAC: access denied",
        sentence: "an AuthorizationPolicy in the producer's cluster denies the call",
        hint: "kindmesh apply --list shows what is applied where; kindmesh unapply authz deny takes it away",
    },
    Rule {
        id: "network.label",
        told_by: &[State],
        pattern: r"namespace istio-system of (\S+) (?:has no label|is labelled) topology\.istio\.io/network",
        sentence: "istiod takes the pods of {1} for those of another network, and there is no gateway to it",
        hint: "kindmesh up puts the label topology.istio.io/network back",
    },
    Rule {
        id: "link.cut",
        told_by: &[State],
        pattern: r"(\S+) to the pods of \S+: cut on purpose",
        sentence: "the link of node {1} was cut on purpose",
        hint: "mend it: docker exec {1} rm /etc/kindmesh/cut; then kindmesh up",
    },
    Rule {
        id: "link.broken",
        told_by: &[Answer, Proxy, State],
        pattern: r"(?i)no route to host|network is unreachable|connection timed out|connect(?:ion)?[_ ]error:[_ ](?:110|113|101)|remote[_ ]connection[_ ]failure|connection[_ ]timeout|to the pods of \S+: no route",
        sentence: "no connection gets from the caller's cluster to the producer's pods",
        hint: "see the link's routes: kindmesh status; kindmesh logs link; then kindmesh up",
    },
];

/// What follows from causes, for when none of them is told.
pub const SYMPTOMS: &[Rule] = &[
    Rule {
        id: "endpoints.none",
        told_by: CALLING,
        pattern: r"(?i)no[_ ]healthy[_ ]upstream|0 of \d+ endpoints are known",
        sentence: "the caller's proxy knows no producer that works",
        hint: "see whether producers run and istiod sees their cluster: kindmesh status; kindmesh logs producer; then kindmesh up",
    },
    Rule {
        id: "call.timeout",
        told_by: &[Answer, Proxy],
        pattern: r"upstream request timeout|response_timeout",
        sentence: "the producer did not answer within the timeout that the mesh gives a call",
        hint: "see whether it is reached at all, and slow: kindmesh status; kindmesh logs producer; kindmesh logs proxy",
    },
    Rule {
        id: "connection.closed",
        told_by: &[Answer, Proxy],
        pattern: r"(?i)connection[_ ]termination|connection reset by peer|\bEOF\b|closed before message completed",
        sentence: "the other side closed the connection in the middle of the call",
        hint: "see whether it was restarted: kindmesh logs producer --previous; kindmesh logs proxy",
    },
    Rule {
        id: "container.memory",
        told_by: STARTING,
        pattern: r"(\S+): .*OOMKilled|OOMKilled",
        sentence: "a container was killed because it used more memory than its limit",
        hint: "raise its limit in mesh.values; then kindmesh up",
    },
    Rule {
        id: "container.crashes",
        told_by: STARTING,
        pattern: r"(\S+): CrashLoopBackOff|(\S+) ended with status \d+|Back-off restarting failed container (\S+)",
        sentence: "the container {1} starts and ends again; its last words: {log}",
        hint: "read all it said: kindmesh logs istiod --previous, kindmesh logs caller --previous, kindmesh logs proxy --previous",
    },
];

/// Rules with their patterns ready.
type Compiled = Vec<(&'static Rule, Regex)>;

fn compile(rules: &'static [Rule]) -> Compiled {
    rules.iter().map(|rule| (rule, Regex::new(rule.pattern).expect("a test compiles every pattern"))).collect()
}

/// [`CAUSES`], ready.
pub(super) static COMPILED_CAUSES: LazyLock<Compiled> = LazyLock::new(|| compile(CAUSES));
/// [`SYMPTOMS`], ready.
pub(super) static COMPILED_SYMPTOMS: LazyLock<Compiled> = LazyLock::new(|| compile(SYMPTOMS));

/// Commands of kindmesh in a text, with flags behind them.
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
