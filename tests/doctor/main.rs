//! Tests of `kindmesh doctor`: every finding is reproduced, on a real engine or host where that does no harm
//! (`real.rs`), otherwise with an engine's recorded responses.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

#[cfg(target_os = "linux")]
mod real;
mod recorded;
mod sandbox;

use std::os::unix::net::UnixListener;

use recorded::Recorded;
use sandbox::{Said, Sandbox};
use serde_json::{Value, json};

/// Returns the report of `doctor` on an engine with modified responses.
fn with(changes: &[(&str, Value)]) -> Said {
    let sandbox = Sandbox::new();
    let engine = Recorded::serve(&sandbox.root, changes);
    let said = sandbox.doctor(&engine.host(), &[]);
    let changing: Vec<_> = engine.asked().into_iter().filter(|asked| !asked.starts_with("GET ")).collect();
    assert!(changing.is_empty(), "doctor must change nothing, but requested {changing:?}");
    for folder in ["state", "cache"] {
        assert!(!sandbox.root.join(folder).exists(), "doctor created {folder}");
    }
    said
}

#[test]
fn a_good_engine_elsewhere() {
    let said = with(&[]);
    said.is(&[]);
    // The recorded engine is on another host.
    assert_eq!(said.unknown.len(), 2, "{:?}", said.unknown);
    let sandbox = Sandbox::new();
    let engine = Recorded::serve(&sandbox.root, &[]);
    let output = sandbox.kindmesh(&engine.host()).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nNothing found that would make kindmesh up fail.\nChecked: the engine, "), "{text}");
    assert!(engine.asked().iter().all(|asked| !asked.contains("/distribution/")), "registries were queried");
}

#[test]
fn engines_that_cannot_be_used() {
    let sandbox = Sandbox::new();
    sandbox.doctor("unix:///nonexistent.sock", &[]).is(&["blocks engine.missing"]);
    sandbox.doctor("tcp://127.0.0.1:1", &[]).is(&["blocks engine.missing"]);
    sandbox.doctor("ssh://me@far.example", &[]).is(&["blocks engine.remote"]);
    sandbox.doctor("tcp://192.0.2.1:2375", &[]).is(&["blocks engine.remote"]);
    sandbox.doctor("/var/run/docker.sock", &[]).is(&["blocks engine.address"]);
    sandbox.doctor("", &[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "gone")]).is(&["blocks engine.address"]);

    let socket = sandbox.root.join("silent.sock");
    let _listens = UnixListener::bind(&socket).unwrap();
    let said = sandbox.doctor_within(2, &format!("unix://{}", socket.display()), &[]);
    let what = said.is(&["blocks engine.missing"]).finding("engine.missing")["what"].as_str().unwrap().to_owned();
    assert!(what.ends_with("did not respond within 1.8 s"), "{what}");
}

