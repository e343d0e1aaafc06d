//! Which fields of a running environment's spec may change.

use serde_json::Value;

use super::validate::{Problem, report};
use super::{Cluster, Origins, Spec};
use crate::base::difference::{self, Lists};
use crate::base::error::Error;

/// Checks that `up` can change an environment from its stored spec to the new one.
///
/// Clusters may be added at any position and removed, and `mesh.values`, `samples`, `deploy` and the addresses of clusters that
/// exist may change. Clusters are matched by name, so their order does not matter.
///
/// # Errors
/// A usage error that names every other changed field, with its old and new value.
pub fn changes(stored: &Spec, wanted: &Spec, origins: &Origins) -> Result<(), Error> {
    let mut found = Vec::new();
    // An Istio that is used as it is has its own version and hub.
    let installs = stored.mesh.install && wanted.mesh.install;
    differences("", &fixed(stored, installs), &fixed(wanted, installs), &mut found);
    for old in &stored.clusters {
        if let Some((index, new)) = wanted.clusters.iter().enumerate().find(|(_, new)| new.name == old.name) {
            let path = format!("clusters[{index}]");
            differences(&path, &plain(old), &plain(new), &mut found);
            // A context may get another name: which cluster it names is compared when it is known.
            if old.exists() != new.exists() {
                let context = |cluster: &Cluster| serde_json::json!({"context": cluster.context});
                differences(&path, &context(old), &context(new), &mut found);
            }
            let (mut was, mut is) = (own(stored, old, installs), own(wanted, new, installs));
            if old.mesh.control_plane != new.mesh.control_plane {
                // The primary follows from it.
                (was["mesh"]["primary"], is["mesh"]["primary"]) = (Value::Null, Value::Null);
            }
            // What a cluster has from the fields for all clusters is reported there. The primary depends on the other clusters.
            if (&old.kubernetes, &old.mesh) == (&new.kubernetes, &new.mesh) {
                (was, is) = (only_primary(&was), only_primary(&is));
            }
            differences(&path, &was, &is, &mut found);
        }
    }
    // Unlike the nodes of kind's clusters, what is in it cannot be deleted with it.
    let gone = |old: &&Cluster| old.exists() && !wanted.clusters.iter().any(|new| new.name == old.name);
    for old in stored.clusters.iter().filter(gone) {
        let what = format!("cluster {} cannot be removed: kindmesh did not create it", old.name);
        found.push(("clusters".into(), what));
    }
    let hint = format!("kindmesh down --name {} first, or undo the change", stored.name);
    let problem = |(path, what): (String, String)| Problem::at(origins, &path, &what).hint(hint.clone());
    report(found.into_iter().map(problem).collect(), "changes require a new environment")
}

/// The fields that may not change, except the clusters.
fn fixed(spec: &Spec, installs: bool) -> Value {
    serde_json::json!({
        "name": spec.name,
        "topology": spec.topology,
        "network": spec.network,
        "kubernetes": spec.kubernetes,
        "mesh": {
            "version": installs.then_some(&spec.mesh.version),
            "hub": installs.then_some(&spec.mesh.hub),
            "install": spec.mesh.install,
        },
        // The directory may move: whether it has the same root is compared when it is read.
        "trust": {"from": spec.trust.from.as_ref().map(|_| "a directory")},
    })
}

/// The fields of a cluster that may not change and have a default for all clusters, with their effective values.
fn own(spec: &Spec, cluster: &Cluster, installs: bool) -> Value {
    serde_json::json!({
        "kubernetes": {"nodeImage": spec.node_image_of(cluster)},
        "mesh": {
            "version": installs.then(|| spec.istio_version_of(cluster)),
            "controlPlane": cluster.mesh.control_plane,
            "primary": spec.primary_of(cluster).map(|primary| &primary.name),
        },
    })
}

fn only_primary(own: &Value) -> Value {
    serde_json::json!({"mesh": {"primary": own["mesh"]["primary"]}})
}

/// The other fields of a cluster that may not change.
fn plain(cluster: &Cluster) -> Value {
    serde_json::json!({
        "region": cluster.region,
        "zone": cluster.zone,
        "workers": cluster.workers,
        "network": cluster.network,
        "podSubnet": cluster.pod_subnet,
        "serviceSubnet": cluster.service_subnet,
        "kind": cluster.kind,
    })
}

/// Adds the fields that differ, each at the deepest level where both sides are maps.
fn differences(path: &str, old: &Value, new: &Value, found: &mut Vec<(String, String)>) {
    let mut differing = Vec::new();
    difference::add(path, old, new, Lists::Whole, &mut differing);
    found.extend(differing.into_iter().map(|(path, old, new)| {
        let what = format!("{path} cannot change from {} to {}", show(old), show(new));
        (path, what)
    }));
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "unset".into(),
        Value::String(text) if text.is_empty() => "\"\"".into(),
        Value::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    }
}
