//! The environment's Docker network.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use ipnet::Ipv4Net;

use super::{Engine, engine, is_not_found, status};
use crate::base::error::Error;
use crate::base::event::Outcome;
use crate::plan;
use crate::plan::admission::foreign_network;
use crate::plan::inventory::{self, ENVIRONMENT_LABEL};

/// The result of creating a planned network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It exists.
    Yes,
    /// Another process took a planned subnet, or created this network from another plan. Plan again without these
    /// subnets: the engine reserves a subnet some time before it lists the network.
    SubnetTaken,
}

/// The engine's messages for a subnet in use: from its address management, and from its bridge driver. The status is
/// 403 in old engines, 400 or 500 in newer ones.
const OVERLAPS: [&str; 2] = ["Pool overlaps with other one on this address space", "networks have overlapping"];

/// Creates the environment's networks unless they exist. `have` names those known to belong to the environment.
///
/// # Errors
/// A usage error if a network of the same name does not belong to the environment; otherwise the engine's error,
/// with its message.
pub async fn ensure(engine: &Engine, plan: &plan::Network, have: &[String]) -> anyhow::Result<Outcome<Created>> {
    let mut changed = false;
    for register in plan.registers.iter().filter(|register| register.replaces) {
        remove(engine, &register.name).await?;
    }
    let replaced = |name: &String| plan.registers.iter().any(|other| other.replaces && other.name == *name);
    let exists = |name: &String| have.contains(name) && !replaced(name);
    for request in requests(plan).into_iter().filter(|request| !exists(&request.name)) {
        let made = make(engine, request).await?;
        changed |= made.changed;
        if made.value == Created::SubnetTaken {
            return Ok(Outcome { value: Created::SubnetTaken, changed });
        }
    }
    Ok(Outcome { value: Created::Yes, changed })
}

/// Makes the engine's networks say that a cluster was removed.
///
/// # Errors
/// The engine's, or if the register's subnet is in use by now.
pub async fn unlist(engine: &Engine, removed: &plan::Removed) -> anyhow::Result<()> {
    if let Some(register) = &removed.register {
        remove(engine, register).await?;
    }
    if let Some(marker) = &removed.marker
        && make(engine, register_request(marker)).await?.value == Created::SubnetTaken
    {
        return Err(Error::environment(format!("the subnet {} was taken by another process", marker.subnet))
            .hint("run the same command again")
            .into());
    }
    Ok(())
}

/// Returns the requests to the engine: the network itself, then its registers.
fn requests(plan: &plan::Network) -> Vec<NetworkCreateRequest> {
    let mtu = plan.mtu.map(|mtu| ("com.docker.network.driver.mtu".to_owned(), mtu.to_string()));
    let main = NetworkCreateRequest {
        options: Some(HashMap::from_iter(mtu)),
        ..request(&plan.name, plan.subnet, Some(plan.nodes()), &plan.labels)
    };
    std::iter::once(main).chain(plan.registers.iter().map(register_request)).collect()
}

fn register_request(register: &plan::Register) -> NetworkCreateRequest {
    let request = request(&register.name, register.subnet, None, &register.labels);
    NetworkCreateRequest { internal: Some(true), ..request }
}

