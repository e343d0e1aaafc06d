//! A snapshot that leaves the engine without keys, and the new keys of one that arrives.
//!
//! Without keys means: no private key and no token of Kubernetes or the mesh, and no Secret. On arrival, a cluster gets a new
//! CA; kubeadm creates the other keys at the first start of the control plane (`kind-configs/node/kindmesh-restore`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use tar::{Builder, Entry, EntryType, Header};

use super::{Archive, Cluster, Manifest, Node, container, etcd};
use crate::base::digest;
use crate::base::error::Error;
use crate::host::state;
use crate::host::trust::kubernetes::KubernetesCa;

/// The directories with Kubernetes' keys.
const KEYS: [&str; 2] = ["etc/kubernetes/pki/", "var/lib/kubelet/pki/"];
/// Where kubeadm writes kubeconfigs.
const KUBECONFIGS: &str = "etc/kubernetes/";
/// What ends the first line of a private key.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";
/// How much of a file is searched at once, in bytes.
const CHUNK: usize = 1 << 20;
/// Where kind writes the proxies of the original's host, at each start.
const PROXIES: &str = "etc/systemd/system.conf.d/proxy-default-environment.conf";
/// The records that are keys, or belong to them: Secrets, requests for certificates, the CA for nodes that join, and the CAs that
/// the API server trusts, which it adds to those that are there.
const RECORDS: [&str; 4] = [
    SECRETS,
    "/registry/certificatesigningrequests/",
    "/registry/configmaps/kube-public/cluster-info",
    "/registry/configmaps/kube-system/extension-apiserver-authentication",
];
const SECRETS: &str = "/registry/secrets/";
/// Secrets that Kubernetes, `up` or istiod creates again, by the beginning of their names.
const CREATED_AGAIN: [&str; 5] = [
    "kube-system/bootstrap-token-",
    "istio-system/cacerts",
    "istio-system/istio-ca-secret",
    "istio-system/istio-remote-secret-",
    "istio-system/istio-reader-service-account-istio-remote-secret-token",
];
/// The file that makes a control plane create its keys at its first start.
const NEW_KEYS: &str = "kind/kindmesh-restore/new-keys";

/// What a snapshot without keys does not have and nothing creates again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Secrets of users: `CLUSTER NAMESPACE/NAME`.
    pub secrets: Vec<String>,
    /// Other files with private keys: `NODE PATH`.
    pub files: Vec<String>,
}

/// Copies the nodes of a snapshot without keys. Blocks.
///
/// # Errors
/// If a file of the snapshot cannot be read; otherwise the file system's errors.
pub fn remove(manifest: &Manifest, from: &Path, to: &Path) -> anyhow::Result<(Manifest, Removed)> {
    let (mut manifest, mut removed) = (manifest.clone(), Removed::default());
    for (cluster, saved) in &mut manifest.clusters {
        for node in &mut saved.nodes {
            if let Some(proxy) = container::remove_proxies(&mut node.container) {
                return Err(Error::usage(format!(
                    "node {} was created with a proxy that has a password",
                    node.name
                ))
                .evidence(format!("variable {proxy}: kubeadm wrote its value into manifests and objects"))
                .hint("create the environment with a proxy without a password, or export with --with-keys")
                .into());
            }
            node.archive = rewrite(from, to, &node.archive.file, &mut removed.files, &node.name, &[])?;
            if let Some(images) = &node.images {
                copy(&from.join(&images.file), &to.join(&images.file))?;
            }
            node.records = change(node, from, to, |records| {
                let keys = records.remove(&RECORDS);
                let secrets = keys.iter().filter_map(|key| key.strip_prefix(SECRETS));
                let lost = secrets.filter(|name| !CREATED_AGAIN.iter().any(|again| name.starts_with(again)));
                removed.secrets.extend(lost.map(|name| format!("{cluster} {name}")));
            })?;
        }
    }
    Ok((manifest, removed))
}

