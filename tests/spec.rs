//! Specs as users write them, and the errors that they get.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::fmt::Write as _;
use std::path::PathBuf;

use kindmesh::internals::base::error::{Error, Kind};
use kindmesh::internals::spec::{
    Label, Loaded, Origins, Sources, Spec, changes, from_text, schema, to_yaml, validate,
};
use serde_json::Value;

/// The example of docs/reference.md.
const EXAMPLE: &str = "\
name: kindmesh
topology: flat
network: {subnet: auto}
kubernetes: {nodeImage: kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed}
clusters:
  - {name: cluster1, region: region1, zone: zone1, workers: 0, kind: {}}
  - {name: cluster2, region: region2, zone: zone2, workers: 0, kind: {}}
mesh: {version: 1.31.1, hub: docker.io/istio, values: {}}
samples:
  enabled: true
  namespace: sample
  image: \"\"
  caller: {clusters: [cluster1]}
  producer: {clusters: [cluster2], replicas: 2}
";

fn golden(name: &str, text: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/spec");
    insta::with_settings!({snapshot_path => path, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, text);
    });
}

/// Returns an error as the command line prints it.
fn shown(error: &Error) -> String {
    assert_eq!(error.kind, Kind::Usage);
    let mut text = format!("error: {}\n", error.message);
    for line in &error.evidence {
        writeln!(text, "{line}").unwrap();
    }
    if let Some(hint) = &error.hint {
        writeln!(text, "hint: {hint}").unwrap();
    }
    text
}

/// Returns each file with its error.
fn catalogue<'a>(cases: impl IntoIterator<Item = &'a str>, told: impl Fn(&str) -> Result<(), Error>) -> String {
    let mut text = String::new();
    for case in cases {
        let result = told(case).map_or_else(|error| shown(&error), |()| "valid\n".into());
        writeln!(
            text,
            "{}\n---\n{result}==========",
            case.escape_debug().to_string().replace("\\n", "\n").trim_end()
        )
        .unwrap();
    }
    text
}

fn read(text: &str) -> Result<(), Error> {
    from_text(text, "kindmesh.yaml").map(drop)
}

fn check(text: &str) -> Result<(), Error> {
    let loaded = from_text(text, "team.yaml").expect("the spec is well-formed");
    validate(&loaded.spec, &loaded.origins)
}

fn spec(text: &str) -> Spec {
    from_text(text, "kindmesh.yaml").unwrap().spec
}

/// A working directory with files, and sources that use it.
struct Sandbox {
    directory: tempfile::TempDir,
}

impl Sandbox {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory }
    }

    fn sources(&self) -> Sources {
        Sources { directory: self.directory.path().to_owned(), ..Sources::default() }
    }

    fn load(&self, files: &[&str]) -> Result<Loaded, Error> {
        Sources { files: files.iter().map(PathBuf::from).collect(), ..self.sources() }.load()
    }
}

#[test]
fn defaults_match_the_documentation() {
    assert_eq!(spec(EXAMPLE), Spec::default());
    assert!(validate(&Spec::default(), &Origins::default()).is_ok());
}

#[test]
fn unknown_fields_are_named_with_their_place() {
    golden(
        "unknown_fields",
        &catalogue(
            [
                "name: a\nsampels:\n  enabled: true\n",
                "samples:\n  caller:\n    cluster: [cluster1]\n",
                "clusters:\n  - name: a\n  - name: b\n    regoin: x\n",
                "nothing-like-it: 1\n",
            ],
            read,
        ),
    );
}

#[test]
fn invalid_values_are_named_with_their_position() {
    golden(
        "wrong_values",
        &catalogue(
            [
                "name: a\nmesh: {}\nname: b\n",
                "mesh:\n  values:\n    pilot: {}\n    pilot: {}\n",
                "samples: 3\n",
                "samples:\n",
                "clusters: # none yet\n",
                "clusters: {name: a}\n",
                "clusters: [a, b]\n",
                "clusters:\n  - region: x\n",
                "clusters:\n  - {name: a, workers: two}\n",
                "clusters:\n  - {name: a, workers: 300}\n",
                "samples:\n  enabled: yes\n",
                "kubernetes: {nodeImage: [x]}\n",
                "topology: multi-netwrok\n",
                "mesh: {values: {a: .inf}}\n",
                "name:\n",
                "name: Foo_Bar\n",
                "name: \"\"\n",
                "clusters:\n  - {name: a}\n  - {name: b.c}\n",
                "network:\n  subnet: nope\n",
                "network:\n  subnet: 172.30.0.0\n",
                "network:\n  subnet: fd00:1::/64\n",
                "network:\n  subnet: 172.30.0.1/24\n",
            ],
            read,
        ),
    );
}

