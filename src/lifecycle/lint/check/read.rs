//! Reads manifests with their positions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kube::api::DynamicObject;

use crate::base::yaml::{Place, Places, pointer};
use crate::lifecycle::deploy::manifests;
use crate::lifecycle::deploy::place::{Named, annotated, entry, is_namespaced};
use crate::lifecycle::lint::mesh::{Clusters, Source};

/// What decides the namespace and the clusters of objects.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// The namespace of objects without one.
    pub namespace: String,
    /// The spec's `deploy`: clusters by the name of an object, or of its application.
    pub deploy: BTreeMap<String, Vec<String>>,
    /// All clusters, if they are known.
    pub clusters: Option<Vec<String>>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The objects.
    pub sources: Vec<Source>,
    /// Their files and positions.
    pub positions: Vec<Position>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// Where an object is.
#[derive(Debug)]
pub(super) struct Position {
    /// The path of its file, as it was given.
    pub file: String,
    places: Places,
}

impl Position {
    /// Returns the place of a field of the object, such as `spec.ports[0].port`, else that of the closest field around it.
    pub(super) fn of(&self, field: &str) -> Option<Place> {
        let segments = field.split(['.', '[']).map(|segment| segment.trim_end_matches(']'));
        let pointer = segments
            .filter(|segment| !segment.is_empty())
            .fold(String::new(), |path, segment| pointer(&path, segment));
        self.places.nearest(&pointer)
    }
}

/// Reads directories and files of manifests, as `deploy` does. Several of them are for one cluster each.
///
/// # Errors
/// As for [`manifests::read`].
pub(super) async fn read(paths: &[PathBuf], placement: &Placement) -> anyhow::Result<Read> {
    let mut read = Read::default();
    for (folder, path) in paths.iter().enumerate() {
        let name = (paths.len() > 1).then(|| path.display().to_string());
        let found = manifests::read(path, &placement.namespace).await?;
        let within = |file: &str| match path.is_dir() && Path::new(file) != path {
            true => path.strip_prefix("./").unwrap_or(path).join(file).display().to_string(),
            false => file.to_owned(),
        };
        for manifest in found.manifests {
            read.positions.push(Position { file: within(&manifest.file), places: manifest.places });
            read.sources.push(placed(manifest.object, folder, name.as_deref(), placement));
        }
        read.notes.extend(found.notes);
    }
    Ok(read)
}

/// Returns an object with its namespace and its clusters. `name` is the directory it is in, if that is for one cluster.
pub(in crate::lifecycle::lint) fn placed(
    mut object: DynamicObject,
    folder: usize,
    name: Option<&str>,
    placement: &Placement,
) -> Source {
    if is_namespaced(&object) && object.metadata.namespace.is_none() {
        object.metadata.namespace = Some(placement.namespace.clone());
    }
    let clusters = clusters(&object, name, placement);
    Source { object, folder, clusters }
}

fn clusters(object: &DynamicObject, folder: Option<&str>, placement: &Placement) -> Clusters {
    let these = |names: &[String]| Clusters::In(names.iter().cloned().collect());
    match (annotated(object), entry(object, &placement.deploy), folder) {
        (Some(Named::These(names)), ..) => these(&names),
        (Some(Named::All), ..) => placement.clusters.as_deref().map_or(Clusters::All, these),
        (None, Some((_, names)), _) => these(names),
        (None, None, Some(folder)) => these(&[folder.to_owned()]),
        (None, None, None) => Clusters::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[tokio::test]
    async fn every_object_has_its_place() {
        let text = "# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  \
            spec:\n    ports:\n    - port: 80\n---\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: b\n";
        let folder = folder(&[("a.yaml", text), ("values.yaml", "replicas: 1")]);
        let read = read(&[folder.path().to_owned()], &Placement::default()).await.unwrap();
        let at =
            |source: usize, field: &str| read.positions[source].of(field).map(|place| (place.line, place.column));
        assert_eq!(at(0, "spec.ports[0].port"), Some((11, 7)));
        // The closest field around a missing one, else the object.
        assert_eq!(at(0, "spec.ports[0].targetPort"), Some((11, 7)));
        assert_eq!(at(1, "spec.ports"), Some((14, 1)));
        assert_eq!(at(1, "metadata.name"), Some((17, 3)));
        assert_eq!(read.positions[1].file, folder.path().join("a.yaml").display().to_string());
        assert!(
            read.notes.len() == 1 && read.notes[0].starts_with("values.yaml is Helm values"),
            "{:?}",
            read.notes
        );
    }

    #[test]
    fn clusters_are_those_of_the_annotation_the_spec_or_the_directory() {
        let of = |annotations: &str, placement: &Placement, folder: Option<&str>| {
            let yaml = format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: a, annotations: {{{annotations}}}}}}}"
            );
            let object = crate::cluster::mesh::apply::objects(&yaml).unwrap().remove(0);
            placed(object, 0, folder, placement).clusters
        };
        let within = |names: &[&str]| Clusters::In(names.iter().map(|name| (*name).to_owned()).collect());
        let none = Placement::default();
        let spec = Placement {
            deploy: [("a".to_owned(), vec!["west".to_owned()])].into(),
            clusters: Some(vec!["east".into(), "west".into()]),
            ..Placement::default()
        };
        assert_eq!(of("", &none, None), Clusters::Unknown);
        assert_eq!(of("", &none, Some("x")), within(&["x"]));
        assert_eq!(of("", &spec, Some("x")), within(&["west"]));
        assert_eq!(of("kindmesh/clusters: \"east, west\"", &spec, None), within(&["east", "west"]));
        assert_eq!(of("kindmesh/clusters: \"*\"", &spec, None), within(&["east", "west"]));
        assert_eq!(of("kindmesh/clusters: \"*\"", &none, None), Clusters::All);
    }
}
