//! Clusters that exist: both layouts with all claims, and everything that `up` refuses in them.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]
#![expect(clippy::print_stdout, reason = "the test is long")]

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kindmesh::internals::host::trust::{Intermediate, Root};
use serde_json::{Value, json};

use crate::environment::{docker, output_of};
use crate::existing::{CLUSTERS, CONSENT, InForeign, lives_and_dies, unchanged};
use crate::foreign::{Foreign, HOST, Layout};
use crate::killing::{RunningCommand, first_starts};
use crate::proxy::Proxy;

/// No run takes this long.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);

#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn flat_clusters_are_left_as_they_were() {
    lives_and_dies(&Foreign::create(Layout::Flat), Layout::Flat, &[]);
}

#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn separate_clusters_are_left_as_they_were() {
    lives_and_dies(&Foreign::create(Layout::Apart), Layout::Apart, &[]);
}

/// Every kind of step of `up` is killed while it runs. Then `up` completes it, `down` is killed at some event, and another `down` leaves
/// the clusters as they were.
#[test]
#[ignore = "needs a container engine, kind, kubectl and half an hour"]
fn up_and_down_recover_from_kill_at_every_step() {
    let foreign = Foreign::create(Layout::Apart);
    let environment = InForeign::new(&foreign);
    let before = environment.listings();
    let up = || RunningCommand::of(environment.up_command(&CONSENT));
    let down = || RunningCommand::of(environment.command(&["down", "--yes"]));
    let up_events = up().finish();
    let down_events = down().finish();
    unchanged(&before, &environment.listings());
    for (turn, kill_event) in first_starts(&up_events).into_iter().enumerate() {
        assert!(up().kill_at(|event| event == kill_event, RUN_TIMEOUT), "up ended before {kill_event}");
        let completed = environment.up(&CONSENT);
        assert_eq!(completed.code, 0, "up after {kill_event}: {}", completed.stderr);
        environment.calls();
        let down_event = &down_events[turn % down_events.len()];
        down().kill_at(|event| event == down_event, RUN_TIMEOUT);
        environment.must(&["down", "--yes"]);
        // The API server frees the address of a deleted Service within three minutes.
        let deadline = Instant::now() + RUN_TIMEOUT;
        while environment.listings() != before && Instant::now() < deadline {}
        unchanged(&before, &environment.listings());
        println!("up killed at {kill_event}, down killed at {down_event}: nothing left behind");
    }
}

/// One cluster of the spec exists, and kind creates the other. They reach each other when their nodes are on both Docker networks.
#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn clusters_of_kind_are_combined_with_those_that_exist() {
    let foreign = Foreign::create(Layout::Flat);
    let environment = InForeign::new(&foreign);
    std::fs::write(&environment.spec, foreign.mixed_spec()).unwrap();
    let before = environment.listings();
    let apart = environment.up(&CONSENT[2..]);
    assert!(apart.code == 4 && apart.stderr.contains("docker network connect"), "{apart:?}");
    println!("{}", apart.stderr);
    docker(&["network", "connect", "kindmesh-foreign", "foreign-2-control-plane"]);
    docker(&["network", "connect", "foreign", "foreign-own-control-plane"]);
    let up = environment.up(&[]);
    assert_eq!(up.code, 0, "{}", up.stderr);
    let status: Value = serde_json::from_str(&environment.must(&["status", "--output", "json"])).unwrap();
    assert_eq!(status["phase"], "ready", "{status}");
    println!("{}", environment.must(&["verify"]));
    for from in ["own", "west"] {
        let why = environment.must(&["why", from, "sample-producer.sample:8080"]);
        assert!(why.contains("Every hop is OK"), "{why}");
    }
    let pause = environment.run(&["pause"]);
    assert!(pause.code == 2 && pause.stderr.contains("cluster west exists already"), "{pause:?}");
    // The Docker network stays as long as a node of another owner is on it.
    let down = environment.run(&["down", "--yes"]);
    assert!(down.stderr.contains("still used by foreign-2-control-plane"), "{down:?}");
    unchanged(&before, &environment.listings());
    docker(&["network", "disconnect", "kindmesh-foreign", "foreign-2-control-plane"]);
    environment.must(&["down"]);
    assert_eq!(docker(&["network", "ls", "-q", "--filter", "label=kindmesh.environment=foreign"]), "");
}

