//! End-to-end tests on real clusters. They share one environment, because `up` on an existing one takes only
//! seconds. Every test can run alone.

mod browser;
mod counts;
mod deploy;
mod environment;
mod evidence;
mod existing;
mod experimenting;
mod experiments;
mod faulting;
mod faults;
#[expect(dead_code, reason = "shared with the long tests, which use all of it")]
mod foreign;
#[expect(dead_code, reason = "shared with the long tests, which use all of it")]
mod killing;
mod lab;
mod labs;
mod networks;
mod open;
mod page;
mod pattern;
mod policies;
mod restart;
mod sabotage;
mod shop;
mod template;
mod testing;
mod ui;
mod verify;
mod why;

use std::path::Path;
use std::time::Duration;

use environment::{E2E, Kindmesh, UserCluster, docker, seed, sorted_lines};
use foreign::{Foreign, Layout};
use killing::{Leftovers, RunningCommand, StepEvent};
use serde_json::Value;

#[test]
#[ignore = "needs a container engine and minutes"]
fn cross_cluster_call_uses_mutual_tls() {
    let call = E2E.up().json_lines(&["call"]).remove(0);
    assert_eq!(call["statusCode"], 200, "{call}");
    assert_eq!(call["callerMetadata"]["clusterName"], "cluster1");
    assert_eq!(call["producerMetadata"]["clusterName"], "cluster2");
    let client_cert = call["producerHeaders"]["x-forwarded-client-cert"].as_str().unwrap();
    assert!(client_cert.contains("URI=spiffe://cluster.local/ns/sample/sa/sample-caller"), "{client_cert}");
}

