//! The parsers under test: the corpus of each, and its promises, in addition to not panicking.

use bollard::models::{ContainerSummary, Network};
use kindmesh::internals::base::error;
use kindmesh::internals::cluster::call::Answer;
use kindmesh::internals::cluster::mesh::istiod::RemoteCluster;
use kindmesh::internals::cluster::mesh::{apply, envoy, istio};
use kindmesh::internals::host::docker::{image, sample_image};
use kindmesh::internals::host::inventory as gather;
use kindmesh::internals::host::kubeconfig::entries::{self, Mark};
use kindmesh::internals::host::routes;
use kindmesh::internals::host::tool::{Tool, version};
use kindmesh::internals::host::trust;
use kindmesh::internals::lifecycle::Experiment;
use kindmesh::internals::plan;
use kindmesh::internals::plan::inventory::{self, Inventory};
use kindmesh::internals::report::Style;
use kindmesh::internals::report::failure::Failure;
use kindmesh::internals::spec;
use serde_yaml::Value;

use crate::mutation::Input;

/// A parser under test.
pub struct Target {
    pub name: &'static str,
    pub corpus: &'static [&'static str],
    /// Its share of the time: parsers of large texts take longer for each input.
    pub share: u32,
    /// Returns the promise that does not hold.
    pub check: fn(&Input) -> Result<(), String>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "spec", corpus: &[SPEC, SPEC_FREE, "{}"], share: 8, check: spec },
    Target { name: "experiment", corpus: &[EXPERIMENT], share: 4, check: experiment },
    Target { name: "engine networks", corpus: &[NETWORKS, CONTAINERS], share: 4, check: engine },
    Target {
        name: "engine labels",
        corpus: &["a,b\na=10.0.0.0/16+10.1.0.0/16,b=10.2.0.0/16+10.3.0.0/16"],
        share: 1,
        check: labels,
    },
    Target { name: "/proc/net/route", corpus: &[ROUTES], share: 1, check: routes },
    Target { name: "kubeconfig", corpus: &[KUBECONFIG, "", "clusters: []\n"], share: 4, check: kubeconfig },
    Target { name: "istioctl manifests", corpus: &[MANIFESTS], share: 4, check: manifests },
    Target { name: "istiod clusterz", corpus: &[CLUSTERZ], share: 1, check: clusterz },
    Target { name: "proxy clusters", corpus: &[ENVOY], share: 1, check: endpoints },
    Target {
        name: "tool versions",
        corpus: &[ISTIOCTL_VERSION, "kind v0.33.0 go1.26.8 linux/amd64\n"],
        share: 1,
        check: versions,
    },
    Target { name: "containerd config", corpus: &[CONTAINERD], share: 1, check: containerd },
    Target { name: "loader's list", corpus: &[LOADER], share: 1, check: loader },
    Target { name: "caller's answer", corpus: &[ANSWER], share: 1, check: answer },
    Target { name: "certificates", corpus: &[CERTIFICATE], share: 1, check: certificates },
    Target {
        name: "errors' text",
        corpus: &["a cause: \u{1b}[31mred\u{1b}[0m\nsecond line", "x"],
        share: 1,
        check: failure,
    },
];

const SPEC: &str = include_str!("corpus/spec.yaml");
const SPEC_FREE: &str = include_str!("corpus/spec-free.yaml");
const EXPERIMENT: &str = include_str!("corpus/experiment.yaml");
const NETWORKS: &str = include_str!("corpus/networks.json");
const CONTAINERS: &str = include_str!("corpus/containers.json");
const ROUTES: &str = include_str!("corpus/route");
const KUBECONFIG: &str = include_str!("corpus/kubeconfig.yaml");
const MANIFESTS: &str = include_str!("corpus/manifests.yaml");
const CLUSTERZ: &str = include_str!("corpus/clusterz.json");
const ENVOY: &str = include_str!("corpus/envoy-clusters");
const ISTIOCTL_VERSION: &str = include_str!("corpus/istioctl-version.json");
const CONTAINERD: &str = include_str!("corpus/containerd.toml");
const LOADER: &str = include_str!("corpus/loader");
const ANSWER: &str = include_str!("corpus/answer.json");
const CERTIFICATE: &str = include_str!("corpus/certificate.pem");

