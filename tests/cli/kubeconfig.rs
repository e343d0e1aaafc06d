//! Merging into the user's kubeconfig.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::sandbox::{KINDMESH, OWN, Sandbox, golden, stdout};

#[test]
fn merging_keeps_the_users_own() {
    let sandbox = Sandbox::with_environment();
    // As a value: the order of fields within maps has no meaning in a kubeconfig.
    let merged = |path: &str| serde_yaml::from_str::<Value>(&sandbox.read(path)).unwrap();
    let shown =
        |title: &str| format!("# {title}\n{}", serde_yaml::to_string(&merged("home/.kube/config")).unwrap());
    let mut texts = vec![sandbox.run("kubeconfig --name shop --merge"), shown("no existing kubeconfig")];
    let alone = merged("home/.kube/config");
    sandbox.write("home/.kube/config", "");
    sandbox.run("kubeconfig --name shop --merge");
    assert_eq!(merged("home/.kube/config"), alone, "into an empty file");

    sandbox.write("home/.kube/config", OWN);
    texts.push(sandbox.run("kubeconfig --name shop --merge --quiet"));
    texts.push(shown("an existing kubeconfig"));
    golden("merge", &texts);
    let both = merged("home/.kube/config");
    sandbox.run("kubeconfig --name shop --merge");
    assert_eq!(merged("home/.kube/config"), both, "merged again");

    let first = sandbox.root.join("mine").display().to_string();
    let listed = format!("{first}:/nonexistent/second");
    let said =
        stdout(sandbox.command().env("KUBECONFIG", listed).args(["kubeconfig", "--merge", "--name", "shop"]));
    assert_eq!(said.trim_end(), first);
    assert_eq!(merged("mine"), alone);
    assert_eq!(merged("home/.kube/config"), both, "another file was changed");
}

/// Quiet, because the reported wait of ten seconds has a different duration in each run.
#[test]
fn stale_kubeconfig_lock_is_named() {
    let sandbox = Sandbox::with_environment();
    sandbox.write("home/.kube/config.lock", "");
    golden("merge_locked", &[sandbox.run("kubeconfig --name shop --merge --quiet")]);
    assert!(!sandbox.root.join("home/.kube/config").exists());
}

#[test]
fn merging_writes_through_a_symbolic_link() {
    let sandbox = Sandbox::with_environment();
    sandbox.write("dotfiles/config", OWN);
    std::fs::create_dir(sandbox.root.join("home/.kube")).unwrap();
    let link = sandbox.root.join("home/.kube/config");
    std::os::unix::fs::symlink(sandbox.root.join("dotfiles/config"), &link).unwrap();
    sandbox.run("kubeconfig --name shop --merge");
    assert!(link.is_symlink());
    assert!(sandbox.read("dotfiles/config").contains("kind-shop-west"));
}

#[test]
fn users_entry_of_the_same_name_is_kept() {
    let sandbox = Sandbox::with_environment();
    let mut texts = Vec::new();
    for own in [
        "clusters: [{name: kind-shop-east, cluster: {server: \"https://mine.example\"}}]\n",
        "users: [{name: kind-shop-west, user: {token: mine}}]\n",
        "contexts: [{name: kind-shop-west, context: {cluster: mine, user: mine}}]\n",
    ] {
        sandbox.write("home/.kube/config", own);
        texts.push(sandbox.run("kubeconfig --name shop --merge"));
        assert_eq!(sandbox.read("home/.kube/config"), own);
    }
    golden("merge_foreign", &texts);
}

#[test]
fn invalid_kubeconfig_is_unchanged() {
    let sandbox = Sandbox::with_environment();
    let mut texts = Vec::new();
    for broken in [
        "clusters: [\n",
        "- a list\n",
        "just text\n",
        "clusters: {a: b}\n",
        "contexts: []\ncontexts: []\n",
        "a: 1\n---\nb: 2\n",
        "users:\n\t- name: a\n",
    ] {
        sandbox.write("home/.kube/config", broken);
        texts.push(sandbox.run("kubeconfig --name shop --merge"));
        assert_eq!(sandbox.read("home/.kube/config"), broken);
        assert!(!sandbox.root.join("home/.kube/config.lock").exists());
    }
    std::fs::write(sandbox.root.join("home/.kube/config"), b"users: \xff\n").unwrap();
    texts.push(sandbox.run("kubeconfig --name shop --merge"));
    std::fs::remove_file(sandbox.root.join("home/.kube/config")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(sandbox.root.join("home/.kube/config")).status().unwrap();
    assert!(pipe.success());
    texts.push(sandbox.run("kubeconfig --name shop --merge"));
    golden("merge_broken", &texts);
}

#[test]
fn merge_keeps_the_file_mode() {
    let sandbox = Sandbox::with_environment();
    let path = sandbox.root.join("home/.kube/config");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    for umask in ["000", "077"] {
        let merge = || {
            let script = format!("umask {umask}; exec \"{KINDMESH}\" kubeconfig --merge --name shop");
            sandbox.command_of("sh").args(["-c", &script]).assert().success();
        };
        let _ = std::fs::remove_file(&path);
        merge();
        assert_eq!(mode(), 0o600, "a new file, umask {umask}");
        sandbox.write("home/.kube/config", OWN);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        merge();
        assert_eq!(mode(), 0o640, "umask {umask}");
        assert!(sandbox.read("home/.kube/config").contains("fromTheFuture"));
    }
}
