//! Brings an environment up: everything that is missing is made, what is there is kept, and a call that crosses
//! proves it. Running it again is the repair.
//!
//! ```text
//! look: files, engine ─► admit: plan/admission.rs ─► plan, take its subnets ─► carry out, a chain for each cluster ─► prove
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde::Serialize;
use tokio::sync::SetOnce;

use crate::base::counts::Counts;
use crate::base::error::Error;
use crate::base::event::{Event, Events, Outcome, round};
use crate::base::hint;
use crate::base::interrupt::Interrupt;
use crate::base::wait;
use crate::cluster::call::Answer;
use crate::cluster::environment;
use crate::cluster::mesh::remote::Reader;
use crate::diagnose::diagnosis;
use crate::diagnose::doctor;
use crate::host::docker::{Engine, image};
use crate::host::inventory as gather;
use crate::host::kind;
use crate::host::kubeconfig;
use crate::host::state::{Files, Folders, Lock};
use crate::host::trust::Root;
use crate::plan::inventory::Environment;
use crate::plan::{Plan, admission};
use crate::spec::{Loaded, Spec};

mod cluster;
mod foreign;
mod images;
mod network;
mod prove;
mod remote_secrets;
mod samples;
mod stop;
mod tools;
mod warm;

use images::Images;
use network::Planned;
use tools::Tools;
pub use warm::{Warm, warm, warm_within};

/// How `up` is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the whole may take.
    pub timeout: Duration,
    /// By whom it is told to stop at the next safe point.
    pub interrupt: Interrupt,
}

impl Default for Options {
    /// A quarter of an hour: enough for a first run that pulls every image over a slow line.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(900), interrupt: Interrupt::default() }
    }
}

/// How long a single wait may take; the whole command's time is a further bound.
const WAIT_WITHIN: Duration = Duration::from_secs(240);

/// An environment that works.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Up {
    /// What was decided.
    pub plan: Plan,
    /// The path of the kubeconfig with every cluster.
    pub kubeconfig: String,
    /// The calls that crossed, one from each cluster with a caller.
    pub calls: Vec<(String, Answer)>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Brings an environment up.
///
/// # Errors
/// Whatever keeps it from working, with the step, the evidence and the next command.
pub async fn up(loaded: &Loaded, options: &Options, folders: &Folders, events: &Events) -> anyhow::Result<Up> {
    let (started, before) = (Instant::now(), Counts::so_far());
    let late = || {
        Error::environment(format!("not up after {} s", options.timeout.as_secs())).hint(format!(
            "what was made is kept: {} goes on; --timeout gives it longer",
            hint::up_hint(loaded.spec.name.as_str())
        ))
    };
    let deadline = tokio::time::Instant::now() + options.timeout;
    let mut up = wait::within(deadline, events, run(loaded, options, deadline, folders, events), late).await?;
    up.seconds = round(started.elapsed());
    events.send(Event::counted(Counts::so_far().since(before)));
    events.send(Event::Ready {
        seconds: up.seconds,
        environment: up.plan.environment.clone(),
        kubeconfig: up.kubeconfig.clone(),
    });
    Ok(up)
}

async fn run(
    loaded: &Loaded,
    options: &Options,
    deadline: tokio::time::Instant,
    folders: &Folders,
    events: &Events,
) -> anyhow::Result<Up> {
    let waits_until = diagnosis::waits_until(deadline);
    let interrupt = &options.interrupt;
    let files = folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(loaded, environment::stored(&files)?)?;
    let engine = events.step("engine", None).run(async |_| {
        let engine = Engine::connect().await?;
        admission::machine(doctor::obstacles(&engine, &spec, &files))?;
        Ok(Outcome::unchanged(engine))
    });
    let engine = engine.await?;
    kind::require_docker_client()?;
    let lock = events.step("lock", None).run(async |step| {
        let lock = Lock::alone(&files, step).await?;
        // Before anybody looks: what still runs would make nodes again.
        kind::end_leftovers(spec.name.as_str(), &files, step).await?;
        // They would count as somebody else's, and their names are needed.
        kind::remove_strays(&engine, spec.name.as_str(), step, |node| node.created).await?;
        Ok(Outcome::unchanged(lock))
    });
    let _lock = lock.await?;
    let _armed = interrupt.arm("stopping where nothing is half-made");
    let name = spec.name.to_string();
    tokio::select! {
        up = make(loaded, spec, &engine, &files, waits_until, folders, events) => up,
        () = interrupt.requested() => Err(stop::stop(&engine, &name, &files, events).await),
    }
}