/// A root CA of the user, who gives its certificates as files, or has created the secrets.
#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn certificates_of_another_root_are_used() {
    let foreign = Foreign::create(Layout::Flat);
    let environment = InForeign::new(&foreign);
    let folder = tempfile::tempdir().unwrap();
    let root = Root::ensure(&folder.path().join("root"), "theirs").unwrap().value;
    for cluster in CLUSTERS {
        let signed = Intermediate::ensure(&folder.path().join("root"), &root, "theirs", cluster).unwrap().value;
        std::fs::create_dir(folder.path().join(cluster)).unwrap();
        for (name, pem) in signed.secret_data() {
            std::fs::write(folder.path().join(cluster).join(name), pem).unwrap();
        }
    }
    std::fs::remove_dir_all(folder.path().join("root")).unwrap();
    let lives_and_dies = |spec: &str| {
        std::fs::write(&environment.spec, spec).unwrap();
        let before = environment.listings();
        let up = environment.up(&CONSENT);
        assert_eq!(up.code, 0, "{}", up.stderr);
        let again = environment.up(&["--output", "json"]);
        assert!(again.code == 0 && !again.stdout.contains("\"changed\":true"), "{}", again.stdout);
        for cluster in CLUSTERS {
            let has = ["get", "secret", "cacerts", "-n", "istio-system", "-o", "jsonpath={.data.ca-cert\\.pem}"];
            let has = STANDARD.decode(foreign.must(cluster, &has)).unwrap();
            assert_eq!(has, std::fs::read(folder.path().join(cluster).join("ca-cert.pem")).unwrap());
        }
        println!("{}", environment.must(&["verify", "trust"]));
        environment.must(&["down", "--yes"]);
        unchanged(&before, &environment.listings());
    };
    let spec = std::fs::read_to_string(&environment.spec).unwrap();
    lives_and_dies(&format!("{spec}\ntrust: {{from: {}}}\n", folder.path().display()));

    for cluster in CLUSTERS {
        let files = folder.path().join(cluster);
        foreign.must(cluster, &["create", "namespace", "istio-system"]);
        let secret = ["create", "secret", "generic", "cacerts", "-n", "istio-system"];
        foreign.must(cluster, &[&secret[..], &[&format!("--from-file={}", files.display())]].concat());
    }
    let label = "topology.istio.io/network=foreign";
    refuses(&foreign, &environment, &CONSENT, &format!("does not have the label {label}"));
    for cluster in CLUSTERS {
        foreign.must(cluster, &["label", "namespace", "istio-system", label]);
    }
    lives_and_dies(&spec);
}

