//! Figures of the mesh: how long calls take inside a cluster, across clusters on one network and across gateways, with mutual
//! TLS and without, measured by a load generator in the cluster.
//!
//! ```text
//! a namespace in the clusters, ─► one load after another ─► rows
//! with fortio in and outside      by fortio, in a pod
//! the mesh
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::base::interrupt::Interrupt;
use crate::cluster::environment::Environment;
use crate::host::docker::{Engine, image_marks};
use crate::host::images;
use crate::plan::Plan;
use crate::spec::Spec;

mod fortio;
mod servers;

use servers::Servers;

/// The image of the load generator. Its digest could not be looked up when it was added: no registry was reachable.
pub const IMAGE: &str = "fortio/fortio:1.68.0";

/// What a load calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1; a call succeeds with status 200.
    Http,
    /// gRPC, unary; a call succeeds if the server returns the message.
    Grpc,
    /// TCP; a call succeeds if the server returns the bytes.
    Tcp,
}

impl Protocol {
    /// Its name, as typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Http, Self::Grpc, Self::Tcp]
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| "expected http, grpc or tcp".into())
    }
}

/// Options of a measurement.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a load calls.
    pub protocol: Protocol,
    /// Calls per second of each load, all connections together; 0 for as many as possible.
    pub qps: u32,
    /// The connections of each load.
    pub connections: u32,
    /// The duration of each load, in seconds.
    pub seconds: u32,
    /// The image of the load generator.
    pub image: String,
    /// The timeout of the setup.
    pub timeout: Duration,
}

impl Options {
    /// Returns the number of calls of each load; none if it ends after its duration.
    fn calls(&self) -> Option<u64> {
        (self.qps > 0).then(|| u64::from(self.qps) * u64::from(self.seconds))
    }
}

/// Which clusters a call crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// From pod to pod in one cluster.
    Inside,
    /// Between clusters on one network, from pod to pod.
    Flat,
    /// Between clusters on different networks, through an east-west gateway.
    Gateway,
}

impl Path {
    /// Its name, which is also that of its server.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Flat => "flat",
            Self::Gateway => "gateway",
        }
    }
}

/// Latencies of calls, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

/// The result of one load.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// The number of calls.
    pub calls: u64,
    /// The number of calls that failed.
    pub failed: u64,
    /// The number of calls by result, as fortio reports it: an HTTP status, `SERVING` or `OK`, or an error.
    pub results: BTreeMap<String, u64>,
    /// Calls per second.
    pub throughput: f64,
    /// Their latencies, failed calls included.
    pub latency_millis: Latency,
}

/// One measured path.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Which clusters the calls cross.
    pub path: Path,
    /// The cluster of the load generator.
    pub from: String,
    /// The cluster of the server.
    pub to: String,
    /// Whether both sides have a proxy, and mutual TLS between them.
    pub mtls: bool,
    /// The result.
    #[serde(flatten)]
    pub result: Measured,
}

/// The result of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Measured {
    /// The figures.
    Figures(Figures),
    /// Why there are none.
    NotPossible(String),
}

/// The document with all results.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bench {
    /// The version of this document's schema.
    pub schema_version: u8,
    /// The environment's name.
    pub environment: String,
    /// When the first load started.
    pub started: jiff::Timestamp,
    /// The version of Istio.
    pub istio: String,
    /// The image of the load generator.
    pub image: String,
    /// What each load called.
    pub protocol: Protocol,
    /// The requested calls per second of each load; 0 for as many as possible.
    pub qps: u32,
    /// The connections of each load.
    pub connections: u32,
    /// The duration of each load, in seconds.
    pub seconds: u32,
    /// The measured paths.
    pub rows: Vec<Row>,
}

/// A path between two clusters of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    path: Path,
    from: String,
    to: String,
}

/// Returns the paths that an environment has: from its first cluster with a caller to itself, to the first peer on the same
/// network and to the first peer on another.
fn routes(spec: &Spec) -> Vec<Route> {
    let calls = |cluster: &&crate::spec::Cluster| {
        spec.samples.enabled && spec.samples.caller.clusters.contains(&cluster.name)
    };
    let Some(from) = spec.clusters.iter().find(calls).or(spec.clusters.first()) else { return Vec::new() };
    let peers = || spec.clusters.iter().filter(|cluster| cluster.name != from.name);
    let is_near = |cluster: &&crate::spec::Cluster| spec.network_of(cluster) == spec.network_of(from);
    let route =
        |path, to: &crate::spec::Cluster| Route { path, from: from.name.to_string(), to: to.name.to_string() };
    let mut routes = vec![route(Path::Inside, from)];
    routes.extend(peers().find(is_near).map(|to| route(Path::Flat, to)));
    routes.extend(peers().find(|to| !is_near(to)).map(|to| route(Path::Gateway, to)));
    routes
}

