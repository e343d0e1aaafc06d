//! Networks, nodes and images on a real container engine. All objects are named `docker-test-…`, and are removed by
//! name, also when a test fails.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use kindmesh::internals::base::error::{self, Error, Kind};
use kindmesh::internals::base::event::Events;
use kindmesh::internals::base::names::network_name;
use kindmesh::internals::base::wait::{self, Poll};
use kindmesh::internals::host::docker::node::{self, NodeFile};
use kindmesh::internals::host::docker::{Engine, bake, image, network, sample_image};
use kindmesh::internals::host::inventory as gather;
use kindmesh::internals::host::kubeconfig::entries::{self, Mark};
use kindmesh::internals::plan;
use kindmesh::internals::plan::inventory::{
    ENVIRONMENT_LABEL, Inventory, KIND_CLUSTER_LABEL, KIND_ROLE_LABEL, Taken,
};
use kindmesh::internals::spec;
use tokio::time::{Instant, timeout};

#[path = "docker/foreign.rs"]
mod foreign;
#[path = "docker/home.rs"]
mod home;
#[path = "docker/offline.rs"]
mod offline;
#[path = "docker/trouble.rs"]
mod trouble;

const KINDMESH: &str = env!("CARGO_BIN_EXE_kindmesh");
/// The timeout of anything in these tests that could hang.
const TIMEOUT: Duration = Duration::from_secs(60);

fn docker(args: &[&str]) -> Output {
    Command::new("docker").args(args).output().unwrap()
}

/// Returns the output of the docker client, which must succeed.
fn said(args: &[&str]) -> String {
    let output = docker(args);
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Removes an object by its name, before the test (a killed run may have left it) and after it.
struct Removed {
    with: &'static [&'static str],
    name: String,
}

impl Removed {
    fn network(environment: &str) -> Self {
        Self::new(&["network", "rm"], network_name(environment))
    }

    fn container(name: &str) -> Self {
        Self::new(&["rm", "--force", "--volumes"], name.to_owned())
    }

    fn image(name: &str) -> Self {
        Self::new(&["image", "rm", "--force"], name.to_owned())
    }

    fn new(with: &'static [&'static str], name: String) -> Self {
        let removed = Self { with, name };
        removed.remove();
        removed
    }

    fn remove(&self) {
        docker(&[self.with, &[self.name.as_str()]].concat());
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        self.remove();
    }
}

async fn engine() -> Engine {
    Engine::connect().await.unwrap()
}

async fn inventory(engine: &Engine) -> Inventory {
    gather::gather(engine).await.unwrap()
}

/// Returns the network planned for an environment of one cluster on this engine.
fn planned(inventory: &Inventory, environment: &str) -> plan::Network {
    let text = format!("{{name: {environment}, clusters: [{{name: a}}], samples: {{enabled: false}}}}");
    let spec = spec::from_text(&text, "test").unwrap().spec;
    plan::plan(&spec, inventory).unwrap().docker.unwrap().network
}

/// Creates a planned network with a change. Other tests plan at the same time, so it may take several attempts.
async fn made(engine: &Engine, environment: &str, change: impl Fn(&mut plan::Network)) -> plan::Network {
    let mut refused = Vec::new();
    for _ in 0..10 {
        let mut inventory = inventory(engine).await;
        inventory.taken.extend(refused.clone());
        let mut network = planned(&inventory, environment);
        change(&mut network);
        let made = network::ensure(engine, &network, &[]).await.unwrap();
        if made.value == network::Created::Yes {
            assert!(made.changed);
            return network;
        }
        // The engine reserves a subnet some time before it lists the network.
        refused.push(Taken { subnet: network.subnet, by: "another test".into() });
    }
    panic!("other tests took every planned subnet");
}

