//! Tests of your own services on two clusters in one mesh, with `cargo test`.
//!
//! ```no_run
//! use kindmesh::testing::Mesh;
//!
//! # const ORDERS: &str = "";
//! #[tokio::test]
//! # async fn t() {}
//! async fn orders_are_answered_by_the_other_cluster() -> anyhow::Result<()> {
//!     let mesh = Mesh::shared("checkout").await?; // created once, shared by all tests
//!     mesh.test(async |ns| {
//!         // a namespace in every cluster, in the mesh
//!         ns.apply("cluster2", ORDERS).await?;
//!         let answer = ns.call("cluster1", "http://orders:8080/").await?; // through the mesh, as a workload
//!         assert_eq!(answer.served_by.cluster, "cluster2");
//!         Ok(())
//!     })
//!     .await // cleaned after success, dumped after failure
//! }
//! ```
//!
//! [`Mesh::shared`] creates the environment, or finds it; concurrent test processes share it. It is deleted when
//! the last of them has ended, unless [`KEEP_VARIABLE`] is set. Tests run in parallel, each in its own namespace;
//! a test that affects all others, such as one that disables a link, uses [`Mesh::test_alone`].
//!
//! The futures here are not `Send`: `#[tokio::test]` and `tokio::join!` accept them, `tokio::spawn` does not.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use kube::Client;
use tokio::time::Instant;

use crate::apps::environment::{self as facade, install_tls};
use crate::base::error::Error;
use crate::base::event::Events;
use crate::cluster::environment::Environment;
use crate::cluster::fault;
use crate::cluster::lease;
use crate::cluster::workloads;
use crate::host::docker::{Engine, image, sample_image};
use crate::host::images;
use crate::host::inventory as gather;
use crate::host::state::{Directories, Lock};
use crate::lifecycle::locked;
use crate::plan::Plan;
use crate::plan::image_names::built_of;
use crate::report::Style;
use crate::report::failure::Failure;

mod answer;
mod dump;
mod faults;
mod namespace;
mod request;
mod shared;
mod users;

pub use answer::{Answer, ServedBy};
pub use k8s_openapi;
pub use kube;
pub use namespace::Namespace;
pub use request::Request;
pub use shared::KEEP_VARIABLE;
#[cfg(feature = "cli")]
pub(crate) use shared::down_when_unused;

pub use crate::base::wait::Poll;
pub use crate::cluster::fault::Kind as Fault;
pub use crate::lifecycle::deploy::{Applied, Deployed, Object, StubMade};

use users::Users;

/// The owner of the namespaces.
const PART_OF: &str = "kindmesh-testing";
/// How long a test's namespace is leased without a renewal.
const LEASE: Duration = Duration::from_secs(600);
const RENEW_INTERVAL: Duration = Duration::from_secs(180);
/// How long a test may wait for one that runs alone.
const TURN_TIMEOUT: Duration = Duration::from_secs(900);

/// A cluster of the mesh.
#[derive(Clone)]
pub struct Side {
    /// Its name.
    pub name: String,
    /// A client for its API server.
    pub client: Client,
    spec: crate::spec::Cluster,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Side({})", self.name)
    }
}

/// An environment that tests run on.
#[derive(Debug, Clone)]
pub struct Mesh {
    environment: Environment,
    engine: Engine,
    plan: Plan,
    sides: Vec<Side>,
    users: Users,
    /// The image of the callers.
    image: String,
}

impl Mesh {
    /// Returns the environment of that name, shared by all tests of all processes: created unless it exists, from
    /// the spec that `kindmesh up` would use in the working directory. In a shell with the variables of `kindmesh
    /// env`, it returns that environment unchanged.
    ///
    /// # Errors
    /// What makes `up` fail.
    pub async fn shared(name: &str) -> anyhow::Result<Self> {
        install_tls();
        let (folders, environment) = shared::environment(name).await?;
        Self::of(&folders, environment).await
    }

