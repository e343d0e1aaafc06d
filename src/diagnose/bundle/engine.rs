//! Data from the engine about itself and the nodes, and the output of commands on the nodes.

use super::Part;
use crate::host::docker::{Engine, node};
use crate::plan::inventory::Environment;

/// The number of lines kept of a journal, and of a container's log.
const JOURNAL_LINES: &str = "3000";
const LOG_LINES: usize = 1000;

/// The commands that run on every node: file name and command.
const COMMANDS: [(&str, &str); 9] = [
    ("iptables.txt", "iptables-save; nft list ruleset 2>/dev/null | head -c 1000000 || true"),
    ("routes.txt", "ip address; ip rule; ip route show table all; ip neighbour"),
    (
        "link.txt",
        "cat /etc/kindmesh/link.conf; ls -l /etc/kindmesh; systemctl status --no-pager 'kindmesh-*' || true",
    ),
    (
        "machine.txt",
        "date --utc; uptime; df -h; free -m; cat /etc/resolv.conf; sysctl fs.inotify net.ipv4.ip_forward 2>/dev/null || true",
    ),
    ("images.txt", "crictl images 2>/dev/null || ctr --namespace k8s.io images list"),
    ("containers.txt", "crictl ps --all 2>/dev/null || ctr --namespace k8s.io tasks list"),
    ("units.txt", "systemctl list-units --no-pager --failed --all"),
    ("containerd.toml", "containerd config dump"),
    ("kubelet.yaml", "cat /var/lib/kubelet/config.yaml"),
];

/// The journals that are kept: file name and unit.
const JOURNALS: [(&str, &str); 5] = [
    ("kubelet.log", "kubelet"),
    ("containerd.log", "containerd"),
    ("kindmesh-link.log", "kindmesh-link"),
    ("kindmesh-boot.log", "kindmesh-boot"),
    ("kindmesh-balancer.log", "kindmesh-balancer"),
];

/// Returns the engine's and the nodes' files.
pub(super) fn parts<'a>(engine: &'a Engine, found: Option<&'a Environment>) -> Vec<Part<'a>> {
    let docker = &engine.docker;
    let mut parts = vec![
        Part::new("engine/info.json", async { Ok(serde_json::to_vec_pretty(&docker.info().await?)?) }),
        Part::new("engine/version.json", async { Ok(serde_json::to_vec_pretty(&docker.version().await?)?) }),
    ];
    for network in found.into_iter().flat_map(|found| &found.networks) {
        parts.push(Part::new(format!("engine/network-{network}.json"), async move {
            Ok(serde_json::to_vec_pretty(&docker.inspect_network(network, None).await?)?)
        }));
    }
    for found in found.into_iter().flat_map(|found| &found.nodes) {
        let name = found.name.as_str();
        let folder = format!("clusters/{}/nodes/{name}", found.cluster);
        parts.push(Part::new(format!("{folder}/container.json"), async move {
            Ok(serde_json::to_vec_pretty(&docker.inspect_container(name, None).await?)?)
        }));
        parts.push(Part::new(format!("{folder}/docker.log"), async move {
            Ok(node::log(engine, name, LOG_LINES).await.join("\n"))
        }));
        if found.state != "running" {
            let state = &found.state;
            parts.push(Part::new(folder, async move {
                Err::<String, _>(anyhow::anyhow!("the node is {state}: cannot run commands on it"))
            }));
            continue;
        }
        for (file, command) in COMMANDS {
            parts.push(Part::new(format!("{folder}/{file}"), async move {
                node::run(engine, name, &["sh", "-c", command]).await
            }));
        }
        for (file, unit) in JOURNALS {
            let command = [
                "journalctl",
                "--no-pager",
                "--quiet",
                "--output",
                "short-iso",
                "--lines",
                JOURNAL_LINES,
                "--unit",
                unit,
            ];
            parts.push(Part::new(
                format!("{folder}/{file}"),
                async move { node::run(engine, name, &command).await },
            ));
        }
    }
    parts
}
