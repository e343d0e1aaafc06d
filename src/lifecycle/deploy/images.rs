//! The images of deployed objects: those that the engine has are loaded into the nodes that need them.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde_json::{Value, json};

use super::place::{Placed, pod_spec, pod_template};
use crate::base::error::{self, Error};
use crate::base::event::{Events, Outcome};
use crate::cluster::mesh::apply::kind;
use crate::host::docker::endpoint::Surroundings;
use crate::host::docker::{Engine, credentials, image, image_marks};
use crate::plan::image_names::reference::tagged;

/// The annotation of pods with the IDs of their images: pods restart when an image was rebuilt under the same name.
const IMAGES: &str = "kindmesh/images";

/// The fields of a pod spec with containers.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Returns the images that the pods of each cluster need.
pub(super) fn needed(placed: &[Placed]) -> BTreeMap<String, BTreeSet<String>> {
    let mut needed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for placed in placed {
        let images = named(placed);
        for cluster in &placed.clusters {
            needed.entry(cluster.clone()).or_default().extend(images.iter().cloned());
        }
    }
    needed.retain(|_, images| !images.is_empty());
    needed
}

fn named(placed: &Placed) -> Vec<String> {
    set_images(placed).into_iter().map(|(_, image)| image.to_owned()).collect()
}

/// Returns the images that an object sets for its containers, each with the JSON pointer of the field.
fn set_images(placed: &Placed) -> Vec<(String, &str)> {
    let Some(path) = pod_spec(&placed.object) else { return Vec::new() };
    let mut images = Vec::new();
    for list in LISTS.map(|list| format!("{path}/{list}")) {
        let containers = placed.object.data.pointer(&list).and_then(Value::as_array);
        for (number, container) in containers.into_iter().flatten().enumerate() {
            images.extend(container["image"].as_str().map(|image| (format!("{list}/{number}/image"), image)));
        }
    }
    images
}

/// Checks that the images of all pods may be names of images. Templates often leave variables in them.
///
/// # Errors
/// A usage error with the place of the first that cannot be one.
pub(super) fn check(placed: &[Placed]) -> Result<(), Error> {
    for placed in placed {
        for (pointer, image) in set_images(placed) {
            let Some((why, hint)) = unusable(image) else { continue };
            let at = placed.source.at(&pointer).map(|at| format!("{at}: ")).unwrap_or_default();
            let what = format!("{} {}", kind(&placed.object), placed.object.name_any());
            return Err(Error::usage(format!("{at}{what}: \"{image}\" is no image name: {why}")).hint(hint));
        }
    }
    Ok(())
}

/// Returns why a text cannot be the name of an image, and what to do.
fn unusable(image: &str) -> Option<(&'static str, &'static str)> {
    if image.starts_with("ko://") {
        return Some(("ko builds it", "let ko replace it: ko resolve -f DIR | kindmesh deploy -"));
    }
    if image.contains(['$', '{', '<']) {
        let hint = "set the variable: envsubst < FILE | kindmesh deploy -";
        return Some(("a variable in it was not replaced", hint));
    }
    let no_reference = image.contains("://") || image.contains(char::is_whitespace);
    no_reference.then_some(("it is a URL or has spaces", "write REGISTRY/NAME:TAG"))
}

/// Pulls the images that the engine lacks and whose registry the Docker configuration has credentials for: nodes have none. Returns
/// a note for each that cannot be pulled; the nodes then try it.
pub(super) async fn pull<'a>(
    engine: &Engine,
    images: impl Iterator<Item = &'a String>,
    events: &Events,
) -> anyhow::Result<Vec<String>> {
    let folder = Surroundings::of_process().docker_config();
    let mut wanted = Vec::new();
    for image in images {
        let is_missing = image_marks::in_engine(engine, image).await?.is_none();
        if is_missing && credentials::for_image(&folder, image).await.is_some() {
            wanted.push(image);
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let step = events.step("pull", None);
    step.run(async |step| {
        let (mut notes, mut changed) = (Vec::new(), false);
        for image in wanted {
            match image::ensure(engine, [image], step).await {
                Ok(pulled) => changed |= pulled.changed,
                Err(error) => notes.push(not_pulled(image, &error)),
            }
        }
        Ok(Outcome { value: notes, changed })
    })
    .await
}

fn not_pulled(image: &str, error: &anyhow::Error) -> String {
    let evidence = error::find(error).and_then(|error| error.evidence.first().cloned());
    let said = evidence.unwrap_or_else(|| format!("{error:#}"));
    format!("the engine cannot pull {image} with the credentials of the Docker configuration: {said}")
}

/// Returns the images that the engine has, with their IDs.
pub(super) async fn in_engine<'a>(
    engine: &Engine,
    images: impl Iterator<Item = &'a String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for image in images {
        if let Some(identity) = image_marks::in_engine(engine, image).await? {
            found.insert(image.clone(), identity);
        }
    }
    Ok(found)
}

