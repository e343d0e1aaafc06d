//! Three environments at once: one is killed during `up`, one is deleted; the third is not affected.

use std::process::Stdio;
use std::time::Duration;

use crate::environment::{Kindmesh, docker};
use crate::killing::{Leftovers, RunningCommand};

/// No run takes this long.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);

/// The ids of the nodes, with their start times, and of the network: they change if anything is recreated.
fn identity(kindmesh: &Kindmesh) -> Vec<String> {
    let name = kindmesh.name();
    let mut identity = vec![docker(&["network", "inspect", "--format", "{{.Id}}", &format!("kindmesh-{name}")])];
    for cluster in ["cluster1", "cluster2"] {
        let node = format!("{name}-{cluster}-control-plane");
        let format = "{{.Id}} {{.State.StartedAt}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        identity.push(docker(&["inspect", "--format", format, &node]));
    }
    identity
}

#[test]
#[ignore = "needs a container engine, 6 GB of memory and minutes"]
fn third_environment_is_not_affected() {
    let [killed, deleted, third] = ["e2e-killed", "e2e-downed", "e2e-third"].map(Kindmesh::named);
    let before = [&killed, &deleted].map(Leftovers::now);
    let ups = [&killed, &deleted, &third].map(|kindmesh| RunningCommand::start(kindmesh, &["up"]));
    let [first, second, last] = ups;
    // In the middle: Kubernetes runs, and the mesh is being installed.
    assert!(first.kill_at(|event| event.is_end_of("cluster"), RUN_TIMEOUT), "up had already exited");
    second.finish();
    last.finish();

    let identity_before = identity(&third);
    let mut calls = third.command(&["call", "--count", "100000", "--delay-ms", "50", "--output", "json"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut calls = calls.stdout(file.reopen().unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let down = deleted.run(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    assert_eq!(Leftovers::now(&deleted), before[1]);
    let up = killed.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    let down = killed.run(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    assert_eq!(Leftovers::now(&killed), before[0]);
    assert!(calls.try_wait().unwrap().is_none(), "the calls ended too early");
    calls.kill().unwrap();
    calls.wait().unwrap();

    let output = std::fs::read_to_string(file.path()).unwrap();
    // The last line may be incomplete.
    let answers: Vec<&str> = output.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    let lost: Vec<_> = answers.iter().filter(|line| !line.contains(r#""statusCode":200"#)).collect();
    println!("{} calls in the third environment, {} of them lost", answers.len(), lost.len());
    assert!(answers.len() > 100 && lost.is_empty(), "{lost:?}");
    assert_eq!(identity(&third), identity_before);
    let status = third.run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    let down = third.run(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
}