    /// Returns a running environment unchanged; it is never deleted.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn open(environment: &facade::Environment) -> anyhow::Result<Self> {
        Self::of(&environment.folders, environment.opened.clone()).await
    }

    async fn of(folders: &Directories, environment: Environment) -> anyhow::Result<Self> {
        locked::require_running(environment.name(), &environment.cluster_names()).await?;
        let (engine, plan) = shared::plan(&environment).await?;
        let mut sides = Vec::new();
        for spec in &environment.spec.clusters {
            let client = environment.client(spec.name.as_str()).await?;
            sides.push(Side { name: spec.name.to_string(), client, spec: spec.clone() });
        }
        let users = Users::of(folders, environment.name());
        let image = caller_image(&environment, &engine, &plan, &sides).await?;
        let mesh = Self { environment, engine, plan, sides, users, image };
        // What a killed test that ran alone had disabled.
        if let Some(_alone) = mesh.users.try_alone()? {
            mesh.end_faults().await?;
        }
        Ok(mesh)
    }

    /// Returns the clusters.
    pub fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// Returns the cluster of that name.
    ///
    /// # Errors
    /// A usage error that lists the existing clusters.
    pub fn side(&self, cluster: &str) -> Result<&Side, Error> {
        self.environment.cluster(cluster)?;
        let found = self.sides.iter().find(|side| side.name == cluster);
        found.ok_or_else(|| Error::usage(format!("no cluster {cluster}")))
    }

    /// Builds an image from a program and its libraries, for use in manifests. An unchanged program changes
    /// nothing.
    ///
    /// # Errors
    /// If the program cannot run or be read; otherwise the engine's errors.
    pub async fn image(&self, name: &str, program: impl AsRef<Path>) -> anyhow::Result<()> {
        images::of_program(&self.engine, name, program.as_ref()).await.map(drop)
    }

    /// Runs a test in its own namespace, which exists in every cluster and is in the mesh. After a success it is
    /// deleted; after a failure or a panic, evidence is written to a directory, and it is deleted too, unless
    /// [`KEEP_VARIABLE`] is set.
    ///
    /// # Errors
    /// The test's own error, with the path of the evidence; or why its namespace could not be created.
    ///
    /// # Panics
    /// If the test panics.
    pub async fn test(&self, body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.run(false, body).await
    }

    /// The same while no other test of any process runs: for tests that affect all others, such as one that
    /// disables a link. All links are enabled at the end.
    ///
    /// # Errors
    /// As for [`Mesh::test`].
    ///
    /// # Panics
    /// If the test panics.
    pub async fn test_alone(
        &self,
        body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.run(true, body).await
    }

    async fn run(
        &self,
        alone: bool,
        body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let step = Events::silent().step("lock", None);
        let _turn = self.users.take_part(alone, &step, Instant::now() + TURN_TIMEOUT).await?;
        let namespace = Namespace::make(self, alone).await?;
        let work = AssertUnwindSafe(body(&namespace)).catch_unwind();
        let ended = tokio::select! {
            ended = work => ended,
            never = self.renew(&namespace) => match never {},
        };
        let failure = match &ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure::of(error).render(Style::plain())),
            Err(panic) => Some(said(panic.as_ref())),
        };
        let dumped = match &failure {
            Some(failure) => Some(dump::dump(&namespace, failure).await),
            None => None,
        };
        let ended_faults = if alone { self.end_faults().await } else { Ok(()) };
        let kept = failure.is_some() && shared::keeps();
        let removed = if kept { Ok(()) } else { namespace.remove().await };
        match ended {
            Ok(Ok(())) => {
                ended_faults?;
                removed
            }
            Ok(Err(error)) => Err(match dumped {
                Some(dumped) => error.context(dumped),
                None => error,
            }),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Renews the lease of a namespace, forever.
    async fn renew(&self, namespace: &Namespace) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval_at(Instant::now() + RENEW_INTERVAL, RENEW_INTERVAL);
        loop {
            ticks.tick().await;
            for side in &self.sides {
                // The next tick retries, and the lease lasts for three of them.
                let _ = lease::renew(&side.client, namespace.name(), LEASE).await;
            }
        }
    }

    /// Ends every fault that a test injected.
    async fn end_faults(&self) -> anyhow::Result<()> {
        fault::clear(&self.engine, &self.plan).await.map(drop)
    }

    /// Locks the environment for one change in its clusters: a test may pause the environment afterwards.
    async fn lock_shared(&self) -> anyhow::Result<Lock> {
        locked::shared(&self.environment.files, self.environment.name(), None, &Events::silent()).await
    }

    fn clients(&self) -> Vec<(&str, &Client)> {
        self.sides.iter().map(|side| (side.name.as_str(), &side.client)).collect()
    }
}

/// Returns the message of a panic.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the test panicked".into())
}

/// Returns the image of the callers: the samples' if there are any, else one of the executable's, loaded into the
/// nodes.
async fn caller_image(
    environment: &Environment,
    engine: &Engine,
    plan: &Plan,
    sides: &[Side],
) -> anyhow::Result<String> {
    if let Some(samples) = &environment.spec.samples.enabled.then_some(&environment.spec.samples) {
        let caller = samples.caller.clusters.first().map(ToString::to_string);
        let side =
            sides.iter().find(|side| Some(&side.name) == caller.as_ref()).context("no cluster has a caller")?;
        return workloads::sample_image(&side.client, environment).await;
    }
    let executable = sample_image::executable().await.ok_or_else(|| {
        Error::prerequisite("no kindmesh executable to build the callers' image from")
            .hint("install it: cargo install kindmesh; or set KINDMESH_EXE")
    })?;
    let described = gather::executable().await?.context("no executable")?;
    let image = built_of(&described);
    sample_image::ensure_named(engine, &image, &executable).await?;
    let _lock = locked::shared(&environment.files, environment.name(), None, &Events::silent()).await?;
    let load = image::Load::new(&environment.files.root, [&image]);
    for node in plan.clusters.iter().flat_map(|cluster| cluster.nodes()) {
        let missing = load.missing_on(engine, node).await?;
        load.bring(engine, node, missing).await?;
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_messages_are_read() {
        let caught = |work: fn()| std::panic::catch_unwind(work).unwrap_err();
        assert_eq!(said(caught(|| panic!("plain")).as_ref()), "plain");
        assert_eq!(said(caught(|| panic!("with {}", 1)).as_ref()), "with 1");
    }
}
