use super::*;
use crate::base::error::Kind;
use crate::plan::inventory::ClusterSubnets;

fn loaded(text: &str) -> Loaded {
    spec::from_text(text, "kindmesh.yaml").unwrap()
}

fn engine(id: &str, host: &str) -> EngineIdentity {
    EngineIdentity { id: id.into(), host: host.into() }
}

fn on_file(engine: Option<EngineIdentity>) -> EngineOnFile {
    EngineOnFile { engine, file: "/state/shop/engine".into(), folder: "/state/shop".into() }
}

/// The environment `shop` with a node in each of two clusters, in these states.
fn inventory(states: [&str; 2]) -> Inventory {
    let node = |cluster: &str, state: &str| Node {
        name: format!("shop-{cluster}-control-plane"),
        cluster: cluster.into(),
        role: "control-plane".into(),
        state: state.into(),
        image: String::new(),
    };
    let nodes = vec![node("cluster1", states[0]), node("cluster2", states[1])];
    let clusters = ["cluster1", "cluster2"].map(|name| (name.to_owned(), ClusterSubnets::default())).into();
    let environment = Environment { nodes, clusters, ..Environment::default() };
    Inventory { environments: [("shop".to_owned(), environment)].into(), ..Inventory::default() }
}

/// Pins every refusal with its kind, message, evidence and hint.
#[test]
fn every_refusal_names_the_conflict_and_the_fix() {
    let (there, nothing) = (inventory(["running", "running"]), Inventory::default());
    let shop = loaded("name: shop").spec;
    let one = loaded("name: shop\nclusters: [{name: a}]");
    let hub = loaded("name: shop\nmesh:\n  hub: registry.example/istio\n");
    let past = |engine| Past { spec: Some(shop.clone()), engine: on_file(engine) };
    let (a, b, c) = (engine("A", "unix:///a"), engine("B", "unix:///b"), engine("C", "unix:///a"));
    let wanted = |loaded: &Loaded, past: &Past, selected: &EngineIdentity, inventory: &Inventory| {
        environment(&loaded.spec, &loaded.origins, past, selected, inventory)
    };
    let obstacle = |what: &str| Obstacle {
        what: format!("{what} is missing"),
        consequence: "nothing works".into(),
        evidence: format!("no {what}"),
        cure: format!("get {what}"),
    };
    let foreign = |containers: &[&str], image: Option<&str>| Unlabeled {
        containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        image: image.map(str::to_owned),
    };
    let mine = Inventory { foreign_clusters: vec!["shop-cluster2".into()], ..Inventory::default() };
    let by_a = Taken { subnet: "172.18.0.0/16".parse().unwrap(), by: "Docker network \"kind\"".into() };
    let fixed = loaded("name: shop\nnetwork: {subnet: 172.18.5.0/24}").spec;
    let elsewhere = Environment { subnet: "172.30.0.0/24".parse().ok(), ..Environment::default() };

    let fewer = |names: &[&str]| {
        let clusters: Vec<_> = names.iter().map(|name| serde_json::json!({"name": name})).collect();
        loaded(&serde_json::json!({"name": "shop", "clusters": clusters}).to_string()).spec
    };
    let (without, others) = (fewer(&["cluster1", "west"]), fewer(&["east", "west"]));

    let refusals: [(&str, Result<(), Error>); 18] = [
        ("a cluster that the spec does not list", removal(&without, Some(&shop), &there, false)),
        ("the same without files", removal(&without, None, &there, false)),
        ("no cluster that the spec lists", removal(&others, Some(&others), &there, true)),
        ("an invalid spec", spec(&one, Some(shop.clone())).map(drop)),
        ("a host", machine([obstacle("memory")])),
        ("a host with two obstacles", machine(["memory", "a disk"].map(obstacle))),
        ("an engine at another endpoint", wanted(&hub, &past(Some(a.clone())), &b, &nothing)),
        ("another engine at the same endpoint", wanted(&hub, &past(Some(a.clone())), &c, &there)),
        ("another hub", wanted(&hub, &past(Some(a.clone())), &a, &there)),
        ("a kind cluster", clusters(&shop, &mine)),
        ("a subnet in use", subnet(&fixed, &Environment::default(), Some(&by_a))),
        ("a subnet that differs from the existing one", subnet(&fixed, &elsewhere, None)),
        ("a container", names(&foreign(&["shop-cluster1-control-plane"], Some("kindmesh.local/sample:1")))),
        ("an image", names(&foreign(&[], Some("kindmesh.local/sample:1")))),
        ("a network", Err(foreign_network("kindmesh-shop"))),
        ("all clusters paused", resting(&inventory(["paused", "paused"]), "shop", &["cluster1", "cluster2"])),
        ("one cluster stopped", resting(&inventory(["running", "exited"]), "shop", &["cluster1", "cluster2"])),
        ("the requested cluster paused", resting(&inventory(["paused", "paused"]), "shop", &["cluster1"])),
    ];
    let mut text = String::new();
    for (what, refused) in refusals {
        let Error { kind, message, evidence, hint, .. } = refused.expect_err(what);
        text.push_str(&format!("{what} ({kind:?})\n  {message}\n"));
        evidence.iter().for_each(|line| text.push_str(&format!("  | {line}\n")));
        text.push_str(&format!("  hint: {}\n", hint.unwrap_or_default()));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan");
    insta::with_settings!({snapshot_path => path, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("admission", text);
    });
}

#[test]
fn valid_environment_is_admitted() {
    let (there, nothing) = (inventory(["running", "exited"]), Inventory::default());
    let (shop, hub) = (loaded("name: shop"), loaded("name: shop\nmesh: {hub: registry.example/istio}"));
    let past = Past { spec: Some(shop.spec.clone()), engine: on_file(Some(engine("A", "unix:///a"))) };
    let admitted = |wanted: &Loaded, engine: &EngineIdentity, inventory: &Inventory| {
        environment(&wanted.spec, &wanted.origins, &past, engine, inventory)
    };
    admitted(&shop, &engine("A", "unix:///a"), &there).unwrap();
    // A replaced engine with nothing of the environment on it: neither the recorded engine nor the stored spec matters.
    admitted(&hub, &engine("B", "unix:///a"), &nothing).unwrap();
    let unknown = Past { spec: None, engine: on_file(None) };
    environment(&hub.spec, &hub.origins, &unknown, &engine("B", "unix:///b"), &there).unwrap();
    machine([]).unwrap();
    clusters(&shop.spec, &there).unwrap();
    names(&Unlabeled::default()).unwrap();
    let fewer = loaded("{name: shop, clusters: [{name: cluster1}, {name: west}]}").spec;
    removal(&shop.spec, None, &there, false).unwrap();
    removal(&fewer, Some(&shop.spec), &there, true).unwrap();
    // An earlier `up` has stored the new spec, and began.
    removal(&fewer, Some(&fewer), &there, false).unwrap();
    removal(&fewer, Some(&shop.spec), &nothing, false).unwrap();
    // A call needs only the caller's cluster: stopping a producer's cluster is a valid experiment.
    resting(&there, "shop", &["cluster1"]).unwrap();
    resting(&nothing, "shop", &["cluster1", "cluster2"]).unwrap();
}

#[test]
fn stored_spec_is_used_without_a_file() {
    let (plain, stored) = (loaded("name: shop"), loaded("name: shop\nmesh: {hub: registry.example/istio}").spec);
    let without_files = Loaded { from_files: false, ..plain.clone() };
    assert_eq!(spec(&without_files, Some(stored.clone())).unwrap(), stored);
    assert_eq!(spec(&plain, Some(stored)).unwrap(), plain.spec);
    assert_eq!(spec(&without_files, None).unwrap(), plain.spec);
}

/// With the wrong engine selected, the error is about the engine, not about a change of the spec.
#[test]
fn another_engine_is_reported_before_a_change() {
    let hub = loaded("name: shop\nmesh: {hub: registry.example/istio}");
    let past = Past { spec: Some(loaded("name: shop").spec), engine: on_file(Some(engine("A", "unix:///a"))) };
    let there = inventory(["running", "running"]);
    let refused = environment(&hub.spec, &hub.origins, &past, &engine("B", "unix:///b"), &there).unwrap_err();
    assert_eq!(refused.kind, Kind::Usage);
    assert!(refused.message.contains("is on the engine at"), "{}", refused.message);
}

#[test]
fn nodes_of_clusters_that_exist_are_not_ours() {
    let text = "{name: shop, samples: {enabled: false}, clusters: [{name: a, context: x}, {name: b, context: y}]}";
    let spec = super::spec(&loaded(text), None).unwrap();
    let error = owns_nodes(&spec, "pause").unwrap_err();
    assert_eq!(
        error.message,
        "kindmesh pause is for clusters that kindmesh created, but cluster a exists already (context x)"
    );
    owns_nodes(&Spec::default(), "pause").unwrap();
    // kind creates the other one.
    let mixed =
        "{name: shop, samples: {enabled: false}, clusters: [{name: a}, {name: b, context: y, network: n}]}";
    let mixed = super::spec(&loaded(mixed), None).unwrap();
    assert!(owns_nodes(&mixed, "pause").unwrap_err().message.contains("cluster b exists already"));
}
