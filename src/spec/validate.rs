//! The rules for a spec as a whole that require no engine.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::versions::{known_node_image, kubernetes_minors, skew, supported_istio};
use super::{Cluster, ControlPlane, Label, Mesh, Origins, Spec, existing, file, kind, subnets, values};
use super::{DEFAULT_ISTIO_VERSION, DEFAULT_NODE_IMAGE};
use crate::base::error::Error;

pub use super::versions::{Version, kubernetes_version};

/// The maximum length of an environment's name, in characters: it leaves 28 for the cluster's name in a node's name.
pub const NAME_MAX: usize = 20;
/// The maximum number of workers of a cluster: far more than a host can run, so more is a typo.
pub const WORKERS_MAX: u8 = 20;
/// The maximum number of clusters of an environment, for the same reason.
pub const CLUSTERS_MAX: usize = 20;
/// The maximum number of problems in one error: the user sees the rest after fixing those.
const MAX_PROBLEMS: usize = 20;

/// Checks everything about a spec that requires no engine.
///
/// # Errors
/// A usage error that names every problem, each with the field's path and its source.
pub fn validate(spec: &Spec, origins: &Origins) -> Result<(), Error> {
    let mut problems = Problems { origins, found: Vec::new() };
    problems.name(spec);
    for (path, what, hint) in subnets::problems(spec).into_iter().chain(existing::problems(spec)) {
        problems.add(&path, what, hint);
    }
    problems.clusters(spec);
    problems.versions(spec);
    problems.control_planes(spec);
    problems.mesh(&spec.mesh);
    if spec.samples.enabled {
        problems.samples(spec);
    }
    for (name, clusters) in &spec.deploy {
        problems.places(spec, &format!("deploy.{name}"), clusters, "remove it, or add a cluster");
    }
    report(problems.found, "problems in the spec")
}

/// A problem and its fix.
pub(crate) struct Problem {
    message: String,
    excerpt: Option<String>,
    hint: Option<String>,
}

impl Problem {
    /// Returns a problem with the field at `path`, and where the field was set.
    pub(crate) fn at(origins: &Origins, path: &str, message: &str) -> Self {
        let (message, excerpt) = origins.locate(path, message);
        Self { message, excerpt, hint: None }
    }

