//! What judging depends on, as plain data. What is none was not looked at, and nothing is said about it.

use std::path::PathBuf;

use crate::base::error::Error;
use crate::host::docker::Refused;
use crate::host::tool::{Here, Tool};
use crate::plan::inventory::{EngineFacts, Inventory};
use crate::plan::{Plan, Size};
use crate::spec::Spec;

/// All that was seen.
#[derive(Debug, Default)]
pub struct Facts {
    /// What is to be brought up.
    pub wanted: Wanted,
    /// What the engine says of itself.
    pub engine: Option<EngineFacts>,
    /// Why there is no engine.
    pub refused: Option<Refused>,
    /// Why there is no docker client, which kind runs.
    pub no_client: Option<Error>,
    /// What this machine says.
    pub host: Host,
    /// The disk with the engine's folder, where it is this machine's.
    pub disk: Option<Space>,
    /// The folder with the environments' files.
    pub state: Option<State>,
    /// What the engine lists.
    pub inventory: Option<Inventory>,
    /// What would be decided, or why it cannot.
    pub plan: Option<Result<Plan, Error>>,
    /// The packet filter of this machine, where the engine uses it.
    pub firewall: Option<Firewall>,
    /// Proxies that this process's environment names.
    pub proxy: Proxy,
    /// The images that would have to be pulled, each with what its registry says.
    pub images: Vec<WantedImage>,
    /// The programs that are driven.
    pub tools: Vec<LookedFor>,
    /// What is left of what is no more.
    pub left: Left,
    /// What could not be looked at, and why, beside what single facts tell.
    pub unseen: Vec<String>,
}

/// What is to be brought up.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// How many clusters.
    pub clusters: u64,
    /// How many nodes.
    pub nodes: u64,
    /// What they take of a machine.
    pub size: Size,
    /// Whether the environment is there already: then its memory and disk are taken.
    pub exists: bool,
}

impl Wanted {
    /// What a spec wants.
    pub fn of(spec: &Spec, exists: bool) -> Self {
        Self {
            clusters: spec.clusters.len() as u64,
            nodes: spec.clusters.iter().map(|cluster| 1 + u64::from(cluster.workers)).sum(),
            size: Size::of(spec),
            exists,
        }
    }
}

/// What this machine says. On another system than Linux it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its kernel.
    pub kernel: String,
    /// Its memory in bytes.
    pub memory: u64,
    /// How much of it could be had, in bytes.
    pub memory_available: Option<u64>,
    /// How many files may be watched (`fs.inotify.max_user_watches`).
    pub watches: Option<u64>,
    /// How many programs may watch (`fs.inotify.max_user_instances`).
    pub watchers: Option<u64>,
    /// Whether it forwards IPv4 packets.
    pub forwarding: Option<bool>,
    /// Whether packets between containers on one bridge pass iptables.
    pub filters_bridges: Option<bool>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// A folder on it.
    pub folder: PathBuf,
    /// What may still be written, in bytes.
    pub free: u64,
}

/// The folder with the environments' files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its disk, and the folder or the nearest one above it that exists.
    pub space: Space,
    /// Whether files can be written there.
    pub writable: bool,
}

/// The packet filter, as its own programs print it. None: the program is missing, or does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    /// `iptables -S FORWARD`, or why it cannot be seen.
    pub iptables: Option<Result<String, String>>,
    /// `nft -j list chains`.
    pub nftables: Option<String>,
    /// Whether firewalld runs.
    pub firewalld: bool,
}

/// Proxies that this process's environment names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// The variables that name one, with their values.
    pub named: Vec<(String, String)>,
    /// `NO_PROXY`.
    pub except: String,
}

/// An image that the engine has not, or has for another platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedImage {
    /// Its name.
    pub name: String,
    /// Whether it is the node image, which kind pulls through the docker client.
    pub node: bool,
    /// Whether the Docker configuration has credentials for its registry.
    pub credentials: bool,
    /// The credential helper that the Docker configuration names for its registry and that is not on PATH.
    pub missing_helper: Option<String>,
    /// What its registry says, asked through the engine.
    pub answer: RegistryAnswer,
}

/// What a registry says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryAnswer {
    /// Not asked: the engine has the image, for this platform and not its own.
    Unasked(String),
    /// It is there, for these platforms as in `linux/amd64`; none when it does not tell.
    There(Vec<String>),
    /// The engine's error: its status, and what it says.
    Refused(Option<u16>, String),
    /// Nothing in the time there was.
    Silent,
}

/// A program that is driven.
#[derive(Debug)]
pub struct LookedFor {
    /// Which.
    pub tool: Tool,
    /// The version that is wanted.
    pub wanted: String,
    /// What there is, why it cannot be used, or nothing: not told in time.
    pub here: Option<Result<Here, Error>>,
}

/// What is left of what is no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Environments with networks and without nodes.
    pub networks: Vec<(String, Vec<String>)>,
    /// Environments with files, of this engine, and nothing on it.
    pub files: Vec<(String, PathBuf)>,
    /// Sample images of other executables: name and size in bytes.
    pub images: Vec<(String, u64)>,
    /// Files with keys that others may read: the environment's folder, the file, its mode.
    pub readable: Vec<(PathBuf, PathBuf, u32)>,
}

impl Facts {
    /// What this machine says of its kernel, where the engine runs on the same one: WSL's distributions share one.
    pub fn same_kernel(&self) -> Option<&Host> {
        let engine = self.engine.as_ref()?;
        let same = !engine.kernel.is_empty() && engine.kernel == self.host.kernel;
        // Two machines may have the same kernel, and hardly the same memory to the byte.
        (same && engine.memory == self.host.memory).then_some(&self.host)
    }

    /// What this machine says of itself, where the engine runs on it and not in a container or a virtual machine.
    pub fn same_machine(&self) -> Option<&Host> {
        let engine = self.engine.as_ref()?;
        self.same_kernel().filter(|host| host.name == engine.machine)
    }

    /// The words for what is wanted: `2 clusters`.
    pub fn clusters(&self) -> String {
        format!("{} clusters", self.wanted.clusters)
    }
}
