//! Clusters that exist: kindmesh did not create them, and leaves them as they were.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::environment::{Kindmesh, Output, output_of};
use crate::foreign::{Foreign, Layout, context, differences};
use crate::shop;

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
        let down = kindmesh.run(&["down", "--yes"]);
        assert_eq!(down.code, 0, "{down:?}");
        let spec = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("foreign.yaml");
        std::fs::write(&spec, foreign.spec()).unwrap();
        Self { foreign, kindmesh, spec }
    }

    /// A command that runs kindmesh as the user of the clusters.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.kindmesh.command(arguments);
        command.env("KUBECONFIG", self.foreign.kubeconfig()).env_remove("KINDMESH_FILE");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        output_of(&mut self.command(arguments))
    }

    /// The same for a command that must succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, 0, "{arguments:?}: {}\n{}", output.stdout, output.stderr);
        output.stdout
    }

    pub fn up(&self, arguments: &[&str]) -> Output {
        output_of(&mut self.up_command(arguments))
    }

    pub fn up_command(&self, arguments: &[&str]) -> Command {
        self.command(&[&["up", "-f", self.spec.to_str().unwrap()][..], arguments].concat())
    }

    /// Runs `up` in a terminal, answers its question, and returns what the screen shows.
    pub fn answer(&self, answer: &str) -> String {
        let up = self.up_command(&[]);
        let words = [up.get_program()].into_iter().chain(up.get_args()).map(|word| word.to_str().unwrap());
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &words.collect::<Vec<_>>().join(" "), "/dev/null"]);
        terminal.envs(up.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("KINDMESH_FILE");
        terminal.current_dir(up.get_current_dir().unwrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = terminal.spawn().unwrap();
        writeln!(running.stdin.take().unwrap(), "{answer}").unwrap();
        String::from_utf8_lossy(&running.wait_with_output().unwrap().stdout).into_owned()
    }

    /// Asserts that a call is answered by the producer in `west`.
    pub fn calls(&self) {
        let call: Value = serde_json::from_str(&self.must(&["call", "--output", "json"])).unwrap();
        assert_eq!((&call["statusCode"], &call["producerMetadata"]["clusterName"]), (&200.into(), &"west".into()));
    }

    /// What `plan --diff` says that `up` would do, and with how many objects of both clusters.
    fn effects(&self) -> BTreeMap<String, usize> {
        let mut effects = BTreeMap::new();
        let spec = self.spec.to_str().unwrap();
        let plan: Value =
            serde_json::from_str(&self.must(&["plan", "-f", spec, "--diff", "--output", "json"])).unwrap();
        for cluster in plan["diff"].as_array().unwrap() {
            for object in cluster["objects"].as_array().unwrap() {
                *effects.entry(object["effect"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        effects
    }

    /// A change that somebody made is shown by `plan --diff`, and `up` undoes it.
    fn changes_a_sample(&self) {
        let scale = ["scale", "deployment", "sample-producer", "-n", "sample", "--replicas=1"];
        self.foreign.must("west", &scale);
        let plan = self.must(&["plan", "-f", self.spec.to_str().unwrap(), "--diff"]);
        assert!(
            plan.contains("~ Deployment sample-producer in namespace sample\n      spec.replicas: 1 → 2"),
            "{plan}"
        );
        assert_eq!(self.up(&[]).code, 0);
        assert_eq!(self.effects().keys().collect::<Vec<_>>(), ["keep"]);
    }

    pub fn listings(&self) -> [BTreeMap<String, String>; 2] {
        CLUSTERS.map(|cluster| self.foreign.listing(cluster))
    }
}

/// Refuses to change clusters that nobody agreed to, creates an environment in them, calls, and deletes it.
/// `checks` are the claims that `verify` tests; without any, it tests all of them, and an application is deployed, too.
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
    if checks.is_empty() {
        let effects = environment.effects();
        assert!(effects["create"] > 30 && effects.len() == 1, "{effects:?}");
        let screen = environment.answer("n");
        assert!(
            screen.contains("context foreign-east") && screen.contains("not agreed: nothing was changed"),
            "{screen}"
        );
    }
    unchanged(&before, &environment.listings());

    match checks.is_empty() {
        true => {
            let screen = environment.answer("y");
            assert!(screen.contains("is ready after"), "{screen}");
        }
        false => {
            let up = environment.up(&CONSENT);
            assert_eq!(up.code, 0, "{}\n{}", up.stdout, up.stderr);
        }
    }
    // Agreed to once, and nothing left to do.
    let again = environment.up(&["--output", "json"]);
    assert_eq!(again.code, 0, "{}\n{}", again.stdout, again.stderr);
    let events: Vec<Value> = again.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["changed"] != true), "{}", again.stdout);

    environment.calls();
    let status: Value = serde_json::from_str(&environment.must(&["status", "--output", "json"])).unwrap();
    assert_eq!(status["phase"], "ready", "{status}");
    let placed = if layout == Layout::Flat { "link" } else { "network.apart" };
    let all = checks.iter().chain([&placed]).filter(|_| !checks.is_empty()).copied();
    environment.must(&["verify"].into_iter().chain(all).collect::<Vec<_>>());
    let mut list = environment.command(&["list"]);
    let listed = output_of(list.env("DOCKER_HOST", "unix:///nowhere"));
    let row: Vec<&str> = listed.stdout.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!((listed.code, row), (0, vec!["foreign", "-", "east,", "west"]), "{listed:?}");
    let why = environment.must(&["why", "east", "sample-producer.sample:8080"]);
    assert!(why.contains("Every hop is OK"), "{why}");
    if checks.is_empty() {
        let effects = environment.effects();
        assert!(effects["keep"] > 30 && effects.len() == 1, "{effects:?}");
        environment.changes_a_sample();
        deploys(foreign, &environment);
    }
    let pause = environment.run(&["pause"]);
    assert!(pause.code == 2 && pause.stderr.contains("cluster east exists already"), "{pause:?}");

    let asked = environment.run(&["down"]);
    assert!(asked.code == 2 && asked.stderr.contains("--yes"), "{asked:?}");
    match (checks.is_empty(), layout) {
        (true, Layout::Apart) => {
            // As on another host: the files are gone.
            std::fs::remove_dir_all(environment.kindmesh.state()).unwrap();
            let contexts = ["--context", "foreign-east", "--context", "foreign-west"];
            let asked = environment.run(&[&["down"], &contexts[..]].concat());
            assert!(asked.code == 2 && asked.stderr.contains("--context foreign-west --yes"), "{asked:?}");
            environment.must(&[&["down", "--yes"], &contexts[..]].concat());
            let none = environment.run(&[&["down", "--yes"], &contexts[..2]].concat());
            assert!(none.code == 2 && none.stderr.contains("no environment is recorded"), "{none:?}");
        }
        _ => drop(environment.must(&["down", "--yes"])),
    }
    unchanged(&before, &environment.listings());
    assert!(!environment.kindmesh.state().exists());
}

/// Deploys an application with a part in each cluster, deletes it, and leaves it to `down` to delete it again.
fn deploys(foreign: &Foreign, environment: &InForeign<'_>) {
    shop::build_image();
    foreign.load(shop::IMAGE);
    let manifests = shop::copy_manifests(CLUSTERS);
    let folder = manifests.path().to_str().unwrap();
    let deploy = |arguments: &[&str]| {
        let arguments = [&["deploy", folder, "--output", "json"], arguments].concat();
        serde_json::from_str::<Value>(&environment.must(&arguments)).unwrap()
    };
    let deployed = deploy(&[]);
    assert_eq!(deployed["deployed"]["stubs"].as_array().map(Vec::len), Some(2), "{deployed}");
    let checkout = ["get", "--raw", "/api/v1/namespaces/shop/services/checkout:8080/proxy/checkout"];
    let answer = foreign.must("east", &checkout);
    assert!(answer.contains("\"onOrder\":3"), "{answer}");
    assert_eq!(deploy(&[])["deployed"]["changed"], false);
    deploy(&["--delete"]);
    for cluster in CLUSTERS {
        foreign.must(cluster, &["wait", "--for=delete", "namespace/shop", "--timeout=60s"]);
    }
    let left = environment.listings().into_iter().flat_map(BTreeMap::into_keys);
    let left: Vec<String> = left.filter(|key| key.contains("/shop")).collect();
    assert!(left.is_empty(), "{left:?}");
    deploy(&[]);
}

/// Asserts that both clusters are as they were.
pub fn unchanged(before: &[BTreeMap<String, String>; 2], after: &[BTreeMap<String, String>; 2]) {
    for ((cluster, before), after) in CLUSTERS.iter().zip(before).zip(after) {
        assert_eq!(differences(before, after), [""; 0], "in {cluster}");
    }
}
