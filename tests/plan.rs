//! Tests of the plan: what it contains for a spec and an inventory, and that it depends on nothing else.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use kindmesh::internals::base::error::{Error, Kind};
use kindmesh::internals::base::names::{kind_name, network_name};
use kindmesh::internals::cluster::fault::{self, Fault};
use kindmesh::internals::cluster::link;
use kindmesh::internals::cluster::workloads;
use kindmesh::internals::plan::existing::Known;
use kindmesh::internals::plan::inventory::{self, Environment, Executable, Inventory, Taken};
use kindmesh::internals::plan::{self, KindCluster, Plan};
use kindmesh::internals::spec::{Origins, Spec, from_text, validate};
use serde_json::json;

/// Three clusters, with every setting that a plan uses.
const THREE: &str = "
name: shop
kubernetes: {nodeImage: registry.example/node:v1.35.8, profile: standard}
clusters:
  - {name: east, region: eu, zone: a, workers: 2, kind: {
      nodes: [
        {extraPortMappings: [{containerPort: 30080, hostPort: 8080}]},
        {},
        {extraMounts: [{hostPath: /srv, containerPath: /srv}], labels: {disk: ssd}}],
      kubeadmConfigPatches: [\"kind: ClusterConfiguration\\ncontrollerManager: {}\\n\"]}}
  - {name: west, region: us, zone: b, workers: 1}
  - {name: quay}
mesh:
  version: 1.30.4
  hub: registry.example/istio
  values: {pilot: {resources: {requests: {memory: 64Mi}}}, global: {logAsJson: true}}
samples:
  namespace: demo
  image: registry.example/sample:1
  caller: {clusters: [east, west]}
  producer: {clusters: [west, quay], replicas: 3}
";

/// Three clusters with two versions of Kubernetes and of Istio.
const VERSIONS: &str = "
name: skew
kubernetes: {nodeImage: registry.example/node:v1.35.8}
clusters:
  - {name: old, mesh: {version: 1.30.4}}
  - {name: new}
  - {name: quay, kubernetes: {nodeImage: registry.example/node:v1.34.11}, mesh: {version: 1.30.5}}
samples: {image: registry.example/sample:1}
";

/// A primary with two remote clusters, one of them on another network, and a primary of its own.
const REMOTES: &str = "
name: remotes
clusters:
  - {name: east}
  - {name: west, mesh: {controlPlane: remote}}
  - {name: far, network: vpc2, mesh: {controlPlane: remote, primary: east}}
  - {name: own, network: vpc2}
samples:
  image: registry.example/sample:1
  caller: {clusters: [west, far, own]}
  producer: {clusters: [east]}
";

/// Three clusters on two Istio networks.
const NETWORKS: &str = "
name: mixed
clusters:
  - {name: east}
  - {name: west}
  - {name: far, network: vpc2}
";

fn golden(name: &str, text: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan");
    insta::with_settings!({snapshot_path => path, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, text);
    });
}

fn spec(text: &str) -> Spec {
    let loaded = from_text(text, "kindmesh.yaml").unwrap();
    validate(&loaded.spec, &loaded.origins).unwrap();
    loaded.spec
}

/// Returns the spec of an environment with these clusters.
fn named(environment: &str, clusters: &[&str]) -> Spec {
    let clusters: Vec<_> = clusters.iter().map(|name| json!({"name": name})).collect();
    spec(&json!({"name": environment, "clusters": clusters}).to_string())
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn taken(subnet: &str, by: &str) -> Taken {
    Taken { subnet: net(subnet), by: by.into() }
}

/// Returns the inventory of an empty engine, the same wherever the tests run.
fn machine() -> Inventory {
    let executable =
        Executable { os: "linux".into(), architecture: "amd64".into(), digest: "0123456789ab".into() };
    Inventory::of_an_empty_machine(Some(executable))
}

fn on_cgroup_v1(mut inventory: Inventory) -> Inventory {
    inventory.engine.cgroup_version = 1;
    inventory
}

/// Returns the inventory after a plan is carried out.
fn carried_out(plan: &Plan, mut inventory: Inventory) -> Inventory {
    let registers = plan.docker().unwrap().network.registers.iter().map(|r| (&r.name, r.subnet, &r.labels));
    let existing = inventory.environments.entry(plan.environment.clone()).or_default();
    // An existing network is not created again, even if the plan has other labels for it.
    let own = (
        &plan.docker().unwrap().network.name,
        plan.docker().unwrap().network.subnet,
        &plan.docker().unwrap().network.labels,
    );
    let new = existing.network.is_none().then_some(own);
    for (name, subnet, labels) in new.into_iter().chain(registers) {
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        existing.networks.push(name.clone());
        if *name == plan.docker().unwrap().network.name {
            existing.network = Some(name.clone());
            existing.subnet = Some(subnet);
            existing.version = label(inventory::VERSION_LABEL);
        }
        existing.read_labels(name, label);
        inventory.taken.push(Taken { subnet, by: format!("Docker network \"{name}\"") });
    }
    inventory
}

fn made(spec: &Spec, inventory: &Inventory) -> Plan {
    plan::plan(spec, inventory).unwrap_or_else(|error| panic!("{error}\n{}", error.evidence.join("\n")))
}

fn refused(spec: &Spec, inventory: &Inventory) -> Error {
    plan::plan(spec, inventory).expect_err("the plan must be refused")
}

fn yaml(value: &impl serde::Serialize) -> String {
    serde_yaml::to_string(value).unwrap()
}

/// Pins the plan, without the version that changes with every release, and the link configuration.
fn pin(name: &str, spec: &Spec, inventory: &Inventory) -> Plan {
    let plan = made(spec, inventory);
    let mut shown = plan.clone();
    let docker = shown.docker.iter_mut().flat_map(|docker| {
        let markers = docker.removed.iter_mut().flat_map(|removed| &mut removed.marker);
        let registers = docker.network.registers.iter_mut().chain(markers).map(|register| &mut register.labels);
        std::iter::once(&mut docker.network.labels).chain(registers)
    });
    for labels in docker {
        let version = labels.insert(inventory::VERSION_LABEL.into(), "[version]".into());
        assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    }
    golden(&format!("{name}.plan"), &yaml(&shown));
    let link = |(cluster, _): (&plan::Cluster, &KindCluster)| {
        format!("# {}\n{}", cluster.name, link::config(&plan, cluster).unwrap())
    };
    golden(&format!("{name}.link"), &plan.kind_clusters().map(link).collect::<String>());
    plan
}

/// Pins the objects of the samples in every cluster.
fn pin_samples(name: &str, spec: &Spec, plan: &Plan) {
    let mut text = String::new();
    for cluster in &spec.clusters {
        text += &format!("# {}\n", cluster.name);
        for object in workloads::objects(plan.samples.as_ref().unwrap(), spec, cluster, "0123456789ab").unwrap() {
            text += &format!("---\n{}", yaml(&object));
        }
    }
    golden(&format!("{name}.samples"), &text);
}

#[test]
fn the_default_on_cgroup_v2() {
    let spec = Spec::default();
    pin_samples("default", &spec, &pin("default", &spec, &machine()));
}

#[test]
fn three_clusters_with_everything_set() {
    let spec = spec(THREE);
    pin_samples("three", &spec, &pin("three", &spec, &machine()));
}

#[test]
fn clusters_may_have_their_own_versions() {
    let plan = pin("versions", &spec(VERSIONS), &on_cgroup_v1(machine()));
    assert_eq!(plan.istio_versions(), ["1.30.4", "1.31.1", "1.30.5"]);
    let of = |image: &str| plan.stable_images_on(image).join(" ");
    let [shared, own] = ["registry.example/node:v1.35.8", "registry.example/node:v1.34.11"];
    assert_eq!(plan.node_images(), [shared, own]);
    let istio = |version: &str| format!("docker.io/istio/pilot:{version} docker.io/istio/proxyv2:{version}");
    let sample = "registry.example/sample:1";
    assert_eq!(of(shared), format!("{} {} {sample}", istio("1.30.4"), istio("1.31.1")));
    assert_eq!(of(own), format!("{} {sample}", istio("1.30.5")));
    assert_eq!(plan.pulled_images().len(), 2 + 6 + 1);
    // A node gets only what its own cluster needs.
    assert_eq!(plan.images_of(&plan.clusters[2]).join(" "), format!("{} {sample}", istio("1.30.5")));
}

#[test]
fn proxies_of_remote_clusters_use_the_istiod_of_a_primary() {
    let spec = spec(REMOTES);
    let plan = pin("remotes", &spec, &machine());
    pin_samples("remotes", &spec, &plan);
    let names =
        |clusters: Vec<&plan::Cluster>| clusters.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(" ");
    let [east, west, far, own] = ["east", "west", "far", "own"].map(|name| plan.cluster(name).unwrap());
    assert_eq!(names(plan.remotes_of(east).collect()), "west far");
    assert_eq!(
        names([east, west, far, own].map(|cluster| plan.control_plane_of(cluster)).into()),
        "east east east own"
    );
    // The last address of the range of the primary: the gateway has the first.
    let last = east.kind().unwrap().balancers.unwrap().broadcast();
    assert_eq!([east, west, far].map(|cluster| cluster.istiod_address), [Some(last); 3]);
    assert!(east.istiod_through_gateway && own.istiod_address.is_none());
    assert_eq!(west.intermediate_subject, east.intermediate_subject);

    // Without `primary`, the first one on the same network.
    let text = REMOTES.replace(", primary: east", "");
    let plan = made(&crate::spec(&text), &machine());
    assert_eq!(plan.cluster("far").unwrap().primary.as_deref(), Some("own"));
    assert!(!plan.cluster("east").unwrap().istiod_through_gateway);
}

#[test]
fn exposed_istiods_require_addresses_of_the_network() {
    // Each cluster has one address, and the primary needs two.
    let small = |mesh: &str| {
        spec(&format!("network: {{subnet: 172.30.0.0/28}}\nclusters: [{{name: a}}, {{name: b, {mesh}}}]"))
    };
    assert!(plan::plan(&small("mesh: {controlPlane: remote}"), &machine()).is_ok());
    let error = refused(&small("network: vpc2, mesh: {controlPlane: remote}"), &machine());
    assert!(error.message.contains("too few addresses") && error.kind == Kind::Usage, "{error}");
}

#[test]
fn clusters_on_two_networks_have_gateways() {
    pin("networks", &spec(NETWORKS), &machine());
    let plan = made(&spec("topology: multi-network"), &machine());
    assert_eq!(plan.clusters.iter().map(|cluster| &cluster.network).collect::<Vec<_>>(), ["cluster1", "cluster2"]);
    assert_eq!(plan.neighbors(&plan.clusters[0]).count(), 0);
    assert!(!made(&Spec::default(), &machine()).has_gateways());
}

#[test]
fn gateways_require_addresses_of_the_network() {
    let separate = spec("{name: shop, topology: multi-network, clusters: [{name: east}, {name: west}]}");
    let mut there = carried_out(&made(&named("shop", &["east", "west"]), &machine()), machine());
    assert!(plan::plan(&separate, &there).is_ok());
    for known in there.environments.get_mut("shop").unwrap().clusters.values_mut() {
        known.balancers = None;
    }
    let error = plan::plan(&separate, &there).unwrap_err();
    assert!(error.message.ends_with("an earlier kindmesh created it"), "{error:?}");
    // Without gateways it works as before.
    assert!(plan::plan(&named("shop", &["east", "west"]), &there).is_ok());
    let many: Vec<_> = (1..=16).map(|number| json!({"name": format!("c{number}")})).collect();
    let error = plan::plan(&spec(&json!({"topology": "multi-network", "clusters": many}).to_string()), &machine());
    assert!(error.unwrap_err().message.ends_with("the east-west gateways and exposed istiods of 16 clusters"));
}

#[test]
fn cgroup_v1_between_docker_networks_and_a_vpn() {
    let mut machine = on_cgroup_v1(machine());
    machine.engine.mtu = Some(1400);
    machine.taken = vec![
        taken("172.17.0.0/16", "Docker network \"bridge\""),
        taken("172.18.0.0/16", "Docker network \"kind\""),
        taken("172.30.0.0/16", "Docker network \"shop_default\""),
        taken("10.0.0.0/8", "the route via tun0"),
        taken("192.168.0.0/24", "the route via eth0"),
    ];
    pin("taken", &Spec::default(), &machine);
}

#[test]
fn added_cluster_is_planned_beside_existing_ones() {
    let before = carried_out(&made(&named("shop", &["east", "west"]), &machine()), machine());
    pin("added", &named("shop", &["quay", "west", "east"]), &before);
}

#[test]
fn cluster_that_the_spec_does_not_list_is_removed() {
    let (two, three) = (named("shop", &["east", "west"]), named("shop", &["east", "west", "quay"]));
    let there = carried_out(&made(&three, &machine()), machine());
    let plan = pin("removed", &two, &there);
    let [removed] = &plan.docker().unwrap().removed[..] else { panic!("{:?}", plan.docker().unwrap().removed) };
    let quay = made(&three, &there).cluster("quay").cloned().unwrap();
    assert!(
        removed.owned(quay.kind().unwrap().pod_subnet.network())
            && removed.owned(quay.kind().unwrap().balancers.unwrap().network())
    );
    assert!(!removed.owned(plan.clusters[0].kind().unwrap().pod_subnet.network()));
    // The label of the network still lists it: its register says that it is gone.
    let marker = removed.marker.clone().unwrap();
    let mut gone = there.clone();
    let environment = gone.environments.get_mut("shop").unwrap();
    environment.networks.push(marker.name.clone());
    environment.read_labels(&marker.name, |key| marker.labels.get(key).cloned().unwrap_or_default());
    assert_eq!(made(&two, &gone).docker.unwrap().removed, []);
    // Added again, it has the same subnets, and a register that replaces that one.
    let again = made(&three, &gone);
    assert_eq!(again.cluster("quay"), Some(&quay));
    let [register] = &again.docker().unwrap().network.registers[..] else {
        panic!("{:?}", again.docker().unwrap().network.registers)
    };
    assert!(register.replaces && register.name == marker.name);

    // One that was added later is listed by its register only.
    let first = carried_out(&made(&two, &machine()), machine());
    let added = carried_out(&made(&three, &first), first);
    let removed = made(&two, &added).docker.unwrap().removed.remove(0);
    assert_eq!((removed.register.as_deref(), removed.marker), (Some("kindmesh-shop.quay"), None));
}

/// What `up` found in a cluster that exists.
fn known(uid: &str, server: &str, pods: &str) -> Known {
    Known {
        uid: uid.into(),
        server: server.into(),
        version: "v1.36.3".into(),
        pod_subnets: vec![net(pods)],
        ..Known::default()
    }
}

#[test]
fn clusters_that_exist_need_no_engine() {
    let text = "name: shop\nsamples: {image: 'registry.example/sample:1', caller: {clusters: [east]}, producer: {clusters: [west]}}\n\
                clusters: [{name: east, context: gke_p_a, network: vpc1}, \
                {name: west, context: eks, network: vpc2, apiServer: 'https://api.west', gateway: {addresses: [10.0.0.7]}}]";
    let mut inventory = Inventory::default();
    inventory.existing.insert("east".into(), known("1", "https://10.1.0.5", "10.8.0.0/24"));
    inventory.existing.insert("west".into(), known("2", "https://10.2.0.5", "10.8.0.0/24"));
    let plan = pin("existing", &spec(text), &inventory);
    assert!(plan.docker.is_none() && plan.kind_clusters().next().is_none());
    assert_eq!(plan.docker().unwrap_err().kind, Kind::Usage);
    let [east, west] = &plan.clusters[..] else { panic!("two clusters") };
    assert_eq!((east.api_server.as_str(), west.api_server.as_str()), ("https://10.1.0.5", "https://api.west"));
    assert!(east.nodes().is_empty() && east.kind().is_err());
}

#[test]
fn an_istio_that_exists_is_neither_rendered_nor_signed_for() {
    let text = "name: shop\nmesh: {install: false}\nsamples: {image: 'registry.example/sample:1'}\n\
                clusters: [{name: cluster1, context: gke}, {name: cluster2, context: eks}]";
    let mut inventory = Inventory::default();
    for name in ["cluster1", "cluster2"] {
        let known =
            Known { istio: "1.30.4".into(), cacerts: true, ..known(name, "https://10.1.0.5", "10.8.0.0/24") };
        inventory.existing.insert(name.into(), known);
    }
    let plan = made(&spec(text), &inventory);
    assert!(plan.clusters.iter().all(|cluster| !cluster.installs_istio() && cluster.istio_images.is_empty()));
    assert_eq!((plan.istio_versions(), &plan.mesh.root_subject), (vec!["1.30.4"], &None));
}

#[test]
fn clusters_that_exist_join_those_of_kind() {
    let text = "name: shop\nsamples: {image: 'registry.example/sample:1', caller: {clusters: [own]}, producer: {clusters: [east]}}\n\
                clusters: [{name: own}, {name: east, context: gke_p_a, network: vpc1, gateway: {addresses: [gw.example]}}]";
    let mut inventory = machine();
    inventory.existing.insert("east".into(), known("1", "https://10.1.0.5", "10.8.0.0/24"));
    let plan = pin("mixed", &spec(text), &inventory);
    assert_eq!(plan.docker().unwrap().network.labels[inventory::CLUSTERS_LABEL], "own");
    assert_eq!(plan.kind_clusters().map(|(cluster, _)| cluster.name.as_str()).collect::<Vec<_>>(), ["own"]);
}

#[test]
fn same_input_gives_same_bytes() {
    for text in ["{}", THREE] {
        let spec = spec(text);
        assert_eq!(yaml(&made(&spec, &machine())), yaml(&made(&spec, &machine())));
    }
}

#[test]
fn order_of_the_engines_lists_does_not_matter() {
    let mut one = machine();
    one.taken = ["172.30.0.0/24", "10.100.0.0/16", "172.30.2.0/24", "10.102.0.0/15"].map(|s| taken(s, "x")).into();
    let mut other = one.clone();
    other.taken.reverse();
    assert_eq!(made(&Spec::default(), &one), made(&Spec::default(), &other));
}

#[test]
fn existing_environment_keeps_subnets_by_cluster_name() {
    let first = made(&named("shop", &["east", "west"]), &machine());
    let there = carried_out(&first, machine());
    assert_eq!(made(&named("shop", &["east", "west"]), &there), first, "again");

    let mut crowded = there.clone();
    // A VPN that was connected later, with routes that overlap the environment's subnets.
    crowded
        .taken
        .extend([taken("10.0.0.0/8", "the route via tun0"), taken("172.30.0.0/16", "the route via tun0")]);
    let again = made(&named("shop", &["west", "quay", "east"]), &crowded);
    assert_eq!(again.docker().unwrap().network.subnet, first.docker().unwrap().network.subnet);
    for cluster in &first.clusters {
        let same = again.cluster(&cluster.name).unwrap();
        assert_eq!(
            (same.kind().unwrap().pod_subnet, same.kind().unwrap().service_subnet),
            (cluster.kind().unwrap().pod_subnet, cluster.kind().unwrap().service_subnet)
        );
    }
}

#[test]
fn subnet_without_a_label_is_chosen_again() {
    let mut there = carried_out(&made(&named("shop", &["east", "west"]), &machine()), machine());
    let environment = there.environments.get_mut("shop").unwrap();
    environment.clusters = inventory::clusters_of_labels("east,west", "west=10.100.0.0/16+10.101.0.0/16");
    let plan = made(&named("shop", &["east", "west"]), &there);
    assert!(plan.docker().unwrap().network.registers.is_empty());
    assert_eq!(plan.cluster("west").unwrap().kind().unwrap().pod_subnet, net("10.100.0.0/16"));
    assert_no_overlap(&plan, &there);
}

#[test]
fn added_cluster_gets_one_register() {
    let two = made(&named("shop", &["east", "west"]), &machine());
    assert_eq!(two.docker().unwrap().network.registers, []);
    let there = carried_out(&two, machine());
    let added = named("shop", &["east", "west", "quay"]);
    let three = made(&added, &there);
    let [register] = &three.docker().unwrap().network.registers[..] else {
        panic!("{:?}", three.docker().unwrap().network.registers)
    };
    assert_eq!(register.name, "kindmesh-shop.quay");
    assert_eq!(register.subnet.prefix_len(), 29);
    assert_eq!(register.labels[inventory::CLUSTERS_LABEL], "quay");
    assert_eq!(three.docker().unwrap().network.labels[inventory::CLUSTERS_LABEL], "east,west");

    let there = carried_out(&three, there);
    let again = made(&added, &there);
    assert_eq!(again.docker().unwrap().network.registers, []);
    assert_eq!(again.clusters, three.clusters);
}

#[test]
fn missing_network_is_created_again_with_all_clusters() {
    let two = made(&named("shop", &["east", "west"]), &machine());
    let three = made(&named("shop", &["east", "west", "quay"]), &carried_out(&two, machine()));
    let register = &three.docker().unwrap().network.registers[0];
    let mut left = machine();
    left.taken = vec![Taken { subnet: register.subnet, by: format!("Docker network \"{}\"", register.name) }];
    let label = |key: &str| register.labels[key].as_str();
    let environment = Environment {
        networks: vec![register.name.clone()],
        clusters: inventory::clusters_of_labels(label(inventory::CLUSTERS_LABEL), label(inventory::SUBNETS_LABEL)),
        ..Environment::default()
    };
    left.environments.insert("shop".into(), environment);
    let again = made(&named("shop", &["east", "west", "quay"]), &left);
    assert_eq!(again.docker().unwrap().network.labels[inventory::CLUSTERS_LABEL], "east,west,quay");
    assert_eq!(
        again.cluster("quay").unwrap().kind().unwrap().pod_subnet,
        three.cluster("quay").unwrap().kind().unwrap().pod_subnet
    );
    assert_no_overlap(&again, &left);
}

#[test]
fn conflict_with_the_host_names_both_sides() {
    let mut text = String::new();
    let mut refuse = |what: &str, spec: &Spec, inventory: &Inventory, kind: Kind| {
        let error = refused(spec, inventory);
        assert_eq!(error.kind, kind, "{what}");
        text += &format!("{what}\nerror: {}\n", error.message);
        text.extend(error.evidence.iter().map(|line| format!("  {line}\n")));
        text.extend(error.hint.iter().map(|hint| format!("hint: {hint}\n")));
        text += "==========\n";
    };
    let fixed = |subnet: &str| spec(&format!("name: shop\nnetwork: {{subnet: {subnet}}}\n"));

    let mut busy = machine();
    busy.taken = vec![
        taken("172.18.0.0/16", "Docker network \"kind\""),
        taken("172.30.9.0/24", "Docker network \"shop_default\""),
        taken("10.0.0.0/8", "the route via tun0"),
    ];
    refuse("a fixed subnet within a Docker network's", &fixed("172.18.5.0/24"), &busy, Kind::Usage);
    refuse("a fixed subnet around a Docker network's", &fixed("172.30.0.0/16"), &busy, Kind::Usage);
    refuse("a fixed subnet behind a VPN", &fixed("10.30.0.0/24"), &busy, Kind::Usage);

    let there = carried_out(&made(&named("shop", &["east", "west"]), &machine()), machine());
    refuse("a subnet that differs from the network's", &fixed("172.29.0.0/24"), &there, Kind::Usage);

    let of_a = carried_out(&made(&named("a", &["b-c", "d"]), &machine()), machine());
    refuse("a + b-c, then a-b + c", &named("a-b", &["c", "d"]), &of_a, Kind::Usage);
    let of_ab = carried_out(&made(&named("a-b", &["c", "d"]), &machine()), machine());
    refuse("a-b + c, then a + b-c", &named("a", &["b-c", "d"]), &of_ab, Kind::Usage);
    let mut foreign = machine();
    foreign.foreign_clusters = vec!["shop-cluster2".into()];
    refuse("an existing kind cluster", &spec("name: shop"), &foreign, Kind::Usage);

    let none = Inventory::of_an_empty_machine(None);
    refuse("no executable", &Spec::default(), &none, Kind::Prerequisite);
    let mut other = machine();
    other.engine.architecture = "arm64".into();
    refuse("an engine of another architecture", &Spec::default(), &other, Kind::Prerequisite);
    let mut mac = machine();
    mac.executable.as_mut().unwrap().os = "darwin".into();
    refuse("an executable of another system", &Spec::default(), &mac, Kind::Prerequisite);

    let full = |subnets: &[&str]| {
        let taken = subnets.iter().map(|subnet| taken(subnet, "the route via tun0")).collect();
        Inventory { taken, ..machine() }
    };
    let private = full(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]);
    refuse("no subnet for the network", &Spec::default(), &private, Kind::Prerequisite);
    let but_one = full(&["10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10"]);
    refuse("no subnet for pods", &Spec::default(), &but_one, Kind::Prerequisite);
    let mut crowded = there.clone();
    crowded.taken.extend(full(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]).taken);
    refuse("no subnet for a register", &named("shop", &["east", "west", "quay"]), &crowded, Kind::Prerequisite);
    let pods = |subnet: &str| {
        spec(&format!("name: shop\nclusters: [{{name: east, podSubnet: {subnet}}}, {{name: west}}]"))
    };
    refuse("a pod subnet that the host uses", &pods("10.8.0.0/16"), &busy, Kind::Usage);
    refuse("another pod subnet than the cluster has", &pods("10.7.0.0/16"), &there, Kind::Usage);
    let quay = |subnet: &str| {
        let quay = format!("{{name: quay, podSubnet: {subnet}}}");
        spec(&format!("name: shop\nclusters: [{{name: east}}, {{name: west}}, {quay}]"))
    };
    refuse("the pod subnet of another cluster", &quay("10.100.0.0/16"), &there, Kind::Usage);
    refuse("the Docker network as a pod subnet", &quay("172.30.0.0/16"), &there, Kind::Usage);
    let replaced = |subnet: &str| {
        spec(&format!("name: shop\nclusters: [{{name: east}}, {{name: quay, podSubnet: {subnet}}}]"))
    };
    refuse("the pod subnet of a cluster to be deleted", &replaced("10.102.0.0/16"), &there, Kind::Usage);
    golden("refusals", &text);
}

#[test]
fn similar_names_are_accepted() {
    let of_a = carried_out(&made(&named("a", &["b-c", "d"]), &machine()), machine());
    made(&named("a-b", &["x", "d"]), &of_a);
    // An environment's own clusters are no conflict.
    made(&named("a", &["b-c", "d"]), &of_a);
    let mut foreign = machine();
    foreign.foreign_clusters = vec!["kindmesh-cluster3".into(), "cluster1".into(), "kindmesh".into()];
    made(&Spec::default(), &foreign);
}

#[test]
fn fixed_subnet_is_used_if_free() {
    let fixed = spec("name: shop\nnetwork: {subnet: 10.100.0.0/16}\n");
    let plan = made(&fixed, &machine());
    assert_eq!(plan.docker().unwrap().network.subnet, net("10.100.0.0/16"));
    assert_no_overlap(&plan, &machine());
    // Neither the environment's own network nor the host's route to it is a conflict.
    let mut there = carried_out(&plan, machine());
    there.taken.push(taken("10.100.0.0/16", "the route via br-0123456789ab"));
    assert_eq!(made(&fixed, &there), plan);
}

#[test]
fn subnets_of_clusters_are_those_of_the_spec() {
    let text = "name: shop\nclusters:\n  - {name: east, podSubnet: 172.30.0.0/20, serviceSubnet: 10.100.0.0/16}\n  \
                - {name: west}\n  - {name: far, network: vpc2, podSubnet: 172.30.0.0/20}\n";
    let shop = spec(text);
    let plan = made(&shop, &machine());
    let subnets: Vec<_> =
        plan.clusters.iter().map(|c| (c.kind().unwrap().pod_subnet, c.kind().unwrap().service_subnet)).collect();
    let expected = [
        ("172.30.0.0/20", "10.100.0.0/16"),
        ("10.101.0.0/16", "10.102.0.0/16"),
        ("172.30.0.0/20", "10.103.0.0/16"),
    ];
    assert_eq!(subnets, expected.map(|(pods, services)| (net(pods), net(services))));
    // The first candidates for the Docker network are in the pod subnet.
    assert_eq!(plan.docker().unwrap().network.subnet, net("172.30.16.0/24"));
    let there = carried_out(&plan, machine());
    assert_eq!(made(&shop, &there).clusters, plan.clusters);
    // The cluster that has the same pod subnet as another one can be removed.
    let fewer = made(&spec(&text[..text.find("  - {name: far").unwrap()]), &there);
    let far = &fewer.docker().unwrap().removed[0];
    assert!(far.subnets.contains(&net("172.30.0.0/20")));
    let seen = ["east", "west"].map(|name| far.seen_from(fewer.cluster(name).unwrap()).subnets.len());
    assert_eq!(seen, [far.subnets.len() - 1, far.subnets.len()]);
}

#[test]
fn sample_image_requires_an_executable_only_to_build() {
    let pulled = spec("samples: {image: registry.example/sample:1}");
    let mut foreign = Inventory::of_an_empty_machine(None);
    foreign.engine.architecture = "s390x".into();
    let samples = made(&pulled, &foreign).samples.unwrap();
    assert_eq!((samples.image.as_str(), samples.build), ("registry.example/sample:1", false));
    let off = spec("samples: {enabled: false}");
    assert_eq!(made(&off, &foreign).samples, None);
    let built = made(&Spec::default(), &machine()).samples.unwrap();
    assert_eq!((built.image.as_str(), built.build), ("kindmesh.local/sample:0123456789ab", true));
}

#[test]
fn kubelet_is_configured_for_cgroup_v1_if_needed() {
    let flags = |image: &str, istio: &str, inventory: &Inventory| {
        let text = format!("kubernetes: {{nodeImage: {image:?}}}\nmesh: {{version: {istio}}}\n");
        let plan = made(&spec(&text), inventory);
        let told: BTreeSet<bool> = plan
            .clusters
            .iter()
            .map(|c| c.kind().unwrap().config.to_string().contains("failCgroupV1: false"))
            .collect();
        assert_eq!(
            told,
            plan.clusters.iter().map(|cluster| cluster.kind().unwrap().cgroup_v1).collect(),
            "{image}"
        );
        plan.clusters[0].kind().unwrap().cgroup_v1
    };
    let v1 = on_cgroup_v1(machine());
    for (image, istio, told) in [
        ("kindest/node:v1.36.4", "1.31.1", true),
        ("kindest/node:v1.35.0", "1.31.1", true),
        ("kindest/node:v1.34.11", "1.31.1", false),
        ("kindest/node:v1.32.0", "1.30.4", false),
        ("my/node:latest", "1.31.1", true),
        ("my/node", "1.31.1", true),
        ("my/node@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed", "1.31.1", true),
    ] {
        assert_eq!(flags(image, istio, &v1), told, "{image}");
        assert!(!flags(image, istio, &machine()), "{image} on cgroup v2");
    }
}

#[test]
fn user_patches_follow_planned_ones() {
    let patched = spec("clusters: [{name: a, kind: {kubeadmConfigPatches: [\"kind: X\"]}}, {name: b}]");
    let plan = made(&patched, &on_cgroup_v1(machine()));
    let patches = |cluster: &str| {
        plan.cluster(cluster).unwrap().kind().unwrap().config["kubeadmConfigPatches"].as_array().unwrap().clone()
    };
    let mut planned = patches("a");
    assert_eq!(planned.pop().unwrap(), "kind: X");
    assert_eq!(planned, patches("b"));
}

#[test]
fn standard_profile_omits_startup_optimizations() {
    let patches =
        |plan: &Plan| plan.clusters[0].kind().unwrap().config["kubeadmConfigPatches"].as_array().unwrap().len();
    let standard = patches(&made(&spec("kubernetes: {profile: standard}"), &machine()));
    assert_eq!(patches(&made(&Spec::default(), &machine())), standard + 2);
}

#[test]
fn name_is_never_assigned_twice() {
    let plan = made(&spec(THREE), &machine());
    let mut seen = BTreeSet::new();
    for cluster in &plan.clusters {
        assert_eq!(cluster.kind().unwrap().name, kind_name(&plan.environment, &cluster.name));
        assert_eq!(cluster.nodes()[0], cluster.kind().unwrap().control_plane());
        for node in cluster.nodes() {
            assert!(seen.insert(node.clone()), "{node}");
        }
    }
    assert_eq!(seen.len(), 6);
    assert_eq!(plan.docker().unwrap().network.name, network_name("shop"));
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.network() <= b.broadcast() && b.network() <= a.broadcast()
}

/// Asserts that no two subnets of a plan overlap, and that new ones overlap no subnet in use.
fn assert_no_overlap(plan: &Plan, inventory: &Inventory) {
    let nothing = Environment::default();
    let existing = inventory.environments.get(&plan.environment).unwrap_or(&nothing);
    let mut subnets =
        vec![("network".to_owned(), plan.docker().unwrap().network.subnet, existing.subnet.is_some())];
    subnets.extend(plan.docker().unwrap().network.registers.iter().map(|r| (r.name.clone(), r.subnet, false)));
    for cluster in &plan.clusters {
        let known = existing.clusters.get(&cluster.name).copied().unwrap_or_default();
        subnets.push((
            format!("pods of {}", cluster.name),
            cluster.kind().unwrap().pod_subnet,
            known.pods.is_some(),
        ));
        subnets.push((
            format!("Services of {}", cluster.name),
            cluster.kind().unwrap().service_subnet,
            known.services.is_some(),
        ));
    }
    for (index, (name, subnet, kept)) in subnets.iter().enumerate() {
        for (other_name, other, _) in &subnets[..index] {
            assert!(!overlap(subnet, other), "{name} {subnet} and {other_name} {other}");
        }
        for taken in inventory.taken.iter().filter(|_| !kept) {
            assert!(!overlap(subnet, &taken.subnet), "{name} {subnet} and {} of {}", taken.subnet, taken.by);
        }
    }
}

/// A linear congruential generator with Knuth's constants for MMIX: the same numbers on every host.
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Returns a random subnet in use, in most cases close to the candidates.
    fn taken(&mut self) -> Taken {
        let byte = |n: u64| u8::try_from(n).unwrap();
        let (second, third) = (byte(self.below(256)), byte(self.below(256)));
        let around = match self.below(6) {
            0 => [10, second, third, 0],
            1 => [10, 100 + byte(self.below(8)), third, 0],
            2 => [172, 16 + byte(self.below(16)), third, 0],
            3 => [172, 30, byte(self.below(4)), 0],
            4 => [192, 168, third, 0],
            _ => [100, 64 + byte(self.below(64)), third, 0],
        };
        let prefix = match self.below(8) {
            0 => 8 + byte(self.below(8)),
            1 | 2 => 16,
            3 => 25 + byte(self.below(6)),
            _ => 17 + byte(self.below(8)),
        };
        let subnet = Ipv4Net::new_assert(around.into(), prefix).trunc();
        Taken { subnet, by: "a VPN".into() }
    }
}

