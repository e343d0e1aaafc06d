//! Inspects the engine and the host, and returns what exists on them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use bollard::models::{ContainerSummary, Network};
use bollard::query_parameters::ListContainersOptionsBuilder;
use ipnet::Ipv4Net;

use super::host_routes;
use crate::base::error::Error;
use crate::base::names;
use crate::host::docker::{Engine, sample_image};
use crate::plan::inventory::{
    ENVIRONMENT_LABEL, Executable, Inventory, KIND_CLUSTER_LABEL, KIND_ROLE_LABEL, Node, Taken, VERSION_LABEL,
    owner,
};

/// How long the engine may take to list its networks and nodes. Measured: milliseconds; seconds on a busy host.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Inspects the engine and the host's routes. A plan with samples also requires the `executable`, for which a whole
/// file is read.
///
/// # Errors
/// The engine's errors.
pub async fn gather(engine: &Engine) -> anyhow::Result<Inventory> {
    let filters = [("label".to_owned(), vec![KIND_CLUSTER_LABEL.to_owned()])].into();
    let all = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let both =
        async { futures::join!(engine.docker.list_networks(None), engine.docker.list_containers(Some(all))) };
    let (networks, containers) = tokio::time::timeout(RESPONSE_TIMEOUT, both).await.map_err(|_| {
        let within = RESPONSE_TIMEOUT.as_secs();
        Error::environment(format!("the container engine at {} did not list its objects", engine.endpoint.host))
            .evidence(format!("it responded to earlier requests, but not to these within {within} s"))
            .hint("check what keeps it busy: docker ps; otherwise restart it")
    })?;
    let networks = networks.context("listing the engine's networks")?;
    let containers = containers.context("listing the engine's nodes")?;
    let mut inventory = sort(&networks, &containers);
    inventory.taken.extend(host_routes::of_host());
    inventory.engine = engine.facts.clone();
    Ok(inventory)
}

/// Returns the executable for a sample image.
///
/// # Errors
/// If it cannot be read.
pub async fn executable() -> anyhow::Result<Option<Executable>> {
    match sample_image::executable().await {
        Some(path) => Ok(Some(sample_image::describe(&path).await?)),
        None => Ok(None),
    }
}

/// Sorts the engine's objects into environments and those of other owners.
pub fn sort(networks: &[Network], containers: &[ContainerSummary]) -> Inventory {
    let mut inventory = Inventory::default();
    // The network of an environment before its registers, whose names are longer.
    let mut networks: Vec<_> = networks.iter().collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    for network in networks {
        let name = network.name.clone().unwrap_or_default();
        let subnet = subnets(network).next();
        let empty = Default::default();
        let labels = network.labels.as_ref().unwrap_or(&empty);
        let label = |key: &str| labels.get(key).map(String::as_str).unwrap_or_default();
        inventory
            .taken
            .extend(subnets(network).map(|subnet| Taken { subnet, by: format!("Docker network \"{name}\"") }));
        let Some(owner) = owner(&name, label(ENVIRONMENT_LABEL)) else { continue };
        let environment = inventory.environments.entry(owner.to_string()).or_default();
        if name == names::network_name(owner.as_str()) {
            environment.network = Some(name.clone());
            environment.subnet = subnet;
            environment.version = label(VERSION_LABEL).to_owned();
        }
        environment.read_labels(&name, |key| label(key).to_owned());
        environment.networks.push(name);
    }
    for container in containers {
        assign(container, &mut inventory);
    }
    for environment in inventory.environments.values_mut() {
        environment.networks.sort();
        environment.nodes.sort_by(|a, b| (&a.cluster, &a.role, &a.name).cmp(&(&b.cluster, &b.role, &b.name)));
    }
    inventory.foreign_clusters.sort();
    inventory.foreign_clusters.dedup();
    inventory
}

fn subnets(network: &Network) -> impl Iterator<Item = Ipv4Net> + '_ {
    let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
    configs.into_iter().flatten().filter_map(|config| config.subnet.as_ref()?.parse().ok())
}

