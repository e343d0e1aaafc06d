use super::*;
use crate::plan::existing::{CaCerts, Definition, Istiod, IstiodMesh, Namespace, Node, RemoteSecret, Webhook};
use crate::plan::permissions::Permission;
use crate::spec;

/// Two clusters that exist, on two networks, as they were found; the second one is k3d's by its address.
const FACTS: &str = r#"
east:
  uid: 6f0e
  server: https://10.0.0.5:6443
  version: v1.35.4-gke.100
  clockAheadMs: 40
  nodes: [{name: gke-1, architecture: amd64, podSubnets: [10.4.0.0/24]}, {name: gke-2, architecture: arm64, podSubnets: [10.4.1.0/24]}]
west:
  uid: 91bc
  server: https://west.example.com
  version: v1.33.9-eks-12345
  clockAheadMs: -120
  nodes: [{name: eks-1, architecture: amd64}]
"#;

const TWO: &str = "{name: shop, clusters: [{name: east, context: gke, network: vpc1}, {name: west, context: eks, network: vpc2}]}";

struct World {
    spec: Spec,
    facts: BTreeMap<String, Facts>,
    known: BTreeMap<String, String>,
    definitions: BTreeMap<String, BTreeSet<String>>,
    needs: BTreeMap<String, Left>,
}

impl World {
    fn of(spec: &str) -> Self {
        let needs = Left { pods: Some(2), cpu_millis: Some(600), memory: Some(2 << 30) };
        Self {
            spec: spec::from_text(spec, "kindmesh.yaml").unwrap().spec,
            facts: serde_yaml::from_str(FACTS).unwrap(),
            known: BTreeMap::new(),
            definitions: [("gateways.networking.istio.io".to_owned(), ["v1".to_owned()].into())].into(),
            needs: [(ISTIO_NAMESPACE.to_owned(), needs)].into(),
        }
    }

    fn east(&mut self) -> &mut Facts {
        self.facts.get_mut("east").unwrap()
    }

    fn judge(&self) -> Result<(), Error> {
        let Self { spec, facts, known, definitions, needs } = self;
        clusters(&Found { spec, facts, known, definitions, needs })
    }
}

fn istiod(cluster: &str, network: &str) -> Istiod {
    let mesh = IstiodMesh {
        cluster: cluster.into(),
        network: network.into(),
        proxy_network: network.into(),
        id: "theirs".into(),
        trust_domain: "cluster.local".into(),
        gateway: true,
    };
    Istiod {
        namespace: ISTIO_NAMESPACE.into(),
        name: "istiod".into(),
        revision: "default".into(),
        version: "1.30.4".into(),
        ours: false,
        mesh,
    }
}

fn cacerts(root: &str) -> Option<CaCerts> {
    Some(CaCerts { roots: [root.to_owned()].into(), ours: false })
}

/// Changes the facts about two clusters that are admitted, so that one guard refuses them.
type Change = fn(&mut World);

const CHANGES: [(&str, Change); 24] = [
    ("the same cluster twice", |world| world.east().uid = "91bc".into()),
    ("another cluster than before", |world| {
        world.known.insert("east".into(), "0000".into());
    }),
    ("a cluster of another environment", |world| world.east().environment = Some("other".into())),
    ("missing permissions", |world| {
        let of = |group: &str, resource: &str, verb: &str| Permission {
            group: group.into(),
            resource: resource.into(),
            verb: verb.into(),
        };
        world.east().denied = [
            of("", "namespaces", "create"),
            of("apps", "deployments", "create"),
            of("apps", "deployments", "patch"),
        ]
        .into();
    }),
    ("another Istio", |world| world.east().istiods.push(istiod("east", "vpc1"))),
    ("no Istio to use", |world| world.spec.mesh.install = false),
    ("an Istio of another shape", |world| {
        world.spec.mesh.install = false;
        world.east().istiods.push(istiod("Kubernetes", ""));
        let west = world.facts.get_mut("west").unwrap();
        west.istiods.push(istiod("west", "vpc2"));
        west.istiods[0].mesh.id = "other".into();
    }),
    ("two control planes", |world| {
        world.spec.mesh.install = false;
        world.east().istiods = vec![istiod("east", "vpc1"), istiod("east", "vpc1")];
        world.facts.get_mut("west").unwrap().istiods.push(istiod("west", "vpc2"));
    }),
    ("a webhook without an istiod", |world| {
        let kind = "MutatingWebhookConfiguration".into();
        world.east().webhooks.push(Webhook { kind, name: "istio-sidecar-injector".into(), ours: false });
    }),
    ("CRDs of another version", |world| {
        let served = ["v1alpha3".to_owned()].into();
        let definition = Definition { served, ours: false };
        world.east().definitions.insert("gateways.networking.istio.io".into(), definition);
    }),
    ("namespaces of others", |world| {
        for name in [ISTIO_NAMESPACE, "sample"] {
            world.east().namespaces.insert(name.into(), Namespace::default());
        }
    }),
    ("certificates in one cluster only", |world| world.east().cacerts = cacerts("a1")),
    ("certificates of two roots", |world| {
        world.east().cacerts = cacerts("a1");
        world.facts.get_mut("west").unwrap().cacerts = cacerts("b2");
    }),
    ("certificates besides those of the spec", |world| {
        world.east().cacerts = cacerts("a1");
        world.spec.trust.from = Some("certificates".into());
    }),
    ("a remote secret", |world| {
        let (name, cluster) = ("istio-remote-secret-far".into(), "far".into());
        world.east().remote_secrets.push(RemoteSecret { name, cluster, ours: false });
    }),
    ("an API server on this host", |world| world.east().server = "https://127.0.0.1:40123".into()),
    ("an API server of k3d", |world| world.east().server = "https://0.0.0.0:6550".into()),
    ("overlapping pod subnets", |world| {
        for cluster in &mut world.spec.clusters {
            cluster.network = None;
        }
        let pod_subnets = vec!["10.4.1.0/25".parse().unwrap()];
        world.facts.get_mut("west").unwrap().nodes.push(Node { pod_subnets, ..Node::default() });
    }),
    ("an old Kubernetes", |world| world.east().version = "v1.31.2".into()),
    ("a clock ahead", |world| world.east().clock_ahead_ms = 400_000),
    ("a clock behind", |world| world.east().clock_ahead_ms = -3_700_000),
    ("a quota", |world| {
        let left = Left { pods: Some(1), cpu_millis: None, memory: Some(1 << 30) };
        let namespace = Namespace { ours: true, left, ..Namespace::default() };
        world.east().namespaces.insert(ISTIO_NAMESPACE.into(), namespace);
    }),
    ("Pod Security", |world| {
        for (name, level) in [(ISTIO_NAMESPACE, "baseline"), ("sample", "baseline")] {
            let namespace = Namespace { ours: true, enforces: Some(level.into()), ..Namespace::default() };
            world.east().namespaces.insert(name.into(), namespace);
        }
    }),
    ("another architecture", |world| {
        for node in &mut world.east().nodes {
            node.architecture = "s390x".into();
        }
    }),
];

