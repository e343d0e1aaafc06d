//! `kindmesh::testing::Mesh::shared` by several processes: one environment for all, gone after the last.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kindmesh::testing::{Mesh, Request};

use crate::environment::{docker, name};
use crate::until;

/// Makes this test one of the processes, with the environment's name.
const USER: &str = "KINDMESH_TEST_USER";
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: probes}, spec: {selector: {app: kindmesh-caller}, \
    ports: [{name: http, port: 8080}]}}";

#[test]
#[ignore = "needs a container engine and minutes"]
fn processes_share_an_environment_that_goes_after_the_last() {
    if let Ok(name) = std::env::var(USER) {
        return use_it(&name);
    }
    let name = format!("{}-shared", name());
    let folder = tempfile::tempdir().expect("a folder");
    let spec = folder.path().join("mesh-only.yaml");
    std::fs::write(&spec, "samples: {enabled: false}\n").expect("a file");
    let started = Instant::now();
    let mut users = [(); 2].map(|()| User::start(&name, folder.path(), &spec));
    users.iter_mut().for_each(User::has_used);
    println!("both have used it after {:?}", started.elapsed());
    let [mut first, mut second] = users;
    first.kill();
    // As long as the other lives, it stays: twice what nobody has to use it for.
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(nodes(&name), 2);
    second.kill();
    let left = Instant::now();
    assert!(until(|| gone(&name)), "it stays: {} nodes", nodes(&name));
    println!("gone {:?} after the last", left.elapsed());
}

fn nodes(name: &str) -> usize {
    docker(&["ps", "-aq", "--filter", &format!("network=kindmesh-{name}")]).lines().count()
}

fn gone(name: &str) -> bool {
    std::thread::sleep(Duration::from_secs(1));
    let networks = docker(&["network", "ls", "-q", "--filter", &format!("label=kindmesh.environment={name}")]);
    nodes(name) == 0 && networks.is_empty()
}

/// What each process does: a test, and then it stays until it is killed.
#[expect(clippy::print_stdout, reason = "it tells the test that started it")]
fn use_it(name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let used = runtime.block_on(async {
        let mesh = Mesh::shared(name).await?;
        mesh.test(async |ns| {
            ns.apply("cluster2", SERVICE).await?;
            let ready = Request::get("http://probes:8080/healthz/ready");
            for answer in ns.send_times("cluster1", &ready, 5).await? {
                assert!(answer.status == 200 && !answer.served_by.cluster.is_empty(), "{answer:?}");
            }
            Ok(())
        })
        .await
    });
    used.expect("a test that passes");
    println!("used");
    let _ = std::io::stdin().read(&mut [0]);
}

struct User(Child);

impl User {
    fn start(name: &str, state: &std::path::Path, spec: &std::path::Path) -> Self {
        let files = std::env::var_os("KINDMESH_FILE").unwrap_or_default();
        let files = std::env::split_paths(&files).chain([spec.to_owned()]);
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "shared::processes_share_an_environment_that_goes_after_the_last"])
            .args(["--include-ignored", "--nocapture"])
            .env(USER, name)
            .env("KINDMESH_FILE", std::env::join_paths(files).expect("paths"))
            .env("KINDMESH_EXE", env!("CARGO_BIN_EXE_kindmesh"))
            .env("XDG_STATE_HOME", state)
            .env_remove("KINDMESH_ENVIRONMENT")
            .env_remove("KINDMESH_KEEP")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("this test"))
    }

    fn has_used(&mut self) {
        let lines = BufReader::new(self.0.stdout.take().expect("a pipe")).lines();
        let said: Vec<String> = lines.map_while(Result::ok).take_while(|line| line != "used").collect();
        assert!(self.0.try_wait().expect("a state").is_none(), "it ended: {}", said.join("\n"));
    }

    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