#[test]
fn syntax_error_has_a_position() {
    golden(
        "syntax",
        &catalogue(
            [
                "mesh: {version: 1.31.1\n",
                "name: \"abc\n",
                "name: a\n- b\n",
                "  name: x\n topology: flat\n",
                "network:\n\tsubnet: auto\n",
                "name: *other\n",
                "name: a\n---\nname: b\n",
                "- a\n",
                "just text\n",
                "\"na\\u001b[31mme\": x\n",
            ],
            read,
        ),
    );
}

#[test]
fn truncated_file_parses_or_fails_cleanly() {
    for end in 0..EXAMPLE.len() {
        if let Err(error) = read(&EXAMPLE[..end]) {
            assert!(error.message.starts_with("kindmesh.yaml:"), "{}", error.message);
        }
    }
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    let spec = spec("mesh: {version: 1.30}\nclusters: [{name: 1, zone: 01}, {name: 2, zone: true}]\n");
    assert_eq!(spec.mesh.version, "1.30");
    assert_eq!(spec.clusters[0].name.as_str(), "1");
    assert_eq!(spec.clusters[0].zone, "01");
    assert_eq!(spec.clusters[1].zone, "true");
}

#[test]
fn empty_file_sets_nothing() {
    for text in ["", "\n", "# only a comment\n", "---\n", "{}\n", "\u{feff}"] {
        assert_eq!(spec(text), Spec::default(), "{text:?}");
        let sandbox = Sandbox::with(&[("kindmesh.yaml", text)]);
        assert_eq!(sandbox.sources().name().unwrap(), Spec::default().name, "{text:?}");
    }
}

#[test]
fn maps_merge_and_lists_are_replaced() {
    let sandbox = Sandbox::with(&[
        ("kindmesh.yaml", "name: one\nmesh: {version: 1.30.4, values: {pilot: {cpu: 1, env: {A: x}}}}\n"),
        ("env.yaml", "name: two\nclusters: [{name: a}, {name: b}, {name: c}]\n"),
        ("team.yaml", "clusters: [{name: east, zone: z}, {name: west}]\nmesh: {values: {pilot: {env: {B: y}}}}\n"),
    ]);
    let sources = Sources {
        variable: Some(":env.yaml:".into()),
        files: vec!["team.yaml".into()],
        name: Some("mine".parse().unwrap()),
        ..sandbox.sources()
    };
    let loaded = sources.load().unwrap();
    assert!(loaded.from_files);
    golden("merged", &to_yaml(&loaded.spec).unwrap());
    let of = |path| loaded.origins.of(path);
    assert_eq!(of("name"), Some("--name"));
    assert_eq!(of("mesh.version"), Some("kindmesh.yaml"));
    assert_eq!(of("mesh.values.pilot.env.A"), Some("kindmesh.yaml"));
    assert_eq!(of("mesh.values.pilot.env.B"), Some("team.yaml"));
    assert_eq!(of("clusters[0].name"), Some("team.yaml"));
    assert_eq!(of("samples.enabled"), None);
}

#[test]
fn without_files_the_defaults_apply() {
    let sandbox = Sandbox::with(&[]);
    let loaded = sandbox.sources().load().unwrap();
    assert!(!loaded.from_files);
    assert_eq!(loaded.spec, Spec::default());
    let named = Sources { name: Some("mine".parse().unwrap()), ..sandbox.sources() }.load().unwrap();
    assert!(!named.from_files);
    assert_eq!(named.spec.name.as_str(), "mine");
}

#[test]
fn default_sample_clusters_follow_the_cluster_names() {
    let followed = spec("clusters: [{name: east}, {name: west}]\n");
    assert_eq!(followed.samples.caller.clusters, [Label::try_from("east".to_owned()).unwrap()]);
    assert_eq!(followed.samples.producer.clusters, [Label::try_from("west".to_owned()).unwrap()]);
    let placed = spec("clusters: [{name: east}, {name: west}]\nsamples: {caller: {clusters: [west]}}\n");
    assert_eq!(placed.samples.caller.clusters, [Label::try_from("west".to_owned()).unwrap()]);
}

