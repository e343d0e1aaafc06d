//! The logs of an environment: from Kubernetes for containers, from journals for nodes and the link.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use futures::stream::{BoxStream, StreamExt};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, LogParams};
use serde::Serialize;

use crate::base::error::Error;
use crate::base::names::{CALLER_NAME, PRODUCER_NAME};
use crate::cluster::environment::Environment;
use crate::cluster::mesh::{ISTIO_NAMESPACE, envoy, istiod};
use crate::cluster::pods;
use crate::host::docker::{Engine, node};
use crate::host::inventory as gather;
use crate::plan::inventory::{self};
use crate::spec::Label;

/// The timeout of a request for a log.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval for polling a journal. A `journalctl --follow` on a node would outlive the command.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The link's systemd unit.
const LINK_UNIT: &str = "kindmesh-link.service";

/// The subject of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// Sample caller
    Caller,
    /// Sample producers
    Producer,
    /// Proxies of the samples
    Proxy,
    /// Istio's control plane
    Istiod,
    /// Journals of the nodes: kubelet, containerd and others
    Node,
    /// The link's systemd unit, on every node
    Link,
}

impl What {
    /// All subjects.
    pub const ALL: [What; 6] = [What::Caller, What::Producer, What::Proxy, What::Istiod, What::Node, What::Link];

    fn is_of_nodes(self) -> bool {
        matches!(self, What::Node | What::Link)
    }

    /// Returns the name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Caller => "caller",
            What::Producer => "producer",
            What::Proxy => "proxy",
            What::Istiod => "istiod",
            What::Node => "node",
            What::Link => "link",
        }
    }
}

/// The location of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In Kubernetes, for a container.
    Container {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// In a node's journal.
    Journal {
        /// The node.
        node: String,
        /// The systemd unit; none for the whole journal.
        unit: Option<&'static str>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Container { pod, container, .. } => write!(f, "{pod} {container}"),
            Place::Journal { node, unit: Some(unit) } => write!(f, "{node} {unit}"),
            Place::Journal { node, unit: None } => f.write_str(node),
        }
    }
}

/// An available log.
#[derive(Debug, Clone)]
pub struct Log {
    /// The subject.
    pub what: What,
    /// The cluster.
    pub cluster: String,
    /// Its location.
    pub place: Place,
    /// The state of its pod or node: `ready`, `running`, or what is wrong.
    pub state: String,
}

/// Options for reading a log.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The number of lines from the end.
    pub lines: u32,
    /// Whether to read the log of the container's previous run.
    pub previous: bool,
}

/// The logs of an environment, and the connections to read them.
pub struct Logs<'a> {
    environment: &'a Environment,
    engine: Option<Engine>,
    /// The available logs.
    pub found: Vec<Log>,
    /// What could not be read, and why.
    pub missing: Vec<String>,
}

impl<'a> Logs<'a> {
    /// Finds the logs of `what` in one cluster or all. A cluster that does not respond is in `missing`.
    ///
    /// # Errors
    /// A usage error for an unknown cluster.
    pub async fn find(
        environment: &'a Environment,
        what: &[What],
        cluster: Option<&Label>,
    ) -> anyhow::Result<Self> {
        let clusters: Vec<String> = match cluster {
            Some(name) => vec![environment.cluster(name.as_str())?.name.to_string()],
            None => environment.spec.clusters.iter().map(|cluster| cluster.name.to_string()).collect(),
        };
        let mut logs = Self { environment, engine: None, found: Vec::new(), missing: Vec::new() };
        let of_pods: Vec<What> = what.iter().copied().filter(|what| !what.is_of_nodes()).collect();
        if !of_pods.is_empty() {
            let looks = clusters.iter().map(|cluster| containers(environment, cluster, &of_pods));
            for (cluster, look) in clusters.iter().zip(join_all(looks).await) {
                match look {
                    Ok(found) => logs.found.extend(found),
                    Err(error) => logs.missing.push(format!("{cluster}: {error:#}")),
                }
            }
        }
        if what.iter().any(|what| what.is_of_nodes()) {
            match journals(environment, &clusters, what).await {
                Ok((engine, found)) => {
                    logs.engine = Some(engine);
                    logs.found.extend(found);
                }
                Err(error) => logs.missing.push(format!("{error:#}")),
            }
        }
        logs.found.sort_by(|a, b| (a.what, &a.cluster).cmp(&(b.what, &b.cluster)));
        Ok(logs)
    }

