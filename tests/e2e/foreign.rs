//! Clusters that kindmesh did not create: two clusters of the kind program, made as a user makes them, with a user in each who may
//! do what kindmesh's ClusterRole allows and nothing else.
//!
//! `east` is `foreign-1` in kind, and the context of its user is `foreign-east`; `west` is `foreign-2`.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kindmesh::internals::host::docker::{Engine, sample_image};
use kindmesh::internals::plan::Samples;
use serde_json::{Value, json};

use crate::environment::{Output, docker, node_address, output_of};

/// The sample image, which is in the nodes but in no registry.
pub const SAMPLE_IMAGE: &str = "kindmesh.lab/sample:foreign";

/// The Docker network of the nodes. Its subnet and those of the clusters are none that kindmesh or Docker would choose.
const NETWORK: &str = "foreign";
const SUBNET: &str = "10.59.0.0/24";
/// The address of this host on it.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 59, 0, 1);
/// The part of it for nodes. The rest is for Services of type LoadBalancer.
const NODE_RANGE: &str = "10.59.0.0/25";

/// One of the clusters.
struct Cluster {
    name: &'static str,
    number: u8,
}

const CLUSTERS: [Cluster; 2] = [Cluster { name: "east", number: 1 }, Cluster { name: "west", number: 2 }];

impl Cluster {
    fn in_kind(&self) -> String {
        format!("foreign-{}", self.number)
    }

    fn node(&self) -> String {
        format!("{}-control-plane", self.in_kind())
    }

    fn pods(&self) -> String {
        format!("10.6{}.0.0/16", self.number)
    }

    /// The kubeconfig of its administrator.
    fn admin(&self) -> PathBuf {
        directory().join(format!("{}-admin.kubeconfig", self.name))
    }

    /// The kubeconfig of its user.
    fn user(&self) -> PathBuf {
        directory().join(format!("{}.kubeconfig", self.name))
    }

    /// The addresses for its Services of type LoadBalancer.
    fn balancers(&self) -> impl Iterator<Item = String> {
        (0..10).map(|last| format!("10.59.0.2{}{last}", self.number))
    }
}

/// How pods of one cluster reach pods of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// By their addresses: the nodes have routes.
    Flat,
    /// Not at all: the nodes reject the addresses of the other cluster's pods. Only nodes reach nodes.
    Apart,
}

/// The two clusters. They are deleted at the end, even if the test fails.
pub struct Foreign {
    layout: Layout,
    balancers: Vec<Balancer>,
}

impl Foreign {
    /// Creates the clusters, with all images that the mesh and the samples need, and deletes what a killed run has left.
    pub fn create(layout: Layout) -> Self {
        let mut this = Self { layout, balancers: Vec::new() };
        this.delete();
        std::fs::create_dir_all(directory()).unwrap();
        docker(&["network", "create", "--subnet", SUBNET, "--ip-range", NODE_RANGE, NETWORK]);
        let images = directory().join("images.tar");
        std::thread::scope(|scope| {
            scope.spawn(|| save_images(&images));
            for cluster in &CLUSTERS {
                scope.spawn(|| this.create_cluster(cluster));
            }
        });
        std::thread::scope(|scope| {
            for cluster in &CLUSTERS {
                scope.spawn(|| this.complete(cluster, &images));
            }
        });
        std::fs::remove_file(images).unwrap();
        this.balancers = CLUSTERS.iter().map(Balancer::start).collect();
        this
    }

    /// Deletes the clusters, their network and their files, if they exist.
    fn delete(&self) {
        // The last one is kindmesh's, in an environment with a cluster of each sort: its node may be on the network.
        let names = CLUSTERS.map(|cluster| cluster.in_kind()).into_iter().chain(["foreign-own".to_owned()]);
        // Without a kubeconfig, kind would remove its entries from the user's own file.
        let mut kind = Command::new("kind");
        kind.args(["delete", "clusters"]).args(names).arg("--kubeconfig").arg(directory().join("unused"));
        let deleted = output_of(&mut kind);
        let removed = output_of(Command::new("docker").args(["network", "rm", "--force", NETWORK]));
        let _ = std::fs::remove_dir_all(directory());
        if !std::thread::panicking() {
            assert_eq!((deleted.code, removed.code), (0, 0), "{deleted:?} {removed:?}");
        }
    }

    fn create_cluster(&self, cluster: &Cluster) {
        let config = directory().join(format!("{}.json", cluster.in_kind()));
        std::fs::write(&config, kind_config(cluster).to_string()).unwrap();
        let mut kind = Command::new("kind");
        kind.args(["create", "cluster", "--config"]).arg(config).arg("--kubeconfig").arg(cluster.admin());
        let created = output_of(kind.env("KIND_EXPERIMENTAL_DOCKER_NETWORK", NETWORK));
        assert_eq!(created.code, 0, "{created:?}");
    }

