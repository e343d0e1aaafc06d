//! Tests on a real engine, without harm to it or to others: each test creates the problem in its own network or mount
//! namespace, in its own registry, or under its own name.
//!
//! Namespaces require root; a test without it uses `sudo -n`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::RwLock;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::sandbox::{ARGUMENTS, KINDMESH, Said, Sandbox, said};

/// Locked for writing by the test that starts a process which every other test would find.
static PROCESSES: RwLock<()> = RwLock::new(());

/// Returns the engine's address from the environment. These tests require it on this host.
fn engine() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

/// Returns the spec of an environment whose images the engine lacks; only this registry is queried for them.
fn spec(registry: &str, node: &str, hub: &str) -> String {
    format!(
        "name: docker-test-doc\nkubernetes: {{nodeImage: \"{registry}/{node}\"}}\nmesh: {{hub: {registry}/{hub}}}\n"
    )
}

/// Returns an address on which nothing listens.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Creates a sandbox whose spec names a registry that does not exist: the only finding about images.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("work/kindmesh.yaml", &spec(&closed(), "node:v1.36.4", "istio"));
    sandbox
}

/// Runs `doctor` in its own namespaces, after a script has changed them.
fn in_namespace(sandbox: &Sandbox, namespace: &str, script: &str, variables: &[(&str, &str)]) -> Said {
    let _others = PROCESSES.read().unwrap();
    begin(sandbox, namespace, script, variables)
}

fn begin(sandbox: &Sandbox, namespace: &str, script: &str, variables: &[(&str, &str)]) -> Said {
    let mut command = as_root(sandbox, "unshare");
    command.envs(variables.iter().copied()).args(namespace.split(' '));
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", sandbox.root.join("bin").display());
    let script = format!("set -e; export PATH={path}; {script}; exec {KINDMESH} {}", ARGUMENTS.join(" "));
    ours(said(command.args(["sh", "-c", &script])))
}

fn as_root(sandbox: &Sandbox, program: &str) -> Command {
    if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
        return sandbox.run(Path::new(program), &engine());
    }
    let mut command = sandbox.run(Path::new("sudo"), &engine());
    command.args(["-n", "-E", program]);
    command
}

/// Removes the findings about leftovers of others on the engine.
fn ours(mut said: Said) -> Said {
    said.findings.retain(|found| !found["id"].as_str().unwrap().starts_with("leftovers."));
    said
}

/// Runs `doctor` on this host, unchanged.
fn doctor(sandbox: &Sandbox, variables: &[(&str, &str)]) -> Said {
    let _others = PROCESSES.read().unwrap();
    ours(sandbox.doctor(&engine(), variables))
}

/// Returns the findings other than that of the registry that does not exist.
fn others(said: &Said) -> Vec<String> {
    let (registry, others): (Vec<_>, Vec<_>) = said.ids().into_iter().partition(|id| id.contains("registry."));
    assert_eq!(registry, ["blocks registry.unreachable"], "{:#?}", said.findings);
    others
}

fn docker(arguments: &[&str]) -> bool {
    Command::new("docker").args(arguments).output().unwrap().status.success()
}

