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
const TOO_MUCH_CPU: &str = "mesh: {values: {pilot: {resources: {requests: {cpu: \"64\"}}}}}\n";
const NO_IMAGE: &str = "samples: {image: \"localhost:1/nosuch:1\"}\n";
const DEFAULT: &str = "mesh: {values: {}}\n";

fn read_archive(path: &Path) -> BTreeMap<String, String> {
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
fn every_component_has_logs() {
    let kindmesh = E2E.up();
    let list = kindmesh.run(&["logs"]);
    assert_eq!(list.code, 0, "{list:?}");
    for component in ["caller", "producer", "proxy", "istiod", "node", "link"] {
        assert!(
            list.stdout.lines().any(|line| line.starts_with(component)),
            "{component} is missing in {}",
            list.stdout
        );
        let output = kindmesh.run(&["logs", component, "--lines", "5", "--output", "json"]);
        assert_eq!(output.code, 0, "{output:?}");
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        let logs = document["logs"].as_array().unwrap();
        assert!(!logs.is_empty());
        for log in logs {
            let lines = log["lines"].as_array().unwrap().len();
            assert!((1..=5).contains(&lines), "{component}: {log}");
        }
    }
    let one = kindmesh.run(&["logs", "istiod", "--cluster", "cluster2", "--lines", "1"]);
    assert!(one.stdout.starts_with("==> cluster2 istiod-"), "{one:?}");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn logs_follow_ends_on_interrupt() {
    let kindmesh = E2E.up();
    for component in ["caller", "node"] {
        let mut follow = kindmesh
            .command(&["logs", component, "--cluster", "cluster1", "--follow", "--lines", "1"])
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
fn failure_cause_is_named_and_in_support_archive() {
    let kindmesh = E2E.up();
    let dir = tempfile::tempdir().unwrap();
    let spec = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (too_much_cpu, no_image, default) =
        (spec("greedy.yaml", TOO_MUCH_CPU), spec("no-image.yaml", NO_IMAGE), spec("default.yaml", DEFAULT));
    let archive_path = dir.path().join("failure.tar.gz");
    let bundle_option = format!("--bundle-on-failure={}", archive_path.display());

    let image_failure = kindmesh.run(&["up", "-f", &no_image, "--timeout", "20s", "--output", "json"]);
    let scheduling_failure = kindmesh.run(&["up", "-f", &too_much_cpu, "--timeout", "20s", &bundle_option]);
    // The environment is shared, so it is repaired before anything is asserted.
    let repair = kindmesh.run(&["up", "-f", &default]);
    assert_eq!(repair.code, 0, "{repair:?}");

    assert_eq!(image_failure.code, 1, "{image_failure:?}");
    let event: Value = serde_json::from_str(image_failure.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&event["event"], &event["cause"]),
        (&"failed".into(), &"registry.unreachable".into()),
        "{event:#}"
    );

    assert_eq!(scheduling_failure.code, 1, "{scheduling_failure:?}");
    for expected in [
        "waiting for istiod to be ready",
        "no node has enough cpu left for the pod's request",
        "Insufficient cpu",
        "hint: lower the requests in mesh.values",
        &format!("support archive: {}", archive_path.display()),
    ] {
        assert!(
            scheduling_failure.stderr.contains(expected),
            "{expected:?} is missing in {}",
            scheduling_failure.stderr
        );
    }
    let parts = read_archive(&archive_path);
    let failure: Value = serde_json::from_str(&parts["failure.json"]).unwrap();
    assert_eq!(failure["cause"], "pod.unschedulable", "{failure:#}");
    let runs: Vec<_> =
        parts.keys().filter(|name| name.starts_with("runs/") && name.ends_with("-up.jsonl")).collect();
    assert!(runs.len() >= 2, "{runs:?}");
    assert!(parts[*runs.last().unwrap()].contains("\"step\":\"istiod\""));
}

/// Returns the values of all Secrets of a cluster that are not public, and the tokens in their kubeconfigs.
fn cluster_secrets(kindmesh: &Kindmesh, cluster: &str) -> BTreeSet<String> {
    let output = kindmesh.kubectl(cluster, &["get", "secrets", "-A", "-o", "json"]);
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
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
fn local_secrets(kindmesh: &Kindmesh) -> BTreeSet<String> {
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
fn support_archive_is_complete_without_secrets() {
    let kindmesh = E2E.up();
    // A secret that is also used elsewhere, to test that known values are found anywhere.
    let planted = format!("planted-{}-{}", std::process::id(), "0123456789abcdef");
    let literal = format!("--from-literal=word={planted}");
    let annotation = format!("kindmesh.test/planted={planted}");
    kindmesh.kubectl("cluster1", &["-n", "sample", "create", "secret", "generic", "planted", &literal]);
    kindmesh.kubectl("cluster1", &["annotate", "namespace", "sample", &annotation]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.tar.gz");
    let output = kindmesh.run(&["bundle", path.to_str().unwrap(), "--output", "json"]);
    let mut secrets = local_secrets(kindmesh);
    secrets.extend(["cluster1", "cluster2"].iter().flat_map(|cluster| cluster_secrets(kindmesh, cluster)));
    kindmesh.kubectl("cluster1", &["annotate", "namespace", "sample", "kindmesh.test/planted-"]);
    kindmesh.kubectl("cluster1", &["-n", "sample", "delete", "secret", "planted"]);

    assert_eq!(output.code, 0, "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let parts = read_archive(&path);
    println!("{} files, {} bytes, missing {}", report["files"], report["bytes"], report["missing"]);
    assert_eq!(report["missing"].as_array().unwrap().len(), 0, "{:#}", report["missing"]);
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
    for (prefix, suffix) in [
        ("clusters/cluster1/pods/istio-system/istiod-", "debug-clusterz.json"),
        ("clusters/cluster1/pods/istio-system/istiod-", "discovery.log"),
        ("clusters/cluster1/pods/sample/sample-caller-", "config_dump.json"),
        ("clusters/cluster1/pods/sample/sample-caller-", "app.log"),
        ("clusters/cluster2/pods/kube-system/kube-proxy-", "kube-proxy.log"),
        ("runs/", "-up.jsonl"),
    ] {
        assert!(parts.keys().any(|name| name.starts_with(prefix) && name.ends_with(suffix)), "{prefix}…{suffix}");
    }

    secrets.retain(|secret| secret.len() >= 16);
    assert!(secrets.len() > 20 && secrets.contains(&planted), "{} secrets", secrets.len());
    println!("searched for {} secrets in {} files", secrets.len(), parts.len());
    for (name, text) in &parts {
        if let Some(secret) = secrets.iter().find(|secret| text.contains(secret.as_str())) {
            panic!("{name} contains a secret: {}…", &secret[..8]);
        }
        assert!(!text.contains("PRIVATE KEY-----\n") && !text.contains("PRIVATE KEY-----\\n"), "{name} has a key");
    }
    let namespaces = &parts["clusters/cluster1/objects/namespaces.json"];
    assert!(namespaces.contains("\"kindmesh.test/planted\": \"[removed]\""), "{namespaces}");
}