    /// Loads one more image into both clusters.
    pub fn load(&self, image: &str) {
        let archive = directory().join("image.tar");
        docker(&["save", "-o", archive.to_str().unwrap(), image]);
        CLUSTERS.iter().for_each(|cluster| import(cluster, &archive));
    }

    /// Loads images, creates the user, waits until everything in the cluster is ready, and connects it.
    fn complete(&self, cluster: &Cluster, images: &Path) {
        import(cluster, images);
        self.create_user(cluster);
        for (condition, kind) in [("Ready", "nodes"), ("Available", "deployments"), ("Ready", "pods")] {
            let condition = format!("--for=condition={condition}");
            self.must(cluster.name, &["wait", &condition, kind, "--all", "--all-namespaces", "--timeout=2m"]);
        }
        self.connect(cluster);
    }

    /// Creates a service account with exactly the ClusterRole that kindmesh documents, and its kubeconfig.
    fn create_user(&self, cluster: &Cluster) {
        let role = concat!(env!("CARGO_MANIFEST_DIR"), "/mesh-manifests/existing/cluster-role.yaml");
        let user = directory().join(format!("{}-user.yaml", cluster.name));
        std::fs::write(&user, USER).unwrap();
        self.must(cluster.name, &["create", "-f", role, "-f", user.to_str().unwrap()]);
        let secret = ["secret", "kindmesh-test", "-n", "kindmesh-test"];
        self.must(cluster.name, &[&["wait", "--for=jsonpath={.data.token}"][..], &secret].concat());
        let of_secret = |format| self.must(cluster.name, &[&["get", "-o", format][..], &secret].concat());
        let server = self.must(cluster.name, &["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
        let context = context(cluster.name);
        let ca = of_secret("jsonpath={.data.ca\\.crt}");
        // The current context is one that does not exist: kindmesh must not use it.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "elsewhere",
            "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": ca}}],
            "users": [{"name": context, "user": {"token": of_secret("go-template={{base64decode .data.token}}")}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        });
        std::fs::write(cluster.user(), serde_yaml::to_string(&config).unwrap()).unwrap();
    }

    /// The API server in the kubeconfig of a cluster's user: its host and port, and its certificate authority, PEM.
    pub fn server_of_user(&self, cluster: &str) -> (String, u16, Vec<u8>) {
        let config: Value = serde_yaml::from_str(&std::fs::read_to_string(find(cluster).user()).unwrap()).unwrap();
        let of_cluster = &config["clusters"][0]["cluster"];
        let url: http::Uri = of_cluster["server"].as_str().unwrap().parse().unwrap();
        let ca = STANDARD.decode(of_cluster["certificate-authority-data"].as_str().unwrap()).unwrap();
        (url.host().unwrap().into(), url.port_u16().unwrap(), ca)
    }

    /// Leads the user of a cluster to another server, with another certificate authority, PEM.
    pub fn lead_user(&self, cluster: &str, server: &str, ca: &str) {
        let file = find(cluster).user();
        let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        config["clusters"][0]["cluster"] =
            json!({"server": server, "certificate-authority-data": STANDARD.encode(ca)});
        std::fs::write(&file, config.to_string()).unwrap();
    }

    /// Adds the routes and rules of a node for the pods of the other cluster.
    fn connect(&self, cluster: &Cluster) {
        let peer = CLUSTERS.iter().find(|peer| peer.name != cluster.name).unwrap();
        let run = |command: &[&str]| docker(&[&["exec", &cluster.node()][..], command].concat());
        match self.layout {
            Layout::Flat => {
                run(&["ip", "route", "add", &peer.pods(), "via", &node_address(&peer.node()).to_string()]);
                // The pod network would masquerade traffic that leaves the subnet of the cluster.
                run(&["iptables", "-w", "-t", "nat", "-I", "POSTROUTING", "-d", &peer.pods(), "-j", "ACCEPT"]);
            }
            Layout::Apart => drop(run(&["ip", "route", "add", "unreachable", &peer.pods()])),
        }
    }

    /// The value of KUBECONFIG with the contexts of the users: two files.
    pub fn kubeconfig(&self) -> String {
        CLUSTERS.map(|cluster| cluster.user().display().to_string()).join(":")
    }

    /// Runs kubectl as the administrator of a cluster.
    pub fn kubectl(&self, cluster: &str, arguments: &[&str]) -> Output {
        output_of(kubectl().arg("--kubeconfig").arg(find(cluster).admin()).args(arguments))
    }

    /// The same for a command that must succeed, and returns its output.
    pub fn must(&self, cluster: &str, arguments: &[&str]) -> String {
        let output = self.kubectl(cluster, arguments);
        assert_eq!(output.code, 0, "{cluster} {arguments:?}: {output:?}");
        output.stdout
    }

    /// The URL at which the other cluster reaches the API server. The user's kubeconfig has another one, on the host's loopback.
    pub fn api_server(&self, cluster: &str) -> String {
        format!("https://{}:6443", node_address(&find(cluster).node()))
    }

    /// The spec of an environment in these clusters: the caller in `east`, the producers in `west`. It is complete: the file that
    /// KINDMESH_FILE names has a node image, which clusters that exist do not have.
    pub fn spec(&self) -> String {
        let clusters = CLUSTERS.map(|Cluster { name, .. }| {
            let mut cluster = json!({"name": name, "context": context(name), "apiServer": self.api_server(name)});
            if self.layout == Layout::Apart {
                cluster["network"] = format!("net-{name}").into();
            }
            cluster
        });
        let mut spec = json!({
            "clusters": clusters,
            "samples": {
                "image": SAMPLE_IMAGE,
                "caller": {"clusters": ["east"]},
                "producer": {"clusters": ["west"]},
            },
        });
        if in_lab() {
            spec["mesh"] = lab()["mesh"].clone();
        }
        serde_yaml::to_string(&spec).unwrap()
    }

    /// The spec of an environment with one more cluster, `own`, which kind creates. Each of `own` and `west` calls the other.
    pub fn mixed_spec(&self) -> String {
        let west = json!({
            "name": "west",
            "context": context("west"),
            "apiServer": self.api_server("west"),
            "network": "net-west",
        });
        let both = json!({"clusters": ["own", "west"]});
        let mut spec = lab();
        // Nodes of two cores have not enough for the probe pods of verify besides what Istio's charts request for istiod.
        spec["mesh"]["values"]["pilot"]["resources"] = json!({"requests": {"cpu": "100m"}});
        spec["clusters"] = json!([{"name": "own"}, west]);
        spec["samples"] = json!({"image": SAMPLE_IMAGE, "caller": both, "producer": both});
        serde_yaml::to_string(&spec).unwrap()
    }

    /// Returns every object of a cluster by `RESOURCE/NAMESPACE/NAME`, as JSON without what changes by itself.
    pub fn listing(&self, cluster: &str) -> BTreeMap<String, String> {
        let resources = self.must(cluster, &["api-resources", "--verbs=list", "-o", "name"]);
        let listed: Vec<_> = resources.lines().filter(|resource| !changes_by_itself(resource)).collect();
        // A resource may disappear in the meantime.
        let get = ["get", &listed.join(","), "--all-namespaces", "--ignore-not-found", "-o", "json"];
        let objects: Value = serde_json::from_str(&self.must(cluster, &get)).unwrap();
        let of = |object: &Value| {
            let metadata = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let group = object["apiVersion"].as_str().unwrap().rsplit_once('/').map_or("", |(group, _)| group);
            let kind = object["kind"].as_str().unwrap();
            let key = format!("{kind}.{group}/{}/{}", metadata("namespace"), metadata("name"));
            let mut object = object.clone();
            remove_changing(&mut object);
            (key, object.to_string())
        };
        objects["items"].as_array().unwrap().iter().map(of).collect()
    }

    /// Returns the resource version of every object of a cluster that only a person or a program changes, as
    /// `RESOURCE/NAMESPACE/NAME VERSION`, except the token of the user, which the API server labels with the day of its last use, and elections of leaders.
    pub fn versions(&self, cluster: &str) -> BTreeSet<String> {
        let kinds = "namespaces,configmaps,secrets,serviceaccounts,services,deployments,roles,rolebindings,clusterroles,\
                     clusterrolebindings,crds,mutatingwebhookconfigurations,validatingwebhookconfigurations,resourcequotas";
        let format = "jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name} {.metadata.resourceVersion} \
                      {.metadata.annotations.control-plane\\.alpha\\.kubernetes\\.io/leader}\n{end}";
        let listed = self.must(cluster, &["get", kinds, "--all-namespaces", "-o", format]);
        // A leader renews its election every few seconds.
        let changes = |line: &&str| line.starts_with("Secret/kindmesh-test/") || line.contains("holderIdentity");
        let kept = listed.lines().filter(|line| !changes(line));
        kept.map(str::to_owned).collect()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.balancers.clear();
        self.delete();
    }
}

