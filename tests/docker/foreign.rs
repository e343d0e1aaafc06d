//! Objects that kindmesh did not create: refused before anything is created, and kept by `down`.

use super::home::{Home, shown};
use super::*;

/// Returns the containers and networks of this name prefix, to check that none is created.
fn there(name: &str) -> String {
    let filter = format!("name={name}");
    let containers = said(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
    let networks = said(&["network", "ls", "--filter", &format!("name=kindmesh-{name}"), "--format", "{{.Name}}"]);
    format!("{containers} {networks}").trim().to_owned()
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn what_is_somebody_elses_is_refused_before_anything_is_made() {
    const NAME: &str = "docker-test-mine";
    let _removed = [Removed::network(NAME)];
    let engine = engine().await;
    let image = node_image(&engine).await;
    let home = Home::new(&engine, NAME);
    let refused = |what: &str| {
        let before = there(NAME);
        let output = home.command(&["up", "--output", "json"]).output().unwrap();
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(what) && text.contains("\"hint\":\"choose another environment name"), "{text}");
        assert_eq!(there(NAME), before, "{text}");
        eprintln!("{}", text.lines().last().unwrap_or_default());
    };

    {
        let _container = Removed::container("docker-test-mine-b-control-plane");
        said(&["create", "--name", "docker-test-mine-b-control-plane", &image]);
        refused("container \\\"docker-test-mine-b-control-plane\\\" exists, but kindmesh did not create it");
    }
    {
        let _cluster = Removed::container("docker-test-elses");
        let labels = kind_labels("docker-test-mine-a");
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        said(&[&["create", "--name", "docker-test-elses", "--network", "none"], &labels[..], &[&image]].concat());
        refused("kind cluster \\\"docker-test-mine-a\\\" exists, but kindmesh did not create it");
    }
    let subnet = said(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "bridge"]);
    let spec = format!("network: {{subnet: {subnet}}}\n");
    std::fs::write(home.root.join("taken.yaml"), spec).unwrap();
    let output = home.command(&["plan", "-f", "taken.yaml"]).output().unwrap();
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("error: taken.yaml:1:19: network.subnet ") && text.contains("\"bridge\""), "{text}");
    eprintln!("{text}");

    said(&["network", "create", "kindmesh-docker-test-mine"]);
    refused("Docker network \\\"kindmesh-docker-test-mine\\\" exists, but kindmesh did not create it");
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn an_image_with_the_samples_name_is_refused() {
    const NAME: &str = "docker-test-image";
    let _network = Removed::network(NAME);
    let engine = engine().await;
    let image = node_image(&engine).await;
    let home = Home::new(&engine, NAME);
    std::fs::write(home.root.join("kindmesh.yaml"), "clusters: [{name: a}, {name: b}]\n").unwrap();
    // Another executable, so that no other test has its image.
    let executable = home.root.join("kindmesh");
    let content = [std::fs::read(KINDMESH).unwrap(), b"its own".to_vec()].concat();
    std::fs::write(&executable, content).unwrap();
    let run = |arguments: &[&str]| home.command(arguments).env("KINDMESH_EXE", &executable).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&run(&["plan", "--output", "json"]).stdout).unwrap();
    let sample = plan["samples"]["image"].as_str().unwrap();
    let _tagged = Removed::image(sample);
    said(&["tag", &image, sample]);
    let output = run(&["up"]);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(&format!("image \"{sample}\" exists, but kindmesh did not create it")), "{text}");
    assert!(!docker(&["network", "inspect", &network_name(NAME)]).status.success(), "{text}");
    eprintln!("{text}");
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn down_leaves_a_network_that_others_use_and_names_them() {
    const NAME: &str = "docker-test-guest";
    const GUEST: &str = "docker-test-visitor";
    const NODE: &str = "docker-test-guest-a-control-plane";
    let engine = engine().await;
    let image = node_image(&engine).await;
    let _network = Removed::network(NAME);
    let network = made(&engine, NAME, |_| ()).await;
    let _containers = [Removed::container(NODE), Removed::container(GUEST)];
    let labels = kind_labels("docker-test-guest-a");
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    let node = ["run", "--detach", "--name", NODE, "--network", &network.name, "--entrypoint", "sleep"];
    said(&[&node[..], &labels, &[&image, "infinity"]].concat());
    said(&[
        "run",
        "--detach",
        "--name",
        GUEST,
        "--network",
        &network.name,
        "--entrypoint",
        "sleep",
        &image,
        "infinity",
    ]);

    // The state directory is lost, and neither kind nor the docker client is installed.
    let home = Home::new(&engine, NAME);
    let kubeconfig = home.root.join("config");
    let own = "apiVersion: v1\nkind: Config\nclusters: []\nfromTheFuture: {a: b}\n";
    let mark = Mark { environment: NAME.into(), engine: engine.facts.id.clone() };
    let entries =
        "clusters: [{name: c, cluster: {}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n";
    let merged = entries::with(own, entries, &mark, "x").unwrap().unwrap();
    std::fs::write(&kubeconfig, merged).unwrap();
    let down = || {
        let output =
            home.command(&["down"]).env("PATH", "/nonexistent").env("KUBECONFIG", &kubeconfig).output().unwrap();
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        eprintln!("{text}");
        text
    };
    let text = down();
    assert!(
        text.contains(&format!(
            "network kindmesh-{NAME}, used by {GUEST}; when it is unused: kindmesh down --name {NAME}"
        )),
        "{text}"
    );
    assert!(!docker(&["inspect", NODE]).status.success(), "the node is left");
    assert_eq!(said(&["inspect", "--format", "{{.State.Running}}", GUEST]), "true");
    engine.docker.inspect_network(&network.name, None).await.unwrap();
    let left: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(&kubeconfig).unwrap()).unwrap();
    assert_eq!(left["clusters"], serde_json::json!([]));
    assert_eq!((left["current-context"].as_str(), left["fromTheFuture"]["a"].as_str()), (Some(""), Some("b")));

    said(&["rm", "--force", GUEST]);
    assert!(down().contains(&format!("Environment {NAME} deleted.")));
    assert!(!docker(&["network", "inspect", &network.name]).status.success());
    assert!(down().contains(&format!("Environment {NAME} not found.")));
}
