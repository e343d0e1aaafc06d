//! One environment for all test processes: the first one creates it, and a separate process deletes it after the
//! last one, when it sees that there are no users anymore, however they ended.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::users::{Held, Users, made_by_tests};
use crate::base::error::Error;
use crate::base::event::Events;
use crate::cluster::environment::Environment;
use crate::cluster::mesh::{ISTIO_NAMESPACE, istio, remote};
use crate::cluster::rollout::{Rollout, Workload};
use crate::host::docker::{Engine, sample_image};
use crate::host::inventory as gather;
use crate::host::state::{self, Directories};
use crate::lifecycle::down;
use crate::lifecycle::locked;
use crate::lifecycle::up::{self, up};
use crate::plan::admission;
use crate::report::{ColorChoice, Printer, Verbosity};
use crate::spec::load::{FILES_VARIABLE, NAME_VARIABLE};
use crate::spec::{Label, Loaded, Sources, environment_name};

/// If set, the environment and the namespaces of failed tests are kept for inspection.
pub const KEEP_VARIABLE: &str = "KINDMESH_KEEP";
/// How long an environment must be unused before it is deleted: test programs follow each other.
const GRACE: Duration = Duration::from_secs(10);
/// How long a process may wait for another one to create or delete the environment.
const JOIN_TIMEOUT: Duration = Duration::from_secs(900);
/// How long a test run may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Whether to keep what tests create.
pub(super) fn keeps() -> bool {
    std::env::var_os(KEEP_VARIABLE).is_some_and(|value| !value.is_empty() && value != "0")
}

/// The locks of this process, by environment, until it ends.
static HELD: Mutex<BTreeMap<String, Arc<OnceCell<Held>>>> = Mutex::new(BTreeMap::new());

/// Returns the running environment of that name; or the one that `kindmesh env` selected. Created once in a
/// process, by the first caller.
pub(super) async fn environment(name: &str) -> anyhow::Result<(Directories, Environment)> {
    let folders = Directories::of_process()?;
    let selected = std::env::var(NAME_VARIABLE).ok().filter(|name| !name.is_empty());
    if let Some(selected) = selected {
        let environment = Environment::open(&folders, &selected)?;
        return Ok((folders, environment));
    }
    let name = environment_name(name)
        .map_err(|error| Error::usage(format!("{name:?} is not a valid environment name: {error}")))?;
    let cell = HELD.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_string()).or_default().clone();
    cell.get_or_try_init(|| ensure(&folders, &name)).await?;
    let environment = Environment::open(&folders, name.as_str())?;
    Ok((folders, environment))
}

/// Registers this process as a user of the environment, and creates it if it does not exist or does not work.
async fn ensure(folders: &Directories, name: &Label) -> anyhow::Result<Held> {
    let sources = Sources {
        directory: std::env::current_dir().context("reading the working directory")?,
        variable: std::env::var_os(FILES_VARIABLE),
        environment: None,
        files: Vec::new(),
        name: Some(name.clone()),
    };
    let loaded = sources.load()?;
    let users = Users::of(folders, name.as_str());
    let step = Events::silent().step("lock", None);
    let held = users.join(&step, Instant::now() + JOIN_TIMEOUT).await?;
    let files = folders.environment(name.as_str());
    let mark = made_by_tests(&files.root);
    match (keeps(), files.exist()) {
        // From now on it belongs to the user.
        (true, _) => drop(std::fs::remove_file(&mark)),
        (false, true) => {}
        (false, false) => drop(state::write_private(&mark, b"")?),
    }
    if mark.exists() {
        watch(&users, name).await?;
    }
    if !works(folders, &loaded).await {
        let printer = Printer::new(Verbosity::Normal, ColorChoice::Auto);
        printer.progress(&format!("kindmesh: creating environment {name}, which takes about a minute"));
        let up = up(&loaded, &up::Options::default(), folders, &Events::silent()).await?;
        printer.progress(&format!("kindmesh: environment {name} ready after {:.0} s", up.seconds));
    }
    Ok(held)
}

/// Whether the environment exists and matches the spec, and every istiod is ready and synced with its peers. Takes
/// less than a second, and avoids another `up`.
async fn works(folders: &Directories, loaded: &Loaded) -> bool {
    let look = async {
        let name = loaded.spec.name.as_str();
        let environment = Environment::open(folders, name)?;
        let wanted = admission::spec(loaded, Some(environment.spec.clone()))?;
        anyhow::ensure!(wanted == environment.spec, "the spec differs");
        let names = environment.cluster_names();
        locked::require_running(name, &names).await?;
        let is_primary = |name: &&&str| {
            environment
                .spec
                .clusters
                .iter()
                .any(|c| c.name.as_str() == **name && environment.spec.primary_of(c).is_none())
        };
        for cluster in names.iter().filter(is_primary) {
            let client = environment.client(cluster).await?;
            let istiod = Workload::deployment(ISTIO_NAMESPACE, istio::ISTIOD);
            let live = istiod.get(&client).await?.context("istiod is missing")?;
            anyhow::ensure!(Rollout::of(istiod.kind, &live) == Rollout::Ready, "istiod is not ready");
            let peers: Vec<&str> = names.iter().copied().filter(|peer| peer != cluster).collect();
            anyhow::ensure!(remote::unsynced(&client, &peers).await?.is_empty(), "the clusters are not connected");
        }
        Ok(())
    };
    matches!(tokio::time::timeout(Duration::from_secs(10), look).await, Ok(Ok(())))
}

/// Starts the process that deletes the environment when it is unused.
async fn watch(users: &Users, name: &Label) -> anyhow::Result<()> {
    let Some(kindmesh) = sample_image::executable().await else {
        return Err(Error::prerequisite("no kindmesh executable to delete the tests' environment with")
            .hint("install it: cargo install kindmesh; or set KINDMESH_EXE")
            .into());
    };
    let log = users.log();
    let what = || format!("starting {} to delete the environment at the end", kindmesh.display());
    let out = std::fs::File::create(&log).with_context(what)?;
    let mut command = Command::new(&kindmesh);
    command
        .args(["down", "--when-unused", "--name", name.as_str()])
        .stdin(Stdio::null())
        .stdout(out.try_clone().with_context(what)?)
        .stderr(out)
        // A Ctrl-C that ends the tests must not reach it.
        .process_group(0);
    command.spawn().map(drop).with_context(what)
}

/// The work of the process that tests start: waits until the environment is unused, and deletes it if tests
/// created it and it is not to be kept. Returns whether it did.
///
/// # Errors
/// As for [`down::down`].
pub async fn down_when_unused(folders: &Directories, name: &str, events: &Events) -> anyhow::Result<bool> {
    let users = Users::of(folders, name);
    let Some(_watching) = users.try_watch()? else { return Ok(false) };
    let step = events.step("unused", None);
    let _alone = users.unused(GRACE, &step, Instant::now() + RUN_TIMEOUT).await?;
    if !is_made_by_tests(&folders.environment(name).root) {
        return Ok(false);
    }
    let deadline = Instant::now() + RUN_TIMEOUT;
    down::down(folders, name, deadline, events).await.map(|down| down.any)
}

fn is_made_by_tests(root: &Path) -> bool {
    made_by_tests(root).exists()
}

/// Returns the plan of an existing environment, and its engine.
pub(super) async fn plan(environment: &Environment) -> anyhow::Result<(Engine, crate::plan::Plan)> {
    let engine = Engine::connect().await?;
    let plan = environment.plan(&engine, gather::gather(&engine).await?)?;
    Ok((engine, plan))
}
