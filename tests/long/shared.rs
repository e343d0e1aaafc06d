//! `kindmesh::testing::Mesh::shared` in several processes: one environment for all, deleted after the last one.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kindmesh::testing::{Mesh, Poll, Request};

use crate::environment::{docker, name};
use crate::wait_until;

/// Makes this test one of the processes; the value is the name of the environment.
const USER_VARIABLE: &str = "KINDMESH_TEST_USER";
/// How long the caller's pod and its endpoint may take.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(60);
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: probes}, spec: {selector: {app: kindmesh-caller}, \
    ports: [{name: http, port: 8080}]}}";

#[test]
#[ignore = "needs a container engine and minutes"]
fn shared_environment_is_deleted_after_the_last_process() {
    if let Ok(name) = std::env::var(USER_VARIABLE) {
        return use_environment(&name);
    }
    let name = format!("{}-shared", name());
    let dir = tempfile::tempdir().expect("create a temporary directory");
    let spec = dir.path().join("mesh-only.yaml");
    std::fs::write(&spec, "samples: {enabled: false}\n").expect("write the file");
    let started = Instant::now();
    let mut users = [(); 2].map(|()| User::start(&name, dir.path(), &spec));
    users.iter_mut().for_each(User::wait_until_used);
    println!("both processes have used it after {:?}", started.elapsed());
    let [mut first, mut second] = users;
    first.kill();
    // It stays while the other process runs: for twice the idle time after which it is deleted.
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(node_count(&name), 2);
    second.kill();
    let last_exit = Instant::now();
    assert!(wait_until(|| is_deleted(&name)), "not deleted: {} nodes", node_count(&name));
    println!("deleted {:?} after the last process ended", last_exit.elapsed());
}

fn node_count(name: &str) -> usize {
    docker(&["ps", "-aq", "--filter", &format!("network=kindmesh-{name}")]).lines().count()
}

fn is_deleted(name: &str) -> bool {
    std::thread::sleep(Duration::from_secs(1));
    let networks = docker(&["network", "ls", "-q", "--filter", &format!("label=kindmesh.environment={name}")]);
    node_count(name) == 0 && networks.is_empty()
}

/// Runs in each process: one test, then it waits until it is killed.
#[expect(clippy::print_stdout, reason = "read by the test that started the process")]
fn use_environment(name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("build the runtime");
    let result = runtime.block_on(async {
        let mesh = Mesh::shared(name).await?;
        mesh.test(async |ns| {
            ns.apply("cluster2", SERVICE).await?;
            // The manifests have no pods, so `apply` does not wait for any: the Service selects the namespace's own caller.
            ns.until("the Service to have an endpoint", ENDPOINT_TIMEOUT, async || {
                let known = ns.endpoints("cluster1", "probes", 8080).await?;
                Ok(if known.is_empty() { Poll::NotYet("no endpoint".into()) } else { Poll::Ready(()) })
            })
            .await?;
            let ready = Request::get("http://probes:8080/healthz/ready");
            for answer in ns.send_times("cluster1", &ready, 5).await? {
                assert!(answer.status == 200 && !answer.served_by.cluster.is_empty(), "{answer:?}");
            }
            Ok(())
        })
        .await
    });
    result.expect("a passing test");
    println!("used");
    let _ = std::io::stdin().read(&mut [0]);
}

struct User(Child);

impl User {
    fn start(name: &str, state: &std::path::Path, spec: &std::path::Path) -> Self {
        let files = std::env::var_os("KINDMESH_FILE").unwrap_or_default();
        let files = std::env::split_paths(&files).chain([spec.to_owned()]);
        let child = Command::new(std::env::current_exe().expect("the path of this test"))
            .args(["--exact", "shared::shared_environment_is_deleted_after_the_last_process"])
            .args(["--include-ignored", "--nocapture"])
            .env(USER_VARIABLE, name)
            .env("KINDMESH_FILE", std::env::join_paths(files).expect("paths"))
            .env("KINDMESH_EXE", env!("CARGO_BIN_EXE_kindmesh"))
            .env("XDG_STATE_HOME", state)
            .env_remove("KINDMESH_ENVIRONMENT")
            .env_remove("KINDMESH_KEEP")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("start this test"))
    }

    fn wait_until_used(&mut self) {
        let lines = BufReader::new(self.0.stdout.take().expect("a pipe")).lines();
        let output: Vec<String> = lines.map_while(Result::ok).take_while(|line| line != "used").collect();
        assert!(self.0.try_wait().expect("a state").is_none(), "the process exited: {}", output.join("\n"));
    }

    fn kill(&mut self) {
        self.0.kill().expect("kill the process");
        self.0.wait().expect("wait for the process");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