/// A Docker network that is removed on drop.
struct Network(&'static str);

impl Network {
    fn new(name: &'static str, arguments: &[&str]) -> Self {
        docker(&["network", "rm", name]);
        assert!(docker(&[&["network", "create"], arguments, &[name]].concat()));
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        docker(&["network", "rm", self.0]);
    }
}

#[test]
#[ignore = "requires a container engine on this host"]
fn this_machine_is_good_and_its_disk_is_known() {
    let sandbox = sandbox();
    let said = doctor(&sandbox, &[]);
    assert_eq!(others(&said), Vec::<String>::new(), "{:#?}", said.findings);
    assert!(said.unknown.iter().all(|why| why.starts_with("iptables: only root")), "{:?}", said.unknown);
    assert!(!sandbox.root.join("state").exists() && !sandbox.root.join("cache").exists());
}

#[test]
#[ignore = "requires a container engine on this host, and root"]
fn a_vpn_has_every_address() {
    let routes = "ip link add tun0 type bridge; ip link set tun0 up; for net in 10.0.0.0/8 172.16.0.0/12 \
        192.168.0.0/16; do ip route add $net dev tun0; done";
    let said = in_namespace(&Sandbox::new(), "--net", routes, &[]);
    let found = said.finding("addresses.none");
    assert_eq!(said.code, 4);
    assert!(found["evidence"].as_str().unwrap().contains("10.0.0.0/8 is in use by the route via tun0"), "{found}");
}

#[test]
#[ignore = "requires a container engine on this host, and root"]
fn a_machine_that_forwards_nothing_or_drops_it() {
    let sandbox = sandbox();
    let off = in_namespace(&sandbox, "--net", "echo 0 > /proc/sys/net/ipv4/ip_forward", &[]);
    assert_eq!(others(&off), ["warns forward.off"]);
    let on = "echo 1 > /proc/sys/net/ipv4/ip_forward; iptables -P FORWARD";
    assert_eq!(others(&in_namespace(&sandbox, "--net", &format!("{on} ACCEPT"), &[])), Vec::<String>::new());
    let dropped = in_namespace(&sandbox, "--net", &format!("{on} DROP"), &[]);
    let found = dropped.finding("firewall.iptables");
    assert_eq!(found["evidence"], "iptables -S FORWARD: -P FORWARD DROP");
    // Like the engine, which places its rules first.
    let engines = "DROP; iptables -N DOCKER-FORWARD; iptables -A FORWARD -j DOCKER-FORWARD";
    assert_eq!(others(&in_namespace(&sandbox, "--net", &format!("{on} {engines}"), &[])), Vec::<String>::new());
}

#[test]
#[ignore = "requires a container engine on this host, and root"]
fn firewalld_that_started_after_the_engine() {
    let sandbox = sandbox();
    let firewalld = sandbox.program("firewalld", "read line");
    let pipe = sandbox.root.join("pipe");
    // In its own PID namespace, which stops it together with doctor.
    let beside = format!("mkfifo {0}; {1} <>{0} &", pipe.display(), firewalld.display());
    let script = format!("{beside} until grep -qa firewalld /proc/[0-9]*/cmdline; do :; done");
    let _alone = PROCESSES.write().unwrap();
    let said = begin(&sandbox, "--pid --fork --mount-proc --kill-child", &script, &[]);
    assert_eq!(others(&said), ["warns firewall.firewalld"]);
}

#[test]
#[ignore = "requires a container engine on this host, and root"]
fn limits_and_memory_of_the_kernel() {
    let sandbox = sandbox();
    let (low, little) = (sandbox.write("low", "128\n"), sandbox.root.join("meminfo"));
    let over = format!("mount --bind {} /proc/sys/fs/inotify/max_user_instances", low.display());
    let said = in_namespace(&sandbox, "--mount", &over, &[]);
    assert_eq!(others(&said), ["warns inotify.low"]);
    assert_eq!(said.finding("inotify.low")["evidence"], "fs.inotify.max_user_instances = 128");

    let little = little.display();
    let over = format!(
        "sed 's/^MemAvailable:.*/MemAvailable: 500000 kB/' /proc/meminfo > {little}; mount --bind {little} /proc/meminfo"
    );
    assert_eq!(others(&in_namespace(&sandbox, "--mount", &over, &[])), ["warns memory.used"]);
}

#[test]
#[ignore = "requires a container engine on this host, and root"]
fn disks_that_are_full_or_read_only() {
    let sandbox = sandbox();
    let folder = Command::new("docker").args(["info", "--format", "{{.DockerRootDir}}"]).output().unwrap();
    let folder = String::from_utf8(folder.stdout).unwrap();
    let small = format!("mount -t tmpfs -o size=100m none {}", folder.trim());
    let said = in_namespace(&sandbox, "--mount", &small, &[]);
    assert_eq!(others(&said), ["blocks disk.low"]);

    let disk = sandbox.root.join("disk");
    std::fs::create_dir(&disk).unwrap();
    let on = |options: &str| format!("mount -t tmpfs -o {options} none {}", disk.display());
    let state = [("XDG_STATE_HOME", disk.to_str().unwrap())];
    let said = in_namespace(&sandbox, "--mount", &on("size=100m"), &state);
    assert_eq!(others(&said), ["blocks disk.state"]);
    let said = in_namespace(&sandbox, "--mount", &on("ro,size=2g"), &state);
    assert_eq!(others(&said), ["blocks state.read-only"]);
}

#[test]
#[ignore = "requires a container engine on this host, and root"]
fn another_user_is_not_allowed() {
    let sandbox = Sandbox::new();
    // That user may not enter this user's directories.
    let copy = sandbox.root.join("kindmesh");
    std::fs::copy(KINDMESH, &copy).unwrap();
    for folder in [sandbox.root.clone(), sandbox.root.join("work"), sandbox.root.join("bin")] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let mut command = as_root(&sandbox, "setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(copy).args(ARGUMENTS);
    said(&mut command).is(&["blocks engine.not-allowed"]);
}

#[test]
#[ignore = "requires a container engine on this host"]
fn a_docker_network_in_the_way_and_one_that_was_left() {
    let sandbox = sandbox();
    let taken = Network::new("docker-test-doc-taken", &["--subnet", "192.168.251.0/29"]);
    let fixed = spec(&closed(), "node:v1.36.4", "istio") + "network: {subnet: 192.168.251.0/24}\n";
    sandbox.write("work/kindmesh.yaml", &fixed);
    // Without a plan, no images are checked.
    doctor(&sandbox, &[]).is(&["blocks spec.conflict"]);
    drop(taken);

    let labels = ["--label", "kindmesh.environment=docker-test-left", "--label", "kindmesh.clusters=a,b"];
    let _left = Network::new("kindmesh-docker-test-left", &labels);
    sandbox.write("work/kindmesh.yaml", &spec(&closed(), "node:v1.36.4", "istio"));
    let cure = "kindmesh down --name docker-test-left";
    let said = sandbox.doctor(&engine(), &[]);
    let left = said.findings.iter().find(|found| found["cure"] == cure);
    assert_eq!(left.unwrap()["id"], "leftovers.networks");
}

/// A registry whose response depends on the image's name.
struct Registry {
    address: String,
    _runtime: Runtime,
}

impl Registry {
    fn serve() -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { address, _runtime: runtime }
    }
}

async fn answer(request: Request) -> Response {
    let refuse = |status: StatusCode, code: &str| {
        (status, axum::Json(json!({"errors": [{"code": code, "message": "test"}]}))).into_response()
    };
    let path = request.uri().path().to_owned();
    if path == "/v2/" {
        return StatusCode::OK.into_response();
    }
    if path.contains("/locked/") {
        return refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
    }
    if path.contains("/limited/") {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS");
    }
    if path.contains("/silent/") {
        return std::future::pending().await;
    }
    if path.contains("/arm/") && path.contains("/manifests/") {
        let manifest = |architecture: &str, digit: char| {
            let digest = format!("sha256:{}", digit.to_string().repeat(64));
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7,
                "platform": {"os": "linux", "architecture": architecture}})
        };
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind,
            "manifests": [manifest("s390x", '1'), manifest("ppc64le", '2')]});
        return ([("content-type", kind)], index.to_string()).into_response();
    }
    refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN")
}

