//! The environments' files, and leftovers of former environments.

use super::check::{Check, Judgement, Severity, gigabytes, good};
use super::facts::Facts;
use super::fix::Fix;
use crate::base::hint::down_hint;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "state.read-only",
        finds: "the state directory is not writable",
        tested: "real: a directory on a disk that is mounted read-only",
        judge: read_only,
    },
    Check {
        id: "state.readable",
        finds: "other users can read an environment's keys",
        tested: "real: key files that others may read",
        judge: readable,
    },
    Check {
        id: "leftovers.networks",
        finds: "an environment has a Docker network but no nodes, and no command is running for it",
        tested: "real: a Docker network with kindmesh's labels",
        judge: networks,
    },
    Check {
        id: "leftovers.files",
        finds: "an environment has files for this engine, but nothing on it",
        tested: "real: files of an environment that no longer exists",
        judge: files,
    },
    Check {
        id: "leftovers.images",
        finds: "sample images of earlier executables take half a gigabyte or more",
        tested: "recorded: an engine's responses, modified",
        judge: images,
    },
];

/// The total size, in bytes, from which old sample images are reported: about ten images.
const IMAGES: u64 = 500_000_000;

fn read_only(facts: &Facts) -> Vec<Judgement> {
    let Some(state) = facts.state.as_ref().filter(|state| !state.writable) else { return good() };
    let folder = state.space.folder.display();
    Judgement::found(
        Severity::Blocks,
        format!("{folder} is not writable"),
        "no write access: the file system is read-only, or the directory belongs to another user",
        "the environment's keys, kubeconfig and spec cannot be stored",
        format!("check the owner: ls -ld {folder}; or set XDG_STATE_HOME to another directory"),
    )
}

fn readable(facts: &Facts) -> Vec<Judgement> {
    let mut all: Vec<Judgement> = Vec::new();
    for found in facts.left.readable.chunk_by(|(one, ..), (other, ..)| one == other) {
        let files: Vec<_> = found.iter().map(|(_, path, mode)| format!("{mode:04o} {}", path.display())).collect();
        let root = found[0].0.display();
        let readable = Judgement::found(
            Severity::Warns,
            format!("other users can read keys in {root}"),
            files.join(", "),
            "these keys give administrator access to the clusters, or can sign certificates for the mesh",
            format!("chmod -R go= {root}"),
        );
        all.extend(Judgement::fixed_by(
            readable,
            Fix::new(["chmod".into(), "-R".into(), "go=".into(), root.to_string()]),
        ));
    }
    all
}

fn networks(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for (name, networks) in &facts.left.networks {
        all.extend(Judgement::found(
            Severity::Warns,
            format!("environment \"{name}\" has no nodes anymore"),
            format!("Docker networks with its labels: {}; no nodes", networks.join(", ")),
            "its subnet stays in use",
            down_hint(name),
        ));
    }
    all
}

fn files(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for (name, folder) in &facts.left.files {
        all.extend(Judgement::found(
            Severity::Warns,
            format!("environment \"{name}\" is not on the engine anymore, but its files exist"),
            folder.display().to_string(),
            "its keys stay on the disk, and up would use its spec again",
            down_hint(name),
        ));
    }
    all
}

fn images(facts: &Facts) -> Vec<Judgement> {
    let images = &facts.left.images;
    let bytes: u64 = images.iter().map(|(_, size)| size).sum();
    if bytes < IMAGES {
        return good();
    }
    let names: Vec<_> = images.iter().map(|(name, _)| name.as_str()).collect();
    let left = Judgement::found(
        Severity::Warns,
        format!("{} sample images of earlier kindmesh builds take {}", names.len(), gigabytes(bytes)),
        "docker image ls --filter label=kindmesh.sample",
        "nothing uses them: nodes have their own copies",
        format!("docker image rm {}", names.join(" ")),
    );
    Judgement::fixed_by(left, Fix::new(["docker", "image", "rm"].into_iter().chain(names)))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::doctor::testing::{fix, found, golden, good};

    #[test]
    fn unwritable_files_and_readable_keys() {
        let mut facts = good();
        facts.state.as_mut().unwrap().writable = false;
        golden("state_read_only", &facts);
        let mut facts = good();
        let key = |path: &str| ("/s/shop".into(), format!("/s/shop/{path}").into(), 0o644);
        facts.left.readable = vec![key("kubeconfig"), key("trust/root-key.pem")];
        assert_eq!(fix(&facts), "chmod -R go= /s/shop");
        golden("state_readable", &facts);
    }

    #[test]
    fn leftovers_of_environments() {
        let mut facts = good();
        facts.left.networks = vec![("shop".into(), vec!["kindmesh-shop".into(), "kindmesh-shop.east".into()])];
        facts.left.files = vec![("old".into(), "/s/old".into()), ("kindmesh".into(), "/s/kindmesh".into())];
        golden("leftovers", &facts);
    }

    #[test]
    fn large_old_sample_images_are_reported() {
        let mut facts = good();
        facts.left.images = vec![("kindmesh.local/sample:a".into(), 300_000_000)];
        assert_eq!(found(&facts), "");
        facts.left.images.push(("kindmesh.local/sample:b".into(), 300_000_000));
        golden("leftovers_images", &facts);
        assert_eq!(fix(&facts), "docker image rm kindmesh.local/sample:a kindmesh.local/sample:b");
    }
}
