//! Gathers all facts in parallel. Nothing is changed, and what does not respond in time is recorded as such.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use bollard::query_parameters::ListImagesOptionsBuilder;
use futures::future::join_all;
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};

use super::facts::{
    Client, Facts, Firewall, Leftovers, LookedFor, Proxy, RegistryAnswer, Space, Wanted, WantedImage,
};
use super::{host, state};
use crate::base::blocking::elsewhere;
use crate::base::error::Error;
use crate::cluster::environment;
use crate::host::docker::endpoint::Surroundings;
use crate::host::docker::{self, Engine, bake, credentials, is_not_found, sample_image};
use crate::host::kind;
use crate::host::state::{Directories, Files, Lock};
use crate::host::tool::{self, process};
use crate::plan::engine::EngineIdentity;
use crate::plan::image_names::reference;
use crate::plan::inventory::{Executable, Inventory};
use crate::plan::{self, Plan, admission};
use crate::spec::{Origins, Spec, distinct};

/// How long a program that only prints may take: the firewall's rules, or a version.
const PRINT_TIMEOUT: Duration = Duration::from_millis(500);

/// Gathers everything that decides whether `up` works for this spec. A tenth of the time is reserved for starting
/// and ending the command.
pub async fn gather(spec: &Spec, origins: &Origins, folders: &Directories, within: Duration) -> Facts {
    let within = within * 9 / 10;
    let deadline = Instant::now() + within;
    let mut facts = Facts {
        no_client: kind::require_docker_client().err(),
        host: host::look(host::PROC.as_ref()),
        state: state::look(&folders.environment(spec.name.as_str()).root),
        proxy: proxy(|name| std::env::var(name).ok()),
        left: Leftovers { readable: state::readable(folders), ..Leftovers::default() },
        ..Facts::default()
    };
    // Reads a file of many megabytes.
    let executable = tokio::spawn(crate::host::inventory::executable());
    let tools = tools(spec, &folders.cache, deadline);
    let engine = async {
        match Engine::try_connect(within).await {
            Ok(engine) => {
                facts.engine = Some(engine.facts.clone());
                facts.disk = engine_disk(&facts);
                facts.image_disk = image_disk(&facts);
                let executable = executable.await.unwrap_or_else(|error| Err(error.into()));
                let all = of_engine(&engine, (spec, origins), folders, executable, &mut facts, deadline);
                if timeout_at(deadline, all).await.is_err() {
                    facts.unseen.push("containers and networks of the engine: no response in time".into());
                }
            }
            Err(refused) => facts.refused = Some(refused),
        }
    };
    let ((), tools) = futures::join!(engine, tools);
    facts.tools = tools;
    facts.wanted = Wanted::of(spec, facts.wanted.exists);
    facts
}

/// The disk of the engine's directory, if it is on this host.
pub(super) fn engine_disk(facts: &Facts) -> Option<Space> {
    facts.same_machine()?;
    host::space(Path::new(&facts.engine.as_ref()?.folder))
}

/// The disk of the images, if containerd stores them and its directory is on this host, on another disk than the engine's.
fn image_disk(facts: &Facts) -> Option<Space> {
    facts.same_machine()?;
    let engine = facts.engine.as_ref()?;
    let config = std::fs::read_to_string("/etc/containerd/config.toml").unwrap_or_default();
    let folder = containerd_folder(engine.containerd.as_ref()?, &config)?;
    let disk = |folder: &Path| std::fs::metadata(folder).ok().map(|found| found.dev());
    let (images, own) = (disk(&folder)?, disk(Path::new(&engine.folder))?);
    if images == own { None } else { host::space(&folder) }
}

/// Returns the directory of a containerd that runs beside the engine. One that the engine itself started stores its data in the
/// engine's directory.
fn containerd_folder(address: &str, config: &str) -> Option<PathBuf> {
    if address.contains("/docker/") {
        return None;
    }
    // The keys before the first table.
    let keys = config.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    let values = keys.filter_map(|line| line.split_once('=')).filter(|(key, _)| key.trim() == "root");
    let root = values.map(|(_, value)| value.trim().trim_matches(['"', '\''])).find(|value| !value.is_empty());
    Some(root.unwrap_or("/var/lib/containerd").into())
}

