//! How a series of calls reaches every pod, also behind an east-west gateway.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::json;

use super::check::Trial;
use crate::cluster::mesh::apply;
use crate::spec::merge::merge;

/// For producers behind a gateway.
const ONE_CALL_PER_CONNECTION: &str = include_str!("../../../mesh-manifests/verify/balance.gateway.yaml");
/// With two pods chosen at random, all calls miss one of them once in 2^39 runs.
pub(super) const CALLS: usize = 40;

/// Applies a check's policies for a Service of HTTP or gRPC. Behind a gateway, with one call for each connection to it.
pub(super) async fn apply_for(trial: &Trial<'_>, service: &str) -> anyhow::Result<()> {
    if !trial.bench.is_apart() {
        return trial.apply().await;
    }
    trial.record("the gateway chooses a pod for each connection: one call for each (maxRequestsPerConnection: 1)");
    trial.apply_all(&one_call_per_connection(service, &trial.policies)?).await
}

/// Returns the check's policies with the setting of [`ONE_CALL_PER_CONNECTION`].
fn one_call_per_connection(service: &str, policies: &[DynamicObject]) -> anyhow::Result<Vec<DynamicObject>> {
    let mut combined = apply::objects(ONE_CALL_PER_CONNECTION)?;
    for rule in &mut combined {
        rule.metadata.name = Some(service.to_owned());
        rule.data["spec"]["host"] = json!(service);
    }
    for policy in policies {
        match combined
            .iter_mut()
            .find(|object| object.types == policy.types && object.name_any() == policy.name_any())
        {
            Some(object) => merge(&mut object.data, policy.data.clone()),
            None => combined.push(policy.clone()),
        }
    }
    Ok(combined)
}
