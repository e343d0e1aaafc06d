//! The user's own kubeconfig.

use serde_json::Value;

use crate::desk::{Desk, OWN, golden, stdout};

#[test]
fn merging_keeps_the_users_own() {
    let desk = Desk::with_environment();
    // As a value: within maps the order of a kubeconfig's fields means nothing.
    let merged = |path: &str| serde_yaml::from_str::<Value>(&desk.read(path)).unwrap();
    let shown =
        |title: &str| format!("# {title}\n{}", serde_yaml::to_string(&merged("home/.kube/config")).unwrap());
    let mut texts = vec![desk.run("kubeconfig --name shop --merge"), shown("the user had none")];
    let alone = merged("home/.kube/config");
    desk.write("home/.kube/config", "");
    desk.run("kubeconfig --name shop --merge");
    assert_eq!(merged("home/.kube/config"), alone, "into an empty file");

    desk.write("home/.kube/config", OWN);
    texts.push(desk.run("kubeconfig --name shop --merge --quiet"));
    texts.push(shown("the user had one"));
    golden("merge", &texts);
    let both = merged("home/.kube/config");
    desk.run("kubeconfig --name shop --merge");
    assert_eq!(merged("home/.kube/config"), both, "merged again");

    let first = desk.root.join("mine").display().to_string();
    let listed = format!("{first}:/nonexistent/second");
    let said = stdout(desk.command().env("KUBECONFIG", listed).args(["kubeconfig", "--merge", "--name", "shop"]));
    assert_eq!(said.trim_end(), first);
    assert_eq!(merged("mine"), alone);
    assert_eq!(merged("home/.kube/config"), both, "another file was to be changed");
}

#[test]
fn merging_waits_for_nobody() {
    let desk = Desk::with_environment();
    desk.write("home/.kube/config.lock", "");
    golden("merge_locked", &[desk.run("kubeconfig --name shop --merge")]);
    assert!(!desk.root.join("home/.kube/config").exists());
}

#[test]
fn merging_writes_through_a_symbolic_link() {
    let desk = Desk::with_environment();
    desk.write("dotfiles/config", OWN);
    std::fs::create_dir(desk.root.join("home/.kube")).unwrap();
    let link = desk.root.join("home/.kube/config");
    std::os::unix::fs::symlink(desk.root.join("dotfiles/config"), &link).unwrap();
    desk.run("kubeconfig --name shop --merge");
    assert!(link.is_symlink());
    assert!(desk.read("dotfiles/config").contains("kind-shop-west"));
}