/// The Istio that somebody has installed is used, and stays. Its clusters are on two networks.
#[test]
#[ignore = "needs a container engine, kind, kubectl, istioctl and minutes"]
fn istio_of_others_is_used() {
    let foreign = Foreign::create(Layout::Apart);
    let environment = InForeign::new(&foreign);
    let folder = tempfile::tempdir().unwrap();
    let root = Root::ensure(folder.path(), "theirs").unwrap().value;
    let plan: Value = {
        let plan = environment.must(&["plan", "-f", environment.spec.to_str().unwrap(), "--output", "json"]);
        serde_json::from_str(&plan).unwrap()
    };
    let mut spec: Value = serde_yaml::from_str(&std::fs::read_to_string(&environment.spec).unwrap()).unwrap();
    spec["mesh"] = json!({"install": false});
    std::fs::write(&environment.spec, spec.to_string()).unwrap();
    refuses(&foreign, &environment, &CONSENT, "mesh.install is false, but cluster east has no istiod");
    for (cluster, planned) in CLUSTERS.iter().zip(plan["clusters"].as_array().unwrap()) {
        let signed = Intermediate::ensure(folder.path(), &root, "theirs", cluster).unwrap().value;
        let files = folder.path().join(format!("{cluster}-cacerts"));
        std::fs::create_dir(&files).unwrap();
        for (name, pem) in signed.secret_data() {
            std::fs::write(files.join(name), pem).unwrap();
        }
        let operator = folder.path().join("operator.json");
        std::fs::write(&operator, planned["istio"].to_string()).unwrap();
        let mut istioctl = Command::new("istioctl");
        let rendered = output_of(istioctl.args(["manifest", "generate", "-f"]).arg(&operator));
        assert_eq!(rendered.code, 0, "{rendered:?}");
        let manifests = folder.path().join("istio.yaml");
        std::fs::write(&manifests, rendered.stdout).unwrap();
        foreign.must(cluster, &["create", "namespace", "istio-system"]);
        let secret = ["create", "secret", "generic", "cacerts", "-n", "istio-system"];
        foreign.must(cluster, &[&secret[..], &[&format!("--from-file={}", files.display())]].concat());
        foreign.must(cluster, &["apply", "--server-side", "-f", manifests.to_str().unwrap()]);
        let available = ["--for=condition=Available", "deployment", "--all", "--timeout=3m"];
        foreign.must(cluster, &[&["wait", "-n", "istio-system"][..], &available].concat());
        // istiod sets it when it validates.
        let validates = ["wait", "--for=jsonpath={.webhooks[0].failurePolicy}=Fail", "--timeout=1m"];
        let webhook = "validatingwebhookconfigurations/istio-validator-istio-system";
        foreign.must(cluster, &[&validates[..], &[webhook]].concat());
        let cross_network = concat!(env!("CARGO_MANIFEST_DIR"), "/mesh-manifests/istio/cross-network.yaml");
        foreign.must(cluster, &["apply", "-f", cross_network]);
    }
    refuses(&foreign, &environment, &CONSENT, "network of its namespace is \"\", not \"net-east\"");
    for cluster in CLUSTERS {
        let label = format!("topology.istio.io/network=net-{cluster}");
        foreign.must(cluster, &["label", "namespace", "istio-system", &label]);
    }
    let before = environment.listings();
    let up = environment.up(&CONSENT);
    assert_eq!(up.code, 0, "{}", up.stderr);
    let again = environment.up(&["--output", "json"]);
    assert!(again.code == 0 && !again.stdout.contains("\"changed\":true"), "{}", again.stdout);
    environment.calls();
    let status: Value = serde_json::from_str(&environment.must(&["status", "--output", "json"])).unwrap();
    assert_eq!(status["phase"], "ready", "{status}");
    println!("{}", environment.must(&["verify"]));
    let why = environment.must(&["why", "east", "sample-producer.sample:8080"]);
    assert!(why.contains("Every hop is OK"), "{why}");
    environment.must(&["down", "--yes"]);
    unchanged(&before, &environment.listings());
}

