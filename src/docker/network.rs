//! The environment's Docker network.

use std::collections::HashMap;

use anyhow::Context;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use ipnet::Ipv4Net;

use super::{Engine, engine, status};
use crate::error::Error;
use crate::event::Outcome;
use crate::plan;

/// What to do about a network that could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is there.
    Yes,
    /// Somebody else took the subnet since the plan was made: plan again.
    SubnetTaken,
}

/// Makes the environment's networks unless they are there.
///
/// # Errors
/// The engine's own, with what it said.
pub async fn ensure(engine: &Engine, plan: &plan::Network, have: &[String]) -> anyhow::Result<Outcome<Made>> {
    let mut changed = false;
    if !have.contains(&plan.name) {
        let mut options = HashMap::new();
        if let Some(mtu) = plan.mtu {
            options.insert("com.docker.network.driver.mtu".to_owned(), mtu.to_string());
        }
        let labels = plan.labels.clone().into_iter().collect();
        if create(engine, &plan.name, plan.subnet, labels, options, false).await? == Made::SubnetTaken {
            return Ok(Outcome::unchanged(Made::SubnetTaken));
        }
        changed = true;
    }
    for register in plan.registers.iter().filter(|register| !have.contains(&register.name)) {
        let labels = register.labels.clone().into_iter().collect();
        if create(engine, &register.name, register.subnet, labels, HashMap::new(), true).await?
            == Made::SubnetTaken
        {
            return Ok(Outcome { value: Made::SubnetTaken, changed });
        }
        changed = true;
    }
    Ok(Outcome { value: Made::Yes, changed })
}

async fn create(
    engine: &Engine,
    name: &str,
    subnet: Ipv4Net,
    labels: HashMap<String, String>,
    options: HashMap<String, String>,
    internal: bool,
) -> anyhow::Result<Made> {
    let config = IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() };
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".into()),
        ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
        options: Some(options),
        labels: Some(labels),
        internal: Some(internal),
        ..NetworkCreateRequest::default()
    };
    match engine.docker.create_network(request).await {
        Ok(_) => Ok(Made::Yes),
        // The engine's words for it; the status is 403 in old engines, 400 or 500 in newer ones.
        Err(error) if engine::chain(&error).contains("overlaps with other one") => Ok(Made::SubnetTaken),
        Err(error) if status(&error) == Some(409) => Err(Error::environment(format!(
            "a Docker network \"{name}\" exists that kindmesh did not make"
        ))
        .hint(format!("choose another environment name with --name, or: docker network rm {name}"))
        .into()),
        Err(error) => Err(error).with_context(|| format!("creating the Docker network {name} ({subnet})")),
    }
}

/// Removes a network; one that is gone is fine.
///
/// # Errors
/// The engine's own, for example while something is still attached.
pub async fn remove(engine: &Engine, name: &str) -> anyhow::Result<()> {
    match engine.docker.remove_network(name).await {
        Err(error) if !super::is_not_found(&error) => {
            let said = engine::chain(&error);
            Err(Error::environment(format!("the Docker network {name} could not be removed"))
                .evidence(said)
                .hint(format!("see what is attached: docker network inspect {name}"))
                .into())
        }
        _ => Ok(()),
    }
}