    /// Adds the fix.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Combines all problems into one error.
pub(crate) fn report(mut found: Vec<Problem>, what: &str) -> Result<(), Error> {
    match found.len() {
        0 => Ok(()),
        1 => {
            let Problem { message, excerpt, hint } = found.remove(0);
            let error = Error::usage(message).evidence(excerpt.unwrap_or_default());
            Err(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
        count => {
            // A fix that all problems share is printed once; otherwise each problem has its own.
            let hints: BTreeSet<_> = found.iter().filter_map(|problem| problem.hint.clone()).collect();
            let mut error = Error::usage(format!("{count} {what}"));
            for problem in found.into_iter().take(MAX_PROBLEMS) {
                error = error.evidence(match problem.hint {
                    Some(hint) if hints.len() > 1 => format!("{}; {hint}", problem.message),
                    _ => problem.message,
                });
            }
            if count > MAX_PROBLEMS {
                error = error.evidence(format!("and {} more", count - MAX_PROBLEMS));
            }
            if let (Some(hint), 1) = (hints.first(), hints.len()) {
                error = error.hint(hint);
            }
            Err(error)
        }
    }
}

const NO_SAMPLES: &str = "to disable the samples, set samples.enabled: false";

struct Problems<'a> {
    origins: &'a Origins,
    found: Vec<Problem>,
}

impl Problems<'_> {
    /// Adds a problem with the field at `path`: `what` continues after the field's name, `hint` is the fix.
    fn add(&mut self, path: &str, what: impl AsRef<str>, hint: impl Into<String>) {
        let message = format!("{path} {}", what.as_ref());
        self.found.push(Problem::at(self.origins, path, &message).hint(hint));
    }

    fn name(&mut self, spec: &Spec) {
        let length = spec.name.as_str().len();
        if length > NAME_MAX {
            let what = format!("\"{}\" has {length} characters, at most {NAME_MAX} are allowed", spec.name);
            self.add("name", what, "choose a shorter name: it is part of every node's name");
        }
    }

    fn clusters(&mut self, spec: &Spec) {
        if spec.clusters.len() < 2 {
            let what = format!("has {} entries, at least 2 are required", spec.clusters.len());
            self.add("clusters", what, "for example: clusters: [{name: cluster1}, {name: cluster2}]");
        }
        if spec.clusters.len() > CLUSTERS_MAX {
            let what = format!("has {} entries, at most {CLUSTERS_MAX} are allowed", spec.clusters.len());
            return self.add("clusters", what, "use fewer: two or three fit on one host");
        }
        let mut names = BTreeSet::new();
        for (index, cluster) in spec.clusters.iter().enumerate() {
            let path = format!("clusters[{index}]");
            if !names.insert(&cluster.name) {
                let what = format!("\"{}\" is used twice", cluster.name);
                self.add(&format!("{path}.name"), what, "give each cluster a unique name");
            }
            if cluster.network.as_ref() == Some(&spec.name) {
                let what = format!("\"{}\" is the network of the clusters without one", spec.name);
                self.add(&format!("{path}.network"), what, "omit it, or choose another name");
            }
            if !cluster.exists() {
                self.node_names(spec, &format!("{path}.name"), &cluster.name);
            }
            if cluster.workers > WORKERS_MAX {
                let what = format!("is {}, at most {WORKERS_MAX} are allowed", cluster.workers);
                self.add(
                    &format!("{path}.workers"),
                    what,
                    "use fewer: most environments need none, because pods also run on the \
                    control plane",
                );
            }
            for (field, value) in [("region", &cluster.region), ("zone", &cluster.zone)] {
                if !is_label_value(value) {
                    let what = format!(
                        "{value:?} is not a Kubernetes label value: at most 63 letters, digits, -, _ \
                            and ."
                    );
                    let hint = format!("use a name such as eu-west-1, or omit the {field}");
                    self.add(&format!("{path}.{field}"), what, hint);
                }
            }
            let kubernetes = kubernetes_version(spec.node_image_of(cluster));
            for kind::Problem { path: within, what, fix } in
                kind::problems(&cluster.kind, cluster.workers, kubernetes)
            {
                self.add(&format!("{path}.kind.{within}"), what, fix);
            }
        }
        for kind::Problem { path, what, fix } in kind::ports::problems(&spec.clusters) {
            self.add(&path, what, fix);
        }
    }

    /// A node's name is its host name: a DNS label. The control plane's is the longest that kind creates.
    fn node_names(&mut self, spec: &Spec, path: &str, cluster: &Label) {
        let node = format!("{}-{cluster}-control-plane", spec.name);
        // A name that is too long is reported once, not for every cluster.
        if node.len() > 63 && spec.name.as_str().len() <= NAME_MAX {
            let what = format!(
                "is too long: the name of node {node} would have {} characters, at most 63 are allowed",
                node.len()
            );
            self.add(path, what, "choose a shorter name for the cluster or the environment");
        }
    }

    /// Reports each version that is not supported once, then each combination that is not.
    fn versions(&mut self, spec: &Spec) {
        self.node_image("kubernetes.nodeImage", &spec.kubernetes.node_image);
        let shared = self.istio("mesh.version", &spec.mesh.version);
        let mut installed = Vec::new();
        let mut judged = BTreeSet::new();
        for (index, cluster) in spec.clusters.iter().enumerate() {
            let own = format!("clusters[{index}]");
            let (own_image, own_istio) = (format!("{own}.kubernetes.nodeImage"), format!("{own}.mesh.version"));
            let image_field = match &cluster.kubernetes.node_image {
                Some(image) => {
                    self.node_image(&own_image, image);
                    own_image
                }
                None => "kubernetes.nodeImage".into(),
            };
            // A remote cluster has the version of its primary by default.
            let primary = spec.primary_of(cluster).filter(|primary| primary.mesh.version.is_some());
            let (istio_field, istio) = match (&cluster.mesh.version, primary) {
                (Some(version), _) => (own_istio.clone(), self.istio(&own_istio, version)),
                (None, Some(primary)) => {
                    let place = spec.clusters.iter().position(|cluster| cluster.name == primary.name);
                    let version = primary.mesh.version.as_ref().and_then(|version| version.parse().ok());
                    let supported = version.and_then(|version| Some((version, kubernetes_minors(version)?)));
                    (format!("clusters[{}].mesh.version", place.unwrap_or_default()), supported)
                }
                (None, None) => ("mesh.version".into(), shared.clone()),
            };
            let Some((istio, minors)) = istio else { continue };
            installed.push((istio_field.clone(), istio));
            // The version of Kubernetes in a cluster that exists is found there.
            if !cluster.exists() && judged.insert((image_field.clone(), istio_field.clone())) {
                let image = spec.node_image_of(cluster);
                self.kubernetes((&image_field, image), (&istio_field, istio), &minors);
            }
        }
        self.skew(&installed);
    }

    fn node_image(&mut self, field: &str, image: &str) {
        if !is_reference(image) {
            let what = format!("{image:?} is not an image reference");
            self.add(field, what, format!("the default is {DEFAULT_NODE_IMAGE}"));
        }
    }

    /// Returns a version of Istio with the Kubernetes minor versions that it supports; none if it is not supported.
    fn istio(&mut self, field: &str, version: &str) -> Option<(Version, RangeInclusive<u32>)> {
        let istio: Version = match version.parse() {
            Ok(version) => version,
            Err(why) => {
                let known = format!("use one of {}; the default is {DEFAULT_ISTIO_VERSION}", supported_istio());
                self.add(field, why, known);
                return None;
            }
        };
        let Some(minors) = kubernetes_minors(istio) else {
            let what = format!("{istio} is not supported: use one of {}", supported_istio());
            self.add(field, what, format!("the default is {DEFAULT_ISTIO_VERSION}"));
            return None;
        };
        Some((istio, minors))
    }

    fn kubernetes(
        &mut self,
        (image_field, image): (&str, &str),
        (istio_field, istio): (&str, Version),
        minors: &RangeInclusive<u32>,
    ) {
        let Some(kubernetes) = kubernetes_version(image) else { return };
        if kubernetes.major == 1 && minors.contains(&kubernetes.minor) {
            return;
        }
        let supports = format!("Kubernetes 1.{} to 1.{}", minors.start(), minors.end());
        let hint = known_node_image(minors).map_or_else(
            || format!("choose another node image or another {istio_field}"),
            |image| format!("choose another {istio_field}, or {image_field}: {image}"),
        );
        // Reported for the field that was set, so that the message names its source.
        if self.origins.of(image_field).is_none() && self.origins.of(istio_field).is_some() {
            let what = format!("{istio} supports {supports}, but {image_field} has {kubernetes}");
            self.add(istio_field, what, hint);
        } else {
            let what = format!("has Kubernetes {kubernetes}, but {istio_field} {istio} supports {supports}");
            self.add(image_field, what, hint);
        }
    }

    /// Reports versions of Istio, each with the field that sets it, that differ too much.
    fn skew(&mut self, installed: &[(String, Version)]) {
        let Some((oldest, newest)) = skew(installed.iter().map(|(_, version)| *version)) else { return };
        let field = |wanted: Version| installed.iter().find(|(_, version)| *version == wanted);
        let (Some((old, _)), Some((new, _))) = (field(oldest), field(newest)) else { return };
        let what = format!("{oldest} is more than one minor version older than {new} {newest}");
        self.add(old, what, "use versions of the same minor version, or of two successive ones");
    }

    fn control_planes(&mut self, spec: &Spec) {
        let is_primary = |cluster: &&Cluster| cluster.mesh.control_plane == ControlPlane::Primary;
        let primaries: Vec<&str> = spec.clusters.iter().filter(is_primary).map(|c| c.name.as_str()).collect();
        if primaries.is_empty() && !spec.clusters.is_empty() {
            let what = "has only remote clusters: their proxies need the istiod of a primary";
            return self.add("clusters", what, "set mesh.controlPlane: primary for at least one, or omit it");
        }
        for (index, cluster) in spec.clusters.iter().enumerate() {
            let path = format!("clusters[{index}].mesh");
            if let Some(primary) = &cluster.mesh.primary {
                let path = format!("{path}.primary");
                if is_primary(&cluster) {
                    self.add(&path, "is for remote clusters", "set mesh.controlPlane: remote, or omit primary");
                } else if !primaries.contains(&primary.as_str()) {
                    let what = format!("\"{primary}\" is not one of the primaries {}", primaries.join(", "));
                    self.add(&path, what, "use one of them, or omit it");
                }
            }
            let Some(primary) = spec.primary_of(cluster) else { continue };
            let (own, version) = (spec.istio_version_of(cluster), spec.istio_version_of(primary));
            if own != version {
                let what = format!(
                    "is {own}, but its proxies get the version of its primary {}, {version}",
                    primary.name
                );
                self.add(&format!("{path}.version"), what, format!("use {version}, or omit it"));
            }
        }
    }

    fn mesh(&mut self, mesh: &Mesh) {
        if !is_reference(&mesh.hub) || mesh.hub.ends_with('/') || mesh.hub.contains("://") {
            let what = format!(
                "{:?} is not a repository prefix such as docker.io/istio, without a trailing slash",
                mesh.hub
            );
            self.add("mesh.hub", what, "the images are HUB/pilot and HUB/proxyv2, tagged with mesh.version");
        }
        for (path, what, hint) in values::problems(&mesh.values) {
            self.add(&path, what, hint);
        }
    }

    fn samples(&mut self, spec: &Spec) {
        let samples = &spec.samples;
        let namespace = samples.namespace.as_str();
        // Reserved by Kubernetes, kind and the mesh.
        if namespace.starts_with("kube-") || ["istio-system", "local-path-storage"].contains(&namespace) {
            let what = format!("\"{namespace}\" is reserved");
            self.add("samples.namespace", what, "choose another namespace; the default is sample");
        }
        if !samples.image.is_empty() && !is_reference(&samples.image) {
            let what = format!("{:?} is not an image reference", samples.image);
            self.add(
                "samples.image",
                what,
                "use an image such as registry.example/kindmesh:1, or omit it to let \
                kindmesh build the image",
            );
        }
        self.places(spec, "samples.caller.clusters", &samples.caller.clusters, NO_SAMPLES);
        self.places(spec, "samples.producer.clusters", &samples.producer.clusters, NO_SAMPLES);
        if samples.producer.replicas == 0 {
            self.add("samples.producer.replicas", "is 0, at least 1 is required", NO_SAMPLES);
        }
    }

    fn places(&mut self, spec: &Spec, path: &str, clusters: &[Label], instead: &str) {
        if clusters.is_empty() {
            self.add(path, "is empty", instead);
        }
        let known: Vec<&str> = spec.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        for (index, name) in clusters.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if !seen.insert(name) {
                self.add(&path, format!("\"{name}\" is listed twice"), "remove one of them");
            } else if !known.is_empty() && !known.contains(&name.as_str()) {
                let what = format!("\"{name}\" is not one of the clusters {}", known.join(", "));
                let near = file::did_you_mean(name.as_str(), &known);
                let hint = match near.is_empty() {
                    true => "use one of them, or add it to clusters".to_owned(),
                    false => near.trim_start_matches(", ").to_owned(),
                };
                self.add(&path, what, hint);
            }
        }
    }
}

/// Whether text is a valid value of a Kubernetes label.
fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    text.len() <= 63 && text.chars().all(inner) && edge(text.chars().next()) && edge(text.chars().last())
}

/// Whether text looks like an image or a repository; the engine decides.
fn is_reference(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}
