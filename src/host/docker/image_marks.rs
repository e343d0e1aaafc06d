//! Images that change under one name, such as those that a developer builds: a label in each node's containerd
//! identifies the loaded one.

use std::collections::BTreeMap;

use anyhow::Context;

use super::image::CTR;
use super::{Engine, is_not_found, node};
use crate::plan::image_names::reference::containerd_name;

/// containerd's label of a loaded image, with its identity in the engine when it was loaded. Its identity on the node
/// cannot be compared: an engine with containerd's image store identifies images differently.
const MARK: &str = "kindmesh.image";

/// Returns the identity of an image in the engine; none if it has no image of that name.
///
/// # Errors
/// The engine's errors.
pub async fn in_engine(engine: &Engine, image: &str) -> anyhow::Result<Option<String>> {
    match engine.docker.inspect_image(image).await {
        Ok(found) => Ok(found.id),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking for the image {image}")),
    }
}

/// Returns the images of a node, by containerd's names, each with its mark.
///
/// # Errors
/// Errors of the engine or containerd, with their message.
pub async fn on_node(engine: &Engine, name: &str) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    Ok(listed(&node::run(engine, name, &[&CTR[..], &["ls"]].concat()).await?))
}

/// Parses containerd's table: the name is the first word of a line, labels are the last.
fn listed(table: &str) -> BTreeMap<String, Option<String>> {
    let row = |line: &str| {
        let name = line.split_whitespace().next()?.to_owned();
        let labels = line.split_whitespace().last()?;
        let mark = labels.split(',').find_map(|label| label.strip_prefix(MARK)?.strip_prefix('='));
        Some((name, mark.map(str::to_owned)))
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Marks an image that was just loaded into a node.
///
/// # Errors
/// As for [`on_node`].
pub async fn mark(engine: &Engine, name: &str, image: &str, identity: &str) -> anyhow::Result<()> {
    let (image, label) = (containerd_name(image), format!("{MARK}={identity}"));
    node::run(engine, name, &[&CTR[..], &["label", &image, &label]].concat()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_table_is_parsed() {
        let table = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
            docker.io/library/orders:dev application/vnd.oci.image.manifest.v1+json sha256:1 4.1 MiB linux/amd64 \
            io.cri-containerd.image=managed,kindmesh.image=sha256:ab\n\
            registry.k8s.io/pause:3.10 application/x sha256:2 300.0 KiB linux/amd64 io.cri-containerd.image=managed\n\
            sha256:3 application/x sha256:3 300.0 KiB linux/amd64 -\n";
        let found = listed(table);
        assert_eq!(found["docker.io/library/orders:dev"].as_deref(), Some("sha256:ab"));
        assert_eq!(found["registry.k8s.io/pause:3.10"], None);
        assert_eq!(found.len(), 3);
    }
}
