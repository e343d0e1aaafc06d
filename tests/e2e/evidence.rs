//! After a failure: its cause is named, its logs are available, and the support archive contains no secrets.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::environment::{E2E, Kindmesh};

/// A spec that requests more than any node has, one with an image that no registry has, and one that restores the default.
const GREEDY: &str = "mesh: {values: {pilot: {resources: {requests: {cpu: \"64\"}}}}}\n";
const NO_IMAGE: &str = "samples: {image: \"localhost:1/nosuch:1\"}\n";
const DEFAULT: &str = "mesh: {values: {}}\n";

fn archive(path: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().iter().skip(1).collect::<std::path::PathBuf>().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    entries.collect()
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn every_part_has_a_log() {
    let kindmesh = E2E.up();
    let list = kindmesh.run(&["logs"]);
    assert_eq!(list.code, 0, "{list:?}");
    for what in ["caller", "producer", "proxy", "istiod", "node", "link"] {
        assert!(list.stdout.lines().any(|line| line.starts_with(what)), "{what} is missing in {}", list.stdout);
        let said = kindmesh.run(&["logs", what, "--lines", "5", "--output", "json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let document: Value = serde_json::from_str(&said.stdout).unwrap();
        let logs = document["logs"].as_array().unwrap();
        assert!(!logs.is_empty());
        for log in logs {
            let lines = log["lines"].as_array().unwrap().len();
            assert!((1..=5).contains(&lines), "{what}: {log}");
        }
    }
    let one = kindmesh.run(&["logs", "istiod", "--cluster", "cluster2", "--lines", "1"]);
    assert!(one.stdout.starts_with("==> cluster2 istiod-"), "{one:?}");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn a_log_is_followed_until_it_is_interrupted() {
    let kindmesh = E2E.up();
    for what in ["caller", "node"] {
        let mut follow = kindmesh
            .command(&["logs", what, "--cluster", "cluster1", "--follow", "--lines", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().is_ok());
        let pid = follow.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert_eq!(follow.wait().unwrap().code(), Some(130));
    }
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn a_failure_is_called_by_its_name_and_the_archive_about_it_has_it() {
    let kindmesh = E2E.up();
    let folder = tempfile::tempdir().unwrap();
    let spec = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (greedy, no_image, default) =
        (spec("greedy.yaml", GREEDY), spec("no-image.yaml", NO_IMAGE), spec("default.yaml", DEFAULT));
    let bundle = folder.path().join("failure.tar.gz");
    let asked = format!("--bundle-on-failure={}", bundle.display());

    let refused = kindmesh.run(&["up", "-f", &no_image, "--timeout", "20s", "--output", "json"]);
    let pending = kindmesh.run(&["up", "-f", &greedy, "--timeout", "20s", &asked]);
    // The environment is shared, so it is repaired before anything is asserted.
    let repaired = kindmesh.run(&["up", "-f", &default]);
    assert_eq!(repaired.code, 0, "{repaired:?}");

    assert_eq!(refused.code, 1, "{refused:?}");
    let failed: Value = serde_json::from_str(refused.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&failed["event"], &failed["cause"]),
        (&"failed".into(), &"registry.unreachable".into()),
        "{failed:#}"
    );

    assert_eq!(pending.code, 1, "{pending:?}");
    for said in [
        "waiting for istiod to be ready",
        "no node has enough cpu left for the pod's request",
        "Insufficient cpu",
        "hint: ask for less in mesh.values",
        &format!("support archive: {}", bundle.display()),
    ] {
        assert!(pending.stderr.contains(said), "{said:?} is missing in {}", pending.stderr);
    }
    let parts = archive(&bundle);
    let failure: Value = serde_json::from_str(&parts["failure.json"]).unwrap();
    assert_eq!(failure["cause"], "pod.unschedulable", "{failure:#}");
    let runs: Vec<_> =
        parts.keys().filter(|name| name.starts_with("runs/") && name.ends_with("-up.jsonl")).collect();
    assert!(runs.len() >= 2, "{runs:?}");
    assert!(parts[*runs.last().unwrap()].contains("\"step\":\"istiod\""));
}

/// Returns the values of all Secrets of a cluster that are not public, and the tokens in their kubeconfigs.
fn secrets_of(kindmesh: &Kindmesh, cluster: &str) -> BTreeSet<String> {
    let got = kindmesh.kubectl(cluster, &["get", "secrets", "-A", "-o", "json"]);
    let list: Value = serde_json::from_str(&got.stdout).unwrap();
    let mut secrets = BTreeSet::new();
    for secret in list["items"].as_array().unwrap() {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            let text = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap_or_default();
            if key == "ca.crt" || key == "namespace" || (text.contains("BEGIN CERT") && !text.contains("PRIVATE"))
            {
                continue;
            }
            secrets.insert(value.to_owned());
            match text.contains("kind: Config") {
                true => secrets.extend(
                    text.lines().filter_map(|line| line.trim().strip_prefix("token: ")).map(str::to_owned),
                ),
                false => secrets.extend(text.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned)),
            }
        }
    }
    secrets
}

/// Returns key files, line by line and as a whole in Base64, and the credentials of the kubeconfig's users.
fn secrets_of_files(kindmesh: &Kindmesh) -> BTreeSet<String> {
    let mut secrets = BTreeSet::new();
    for entry in std::fs::read_dir(kindmesh.state().join("trust")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with("-key.pem") {
            let pem = std::fs::read_to_string(path).unwrap();
            secrets.insert(STANDARD.encode(&pem));
            secrets.extend(pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
        }
    }
    let kubeconfig = std::fs::read_to_string(kindmesh.state().join("kubeconfig")).unwrap();
    for field in ["client-key-data: ", "token: "] {
        secrets.extend(kubeconfig.lines().filter_map(|line| line.trim().strip_prefix(field)).map(str::to_owned));
    }
    secrets
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn a_bundle_has_everything_but_secrets() {
    let kindmesh = E2E.up();
    // A secret that is also used elsewhere, to test that known values are found anywhere.
    let planted = format!("planted-{}-{}", std::process::id(), "0123456789abcdef");
    let literal = format!("--from-literal=word={planted}");
    let annotation = format!("kindmesh.test/planted={planted}");
    kindmesh.kubectl("cluster1", &["-n", "sample", "create", "secret", "generic", "planted", &literal]);
    kindmesh.kubectl("cluster1", &["annotate", "namespace", "sample", &annotation]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar.gz");
    let said = kindmesh.run(&["bundle", path.to_str().unwrap(), "--output", "json"]);
    let mut secrets = secrets_of_files(kindmesh);
    secrets.extend(["cluster1", "cluster2"].iter().flat_map(|cluster| secrets_of(kindmesh, cluster)));
    kindmesh.kubectl("cluster1", &["annotate", "namespace", "sample", "kindmesh.test/planted-"]);
    kindmesh.kubectl("cluster1", &["-n", "sample", "delete", "secret", "planted"]);

    assert_eq!(said.code, 0, "{said:?}");
    let written: Value = serde_json::from_str(&said.stdout).unwrap();
    let parts = archive(&path);
    println!("{} files, {} bytes, missing {}", written["files"], written["bytes"], written["missing"]);
    assert_eq!(written["missing"].as_array().unwrap().len(), 0, "{:#}", written["missing"]);
    for part in [
        "README.md",
        "spec.yaml",
        "plan.json",
        "inventory.json",
        "status.json",
        "doctor.json",
        "versions.json",
        "certificates.json",
        "engine/info.json",
        "clusters/cluster1/objects/pods.json",
        "clusters/cluster1/objects/events.json",
        "clusters/cluster2/objects/virtualservice.json",
        "clusters/cluster2/nodes/e2e-cluster2-control-plane/iptables.txt",
        "clusters/cluster2/nodes/e2e-cluster2-control-plane/routes.txt",
        "clusters/cluster2/nodes/e2e-cluster2-control-plane/kubelet.log",
        "clusters/cluster2/nodes/e2e-cluster2-control-plane/containerd.log",
    ] {
        assert!(parts.get(part).is_some_and(|text| !text.is_empty()), "{part} is missing in {:?}", parts.keys());
    }
    for (place, file) in [
        ("clusters/cluster1/pods/istio-system/istiod-", "debug-clusterz.json"),
        ("clusters/cluster1/pods/istio-system/istiod-", "discovery.log"),
        ("clusters/cluster1/pods/sample/sample-caller-", "config_dump.json"),
        ("clusters/cluster1/pods/sample/sample-caller-", "app.log"),
        ("clusters/cluster2/pods/kube-system/kube-proxy-", "kube-proxy.log"),
        ("runs/", "-up.jsonl"),
    ] {
        assert!(parts.keys().any(|name| name.starts_with(place) && name.ends_with(file)), "{place}…{file}");
    }

    secrets.retain(|secret| secret.len() >= 16);
    assert!(secrets.len() > 20 && secrets.contains(&planted), "{} secrets", secrets.len());
    println!("searched for {} secrets in {} files", secrets.len(), parts.len());
    for (name, text) in &parts {
        if let Some(found) = secrets.iter().find(|secret| text.contains(secret.as_str())) {
            panic!("{name} contains a secret: {}…", &found[..8]);
        }
        assert!(!text.contains("PRIVATE KEY-----\n") && !text.contains("PRIVATE KEY-----\\n"), "{name} has a key");
    }
    let namespaces = &parts["clusters/cluster1/objects/namespaces.json"];
    assert!(namespaces.contains("\"kindmesh.test/planted\": \"[removed]\""), "{namespaces}");
}