/// Returns what differs between two listings, a line for each object.
pub fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let difference = |key: &String| match (before.get(key), after.get(key)) {
        (before, after) if before == after => None,
        (Some(_), None) => Some(format!("removed: {key}")),
        (None, _) => Some(format!("added: {key}")),
        (Some(before), Some(after)) => Some(format!("changed: {key}\n  from {before}\n    to {after}")),
    };
    keys.into_iter().filter_map(difference).collect()
}

/// Returns the context of a cluster's user.
pub fn context(cluster: &str) -> String {
    format!("foreign-{cluster}")
}

fn find(cluster: &str) -> &'static Cluster {
    CLUSTERS.iter().find(|known| known.name == cluster).unwrap_or_else(|| panic!("no cluster {cluster}"))
}

/// Whether the images are those of the test lab. Otherwise the nodes pull the official ones.
fn in_lab() -> bool {
    std::env::var_os("LAB_NODE_IMAGE").is_some()
}

/// The fields of a spec that the test lab requires.
fn lab() -> Value {
    match in_lab() {
        true => serde_yaml::from_str(include_str!("../lab/kindmesh.yaml")).unwrap(),
        false => json!({}),
    }
}

/// The directory of the kubeconfigs. It is a fixed one, so that a killed run leaves nothing that the next one does not delete.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign")
}

