//! Creates an environment: everything missing is created, everything else is kept, and a cross-cluster call
//! verifies the result. Running it again repairs the environment.
//!
//! ```text
//! inspect: files, engine ─► admit: plan/admission.rs ─► plan, claim its subnets ─► execute, a chain per cluster ─► verify
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;
use serde::Serialize;
use tokio::sync::SetOnce;

use crate::base::counts::Counts;
use crate::base::error::Error;
use crate::base::event::{Event, Events, Outcome, round};
use crate::base::interrupt::Interrupt;
use crate::base::wait;
use crate::cluster::call::Answer;
use crate::cluster::environment;
use crate::cluster::fault;
use crate::diagnose::diagnosis;
use crate::diagnose::doctor;
use crate::host::docker::{Engine, image};
use crate::host::inventory as gather;
use crate::host::kind;
use crate::host::kubeconfig;
use crate::host::outage;
use crate::host::snapshot::{Store, pending};
use crate::host::state::{Directories, Files, Lock};
use crate::host::trust::Authority;
use crate::lifecycle::down;
use crate::lifecycle::snapshot::restore_state;
use crate::plan::inventory::{Environment, Inventory};
use crate::plan::{self, Cluster, Plan, admission};
use crate::spec::{Loaded, Spec};

mod cluster;
mod control_plane;
mod diff;
mod existing;
mod images;
mod network;
mod nodes;
mod prove;
mod reach;
mod remote_secrets;
mod removal;
mod samples;
mod stop;
mod template;
mod tools;
mod unlabeled;
mod warm;

pub use diff::diff;
use existing::Connected;
pub use existing::{Ask, Consent, Existing, inspect};
use images::Images;
use network::Planned;
use remote_secrets::Published;
pub use template::Origin;
use template::{Source, Templates, Unusable};
use tools::Tools;
pub use warm::{Warm, warm, warm_within};

/// Options of `up`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The timeout of the whole run.
    pub timeout: Duration,
    /// Requests a stop at the next consistent state.
    pub interrupt: Interrupt,
    /// Where missing clusters come from.
    pub origin: Origin,
    /// Whether clusters that the spec no longer lists are deleted.
    pub prune: bool,
    /// How the user agrees to changes of clusters that exist.
    pub consent: Consent,
}

impl Default for Options {
    /// 15 minutes: enough for a first run that pulls every image over a slow line.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(900),
            interrupt: Interrupt::default(),
            origin: Origin::default(),
            prune: false,
            consent: Consent::default(),
        }
    }
}

/// The timeout of a single wait, in addition to the timeout of the command.
const WAIT_TIMEOUT: Duration = Duration::from_secs(240);

/// A working environment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Up {
    /// The plan.
    pub plan: Plan,
    /// The path of the kubeconfig with every cluster.
    pub kubeconfig: String,
    /// The verified calls, one from each cluster with a caller.
    pub calls: Vec<(String, Answer)>,
    /// The duration, in seconds.
    pub seconds: f64,
}

/// Creates or repairs an environment.
///
/// # Errors
/// The failed step, with the evidence and the next command.
pub async fn up(loaded: &Loaded, options: &Options, folders: &Directories, events: &Events) -> anyhow::Result<Up> {
    let (started, before) = (Instant::now(), Counts::so_far());
    let late = || {
        let late = Error::environment(format!("not ready after {} s", options.timeout.as_secs()));
        late.hint(format!("{}; --timeout allows more time", options.origin.next(loaded.spec.name.as_str())))
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
    folders: &Directories,
    events: &Events,
) -> anyhow::Result<Up> {
    let waits_until = diagnosis::waits_until(deadline);
    let interrupt = &options.interrupt;
    let files = folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(loaded, environment::stored(&files)?)?;
    // Before the spec is stored.
    Authority::check(&spec)?;
    let engine = connect(&spec, &files, events).await?;
    let lock = events.step("lock", None).run(async |step| {
        let lock = Lock::exclusive(&files, step).await?;
        if let Some(engine) = &engine {
            // Before the inventory: a kind that is still running, or the engine, would create more nodes.
            kind::end_leftovers(spec.name.as_str(), &files, step).await?;
            pending::settle(engine, &files, step).await?;
            // Strays would count as unlabeled containers, and `up` needs their names.
            kind::remove_strays(engine, spec.name.as_str(), step, |node| node.created).await?;
        }
        Ok(Outcome::unchanged(lock))
    });
    let _lock = lock.await?;
    let existing = Existing::admitted(&spec, loaded, &files, options, events).await?;
    let _armed = interrupt.arm("stopping at a consistent state");
    let name = spec.name.to_string();
    let engine = engine.as_ref();
    let work = Work { loaded, engine, existing: &existing, files: &files, waits_until, folders, events, options };
    tokio::select! {
        up = work.make_or_start_over(spec, &options.origin) => up,
        () = interrupt.requested() => Err(stop::stop(engine, &name, &files, &options.origin, events).await),
    }
}

/// Connects to the engine, if kind creates any of the clusters.
async fn connect(spec: &Spec, files: &Files, events: &Events) -> anyhow::Result<Option<Engine>> {
    if !spec.has_kind_clusters() {
        return Ok(None);
    }
    let engine = events.step("engine", None).run(async |_| {
        let engine = Engine::connect().await?;
        admission::machine(doctor::obstacles(&engine, spec, files))?;
        Ok(Outcome::unchanged(engine))
    });
    let engine = engine.await?;
    kind::require_docker_client()?;
    Ok(Some(engine))
}

/// What one `up` works with, under the lock.
#[derive(Clone, Copy)]
struct Work<'a> {
    loaded: &'a Loaded,
    /// None if all clusters exist already.
    engine: Option<&'a Engine>,
    existing: &'a Existing,
    files: &'a Files,
    waits_until: tokio::time::Instant,
    folders: &'a Directories,
    events: &'a Events,
    options: &'a Options,
}