/// `west` is reached through a proxy that has a name and a certificate authority of its own, by this host and by `east`. Then the proxy
/// changes the answers, as a cluster would that cannot be used.
#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn api_server_behind_a_proxy_is_reached() {
    let foreign = Foreign::create(Layout::Flat);
    let environment = InForeign::new(&foreign);
    let (host, port, ca) = foreign.server_of_user("west");
    let proxy = Proxy::start(HOST.into(), &host, port, &ca);
    foreign.lead_user("west", &proxy.url, &proxy.ca);
    let mut spec: Value = serde_yaml::from_str(&std::fs::read_to_string(&environment.spec).unwrap()).unwrap();
    spec["clusters"][1].as_object_mut().unwrap().remove("apiServer");
    std::fs::write(&environment.spec, spec.to_string()).unwrap();
    let before = environment.listings();
    let up = environment.up(&CONSENT);
    assert_eq!(up.code, 0, "{}", up.stderr);
    environment.calls();
    println!("{}", environment.must(&["verify", "mesh.synced", "trust"]));
    let secret =
        ["get", "secret", "istio-remote-secret-west", "-n", "istio-system", "-o", "jsonpath={.data.west}"];
    let kubeconfig = String::from_utf8(STANDARD.decode(foreign.must("east", &secret)).unwrap()).unwrap();
    assert!(kubeconfig.contains(&proxy.url), "not {}", proxy.url);
    environment.must(&["down", "--yes"]);
    unchanged(&before, &environment.listings());

    let (now, earlier) = (jiff::Timestamp::now(), jiff::Timestamp::now() - jiff::Span::new().hours(48));
    let [now, earlier] = [now, earlier].map(|time| time.strftime("Date: %a, %d %b %Y").to_string());
    for (text, by, said) in [
        (now.as_str(), earlier.as_str(), "the clock of cluster west is"),
        ("\"gitVersion\": \"v1.3", "\"gitVersion\": \"v1.1", "cluster west has Kubernetes v1.1"),
        ("\"10.62.0.0/24\"", "\"10.61.0.0/24\"", "which overlaps 10.61.0.0/24 of cluster east"),
        ("\"architecture\":\"a", "\"architecture\":\"x", "no node of cluster west can run the images of Istio"),
    ] {
        proxy.replace(text, by);
        refuses(&foreign, &environment, &CONSENT, said);
    }
}

/// What is in cluster `east` before `up`, and what `up` then says.
const REFUSED: [(&str, &str); 11] = [
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}",
        "namespace istio-system exists in cluster east",
    ),
    ("{apiVersion: v1, kind: Namespace, metadata: {name: sample}}", "namespace sample exists in cluster east"),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: sample, labels: {app.kubernetes.io/managed-by: kindmesh, \
         pod-security.kubernetes.io/enforce: restricted}}}",
        "enforces the Pod Security level restricted",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n\
         {apiVersion: v1, kind: Secret, metadata: {name: cacerts, namespace: istio-system}}",
        "secret cacerts",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n\
         {apiVersion: v1, kind: Secret, metadata: {name: other, namespace: istio-system, labels: {istio/multiCluster: 'true'}, \
         annotations: {networking.istio.io/cluster: third}}}",
        "remote secret other",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {app.kubernetes.io/managed-by: kindmesh}}}\n---\n\
         {apiVersion: v1, kind: ConfigMap, metadata: {name: kindmesh-environment, namespace: istio-system, \
         labels: {app.kubernetes.io/managed-by: kindmesh}}, data: {environment: other}}",
        "belongs to environment \"other\"",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: mesh}}\n---\n\
         {apiVersion: apps/v1, kind: Deployment, metadata: {name: istiod-old, namespace: mesh, labels: {app: istiod, istio.io/rev: old}}, \
         spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, \
         spec: {containers: [{name: discovery, image: 'example.org/pilot:1.29.0'}]}}}}",
        "Istio 1.29.0 with revision old exists in cluster east",
    ),
    (
        "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: theirs}, webhooks: [\
         {name: a.example.org, sideEffects: None, admissionReviewVersions: [v1], failurePolicy: Ignore, rules: [], \
         clientConfig: {service: {name: istiod, namespace: mesh}}}]}",
        "MutatingWebhookConfiguration theirs exists in cluster east",
    ),
    (
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: destinationrules.networking.istio.io}, \
         spec: {group: networking.istio.io, scope: Namespaced, names: {kind: DestinationRule, plural: destinationrules}, versions: [\
         {name: v1alpha3, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}}",
        "destinationrules.networking.istio.io does not serve v1",
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: istiod-clusterrole-istio-system}, rules: []}",
        "ClusterRole istiod-clusterrole-istio-system",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: sample, labels: {app.kubernetes.io/managed-by: kindmesh}}}\n---\n\
         {apiVersion: v1, kind: ResourceQuota, metadata: {name: few, namespace: sample}, spec: {hard: {pods: '1'}}}",
        "the quota of namespace sample in cluster east is too small",
    ),
];