/// Copies the nodes of a snapshot without keys, and adds new ones. `objects` returns the objects of a cluster that are replaced
/// for a CA. Blocks.
///
/// # Errors
/// As for [`remove`].
pub fn create(
    manifest: &Manifest,
    from: &Path,
    to: &Path,
    objects: impl Fn(&str, &Cluster, &KubernetesCa) -> anyhow::Result<Vec<Value>>,
) -> anyhow::Result<Manifest> {
    let mut manifest = manifest.clone();
    for (name, cluster) in &mut manifest.clusters {
        cluster.new_keys = true;
        let ca = KubernetesCa::create()?;
        let replaced = objects(name, cluster, &ca)?;
        let control_plane = cluster.nodes.first().map(|node| node.container["Hostname"].clone());
        let control_plane = control_plane.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        for node in &mut cluster.nodes {
            let is_control_plane = container::is_control_plane(&node.container);
            let mut files = vec![("etc/kubernetes/pki/ca.crt", ca.cert_pem())];
            if is_control_plane {
                files.extend([("etc/kubernetes/pki/ca.key", ca.key_pem()), (NEW_KEYS, String::new())]);
            } else {
                let host = node.container["Hostname"].as_str().unwrap_or(&node.name);
                files.push(("etc/kubernetes/kubelet.conf", ca.kubelet_config(host, &control_plane)?));
            }
            // Whoever wrote the file may have left keys in it that they know.
            let mut keys = Vec::new();
            node.archive = rewrite(from, to, &node.archive.file, &mut keys, &node.name, &files)?;
            anyhow::ensure!(keys.is_empty(), "the file contains private keys: {}", keys.join(", "));
            if let Some(images) = &node.images {
                copy(&from.join(&images.file), &to.join(&images.file))?;
            }
            node.records = change(node, from, to, |records| {
                records.remove(&RECORDS);
                records.replace(&replaced);
            })?;
        }
    }
    Ok(manifest)
}

/// Copies the records of a node with changes.
fn change(
    node: &Node,
    from: &Path,
    to: &Path,
    change: impl FnOnce(&mut etcd::Records),
) -> anyhow::Result<Option<Archive>> {
    let Some(saved) = &node.records else { return Ok(None) };
    let path = from.join(&saved.file);
    let response = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut records = etcd::Records::read(&response)?;
    change(&mut records);
    state::write_private(&to.join(&saved.file), &serde_json::to_vec(&records.response())?)?;
    archive(to, &saved.file).map(Some)
}

/// Copies an archive without keys, and adds files of mode 0600.
fn rewrite(
    from: &Path,
    to: &Path,
    name: &str,
    removed: &mut Vec<String>,
    node: &str,
    files: &[(&str, String)],
) -> anyhow::Result<Archive> {
    let source = from.join(name);
    let what = || format!("copying {}", source.display());
    let mut reader = tar::Archive::new(File::open(&source).with_context(what)?);
    let mut builder = Builder::new(state::begin_private(&to.join(name))?);
    let mut dropped = BTreeSet::new();
    for entry in reader.entries_with_seek().with_context(what)? {
        let entry = entry.with_context(what)?;
        let path = normal(&entry.path().with_context(what)?)?;
        let target = match entry.header().entry_type() {
            EntryType::Link => entry.link_name().with_context(what)?.map(|target| normal(&target)).transpose()?,
            // The directories with keys are no links to other ones.
            EntryType::Symlink if is_at_or_above_keys(&path) => anyhow::bail!("/{path} is a link"),
            _ => None,
        };
        if is_key(&path) || target.is_some_and(|target| dropped.contains(&target)) {
            dropped.insert(path);
            continue;
        }
        let place = (entry.raw_file_position(), entry.size());
        if entry.header().entry_type().is_file() && has_key(&source, place).with_context(what)? {
            removed.push(format!("{node} /{path}"));
            dropped.insert(path);
            continue;
        }
        append(&mut builder, entry).with_context(what)?;
    }
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_bytes()).with_context(what)?;
    }
    let file = builder.into_inner().with_context(what)?;
    file.sync_all().with_context(what)?;
    archive(to, name)
}

fn append(builder: &mut Builder<File>, entry: Entry<'_, File>) -> io::Result<()> {
    let mut header = entry.header().clone();
    let path = entry.path()?.into_owned();
    match entry.header().entry_type() {
        EntryType::Link | EntryType::Symlink => {
            let target = entry.link_name()?.unwrap_or_default().into_owned();
            builder.append_link(&mut header, path, target)
        }
        _ => builder.append_data(&mut header, path, entry),
    }
}

/// Returns a path of an archive without `.` and empty parts.
///
/// # Errors
/// If it has a part `..`.
fn normal(path: &Path) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => anyhow::bail!("invalid path {}", path.display()),
            _ => {}
        }
    }
    Ok(parts.join("/"))
}

/// Whether a path is a directory with keys, or one that contains it.
fn is_at_or_above_keys(path: &str) -> bool {
    KEYS.iter().any(|folder| folder.starts_with(&format!("{path}/")))
}