/// kubectl, which writes nothing into the user's own directory.
fn kubectl() -> Command {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--cache-dir").arg(directory().join("cache"));
    kubectl
}

/// A service account, its token, and the role that kindmesh documents.
const USER: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: kindmesh-test}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: kindmesh-test, namespace: kindmesh-test}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: kindmesh-test, namespace: kindmesh-test, annotations: {kubernetes.io/service-account.name: kindmesh-test}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kindmesh-test}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kindmesh}
subjects: [{kind: ServiceAccount, name: kindmesh-test, namespace: kindmesh-test}]
";

/// Returns kind's configuration of a cluster: its subnets, what the host requires, and what makes it start faster.
fn kind_config(cluster: &Cluster) -> Value {
    let mut node = json!({"role": "control-plane"});
    if let Ok(image) = std::env::var("LAB_NODE_IMAGE") {
        node["image"] = image.into();
    }
    let mut config = json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": cluster.in_kind(),
        "networking": {"podSubnet": cluster.pods(), "serviceSubnet": format!("10.7{}.0.0/16", cluster.number)},
        "nodes": [node],
        "kubeadmConfigPatches": [],
        "containerdConfigPatches": [],
    });
    let mut files = vec![include_str!("../../kind-configs/disposable.yaml")];
    if docker(&["info", "--format", "{{.CgroupVersion}}"]) == "1" {
        files.push(include_str!("../../kind-configs/cgroup-v1.yaml"));
    }
    for file in files {
        let file: Value = serde_yaml::from_str(file).unwrap();
        for field in ["kubeadmConfigPatches", "containerdConfigPatches"] {
            let patches = file[field].as_array().into_iter().flatten().cloned();
            config[field].as_array_mut().unwrap().extend(patches);
        }
    }
    config
}

/// Imports an archive of images into the node of a cluster.
fn import(cluster: &Cluster, images: &Path) {
    // containerd takes twice the time with its service for transfers, the default.
    let import = ["exec", "-i", &cluster.node(), "ctr", "-n", "k8s.io", "images", "import", "--local", "-"];
    let imported = output_of(Command::new("docker").args(import).stdin(File::open(images).unwrap()));
    assert_eq!(imported.code, 0, "{imported:?}");
}

/// Writes an archive of the images that the nodes cannot pull.
fn save_images(archive: &Path) {
    build_sample_image();
    let mut images = vec![SAMPLE_IMAGE.to_owned()];
    if in_lab() {
        let [hub, version] = ["LAB_ISTIO_HUB", "LAB_ISTIO_VERSION"].map(|name| std::env::var(name).unwrap());
        images.extend(["pilot", "proxyv2"].map(|image| format!("{hub}/{image}:{version}")));
    }
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    docker(&[&["save", "-o", archive.to_str().unwrap()], &images[..]].concat());
}

/// Builds the sample image from the kindmesh under test.
fn build_sample_image() {
    // Its tag does not tell which executable it contains.
    output_of(Command::new("docker").args(["image", "rm", "--force", SAMPLE_IMAGE]));
    let samples = Samples {
        namespace: String::new(),
        image: SAMPLE_IMAGE.into(),
        build: true,
        callers: Vec::new(),
        producers: Vec::new(),
        replicas: 1,
    };
    let build = async {
        let engine = Engine::connect().await?;
        sample_image::ensure(&engine, &samples, Path::new(env!("CARGO_BIN_EXE_kindmesh"))).await
    };
    tokio::runtime::Runtime::new().unwrap().block_on(build).unwrap();
}

