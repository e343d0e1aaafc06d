//! Notes about objects that ask for an address outside of the cluster, where nothing gives them one.

use anyhow::Context;
use kube::api::{DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::cluster::kinds;
use crate::cluster::mesh::apply::kind;

/// Returns one note for each kind of such objects. `balanced` tells whether Services of type LoadBalancer get an address.
///
/// # Errors
/// The API server's.
pub(super) async fn notes<'a>(
    (cluster, client): (&str, &Client),
    objects: impl Iterator<Item = &'a DynamicObject> + Clone,
    balanced: bool,
) -> anyhow::Result<Vec<String>> {
    let served = match objects.clone().any(|object| kind(object) == "Ingress") {
        true => {
            has_ingress_class(client).await.with_context(|| format!("listing ingress classes in {cluster}"))?
        }
        false => false,
    };
    Ok(unaddressed(cluster, objects, balanced, served))
}

async fn has_ingress_class(client: &Client) -> kube::Result<bool> {
    let api = kinds::api(client, "networking.k8s.io/v1", "IngressClass", None);
    match api.list(&ListParams::default()).await {
        Ok(classes) => Ok(!classes.items.is_empty()),
        // In a cluster that existed before, the user may not list them: then nothing is known.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(true),
        Err(error) => Err(error),
    }
}

fn unaddressed<'a>(
    cluster: &str,
    objects: impl Iterator<Item = &'a DynamicObject> + Clone,
    balanced: bool,
    served: bool,
) -> Vec<String> {
    let served = served || objects.clone().any(|object| kind(object) == "IngressClass");
    let named = |wants: &dyn Fn(&DynamicObject) -> bool| {
        let names: Vec<String> =
            objects.clone().filter(|object| wants(object)).map(ResourceExt::name_any).collect();
        names.join(", ")
    };
    let balances = |object: &DynamicObject| {
        kind(object) == "Service"
            && object.data.pointer("/spec/type").and_then(Value::as_str) == Some("LoadBalancer")
    };
    let (ingresses, services) = (named(&|object| kind(object) == "Ingress"), named(&balances));
    let mut notes = Vec::new();
    if !served && !ingresses.is_empty() {
        notes.push(format!(
            "{cluster} has no ingress controller: nothing serves Ingress {ingresses}. kubectl port-forward reaches the Services \
                from the host"
        ));
    }
    if !balanced && !services.is_empty() {
        notes.push(format!(
            "nothing in {cluster} assigns addresses: the external address of Service {services} stays pending. kubectl \
                port-forward reaches it from the host"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply::objects;

    const WEB: &str = "\
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: LoadBalancer}}
---
{apiVersion: v1, kind: Service, metadata: {name: orders}, spec: {type: ClusterIP}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: shop}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: admin}}
";

    #[test]
    fn objects_that_get_no_address_are_noted_once() {
        let all = objects(WEB).unwrap();
        let notes = |balanced, served| unaddressed("cluster1", all.iter(), balanced, served);
        let both = notes(false, false);
        assert!(both[0].contains("nothing serves Ingress shop, admin"), "{both:?}");
        assert!(both[1].contains("external address of Service web stays pending"), "{both:?}");
        assert_eq!(both.len(), 2);
        assert_eq!(notes(true, true), [""; 0]);
        assert_eq!(notes(true, false).len(), 1);
    }

    #[test]
    fn ingress_class_of_the_manifests_counts() {
        let class = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: nginx}}\n---\n";
        let all = objects(&format!("{class}{WEB}")).unwrap();
        assert_eq!(unaddressed("cluster1", all.iter(), true, false), [""; 0]);
    }
}