/// Asks the docker client for its version, and whether this engine accepts it.
async fn client(engine: &Engine) -> Option<Client> {
    let ask = async |arguments: &[&str]| {
        let mut command = Command::new("docker");
        engine.endpoint.select(&mut command);
        process::run(command.args(arguments)).await
    };
    let (version, accepted) = futures::join!(ask(&["--version"]), ask(&["version"]));
    let version = String::from_utf8_lossy(&version.ok()?.stdout).lines().next().unwrap_or_default().to_owned();
    let refused = accepted.err().map(|error| match crate::base::error::find(&error) {
        Some(said) => said.evidence.join("; "),
        None => format!("{error:#}"),
    });
    Some(Client { version, refused })
}

async fn of_engine(
    engine: &Engine,
    wanted: (&Spec, &Origins),
    folders: &Directories,
    executable: anyhow::Result<Option<Executable>>,
    facts: &mut Facts,
    deadline: Instant,
) {
    let (spec, _) = wanted;
    let on_this_machine = facts.same_machine().is_some();
    let firewall = async { if on_this_machine { Some(firewall().await) } else { None } };
    let client = async {
        let asked = timeout(PRINT_TIMEOUT, client(engine));
        if facts.no_client.is_none() { asked.await.ok().flatten() } else { None }
    };
    let (inventory, firewall, images, client) =
        futures::join!(crate::host::inventory::gather(engine), firewall, sample_images(engine), client);
    facts.client = client;
    facts.firewall = firewall;
    let mut inventory = match inventory {
        Ok(inventory) => inventory,
        Err(error) => return facts.unseen.push(format!("containers and networks of the engine: {error:#}")),
    };
    facts.wanted.exists =
        inventory.environments.get(spec.name.as_str()).is_some_and(|found| !found.nodes.is_empty());
    let identity = engine.identity();
    let executable = executable.map(|executable| inventory.executable = executable);
    let plan = executable.and_then(|()| plan(wanted, folders, &identity, &inventory)).map_err(in_our_words);
    let current = plan.as_ref().ok().and_then(|plan| plan.samples.as_ref()).map(|samples| samples.image.clone());
    facts.left.images = images.into_iter().filter(|(name, _)| Some(name) != current.as_ref()).collect();
    facts.left.networks = networks_left(folders, &inventory);
    facts.left.files = files_left(folders, &identity, &inventory);
    // Before the registries are queried: these facts are kept if time runs out.
    facts.inventory = Some(inventory);
    if let Ok(plan) = facts.plan.insert(plan) {
        facts.images = wanted_images(engine, plan, deadline).await;
    }
}

/// Returns the plan of `up`, or why `up` would refuse.
fn plan(
    (spec, origins): (&Spec, &Origins),
    folders: &Directories,
    identity: &EngineIdentity,
    inventory: &Inventory,
) -> anyhow::Result<Plan> {
    let files = folders.environment(spec.name.as_str());
    admission::environment(spec, origins, &environment::past(&files)?, identity, inventory)?;
    Ok(plan::plan(spec, inventory)?)
}

fn in_our_words(error: anyhow::Error) -> Error {
    error.downcast().unwrap_or_else(|error| Error::environment(format!("{error:#}")))
}

