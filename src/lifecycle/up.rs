//! Brings an environment up: everything that is missing is made, what is there is kept, and a call that crosses
//! proves it. Running it again is the repair.

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
use crate::host::docker::{Engine, image, network};
use crate::host::inventory as gather;
use crate::host::kind;
use crate::host::kubeconfig;
use crate::host::state::{EngineIdentity, Files, Folders, Lock};
use crate::host::trust::Root;
use crate::plan::inventory::{Environment, Inventory, Taken};
use crate::plan::{self, Plan};
use crate::spec::{Loaded, Spec};

mod cluster;
mod foreign;
mod images;
mod prove;
mod samples;
mod stop;
mod tools;
mod warm;

use images::Images;
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
/// How often a plan is made again when another process takes a planned subnet first.
const PLANS: usize = 5;

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
    let spec = environment::wanted(loaded, &files)?;
    let engine = events.step("engine", None).run(async |_| {
        let engine = Engine::connect().await?;
        doctor::preflight(&engine, &spec, &files)?;
        Ok(Outcome::unchanged(engine))
    });
    let engine = engine.await?;
    kind::require_docker_client()?;
    let lock = events.step("lock", None).run(async |step| {
        let lock = Lock::acquire(&files, step).await?;
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

/// All that comes after the right to change the environment: may be dropped at any point.
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
    let identity = EngineIdentity::of(&engine.facts, &engine.endpoint.host);
    let has_nodes = inventory.environments.get(spec.name.as_str()).is_some_and(|found| !found.nodes.is_empty());
    identity.refuse_another(spec.name.as_str(), files, has_nodes)?;
    environment::refuse_changes(&spec, &loaded.origins, files, &inventory)?;
    let (plan, inventory) = ensure_network(engine, loaded, &spec, events).await?;
    identity.store(files)?;
    environment::store(files, &spec)?;

    let run = Run {
        existing: inventory.environments.get(&plan.environment).cloned().unwrap_or_default(),
        root: ensure_root(files, &plan, events).await?,
        tools: Tools::new(folders.cache.clone(), &plan.mesh.version, events.clone()),
        images: Images::new(engine, &plan, events),
        readers: plan.clusters.iter().map(|cluster| (cluster.name.clone(), SetOnce::new())).collect(),
        mesh_images: image::Load::new(&files.root, plan.mesh.images.iter()),
        sample_images: image::Load::new(&files.root, plan.samples.iter().map(|samples| &samples.image)),
        spec,
        cache: folders.cache.clone(),
        events: events.clone(),
        engine: engine.clone(),
        files: files.clone(),
        plan,
        waits_until,
    };
    // Each cluster a chain of its own, which waits for another's only where it needs something of it.
    let clusters = try_join_all(run.plan.clusters.iter().map(|cluster| run.ensure_cluster(cluster)));
    let (made, ()) = futures::try_join!(clusters, run.images.ensure_sample())?;
    let kubeconfig = kubeconfig::ensure(&run.files, &run.plan)?;
    let calls = run.prove(&made).await?;
    Ok(Up { kubeconfig: kubeconfig.display().to_string(), calls, seconds: 0.0, plan: run.plan })
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
    /// Until when a wait that begins now may last.
    fn wait_deadline(&self) -> tokio::time::Instant {
        self.waits_until.min(tokio::time::Instant::now() + WAIT_WITHIN)
    }
}

/// Plans, and takes the planned subnet by making the network. If another process took it first, plans again.
async fn ensure_network(
    engine: &Engine,
    loaded: &Loaded,
    spec: &Spec,
    events: &Events,
) -> anyhow::Result<(Plan, Inventory)> {
    events
        .step("network", None)
        .run(async |_| {
            let executable = gather::executable().await?;
            let mut refused: Vec<Taken> = Vec::new();
            for _ in 0..PLANS {
                let mut inventory = gather::gather(engine).await?;
                inventory.executable = executable.clone();
                inventory.taken.extend(refused.iter().cloned());
                let plan = plan::plan(spec, &inventory).map_err(|error| loaded.origins.place(error))?;
                foreign::refuse(engine, &plan, &inventory).await?;
                let existing = inventory.environments.get(&plan.environment);
                let have = existing.map(|found| found.networks.clone()).unwrap_or_default();
                let made = network::ensure(engine, &plan.network, &have).await?;
                if made.value == network::Made::Yes {
                    return Ok(Outcome { value: (plan, inventory), changed: made.changed });
                }
                // The engine gives a subnet away some time before it lists the network.
                let planned =
                    std::iter::once(plan.network.subnet).chain(plan.network.registers.iter().map(|r| r.subnet));
                refused.extend(planned.map(|subnet| Taken { subnet, by: "another process".into() }));
            }
            Err(Error::environment(format!("{PLANS} planned subnets in turn were taken by others"))
                .hint("set network.subnet in kindmesh.yaml to one that is free: docker network ls")
                .into())
        })
        .await
}

async fn ensure_root(files: &Files, plan: &Plan, events: &Events) -> anyhow::Result<Root> {
    events.step("trust", None).run(async |_| Root::ensure(&files.trust(), &plan.environment)).await
}