#[test]
fn engine_facts_are_parsed() {
    let components = json!([{"Name": "Podman Engine", "Version": "5.2.0", "Details": {}}]);
    let rootless = json!(["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]);
    for (path, change, found) in [
        ("/version", json!({"ApiVersion": "1.40"}), "blocks engine.old"),
        ("/version", json!({"Components": components}), "warns engine.podman"),
        ("/version", json!({"Os": "windows"}), "blocks engine.containers"),
        ("/info", json!({"SecurityOptions": rootless, "CgroupVersion": "1"}), "blocks engine.rootless"),
        ("/info", json!({"SecurityOptions": rootless, "CgroupVersion": "2"}), "warns engine.rootless"),
        ("/info", json!({"PidsLimit": false}), "blocks engine.cgroups"),
        ("/info", json!({"MemTotal": 1_000_000_000}), "blocks memory.low"),
        ("/info", json!({"MemTotal": 2_000_000_000}), "warns memory.low"),
        ("/info", json!({"NCPU": 1}), "warns cpu.low"),
        ("/info", json!({"IPv4Forwarding": false}), "warns forward.off"),
        ("/info", json!({"AheadSeconds": 60}), "warns clock.skew"),
        ("/info", json!({"AheadSeconds": 1200}), "blocks clock.skew"),
        ("/info", json!({"AheadSeconds": -1200}), "warns clock.skew"),
        ("/info", json!({"AheadSeconds": -7200}), "blocks clock.skew"),
    ] {
        let said = with(&[(path, change)]);
        // Building the sample image also fails for a system other than Linux.
        let others = ["blocks samples.image"];
        let ids: Vec<_> = said.ids().into_iter().filter(|id| !others.contains(&id.as_str())).collect();
        assert_eq!(ids, [found]);
        assert_eq!(said.code, if found.starts_with("blocks") { 4 } else { 0 }, "{found}");
    }
    // The executable and the engine have different platforms.
    let (os, architecture) = if cfg!(target_os = "linux") { ("linux", "s390x") } else { ("linux", "amd64") };
    with(&[("/version", json!({"Os": os, "Arch": architecture}))]).is(&["blocks samples.image"]);
}

#[test]
fn old_sample_images() {
    let image = |tag: &str, size: u64| {
        json!({"Id": tag, "ParentId": "", "RepoTags": [format!("kindmesh.local/sample:{tag}")], "RepoDigests": [],
            "Created": 0, "Size": size, "SharedSize": -1, "Labels": {"kindmesh.sample": "true"}, "Containers": -1})
    };
    let said = with(&[("/images/json", json!([image("a", 300_000_000), image("b", 300_000_000)]))]);
    let cure = said.is(&["warns leftovers.images"]).finding("leftovers.images")["cure"].clone();
    assert_eq!(cure, "docker image rm kindmesh.local/sample:a kindmesh.local/sample:b");
    with(&[("/images/json", json!([image("a", 300_000_000)]))]).is(&[]);
}

#[test]
fn tools_of_other_versions() {
    let sandbox = Sandbox::new();
    let engine = Recorded::serve(&sandbox.root, &[]);
    sandbox.program("kind", "echo kind v0.20.0 go1.20 linux/amd64");
    let said = sandbox.doctor(&engine.host(), &[]);
    let seen = said.is(&["warns tools.version"]).finding("tools.version")["evidence"].as_str().unwrap();
    assert!(seen.ends_with("/bin/kind is v0.20.0"), "{seen}");

    let named = sandbox.root.join("bin/kind").display().to_string();
    sandbox.doctor(&engine.host(), &[("KINDMESH_KIND", &named)]).is(&["warns tools.version"]);
    sandbox.doctor(&engine.host(), &[("KINDMESH_KIND", "/nonexistent/kind")]).is(&["blocks tools.version"]);

    let sandbox = Sandbox::new();
    let engine = Recorded::serve(&sandbox.root, &[]);
    std::fs::remove_file(sandbox.root.join("bin/docker")).unwrap();
    let path = sandbox.root.join("bin").display().to_string();
    sandbox.doctor(&engine.host(), &[("PATH", &path)]).is(&["blocks tools.docker"]);
}

#[test]
fn proxies_of_the_environment() {
    let sandbox = Sandbox::new();
    let engine = Recorded::serve(&sandbox.root, &[]);
    sandbox.doctor(&engine.host(), &[("HTTPS_PROXY", "http://proxy.example:3128")]).is(&["warns proxy.except"]);
    let here = [("http_proxy", "http://127.0.0.1:3128"), ("NO_PROXY", "localhost,127.0.0.1")];
    sandbox.doctor(&engine.host(), &here).is(&["warns proxy.loopback"]);
    let covered = [("HTTPS_PROXY", "http://proxy.example:3128"), ("no_proxy", "localhost,127.0.0.0/8")];
    sandbox.doctor(&engine.host(), &covered).is(&[]);
}

#[test]
fn files_of_environments() {
    let sandbox = Sandbox::new();
    let engine = Recorded::serve(&sandbox.root, &[]);
    let key = sandbox.write("state/kindmesh/shop/trust/root-key.pem", "secret");
    let said = sandbox.doctor(&engine.host(), &[]);
    said.is(&["warns state.readable", "warns leftovers.files"]);
    let cure = said.finding("state.readable")["cure"].as_str().unwrap();
    assert!(std::process::Command::new("sh").args(["-c", cure]).status().unwrap().success());
    let said = sandbox.doctor(&engine.host(), &[]);
    assert_eq!(
        said.is(&["warns leftovers.files"]).finding("leftovers.files")["cure"],
        "kindmesh down --name shop"
    );

    // The files of an environment on another engine are not leftovers.
    sandbox.write("state/kindmesh/shop/engine", "id: another\nhost: unix:///another.sock\n");
    sandbox.doctor(&engine.host(), &[]).is(&[]);
    // While a command holds the lock, the files are not leftovers.
    std::fs::remove_file(sandbox.root.join("state/kindmesh/shop/engine")).unwrap();
    let lock = std::fs::File::create(sandbox.root.join("state/kindmesh/shop/lock")).unwrap();
    lock.lock().unwrap();
    sandbox.doctor(&engine.host(), &[]).is(&[]);
    assert!(key.exists());
}

#[test]
fn environment_without_nodes() {
    let mut networks: Value = serde_json::from_str(include_str!("recorded/networks.json")).unwrap();
    networks.as_array_mut().unwrap().push(json!({"Name": "kindmesh-shop",
        "IPAM": {"Config": [{"Subnet": "172.30.9.0/24"}]},
        "Labels": {"kindmesh.environment": "shop", "kindmesh.clusters": "east,west"}}));
    let said = with(&[("/networks", networks)]);
    let found = said.is(&["warns leftovers.networks"]).finding("leftovers.networks");
    assert_eq!(found["cure"], "kindmesh down --name shop");
}

#[test]
fn up_stops_before_changing_anything() {
    let sandbox = Sandbox::new();
    let engine = Recorded::serve(&sandbox.root, &[("/info", json!({"MemTotal": 1_000_000_000, "NCPU": 1}))]);
    let output = sandbox.kindmesh(&engine.host()).args(["up", "--output", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["step"]), (&json!("failed"), &json!("engine")));
    let error = "the engine has 1.0 GB of memory: 2 clusters with mesh and samples use 1.4 GB when idle";
    assert_eq!(last["error"], error);
    assert!(last["hint"].as_str().unwrap().contains("give the engine more memory"), "{text}");
    assert!(!sandbox.root.join("state").exists());
    assert!(engine.asked().iter().all(|asked| asked.starts_with("GET ")), "{:?}", engine.asked());

    // The repair of an existing environment is not blocked: the step succeeds, and a later one fails on this engine.
    sandbox.write("state/kindmesh/kindmesh/kubeconfig", "x");
    let output = sandbox.kindmesh(&engine.host()).args(["up", "--output", "json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"event\":\"stepFinished\",\"step\":\"engine\""), "{text}");
}

#[test]
fn invalid_spec_is_not_a_finding() {
    let sandbox = Sandbox::new();
    sandbox.write("work/kindmesh.yaml", "clusters: [{name: east}]\n");
    let output = sandbox.kindmesh("unix:///nonexistent.sock").arg("doctor").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
