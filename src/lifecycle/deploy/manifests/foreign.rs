//! Documents in directories of manifests that are not objects of a cluster: what they are, by content and file name.

use std::path::Path;

use serde_json::Value;

use crate::base::error::Error;

/// A document of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign {
    /// What it is, with its article.
    is: &'static str,
    /// What to do instead of deploying it.
    instead: Option<&'static str>,
}

const fn foreign(is: &'static str, instead: &'static str) -> Foreign {
    Foreign { is, instead: Some(instead) }
}

const fn unrelated(is: &'static str) -> Foreign {
    Foreign { is, instead: None }
}

const KUSTOMIZATION: Foreign = foreign(
    "a kustomization",
    "deploy its directory: kindmesh deploy DIR, or kustomize build DIR | kindmesh deploy -",
);
const SKAFFOLD: Foreign =
    foreign("a Skaffold configuration", "deploy what it renders: skaffold render | kindmesh deploy -");
const CHART: Foreign = foreign(
    "part of a Helm chart",
    "deploy the chart's directory: kindmesh deploy DIR, or helm template NAME DIR | kindmesh deploy -",
);
const COMPOSE: Foreign =
    foreign("a Docker Compose file", "convert it first: kompose convert --stdout | kindmesh deploy -");
const KUBEADM: Foreign =
    foreign("a configuration of a node's component", "set what a node needs in clusters[].kind of the spec");

/// API groups that no API server serves, by the start of `apiVersion`.
const GROUPS: [(&str, Foreign); 13] = [
    ("skaffold/", SKAFFOLD),
    ("kustomize.config.k8s.io/", KUSTOMIZATION),
    ("kind.x-k8s.io/", foreign("a kind configuration", "set its fields in clusters[].kind of the spec")),
    ("kubeadm.k8s.io/", KUBEADM),
    ("kubelet.config.k8s.io/", KUBEADM),
    ("kubeproxy.config.k8s.io/", KUBEADM),
    ("kubescheduler.config.k8s.io/", KUBEADM),
    ("apiserver.config.k8s.io/", KUBEADM),
    ("audit.k8s.io/", KUBEADM),
    (
        "install.istio.io/",
        foreign("input for istioctl", "set its spec.values and spec.meshConfig in mesh.values of the spec"),
    ),
    ("k3d.io/", unrelated("a k3d configuration")),
    ("backstage.io/", unrelated("a Backstage catalog entry")),
    ("ctlptl.dev/", unrelated("a ctlptl configuration")),
];

/// File names of other tools, for documents without `apiVersion` and `kind`.
const FILES: [(&str, Foreign); 13] = [
    ("kustomization.yaml", KUSTOMIZATION),
    ("kustomization.yml", KUSTOMIZATION),
    ("chart.yaml", CHART),
    ("chart.lock", CHART),
    ("requirements.yaml", CHART),
    ("values.schema.json", CHART),
    ("skaffold.yaml", SKAFFOLD),
    ("skaffold.yml", SKAFFOLD),
    ("helmfile.yaml", foreign("a helmfile", "deploy what it renders: helmfile template | kindmesh deploy -")),
    ("taskfile.yml", unrelated("a Taskfile")),
    ("mkdocs.yml", unrelated("an MkDocs configuration")),
    ("package.json", unrelated("an npm package")),
    ("tsconfig.json", unrelated("a TypeScript configuration")),
];

impl Foreign {
    /// Returns what a document is, if it is not an object of a cluster. A document that looks like an incomplete object is
    /// not foreign.
    pub(super) fn of(file: &str, document: &Value) -> Option<Self> {
        let text = |field: &str| document[field].as_str().unwrap_or_default();
        let has = |field: &str| document.get(field).is_some();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if let Some((_, foreign)) = GROUPS.iter().find(|(group, _)| version.starts_with(group)) {
            return Some(*foreign);
        }
        if (version, kind) == ("v1", "Config") && has("clusters") {
            return Some(unrelated("a kubeconfig"));
        }
        if !kind.is_empty() {
            return None;
        }
        let name =
            Path::new(file).file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let known = FILES.iter().find(|(known, _)| *known == name).map(|(_, foreign)| *foreign);
        let known = known.or_else(|| {
            let is_values = name.starts_with("values") || name.contains("-values.") || name.contains(".values.");
            Some(match name.as_str() {
                name if name.starts_with("kindmesh.") => unrelated("a kindmesh spec"),
                _ if is_values => foreign("Helm values", CHART.instead.unwrap_or_default()),
                _ if has("openapi") || has("swagger") => unrelated("an OpenAPI document"),
                _ if has("asyncapi") => unrelated("an AsyncAPI document"),
                // In YAML 1.1, the name `on` is true.
                _ if has("jobs") && (has("on") || has("true")) => unrelated("a GitHub workflow"),
                _ if has("runs") && has("description") => unrelated("a GitHub action"),
                _ if document["services"].is_object() && !has("metadata") => COMPOSE,
                _ => return None,
            })
        });
        let is_incomplete = ["apiVersion", "metadata", "spec"].into_iter().any(has);
        known
            .or_else(|| (!is_incomplete).then_some(unrelated("no Kubernetes object, without apiVersion and kind")))
    }

