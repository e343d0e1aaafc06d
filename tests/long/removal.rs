//! A cluster is added to a running environment and removed from it, while calls are sent to a Service that has endpoints in
//! it and in another cluster.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::process::{Child, Stdio};

use crate::environment::{Kindmesh, Temporary, docker};
use crate::killing::RunningCommand;

const TWO: &str = "{name: cluster1, region: r1}, {name: cluster2, region: r2}";
const THREE: &str = "{name: cluster1, region: r1}, {name: cluster2, region: r2}, {name: cluster3, region: r3}";

fn spec(clusters: &str, producers: &str) -> String {
    format!(
        "clusters: [{clusters}]\nsamples: {{caller: {{clusters: [cluster1]}}, producer: {{clusters: [{producers}], \
         replicas: 1}}}}\n"
    )
}

/// Two senders, which together send about 20 calls a second.
struct Calls {
    senders: Vec<(Child, tempfile::NamedTempFile)>,
}

impl Calls {
    fn start(kindmesh: &Kindmesh) -> Self {
        let sender = || {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut call =
                kindmesh.command(&["call", "--count", "100000", "--delay-ms", "80", "--output", "json"]);
            let call = call.stdout(file.reopen().unwrap()).stderr(Stdio::null()).spawn().unwrap();
            (call, file)
        };
        Self { senders: vec![sender(), sender()] }
    }

    /// Ends the calls, and returns the answers: one JSON object a line.
    fn end(self) -> Vec<String> {
        let mut answers = Vec::new();
        for (mut sender, file) in self.senders {
            assert!(sender.try_wait().unwrap().is_none(), "the calls ended too early");
            sender.kill().unwrap();
            sender.wait().unwrap();
            let output = std::fs::read_to_string(file.path()).unwrap();
            // The last line may be incomplete.
            answers.extend(output.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned));
        }
        answers
    }
}

#[test]
#[ignore = "needs a container engine, 6 GB of memory and minutes"]
fn no_call_is_lost_when_a_cluster_is_removed_and_added_again() {
    let environment = Temporary::up("e2e-removal", &spec(THREE, "cluster2, cluster3"));
    let kindmesh = &environment.kindmesh;
    let folder = tempfile::tempdir().unwrap();
    let fewer = folder.path().join("fewer.yaml");
    std::fs::write(&fewer, spec(TWO, "cluster2")).unwrap();
    let up = ["up", "-f", fewer.to_str().unwrap()];
    let refused = kindmesh.run(&up);
    assert_eq!(refused.code, 2, "{refused:?}");

    let calls = Calls::start(kindmesh);
    // Interrupted when nothing but the nodes and what lists them is left, then completed without the flag.
    let removal = RunningCommand::start(kindmesh, &[&up[..], &["--prune"]].concat());
    assert!(removal.kill_at(|event| event.is_end_of("unlink"), std::time::Duration::from_secs(600)));
    let completed = kindmesh.run(&up);
    assert_eq!(completed.code, 0, "{completed:?}");
    let nodes = docker(&["ps", "-aq", "--filter", "label=io.x-k8s.kind.cluster=e2e-removal-cluster3"]);
    assert_eq!(nodes, "", "nodes are left");
    assert!(!kindmesh.state().join("clusters/cluster3").exists());
    let again = kindmesh.json_lines(&up);
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");
    environment.up_again();
    let answers = calls.end();
    let lost: Vec<_> = answers.iter().filter(|line| !line.contains(r#""statusCode":200"#)).collect();
    println!("{} calls, {} lost", answers.len(), lost.len());
    assert!(answers.len() > 500 && lost.is_empty(), "{lost:?}");
    assert_eq!(kindmesh.run(&["status"]).code, 0);
}
