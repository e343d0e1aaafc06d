//! Where a sample service runs, which is part of every response.

use serde::{Deserialize, Serialize};

/// The location of one pod. A field is empty if the pod does not know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The cluster's name in the mesh, `cluster1`.
    pub cluster_name: String,
    /// The cluster's region.
    pub cluster_location: String,
    /// The pod's name.
    pub host_name: String,
    /// The pod's address.
    pub ip_address: String,
    /// The zone of the node that the pod runs on.
    pub zone: String,
    /// The region of the node that the pod runs on.
    pub region: String,
}

impl Metadata {
    /// Reads `CLUSTER_NAME`, `CLUSTER_REGION`, `CLUSTER_ZONE`, `POD_IP` and `HOSTNAME`.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name| lookup(name).unwrap_or_default();
        let region = get("CLUSTER_REGION");
        Self {
            cluster_name: get("CLUSTER_NAME"),
            cluster_location: region.clone(),
            host_name: get("HOSTNAME"),
            ip_address: get("POD_IP"),
            zone: get("CLUSTER_ZONE"),
            region,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_from_variables() {
        let metadata = Metadata::from_lookup(|name| Some(format!("<{name}>")));
        assert_eq!(
            serde_json::to_value(metadata).unwrap(),
            serde_json::json!({
                "clusterName": "<CLUSTER_NAME>",
                "clusterLocation": "<CLUSTER_REGION>",
                "hostName": "<HOSTNAME>",
                "ipAddress": "<POD_IP>",
                "zone": "<CLUSTER_ZONE>",
                "region": "<CLUSTER_REGION>",
            })
        );
    }

    #[test]
    fn unset_variables_are_empty() {
        assert_eq!(Metadata::from_lookup(|_| None), Metadata::default());
    }
}