#[test]
fn subnets_never_overlap() {
    let names = ["a", "b", "c", "d", "e"];
    let of = |names: &[&str]| named("shop", names);
    let specs = [2, 3, 4].map(|count| of(&names[..count]));
    // Another order, and one more cluster.
    let grown_specs = [2, 3, 4].map(|count| of(&[&names[1..=count], &names[..1]].concat()));
    let (mut planned, mut grown, mut full) = (0, 0, 0);
    for seed in 0..200 {
        let mut numbers = Numbers(seed);
        let mut machine = machine();
        machine.taken = (0..numbers.below(40)).map(|_| numbers.taken()).collect();
        let which = usize::try_from(numbers.below(3)).unwrap();
        match plan::plan(&specs[which], &machine) {
            Err(error) => {
                assert_eq!(error.kind, Kind::Prerequisite, "seed {seed}: {error}");
                full += 1;
            }
            Ok(plan) => {
                assert_no_overlap(&plan, &machine);
                planned += 1;
                let mut there = carried_out(&plan, machine);
                there.taken.extend((0..numbers.below(4)).map(|_| numbers.taken()));
                if let Ok(plan) = plan::plan(&grown_specs[which], &there) {
                    assert_no_overlap(&plan, &there);
                    grown += 1;
                }
            }
        }
    }
    assert!(planned > 100 && grown > 80 && full > 3, "{planned} planned, {grown} grown, {full} full");
}

