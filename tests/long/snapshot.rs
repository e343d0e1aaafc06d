//! Snapshots: what a user deployed is back after the environment was deleted.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::environment::{E2E, Kindmesh, docker};
use crate::shop::{build_image, call_checkout, copy_manifests, deploy};

const NAME: &str = "e2e-test";
/// kind's default storage class keeps its volumes here.
const VOLUME: &str = "/var/local-path-provisioner/e2e/data";

fn root(kindmesh: &Kindmesh) -> Vec<u8> {
    std::fs::read(kindmesh.state().join("trust/root-cert.pem")).expect("read the root's certificate")
}

/// Runs a command that must succeed, and returns what it printed.
fn succeeds(kindmesh: &Kindmesh, arguments: &[&str]) -> String {
    let output = kindmesh.run(arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
    output.stdout
}

/// What is secret in a running environment: a part of each key and token that is found in its nodes, and of each value of a
/// Secret, as it is in a file or a record.
fn secrets(kindmesh: &Kindmesh) -> Vec<String> {
    const FILES: &str = "find /etc/kubernetes /var/lib/kubelet/pki -type f | xargs cat";
    let mut found = Vec::new();
    for cluster in ["cluster1", "cluster2"] {
        let node = format!("{}-{cluster}-control-plane", kindmesh.name());
        let mut texts = vec![docker(&["exec", &node, "bash", "-c", FILES])];
        let get = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "secrets", "-A", "-ojson"];
        let secrets = docker(&[&["exec", &node], &get[..]].concat());
        let secrets: serde_json::Value = serde_json::from_str(&secrets).expect("a list");
        for secret in secrets["items"].as_array().expect("items") {
            for (key, value) in secret["data"].as_object().into_iter().flatten() {
                let text = decoded(value.as_str().expect("Base64"));
                if key == "token" {
                    found.push(text.clone());
                }
                texts.push(text);
            }
        }
        // Kubeconfigs contain keys and tokens in Base64 or as they are.
        let fields = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().split_once(": "));
        let fields: Vec<_> = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        found.extend(fields.iter().filter(|(name, _)| name == "token").map(|(_, value)| value.clone()));
        texts.extend(fields.iter().filter(|(name, _)| name == "client-key-data").map(|(_, value)| decoded(value)));
        for text in texts {
            let keys = text.split("-----BEGIN ").filter(|part| part.split('\n').next().is_some_and(is_key));
            found.extend(keys.filter_map(|key| key.lines().nth(1)).map(str::to_owned));
        }
    }
    let root = std::fs::read_to_string(kindmesh.state().join("trust/root-key.pem")).expect("read the root's key");
    found.extend(root.lines().nth(1).map(str::to_owned));
    found.sort();
    found.dedup();
    found
}

fn is_key(first_line: &str) -> bool {
    first_line.ends_with("PRIVATE KEY-----")
}

fn decoded(base64: &str) -> String {
    String::from_utf8_lossy(&STANDARD.decode(base64.trim()).expect("Base64")).into_owned()
}

/// Returns those of these secrets that are in a file, as they are or in Base64 or in a record of etcd.
fn leaked<'a>(secrets: &'a [String], file: &Path) -> Vec<&'a String> {
    let mut content = std::fs::read(file).expect("read the file");
    let records = content.split(|byte| *byte == b'"').filter(|text| text.len() > 40);
    let records: Vec<u8> = records.filter_map(|text| STANDARD.decode(text).ok()).flatten().collect();
    content.extend(records);
    // Another level: keys in kubeconfigs and Secrets. Of a whole in Base64, a part is at one of three offsets.
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let inner = content.split(|byte| !is_base64(byte)).filter(|text| text.len() > 100);
    let inner: Vec<u8> = inner.filter_map(|text| STANDARD.decode(text).ok()).flatten().collect();
    content.extend(inner);
    let folder = tempfile::tempdir().expect("a directory");
    let all = folder.path().join("all");
    std::fs::write(&all, content).expect("write");
    let is_in = |secret: &&String| {
        let found = std::process::Command::new("grep").args(["-aqF", "-e", secret]).arg(&all).status();
        found.expect("run grep").success()
    };
    secrets.iter().filter(is_in).collect()
}