fn promise(holds: bool, what: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// An error has a position and a hint. A parsed spec can be written and parsed again, and planned or rejected.
pub fn spec(input: &Input) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(&input.0) else { return Ok(()) };
    let loaded = match spec::from_text(text, "kindmesh.yaml") {
        Ok(loaded) => loaded,
        Err(error) => {
            promise(error.message.starts_with("kindmesh.yaml:"), format!("no position: {}", error.message))?;
            promise(error.hint.is_some(), format!("no hint: {}", error.message))?;
            return promise(!error.message.contains(char::is_control), format!("controls: {:?}", error.message));
        }
    };
    let stored = spec::to_yaml(&loaded.spec).map_err(|error| error.to_string())?;
    match spec::from_text(&stored, "stored.yaml") {
        Ok(again) => promise(again.spec == loaded.spec, format!("stored spec differs when parsed:\n{stored}"))?,
        Err(error) => return Err(format!("stored spec cannot be parsed: {}\n{stored}", error.message)),
    }
    if let Err(error) = spec::validate(&loaded.spec, &loaded.origins) {
        let one = error.message.starts_with("kindmesh.yaml:") || error.message.ends_with(" problems in the spec");
        promise(one, format!("no position: {}", error.message))?;
        return promise(
            error.hint.is_some() || !one || error.evidence.len() > 1,
            format!("no hint: {}", error.message),
        );
    }
    let _ = plan::plan(&loaded.spec, &Inventory::of_an_empty_machine(None));
    Ok(())
}

/// An error has a position, or each of several does, and what is valid. A valid experiment is within its bounds.
fn experiment(input: &Input) -> Result<(), String> {
    let text = input.text();
    match Experiment::parse(&text, "experiment.yaml") {
        Ok(experiment) => promise(
            experiment.calls.count() > 0 && experiment.first() <= experiment.calls.lasts,
            format!("out of bounds: {experiment:?}"),
        ),
        Err(error) => {
            let several = error.message.ends_with(" problems in the experiment");
            promise(
                several || error.message.starts_with("experiment.yaml:"),
                format!("no position: {}", error.message),
            )?;
            promise(
                error.hint.is_some() || several && error.evidence.len() > 1,
                format!("no hint: {}", error.message),
            )?;
            promise(!error.message.contains(char::is_control), format!("controls: {:?}", error.message))
        }
    }
}

/// Every environment has a valid name, and planning does not panic with any inventory.
pub fn engine(input: &Input) -> Result<(), String> {
    // Input that parses as one is invalid as the other, which then is the recorded one.
    let networks: Vec<Network> =
        serde_json::from_slice(&input.0).unwrap_or_else(|_| serde_json::from_str(NETWORKS).unwrap());
    let containers: Vec<ContainerSummary> =
        serde_json::from_slice(&input.0).unwrap_or_else(|_| serde_json::from_str(CONTAINERS).unwrap());
    let mut inventory: Inventory = gather::sort(&networks, &containers);
    for name in inventory.environments.keys() {
        promise(spec::environment_name(name).is_ok(), format!("an environment named {name:?}"))?;
    }
    inventory.engine = Inventory::of_an_empty_machine(None).engine;
    let _ = plan::plan(&spec::Spec::default(), &inventory);
    Ok(())
}

/// Every parsed name is a valid cluster name.
fn labels(input: &Input) -> Result<(), String> {
    let text = input.text();
    let (clusters, subnets) = text.split_once('\n').unwrap_or((&text, ""));
    let found = inventory::clusters_of_labels(clusters, subnets);
    promise(found.keys().all(|name| name.parse::<spec::Label>().is_ok()), format!("{found:?}"))
}

/// No default route counts as a subnet that covers all addresses.
fn routes(input: &Input) -> Result<(), String> {
    let taken = routes::parse(&input.text());
    promise(taken.iter().all(|taken| taken.subnet.prefix_len() > 2), format!("{taken:?}"))
}