    /// Returns the note about a file that is left out.
    pub(super) fn note(self, file: &str) -> String {
        let instead = self.instead.map(|instead| format!("; {instead}")).unwrap_or_default();
        format!("{file} is {}: left out{instead}", self.is)
    }

    /// Returns the error about a file that the user named.
    pub(super) fn refused(self, at: &str) -> Error {
        let hint = self.instead.unwrap_or("choose a file or a directory of Kubernetes objects");
        Error::usage(format!("{at} is {}, not a manifest", self.is)).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::yaml::documents;

    fn what(file: &str, text: &str) -> Option<&'static str> {
        Foreign::of(file, &documents(text).unwrap().remove(0).value).map(|foreign| foreign.is)
    }

    #[test]
    fn files_of_other_tools_are_recognized() {
        for (file, text, is) in [
            (
                "skaffold.yaml",
                "{apiVersion: skaffold/v4beta13, kind: Config, build: {}}",
                "a Skaffold configuration",
            ),
            ("values.yaml", "{replicaCount: 1, image: {tag: x}}", "Helm values"),
            ("values-dev.yaml", "{spec: {}}", "Helm values"),
            ("Chart.yaml", "{apiVersion: v2, name: shop, version: 0.1.0}", "part of a Helm chart"),
            ("kustomization.yaml", "resources: [web.yaml]", "a kustomization"),
            ("k.yaml", "{apiVersion: kustomize.config.k8s.io/v1alpha1, kind: Component}", "a kustomization"),
            ("api.yaml", "{openapi: 3.1.0, info: {}, paths: {}}", "an OpenAPI document"),
            ("api.json", "{\"swagger\": \"2.0\"}", "an OpenAPI document"),
            ("cluster.yaml", "{kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4}", "a kind configuration"),
            ("docker-compose.yml", "{services: {web: {image: a}}}", "a Docker Compose file"),
            ("ci.yml", "{on: [push], jobs: {build: {}}}", "a GitHub workflow"),
            ("config.yaml", "{apiVersion: v1, kind: Config, clusters: []}", "a kubeconfig"),
            ("istio.yaml", "{apiVersion: install.istio.io/v1alpha1, kind: IstioOperator}", "input for istioctl"),
            ("kindmesh.yaml", "clusters: [{name: a}]", "a kindmesh spec"),
            ("list.yaml", "- a", "no Kubernetes object, without apiVersion and kind"),
            ("other.yaml", "a: 1", "no Kubernetes object, without apiVersion and kind"),
        ] {
            assert_eq!(what(file, text), Some(is), "{file}: {text}");
        }
    }

    #[test]
    fn objects_are_not_foreign_even_if_incomplete() {
        for text in [
            "{apiVersion: v1, kind: Service, metadata: {name: a}}",
            "{apiVersion: v1, metadata: {name: a}}",
            "{kind: Service}",
            "{metadata: {name: a}, services: {}}",
            "{spec: {replicas: 1}}",
        ] {
            assert_eq!(what("a.yaml", text), None, "{text}");
        }
        // The name of a file says nothing about a complete object.
        assert_eq!(what("values.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"), None);
    }

    #[test]
    fn note_and_error_say_what_to_do_instead() {
        let foreign = Foreign::of("values.yaml", &serde_json::json!({"a": 1})).unwrap();
        assert!(
            foreign.note("values.yaml").starts_with("values.yaml is Helm values: left out; deploy the chart's")
        );
        let error = foreign.refused("values.yaml:1:1");
        assert_eq!(error.message, "values.yaml:1:1 is Helm values, not a manifest");
        assert!(error.hint.unwrap().contains("helm template"));
    }
}