impl Work<'_> {
    /// Creates everything anew if a template of another environment turns out to be unusable.
    async fn make_or_start_over(self, spec: Spec, origin: &Origin) -> anyhow::Result<Up> {
        let error = match self.make(spec.clone(), origin).await {
            Err(error) if error.downcast_ref::<Unusable>().is_some() => error,
            made => return made,
        };
        let engine = self.engine.context("only clusters that kind creates come from a template")?;
        let found = gather::gather(engine).await?.environments.remove(spec.name.as_str());
        down::remove(engine, spec.name.as_str(), found, self.events).await?;
        if let Some(Unusable(key)) = error.downcast_ref() {
            Store::new(self.folders.templates()).remove(key)?;
        }
        self.make(spec, &Origin::Fresh).await
    }

    /// Everything that runs under the lock: inspect, admit, plan and execute. May be dropped at any point.
    async fn make(self, spec: Spec, origin: &Origin) -> anyhow::Result<Up> {
        let Self { files, waits_until, folders, events, .. } = self;
        // Best effort: files left by a killed `down` block only the next `down`.
        let _ = folders.sweep();
        let (plan, on_engine) = match self.engine {
            Some(engine) => {
                let (plan, on_engine) = self.plan_on(engine, &spec, origin).await?;
                (plan, Some(on_engine))
            }
            None => {
                let inventory = Inventory { existing: self.existing.known(), ..Inventory::default() };
                (plan::plan(&spec, &inventory).map_err(|error| self.loaded.origins.place(error))?, None)
            }
        };
        environment::store(files, &spec)?;
        self.existing.store(&spec, files)?;
        if let Some(Source::Snapshot(snapshot)) = on_engine.as_ref().map(|on| &on.templates.source) {
            restore_state(snapshot, files)?;
        }
        let run = Run {
            authority: ensure_trust(files, &spec, &plan, events).await?,
            tools: Tools::new(folders.cache.clone(), &plan, events.clone()),
            control_planes: plan.clusters.iter().map(|c| (c.name.clone(), SetOnce::new())).collect(),
            sample_loaded: plan.kind_clusters().map(|(c, _)| (c.name.clone(), SetOnce::new())).collect(),
            readers: plan.clusters.iter().map(|cluster| (cluster.name.clone(), SetOnce::new())).collect(),
            events: events.clone(),
            files: files.clone(),
            connected: self.existing.connected(),
            reached: SetOnce::new(),
            spec,
            plan,
            on_engine,
            waits_until,
        };
        run.carry_out().await
    }

    /// Plans the clusters that kind creates, too, and creates their network.
    async fn plan_on(self, engine: &Engine, spec: &Spec, origin: &Origin) -> anyhow::Result<(Plan, OnEngine)> {
        let Self { loaded, files, folders, events, .. } = self;
        let gathered = async || {
            let inventory = gather::gather(engine).await?;
            let executable = gather::executable().await?;
            anyhow::Ok(Inventory { executable, existing: self.existing.known(), ..inventory })
        };
        let mut inventory = gathered().await?;
        let (past, selected) = (environment::past(files)?, engine.identity());

        admission::environment(spec, &loaded.origins, &past, &selected, &inventory)?;
        admission::removal(spec, past.spec.as_ref(), &inventory, self.options.prune)?;

        let store = Store::new(folders.templates());
        let mut source = Source::of(origin, engine, spec, &inventory, &store, events).await?;
        if let (Source::Kind, Some(existing)) = (&source, inventory.environments.get(spec.name.as_str()))
            && existing.nodes.is_empty()
            && !existing.identities.is_empty()
        {
            // Its template is gone, and the labels of its network still say that its clusters come from there.
            down::remove(engine, spec.name.as_str(), Some(existing.clone()), events).await?;
            inventory = gathered().await?;
        }
        let templates = inventory.clone();
        let Planned { plan, existing } =
            network::ensure(engine, spec, &loaded.origins, inventory, &mut source, events).await?;

        if !existing.nodes.is_empty() {
            outage::none_held(files)?;
            fault::none_active(engine, &plan).await?;
        }
        files.store_engine(&selected)?;
        let on_engine = OnEngine {
            images: Images::new(engine, &plan, events),
            mesh_images: mesh_images(files, &plan),
            sample_images: image::Load::new(&files.root, plan.samples.iter().map(|samples| &samples.image)),
            templates: Templates::new(store, source, templates),
            engine: engine.clone(),
            existing,
        };
        Ok((plan, on_engine))
    }
}