/// The images that the plan needs and the engine lacks.
async fn wanted_images(engine: &Engine, plan: &Plan, deadline: Instant) -> Vec<WantedImage> {
    // An image from an archive replaces everything that could be pulled.
    let node_images = plan.node_images();
    let brought = node_images.iter().map(async |name| {
        let brought = bake::from_archive(engine, name, &plan.stable_images_on(name)).await;
        matches!(brought, Ok(Some(_)))
    });
    if join_all(brought).await.into_iter().all(|brought| brought) {
        return Vec::new();
    }
    let is_node = |name: &String| node_images.contains(&name.as_str());
    join_all(plan.pulled_images().iter().map(|name| wanted_image(engine, name, is_node(name), deadline)))
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// Returns an image that the engine lacks, with its registry's answer. The engine queries the registry, since it
/// pulls: its network, proxies and certificates count. Existing images are not queried.
async fn wanted_image(engine: &Engine, name: &str, node: bool, deadline: Instant) -> Option<WantedImage> {
    let own = format!("{}/{}", engine.facts.os, engine.facts.architecture);
    let other = match engine.docker.inspect_image(name).await {
        Ok(found) => Some(platform(found.os, found.architecture).filter(|has| *has != own)?),
        Err(error) if is_not_found(&error) => None,
        Err(_) => return None,
    };
    let folder = Surroundings::of_process().docker_config();
    let mut image = WantedImage {
        name: name.to_owned(),
        node,
        credentials: false,
        missing_helper: credentials::missing_helper(&folder, name, &path()),
        answer: other.map_or(RegistryAnswer::Silent, RegistryAnswer::Unasked),
    };
    if image.answer != RegistryAnswer::Silent {
        return Some(image);
    }
    let ask = async {
        let credentials = credentials::for_image(&folder, name).await;
        image.credentials = credentials.is_some();
        let answer = engine.docker.inspect_registry_image(&reference::tagged(name), credentials).await;
        image.answer = match answer {
            Ok(found) => {
                let all = found.platforms.into_iter().filter_map(|has| platform(has.os, has.architecture));
                RegistryAnswer::There(all.collect())
            }
            Err(error) => RegistryAnswer::Refused(docker::status(&error), said(error)),
        };
    };
    // Ends before the outer deadline, so that results so far are kept.
    let margin = Duration::from_millis(50);
    let _ = timeout_at(deadline - margin, ask).await;
    Some(image)
}

/// Returns a platform as in image names, if both parts are known.
fn platform(os: Option<String>, architecture: Option<String>) -> Option<String> {
    let told = |text: &String| !text.is_empty();
    Some(format!("{}/{}", os.filter(told)?, architecture.filter(told)?))
}

/// Returns the engine's message, without the text that the client library adds.
fn said(error: bollard::errors::Error) -> String {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message,
        other => docker::engine::chain(&other),
    }
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Returns all sample images, with their sizes.
async fn sample_images(engine: &Engine) -> Vec<(String, u64)> {
    let filters = [("label".to_owned(), vec![format!("{}=true", sample_image::LABEL)])].into();
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let images = engine.docker.list_images(Some(options)).await.unwrap_or_default();
    let named = images.into_iter().filter_map(|image| {
        let name = image.repo_tags.first().cloned().unwrap_or(image.id);
        Some((name, u64::try_from(image.size).ok()?))
    });
    named.collect()
}

fn networks_left(folders: &Directories, inventory: &Inventory) -> Vec<(String, Vec<String>)> {
    let without_nodes = inventory.environments.iter().filter(|(_, found)| found.nodes.is_empty());
    let idle = without_nodes.filter(|(name, _)| !Lock::is_held(&folders.environment(name)));
    idle.map(|(name, found)| (name.clone(), found.networks.clone())).collect()
}

fn files_left(folders: &Directories, identity: &EngineIdentity, inventory: &Inventory) -> Vec<(String, PathBuf)> {
    let gone = folders.environments().into_iter().filter(|name| !inventory.environments.contains_key(name));
    let files = gone.map(|name| (folders.environment(&name), name));
    // One in clusters that exist has nothing on any engine.
    let no_engine =
        |files: &Files| environment::stored(files).ok().flatten().is_some_and(|spec| !spec.has_kind_clusters());
    let left = files.filter(|(files, _)| files.are_of(identity) && !Lock::is_held(files) && !no_engine(files));
    left.map(|(files, name)| (name, files.root)).collect()
}

fn proxy(variable: impl Fn(&str) -> Option<String>) -> Proxy {
    let set = |name: &str| {
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        names.into_iter().find_map(|name| Some((variable(&name).filter(|value| !value.is_empty())?, name)))
    };
    let named = ["HTTP_PROXY", "HTTPS_PROXY"].into_iter().filter_map(set).map(|(value, name)| (name, value));
    Proxy { named: named.collect(), except: set("NO_PROXY").map(|(value, _)| value).unwrap_or_default() }
}

async fn tools(spec: &Spec, cache: &Path, deadline: Instant) -> Vec<LookedFor> {
    let versions = distinct(spec.clusters.iter().map(|cluster| spec.istio_version_of(cluster)));
    let wanted = tool::required(versions);
    join_all(wanted.map(async |(tool, wanted)| {
        let here = timeout_at(deadline, tool::look(tool, wanted, cache)).await.ok();
        LookedFor { tool, wanted: wanted.to_owned(), here: here.map(|here| here.map_err(in_our_words)) }
    }))
    .await
}

async fn firewall() -> Firewall {
    let (iptables, nftables) =
        futures::join!(printed("iptables", &["-S", "FORWARD"]), printed("nft", &["-j", "list", "chains"]));
    let iptables = iptables.map(|said| {
        said.map_err(|error| match crate::base::error::find(&error) {
            // One line is enough: iptables repeats it for every table.
            Some(said) if said.evidence.iter().any(|line| line.contains("ermission denied")) => {
                "only root can read its rules".to_owned()
            }
            _ => format!("{error:#}"),
        })
    });
    let is_firewalld = |argument: &String| argument.ends_with("/firewalld");
    let processes = elsewhere(|| Ok(process::all())).await.unwrap_or_default();
    let firewalld = processes.iter().any(|process| process.arguments.iter().take(3).any(is_firewalld));
    Firewall { iptables, nftables: nftables.and_then(Result::ok), firewalld }
}

/// Returns a system program's output; none if there is no such program.
async fn printed(program: &str, arguments: &[&str]) -> Option<anyhow::Result<String>> {
    // Only root has these directories on PATH.
    let path = path();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let program = folders.map(|folder| folder.join(OsStr::new(program))).find(|path| path.is_file())?;
    let mut command = Command::new(program);
    let said = timeout(PRINT_TIMEOUT, process::run(command.args(arguments))).await;
    Some(match said {
        Ok(output) => output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => Err(anyhow!("it did not print its rules in time")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_variables_in_both_cases() {
        let proxy = |variables: &[(&str, &str)]| {
            proxy(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(proxy(&[("HTTP_PROXY", "")]), Proxy::default());
        let found =
            proxy(&[("http_proxy", "p:1"), ("HTTPS_PROXY", "p:2"), ("https_proxy", "p:3"), ("no_proxy", "a")]);
        let named =
            [("http_proxy", "p:1"), ("HTTPS_PROXY", "p:2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(found, Proxy { named: named.into(), except: "a".into() });
    }

    #[test]
    fn containerd_has_its_own_directory_unless_the_engine_started_it() {
        let folder = |address: &str, config: &str| {
            containerd_folder(address, config).map(|folder| folder.display().to_string())
        };
        let system = "/run/containerd/containerd.sock";
        assert_eq!(folder("/var/run/docker/containerd/containerd.sock", "root = '/x'"), None);
        assert_eq!(folder(system, "").as_deref(), Some("/var/lib/containerd"));
        assert_eq!(folder("", "#root = \"/x\"\n[plugins]\nroot = '/y'").as_deref(), Some("/var/lib/containerd"));
        assert_eq!(
            folder(system, "version = 3\nroot = \"/data/containerd\"\n").as_deref(),
            Some("/data/containerd")
        );
    }

    #[tokio::test]
    async fn missing_program_is_not_an_error() {
        assert!(printed("of-kindmesh-tests-that-is-missing", &[]).await.is_none());
        assert_eq!(printed("echo", &["-S"]).await.unwrap().unwrap(), "-S\n");
        assert!(printed("false", &[]).await.unwrap().is_err());
    }
}