/// On a disk without room nothing is saved, and the environment keeps working.
fn full_disk_saves_nothing(kindmesh: &Kindmesh) {
    let snapshots = kindmesh.state().with_file_name(".snapshots");
    std::fs::create_dir_all(&snapshots).expect("create the directory");
    // A file system of 20 MB that only this process sees.
    let small = "mount -t tmpfs -o size=20m tmpfs \"$0\" && ! \"$@\" && test -z \"$(ls \"$0\")\"";
    let save = kindmesh.command(&["snapshot", "save", "e2e-full"]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", small]).arg(&snapshots);
    command.arg(save.get_program()).args(save.get_args());
    for (name, value) in save.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().expect("run unshare");
    let stderr = String::from_utf8_lossy(&output.stderr);
    // It fails and leaves nothing.
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
}

/// An exported snapshot contains no key and no token, unless it is asked for them; it can be imported.
fn export_has_no_keys(kindmesh: &Kindmesh) {
    let folder = tempfile::tempdir().expect("a directory");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (without, with) = (file("without.tar"), file("with.tar"));
    let secrets = secrets(kindmesh);
    // Each control plane has at least 14 files with keys, and the mesh one intermediate CA and one token for its peer.
    assert!(secrets.len() >= 2 * 16, "{}", secrets.len());
    succeeds(kindmesh, &["snapshot", "export", NAME, &without]);
    assert_eq!(leaked(&secrets, Path::new(&without)), Vec::<&String>::new());
    succeeds(kindmesh, &["snapshot", "export", "--with-keys", NAME, &with]);
    assert_eq!(leaked(&secrets, Path::new(&with)).len(), secrets.len());

    succeeds(kindmesh, &["snapshot", "remove", NAME]);
    let untrusted = kindmesh.run(&["snapshot", "import", &with]);
    assert_eq!(untrusted.code, 2, "{untrusted:?}");
    succeeds(kindmesh, &["snapshot", "import", &without]);
    succeeds(kindmesh, &["snapshot", "remove", NAME]);
    succeeds(kindmesh, &["snapshot", "import", "--trust-keys", &with]);
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn deployed_application_is_back_after_a_restore() {
    let kindmesh = E2E.up();
    kindmesh.run(&["snapshot", "remove", NAME]);
    build_image();
    let dir = copy_manifests(["cluster1", "cluster2"]);
    let deployed = deploy(kindmesh, &[dir.path().to_str().expect("a UTF-8 path")]);
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let node = format!("{}-cluster2-control-plane", kindmesh.name());
    let folder = Path::new(VOLUME).parent().expect("a folder").display().to_string();
    docker(&["exec", &node, "sh", "-c", &format!("mkdir -p {folder} && echo kept >{VOLUME}")]);

    full_disk_saves_nothing(kindmesh);
    succeeds(kindmesh, &["snapshot", "save", NAME]);
    let twice = kindmesh.run(&["snapshot", "save", NAME]);
    assert_eq!(twice.code, 2, "an existing snapshot is not overwritten: {twice:?}");
    assert!(succeeds(kindmesh, &["snapshot", "list"]).contains(NAME));
    export_has_no_keys(kindmesh);
    let before = root(kindmesh);
    succeeds(kindmesh, &["down"]);
    succeeds(kindmesh, &["snapshot", "restore", NAME]);

    let response = call_checkout(kindmesh);
    assert!(response.stdout.contains("\"onOrder\":3"), "{response:?}");
    assert_eq!(docker(&["exec", &node, "cat", VOLUME]), "kept");
    assert_eq!(root(kindmesh), before);
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
    let again = kindmesh.json_lines(&["up"]);
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");

    succeeds(kindmesh, &["snapshot", "remove", NAME]);
    let absent = kindmesh.run(&["snapshot", "restore", NAME]);
    assert_eq!(absent.code, 2, "{absent:?}");
    docker(&["exec", &node, "rm", "-r", &folder]);
    assert_eq!(deploy(kindmesh, &["--delete", dir.path().to_str().expect("a UTF-8 path")]).code, 0);
}