#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn what_is_refused_is_not_changed() {
    let foreign = Foreign::create(Layout::Flat);
    let environment = InForeign::new(&foreign);
    for (objects, said) in REFUSED {
        apply(&foreign, "create", objects);
        if objects.contains("ResourceQuota") {
            foreign.must(
                "east",
                &["wait", "--for=jsonpath={.status.hard.pods}=1", "-n", "sample", "resourcequota/few"],
            );
        }
        refuses(&foreign, &environment, &CONSENT, said);
        apply(&foreign, "delete", objects);
    }
    // A user without a single permission that is needed.
    let role = foreign.must("east", &["get", "clusterrole", "kindmesh", "-o", "json"]);
    let mut role: Value = serde_json::from_str(&role).unwrap();
    // It is replaced twice.
    role["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let role = role.to_string();
    let less = role.replace("\"customresourcedefinitions\"", "\"nothing\"");
    assert_ne!(role, less);
    apply(&foreign, "replace", &less);
    refuses(&foreign, &environment, &CONSENT, "customresourcedefinitions.apiextensions.k8s.io");
    apply(&foreign, "replace", &role);
    // Specs that name the wrong cluster, or a wrong address.
    let spec = std::fs::read_to_string(&environment.spec).unwrap();
    for (from, to, said) in [
        ("foreign-west", "foreign-east", "is also that of clusters[0]"),
        ("foreign-west", "elsewhere", "context \"elsewhere\" not found"),
        ("apiServer:", "region: here\n  apiServer:", "is for clusters that kind creates"),
    ] {
        std::fs::write(&environment.spec, spec.replace(from, to)).unwrap();
        refuses(&foreign, &environment, &CONSENT, said);
    }
    let mut without: Value = serde_yaml::from_str(&spec).unwrap();
    for cluster in without["clusters"].as_array_mut().unwrap() {
        cluster.as_object_mut().unwrap().remove("apiServer");
    }
    std::fs::write(&environment.spec, without.to_string()).unwrap();
    refuses(&foreign, &environment, &CONSENT, "which its peers cannot reach");
    std::fs::write(&environment.spec, &spec).unwrap();

    // From inside: an API server whose certificate does not name the host, and pods without a route. Then the mesh is there.
    let before = environment.listings();
    let named = spec.replace(&foreign.api_server("west"), "https://kubernetes.default.svc.example.org:6443");
    std::fs::write(&environment.spec, named).unwrap();
    let up = environment.up(&CONSENT);
    assert!(up.code == 4 && up.stderr.contains("do not reach the API server of west"), "{up:?}");
    environment.must(&["down", "--yes"]);
    unchanged(&before, &environment.listings());
    std::fs::write(&environment.spec, &spec).unwrap();
    docker(&["exec", "foreign-1-control-plane", "ip", "route", "replace", "unreachable", "10.62.0.0/16"]);
    let up = environment.up(&CONSENT);
    assert!(up.code == 4 && up.stderr.contains("do not reach pods of"), "{up:?}");
    environment.must(&["down", "--yes"]);
    unchanged(&before, &environment.listings());
}

/// Asserts that `up` refuses with these words, and changes nothing.
fn refuses(foreign: &Foreign, environment: &InForeign<'_>, arguments: &[&str], said: &str) {
    let before = CLUSTERS.map(|cluster| foreign.versions(cluster));
    let up = environment.up(arguments);
    assert!([2, 4].contains(&up.code) && up.stderr.contains(said), "not \"{said}\": {}\n{}", up.code, up.stderr);
    for (cluster, before) in CLUSTERS.iter().zip(before) {
        let after = foreign.versions(cluster);
        let changed: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(changed.is_empty(), "{changed:?} in {cluster}, although: {}", up.stderr);
    }
    println!("{said}: refused");
}

/// Runs kubectl on objects as the administrator of `east`.
fn apply(foreign: &Foreign, verb: &str, objects: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, objects.as_bytes()).unwrap();
    foreign.must("east", &[verb, "-f", file.path().to_str().unwrap()]);
}
