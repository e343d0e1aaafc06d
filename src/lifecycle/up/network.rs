//! Plans, and claims the plan by creating the network: two processes may compete for its subnets and its name.

use super::template::Source;
use super::unlabeled;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::host::docker::{Engine, network};
use crate::host::inventory as gather;
use crate::plan::inventory::{Environment, Inventory, Taken};
use crate::plan::{self, Plan, admission};
use crate::spec::{Origins, Spec};

/// The maximum number of plans, if another process takes a planned subnet first.
const PLANS: usize = 5;

/// The result of planning.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// The existing part of the environment.
    pub(super) existing: Environment,
}

/// Plans from the inventory, and creates the network. Inspects and plans again only if another process took a
/// planned subnet in the meantime.
pub(super) async fn ensure(
    engine: &Engine,
    spec: &Spec,
    origins: &Origins,
    inventory: Inventory,
    source: &mut Source,
    events: &Events,
) -> anyhow::Result<Planned> {
    let step = events.step("network", None);
    step.run(async move |_| {
        let (executable, clusters) = (inventory.executable.clone(), inventory.existing.clone());
        let mut inventory = inventory;
        let mut refused: Vec<Taken> = Vec::new();
        for _ in 0..PLANS {
            source.assume(spec, &mut inventory)?;
            let plan = plan::plan(spec, &inventory).map_err(|error| origins.place(error))?;
            let existing = inventory.environments.remove(&plan.environment).unwrap_or_default();
            admission::names(&unlabeled::look(engine, &plan, &existing).await?)?;
            let wanted = &plan.docker()?.network;
            let made = network::ensure(engine, wanted, &existing.networks).await?;
            if made.value == network::Created::Yes {
                return Ok(Outcome { value: Planned { plan, existing }, changed: made.changed });
            }
            // The engine reserves a subnet before it lists the network.
            let planned = std::iter::once(wanted.subnet).chain(wanted.registers.iter().map(|r| r.subnet));
            refused.extend(planned.map(|subnet| Taken { subnet, by: "another process".into() }));
            let gathered = gather::gather(engine).await?;
            inventory = Inventory { executable: executable.clone(), existing: clusters.clone(), ..gathered };
            inventory.taken.extend(refused.iter().cloned());
        }
        Err(Error::environment(format!("{PLANS} planned subnets in a row were taken by other processes"))
            .hint("set network.subnet in kindmesh.yaml to a free subnet; used networks: docker network ls")
            .into())
    })
    .await
}
