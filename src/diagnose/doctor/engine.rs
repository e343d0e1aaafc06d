//! The engine: whether there is one, and whether it is of a kind that clusters can be made with.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;
use crate::host::docker::Reason;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "engine.missing",
        finds: "no engine answers where one should be, or not in time",
        tested: "real: no socket, and a socket that never answers",
        judge: |facts| refused(facts, &[Reason::Absent, Reason::Silent]),
    },
    Check {
        id: "engine.not-allowed",
        finds: "this user may not talk to the engine",
        tested: "real: the lab's engine, as another user than root",
        judge: |facts| refused(facts, &[Reason::NotAllowed]),
    },
    Check {
        id: "engine.remote",
        finds: "the engine is on another machine",
        tested: "real: `DOCKER_HOST`, contexts",
        judge: |facts| refused(facts, &[Reason::Remote]),
    },
    Check {
        id: "engine.address",
        finds: "what names the engine is wrong: a context that is gone, no address, TLS files missing",
        tested: "real: `DOCKER_HOST`, contexts",
        judge: |facts| refused(facts, &[Reason::Address]),
    },
    Check {
        id: "engine.old",
        finds: "the engine speaks an API older than 1.41 (Docker 20.10)",
        tested: "recorded: an engine's answers, changed",
        judge: |facts| refused(facts, &[Reason::TooOld]),
    },
    Check {
        id: "engine.ipv6",
        finds: "the engine has IPv6 alone",
        tested: "recorded: a default bridge without IPv4",
        judge: |facts| refused(facts, &[Reason::OnlyIpv6]),
    },
    Check {
        id: "engine.podman",
        finds: "the engine is Podman",
        tested: "recorded: an engine's answers, changed",
        judge: podman,
    },
    Check {
        id: "engine.rootless",
        finds: "the engine runs without root's rights; on cgroup v1 kind refuses it",
        tested: "recorded: an engine's answers, changed",
        judge: rootless,
    },
    Check {
        id: "engine.containers",
        finds: "the engine runs other containers than Linux's",
        tested: "recorded: an engine's answers, changed",
        judge: containers,
    },
    Check {
        id: "engine.cgroups",
        finds: "cgroup controllers are missing that a kubelet needs",
        tested: "recorded: an engine's answers, changed",
        judge: cgroups,
    },
];

fn refused(facts: &Facts, reasons: &[Reason]) -> Vec<Judgement> {
    let Some(refused) = facts.refused.as_ref().filter(|refused| reasons.contains(&refused.reason)) else {
        return good();
    };
    let error = &refused.error;
    let evidence = match error.evidence.is_empty() {
        true => "from the environment's variables and the Docker configuration".into(),
        false => error.evidence.join("; "),
    };
    let cure = error.hint.clone().unwrap_or_default();
    Judgement::found(Severity::Blocks, &error.message, evidence, "there is nothing to make clusters with", cure)
}

fn podman(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = facts.engine.as_ref().filter(|engine| engine.podman) else { return good() };
    Judgement::found(
        Severity::Warns,
        "the engine is Podman",
        format!("it says that it is Podman Engine {}", engine.version),
        "nodes are made by kind's docker provider, which is not made for it, and kindmesh was never tried like this",
        "use a Docker engine: docker context ls; then docker context use NAME, or DOCKER_HOST",
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
            "the engine runs without root's rights, on cgroup v1",
            evidence,
            "kind makes no cluster there: without root's rights it needs cgroup v2",
            cure,
        ),
        _ => Judgement::found(
            Severity::Warns,
            "the engine runs without root's rights",
            evidence,
            "nodes can load no kernel modules and set no limits; kindmesh was never tried like this",
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
            "let systemd delegate them: sudo mkdir -p /etc/systemd/system/user@.service.d && \
             printf '[Service]\\nDelegate=yes\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && \
             sudo systemctl daemon-reload, then log in again"
        }
        (_, 1) => "boot with cgroup_enable=cpuset,memory on the kernel's command line, or with cgroup v2",
        _ => {
            "see what the kernel has: cat /sys/fs/cgroup/cgroup.controllers, and how it was booted: cat /proc/cmdline"
        }
    };
    Judgement::found(
        Severity::Blocks,
        format!("cgroup controllers are missing: {missing}"),
        format!("docker info: no {missing} limits, cgroup v{}", engine.cgroup_version),
        "the kubelet does not start",
        cure,
    )
}

#[cfg(test)]
mod tests {
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
            let error = Error::prerequisite("it is so").evidence("seen").hint("do it");
            let refused = Some(Refused { reason, error });
            let finding = only(&Facts { refused, ..Facts::default() }, id);
            let said = (finding.what.as_str(), finding.evidence.as_str(), finding.cure.as_str());
            assert_eq!(said, ("it is so", "seen", "do it"));
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
    fn without_roots_rights_the_cgroup_version_decides() {
        let mut facts = good();
        engine(&mut facts).rootless = true;
        golden("rootless", &facts);
        engine(&mut facts).cgroup_version = 1;
        golden("rootless_cgroup_v1", &facts);
        engine(&mut facts).rootless = false;
        assert_eq!(found(&facts), "", "cgroup v1 alone is what the plan allows for");
    }

    #[test]
    fn a_kubelet_needs_its_controllers() {
        let mut facts = good();
        engine(&mut facts).missing_controllers = vec!["memory".into(), "pids".into()];
        golden("cgroups", &facts);
    }
}
