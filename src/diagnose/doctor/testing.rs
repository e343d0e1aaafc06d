//! A host without problems, which tests modify.

use super::facts::{Facts, Firewall, Host, LookedFor, RegistryAnswer, Space, State, Wanted, WantedImage};
use super::{Finding, judge};
use crate::host::tool::{Found, Here, Source, Tool};
use crate::plan;
use crate::plan::inventory::{EngineFacts, Executable, Inventory};
use crate::report::Style;
use crate::spec;

/// As in the test lab: Docker 28 on the host itself.
pub fn good() -> Facts {
    let engine = EngineFacts {
        id: "2281d51d".into(),
        version: "28.5.2".into(),
        api_version: "1.51".into(),
        os: "linux".into(),
        architecture: "amd64".into(),
        cgroup_version: 2,
        memory: 8_000_000_000,
        cpus: 4,
        machine: "vm".into(),
        kernel: "6.18.44".into(),
        system: "Debian GNU/Linux 12 (bookworm)".into(),
        folder: "/var/lib/docker".into(),
        forwarding: Some(true),
        firewall: "iptables".into(),
        ..EngineFacts::default()
    };
    let host = Host {
        name: "vm".into(),
        kernel: "6.18.44".into(),
        memory: 8_000_000_000,
        memory_available: Some(6_000_000_000),
        watches: Some(524_288),
        watchers: Some(512),
        forwarding: Some(true),
        filters_bridges: Some(true),
        neighbours: Some(1024),
        connections: Some(262_144),
        container: None,
        interfaces: vec!["lo".into(), "eth0".into()],
    };
    let executable =
        Executable { os: "linux".into(), architecture: "amd64".into(), digest: "0123456789ab".into() };
    let inventory = Inventory { engine: engine.clone(), executable: Some(executable), ..Inventory::default() };
    let here = |tool: Tool, version: &str| {
        let path = format!("/usr/bin/{tool}").into();
        let found = Found { path, version: version.into(), source: Source::Path, warning: None };
        let here = Some(Ok(Here { found: Some(found), passed_over: Vec::new() }));
        LookedFor { tool, wanted: version.into(), here }
    };
    let rules = "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-FORWARD\n";
    let mut facts = Facts {
        engine: Some(engine),
        host,
        disk: Some(Space { folder: "/var/lib/docker".into(), free: 50_000_000_000 }),
        state: Some(State { space: Space { folder: "/home/ada".into(), free: 50_000_000_000 }, writable: true }),
        inventory: Some(inventory),
        firewall: Some(Firewall { iptables: Some(Ok(rules.into())), ..Firewall::default() }),
        tools: vec![here(Tool::Kind, "v0.33.0"), here(Tool::Istioctl, "1.31.1")],
        ..Facts::default()
    };
    replan(&mut facts, "{}");
    facts
}

/// Plans again, for another spec or inventory.
pub fn replan(facts: &mut Facts, spec: &str) {
    let spec = spec::from_text(spec, "test").unwrap().spec;
    facts.wanted = Wanted::of(&spec, false);
    facts.plan = facts.inventory.as_ref().map(|inventory| plan::plan(&spec, inventory));
}

pub fn engine(facts: &mut Facts) -> &mut EngineFacts {
    facts.engine.as_mut().unwrap()
}

/// An image of Docker Hub that the engine lacks.
pub fn missing_image(answer: RegistryAnswer) -> WantedImage {
    WantedImage {
        name: "docker.io/istio/pilot:1.31.1".into(),
        node: false,
        credentials: false,
        missing_helper: None,
        answer,
    }
}

/// Returns the findings as printed.
pub fn found(facts: &Facts) -> String {
    let report = judge(facts);
    report.findings.iter().map(|finding| crate::report::findings::finding(finding, Style::plain())).collect()
}

/// Returns the only finding, which this check must have reported.
pub fn only(facts: &Facts, id: &str) -> Finding {
    let mut findings = judge(facts).findings;
    assert_eq!(findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), [id]);
    findings.remove(0)
}

/// Returns the command that fixes the only finding.
pub fn fix(facts: &Facts) -> String {
    let findings = judge(facts).findings;
    let [Finding { fix: Some(fix), .. }] = findings.as_slice() else { panic!("{findings:?}") };
    fix.to_string()
}

/// Compares the findings with those in `tests/golden/doctor/NAME.snap`.
pub fn golden(name: &str, facts: &Facts) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/doctor");
    insta::with_settings!({snapshot_path => path, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, found(facts));
    });
}
