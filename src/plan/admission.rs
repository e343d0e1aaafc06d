//! Every refusal of a spec or of a machine, before anything is changed: pure functions of what was looked at.
//!
//! | refuses | asked by |
//! |---|---|
//! | [`spec`]: a spec that is wrong | what plans: `up`, `plan`, `render`, `doctor`, `cache warm`, `offline save` |
//! | [`machine`]: what doctor's checks say keeps `up` from working | `up` |
//! | [`another_engine`]: an environment that is on another engine | what works on nodes: `up`, `down`, `pause`, `stop`, `start`, `lab`; `doctor` |
//! | [`changes`]: a change of what cannot be changed | `up`, `plan`, `render`, `doctor` |
//! | [`clusters`], [`subnet`]: names and a subnet that others have | the plan itself |
//! | [`names`]: containers, images and networks that others have | `up`, and what makes them |
//! | [`resting`]: clusters that are frozen or stopped | what asks or changes clusters |

use super::engine::{EngineIdentity, EngineOnFile, Relation};
use super::inventory::{Environment, Inventory, Node, Taken};
use crate::base::error::Error;
use crate::base::hint::{resume_hint, start_hint};
use crate::base::names::{control_plane_name, kind_name};
use crate::spec::{self, Loaded, Origins, Spec, Subnet};

/// What an environment's files tell of it.
#[derive(Debug, Clone)]
pub struct Past {
    /// The spec that it was made from.
    pub spec: Option<Spec>,
    /// The engine that it was made on.
    pub engine: EngineOnFile,
}

/// The spec to work with: the stored one where no file says anything else.
///
/// # Errors
/// A usage error for a spec that is wrong.
pub fn spec(loaded: &Loaded, stored: Option<Spec>) -> Result<Spec, Error> {
    if let (Some(stored), false) = (stored, loaded.from_files) {
        return Ok(stored);
    }
    spec::validate(&loaded.spec, &loaded.origins)?;
    Ok(loaded.spec.clone())
}

/// What keeps an environment from being made on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What is wrong.
    pub what: String,
    /// What comes of it.
    pub consequence: String,
    /// What was seen.
    pub evidence: String,
    /// What to do, with the command to type.
    pub cure: String,
}

/// Refuses a machine on which the environment cannot be made.
///
/// # Errors
/// A missing prerequisite: the first obstacle, with the others as evidence.
pub fn machine(obstacles: impl IntoIterator<Item = Obstacle>) -> Result<(), Error> {
    let mut obstacles = obstacles.into_iter();
    let Some(first) = obstacles.next() else { return Ok(()) };
    let others = obstacles.map(|other| format!("{}, too: {}", other.what, other.cure));
    let mut error = Error::prerequisite(format!("{}: {}", first.what, first.consequence)).evidence(first.evidence);
    error.evidence.extend(others);
    Err(error.hint(first.cure))
}

/// Refuses to make or change an environment as wanted on the engine that is selected: [`another_engine`], then
/// [`changes`].
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

/// Refuses to work with the engine that is selected on an environment that is on another one.
///
/// # Errors
/// A usage error that names both engines and the way.
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
                "environment \"{environment}\" is on the engine at {}, and the one selected is at {}",
                made_on.host, selected.host
            ),
            format!(
                "go back to its engine: DOCKER_HOST={}, or docker context use; if that engine is gone for good: rm -r {folder}",
                made_on.host
            ),
        ),
        Relation::Replaced => (
            format!(
                "environment \"{environment}\" is on the engine at {} that was {}, and now {} answers there, with \
                 nodes of another environment of that name",
                made_on.host, made_on.id, selected.id
            ),
            format!(
                "start its engine again; if they are the same: rm {}; if that engine is gone for good: rm -r {folder}",
                on_file.file.display()
            ),
        ),
    };
    Err(Error::usage(message).hint(hint))
}

/// Refuses a spec that changes what cannot be changed of an environment that exists.
///
/// # Errors
/// A usage error that names the field.
pub fn changes(
    wanted: &Spec,
    origins: &Origins,
    stored: Option<&Spec>,
    inventory: &Inventory,
) -> Result<(), Error> {
    // Where nothing of the environment is left on the engine, the stored spec binds nobody.
    let exists = inventory.environments.contains_key(wanted.name.as_str());
    match stored.filter(|_| exists) {
        Some(stored) => spec::changes(stored, wanted, origins),
        None => Ok(()),
    }
}

/// Refuses clusters whose kind clusters would have the names of others'.
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
                "the kind cluster of {} would be \"{kind}\", which environment \"{other}\" has",
                cluster.name
            ))
            .hint("choose another environment name with --name, or another cluster name"));
        }
        if inventory.foreign_clusters.contains(&kind) {
            let remove = format!("kind delete cluster --name {kind}");
            return Err(foreign("a kind cluster", &kind, &remove));
        }
    }
    Ok(())
}

/// Refuses a subnet of the network that is another one than it has, or that somebody else has.
///
/// # Errors
/// A usage error that names both.
pub(super) fn subnet(wanted: &Spec, existing: &Environment, taken: Option<&Taken>) -> Result<(), Error> {
    let Subnet::Fixed(subnet) = wanted.network.subnet else { return Ok(()) };
    match (existing.subnet, taken) {
        (Some(has), _) if has != subnet => {
            Err(Error::usage(format!("network.subnet is {subnet}, but the environment's network has {has}"))
                .hint(format!("kindmesh down --name {}", wanted.name)))
        }
        (None, Some(taken)) => {
            Err(Error::usage(format!("network.subnet {subnet} overlaps {} of {}", taken.subnet, taken.by))
                .hint("choose another one, or network.subnet: auto"))
        }
        _ => Ok(()),
    }
}

/// What is somebody else's under names that a plan needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Containers, called as nodes would be.
    pub containers: Vec<String>,
    /// An image, called as the sample image would be.
    pub image: Option<String>,
}

/// Refuses names that somebody else's containers and images have. Networks are told by their labels when the first one
/// is made.
///
/// # Errors
/// A usage error that names what is in the way.
pub fn names(found: &Foreign) -> Result<(), Error> {
    if let Some(container) = found.containers.first() {
        return Err(foreign("a container", container, &format!("docker rm {container}")));
    }
    match &found.image {
        Some(image) => Err(foreign_image(image)),
        None => Ok(()),
    }
}

/// There is an image of this name that is somebody else's.
pub fn foreign_image(image: &str) -> Error {
    Error::usage(format!("an image \"{image}\" exists that kindmesh did not make"))
        .hint(format!("give it another name: docker tag {image} mine, then: docker image rm {image}"))
}

/// There is a network of this name that is somebody else's.
pub fn foreign_network(network: &str) -> Error {
    foreign("a Docker network", network, &format!("docker network rm {network}"))
}

fn foreign(what: &str, name: &str, remove: &str) -> Error {
    Error::usage(format!("{what} \"{name}\" exists that kindmesh did not make"))
        .hint(format!("choose another environment name with --name, or: {remove}"))
}

/// Refuses to ask or change clusters whose control plane is known to be frozen or stopped: whoever asked its API server
/// would wait for nothing.
///
/// # Errors
/// An environment error with the command that brings the nodes back.
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

/// The word for a node at rest, from the engine's.
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