/// Pins every refusal with its kind, message, evidence and hint.
#[test]
fn every_refusal_names_the_cluster_and_the_fix() {
    let mut text = String::new();
    let both: Change = |world| {
        world.east().clock_ahead_ms = 400_000;
        world.east().istiods.push(istiod("east", "vpc1"));
    };
    for (what, change) in CHANGES.into_iter().chain([("several at once", both)]) {
        let mut world = World::of(TWO);
        change(&mut world);
        let Error { kind, message, evidence, hint, .. } = world.judge().expect_err(what);
        text.push_str(&format!("{what} ({kind:?})\n  {message}\n"));
        evidence.iter().for_each(|line| text.push_str(&format!("  | {line}\n")));
        text.push_str(&format!("  hint: {}\n", hint.unwrap_or_default()));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan");
    insta::with_settings!({snapshot_path => path, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("existing", text);
    });
}

#[test]
fn clusters_that_fit_are_admitted() {
    World::of(TWO).judge().unwrap();
    let admitted = |change: Change| {
        let mut world = World::of(TWO);
        change(&mut world);
        world.judge().unwrap();
    };
    // What an earlier `up` created.
    admitted(|world| {
        world.known.insert("east".into(), "6f0e".into());
        let facts = world.east();
        facts.environment = Some("shop".into());
        facts.istiods.push(Istiod { ours: true, ..istiod("east", "vpc1") });
        facts.cacerts = Some(CaCerts { ours: true, ..CaCerts::default() });
        facts.namespaces.insert("sample".into(), Namespace { ours: true, ..Namespace::default() });
        facts.namespaces.insert(ISTIO_NAMESPACE.into(), Namespace { ours: true, ..Namespace::default() });
    });
    // An Istio that is used as it is, with certificates of one root and a peer that is none of ours.
    admitted(|world| {
        world.spec.mesh.install = false;
        for (name, network) in [("east", "vpc1"), ("west", "vpc2")] {
            let facts = world.facts.get_mut(name).unwrap();
            facts.istiods.push(istiod(name, network));
            facts.cacerts = cacerts("a1");
            facts.namespaces.insert(ISTIO_NAMESPACE.into(), Namespace::default());
            let secret =
                RemoteSecret { name: "istio-remote-secret-far".into(), cluster: "far".into(), ours: false };
            facts.remote_secrets.push(secret);
        }
    });
    // An address for peers, and CRDs that others installed and that serve what is needed.
    admitted(|world| {
        world.spec.clusters[0].api_server = Some("https://10.0.0.5:6443".into());
        world.east().server = "https://localhost:6443".into();
        let definition = Definition { served: ["v1".to_owned(), "v1beta1".to_owned()].into(), ours: false };
        world.east().definitions.insert("gateways.networking.istio.io".into(), definition);
    });
    // The same pod subnets on different networks.
    admitted(|world| {
        let pod_subnets = vec!["10.4.1.0/25".parse().unwrap()];
        world.facts.get_mut("west").unwrap().nodes.push(Node { pod_subnets, ..Node::default() });
    });
}
