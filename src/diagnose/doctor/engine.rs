//! The engine: whether it responds, and whether clusters can be created with it.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;
use crate::host::docker::Reason;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "engine.missing",
        finds: "no engine responds, or not in time",
        tested: "real: no socket, and a socket that never responds",
        judge: |facts| refused(facts, &[Reason::Absent, Reason::Silent]),
    },
    Check {
        id: "engine.not-allowed",
        finds: "this user may not access the engine",
        tested: "real: the test lab's engine, as a user other than root",
        judge: |facts| refused(facts, &[Reason::NotAllowed]),
    },
    Check {
        id: "engine.remote",
        finds: "the engine is on another host",
        tested: "real: `DOCKER_HOST`, contexts",
        judge: |facts| refused(facts, &[Reason::Remote]),
    },
    Check {
        id: "engine.address",
        finds: "the setting that selects the engine is wrong: the context does not exist, the address is invalid, \
            or TLS files are missing",
        tested: "real: `DOCKER_HOST`, contexts",
        judge: |facts| refused(facts, &[Reason::Address]),
    },
    Check {
        id: "engine.old",
        finds: "the engine's API is older than 1.41 (Docker 20.10)",
        tested: "recorded: an engine's responses, modified",
        judge: |facts| refused(facts, &[Reason::TooOld]),
    },
    Check {
        id: "engine.ipv6",
        finds: "the engine is IPv6-only",
        tested: "recorded: a default bridge without IPv4",
        judge: |facts| refused(facts, &[Reason::OnlyIpv6]),
    },
    Check {
        id: "engine.podman",
        finds: "the engine is Podman",
        tested: "recorded: an engine's responses, modified",
        judge: podman,
    },
    Check {
        id: "engine.container",
        finds: "kindmesh runs in a container, and the engine outside of it publishes the ports of the API servers elsewhere",
        tested: "unit: a container with and without the engine's network",
        judge: container,
    },
    Check {
        id: "engine.rootless",
        finds: "the engine is rootless; on cgroup v1, kind does not support that",
        tested: "recorded: an engine's responses, modified",
        judge: rootless,
    },
    Check {
        id: "engine.containers",
        finds: "the engine does not run Linux containers",
        tested: "recorded: an engine's responses, modified",
        judge: containers,
    },
    Check {
        id: "engine.cgroups",
        finds: "cgroup controllers that the kubelet requires are missing",
        tested: "recorded: an engine's responses, modified",
        judge: cgroups,
    },
];

fn refused(facts: &Facts, reasons: &[Reason]) -> Vec<Judgement> {
    let Some(refused) = facts.refused.as_ref().filter(|refused| reasons.contains(&refused.reason)) else {
        return good();
    };
    let error = &refused.error;
    let evidence = match error.evidence.is_empty() {
        true => "environment variables and the Docker configuration select the engine".into(),
        false => error.evidence.join("; "),
    };
    let cure = error.hint.clone().unwrap_or_default();
    Judgement::found(Severity::Blocks, &error.message, evidence, "no cluster can be created", cure)
}

fn podman(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = facts.engine.as_ref().filter(|engine| engine.podman) else { return good() };
    Judgement::found(
        Severity::Warns,
        "the engine is Podman",
        format!("docker version: Podman Engine {}", engine.version),
        "kindmesh uses kind's docker provider, which does not support Podman; kindmesh is not tested with Podman",
        "use a Docker engine: docker context ls; then docker context use NAME, or set DOCKER_HOST",
    )
}

/// kind publishes API servers on 127.0.0.1 of the engine's host. A container reaches them only if it has the network of that host,
/// whose name it then has, too, or at least the interface of the engine's bridge.
fn container(facts: &Facts) -> Vec<Judgement> {
    let (Some(engine), Some(evidence)) = (&facts.engine, &facts.host.container) else { return good() };
    // A socket of the engine's host that is mounted into the container: both have one kernel.
    if engine.kernel != facts.host.kernel {
        return good();
    }
    let is_host = engine.machine == facts.host.name || facts.host.interfaces.contains(&engine.bridge);
    if is_host {
        return good();
    }
    // Whoever sets every port can forward them.
    let severity = if facts.wanted.ports_set || facts.wanted.exists { Severity::Warns } else { Severity::Blocks };
    Judgement::found(
        severity,
        "kindmesh runs in a container, but the engine runs outside of it",
        format!("{evidence}; this host is {}, the engine's is {}", facts.host.name, engine.machine),
        "kind publishes the API servers on 127.0.0.1 of the engine's host, which this container does not reach",
        "run the container with that host's network: docker run --network host (devcontainer.json: \"runArgs\": \
            [\"--network=host\"]); or run an engine in the container (the devcontainer feature docker-in-docker)",
    )
}