/// Changes an object's pods to use the loaded images: they are not pulled again, and pods restart when an image has
/// changed. Returns a note if it changed a pull policy.
pub(super) fn use_loaded(placed: &mut Placed, loaded: &BTreeMap<String, String>) -> Option<String> {
    let path = pod_spec(&placed.object)?;
    let (what, name) = (kind(&placed.object).to_owned(), placed.object.name_any());
    let (mut identities, mut overruled) = (BTreeSet::new(), None);
    for list in LISTS {
        let containers = placed.object.data.pointer_mut(&format!("{path}/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let Some(image) = container["image"].as_str().map(str::to_owned) else { continue };
            let Some(identity) = loaded.get(&image) else { continue };
            identities.insert(identity.trim_start_matches("sha256:").chars().take(12).collect::<String>());
            let policy = container["imagePullPolicy"].as_str();
            if policy == Some("Always") {
                overruled = Some(format!(
                    "{what} {name} has imagePullPolicy Always for {image}: loaded from the engine \
                        instead of pulled"
                ));
            }
            // Without a policy, Kubernetes always pulls images with the tag latest.
            if policy == Some("Always") || policy.is_none() && tagged(&image).ends_with(":latest") {
                container["imagePullPolicy"] = json!("IfNotPresent");
            }
        }
    }
    // The template of a Job cannot be changed, and its pods run once.
    let template = pod_template(&placed.object).filter(|_| what != "Job");
    if let (Some(template), false) = (template, identities.is_empty()) {
        let value = identities.into_iter().collect::<Vec<_>>().join(",");
        annotate(&mut placed.object.data, template, IMAGES, &value);
    }
    overruled
}

/// Annotates a pod template.
fn annotate(data: &mut Value, template: &str, key: &str, value: &str) {
    let Some(template) = data.pointer_mut(template) else { return };
    if !template["metadata"]["annotations"].is_object() {
        template["metadata"]["annotations"] = json!({});
    }
    template["metadata"]["annotations"][key] = json!(value);
}

#[cfg(test)]
mod tests {
    use super::super::place::{By, Source};
    use super::*;
    use crate::base::yaml::documents;
    use crate::cluster::mesh::apply::objects;

    #[test]
    fn refused_pull_is_noted_with_the_registrys_words() {
        let error = error::Error::environment("the image r.example/app:1 could not be pulled")
            .evidence("401 Unauthorized");
        assert_eq!(
            not_pulled("r.example/app:1", &error.into()),
            "the engine cannot pull r.example/app:1 with the credentials of the Docker configuration: 401 Unauthorized"
        );
    }

    #[test]
    fn variables_in_image_names_are_refused_with_their_place() {
        let yaml = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: a
    image: IMAGE
";
        let checked = |image: &str| {
            let document = documents(&yaml.replace("IMAGE", image)).unwrap().remove(0);
            let object = objects(&yaml.replace("IMAGE", image)).unwrap().remove(0);
            let source = Source::of("web.yaml", document.places);
            let checked = check(&[Placed { object, clusters: Vec::new(), by: By::To, source }]);
            checked.map_err(|error| error.message)
        };
        assert_eq!(
            checked("${REGISTRY}/web:1").unwrap_err(),
            "web.yaml:7:5: Pod web: \"${REGISTRY}/web:1\" is no image name: a variable in it was not replaced"
        );
        assert!(checked("ko://example.com/web").unwrap_err().ends_with("ko builds it"));
        assert!(checked("https://example.com/web").is_err());
        for image in ["web", "registry:5000/web:v1.2", "web@sha256:0123"] {
            assert_eq!(checked(image), Ok(()), "{image}");
        }
    }

    #[test]
    fn loaded_images_are_not_pulled_and_a_new_one_restarts_pods() {
        let yaml = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {template: {spec: {containers: [\
            {name: a, image: mine}, {name: b, image: \"mine:1\", imagePullPolicy: Always}, {name: c, image: \"other:1\"}]}}}}";
        let object = objects(yaml).unwrap().remove(0);
        let mut placed =
            Placed { object, clusters: vec!["cluster2".into()], by: By::Annotation, source: Default::default() };
        assert_eq!(needed(std::slice::from_ref(&placed))["cluster2"].len(), 3);
        let identity = |image: &str, of: &str| (image.to_owned(), format!("sha256:{of}"));
        let loaded = BTreeMap::from([identity("mine", "aaaaaaaaaaaaaaaa"), identity("mine:1", "bb")]);
        let note = use_loaded(&mut placed, &loaded).unwrap();
        assert!(note.contains("mine:1"), "{note}");
        let template = &placed.object.data["spec"]["template"];
        let policy = |number: usize| template["spec"]["containers"][number]["imagePullPolicy"].clone();
        assert_eq!([policy(0), policy(1), policy(2)], [json!("IfNotPresent"), json!("IfNotPresent"), Value::Null]);
        assert_eq!(template["metadata"]["annotations"][IMAGES], "aaaaaaaaaaaa,bb");
    }
}
