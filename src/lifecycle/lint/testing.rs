//! Manifests for the tests of the rules.

use super::mesh::{Mesh, Source};
use super::rule::Finding;
use crate::cluster::mesh::apply::objects;
use crate::lifecycle::lint::check::read::{Placement, placed};

/// The Service `orders` in namespace `shop` with two pods.
pub(super) const ORDERS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: orders, namespace: shop}, spec: {selector: {app: orders}, ports: [{name: http, port: 8080}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: orders, namespace: shop}, spec: {replicas: 2, template: {metadata: {labels: {app: orders, version: v1}}, spec: {containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]}}}}
";

/// Returns the DestinationRule `orders` with these fields.
pub(super) fn rule(fields: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: orders, namespace: shop}}, \
            spec: {{host: orders, {fields}}}}}\n"
    )
}

/// Returns the VirtualService `orders` with these fields.
pub(super) fn routes(fields: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: orders, namespace: shop}}, \
            spec: {{hosts: [orders], {fields}}}}}\n"
    )
}

/// Returns the objects of a YAML text, without line numbers.
pub(super) fn sources(yaml: &str) -> Vec<Source> {
    let placement = Placement { namespace: "default".into(), ..Placement::default() };
    let objects = objects(yaml).unwrap().into_iter();
    objects.map(|object| Source { folder: 0, ..placed(object, 0, None, &placement) }).collect()
}

/// Returns what a rule finds in a YAML text.
pub(super) fn found(yaml: &str, find: fn(Mesh) -> Vec<Finding>) -> Vec<Finding> {
    find(Mesh(&sources(yaml)))
}