#[test]
#[ignore = "requires a container engine on this host"]
fn what_registries_say_through_the_engine() {
    let registry = Registry::serve();
    let sandbox = Sandbox::new();
    let asked = |node: &str, hub: &str, variables: &[(&str, &str)]| {
        sandbox.write("work/kindmesh.yaml", &spec(&registry.address, node, hub));
        let _others = PROCESSES.read().unwrap();
        // Long enough for a response, and short enough to wait for the timeout.
        ours(sandbox.doctor_within(8, &engine(), variables))
    };
    let said = asked("arm/node:v1.36.4", "absent", &[]);
    said.is(&["blocks registry.image", "blocks registry.platform"]);
    assert!(
        said.finding("registry.platform")["evidence"].as_str().unwrap().ends_with("linux/s390x, linux/ppc64le")
    );
    asked("locked/node:v1.36.4", "limited", &[]).is(&["blocks registry.limited", "blocks registry.credentials"]);
    asked("silent/node:v1.36.4", "silent", &[]).is(&["warns registry.unreachable"]);

    // Existing credentials, and a missing helper.
    let config = json!({"auths": {registry.address.as_str(): {"username": "ada", "password": "secret"}}});
    sandbox.write("home/.docker/config.json", &config.to_string());
    let said = asked("locked/node:v1.36.4", "locked", &[]);
    let found = said.is(&["blocks registry.credentials"]).finding("registry.credentials");
    assert!(found["what"].as_str().unwrap().contains("rejects the credentials"), "{found}");
    assert!(!said.findings.iter().any(|found| found.to_string().contains("secret")));
    sandbox.write("home/.docker/config.json", &json!({"credsStore": "of-kindmesh-tests"}).to_string());
    let said = asked("silent/node:v1.36.4", "silent", &[]);
    said.is(&["blocks registry.helper", "warns registry.unreachable"]);
}

#[test]
#[ignore = "requires a container engine on this host"]
fn an_image_for_another_architecture() {
    let sandbox = sandbox();
    let registry = closed();
    let name = format!("{registry}/docker-test-doc:v1.36.4");
    let import = format!("tar -c --files-from /dev/null | docker import --platform linux/riscv64 - {name}");
    assert!(Command::new("sh").args(["-c", &import]).output().unwrap().status.success());
    sandbox.write("work/kindmesh.yaml", &spec(&registry, "docker-test-doc:v1.36.4", "istio"));
    let said = doctor(&sandbox, &[]);
    assert!(docker(&["image", "rm", &name]));
    assert_eq!(others(&said), ["blocks images.platform"]);
}

#[test]
#[ignore = "requires a container engine on this host"]
fn engine_without_the_shells_proxy() {
    let variables = [("HTTPS_PROXY", "http://proxy.example:3128"), ("NO_PROXY", "*")];
    doctor(&sandbox(), &variables).is(&["blocks registry.unreachable", "warns proxy.engine"]);
}
