//! Archives for hosts without a network, with fake images: their content does not matter.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use kindmesh::internals::host::docker::bake;
use kindmesh::internals::plan::images;
use kindmesh::internals::spec;
use serde_json::Value;

use super::{KINDMESH, Removed, docker, engine, said};

const NODE: &str = "kindmesh.local/docker-test-offline-node:v1.36.3";
const OTHER_NODE: &str = "kindmesh.local/docker-test-offline-other-node:v1.35.8";
const HUB: &str = "kindmesh.local/docker-test-offline";

/// Creates an image with one file and these labels.
fn make(name: &str, labels: &str) -> Removed {
    let removed = Removed::image(name);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("name"), name).unwrap();
    let tar = Command::new("tar").arg("-cC").arg(folder.path()).arg(".").output().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, tar.stdout).unwrap();
    said(&["import", "--change", &format!("LABEL {labels}"), file.to_str().unwrap(), name]);
    removed
}

/// Runs kindmesh with its own state and cache in `folder`, for the spec there.
fn kindmesh(folder: &Path, path: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(KINDMESH);
    command.args(arguments).env_remove("KINDMESH_FILE").env_remove("KINDMESH_ENVIRONMENT");
    command.env("XDG_CACHE_HOME", folder.join("cache")).env("XDG_STATE_HOME", folder.join("state"));
    command.current_dir(folder);
    if let Some(path) = path {
        // So that no download succeeds.
        command.env("PATH", path).env("HTTPS_PROXY", "http://127.0.0.1:1");
    }
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the version of the istioctl on PATH, so that none is downloaded; without one, the default version.
fn istio() -> String {
    let said = Command::new("istioctl").args(["version", "--remote=false", "--output=json"]).output();
    let version = said.ok().and_then(|said| serde_json::from_slice::<Value>(&said.stdout).ok());
    let version = version.and_then(|version| version["clientVersion"]["version"].as_str().map(str::to_owned));
    version.unwrap_or_else(|| spec::Spec::default().mesh.version)
}

fn flip(file: &std::fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn what_is_saved_is_loaded_where_nothing_is_and_a_flipped_byte_is_refused() {
    let engine = engine().await;
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    let istio = istio();
    let images = ["pilot", "proxyv2"].map(|name| format!("{HUB}/{name}:{istio}"));
    let spec = format!(
        "kubernetes: {{nodeImage: '{NODE}'}}\nmesh: {{version: {istio}, hub: {HUB}}}\nsamples: {{enabled: false}}\n\
        clusters: [{{name: a}}, {{name: b, kubernetes: {{nodeImage: '{OTHER_NODE}'}}}}]\n"
    );
    std::fs::write(work.join("kindmesh.yaml"), &spec).unwrap();
    let originals = [(NODE, "a=b"), (OTHER_NODE, "a=e"), (&images[0], "a=c"), (&images[1], "a=d")];
    let originals = originals.map(|(name, label)| make(name, label));
    // Instead of built node images, which would require real node images.
    let mut baked = Vec::new();
    for node in [NODE, OTHER_NODE] {
        let name = bake::name(&engine, node, &images).await.unwrap();
        let set = name.rsplit_once(':').unwrap().1;
        let labels = [(bake::LABEL, set), (bake::FROM_LABEL, node), (bake::IMAGES_LABEL, &images.join(","))];
        let image = make(&name, &labels.map(|(key, value)| format!("{key}={value}")).join(" "));
        baked.push((set.to_owned(), image));
    }
    let names = [NODE, OTHER_NODE].map(|node| images::of_archive(node, &images));
    let loaded_images = [Removed::image(&names[0]), Removed::image(&names[1])];

    let saved = json(&kindmesh(work, None, &["offline", "save", "a.tar", "--output", "json"]));
    for (index, name) in names.iter().enumerate() {
        assert_eq!(saved["contents"]["nodeImages"][index]["name"], name.as_str());
    }
    assert_eq!(saved["bytes"], std::fs::metadata(work.join("a.tar")).unwrap().len());
    let again = kindmesh(work, None, &["offline", "save", "a.tar"]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(work).unwrap().count(), 3, "other files are left");

    // As on another host: no images in the engine, no cache, and no tools on PATH.
    let sets: Vec<String> = baked.into_iter().map(|(set, _)| set).collect();
    drop(originals);
    std::fs::remove_dir_all(work.join("cache")).unwrap();
    let bin = work.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let client = said_of(Command::new("sh").args(["-c", "command -v docker"]));
    std::os::unix::fs::symlink(client, bin.join("docker")).unwrap();
    let path = bin.to_str();
    assert_ne!(kindmesh(work, path, &["cache", "warm"]).status.code(), Some(0), "it must fail offline");

    let file = std::fs::OpenOptions::new().read(true).write(true).open(work.join("a.tar")).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    flip(&file, middle);
    let refused = kindmesh(work, path, &["offline", "load", "a.tar"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("is damaged: nothing was loaded") && error.contains("blobs/sha256/"), "{error}");
    assert!(
        !docker(&["image", "inspect", &names[0]]).status.success() && !work.join("cache/kindmesh/tools").exists()
    );

    flip(&file, middle);
    let loaded = json(&kindmesh(work, path, &["offline", "load", "a.tar", "--output", "json"]));
    assert_eq!((&loaded["digest"], &loaded["blobs"]), (&saved["digest"], &saved["blobs"]));
    assert_eq!(loaded["imageLoaded"], true);
    assert_eq!(loaded["files"].as_array().unwrap().len(), 4, "{loaded}");
    let label = format!("{{{{index .Config.Labels \"{}\"}}}}", bake::LABEL);
    for (name, set) in names.iter().zip(&sets) {
        assert_eq!(&said(&["image", "inspect", "--format", &label, name]), set);
    }
    let again = json(&kindmesh(work, path, &["offline", "load", "a.tar", "--output", "json"]));
    assert_eq!((&again["imageLoaded"], again["files"].as_array().unwrap().len()), (&Value::Bool(false), 0));

    // Everything that up prepares before it creates clusters: nothing is pulled, built or downloaded.
    let warmed = kindmesh(work, path, &["cache", "warm"]);
    let steps = String::from_utf8_lossy(&warmed.stderr).into_owned();
    assert!(warmed.status.success(), "{steps}");
    assert!(!steps.contains("Images pulled") && !steps.contains("Node image built"), "{steps}");

    // The archive does not fit another spec, and the error says so.
    std::fs::write(work.join("kindmesh.yaml"), spec.replace("v1.36.3", "v1.36.2")).unwrap();
    let other = kindmesh(work, path, &["cache", "warm"]);
    let error = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        !other.status.success() && error.contains(&format!("an archive was loaded for {NODE} with ")),
        "{error}"
    );
    drop(loaded_images);
}

fn said_of(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
}
