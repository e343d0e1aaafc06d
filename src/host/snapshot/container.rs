//! What a node's container was created with, from the engine's inspection; and the request for a container like it.

use anyhow::Context;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use serde_json::{Value, json};

use crate::plan::inventory::{KIND_CLUSTER_LABEL, KIND_ROLE_LABEL};

/// The port of the API server in a control plane.
const API_PORT: &str = "6443/tcp";

/// Returns what to keep of an inspected container.
///
/// # Errors
/// If the engine reports no configuration.
pub fn kept(inspected: &ContainerInspectResponse) -> anyhow::Result<Value> {
    let config = inspected.config.as_ref().context("the engine reports no configuration")?;
    let host = inspected.host_config.as_ref().context("the engine reports no host configuration")?;
    let mut kept = serde_json::to_value(config)?;
    kept["HostConfig"] = serde_json::to_value(host)?;
    Ok(kept)
}

/// Whether a kept container is a control plane.
pub fn is_control_plane(kept: &Value) -> bool {
    kept["Labels"][KIND_ROLE_LABEL] == "control-plane"
}

/// Removes the variables with the proxies of the original's host. Returns the name of one with a password, which others than the
/// container have, too.
pub fn remove_proxies(kept: &mut Value) -> Option<String> {
    let mut with_password = None;
    if let Some(variables) = kept["Env"].as_array_mut() {
        variables.retain(|variable| {
            let Some((name, value)) = variable.as_str().and_then(|text| text.split_once('=')) else { return true };
            let is_proxy = name.to_ascii_lowercase().ends_with("_proxy");
            if is_proxy && value.contains('@') {
                with_password = Some(name.to_owned());
            }
            !is_proxy
        });
    }
    with_password
}

/// What distinguishes a new container from the original.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// kind's name of its cluster.
    pub kind_name: &'a str,
    /// Its image.
    pub image: &'a str,
    /// Its network.
    pub network: &'a str,
}

/// Returns the request for a container like a kept one. It keeps the host name, which is the name of the Kubernetes node, and
/// is found under it on its network. The API server is published on `api_port` if it was published.
///
/// # Errors
/// If what was kept cannot be read.
pub fn request(kept: &Value, wanted: Wanted<'_>, api_port: u16) -> anyhow::Result<ContainerCreateBody> {
    let Wanted { name, kind_name, image, network } = wanted;
    let mut kept = kept.clone();
    kept["Image"] = json!(image);
    kept["Labels"][KIND_CLUSTER_LABEL] = json!(kind_name);
    kept["HostConfig"]["NetworkMode"] = json!(network);
    let bindings = kept.pointer_mut("/HostConfig/PortBindings").and_then(|bindings| bindings.get_mut(API_PORT));
    for binding in bindings.and_then(Value::as_array_mut).into_iter().flatten() {
        binding["HostPort"] = json!(api_port.to_string());
    }
    let endpoint = match kept["Hostname"].as_str() {
        Some(hostname) if hostname != name => json!({"Aliases": [hostname]}),
        _ => json!({}),
    };
    kept["NetworkingConfig"] = json!({"EndpointsConfig": {network: endpoint}});
    serde_json::from_value(kept).context("reading what a node was created with")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_repeats_what_was_kept() {
        let inspected: ContainerInspectResponse = serde_json::from_value(json!({
            "Config": {"Hostname": "e-a-control-plane", "Image": "node:old", "Labels": {"x": "y"}, "Tty": true,
                "Volumes": {"/var": {}}, "Env": ["A=b", "HTTPS_PROXY=http://user:secret@proxy"]},
            "HostConfig": {"NetworkMode": "kindmesh-e", "Privileged": true, "Tmpfs": {"/run": ""},
                "PortBindings": {"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1"}],
                                 "80/tcp": [{"HostIp": "", "HostPort": "8080"}]}},
        }))
        .unwrap();
        let wanted =
            Wanted { name: "f-a-control-plane", kind_name: "f-a", image: "node:new", network: "kindmesh-f" };
        let mut kept = kept(&inspected).unwrap();
        assert_eq!(remove_proxies(&mut kept).as_deref(), Some("HTTPS_PROXY"));
        let body = request(&kept, wanted, 4711).unwrap();
        assert_eq!(body.labels.unwrap()[KIND_CLUSTER_LABEL], "f-a");
        assert_eq!(body.image.as_deref(), Some("node:new"));
        assert_eq!(body.hostname.as_deref(), Some("e-a-control-plane"));
        assert_eq!((body.tty, body.env), (Some(true), Some(vec!["A=b".to_owned()])));
        let host = body.host_config.unwrap();
        assert_eq!((host.network_mode.as_deref(), host.privileged), (Some("kindmesh-f"), Some(true)));
        let ports = host.port_bindings.unwrap();
        let port = |name: &str| ports[name].as_ref().unwrap()[0].host_port.clone().unwrap();
        assert_eq!((port("6443/tcp").as_str(), port("80/tcp").as_str()), ("4711", "8080"));
        let aliases = |body: ContainerCreateBody| {
            body.networking_config.unwrap().endpoints_config.unwrap().remove("kindmesh-f").unwrap().aliases
        };
        let same_name = request(&kept, Wanted { name: "e-a-control-plane", ..wanted }, 4711).unwrap();
        assert_eq!(aliases(same_name), None);
        let other_name = request(&kept, wanted, 4711).unwrap();
        assert_eq!(aliases(other_name), Some(vec!["e-a-control-plane".to_owned()]));
    }
}