#[test]
fn named_files_must_exist() {
    let sandbox = Sandbox::with(&[("latin1.yaml", "")]);
    std::fs::write(sandbox.directory.path().join("latin1.yaml"), b"name: \xe9").unwrap();
    let mut text = shown(&sandbox.load(&["missing.yaml"]).unwrap_err());
    let variable = Sources { variable: Some("sub/gone.yaml".into()), ..sandbox.sources() };
    text += &shown(&variable.load().unwrap_err());
    text += &shown(&variable.name().unwrap_err());
    text += &shown(&sandbox.load(&["latin1.yaml"]).unwrap_err());
    golden("missing_files", &text);
}

#[test]
fn name_alone_requires_little() {
    let sandbox = Sandbox::with(&[("kindmesh.yaml", "name: one\nfrom-the-future: 1\n"), ("b.yaml", "mesh: 3\n")]);
    let with = |files: &[&str]| Sources { files: files.iter().map(PathBuf::from).collect(), ..sandbox.sources() };
    assert_eq!(with(&["b.yaml"]).name().unwrap().as_str(), "one");
    assert!(with(&["b.yaml"]).load().is_err());
    let flagged = Sources { name: Some("mine".parse().unwrap()), ..with(&["missing.yaml"]) };
    assert_eq!(flagged.name().unwrap().as_str(), "mine");
    assert_eq!(Sandbox::with(&[]).sources().name().unwrap().as_str(), "kindmesh");
    let broken = Sandbox::with(&[("kindmesh.yaml", "name: [\n")]);
    assert!(broken.sources().name().is_err());
}

#[test]
fn problem_after_merging_names_its_source() {
    let sandbox = Sandbox::with(&[
        ("kindmesh.yaml", "mesh: {version: 1.29.7}\n"),
        ("team.yaml", "clusters: [{name: cluster1}, {name: cluster1}]\n"),
    ]);
    let loaded = sandbox.load(&["team.yaml"]).unwrap();
    golden("origins", &shown(&validate(&loaded.spec, &loaded.origins).unwrap_err()));
}