/// Merging twice is the same as merging once, and removing the merged entries leaves the rest unchanged.
pub fn kubeconfig(input: &Input) -> Result<(), String> {
    let users = input.text();
    let environment = include_str!("corpus/environment.yaml");
    let mark = Mark { environment: "shop".into(), engine: "E".into() };
    let Ok(merged) = entries::with(&users, environment, &mark, "f") else { return Ok(()) };
    let merged = merged.ok_or("nothing was merged")?;
    let again = entries::with(&merged, environment, &mark, "f").map_err(|error| error.message)?;
    promise(again.is_none(), format!("merging twice makes a difference:\n{merged}"))?;
    let without =
        entries::without(&merged, &mark, "f").map_err(|error| error.message)?.ok_or("nothing was removed")?;
    let read = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
    let (before, after) = (read(&users), read(&without));
    for (key, value) in before.as_mapping().into_iter().flatten() {
        let ours = ["clusters", "users", "contexts", "apiVersion", "kind", "current-context"];
        let filled = key.as_str().is_some_and(|key| ours.contains(&key)) && value.as_sequence().is_none();
        promise(
            filled || after.get(key) == Some(value),
            format!("{key:?} was {value:?}, now {:?}", after.get(key)),
        )?;
    }
    Ok(())
}

/// Every parsed object has our label.
fn manifests(input: &Input) -> Result<(), String> {
    let text = input.text();
    let read = apply::objects(&text)
        .ok()
        .into_iter()
        .flatten()
        .chain(istio::objects(&text, "digest").ok().into_iter().flatten());
    for object in read {
        let labels = object.metadata.labels.unwrap_or_default();
        promise(labels.contains_key(plan::MANAGED_BY_LABEL), format!("{labels:?}"))?;
    }
    Ok(())
}

fn clusterz(input: &Input) -> Result<(), String> {
    let _ = serde_json::from_slice::<Vec<RemoteCluster>>(&input.0);
    Ok(())
}

/// Every endpoint occurs in the input.
fn endpoints(input: &Input) -> Result<(), String> {
    let text = input.text();
    let found = envoy::healthy(&text, "outbound|8080||sample-producer.sample.svc.cluster.local");
    promise(found.iter().all(|endpoint| text.contains(endpoint.as_str())), format!("{found:?}"))
}

fn versions(input: &Input) -> Result<(), String> {
    let text = input.text();
    for tool in [Tool::Kind, Tool::Istioctl] {
        if let Ok(version) = version::parse(tool, &text) {
            promise(!version.is_empty(), "an empty version")?;
        }
    }
    if let Ok(version) = text.trim().parse::<spec::Version>() {
        promise(version.to_string() == text.trim(), format!("{version}"))?;
    }
    let _ = spec::kubernetes_version(&text);
    Ok(())
}

fn containerd(input: &Input) -> Result<(), String> {
    promise(
        image::configured_snapshotter(&input.text()).is_none_or(|found| !found.is_empty()),
        "an empty snapshotter",
    )
}

fn loader(input: &Input) -> Result<(), String> {
    promise(sample_image::listed(&input.text()).iter().all(|path| path.is_absolute()), "a relative path")
}

fn answer(input: &Input) -> Result<(), String> {
    if let Ok(answer) = serde_json::from_slice::<Answer>(&input.0) {
        let _ = (answer.served_by(), answer.identity());
    }
    Ok(())
}

fn certificates(input: &Input) -> Result<(), String> {
    let _ = trust::inspect(&input.0);
    promise(!trust::chains_to(&input.0, b""), "signed by no CA")
}

/// The text of an error contains no control characters that affect a terminal.
fn failure(input: &Input) -> Result<(), String> {
    let text = input.text();
    let error = error::Error::environment(text.clone()).evidence(&text).hint(text.clone());
    let shown = Failure::of(&anyhow::Error::from(error).context(text)).render(Style::plain());
    promise(!shown.contains(|c: char| c.is_control() && !['\n', '\t'].contains(&c)), format!("{shown:?}"))
}
