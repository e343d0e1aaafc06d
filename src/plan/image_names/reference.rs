//! Image references: their registry, and their names on engines and nodes. Pure functions.

/// The repository of tags for images that are referenced by digest; never pulled.
const BY_DIGEST: &str = "kindmesh.local/by-digest";

/// Returns the registry of an image, by the docker client's rule: the first part is a registry if it looks like a host
/// name.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Returns an image reference with a tag or digest. Without one, Docker would pull and export every tag.
pub fn tagged(image: &str) -> String {
    let has = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    format!("{image}{}", if has { "" } else { ":latest" })
}

/// Returns containerd's name for an image: with the registry, and with `library/` on Docker Hub. If the reference has a
/// digest, the tag is dropped.
pub fn containerd_name(image: &str) -> String {
    let path = image.strip_prefix(registry(image)).map_or(image, |rest| rest.trim_start_matches('/'));
    let registry = registry(image);
    let path =
        if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.into() };
    let path = match path.split_once('@') {
        Some((name, digest)) => {
            let last = name.rsplit('/').next().unwrap_or(name);
            let tag = last.split_once(':').map_or(0, |(_, tag)| tag.len() + 1);
            format!("{}@{digest}", &name[..name.len() - tag])
        }
        None => tagged(&path),
    };
    format!("{registry}/{path}")
}

/// Returns the name under which an image is exported. The engine exports an image that is referenced by digest without a
/// name (moby#43570), so such an image gets a tag made from its digest.
pub(crate) fn travel_name(image: &str) -> String {
    match image.rsplit_once("@sha256:") {
        Some((_, digest)) => format!("{BY_DIGEST}:{digest}"),
        None => tagged(image),
    }
}

/// Returns, for each image that is referenced by digest, the name under which it is exported and its final name.
pub(crate) fn names_by_digest(images: &[String]) -> Vec<(String, String)> {
    let by_digest = images.iter().filter(|image| image.contains('@'));
    by_digest.map(|image| (travel_name(image), containerd_name(image))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed";

    #[test]
    fn containerd_names_are_normalized() {
        for (image, name) in [
            ("docker.io/istio/pilot:1.31.1", "docker.io/istio/pilot:1.31.1"),
            ("istio/pilot:1.31.1", "docker.io/istio/pilot:1.31.1"),
            ("alpine", "docker.io/library/alpine:latest"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("kindmesh.lab/pilot:1.31.0", "kindmesh.lab/pilot:1.31.0"),
            ("registry.example/a", "registry.example/a:latest"),
        ] {
            assert_eq!(containerd_name(image), name);
        }
        for (image, name) in [
            ("alpine", "docker.io/library/alpine"),
            ("alpine:3", "docker.io/library/alpine"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b"),
            ("localhost:5000/b", "localhost:5000/b"),
        ] {
            assert_eq!(containerd_name(&format!("{image}@{DIGEST}")), format!("{name}@{DIGEST}"));
        }
    }

    #[test]
    fn exported_image_round_trips() {
        assert_eq!(tagged("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(tagged("a:1"), "a:1");
        assert_eq!(travel_name("a"), "a:latest");
        let by_digest = format!("registry.example/a:1@{DIGEST}");
        assert_eq!(tagged(&by_digest), by_digest);
        assert_eq!(travel_name(&by_digest), DIGEST.replace("sha256", "kindmesh.local/by-digest"));
    }
}