#[test]
fn every_rule_has_its_message() {
    let many = format!("clusters: [{{name: {}}}, {{name: b}}]\nname: twenty-characters-no\n", "c".repeat(30));
    golden(
        "rules",
        &catalogue(
            [
                "name: twenty-one-characters\n",
                "name: twenty-characters-no\n",
                &many,
                "clusters: []\n",
                "clusters: [{name: a}]\n",
                "clusters: [{name: a}, {name: a}]\n",
                "clusters: [{name: a, workers: 21}, {name: b}]\n",
                "clusters: [{name: a, region: eu west}, {name: b, zone: -x}]\n",
                "name: shop\nclusters: [{name: a}, {name: b, network: shop}]\n",
                "network: {subnet: 127.0.0.0/24}\n",
                "network: {subnet: 169.254.1.0/24}\n",
                "network: {subnet: 224.1.0.0/16}\n",
                "network: {subnet: 0.0.0.0/0}\n",
                "network: {subnet: 255.255.255.0/24}\n",
                "network: {subnet: 8.8.8.0/24}\n",
                "network: {subnet: 10.0.0.0/8}\n",
                "network: {subnet: 172.30.0.0/30}\n",
                "network: {subnet: 172.30.0.0/29}\n",
                "network: {subnet: 172.30.0.0/29}\nclusters: [{name: a, workers: 1}, {name: b, workers: 1}]\n",
                "network: {subnet: 100.64.0.0/24}\n",
                "kubernetes: {nodeImage: kindest/node:v1.37.0}\n",
                "kubernetes: {nodeImage: kindest/node:v1.31.4}\n",
                "kubernetes: {nodeImage: kindest/node:v1.31.4}\nmesh: {version: 1.29.7}\n",
                "kubernetes: {nodeImage: my/node:latest}\n",
                "kubernetes: {nodeImage: \"\"}\n",
                "mesh: {version: 1.31}\n",
                "clusters: [{name: a, mesh: {version: 1.30.4}}, {name: b, kubernetes: {nodeImage: kindest/node:v1.34.11}}]\n",
                "clusters: [{name: a, mesh: {version: 1.29.7}}, {name: b, mesh: {version: 1.31}}]\n",
                "clusters: [{name: a, mesh: {version: 1.30.3}}, {name: b}]\n",
                "clusters: [{name: a, kubernetes: {nodeImage: kindest/node:v1.37.0}}, {name: b}]\n",
                "clusters: [{name: a, kubernetes: {nodeImage: kindest/node:v1.37.0}, mesh: {version: 1.30.4}}, {name: b}]\n",
                "kubernetes: {nodeImage: kindest/node:v1.31.4}\nclusters: [{name: a}, {name: b, mesh: {version: 1.30.4}}]\n",
                "clusters: [{name: a, kubernetes: {nodeImage: \"\"}}, {name: b}]\n",
                "mesh: {version: 1.28.2}\n",
                "clusters: [{name: a, mesh: {controlPlane: remote}}, {name: b}, {name: c, mesh: {controlPlane: remote, primary: b}}]\n",
                "clusters: [{name: a, mesh: {controlPlane: remote}}, {name: b, mesh: {controlPlane: remote}}]\n",
                "clusters: [{name: a}, {name: b, mesh: {controlPlane: remote, primary: b}}]\n",
                "clusters: [{name: a, mesh: {primary: b}}, {name: b}]\n",
                "clusters: [{name: a}, {name: b, mesh: {controlPlane: remote, version: 1.30.4}}]\n",
                "mesh: {values: {global: {externalIstiod: true, remotePilotAddress: x}, istiodRemote: {enabled: true}}}\n",
                "mesh: {hub: \"\"}\n",
                "mesh: {hub: docker.io/istio/}\n",
                "mesh: {hub: \"https://docker.io/istio\"}\n",
                "mesh: {values: {global: {meshID: x, proxy: {}}}}\n",
                "mesh: {values: {global: null}}\n",
                "mesh: {values: {revision: canary, meshConfig: {accessLogFile: /dev/stdout, trustDomain: x}}}\n",
                "mesh: {values: {meshConfig: {defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}}}}}\n",
                "mesh: {values: {pilot: {resources: {requests: {cpu: 50m}}}}}\n",
                "clusters: [{name: a, kind: {name: x, networking: {podSubnet: 10.0.0.0/16}}}, {name: b}]\n",
                "clusters: [{name: a, kind: {networking: 1}}, {name: b, kind: {featureGates: {X: true}}}]\n",
                "clusters: [{name: a, kind: {nodes: [{role: worker, image: x}, {}]}}, {name: b, kind: {nodes: 2}}]\n",
                "clusters: [{name: a, kind: {nodes: [{labels: {topology.kubernetes.io/zone: z}}, 1]}, workers: 1}, {name: b}]\n",
                "clusters: [{name: a, kind: {nodes: [{extraMounts: []}], networking: {apiServerPort: 6443}}}, {name: b}]\n",
                "samples: {namespace: kube-system}\n",
                "samples: {namespace: istio-system}\n",
                "samples: {namespace: default}\n",
                "samples: {image: \"a b\"}\n",
                "samples: {caller: {clusters: []}, producer: {clusters: [], replicas: 0}}\n",
                "samples: {caller: {clusters: [cluster1, cluster1]}, producer: {clusters: [cluster3]}}\n",
                "samples: {enabled: false, caller: {clusters: []}, producer: {clusters: [x]}}\n",
            ],
            check,
        ),
    );
}

/// The default primary is the first one: with other clusters before it, it would be another one.
#[test]
fn default_primary_of_an_existing_cluster_cannot_change() {
    let text = |clusters: &str| from_text(&format!("clusters: [{clusters}]"), "team.yaml").unwrap();
    let (one, two) = ("{name: p1, zone: z1}", "{name: p2, zone: z2}");
    let stored = text(&format!("{one}, {two}, {{name: r, mesh: {{controlPlane: remote}}}}"));
    let changed = |clusters: &str| {
        let wanted = text(clusters);
        changes(&stored.spec, &wanted.spec, &wanted.origins).map_err(|error| error.to_string())
    };
    for clusters in [
        &format!("{two}, {one}, {{name: r, mesh: {{controlPlane: remote}}}}"),
        &format!("{two}, {{name: r, mesh: {{controlPlane: remote}}}}"),
    ] {
        let error = changed(clusters).unwrap_err();
        assert!(error.contains("mesh.primary cannot change from p1 to p2"), "{error}");
    }
    let explicit = "{name: r, mesh: {controlPlane: remote, primary: p1}}";
    assert_eq!(changed(&format!("{two}, {one}, {explicit}")), Ok(()));
}

