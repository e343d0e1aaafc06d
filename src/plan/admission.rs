//! Admission: every refusal of a spec or a host before anything is changed. Pure functions of the facts gathered.
//!
//! | refuses | called by |
//! |---|---|
//! | [`spec`]: an invalid spec | commands that plan: `up`, `plan`, `render`, `doctor`, `cache warm`, `offline save` |
//! | [`machine`]: a host on which `up` cannot work, by the checks of `doctor` | `up` |
//! | [`another_engine`]: an environment on another engine | `up`, `down`, `pause`, `stop`, `start`, `lab`, `doctor` |
//! | [`changes`]: a change of an immutable field | `up`, `plan`, `render`, `doctor` |
//! | [`removal`]: deleting a cluster without being asked to | `up` |
//! | [`clusters`], [`subnet`]: names and a subnet in use | the plan itself |
//! | [`cluster_subnet`], [`overlapping`]: subnets of a cluster | the plan itself |
//! | [`gateways`]: gateways and exposed istiods in a network without addresses for them | the plan itself |
//! | [`names`]: names of existing containers, images and networks | `up`, and the code that creates them |
//! | [`owns_nodes`]: a command for nodes that kindmesh did not create | `pause`, `stop`, `start`, `fault`, `snapshot`, `image`, `lab` and others |
//! | [`resting`]: paused or stopped clusters | commands that read or change clusters |
//! | [`existing`]: clusters that exist, in a file of its own | `up` |

use ipnet::Ipv4Net;

use super::engine::{EngineIdentity, EngineOnFile, Relation};
use super::inventory::{Environment, Inventory, Node, Taken};
use crate::base::error::Error;
use crate::base::hint::{down_hint, resume_hint, start_hint, up_hint};
use crate::base::names::{control_plane_name, kind_name};
use crate::spec::subnets::Use;
use crate::spec::{self, Loaded, Origins, Spec, Subnet};

pub mod existing;

/// What an environment's files record.
#[derive(Debug, Clone)]
pub struct Past {
    /// The stored spec.
    pub spec: Option<Spec>,
    /// The engine that it was created on.
    pub engine: EngineOnFile,
}

/// Returns the spec to use: the stored spec, unless a file specifies another.
///
/// # Errors
/// A usage error for an invalid spec.
pub fn spec(loaded: &Loaded, stored: Option<Spec>) -> Result<Spec, Error> {
    if let (Some(stored), false) = (stored, loaded.from_files) {
        return Ok(stored);
    }
    spec::validate(&loaded.spec, &loaded.origins)?;
    Ok(loaded.spec.clone())
}

/// Refuses a command for nodes that kindmesh created in an environment with clusters that it did not create.
///
/// # Errors
/// A usage error that names the command and the first such cluster.
pub fn owns_nodes(spec: &Spec, command: &str) -> Result<(), Error> {
    let Some(cluster) = spec.clusters.iter().find(|cluster| cluster.exists()) else { return Ok(()) };
    let context = cluster.context.as_deref().unwrap_or_default();
    Err(Error::usage(format!(
        "kindmesh {command} is for clusters that kindmesh created, but cluster {} exists already (context {context})",
        cluster.name
    ))
    .hint("kindmesh does not touch the nodes of such a cluster; use its own tools"))
}

/// A reason why an environment cannot be created on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The problem.
    pub what: String,
    /// The consequence.
    pub consequence: String,
    /// The evidence.
    pub evidence: String,
    /// The fix, with the command to run.
    pub cure: String,
}

/// Refuses a host on which the environment cannot be created.
///
/// # Errors
/// A missing prerequisite: the first obstacle, with the others as evidence.
pub fn machine(obstacles: impl IntoIterator<Item = Obstacle>) -> Result<(), Error> {
    let mut obstacles = obstacles.into_iter();
    let Some(first) = obstacles.next() else { return Ok(()) };
    let others = obstacles.map(|other| format!("also: {}; fix: {}", other.what, other.cure));
    let mut error = Error::prerequisite(format!("{}: {}", first.what, first.consequence)).evidence(first.evidence);
    error.evidence.extend(others);
    Err(error.hint(first.cure))
}