/// Assigns a node to the environment that lists the cluster of its kind label **and** has it attached to its network.
/// Every other kind node belongs to another owner.
fn assign(container: &ContainerSummary, inventory: &mut Inventory) {
    let labels = container.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default();
    let kind = label(KIND_CLUSTER_LABEL);
    let attached = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let attached: BTreeMap<_, _> = attached.into_iter().flatten().collect();
    let name = container.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
    let owner = inventory.environments.iter_mut().find_map(|(environment, found)| {
        let network = found.network.as_ref()?;
        let cluster =
            found.clusters.keys().find(|cluster| names::kind_name(environment, cluster) == kind)?.clone();
        attached.contains_key(network).then_some((found, cluster))
    });
    match owner {
        Some((environment, cluster)) => environment.nodes.push(Node {
            name: name.unwrap_or_default(),
            cluster,
            role: label(KIND_ROLE_LABEL),
            state: container.state.map(|state| state.to_string()).unwrap_or_default(),
            image: container.image.clone().unwrap_or_default(),
        }),
        None => inventory.foreign_clusters.push(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn network(value: serde_json::Value) -> Network {
        serde_json::from_value(value).unwrap()
    }

    fn ours() -> Network {
        network(json!({"Name": "kindmesh-e", "IPAM": {"Config": [{"Subnet": "172.30.0.0/24"}]},
            "Labels": {"kindmesh.environment": "e", "kindmesh.clusters": "a,b", "kindmesh.version": "0.1.0"}}))
    }

    fn container(name: &str, kind: &str, on: &str) -> ContainerSummary {
        serde_json::from_value(json!({"Names": [format!("/{name}")], "State": "running", "Image": "node",
            "Labels": {"io.x-k8s.kind.cluster": kind, "io.x-k8s.kind.role": "control-plane"},
            "NetworkSettings": {"Networks": {on: {}}}}))
        .unwrap()
    }

    #[test]
    fn node_is_ours_only_if_listed_and_attached() {
        let containers = [
            container("e-a-control-plane", "e-a", "kindmesh-e"),
            container("by-hand-control-plane", "by-hand", "kindmesh-e"),
            container("e-b-control-plane", "e-b", "kind"),
        ];
        let inventory = sort(&[ours()], &containers);
        let names: Vec<_> = inventory.environments["e"].nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["e-a-control-plane"]);
        assert_eq!(inventory.foreign_clusters, ["by-hand", "e-b"]);
    }

    #[test]
    fn invalid_label_values_create_no_environment() {
        for (name, label) in [("kindmesh-..", ".."), ("paths", "/home/ada"), ("shop_default", "e")] {
            let foreign = network(json!({"Name": name, "IPAM": {"Config": [{"Subnet": "172.31.0.0/24"}]},
                "Labels": {"kindmesh.environment": label, "kindmesh.clusters": "a,../b"}}));
            let inventory = sort(&[foreign], &[]);
            assert!(inventory.environments.is_empty(), "{name}");
            assert_eq!(inventory.taken.len(), 1, "its subnet still counts as taken");
        }
    }

    #[test]
    fn register_network_adds_clusters() {
        let register = network(json!({"Name": "kindmesh-e.c", "IPAM": {"Config": [{"Subnet": "172.30.1.0/29"}]},
            "Labels": {"kindmesh.environment": "e", "kindmesh.clusters": "c", "kindmesh.identity": "shop",
                       "kindmesh.subnets": "c=10.1.0.0/16+10.2.0.0/16"}}));
        let inventory = sort(&[register, ours()], &[container("e-c-control-plane", "e-c", "kindmesh-e")]);
        let environment = &inventory.environments["e"];
        assert_eq!(environment.clusters.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(environment.network.as_deref(), Some("kindmesh-e"));
        assert_eq!(environment.nodes.len(), 1);
        assert_eq!(environment.identities.iter().collect::<Vec<_>>(), [(&"c".to_owned(), &"shop".to_owned())]);
        assert_eq!(environment.clusters["c"].pods, Some("10.1.0.0/16".parse().unwrap()));
    }

    #[test]
    fn register_says_that_a_cluster_was_removed_or_added_again() {
        let of = |labels: serde_json::Value| {
            let mut labels = labels;
            labels["kindmesh.environment"] = json!("e");
            let register = network(json!({"Name": "kindmesh-e.b", "Labels": labels}));
            let mut first = ours();
            first.labels.as_mut().unwrap().extend([
                ("kindmesh.subnets".to_owned(), "b=10.1.0.0/16+10.2.0.0/16".to_owned()),
                ("kindmesh.identity".to_owned(), "shop".to_owned()),
            ]);
            let inventory = sort(&[register, first], &[container("e-b-control-plane", "e-b", "kindmesh-e")]);
            inventory.environments["e"].clone()
        };
        let removed = of(json!({"kindmesh.removed": "b"}));
        assert_eq!(removed.clusters.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(removed.identities.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(removed.removed["b"].pods, Some("10.1.0.0/16".parse().unwrap()));
        assert_eq!(removed.original.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(removed.nodes.is_empty(), "somebody else's node of that name");
        let again = of(json!({"kindmesh.clusters": "b", "kindmesh.subnets": "b=10.3.0.0/16+10.4.0.0/16"}));
        assert_eq!(again.clusters["b"].pods, Some("10.3.0.0/16".parse().unwrap()));
        assert_eq!(again.identities.keys().collect::<Vec<_>>(), ["a"], "kind created it under its own name");
        assert!(again.removed.is_empty() && again.nodes.len() == 1);
        // A register of a cluster that no network lists any more says nothing.
        assert!(of(json!({"kindmesh.removed": "x"})).removed.is_empty());
    }
}