/// Measures every path of an environment, with mutual TLS and without. What was created for it is deleted in any case, also after
/// an interrupt.
///
/// # Errors
/// If the environment cannot be reached, the load generator cannot be started, or a load does not end; calls that fail are
/// counted, not an error.
pub async fn bench(
    environment: &Environment,
    engine: &Engine,
    plan: &Plan,
    options: &Options,
    events: &Events,
    interrupt: &Interrupt,
) -> anyhow::Result<Bench> {
    let routes = routes(&environment.spec);
    let deadline = Instant::now() + options.timeout;
    load_image(environment, engine, plan, &routes, options, events).await?;
    let servers = Servers::open(environment, &routes, &options.image).await?;
    let armed = interrupt.arm("deleting the namespace of the load generator");
    let started = jiff::Timestamp::now();
    let measured = async {
        servers.create(events, deadline).await?;
        events
            .step("measure", None)
            .run(async |step| {
                let total = routes.len() * 2 - routes.iter().filter(|route| route.path == Path::Gateway).count();
                let mut rows = Vec::new();
                let mut number = 0;
                for route in &routes {
                    for mtls in [true, false] {
                        let result = if route.path == Path::Gateway && !mtls {
                            Measured::NotPossible("a gateway passes on mutual TLS only".into())
                        } else {
                            number += 1;
                            let how = if mtls { "with mTLS" } else { "without mTLS" };
                            let what = format!("{} → {} {how}", route.from, route.to);
                            step.waiting(&what, &format!("load {number} of {total}"));
                            Measured::Figures(servers.measure(route, mtls, options, deadline).await?)
                        };
                        let Route { path, from, to } = route.clone();
                        rows.push(Row { path, from, to, mtls, result });
                    }
                }
                Ok(Outcome::changed(rows))
            })
            .await
    };
    let rows = tokio::select! {
        rows = measured => rows,
        () = interrupt.requested() => Err(Error::environment("interrupted").into()),
    };
    let removed =
        events.step("remove-probes", None).run(async |_| Ok(Outcome::changed(servers.remove().await?))).await;
    drop(armed);
    let rows = rows?;
    removed?;
    Ok(Bench {
        schema_version: 1,
        environment: environment.name().to_owned(),
        started,
        istio: environment.spec.istio_versions(),
        image: options.image.clone(),
        protocol: options.protocol,
        qps: options.qps,
        connections: options.connections,
        seconds: options.seconds,
        rows,
    })
}

/// Loads the image into the nodes if the engine has it; otherwise the nodes pull it.
async fn load_image(
    environment: &Environment,
    engine: &Engine,
    plan: &Plan,
    routes: &[Route],
    options: &Options,
    events: &Events,
) -> anyhow::Result<()> {
    if image_marks::in_engine(engine, &options.image).await?.is_none() {
        return Ok(());
    }
    let is_used = |name: &str| routes.iter().any(|route| route.from == name || route.to == name);
    let clusters: Vec<_> = plan.clusters.iter().filter(|cluster| is_used(&cluster.name)).collect();
    let load = events.step("images", None).run(async |_| {
        let loaded = images::load(engine, &environment.files.root, &clusters, &[options.image.as_str()]).await?;
        Ok(Outcome { changed: loaded.iter().any(|loaded| loaded.changed), value: () })
    });
    tokio::time::timeout(options.timeout, load).await.map_err(|_| {
        Error::environment(format!("image {} not loaded after {} s", options.image, options.timeout.as_secs()))
            .hint("--timeout allows more time")
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Sources;

    fn spec(text: &str) -> Spec {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kindmesh.yaml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources { files: vec![file], directory: directory.path().into(), ..Sources::default() };
        sources.load().unwrap().spec
    }

    fn paths(text: &str) -> Vec<String> {
        let shown = |route: Route| format!("{}: {} → {}", route.path.as_str(), route.from, route.to);
        routes(&spec(text)).into_iter().map(shown).collect()
    }

    #[test]
    fn paths_follow_the_networks() {
        assert_eq!(paths("{}"), ["inside: cluster1 → cluster1", "flat: cluster1 → cluster2"]);
        assert_eq!(
            paths("topology: multi-network"),
            ["inside: cluster1 → cluster1", "gateway: cluster1 → cluster2"]
        );
        let mixed = "clusters: [{name: a, network: x}, {name: b, network: y}, {name: c, network: x}]\n\
            samples: {caller: {clusters: [a]}, producer: {clusters: [b]}}";
        assert_eq!(paths(mixed), ["inside: a → a", "flat: a → c", "gateway: a → b"]);
    }

    #[test]
    fn protocols_are_parsed() {
        assert_eq!("grpc".parse(), Ok(Protocol::Grpc));
        assert_eq!("udp".parse::<Protocol>(), Err("expected http, grpc or tcp".into()));
    }
}