/// Whether a file is a key of Kubernetes, a certificate of one, a kubeconfig, or that with the proxies.
fn is_key(path: &str) -> bool {
    let is_kubeconfig = path.strip_prefix(KUBECONFIGS).is_some_and(|rest| rest.ends_with(".conf"));
    let has_more = |folder: &&str| path.len() > folder.len() && path.starts_with(*folder);
    is_kubeconfig || path == PROXIES || KEYS.iter().any(has_more)
}

/// Whether a part of a file, from an offset and of a size, contains a private key.
fn has_key(path: &Path, (offset, size): (u64, u64)) -> io::Result<bool> {
    let mut file = File::open(path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    let mut content = file.take(size);
    let mut window = Vec::new();
    loop {
        // The end of the last chunk, which may contain the beginning of what is searched.
        window.drain(..window.len().saturating_sub(PRIVATE_KEY.len() - 1));
        if content.by_ref().take(CHUNK as u64).read_to_end(&mut window)? == 0 {
            return Ok(false);
        }
        if window.windows(PRIVATE_KEY.len()).any(|part| part == PRIVATE_KEY) {
            return Ok(true);
        }
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let what = || format!("copying {}", from.display());
    let mut target = state::begin_private(to)?;
    io::copy(&mut File::open(from).with_context(what)?, &mut target).with_context(what)?;
    target.sync_all().with_context(what)
}

fn archive(folder: &Path, file: &str) -> anyhow::Result<Archive> {
    let sha256 = digest::of(File::open(folder.join(file))?).with_context(|| format!("reading {file}"))?;
    Ok(Archive { file: file.to_owned(), sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(path: &Path, files: &[(&str, &[u8])]) {
        let mut builder = Builder::new(File::create(path).unwrap());
        for (path, content) in files {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.finish().unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn no_key_is_copied() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // The mark spans two chunks.
        let mut hidden = vec![b'x'; CHUNK - 5];
        hidden.extend(b"-----BEGIN EC PRIVATE KEY-----");
        let long = format!("etc/{}/file", "x".repeat(150));
        let key = b"-----BEGIN PRIVATE KEY-----".as_slice();
        tar_of(
            &from.path().join("n.tar"),
            &[
                ("etc/kubernetes/pki/sa.key", b"key"),
                ("etc/kubernetes/./pki//ca.key", b"key"),
                ("etc/kubernetes/admin.conf", b"token"),
                ("etc/kubernetes/manifests/etcd.yaml", b"pod"),
                ("var/lib/kubelet/pki/kubelet.crt", b"cert"),
                ("var/lib/kubelet/config.yaml", b"config"),
                ("etc/app/tls.key", key),
                ("var/volume/data", &hidden),
                (&long, b"long"),
            ],
        );
        let mut removed = Vec::new();
        let files = [("etc/kubernetes/pki/ca.crt", "new".to_owned())];
        let archive = rewrite(from.path(), to.path(), "n.tar", &mut removed, "n", &files).unwrap();
        assert_eq!(removed, ["n /etc/app/tls.key", "n /var/volume/data"]);
        let kept = [
            "etc/kubernetes/manifests/etcd.yaml",
            "var/lib/kubelet/config.yaml",
            &long,
            "etc/kubernetes/pki/ca.crt",
        ];
        assert_eq!(names(&to.path().join("n.tar")), kept);
        assert_eq!(archive, super::archive(to.path(), "n.tar").unwrap());
    }

    /// Writes an archive with a link, and copies it without keys.
    fn with_link(kind: EntryType, path: &str, target: &str) -> anyhow::Result<Vec<String>> {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut builder = Builder::new(File::create(from.path().join("n.tar")).unwrap());
        let mut header = Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, "etc/kubernetes/pki/ca.key", io::empty()).unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, path, target).unwrap();
        builder.finish().unwrap();
        rewrite(from.path(), to.path(), "n.tar", &mut Vec::new(), "n", &[])?;
        Ok(names(&to.path().join("n.tar")))
    }

    #[test]
    fn links_to_keys_are_not_copied() {
        let none: [&str; 0] = [];
        assert_eq!(with_link(EntryType::Link, "etc/other", "etc/kubernetes/pki/ca.key").unwrap(), none);
        assert_eq!(with_link(EntryType::Symlink, "etc/other", "x").unwrap(), ["etc/other"]);
        for path in ["etc/kubernetes/pki", "etc/kubernetes", "var/lib/kubelet"] {
            assert!(with_link(EntryType::Symlink, path, "x").is_err(), "{path}");
        }
    }
}
