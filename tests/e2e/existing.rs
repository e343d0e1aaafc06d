//! Clusters that exist: kindmesh did not create them, and leaves them as they were.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::environment::{Kindmesh, Output, output_of};
use crate::foreign::{Foreign, Layout, context, differences};

pub const CLUSTERS: [&str; 2] = ["east", "west"];
pub const CONSENT: [&str; 4] = ["--allow-context", "foreign-east", "--allow-context", "foreign-west"];

/// An environment in clusters that exist.
pub struct InForeign<'a> {
    foreign: &'a Foreign,
    kindmesh: Kindmesh,
    pub spec: PathBuf,
}

impl<'a> InForeign<'a> {
    pub fn new(foreign: &'a Foreign) -> Self {
        let kindmesh = Kindmesh::named("foreign");
        // That of a killed run names clusters that are gone.
        let _ = std::fs::remove_dir_all(kindmesh.state());
        let spec = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("foreign.yaml");
        std::fs::write(&spec, foreign.spec()).unwrap();
        Self { foreign, kindmesh, spec }
    }

    /// Runs kindmesh as the user of the clusters.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.kindmesh.command(arguments);
        output_of(command.env("KUBECONFIG", self.foreign.kubeconfig()).env_remove("KINDMESH_FILE"))
    }

    /// The same for a command that must succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, 0, "{arguments:?}: {}\n{}", output.stdout, output.stderr);
        output.stdout
    }

    pub fn up(&self, arguments: &[&str]) -> Output {
        self.run(&[&["up", "-f", self.spec.to_str().unwrap()][..], arguments].concat())
    }

    pub fn listings(&self) -> [BTreeMap<String, String>; 2] {
        CLUSTERS.map(|cluster| self.foreign.listing(cluster))
    }
}

/// Refuses to change clusters that nobody agreed to, creates an environment in them, calls, and deletes it.
/// `checks` are the claims that `verify` tests.
pub fn lives_and_dies(foreign: &Foreign, layout: Layout, checks: &[&str]) {
    let environment = InForeign::new(foreign);
    let before = environment.listings();

    let refused = environment.up(&[]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    for cluster in CLUSTERS {
        assert!(refused.stderr.contains(&format!("--allow-context {}", context(cluster))), "{}", refused.stderr);
    }
    let half = environment.up(&CONSENT[..2]);
    assert_eq!(half.code, 2, "{}", half.stderr);
    unchanged(&before, &environment.listings());

    let up = environment.up(&CONSENT);
    assert_eq!(up.code, 0, "{}\n{}", up.stdout, up.stderr);
    // Agreed to once, and nothing left to do.
    let again = environment.up(&["--output", "json"]);
    assert_eq!(again.code, 0, "{}\n{}", again.stdout, again.stderr);
    let events: Vec<Value> = again.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["changed"] != true), "{}", again.stdout);

    let call: Value = serde_json::from_str(&environment.must(&["call", "--output", "json"])).unwrap();
    assert_eq!((&call["statusCode"], &call["producerMetadata"]["clusterName"]), (&200.into(), &"west".into()));
    let status: Value = serde_json::from_str(&environment.must(&["status", "--output", "json"])).unwrap();
    assert_eq!(status["phase"], "ready", "{status}");
    let placed = if layout == Layout::Flat { "link" } else { "network.apart" };
    let all = checks.iter().chain([&placed]).filter(|_| !checks.is_empty()).copied();
    environment.must(&["verify"].into_iter().chain(all).collect::<Vec<_>>());
    let why = environment.must(&["why", "east", "sample-producer.sample:8080"]);
    assert!(why.contains("Every hop is OK"), "{why}");
    let pause = environment.run(&["pause"]);
    assert!(pause.code == 2 && pause.stderr.contains("cluster east exists already"), "{pause:?}");

    let asked = environment.run(&["down"]);
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    environment.must(&["down", "--yes"]);
    unchanged(&before, &environment.listings());
    assert!(!environment.kindmesh.state().exists());
}

/// Asserts that both clusters are as they were.
pub fn unchanged(before: &[BTreeMap<String, String>; 2], after: &[BTreeMap<String, String>; 2]) {
    for ((cluster, before), after) in CLUSTERS.iter().zip(before).zip(after) {
        assert_eq!(differences(before, after), [""; 0], "in {cluster}");
    }
}