/// Without a layout, in one by the seed: the long tests have both.
#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn clusters_that_exist_are_left_as_they_were() {
    let layout = if seed().is_multiple_of(2) { Layout::Flat } else { Layout::Apart };
    existing::lives_and_dies(&Foreign::create(layout), layout, &["mesh.synced", "mtls", "trust", "timeout"]);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn every_protocol_crosses() {
    let kindmesh = E2E.up();
    for (protocol, version) in [
        ("http2", Value::from("HTTP/2")),
        ("grpc", Value::from("HTTP/2")),
        ("grpc-stream", Value::from("HTTP/2")),
        ("tcp", Value::Null),
        ("websocket", Value::from("HTTP/1.1")),
    ] {
        let call = kindmesh.json_lines(&["call", "--protocol", protocol]).remove(0);
        assert_eq!(call["statusCode"], 200, "{call}");
        assert_eq!(call["producerMetadata"]["clusterName"], "cluster2", "{call}");
        assert_eq!(call["producerHttpVersion"], version, "{call}");
        let client_cert = call["producerHeaders"]["x-forwarded-client-cert"].as_str().unwrap_or_default();
        let has_identity = client_cert.contains("URI=spiffe://cluster.local/ns/sample/sa/sample-caller");
        assert_eq!(has_identity, protocol != "tcp", "{call}");
    }
    assert_eq!(kindmesh.run(&["call", "--protocol", "tcp", "--status", "503"]).code, 2);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn calls_reach_every_producer() {
    let calls = E2E.up().json_lines(&["call", "--count", "40"]);
    let mut pods: Vec<&str> = calls.iter().filter_map(|c| c["producerMetadata"]["hostName"].as_str()).collect();
    assert_eq!(pods.len(), 40);
    pods.sort_unstable();
    pods.dedup();
    assert_eq!(pods.len(), 2, "{pods:?}");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn slow_producer_gives_504_after_mesh_timeout() {
    let kindmesh = E2E.up();
    let call = kindmesh.json_lines(&["call", "--delay-ms", "6000"]).remove(0);
    assert_eq!(call["statusCode"], 504, "{call}");
    assert_eq!(call["producerMetadata"], Value::Null);
    // The caller's timeout is 30 s and the producer answers after 6 s, so the 5 s are the VirtualService's.
    let elapsed_ms = call["roundTripTimeMillis"].as_u64().unwrap();
    assert!((5000..6000).contains(&elapsed_ms), "{elapsed_ms} ms");
    assert_eq!(kindmesh.run(&["call", "--status", "418", "--expect", "418"]).code, 0);
    assert_eq!(kindmesh.run(&["call", "--status", "418", "--expect", "200"]).code, 3);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn up_again_changes_nothing() {
    let events = E2E.up().json_lines(&["up"]);
    let changed: Vec<_> = events.iter().filter(|event| event["changed"] == true).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(events.last().unwrap()["event"], "ready");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn concurrent_up_waits_and_succeeds() {
    let kindmesh = E2E.up();
    let both = [(); 2].map(|()| RunningCommand::start(kindmesh, &["up"]));
    for up in both {
        assert!(!up.finish().is_empty());
    }
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn status_is_ready_in_every_layer() {
    let kindmesh = E2E.up();
    let output = kindmesh.run(&["status", "--output", "json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let status: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(status["phase"], "ready");
    let layers: Vec<_> =
        status["layers"].as_array().unwrap().iter().map(|l| l["layer"].as_str().unwrap()).collect();
    for layer in ["engine", "nodes", "link", "api", "istiod", "remoteClusters", "workloads", "call"] {
        assert!(layers.contains(&layer), "{layer} is missing in {layers:?}");
    }
    let list = kindmesh.run(&["list"]);
    assert!(list.stdout.contains("e2e"), "{list:?}");
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn render_matches_what_up_applied() {
    let kindmesh = E2E.up();
    let dir = tempfile::tempdir().unwrap();
    let rendered = dir.path().join("rendered");
    assert_eq!(kindmesh.run(&["render", rendered.to_str().unwrap()]).code, 0);
    for cluster in ["cluster1", "cluster2"] {
        for file in ["cacerts.yaml", "istio-crds.yaml", "istio.yaml", "samples.yaml"] {
            let path = rendered.join(cluster).join(file);
            // Only the cluster knows its `cacerts`: rendered files contain the digest of the root CA instead.
            let get_istiod = ["-n", "istio-system", "get", "deployment", "istiod", "-o"];
            let jsonpath = "jsonpath={.spec.template.metadata.annotations.kindmesh/trust}";
            let live = kindmesh.kubectl(cluster, &[&get_istiod[..], &[jsonpath]].concat()).stdout;
            let lines = std::fs::read_to_string(&path).unwrap();
            let lines = lines.lines().map(|line| {
                let names = ["kindmesh/trust: ", "kindmesh/revision: "];
                match names.into_iter().find_map(|name| Some((name, line.split_once(name)?))) {
                    Some((name, (before, digest))) => {
                        // YAML quotes one of digits only.
                        assert_eq!(digest.trim_matches('\'').len(), 12, "{line}");
                        format!("{before}{name}{live}\n")
                    }
                    None => format!("{line}\n"),
                }
            });
            std::fs::write(&path, lines.collect::<String>()).unwrap();
            let diff = kindmesh.kubectl(
                cluster,
                &["diff", "--server-side", "--field-manager=kindmesh", "-f", path.to_str().unwrap()],
            );
            assert_eq!(diff.code, 0, "{cluster}/{file} differs from the cluster: {diff:?}");
        }
        let kind = |dir: &Path| -> Value {
            serde_yaml::from_str(&std::fs::read_to_string(dir.join("kind.yaml")).unwrap()).unwrap()
        };
        // Only the node image that `up` builds contains these patches.
        let mut applied = kind(&kindmesh.state().join("clusters").join(cluster));
        let patches = applied["kubeadmConfigPatches"].as_array_mut().unwrap();
        let count = patches.len();
        patches.retain(|patch| !patch.as_str().unwrap().contains("/kind/kindmesh-patches"));
        assert_eq!(patches.len(), count - 1);
        assert_eq!(kind(&rendered.join(cluster)), applied);
    }
    assert_eq!(kindmesh.run(&["render", rendered.to_str().unwrap()]).code, 2, "an existing directory is refused");
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn samples_follow_the_spec() {
    let kindmesh = E2E.up();
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("both.yaml");
    std::fs::write(&spec, "samples: {producer: {clusters: [cluster1, cluster2], replicas: 1}}\n").unwrap();
    let up = kindmesh.run(&["up", "-f", spec.to_str().unwrap()]);
    assert_eq!(up.code, 0, "{up:?}");
    let has_producers = |cluster: &str| {
        let deployment =
            kindmesh.kubectl(cluster, &["-n", "sample", "get", "deployment", "sample-producer", "-o", "name"]);
        deployment.code == 0
    };
    assert!(has_producers("cluster1"));
    // Back to the spec that the other tests share.
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert!(!has_producers("cluster1") && has_producers("cluster2"));
    // The Service stays, as a stub.
    let service =
        kindmesh.kubectl("cluster1", &["-n", "sample", "get", "service", "sample-producer", "-o", "name"]);
    assert_eq!(service.code, 0, "{service:?}");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn up_rejects_changes_of_immutable_fields() {
    let kindmesh = E2E.up();
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("other.yaml");
    std::fs::write(&spec, "kubernetes: {nodeImage: kindest/node:v1.35.0}\n").unwrap();
    let up = kindmesh.run(&["up", "-f", spec.to_str().unwrap()]);
    assert_eq!(up.code, 2, "{up:?}");
    assert!(up.stderr.contains("kubernetes.nodeImage") && up.stderr.contains("kindmesh down"), "{up:?}");
}

#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn down_removes_only_its_own_environment() {
    let first = E2E.up();
    let user_cluster = UserCluster::create(first);
    let before = sorted_lines(&docker(&["ps", "-aq", "--no-trunc", "--filter", "network=kindmesh-e2e"]));
    let second = Kindmesh::named("e2e-two");
    let no_leftovers = Leftovers::now(&second);
    // Killed at one of its first events, a different one in each run; tests/long covers all.
    let mut events = seed() % 32;
    println!("killed after {events} events");
    let at_chosen_event = |_: &StepEvent| {
        events = events.saturating_sub(1);
        events == 0
    };
    assert!(RunningCommand::start(&second, &["up"]).kill_at(at_chosen_event, Duration::from_secs(300)));
    let up = second.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert_eq!(second.json_lines(&["call"])[0]["statusCode"], 200);
    // The second one comes from the first one's template if this executable created that: with its own root of trust.
    let root = |kindmesh: &Kindmesh| std::fs::read(kindmesh.state().join("trust/root-cert.pem")).unwrap();
    assert_ne!(root(first), root(&second));
    let again = second.json_lines(&["up"]);
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");
    assert_eq!(first.json_lines(&["call"])[0]["statusCode"], 200);
    // Deleting must not need anything that is stored only in the state directory.
    std::fs::remove_dir_all(second.state()).unwrap();
    let down = second.run(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    assert_eq!(Leftovers::now(&second), no_leftovers);
    let after = sorted_lines(&docker(&["ps", "-aq", "--no-trunc", "--filter", "network=kindmesh-e2e"]));
    assert_eq!(before, after);
    assert_eq!(first.json_lines(&["call"])[0]["statusCode"], 200);
    assert_eq!(second.run(&["down"]).code, 0, "down succeeds without an environment");
    let ready = user_cluster.kubectl(&["get", "--raw", "/readyz"]);
    assert_eq!((ready.code, ready.stdout.as_str()), (0, "ok"), "{ready:?}");
}