    /// Returns the last lines of a log.
    ///
    /// # Errors
    /// Errors of the API server or the engine.
    pub async fn tail(&self, log: &Log, options: Options) -> anyhow::Result<Vec<String>> {
        let read = async {
            match &log.place {
                Place::Container { namespace, pod, container } => {
                    let api = self.pods(&log.cluster, namespace).await?;
                    let text = api.logs(pod, &parameters(container, options, false)).await;
                    let text = text.map_err(|error| without_a_run_before(error, options))?;
                    anyhow::Ok(text.lines().map(str::to_owned).collect())
                }
                Place::Journal { node, unit } => {
                    let command = journalctl(*unit, &["--lines", &options.lines.to_string()]);
                    let command: Vec<&str> = command.iter().map(String::as_str).collect();
                    let said = node::run(self.engine()?, node, &command).await?;
                    Ok(said.lines().map(str::to_owned).collect())
                }
            }
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, read).await {
            Ok(read) => read.with_context(|| format!("reading the log of {}", log.place)),
            Err(_) => {
                anyhow::bail!(
                    "reading the log of {}: no response within {} s",
                    log.place,
                    REQUEST_TIMEOUT.as_secs()
                )
            }
        }
    }

    /// Streams the last lines of a log, then new lines as they arrive. Ends when the container or node stops.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn follow(
        &self,
        log: &Log,
        options: Options,
    ) -> anyhow::Result<BoxStream<'_, anyhow::Result<String>>> {
        match &log.place {
            Place::Container { namespace, pod, container } => {
                let api = self.pods(&log.cluster, namespace).await?;
                let stream = api.log_stream(pod, &parameters(container, options, true)).await?;
                Ok(stream.lines().map_err(anyhow::Error::from).boxed())
            }
            Place::Journal { node, unit } => Ok(self.news(node, *unit, options)?.boxed()),
        }
    }

    /// Streams a journal's last lines, then polls it for new ones.
    fn news(
        &self,
        node: &str,
        unit: Option<&'static str>,
        options: Options,
    ) -> anyhow::Result<impl futures::Stream<Item = anyhow::Result<String>> + use<'_>> {
        let engine = self.engine()?;
        let node = node.to_owned();
        let first = vec!["--lines".to_owned(), options.lines.to_string()];
        let looks = futures::stream::try_unfold((first, false), move |(from, again)| {
            let node = node.clone();
            async move {
                if again {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                let from: Vec<&str> = from.iter().map(String::as_str).collect();
                let command = journalctl(unit, &[&from[..], &["--show-cursor"]].concat());
                let command: Vec<&str> = command.iter().map(String::as_str).collect();
                let said = node::run(engine, &node, &command).await?;
                let (lines, cursor) = without_cursor(&said);
                let next = match cursor {
                    Some(cursor) => vec![format!("--after-cursor={cursor}")],
                    None => from.iter().map(|word| (*word).to_owned()).collect(),
                };
                anyhow::Ok(Some((futures::stream::iter(lines.into_iter().map(anyhow::Ok)), (next, true))))
            }
        });
        Ok(looks.try_flatten())
    }

    async fn pods(&self, cluster: &str, namespace: &str) -> anyhow::Result<Api<Pod>> {
        Ok(Api::namespaced(self.environment.client(cluster).await?, namespace))
    }

    fn engine(&self) -> anyhow::Result<&Engine> {
        self.engine.as_ref().context("not connected to the engine")
    }
}

fn parameters(container: &str, options: Options, follow: bool) -> LogParams {
    LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(options.lines.into()),
        previous: options.previous,
        follow,
        ..LogParams::default()
    }
}

/// Replaces the API server's error for a container that has not restarted.
fn without_a_run_before(error: kube::Error, options: Options) -> anyhow::Error {
    match &error {
        kube::Error::Api(status)
            if options.previous && status.message.contains("previous terminated container") =>
        {
            Error::environment("this container has not restarted").into()
        }
        _ => error.into(),
    }
}

