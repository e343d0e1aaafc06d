//! References to images: their registry, and the names under which engines and nodes keep them. Pure.

/// The repository of tags made for images that are named by their digest; never pulled.
const BY_DIGEST: &str = "kindmesh.local/by-digest";

/// The registry of an image name, by the docker client's rule: the first part is one if it looks like a host.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// An image name with a tag or digest. Without one, Docker would pull and export every tag there is.
pub fn tagged(image: &str) -> String {
    let has = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    format!("{image}{}", if has { "" } else { ":latest" })
}

/// The name under which containerd keeps an image: with its registry, and `library/` on Docker Hub; with the
/// digest alone where there is one.
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

/// The name under which an image travels. An exported archive has none for an image named by its digest
/// (moby#43570), so such a one gets a tag, which its digest decides.
pub(crate) fn travel_name(image: &str) -> String {
    match image.rsplit_once("@sha256:") {
        Some((_, digest)) => format!("{BY_DIGEST}:{digest}"),
        None => tagged(image),
    }
}

/// Of images that are named by their digest: the name under which each travels, and the one it is to have.
pub(crate) fn names_by_digest(images: &[String]) -> Vec<(String, String)> {
    let by_digest = images.iter().filter(|image| image.contains('@'));
    by_digest.map(|image| (travel_name(image), containerd_name(image))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed";

    #[test]
    fn names_as_containerd_keeps_them() {
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
    fn what_is_pulled_and_exported_is_one_image() {
        assert_eq!(tagged("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(tagged("a:1"), "a:1");
        assert_eq!(travel_name("a"), "a:latest");
        let by_digest = format!("registry.example/a:1@{DIGEST}");
        assert_eq!(tagged(&by_digest), by_digest);
        assert_eq!(travel_name(&by_digest), DIGEST.replace("sha256", "kindmesh.local/by-digest"));
    }
}