/// Refuses to create or change an environment on the selected engine: [`another_engine`], then [`changes`].
///
/// # Errors
/// A usage error.
pub fn environment(
    wanted: &Spec,
    origins: &Origins,
    past: &Past,
    selected: &EngineIdentity,
    inventory: &Inventory,
) -> Result<(), Error> {
    another_engine(wanted.name.as_str(), &past.engine, selected, inventory)?;
    changes(wanted, origins, past.spec.as_ref(), inventory)
}

/// Refuses to use the selected engine for an environment on another engine.
///
/// # Errors
/// A usage error that names both engines and the fix.
pub fn another_engine(
    environment: &str,
    on_file: &EngineOnFile,
    selected: &EngineIdentity,
    inventory: &Inventory,
) -> Result<(), Error> {
    let Some(made_on) = &on_file.engine else { return Ok(()) };
    let has_nodes = nodes(inventory, environment).next().is_some();
    let folder = on_file.folder.display();
    let (message, hint) = match selected.relation(made_on, has_nodes) {
        Relation::Same => return Ok(()),
        Relation::Elsewhere => (
            format!(
                "environment \"{environment}\" is on the engine at {}, but the selected engine is at {}",
                made_on.host, selected.host
            ),
            format!(
                "select its engine with DOCKER_HOST={} or docker context use; if that engine no longer exists: rm -r {folder}",
                made_on.host
            ),
        ),
        Relation::Replaced => (
            format!(
                "environment \"{environment}\" is on the engine at {} with ID {}, but that engine now has ID {} and \
                 nodes of another environment of that name",
                made_on.host, made_on.id, selected.id
            ),
            format!(
                "start its engine again; if both are the same engine: rm {}; if its engine no longer exists: rm -r {folder}",
                on_file.file.display()
            ),
        ),
    };
    Err(Error::usage(message).hint(hint))
}

/// Refuses a spec that changes an immutable field of an existing environment.
///
/// # Errors
/// A usage error that names the field.
pub fn changes(
    wanted: &Spec,
    origins: &Origins,
    stored: Option<&Spec>,
    inventory: &Inventory,
) -> Result<(), Error> {
    // If nothing of the environment is left on the engine, the stored spec does not matter. What is left in clusters that exist is
    // recorded by it.
    let exists = |stored: &&Spec| {
        let in_clusters = stored.clusters.iter().any(spec::Cluster::exists);
        in_clusters || inventory.environments.contains_key(wanted.name.as_str())
    };
    match stored.filter(exists) {
        Some(stored) => spec::changes(stored, wanted, origins),
        None => Ok(()),
    }
}