/// The container engine, and what `up` uses it for.
struct OnEngine {
    engine: Engine,
    /// The existing part of the environment.
    existing: Environment,
    images: Images,
    /// Istio's images, by their names: those of a remote cluster differ from those of its primary.
    mesh_images: BTreeMap<Vec<String>, image::Load>,
    sample_images: image::Load,
    templates: Templates,
}

/// The state that all steps of one `up` share.
struct Run {
    spec: Spec,
    plan: Plan,
    /// None if all clusters exist already.
    on_engine: Option<OnEngine>,
    /// The connections to clusters that exist, by name.
    connected: BTreeMap<String, Connected>,
    files: Files,
    events: Events,
    tools: Tools,
    /// None if all clusters have a secret cacerts of another owner.
    authority: Option<Authority>,
    /// What peers need to read each cluster, by cluster name; set as soon as it is known.
    readers: BTreeMap<String, SetOnce<Published>>,
    /// The clusters that kind creates; set when their nodes have the sample image.
    sample_loaded: BTreeMap<String, SetOnce<()>>,
    /// The revision of the CA of each primary, by cluster name; set when its istiod serves remote clusters.
    control_planes: BTreeMap<String, SetOnce<String>>,
    /// Set when istiods may get remote secrets.
    reached: SetOnce<()>,
    waits_until: tokio::time::Instant,
}

impl Run {
    /// Creates everything that is missing, up to the verified call. Each cluster is a chain of steps that waits for
    /// another chain only when it needs its result.
    async fn carry_out(self) -> anyhow::Result<Up> {
        self.refuse_foreign().await?;
        let clusters = try_join_all(self.plan.clusters.iter().map(|cluster| self.ensure_cluster(cluster)));
        let (made, (), ()) = futures::try_join!(clusters, self.ensure_sample_built(), self.ensure_reaching())?;
        outage::forget_orphans(&self.files)?;
        self.remove_clusters(&made).await?;
        let kubeconfig = kubeconfig::ensure(&self.files, &self.plan)?;
        let calls = self.prove(&made).await?;
        self.ensure_saved_workloads(&made).await?;
        self.keep_template(&made).await?;
        drop(made);
        Ok(Up { kubeconfig: kubeconfig.display().to_string(), calls, seconds: 0.0, plan: self.plan })
    }

    /// Returns the container engine, and what is used of it.
    ///
    /// # Errors
    /// A usage error if all clusters exist already.
    fn on_engine(&self) -> anyhow::Result<&OnEngine> {
        self.plan.docker()?;
        self.on_engine.as_ref().context("not connected to the engine")
    }

    /// Returns who signs the intermediate CAs.
    fn authority(&self) -> anyhow::Result<&Authority> {
        self.authority.as_ref().context("the clusters have certificates of another owner")
    }

    fn engine(&self) -> Option<&Engine> {
        self.on_engine.as_ref().map(|on| &on.engine)
    }

    async fn ensure_sample_built(&self) -> anyhow::Result<()> {
        match &self.on_engine {
            Some(on) => on.images.ensure_sample().await,
            None => Ok(()),
        }
    }

    /// Returns the deadline of a wait that begins now.
    fn wait_deadline(&self) -> tokio::time::Instant {
        self.waits_until.min(tokio::time::Instant::now() + WAIT_TIMEOUT)
    }
}

fn mesh_images(files: &Files, plan: &Plan) -> BTreeMap<Vec<String>, image::Load> {
    let of = |cluster: &Cluster| image::Load::new(&files.root, &cluster.istio_images);
    plan.kind_clusters().map(|(cluster, _)| (cluster.istio_images.clone(), of(cluster))).collect()
}

async fn ensure_trust(
    files: &Files,
    spec: &Spec,
    plan: &Plan,
    events: &Events,
) -> anyhow::Result<Option<Authority>> {
    if plan.clusters.iter().all(Cluster::has_cacerts) {
        return Ok(None);
    }
    let ensured = events.step("trust", None).run(async |_| Authority::ensure(&files.trust(), spec));
    ensured.await.map(Some)
}