/// Whether objects of a resource come, go or change in an idle cluster: what happened, who leads, and certificates that are
/// deleted an hour after they are issued. The last two are views, which the API server computes when they are listed.
fn changes_by_itself(resource: &str) -> bool {
    let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
    let names = ["events", "leases", "leasecandidates", "certificatesigningrequests", "componentstatuses"];
    names.contains(&name) || group == "metrics.k8s.io"
}

/// Whether a field counts changes, or is the time of a heartbeat, the election of a leader, or the label with the day on which a token
/// was last used.
fn is_changing(field: &str) -> bool {
    let counts = ["resourceVersion", "managedFields", "generation", "observedGeneration"];
    let times =
        ["lastHeartbeatTime", "control-plane.alpha.kubernetes.io/leader", "kubernetes.io/legacy-token-last-used"];
    counts.contains(&field) || times.contains(&field)
}

/// Removes what changes without a change of the object.
fn remove_changing(object: &mut Value) {
    match object {
        Value::Object(fields) => {
            // The kubelet reports which images a node has, and the limits in a pod's cgroup, when it finds time.
            let reported = match fields.get("kind").and_then(Value::as_str) {
                Some("Node") => "images",
                Some("Pod") => "resources",
                _ => "",
            };
            if let Some(status) = fields.get_mut("status").and_then(Value::as_object_mut) {
                status.remove(reported);
            }
            fields.values_mut().for_each(remove_changing);
            // That label may have been the only one.
            fields.retain(|field, value| !(is_changing(field) || field == "labels" && *value == json!({})));
        }
        Value::Array(values) => values.iter_mut().for_each(remove_changing),
        _ => {}
    }
}

/// A stand-in for the load balancer of a cloud: a thread that gives every Service of type LoadBalancer an address of the Docker
/// network, which the node gets, too. As in a cloud, a finalizer keeps a deleted Service until its address is released.
struct Balancer {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

impl Balancer {
    fn start(cluster: &'static Cluster) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1)).is_err() {
                // What failed is tried again a second later.
                let _ = balance(cluster);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Assigns and releases addresses once, as the Services of a cluster require. Returns nothing if a command failed.
fn balance(cluster: &Cluster) -> Option<()> {
    let run = |arguments: &[&str]| {
        let output = output_of(kubectl().arg("--kubeconfig").arg(cluster.admin()).args(arguments));
        (output.code == 0).then_some(output.stdout)
    };
    let services = run(&["get", "services", "--all-namespaces", "-o", "json"])?;
    let services: Value = serde_json::from_str(&services).ok()?;
    let services = services["items"].as_array()?;
    let address_of =
        |service: &Value| Some(service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned());
    let mut held: BTreeSet<String> = services.iter().filter_map(address_of).collect();
    for service in services {
        let metadata = &service["metadata"];
        let [namespace, name] = ["namespace", "name"].map(|field| metadata[field].as_str().unwrap_or_default());
        let patch = |patch: Value, subresource: &str| {
            let patch = ["--type=merge", "-p", &patch.to_string(), subresource];
            run(&[&["patch", "service", "-n", namespace, name][..], &patch].concat())
        };
        // With the version, so that no finalizer of another owner is lost.
        let mut finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
        let is_final = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        let finalize = |finalizers: Vec<Value>| {
            let version = &metadata["resourceVersion"];
            patch(json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}}), "--subresource=")
        };
        // kube-proxy forwards what arrives at the address of a Service, if the node has it.
        let on_node = |command: &str, address: &str| {
            let ip = ["ip", "address", command, &format!("{address}/32"), "dev", "eth0"];
            output_of(Command::new("docker").args(["exec", &cluster.node()]).args(ip))
        };
        let is_wanted = service["spec"]["type"] == "LoadBalancer" && metadata["deletionTimestamp"].is_null();
        match (is_wanted, address_of(service)) {
            (true, None) => {
                if !is_final {
                    finalizers.push(FINALIZER.into());
                    finalize(finalizers)?;
                }
                let address = cluster.balancers().find(|address| !held.contains(address))?;
                assert_eq!(on_node("replace", &address).code, 0);
                patch(
                    json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}),
                    "--subresource=status",
                )?;
                held.insert(address);
            }
            (false, address) if is_final => {
                address.map(|address| on_node("del", &address));
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                finalize(finalizers)?;
            }
            _ => {}
        }
    }
    Some(())
}
