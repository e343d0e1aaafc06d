//! Templates: the clusters that `up` restores are like those that it created, with another root of trust and without a past.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::environment::{Kindmesh, docker};
use crate::killing::{RunningCommand, StepEvent};

const NAME: &str = "e2e-template";
const CLUSTERS: [&str; 2] = ["cluster1", "cluster2"];
const TIMEOUT: Duration = Duration::from_secs(300);

/// What differs between two containers that were created with the same parameters, in the engine's inspection.
const IDENTITY: [&str; 17] = [
    "Created",
    "DNSNames",
    "Data",
    "EndpointID",
    "ExecIDs",
    "HostPort",
    "HostnamePath",
    "HostsPath",
    "IPAddress",
    "Id",
    "LogPath",
    "MacAddress",
    "NetworkID",
    "ResolvConfPath",
    "SandboxID",
    "SandboxKey",
    "State",
];

/// An environment without templates of earlier runs. It is deleted at the end, even if the test fails.
struct Environment(Kindmesh);

impl Environment {
    fn new() -> Self {
        let this = Self(Kindmesh::named(NAME));
        this.remove();
        this
    }

    fn remove(&self) {
        self.0.run(&["down"]);
        for folder in self.templates() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }

    /// Deletes the clusters, and returns the events of `up`, which must succeed.
    fn next_up(&self) -> Vec<Value> {
        let down = self.0.run(&["down"]);
        assert_eq!(down.code, 0, "{down:?}");
        self.0.json_lines(&["up"])
    }

    /// The templates of this environment.
    fn templates(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.state().with_file_name(".templates")).into_iter().flatten();
        let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        folders.retain(|folder| {
            let manifest = std::fs::read(folder.join("snapshot.json")).unwrap_or_default();
            serde_json::from_slice::<Value>(&manifest).is_ok_and(|manifest| manifest["environment"] == NAME)
        });
        folders
    }

    /// Whether kind created the cluster: no other program writes this file, and `down` deletes it.
    fn is_created_by_kind(&self, cluster: &str) -> bool {
        self.0.state().join("clusters").join(cluster).join("kind.log").exists()
    }

    /// The certificate of the root CA, which every cluster must publish.
    fn root(&self) -> String {
        let root = std::fs::read_to_string(self.0.state().join("trust/root-cert.pem")).unwrap();
        let get =
            ["-n", "sample", "get", "configmap", "istio-ca-root-cert", "-o", "jsonpath={.data.root-cert\\.pem}"];
        for cluster in CLUSTERS {
            assert_eq!(self.0.kubectl(cluster, &get).stdout.trim(), root.trim(), "{cluster}");
        }
        root
    }

    fn objects(&self, cluster: &str, kinds: &str) -> Vec<Value> {
        let output = self.0.kubectl(cluster, &["get", kinds, "-A", "-o", "json"]);
        assert_eq!(output.code, 0, "{output:?}");
        let list: Value = serde_json::from_str(&output.stdout).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Asserts that no lease, no event and no container is from before a restore.
    fn assert_no_past(&self, cluster: &str, restored: Timestamp) {
        // A container that waits has no time.
        let is_new =
            |time: &Value| time.as_str().is_none_or(|time| time.parse::<Timestamp>().unwrap() >= restored);
        for object in self.objects(cluster, "leases,events") {
            assert!(is_new(&object["metadata"]["creationTimestamp"]), "{cluster}: {object:#}");
        }
        for pod in self.objects(cluster, "pods") {
            let statuses = ["initContainerStatuses", "containerStatuses"].map(|key| pod["status"][key].as_array());
            for container in statuses.into_iter().flatten().flatten() {
                let state = container["state"].as_object().unwrap().values().next().unwrap();
                assert!(is_new(&state["startedAt"]), "{cluster} {}: {container:#}", pod["metadata"]["name"]);
            }
        }
    }

    /// The inspections of both nodes, without what differs between two containers.
    fn nodes(&self) -> Vec<Value> {
        let nodes = CLUSTERS.map(|cluster| format!("{NAME}-{cluster}-control-plane"));
        let mut inspected: Value = serde_json::from_str(&docker(&["inspect", &nodes[0], &nodes[1]])).unwrap();
        for node in inspected.as_array_mut().unwrap() {
            for mount in
                node["Mounts"].as_array_mut().unwrap().iter_mut().filter(|mount| mount["Type"] == "volume")
            {
                (mount["Name"], mount["Source"]) = (Value::Null, Value::Null);
            }
        }
        remove_identity(&mut inspected);
        inspected.as_array().unwrap().clone()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes what differs between two containers, and sorts the lists whose order has no meaning.
fn remove_identity(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !IDENTITY.contains(&name.as_str()));
        for (name, field) in fields {
            remove_identity(field);
            if let (true, Some(items)) = (["Env", "Mounts"].contains(&name.as_str()), field.as_array_mut()) {
                items.sort_by_key(Value::to_string);
            }
        }
    }
    value.as_array_mut().into_iter().flatten().for_each(remove_identity);
}

fn has_step(events: &[Value], step: &str) -> bool {
    events.iter().any(|event| event["step"] == step)
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn next_up_restores_clusters_with_a_new_root() {
    let environment = Environment::new();
    let kindmesh = &environment.0;
    let created = kindmesh.json_lines(&["up", "--fresh"]);
    assert!(has_step(&created, "template"), "{created:?}");
    assert_eq!(environment.templates().len(), 1);
    let (nodes, root) = (environment.nodes(), environment.root());
    let mine = kindmesh.kubectl("cluster1", &["create", "configmap", "mine"]);
    assert_eq!(mine.code, 0, "{mine:?}");

    // The API server reports whole seconds.
    let started = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let restored = environment.next_up();
    assert!(!has_step(&restored, "template"), "{restored:?}");
    assert!(!CLUSTERS.iter().any(|cluster| environment.is_created_by_kind(cluster)), "{restored:?}");
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
    assert_ne!(environment.root(), root);
    let mine = kindmesh.kubectl("cluster1", &["get", "configmap", "mine", "--ignore-not-found", "-o", "name"]);
    assert_eq!((mine.code, mine.stdout.as_str()), (0, ""), "{mine:?}");
    for (restored, created) in environment.nodes().iter().zip(&nodes) {
        assert_eq!(restored, created);
    }
    let kind =
        Command::new("kind").args(["get", "nodes", "--name", &format!("{NAME}-cluster1")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kind.stdout).trim(), format!("{NAME}-cluster1-control-plane"), "{kind:?}");
    let again = kindmesh.json_lines(&["up"]);
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");
    CLUSTERS.iter().for_each(|cluster| environment.assert_no_past(cluster, started));

    // A changed archive is not used.
    let template = environment.templates().remove(0);
    let archive = template.join(format!("{NAME}-cluster1-control-plane.tar"));
    std::fs::OpenOptions::new().append(true).open(&archive).unwrap().write_all(b"x").unwrap();
    // Once kind has created a cluster, the rest is as above.
    let down = kindmesh.run(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    let key = template.file_name().unwrap().to_str().unwrap();
    let mut names_template = false;
    let created = |line: &str| {
        names_template |= line.contains("\"note\"") && line.contains(key);
        StepEvent::parse(line).is_some_and(|event| event.is_end_of("cluster"))
    };
    assert!(RunningCommand::start(kindmesh, &["up"]).kill_at_line(created, TIMEOUT));
    assert!(names_template, "no note names {key}");
    assert!(CLUSTERS.iter().all(|cluster| environment.is_created_by_kind(cluster)));
}