/// Refuses to delete clusters that the spec no longer lists, unless `prune` allows it or an earlier `up` has begun to. Refuses to
/// delete all clusters.
///
/// # Errors
/// A usage error that names them.
pub fn removal(wanted: &Spec, stored: Option<&Spec>, inventory: &Inventory, prune: bool) -> Result<(), Error> {
    let environment = wanted.name.as_str();
    let Some(existing) = inventory.environments.get(environment) else { return Ok(()) };
    let lists = |spec: &Spec, name: &str| spec.clusters.iter().any(|cluster| cluster.name.as_str() == name);
    let gone: Vec<&str> =
        existing.clusters.keys().map(String::as_str).filter(|name| !lists(wanted, name)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    if gone.len() == existing.clusters.len() {
        return Err(Error::usage(format!(
            "the spec lists none of the clusters of environment \"{environment}\": {}",
            gone.join(", ")
        ))
        .hint(format!("choose another environment name with --name, or {} first", down_hint(environment))));
    }
    let begun = |name: &&str| stored.is_some_and(|stored| !lists(stored, name));
    let unasked: Vec<&str> = gone.into_iter().filter(|name| !prune && !begun(name)).collect();
    let what = match unasked.as_slice() {
        [] => return Ok(()),
        [one] => format!("cluster {one} of environment \"{environment}\" is not in the spec"),
        all => format!("clusters {} of environment \"{environment}\" are not in the spec", all.join(", ")),
    };
    let up = up_hint(environment);
    Err(Error::usage(what).hint(format!("add it to clusters, or delete it and everything in it: {up} --prune")))
}

/// Refuses clusters whose kind names are in use.
///
/// # Errors
/// A usage error that names both.
pub(super) fn clusters(wanted: &Spec, inventory: &Inventory) -> Result<(), Error> {
    for cluster in &wanted.clusters {
        let kind = kind_name(wanted.name.as_str(), cluster.name.as_str());
        let other = inventory
            .environments
            .iter()
            .filter(|(name, _)| name.as_str() != wanted.name.as_str())
            .find(|(name, found)| found.clusters.keys().any(|cluster| kind_name(name, cluster) == kind));
        if let Some((other, _)) = other {
            return Err(Error::usage(format!(
                "the kind cluster of {} would be \"{kind}\", which belongs to environment \"{other}\"",
                cluster.name
            ))
            .hint("choose another environment name with --name, or another cluster name"));
        }
        if inventory.foreign_clusters.contains(&kind) {
            let remove = format!("kind delete cluster --name {kind}");
            return Err(foreign("kind cluster", &kind, &remove));
        }
    }
    Ok(())
}

/// Refuses a network subnet that differs from the existing network's, or that is in use.
///
/// # Errors
/// A usage error that names both.
pub(super) fn subnet(wanted: &Spec, existing: &Environment, taken: Option<&Taken>) -> Result<(), Error> {
    let Subnet::Fixed(subnet) = wanted.network.subnet else { return Ok(()) };
    match (existing.subnet, taken) {
        (Some(has), _) if has != subnet => {
            Err(Error::usage(format!("network.subnet is {subnet}, but the existing network has {has}"))
                .hint(format!("kindmesh down --name {} first, or undo the change", wanted.name)))
        }
        (None, Some(taken)) => {
            Err(Error::usage(format!("network.subnet {subnet} overlaps {} of {}", taken.subnet, taken.by))
                .hint("choose another subnet, or network.subnet: auto"))
        }
        _ => Ok(()),
    }
}

/// Refuses a subnet of a cluster that differs from the one that it `has`, or that is in use.
///
/// # Errors
/// A usage error that names both.
pub(super) fn cluster_subnet(
    wanted: &Spec,
    cluster: &spec::Cluster,
    of: Use,
    has: Option<Ipv4Net>,
    taken: Option<&Taken>,
) -> Result<(), Error> {
    let Some(subnet) = cluster.subnet_for(of) else { return Ok(()) };
    match (has, taken) {
        (Some(has), _) if has != subnet => {
            let field = of.field();
            Err(Error::usage(format!("{field} of cluster {} is {subnet}, but it has {has}", cluster.name))
                .hint(format!("{} first, or undo the change", down_hint(wanted.name.as_str()))))
        }
        (None, Some(taken)) => {
            Err(overlapping((cluster, of, subnet), &format!("{} of {}", taken.subnet, taken.by)))
        }
        _ => Ok(()),
    }
}

/// Returns the error of a cluster's subnet that overlaps another one.
pub(super) fn overlapping((cluster, of, subnet): (&spec::Cluster, Use, Ipv4Net), other: &str) -> Error {
    let (field, name) = (of.field(), &cluster.name);
    Error::usage(format!("{field} {subnet} of cluster {name} overlaps {other}"))
        .hint(format!("choose another subnet, or {field}: auto"))
}

/// Refuses gateways, and primaries with remote clusters, in a network that has no addresses for them, if some are `missing`.
///
/// # Errors
/// A usage error that says why.
pub(super) fn gateways(wanted: &Spec, existing: &Environment, missing: bool) -> Result<(), Error> {
    if !missing {
        return Ok(());
    }
    let name = wanted.name.as_str();
    if existing.network.is_some() && existing.clusters.values().all(|known| known.balancers.is_none()) {
        return Err(Error::usage(format!(
            "the network of environment {name} has no addresses for east-west gateways and exposed istiods: an earlier kindmesh created it"
        ))
        .hint(format!("recreate the environment: {}, then {}", down_hint(name), up_hint(name))));
    }
    Err(Error::usage(format!(
        "the network of environment {name} has too few addresses for the east-west gateways and exposed istiods of {} clusters",
        wanted.clusters.len()
    ))
    .hint("use fewer clusters, or a larger network.subnet"))
}

/// Objects of other owners with names that a plan needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unlabeled {
    /// Containers with names of nodes.
    pub containers: Vec<String>,
    /// An image with the name of the sample image.
    pub image: Option<String>,
}

