//! The facts that the checks judge, as plain data. A missing fact was not gathered: no check reports anything about
//! it.

use std::path::PathBuf;

use crate::base::error::Error;
use crate::host::docker::Refused;
use crate::host::tool::{Here, Tool};
use crate::plan::inventory::{EngineFacts, Inventory};
use crate::plan::{Plan, Size};
use crate::spec::Spec;

/// All facts.
#[derive(Debug, Default)]
pub struct Facts {
    /// What `up` would create.
    pub wanted: Wanted,
    /// The engine's description of itself.
    pub engine: Option<EngineFacts>,
    /// Why there is no engine.
    pub refused: Option<Refused>,
    /// Why the docker client, which kind runs, is not installed.
    pub no_client: Option<Error>,
    /// The facts about the host.
    pub host: Host,
    /// The disk of the engine's directory, if it is on this host.
    pub disk: Option<Space>,
    /// The disk of the engine's images, if it is on this host and another one.
    pub image_disk: Option<Space>,
    /// The docker client, which kind runs.
    pub client: Option<Client>,
    /// The state directory.
    pub state: Option<State>,
    /// What exists on the engine, and the host's routes.
    pub inventory: Option<Inventory>,
    /// The plan, or why there is none.
    pub plan: Option<Result<Plan, Error>>,
    /// The packet filter of this host, if the engine uses it.
    pub firewall: Option<Firewall>,
    /// Proxies in this process's environment.
    pub proxy: Proxy,
    /// The images that would have to be pulled, each with its registry's answer.
    pub images: Vec<WantedImage>,
    /// The required programs.
    pub tools: Vec<LookedFor>,
    /// Leftovers of former environments.
    pub left: Leftovers,
    /// What could not be gathered, and why, for facts that do not record it themselves.
    pub unseen: Vec<String>,
}

/// What `up` would create.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The number of clusters.
    pub clusters: u64,
    /// The number of nodes.
    pub nodes: u64,
    /// What they require of a host.
    pub size: Size,
    /// Whether the spec sets the port of every API server.
    pub ports_set: bool,
    /// Whether the environment exists: then its memory and disk space are in use already.
    pub exists: bool,
}

impl Wanted {
    /// Describes what a spec asks for.
    pub fn of(spec: &Spec, exists: bool) -> Self {
        Self {
            clusters: spec.clusters.len() as u64,
            nodes: spec.clusters.iter().map(|cluster| 1 + u64::from(cluster.workers)).sum(),
            size: Size::of(spec),
            ports_set: spec.kind_clusters().all(|cluster| {
                let networking = cluster.kind.get("networking");
                networking.and_then(|set| set["apiServerPort"].as_u64()).is_some_and(|port| port != 0)
            }),
            exists,
        }
    }
}

/// The facts about the host. Empty on systems other than Linux.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its kernel.
    pub kernel: String,
    /// Its memory in bytes.
    pub memory: u64,
    /// The available part of it, in bytes.
    pub memory_available: Option<u64>,
    /// The limit of inotify watches (`fs.inotify.max_user_watches`).
    pub watches: Option<u64>,
    /// The limit of inotify instances (`fs.inotify.max_user_instances`).
    pub watchers: Option<u64>,
    /// Whether it forwards IPv4 packets.
    pub forwarding: Option<bool>,
    /// Whether packets between containers on one bridge pass through iptables.
    pub filters_bridges: Option<bool>,
    /// The limit of entries in the ARP table (`net.ipv4.neigh.default.gc_thresh3`), of all network namespaces together.
    pub neighbours: Option<u64>,
    /// The limit of tracked connections (`net.netfilter.nf_conntrack_max`), of each network namespace.
    pub connections: Option<u64>,
    /// What shows that this process runs in a container, such as `/.dockerenv`; none if it does not.
    pub container: Option<String>,
    /// The network interfaces.
    pub interfaces: Vec<String>,
}

/// The docker client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The first line of `docker --version`.
    pub version: String,
    /// The engine's error in `docker version`, if it refuses the client.
    pub refused: Option<String>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// A directory on it.
    pub folder: PathBuf,
    /// The available space, in bytes.
    pub free: u64,
}

/// The state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its disk, and the directory or its nearest existing parent.
    pub space: Space,
    /// Whether files can be written there.
    pub writable: bool,
}

/// The packet filter, as its own programs print it. None: the program is missing, or prints nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    /// `iptables -S FORWARD`, or why it cannot be read.
    pub iptables: Option<Result<String, String>>,
    /// `nft -j list chains`.
    pub nftables: Option<String>,
    /// Whether firewalld is running.
    pub firewalld: bool,
}

/// Proxies in this process's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// The variables that name a proxy, with their values.
    pub named: Vec<(String, String)>,
    /// `NO_PROXY`.
    pub except: String,
}

/// An image that the engine lacks, or has for another platform.
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
    /// Its registry's answer, queried through the engine.
    pub answer: RegistryAnswer,
}

/// A registry's answer about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryAnswer {
    /// Not queried: the engine has the image, but for this platform instead of its own.
    Unasked(String),
    /// It exists for these platforms, such as `linux/amd64`; empty if the registry does not list any.
    There(Vec<String>),
    /// The engine's error: its status and message.
    Refused(Option<u16>, String),
    /// No response in time.
    Silent,
}

/// A required program.
#[derive(Debug)]
pub struct LookedFor {
    /// Which one.
    pub tool: Tool,
    /// The required version.
    pub wanted: String,
    /// The search result, or why it cannot be used; none if it did not respond in time.
    pub here: Option<Result<Here, Error>>,
}

/// Leftovers of former environments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Environments with networks but without nodes.
    pub networks: Vec<(String, Vec<String>)>,
    /// Environments with files for this engine, but nothing on it.
    pub files: Vec<(String, PathBuf)>,
    /// Sample images of other executables: name and size in bytes.
    pub images: Vec<(String, u64)>,
    /// Files with keys that other users may read: the environment's directory, the file, its mode.
    pub readable: Vec<(PathBuf, PathBuf, u32)>,
}

impl Facts {
    /// Returns the host's facts about its kernel, if the engine runs on the same kernel: WSL's distributions share
    /// one.
    pub fn same_kernel(&self) -> Option<&Host> {
        let engine = self.engine.as_ref()?;
        let same = !engine.kernel.is_empty() && engine.kernel == self.host.kernel;
        // Two hosts may have the same kernel, but hardly the same memory size to the byte.
        (same && engine.memory == self.host.memory).then_some(&self.host)
    }

    /// Returns the host's facts about itself, if the engine runs on it and not in a container or a virtual
    /// machine.
    pub fn same_machine(&self) -> Option<&Host> {
        let engine = self.engine.as_ref()?;
        self.same_kernel().filter(|host| host.name == engine.machine)
    }

    /// Returns the number of nodes on the engine after `up`, with those of other environments.
    pub fn all_nodes(&self) -> u64 {
        let there = self.inventory.iter().flat_map(|inventory| inventory.environments.values());
        let there = there.map(|environment| environment.nodes.len() as u64).sum::<u64>();
        if self.wanted.exists { there } else { there + self.wanted.nodes }
    }

    /// Describes what `up` would create: `2 clusters`.
    pub fn clusters(&self) -> String {
        format!("{} clusters", self.wanted.clusters)
    }
}