fn rootless(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = facts.engine.as_ref().filter(|engine| engine.rootless) else {
        return good();
    };
    let evidence = format!("docker info: rootless, cgroup v{}", engine.cgroup_version);
    let cure = "use the engine that runs as root: docker context use default";
    match engine.cgroup_version {
        1 => Judgement::found(
            Severity::Blocks,
            "the engine is rootless, on cgroup v1",
            evidence,
            "kind cannot create clusters: it requires cgroup v2 with a rootless engine",
            cure,
        ),
        _ => Judgement::found(
            Severity::Warns,
            "the engine is rootless",
            evidence,
            "nodes cannot load kernel modules or set limits; kindmesh is not tested with rootless engines",
            cure,
        ),
    }
}

fn containers(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = facts.engine.as_ref().filter(|engine| engine.os != "linux") else { return good() };
    Judgement::found(
        Severity::Blocks,
        format!("the engine runs {} containers", engine.os),
        format!("docker version: server {}/{}", engine.os, engine.architecture),
        "nodes are Linux containers",
        "switch Docker Desktop to Linux containers: \
         & \"$Env:ProgramFiles\\Docker\\Docker\\DockerCli.exe\" -SwitchLinuxEngine",
    )
}

fn cgroups(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = facts.engine.as_ref().filter(|engine| !engine.missing_controllers.is_empty()) else {
        return good();
    };
    let missing = engine.missing_controllers.join(", ");
    let cure = match (engine.rootless, engine.cgroup_version) {
        (true, _) => {
            "delegate them with systemd: sudo mkdir -p /etc/systemd/system/user@.service.d && printf \
                '[Service]\\nDelegate=yes\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && \
                sudo systemctl daemon-reload, then log in again"
        }
        (_, 1) => "boot with cgroup_enable=cpuset,memory on the kernel's command line, or with cgroup v2",
        _ => {
            "check the kernel's controllers: cat /sys/fs/cgroup/cgroup.controllers; and its boot parameters: cat \
                /proc/cmdline"
        }
    };
    Judgement::found(
        Severity::Blocks,
        format!("cgroup controllers are missing: {missing}"),
        format!("docker info: no limits for {missing}; cgroup v{}", engine.cgroup_version),
        "the kubelet does not start",
        cure,
    )
}

#[cfg(test)]
mod tests {
    use super::Severity;
    use crate::base::error::Error;
    use crate::diagnose::doctor::facts::Facts;
    use crate::diagnose::doctor::testing::{engine, found, golden, good, only};
    use crate::host::docker::{Reason, Refused};

    #[test]
    fn every_reason_is_one_finding() {
        for (reason, id) in [
            (Reason::Absent, "engine.missing"),
            (Reason::Silent, "engine.missing"),
            (Reason::NotAllowed, "engine.not-allowed"),
            (Reason::Remote, "engine.remote"),
            (Reason::Address, "engine.address"),
            (Reason::TooOld, "engine.old"),
            (Reason::OnlyIpv6, "engine.ipv6"),
        ] {
            let error = Error::prerequisite("message").evidence("evidence").hint("hint");
            let refused = Some(Refused { reason, error });
            let finding = only(&Facts { refused, ..Facts::default() }, id);
            let said = (finding.what.as_str(), finding.evidence.as_str(), finding.cure.as_str());
            assert_eq!(said, ("message", "evidence", "hint"));
        }
    }

    #[test]
    fn engines_of_another_kind() {
        let mut facts = good();
        engine(&mut facts).os = "windows".into();
        golden("windows", &facts);
        let mut facts = good();
        engine(&mut facts).podman = true;
        engine(&mut facts).rootless = true;
        golden("podman", &facts);
    }

    #[test]
    fn container_needs_the_network_of_the_engine() {
        let mut facts = good();
        facts.host.container = Some("/.dockerenv".into());
        assert_eq!(found(&facts), "", "the engine runs in the same container");
        facts.host.name = "3f1c9a".into();
        engine(&mut facts).bridge = "docker0".into();
        facts.host.interfaces = vec!["lo".into(), "eth0".into()];
        facts.host.memory = 1;
        golden("container", &facts);
        facts.wanted.ports_set = true;
        assert_eq!(only(&facts, "engine.container").severity, Severity::Warns);
        facts.host.interfaces.push("docker0".into());
        assert_eq!(found(&facts), "", "it has the network of the engine's host");
        facts.host.interfaces.clear();
        engine(&mut facts).kernel = "6.6.0-linuxkit".into();
        assert!(!found(&facts).contains("engine.container"), "the socket is forwarded");
    }

    #[test]
    fn rootless_engine_depends_on_cgroup_version() {
        let mut facts = good();
        engine(&mut facts).rootless = true;
        golden("rootless", &facts);
        engine(&mut facts).cgroup_version = 1;
        golden("rootless_cgroup_v1", &facts);
        engine(&mut facts).rootless = false;
        assert_eq!(found(&facts), "", "cgroup v1 alone is supported");
    }

    #[test]
    fn a_kubelet_needs_its_controllers() {
        let mut facts = good();
        engine(&mut facts).missing_controllers = vec!["memory".into(), "pids".into()];
        golden("cgroups", &facts);
    }
}
