use super::*;
use crate::base::error;
use crate::lifecycle::offline::image::tests::exported;

const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","rootfs":{}}"#;
const OTHER: &str = r#"{"architecture":"amd64","os":"linux","rootfs":{"other":1}}"#;

fn contents() -> Contents {
    Contents {
        kindmesh: "0.1.0".into(),
        platform: "linux/amd64".into(),
        host: "linux-amd64".into(),
        istio: vec!["1.31.1".into()],
        node_images: vec![node_image("36"), node_image("35")],
    }
}

fn node_image(minor: &str) -> NodeImage {
    NodeImage {
        node_image: format!("kindest/node:v1.{minor}.4"),
        images: vec!["docker.io/istio/pilot:1.31.1".into()],
        name: format!("kindmesh.local/offline:0123456789{minor}"),
        set: format!("ba98765432{minor}"),
    }
}

/// Two images with one layer in common.
fn images() -> [Exported; 2] {
    [CONFIG, OTHER].map(|config| Exported::read(exported(config)).unwrap())
}

fn try_to_write(path: &Path, stopped: bool) -> anyhow::Result<Saved> {
    write(path, &images(), &[], None, contents(), &AtomicBool::new(stopped))
}

fn written(path: &Path) -> Saved {
    try_to_write(path, false).unwrap()
}

fn open(path: &Path) -> anyhow::Result<Verified> {
    Verified::open(path, &|_, _| ())
}

#[test]
fn written_blobs_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let saved = written(&path);
    // Each image's manifest and configuration, and two layers; the artifact's manifest and configuration.
    assert_eq!(saved.blobs, 8);
    assert_eq!(saved.bytes, std::fs::metadata(&path).unwrap().len());
    let archive = open(&path).unwrap();
    assert_eq!((archive.len(), layout::digest(&archive.index)), (8, saved.digest));
    let parts = parts(&path, &archive).unwrap();
    assert_eq!(parts.contents, contents());
    assert_eq!(parts.images, images().map(|image| image.manifest));
    assert_eq!(parts.artifact.layers, []);
}

#[test]
fn same_content_gives_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
    written(&a);
    written(&b);
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap());
}

#[test]
fn existing_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    std::fs::write(&path, "mine").unwrap();
    assert!(try_to_write(&path, false).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn canceled_file_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(try_to_write(&folder.path().join("a.tar"), true).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn other_layouts_and_missing_blobs_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    written(&path);
    let index = open(&path).unwrap().index;
    for (index, code) in
        [(index.as_slice(), 1), (br#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#, 2), (b"{}", 1)]
    {
        let file = std::fs::File::create(&path).unwrap();
        Writer::new(file, index).unwrap().finish().unwrap();
        let archive = open(&path).unwrap();
        let error = parts(&path, &archive).map(|_| ()).unwrap_err();
        assert_eq!(error::exit_code(&error), code, "{error:#}");
    }
}