fn request(
    name: &str,
    subnet: Ipv4Net,
    range: Option<Ipv4Net>,
    labels: &BTreeMap<String, String>,
) -> NetworkCreateRequest {
    let ip_range = range.map(|range| range.to_string());
    let config = IpamConfig { subnet: Some(subnet.to_string()), ip_range, ..IpamConfig::default() };
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".into()),
        ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
        labels: Some(labels.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

async fn make(engine: &Engine, request: NetworkCreateRequest) -> anyhow::Result<Outcome<Created>> {
    // Docker before 25 silently creates a second network of the same name.
    let there = named(engine, &request.name).await?;
    if !there.is_empty() {
        return Ok(Outcome::unchanged(judge(&there, &request)?));
    }
    match engine.docker.create_network(request.clone()).await {
        Ok(_) => Ok(Outcome::changed(Created::Yes)),
        Err(error) if OVERLAPS.iter().any(|words| engine::chain(&error).contains(words)) => {
            Ok(Outcome::unchanged(Created::SubnetTaken))
        }
        Err(error) if status(&error) == Some(409) => {
            Ok(Outcome::unchanged(judge(&named(engine, &request.name).await?, &request)?))
        }
        Err(error) => Err(error).with_context(|| format!("creating the Docker network {}", request.name)),
    }
}

/// Decides who created the existing networks of a planned name: another `up` of the environment, or another program.
fn judge(there: &[Network], wanted: &NetworkCreateRequest) -> Result<Created, Error> {
    let environment = wanted.labels.iter().flatten().find(|(key, _)| *key == ENVIRONMENT_LABEL);
    let ours = |network: &Network| network.labels.iter().flatten().any(|label| Some(label) == environment);
    if !there.iter().all(ours) {
        return Err(foreign_network(&wanted.name));
    }
    let subnet = |ipam: &Option<Ipam>| {
        ipam.iter().flat_map(|ipam| &ipam.config).flatten().find_map(|config| config.subnet.clone())
    };
    let as_planned =
        |network: &Network| network.labels == wanted.labels && subnet(&network.ipam) == subnet(&wanted.ipam);
    Ok(if there.iter().any(as_planned) { Created::Yes } else { Created::SubnetTaken })
}

/// Returns the networks of exactly this name: the engine's filter also matches parts of names.
async fn named(engine: &Engine, name: &str) -> anyhow::Result<Vec<Network>> {
    let filters = HashMap::from([("name", vec![name])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let mut found = engine
        .docker
        .list_networks(Some(options))
        .await
        .with_context(|| format!("looking for the Docker network {name}"))?;
    found.retain(|network| network.name.as_deref() == Some(name));
    Ok(found)
}

/// Removes the networks of this name with an environment's labels, each by its ID: several networks can share a
/// name. A missing network is not an error. A network with attached containers is kept; returns their names.
///
/// # Errors
/// The engine's errors.
pub async fn remove(engine: &Engine, name: &str) -> anyhow::Result<Vec<String>> {
    let mut in_use = Vec::new();
    for network in named(engine, name).await? {
        let label = network.labels.as_ref().and_then(|labels| labels.get(ENVIRONMENT_LABEL));
        if label.and_then(|label| inventory::owner(name, label)).is_none() {
            continue;
        }
        let id = network.id.as_deref().unwrap_or(name);
        match engine.docker.remove_network(id).await {
            Err(error) if !is_not_found(&error) => {
                let attached = attached(engine, id).await;
                if !attached.is_empty() {
                    in_use.extend(attached);
                    continue;
                }
                return Err(Error::environment(format!("the Docker network {name} could not be removed"))
                    .evidence(engine::chain(&error))
                    .hint(format!("list the attached containers: docker network inspect {name}"))
                    .into());
            }
            _ => {}
        }
    }
    Ok(in_use)
}

/// Returns the names of the containers attached to a network; none if the engine does not report them.
async fn attached(engine: &Engine, id: &str) -> Vec<String> {
    let found = engine.docker.inspect_network(id, None).await.ok().and_then(|network| network.containers);
    let mut names: Vec<_> =
        found.unwrap_or_default().into_iter().map(|(id, container)| container.name.unwrap_or(id)).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use serde_json::{Value, json};

    fn there(labels: Value, subnet: &str) -> Network {
        let network = json!({"Name": "kindmesh-e", "Labels": labels, "IPAM": {"Config": [{"Subnet": subnet}]}});
        serde_json::from_value(network).unwrap()
    }

    fn wanted() -> NetworkCreateRequest {
        let labels = [(ENVIRONMENT_LABEL, "e"), ("kindmesh.clusters", "a")];
        let plan = plan::Network {
            name: "kindmesh-e".into(),
            subnet: "172.30.0.0/24".parse().unwrap(),
            mtu: Some(1400),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            registers: Vec::new(),
        };
        requests(&plan).remove(0)
    }

    #[test]
    fn existing_network_is_judged_by_its_labels() {
        let ours = json!({"kindmesh.environment": "e", "kindmesh.clusters": "a"});
        let others = json!({"kindmesh.environment": "e", "kindmesh.clusters": "a,b"});
        let judge = |there: &[Network]| judge(there, &wanted());
        assert_eq!(judge(&[there(ours.clone(), "172.30.0.0/24")]).unwrap(), Created::Yes);
        assert_eq!(judge(&[there(ours.clone(), "172.30.1.0/24")]).unwrap(), Created::SubnetTaken);
        assert_eq!(judge(&[there(others, "172.30.0.0/24")]).unwrap(), Created::SubnetTaken);
        for foreign in [json!({}), json!({"kindmesh.environment": "f"})] {
            let networks = [there(ours.clone(), "172.30.0.0/24"), there(foreign, "172.30.0.0/24")];
            assert_eq!(judge(&networks).unwrap_err().kind, Kind::Usage);
        }
    }
}