#[test]
fn clusters_that_exist_have_rules_of_their_own() {
    let two = |rest: &str| format!("clusters: [{{name: a, context: x}}, {{name: b, context: y}}]\n{rest}");
    let of = |fields: &str| {
        format!(
            "clusters: [{{name: a, context: x, {fields}}}, {{name: b, network: other}}]\nsamples: {{enabled: false}}\n"
        )
    };
    let cases = [
        two("samples: {image: registry.example/sample:1}\n"),
        two("samples: {enabled: false}\n"),
        two(""),
        two("samples: {enabled: false}\nnetwork: {subnet: 172.30.0.0/24}\n"),
        two("samples: {enabled: false}\ntrust: {from: \"\"}\n"),
        two("samples: {enabled: false}\nmesh: {install: false, values: {pilot: {}}}\ntrust: {from: certificates}\n"),
        of("network: vpc1, apiServer: 'https://10.0.0.5:6443', gateway: {addresses: [10.0.0.6, gateway.example.com]}"),
        of("network: vpc1"),
        of("workers: 1, region: r, zone: z, podSubnet: 10.0.0.0/16, serviceSubnet: 10.96.0.0/16"),
        of("kubernetes: {nodeImage: kindest/node:v1.36.4}, kind: {featureGates: {X: true}}"),
        of("apiServer: 'https://127.0.0.1:6443'"),
        of("apiServer: 'http://10.0.0.5'"),
        of("apiServer: 10.0.0.5"),
        of("gateway: {addresses: [10.0.0.6:15443]}"),
        of("gateway: {addresses: [localhost, 10.0.0.6, 10.0.0.6]}"),
        of("gateway: {adresses: [10.0.0.6]}"),
        of("mesh: {controlPlane: remote}"),
        "clusters: [{name: a, context: x}, {name: b, mesh: {controlPlane: remote}, network: n}]\nsamples: {enabled: false}\n".into(),
        "clusters: [{name: a, context: x}, {name: b}]\nsamples: {enabled: false}\n".into(),
        "clusters: [{name: a, context: x}, {name: b, context: x}]\nsamples: {enabled: false}\n".into(),
        "clusters: [{name: a, context: \"\"}, {name: b, context: \" x\"}]\nsamples: {enabled: false}\n".into(),
        "clusters: [{name: a, context: x, gateway: {addresses: [10.0.0.6]}}, {name: b, context: y}]\nsamples: {enabled: false}\n".into(),
        "clusters: [{name: a, apiServer: 'https://10.0.0.5'}, {name: b, gateway: {addresses: [10.0.0.6]}}]\n".into(),
        "mesh: {install: false}\n".into(),
        "clusters: [{name: a, context: x, mesh: {version: 1.31.0}}, {name: b, context: y, network: n, gateway: {addresses: [10.0.0.6]}}]\n\
         samples: {enabled: false}\nmesh: {install: false}\n".into(),
    ];
    let told = |text: &str| read(text).and_then(|()| check(text));
    golden("existing", &catalogue(cases.iter().map(String::as_str), told));
}

#[test]
fn a_cluster_that_exists_may_get_other_addresses() {
    let stored = spec(
        "clusters: [{name: a, context: x, network: n, apiServer: 'https://10.0.0.5'}, {name: b}]\nsamples: {enabled: false}\n",
    );
    let cases = [
        "clusters: [{name: a, context: renamed, network: n, gateway: {addresses: [10.0.0.6]}}, {name: b}]\n",
        "clusters: [{name: a, network: n}, {name: b, context: y}]\n",
        "clusters: [{name: a, context: x, network: other}, {name: b}]\n",
        "clusters: [{name: a, context: x, network: n}, {name: b}]\nmesh: {install: false}\ntrust: {from: certificates}\n",
    ];
    let told = |text: &str| {
        let wanted = from_text(text, "team.yaml").unwrap();
        changes(&stored, &wanted.spec, &wanted.origins)
    };
    golden("existing_changes", &catalogue(cases, told));
    let again = from_text(&to_yaml(&stored).unwrap(), "spec.yaml").unwrap();
    assert_eq!(again.spec, stored);
}