fn journalctl(unit: Option<&str>, more: &[&str]) -> Vec<String> {
    let mut command: Vec<String> =
        ["journalctl", "--no-pager", "--quiet", "--output", "short-iso"].map(str::to_owned).to_vec();
    if let Some(unit) = unit {
        command.extend(["--unit".to_owned(), unit.to_owned()]);
    }
    command.extend(more.iter().map(|word| (*word).to_owned()));
    command
}

/// Returns the lines of a journal and the cursor, which `--show-cursor` adds as the last line.
fn without_cursor(said: &str) -> (Vec<String>, Option<String>) {
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    let cursor = lines.last().and_then(|line| line.strip_prefix("-- cursor: ")).map(str::to_owned);
    if cursor.is_some() {
        lines.pop();
    }
    (lines, cursor)
}

async fn containers(environment: &Environment, cluster: &str, what: &[What]) -> anyhow::Result<Vec<Log>> {
    let client = environment.client(cluster).await?;
    let samples = environment.spec.samples.namespace.as_str();
    let look = async {
        let mut found = Vec::new();
        for what in what {
            for (namespace, app, container) in sources(*what, samples) {
                for pod in pods::list(&client, namespace, &format!("app={app}")).await? {
                    let has = pods::has_container(&pod, container);
                    let place = Place::Container {
                        namespace: namespace.to_owned(),
                        pod: pod.name_any(),
                        container: container.to_owned(),
                    };
                    found.extend(has.then(|| Log {
                        what: *what,
                        cluster: cluster.to_owned(),
                        place,
                        state: state(&pod),
                    }));
                }
            }
        }
        anyhow::Ok(found)
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, look).await {
        Ok(found) => found,
        Err(_) => anyhow::bail!("the API server did not respond within {} s", REQUEST_TIMEOUT.as_secs()),
    }
}

/// Returns the sources of a subject: namespace, label `app` and container.
fn sources(what: What, samples: &str) -> Vec<(&str, &'static str, &'static str)> {
    match what {
        What::Caller => vec![(samples, CALLER_NAME, "app")],
        What::Producer => vec![(samples, PRODUCER_NAME, "app")],
        What::Proxy => vec![(samples, CALLER_NAME, envoy::CONTAINER), (samples, PRODUCER_NAME, envoy::CONTAINER)],
        What::Istiod => vec![(ISTIO_NAMESPACE, "istiod", istiod::CONTAINER)],
        What::Node | What::Link => Vec::new(),
    }
}

fn state(pod: &Pod) -> String {
    match pods::state(pod).into_iter().next() {
        _ if pods::is_ready(pod) => "ready".into(),
        Some(wrong) => wrong,
        None => "not ready".into(),
    }
}

async fn journals(
    environment: &Environment,
    clusters: &[String],
    what: &[What],
) -> anyhow::Result<(Engine, Vec<Log>)> {
    let engine = Engine::connect().await?;
    let inventory = gather::gather(&engine).await?;
    let nodes =
        inventory.environments.get(environment.name()).map(|found| found.nodes.clone()).unwrap_or_default();
    let log = |what: What, node: &inventory::Node| Log {
        what,
        cluster: node.cluster.clone(),
        place: Place::Journal { node: node.name.clone(), unit: (what == What::Link).then_some(LINK_UNIT) },
        state: node.state.clone(),
    };
    let nodes = nodes.iter().filter(|node| clusters.contains(&node.cluster));
    let of_nodes = what.iter().filter(|what| what.is_of_nodes());
    let found = nodes.flat_map(|node| of_nodes.clone().map(move |what| log(*what, node))).collect();
    Ok((engine, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn the_cursor_is_no_line() {
        let said = "one\ntwo\n-- cursor: s=1;i=2\n";
        assert_eq!(without_cursor(said), (vec!["one".to_owned(), "two".to_owned()], Some("s=1;i=2".to_owned())));
        assert_eq!(without_cursor("one\n"), (vec!["one".to_owned()], None));
        assert_eq!(without_cursor(""), (Vec::new(), None));
    }

    #[test]
    fn command_line_in_errors_is_complete() {
        for what in What::ALL {
            assert_eq!(What::from_str(what.as_str(), false), Ok(what));
        }
        assert_eq!(What::value_variants().len(), What::ALL.len());
    }
}
