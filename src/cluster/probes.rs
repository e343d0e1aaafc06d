//! Probe pods: pods of the sample image in its third role, which sends the calls that it is asked for. They run in
//! separate namespaces, for checks and for tests.

use kube::api::DynamicObject;
use serde_json::json;

use crate::cluster::mesh::apply;
use crate::cluster::workloads;
use crate::spec::Cluster;

const POD: &str = include_str!("../../mesh-manifests/verify/pod.yaml");

/// A probe pod. Its name is also the name of its Deployment and service account, and the value of its label `app`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    pub name: &'static str,
    pub replicas: u8,
    pub meshed: bool,
    /// An additional label of its pods.
    pub label: Option<(&'static str, &'static str)>,
}

impl Probe {
    /// Returns its objects for a namespace of a cluster.
    ///
    /// # Errors
    /// If the built-in file is invalid.
    pub fn objects(&self, namespace: &str, image: &str, cluster: &Cluster) -> anyhow::Result<Vec<DynamicObject>> {
        let mut objects = apply::objects(POD)?;
        for object in &mut objects {
            self.adapt(object, namespace, image, cluster);
        }
        Ok(objects)
    }

    fn adapt(&self, object: &mut DynamicObject, namespace: &str, image: &str, cluster: &Cluster) {
        object.metadata.name = Some(self.name.into());
        object.metadata.namespace = Some(namespace.to_owned());
        let Some(spec) = object.data.pointer_mut("/spec") else { return };
        spec["replicas"] = json!(self.replicas);
        spec["selector"]["matchLabels"]["app"] = json!(self.name);
        let template = &mut spec["template"];
        template["metadata"]["labels"]["app"] = json!(self.name);
        template["metadata"]["labels"]["sidecar.istio.io/inject"] = json!(self.meshed.to_string());
        if let Some((key, value)) = self.label {
            template["metadata"]["labels"][key] = json!(value);
        }
        template["spec"]["serviceAccountName"] = json!(self.name);
        let container = &mut template["spec"]["containers"][0];
        container["image"] = json!(image);
        workloads::set_location(container, cluster);
    }
}