/// Refuses names of containers and images that kindmesh did not create. Networks are checked by their labels when the
/// first one is created.
///
/// # Errors
/// A usage error that names the existing object.
pub fn names(found: &Unlabeled) -> Result<(), Error> {
    if let Some(container) = found.containers.first() {
        return Err(foreign("container", container, &format!("docker rm {container}")));
    }
    match &found.image {
        Some(image) => Err(foreign_image(image)),
        None => Ok(()),
    }
}

/// Returns the error for an image of this name that kindmesh did not create.
pub fn foreign_image(image: &str) -> Error {
    Error::usage(format!("image \"{image}\" exists, but kindmesh did not create it"))
        .hint(format!("rename it: docker tag {image} NEW_NAME && docker image rm {image}"))
}

/// Returns the error for a network of this name that kindmesh did not create.
pub fn foreign_network(network: &str) -> Error {
    foreign("Docker network", network, &format!("docker network rm {network}"))
}

fn foreign(what: &str, name: &str, remove: &str) -> Error {
    Error::usage(format!("{what} \"{name}\" exists, but kindmesh did not create it"))
        .hint(format!("choose another environment name with --name, or: {remove}"))
}

/// Refuses to read or change clusters whose control plane is known to be paused or stopped: a request to its API server
/// would only time out.
///
/// # Errors
/// An environment error with the command that resumes or starts the nodes.
pub fn resting(inventory: &Inventory, environment: &str, clusters: &[&str]) -> Result<(), Error> {
    let of = |cluster: &str| {
        let control_plane = control_plane_name(&kind_name(environment, cluster));
        nodes(inventory, environment).find(move |node| node.name == control_plane)
    };
    let resting = |cluster: &&str| of(cluster).map(|node| node.state.as_str()).and_then(rest);
    let Some((cluster, word)) = clusters.iter().find_map(|cluster| Some((cluster, resting(cluster)?))) else {
        return Ok(());
    };
    let everywhere = clusters.iter().all(|cluster| resting(cluster) == Some(word));
    let message = match everywhere && clusters.len() > 1 {
        true => format!("environment \"{environment}\" is {word}"),
        false => format!("cluster {cluster} of environment \"{environment}\" is {word}"),
    };
    Err(Error::environment(message).hint(match word {
        PAUSED => resume_hint(environment),
        _ => start_hint(environment),
    }))
}

const PAUSED: &str = "paused";
const STOPPED: &str = "stopped";

/// Returns the term for a paused or stopped node, from the engine's state.
fn rest(state: &str) -> Option<&'static str> {
    match state {
        "paused" => Some(PAUSED),
        "exited" => Some(STOPPED),
        _ => None,
    }
}

fn nodes<'a>(inventory: &'a Inventory, environment: &str) -> impl Iterator<Item = &'a Node> {
    inventory.environments.get(environment).into_iter().flat_map(|found| &found.nodes)
}

#[cfg(test)]
mod tests;