#[test]
fn test_specs_are_valid() {
    assert!(validate(&Spec::default(), &Origins::default()).is_ok());
    spec(THREE);
}

#[test]
fn subnets_of_existing_clusters_are_reserved_before_the_networks() {
    let mut left = machine();
    let clusters = inventory::clusters_of_labels("quay", "quay=172.30.0.0/16+172.31.0.0/16");
    let register = Environment { networks: vec!["kindmesh-shop.quay".into()], clusters, ..Environment::default() };
    left.environments.insert("shop".into(), register);
    assert_no_overlap(&made(&named("shop", &["east", "quay"]), &left), &left);
}

#[test]
fn new_cluster_does_not_get_subnets_of_a_running_one() {
    let there = carried_out(&made(&named("shop", &["east", "west", "quay"]), &machine()), machine());
    let other = made(&named("shop", &["east", "west", "other"]), &there)
        .cluster("other")
        .unwrap()
        .kind()
        .unwrap()
        .pod_subnet;
    assert_ne!(Some(other), there.environments["shop"].clusters["quay"].pods);
}

#[test]
fn fault_affects_pods_gateways_and_nodes() {
    const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
    let plan = made(&spec(NETWORKS), &machine());
    let cluster = |name: &str| plan.cluster(name).unwrap();
    let kinds = [
        fault::Kind::Cut,
        fault::Kind::Partition,
        fault::Kind::Loss { percent: 12.5 },
        fault::Kind::Bandwidth { kilobits: 500 },
        fault::Kind::Delay { millis: 100 },
        fault::Kind::Jitter { millis: 20 },
    ];

    let mut text = String::new();
    for (here, there) in [("east", "west"), ("east", "far"), ("far", "east")] {
        for kind in kinds {
            let clusters = vec![here.to_owned(), there.to_owned()];
            let fault = Fault { kind, clusters, ends: jiff::Timestamp::from_second(1_795_773_600).unwrap() };
            text.push_str(&format!("# {fault}, on the nodes of {here}\n"));
            text.push_str(&fault::lines(&fault, MINUTE, &plan, cluster(here), cluster(there)).unwrap());
        }
    }
    let ends = jiff::Timestamp::from_second(1_795_773_600).unwrap();
    let fault = Fault { kind: fault::Kind::KillIstiod, clusters: vec!["west".into()], ends };
    text.push_str(&format!(
        "# {fault}\n{}",
        fault::lines(&fault, MINUTE, &plan, cluster("west"), cluster("west")).unwrap()
    ));
    golden("networks.faults", &text);
}