/// All that comes after the right to change the environment: looks, admits, plans and carries out. May be dropped at any
/// point.
async fn make(
    loaded: &Loaded,
    spec: Spec,
    engine: &Engine,
    files: &Files,
    waits_until: tokio::time::Instant,
    folders: &Folders,
    events: &Events,
) -> anyhow::Result<Up> {
    // What a `down` that was killed left there is only in the way of the next `down`.
    let _ = folders.sweep();
    let inventory = gather::gather(engine).await?;
    let (past, selected) = (environment::past(files)?, engine.identity());

    admission::environment(&spec, &loaded.origins, &past, &selected, &inventory)?;

    let Planned { plan, existing } = network::ensure(engine, &spec, &loaded.origins, inventory, events).await?;

    files.store_engine(&selected)?;
    environment::store(files, &spec)?;
    let run = Run {
        root: ensure_root(files, &plan, events).await?,
        tools: Tools::new(folders.cache.clone(), &plan.mesh.version, events.clone()),
        images: Images::new(engine, &plan, events),
        readers: plan.clusters.iter().map(|cluster| (cluster.name.clone(), SetOnce::new())).collect(),
        mesh_images: image::Load::new(&files.root, plan.mesh.images.iter()),
        sample_images: image::Load::new(&files.root, plan.samples.iter().map(|samples| &samples.image)),
        cache: folders.cache.clone(),
        events: events.clone(),
        engine: engine.clone(),
        files: files.clone(),
        spec,
        plan,
        existing,
        waits_until,
    };
    run.carry_out().await
}

/// What every step of one `up` shares.
struct Run {
    spec: Spec,
    plan: Plan,
    existing: Environment,
    engine: Engine,
    files: Files,
    cache: std::path::PathBuf,
    events: Events,
    tools: Tools,
    root: Root,
    images: Images,
    /// What others need to read each cluster, by its name, as soon as that is known.
    readers: BTreeMap<String, SetOnce<Reader>>,
    mesh_images: image::Load,
    sample_images: image::Load,
    waits_until: tokio::time::Instant,
}

impl Run {
    /// Makes everything that is missing, up to the call that proves it. Each cluster is a chain of its own, which waits for
    /// another's only where it needs something of it.
    async fn carry_out(self) -> anyhow::Result<Up> {
        let clusters = try_join_all(self.plan.clusters.iter().map(|cluster| self.ensure_cluster(cluster)));
        let (made, ()) = futures::try_join!(clusters, self.images.ensure_sample())?;
        let kubeconfig = kubeconfig::ensure(&self.files, &self.plan)?;
        let calls = self.prove(&made).await?;
        drop(made);
        Ok(Up { kubeconfig: kubeconfig.display().to_string(), calls, seconds: 0.0, plan: self.plan })
    }

    /// Until when a wait that begins now may last.
    fn wait_deadline(&self) -> tokio::time::Instant {
        self.waits_until.min(tokio::time::Instant::now() + WAIT_WITHIN)
    }
}

async fn ensure_root(files: &Files, plan: &Plan, events: &Events) -> anyhow::Result<Root> {
    events.step("trust", None).run(async |_| Root::ensure(&files.trust(), &plan.environment)).await
}