#[test]
fn some_changes_require_a_new_environment() {
    let stored = spec(EXAMPLE);
    golden(
        "changes",
        &catalogue(
            [
                "{}\n",
                "clusters: [{name: zero}, {name: cluster2, region: region2, zone: zone2}, {name: cluster1, region: region1, zone: zone1}]\n",
                "mesh: {values: {pilot: {}}}\nsamples: {enabled: false, namespace: other}\n",
                "network: {subnet: 172.30.0.0/24}\n",
                "kubernetes: {nodeImage: kindest/node:v1.35.8}\n",
                "mesh: {version: 1.30.4, hub: localhost:5000/istio}\n",
                "mesh: {version: 1.30.4}\nclusters: [{name: cluster1, region: region1, zone: zone1, mesh: {version: 1.31.1}}, {name: cluster2, region: region2, zone: zone2}]\n",
                "clusters: [{name: cluster1, region: region1, zone: zone1, mesh: {version: 1.31.1}}, {name: cluster2, region: region2, zone: zone2}, {name: c, mesh: {version: 1.30.4}}]\n",
                "clusters: [{name: cluster1, region: region1, zone: zone1, mesh: {version: 1.30.4}}, {name: cluster2, region: region2, zone: zone2, kubernetes: {nodeImage: kindest/node:v1.35.8}}]\n",
                "clusters: [{name: cluster1, region: region1, zone: zone1}, {name: cluster2, region: region2, zone: zone2, mesh: {controlPlane: remote}}]\n",
                "topology: multi-network\n",
                "name: other\n",
                "clusters: [{name: cluster1, region: region1, zone: zone1}, {name: west}]\n",
                "clusters: [{name: cluster1, workers: 1, region: r, zone: zone1}, {name: cluster2, region: region2, zone: zone2, kind: {networking: {apiServerPort: 1}}}]\n",
            ],
            |text| {
                let wanted = from_text(text, "team.yaml").unwrap();
                changes(&stored, &wanted.spec, &wanted.origins)
            },
        ),
    );
}

#[test]
fn a_stored_spec_reads_back_the_same() {
    let nasty = "
name: '1'
clusters:
  - {name: 'true', region: 'null', zone: '01', workers: 3, kind: {nodes: [{extraMounts: [{hostPath: ~}]}]}}
  - {name: 'no', region: '', zone: 1e3}
mesh:
  version: '1.30'
  values:
    text: ['yes', 'no', 'on', 'off', 'y', 'null', '~', '', '0777', '1_000', '0x1f', '0o7', '1e3', '.5', '.inf', '.nan', 'a: b', '# c', '- d', ' e ', '2001-01-01', '1:30', '<<', '=', '*a', '&a', '!t', '%', '@', '`', '|', '\"', \"'\", \"a\\nb\\n\", \"\\t\", \"\\u0007\", 'true', 'True', 'TRUE']
    other: [1, -1, 1.5, 18446744073709551615, true, null, {}, []]
    'yes': {'1': x, 'a.b/c': y, 'null': z}
";
    for text in [EXAMPLE, nasty, "samples: {enabled: false, caller: {clusters: []}}\n"] {
        let loaded = from_text(text, "kindmesh.yaml").unwrap();
        let yaml = to_yaml(&loaded.spec).unwrap();
        let again = from_text(&yaml, "spec.yaml").unwrap_or_else(|e| panic!("{}\n{yaml}", shown(&e)));
        assert_eq!(again.spec, loaded.spec, "{yaml}");
    }
    golden("stored", &to_yaml(&Spec::default()).unwrap());
}

#[test]
fn the_schema_knows_every_field() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema.get("$id").is_none());
    let example: Value = serde_json::to_value(spec(EXAMPLE)).unwrap();
    let stored: Value = serde_yaml::from_str(&to_yaml(&Spec::default()).unwrap()).unwrap();
    fits(&example, &schema, &schema, "");
    fits(&stored, &schema, &schema, "");
    golden("schema", &serde_json::to_string_pretty(&schema).unwrap());
}

/// Asserts that a value has the shape of a schema: types, and fields that the schema describes.
fn fits(value: &Value, schema: &Value, root: &Value, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{path}: {reference}"));
        return fits(value, target, root, path);
    }
    if let Some(ways) = schema["oneOf"].as_array() {
        assert!(ways.iter().any(|way| way["const"] == *value), "{path}: {value}");
        return;
    }
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "integer",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
    };
    assert_eq!(schema["type"], kind, "{path}");
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        let described = &schema["properties"][key];
        assert!(described.is_object(), "{path} is not in the schema");
        assert!(
            described["description"].is_string() || described["$ref"].is_string(),
            "{path} has no description"
        );
        fits(value, described, root, &path);
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(item, &schema["items"], root, &format!("{path}[{index}]"));
    }
}