fn found(error: &anyhow::Error) -> &Error {
    error::find(error).unwrap_or_else(|| panic!("not an error for users: {error:#}"))
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn a_network_is_made_once_and_found_by_its_labels() {
    const NAME: &str = "docker-test-net";
    let _removed = Removed::network(NAME);
    let engine = engine().await;
    let network = made(&engine, NAME, |_| ()).await;
    let inspected = engine.docker.inspect_network(&network.name, None).await.unwrap();
    assert_eq!(inspected.labels.unwrap(), network.labels.clone().into_iter().collect());
    let environment = inventory(&engine).await.environments.remove(NAME).unwrap();
    assert_eq!(environment.network.as_ref(), Some(&network.name));
    assert_eq!(environment.subnet, Some(network.subnet));
    assert_eq!(environment.clusters.keys().collect::<Vec<_>>(), ["a"]);

    for have in [vec![network.name.clone()], vec![]] {
        let again = network::ensure(&engine, &network, &have).await.unwrap();
        assert_eq!((again.value, again.changed), (network::Created::Yes, false), "known: {have:?}");
    }

    // As if another process had created it from another plan.
    let mut other = network.clone();
    other.labels.insert("kindmesh.clusters".into(), "a,b".into());
    let raced = network::ensure(&engine, &other, &[]).await.unwrap();
    assert_eq!((raced.value, raced.changed), (network::Created::SubnetTaken, false));

    network::remove(&engine, &network.name).await.unwrap();
    network::remove(&engine, &network.name).await.unwrap();
    assert!(!inventory(&engine).await.environments.contains_key(NAME));
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn a_subnet_that_somebody_took_is_said_so() {
    const NAME: &str = "docker-test-first";
    const OTHER: &str = "docker-test-second";
    let _removed = [Removed::network(NAME), Removed::network(OTHER)];
    let engine = engine().await;
    let network = made(&engine, NAME, |_| ()).await;
    let mut second = planned(&inventory(&engine).await, OTHER);
    second.subnet = network.subnet;
    let outcome = network::ensure(&engine, &second, &[]).await.unwrap();
    assert_eq!((outcome.value, outcome.changed), (network::Created::SubnetTaken, false));
    assert!(!inventory(&engine).await.environments.contains_key(OTHER));
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn a_foreign_network_of_the_same_name_is_left_alone() {
    const NAME: &str = "docker-test-foreign";
    let _removed = Removed::network(NAME);
    let engine = engine().await;
    // The environment in its label: missing, not a valid name, or another one.
    for label in ["", "..", "docker-test-other"] {
        let network = made(&engine, NAME, |network| {
            network.labels.remove(ENVIRONMENT_LABEL);
            if !label.is_empty() {
                network.labels.insert(ENVIRONMENT_LABEL.into(), label.into());
            }
        })
        .await;
        let inventory = inventory(&engine).await;
        assert!(!inventory.environments.contains_key(NAME) && !inventory.environments.contains_key(label));
        let wanted = planned(&inventory, NAME);
        let error = network::ensure(&engine, &wanted, &[]).await.unwrap_err();
        assert_eq!(found(&error).kind, Kind::Usage);
        assert!(found(&error).hint.as_ref().unwrap().contains(&network.name));
        network::remove(&engine, &network.name).await.unwrap();
        engine.docker.inspect_network(&network.name, None).await.unwrap();
        said(&["network", "rm", &network.name]);
    }
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn the_sample_image_runs_with_no_rights_and_is_built_once() {
    const IMAGE: &str = "kindmesh.local/docker-test-sample:1";
    let _removed = Removed::image(IMAGE);
    let engine = engine().await;
    let samples = samples(IMAGE);
    assert!(sample_image::ensure(&engine, &samples, Path::new(KINDMESH)).await.unwrap().changed);
    let built = engine.docker.inspect_image(IMAGE).await.unwrap();
    let config = built.config.unwrap();
    assert_eq!(config.entrypoint.unwrap(), [sample_image::ENTRYPOINT]);
    assert_eq!(config.user.unwrap(), format!("{0}:{0}", sample_image::USER));
    assert_eq!(config.labels.unwrap()[sample_image::LABEL], "true");

    let version = concat!("kindmesh ", env!("CARGO_PKG_VERSION"));
    let run = ["run", "--rm", "--network", "none", "--read-only", "--user", "1000", "--cap-drop", "ALL"];
    assert_eq!(said(&[&run[..], &[IMAGE, "--version"]].concat()), version);

    assert!(!sample_image::ensure(&engine, &samples, Path::new(KINDMESH)).await.unwrap().changed);
    assert_eq!(engine.docker.inspect_image(IMAGE).await.unwrap().id, built.id);
}

fn samples(image: &str) -> plan::Samples {
    plan::Samples {
        namespace: "sample".into(),
        image: image.into(),
        build: true,
        callers: Vec::new(),
        producers: Vec::new(),
        replicas: 1,
    }
}

/// Returns the node image of a plan, which is then in the engine.
async fn node_image(engine: &Engine) -> String {
    let output = Command::new(KINDMESH).args(["plan", "--offline", "--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = plan["clusters"][0]["nodeImage"].as_str().unwrap().to_owned();
    image::ensure(engine, [&name], &Events::silent().step("image", None)).await.unwrap();
    name
}

/// Returns the labels of a kind node.
fn kind_labels(cluster: &str) -> [String; 4] {
    let label = |key: &str, value: &str| ["--label".to_owned(), format!("{key}={value}")];
    let [cluster, role] = [label(KIND_CLUSTER_LABEL, cluster), label(KIND_ROLE_LABEL, "control-plane")];
    let ([a, b], [c, d]) = (cluster, role);
    [a, b, c, d]
}

/// Starts a container that looks like a kind node, but only runs `command`.
async fn node(engine: &Engine, name: &str, command: &str, options: &[&str]) -> Removed {
    let removed = Removed::container(name);
    let image = node_image(engine).await;
    let labels = kind_labels("docker-test-kind");
    let mut args = vec!["run", "--detach", "--name", name, "--volume", "/var", "--entrypoint"];
    let (program, rest) = command.split_once(' ').unwrap_or((command, ""));
    args.push(program);
    args.extend(labels.iter().map(String::as_str));
    args.extend(options);
    args.push(&image);
    args.extend(rest.split_whitespace());
    said(&args);
    removed
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn commands_in_a_node() {
    const NODE: &str = "docker-test-node";
    let engine = engine().await;
    let _removed = node(&engine, NODE, "sleep infinity", &["--network", "none"]).await;

    assert_eq!(node::run(&engine, NODE, &["printf", "%s|", "a b", "$HOME"]).await.unwrap(), "a b|$HOME|");
    let script = ["sh", "-c", "echo out; echo err >&2; exit 3"];
    let tried = node::try_exec(&engine, NODE, &script).await.unwrap();
    assert_eq!((tried.status, tried.stdout.as_str(), tried.stderr.as_str()), (3, "out\n", "err\n"));
    let error = node::run(&engine, NODE, &script).await.unwrap_err();
    assert_eq!(found(&error).kind, Kind::Environment);
    assert_eq!(found(&error).message, format!("a command in node {NODE} failed with status 3"));
    let evidence = ["docker exec docker-test-node sh -c 'echo out; echo err >&2; exit 3'", "out", "err"];
    assert_eq!(found(&error).evidence, evidence);
    // Standard input is empty, not open.
    assert_eq!(node::run(&engine, NODE, &["cat"]).await.unwrap(), "");
    assert!(node::run(&engine, NODE, &["no-such-program"]).await.is_err());
    assert!(node::run(&engine, "docker-test-missing", &["true"]).await.is_err());
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn commands_in_a_node_with_input() {
    const NODE: &str = "docker-test-input";
    const CHUNKS: usize = 64;
    let engine = engine().await;
    let _removed = node(&engine, NODE, "sleep infinity", &["--network", "none"]).await;
    let chunk = || Ok::<_, io::Error>(Bytes::from(vec![b'x'; 64 * 1024]));
    let all = || stream::iter((0..CHUNKS).map(|_| chunk()));
    let run = async |command: &[&str]| node::run_with_input(&engine, NODE, command, all()).await;

    let counted = timeout(TIMEOUT, run(&["wc", "-c"])).await.unwrap().unwrap();
    assert_eq!(counted.trim(), (CHUNKS * 64 * 1024).to_string());
    assert_eq!(timeout(TIMEOUT, run(&["head", "-c", "3"])).await.unwrap().unwrap(), "xxx");
    timeout(TIMEOUT, run(&["true"])).await.unwrap().unwrap();
    let error = timeout(TIMEOUT, run(&["sh", "-c", "echo no room >&2; exit 1"])).await.unwrap().unwrap_err();
    assert!(found(&error).evidence.contains(&"no room".to_owned()));

    // If the input ends with an error, the command does not wait for the rest.
    let broken = stream::iter([chunk(), Err(io::Error::other("the disk failed"))]);
    let reading = node::run_with_input(&engine, NODE, &["cat"], broken);
    let error = timeout(TIMEOUT, reading).await.unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("the disk failed"), "{error:#}");
    let left = node::run(&engine, NODE, &["sh", "-c", "grep -l '^cat$' /proc/[0-9]*/comm || true"]).await.unwrap();
    assert_eq!(left, "", "the command is still waiting");
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn files_on_a_node_and_its_removal() {
    const NODE: &str = "docker-test-files";
    let engine = engine().await;
    let _removed = node(&engine, NODE, "sleep infinity", &["--network", "none"]).await;
    let file = |path, content: &str, mode| NodeFile { path, content: content.into(), mode };
    let files =
        [file("/etc/kindmesh/new/a", "one\n", 0o640), file("/usr/local/bin/b", "#!/bin/sh\necho two\n", 0o755)];
    node::copy_files(&engine, NODE, &files).await.unwrap();
    let stat = ["stat", "-c", "%a %u:%g", files[0].path, files[1].path];
    assert_eq!(node::run(&engine, NODE, &stat).await.unwrap(), "640 0:0\n755 0:0\n");
    assert_eq!(node::run(&engine, NODE, &["cat", files[0].path]).await.unwrap(), "one\n");
    assert_eq!(node::run(&engine, NODE, &["b"]).await.unwrap(), "two\n");

    let volume = said(&["inspect", "--format", "{{range .Mounts}}{{.Name}}{{end}}", NODE]);
    said(&["volume", "inspect", &volume]);
    node::remove(&engine, NODE).await.unwrap();
    node::remove(&engine, NODE).await.unwrap();
    assert!(!docker(&["inspect", NODE]).status.success());
    assert!(!docker(&["volume", "inspect", &volume]).status.success(), "its volume is left");
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn only_nodes_that_are_listed_and_attached_are_ours() {
    const NAME: &str = "docker-test-own";
    let engine = engine().await;
    let image = node_image(&engine).await;
    let _network = Removed::network(NAME);
    let network = made(&engine, NAME, |_| ()).await;
    // Creating is enough: stopped nodes count.
    let create = |name: &str, cluster: &str, network: &str| {
        let removed = Removed::container(name);
        let labels = kind_labels(cluster);
        let mut args = vec!["create", "--name", name, "--network", network];
        args.extend(labels.iter().map(String::as_str));
        args.push(&image);
        said(&args);
        removed
    };
    let _nodes = [
        create("docker-test-own-a-control-plane", "docker-test-own-a", &network.name),
        create("docker-test-own-z-control-plane", "docker-test-own-z", &network.name),
        create("docker-test-elsewhere", "docker-test-own-a", "none"),
    ];
    let inventory = inventory(&engine).await;
    let names: Vec<_> = inventory.environments[NAME].nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["docker-test-own-a-control-plane"]);
    for foreign in ["docker-test-own-z", "docker-test-own-a"] {
        assert!(inventory.foreign_clusters.iter().any(|cluster| cluster == foreign), "{foreign}");
    }
}

async fn containerd_answers(engine: &Engine, node: &str) {
    let step = Events::silent().step("images", None);
    wait::until(&step, "containerd to respond", Instant::now() + TIMEOUT, async || {
        let tried = node::try_exec(engine, node, &["ctr", "version"]).await?;
        Ok(if tried.status == 0 { Poll::Ready(()) } else { Poll::NotYet(tried.stderr) })
    })
    .await
    .unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn a_node_image_is_baked_once_and_starts_as_it_did() {
    const IMAGES: [&str; 2] = ["kindmesh.local/docker-test-bake:1", "kindmesh.local/docker-test-bake:2"];
    const NODE: &str = "docker-test-baked";
    let engine = engine().await;
    let _images = IMAGES.map(Removed::image);
    for image in IMAGES {
        sample_image::ensure(&engine, &samples(image), Path::new(KINDMESH)).await.unwrap();
    }
    let from = node_image(&engine).await;
    let images = IMAGES.map(str::to_owned);
    let name = bake::name(&engine, &from, &images).await.unwrap();
    let _baked = Removed::image(&name);
    let step = Events::silent().step("bake", None);
    let made = bake::ensure(&engine, &from, &images, &step).await.unwrap();
    assert_eq!((&made.value, made.changed), (&name, true));
    let again = bake::ensure(&engine, &from, &[IMAGES[1].into(), IMAGES[0].into()], &step).await.unwrap();
    assert_eq!((&again.value, again.changed), (&name, false));
    assert_ne!(bake::name(&engine, &from, &images[..1]).await.unwrap(), name);
    assert_eq!(bake::name(&engine, &from, &["kindmesh.local/docker-test-none:1".into()]).await, None);
    let left = said(&["ps", "--all", "--quiet", "--filter", &format!("ancestor={from}"), "--filter", "name=bake"]);
    assert_eq!(left, "", "the build container is left");

    let config = async |name: &str| engine.docker.inspect_image(name).await.unwrap().config.unwrap();
    let (was, is) = (config(&from).await, config(&name).await);
    assert_eq!((is.entrypoint, is.cmd, is.env), (was.entrypoint, was.cmd, was.env));
    assert_eq!((is.stop_signal, is.user), (was.stop_signal, was.user));
    assert_eq!(is.labels.unwrap()[bake::IMAGES_LABEL], IMAGES.join(","));

    // With a volume, as in kind's nodes: the images are complete.
    let _node = Removed::container(NODE);
    let run = ["run", "--detach", "--name", NODE, "--privileged", "--network", "none", "--volume", "/var"];
    said(&[&run[..], &["--entrypoint", "containerd", &name]].concat());
    containerd_answers(&engine, NODE).await;
    for image in IMAGES {
        let check = ["ctr", "--namespace", "k8s.io", "images", "check", &format!("name=={image}")];
        let found = node::run(&engine, NODE, &check).await.unwrap();
        assert!(found.lines().any(|line| line.starts_with(image) && line.contains(" complete (")), "{found}");
    }
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn each_node_gets_the_images_that_it_lacks() {
    const IMAGES: [&str; 2] = ["kindmesh.local/docker-test-load:1", "kindmesh.local/docker-test-load:2"];
    const NODES: [&str; 2] = ["docker-test-load-a", "docker-test-load-b"];
    let engine = engine().await;
    let _images = IMAGES.map(Removed::image);
    for image in IMAGES {
        sample_image::ensure(&engine, &samples(image), Path::new(KINDMESH)).await.unwrap();
    }
    let options = ["--network", "none", "--privileged"];
    let _nodes = [
        node(&engine, NODES[0], "containerd", &options).await,
        node(&engine, NODES[1], "containerd", &options).await,
    ];
    for name in NODES {
        containerd_answers(&engine, name).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let of = |images: &[&str]| image::Load::new(folder.path(), images);
    let load = async |load: &image::Load, node: &str| {
        let missing = load.missing_on(&engine, node).await.unwrap();
        load.bring(&engine, node, missing).await.unwrap().changed
    };
    assert!(load(&of(&IMAGES[..1]), NODES[0]).await);
    let both = of(&IMAGES);
    assert_eq!(both.missing_on(&engine, NODES[0]).await.unwrap(), IMAGES[1..]);
    let (a, b) = futures::join!(load(&both, NODES[0]), load(&both, NODES[1]));
    assert!(a && b);
    for name in NODES {
        assert!(!load(&both, name).await);
        let list =
            node::run(&engine, name, &["ctr", "--namespace", "k8s.io", "images", "ls", "-q"]).await.unwrap();
        assert!(IMAGES.iter().all(|image| list.lines().any(|line| line == *image)), "{name}: {list}");
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "archives are unlinked files");
}
