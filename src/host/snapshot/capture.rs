//! Takes a node: an archive of the files that differ from its image and of the kubelet's configuration and keys, and the records
//! of its etcd.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bollard::models::ChangeType;
use sha2::{Digest, Sha256};

use super::{Archive, Node, container, etcd};
use crate::base::blocking::elsewhere;
use crate::base::digest;
use crate::base::error::Error;
use crate::host::docker::image::CTR;
use crate::host::docker::{Engine, node};
use crate::host::state;

/// What the engine mounts, what a node's entrypoint creates at its first start, and the marker of a complete node.
const NOT_KEPT: [&str; 14] = [
    "/dev",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/var",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/kindmesh/created",
    "/etc/machine-id",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/kind/product_uuid",
];

/// The volume's files that are kept besides etcd's: the kubelet's configuration and keys, without its pods.
const KUBELET: &str = "config.yaml instance-config.yaml kubeadm-flags.env pki";

/// Writes a tar archive to standard output: of the files named by the arguments, of the kubelet's files, and of the executable
/// of etcd if it runs here. If there are volumes, all pods are frozen until the end.
const SCRIPT: &str = r#"
set -eu
work=/run/kindmesh-snapshot
restore=$work/kind/kindmesh-restore
volumes=var/local-path-provisioner
pods() { # pods THAWED|FROZEN 0|1: cgroup v1, v2
  find /sys/fs/cgroup -maxdepth 4 -type d '(' -name kubepods -o -name kubelet-kubepods.slice ')' | while read -r group; do
    if [ -e "$group/freezer.state" ]; then echo "$1" >"$group/freezer.state" || true; fi
    if [ -e "$group/cgroup.freeze" ]; then echo "$2" >"$group/cgroup.freeze" || true; fi
  done
}
finish() {
  pods THAWED 0
  rm -rf $work
}
trap finish EXIT
trap 'exit 129' HUP PIPE TERM
kubelet=$1
shift
rm -rf $work
mkdir -p $work/var/lib/kubelet
mkdir -p -m 700 $restore
more=()
if [ -n "$(ls -A "/$volumes" 2>/dev/null)" ] && ! mountpoint -q "/$volumes"; then
  pods FROZEN 1
  more=("$volumes")
fi
if [ -e /etc/kubernetes/manifests/etcd.yaml ]; then
  # The oldest: a pod of a user may run etcd, too.
  etcd=$(pgrep -o -f '^etcd .*--data-dir=/var/lib/etcd( |$)') || { echo "etcd does not run" >&2; exit 1; }
  cp "/proc/$etcd/exe" $restore/etcd
fi
for name in $kubelet; do
  [ ! -e "/var/lib/kubelet/$name" ] || cp -a "/var/lib/kubelet/$name" $work/var/lib/kubelet/
done
tar --create --directory=$work var kind --directory=/ "${more[@]}" --no-recursion -- "$@"
"#;

/// Writes all records of etcd at one revision to standard output, as JSON: 1 MB in 0.1 s for a cluster of an environment.
const RECORDS: [&str; 10] = [
    "curl",
    "-fsS",
    "--cacert",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "--cert",
    "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    "--key",
    "/etc/kubernetes/pki/etcd/healthcheck-client.key",
    // From the first key to the last one.
    r#"-d{"key":"AA==","range_end":"AA=="}"#,
    "https://127.0.0.1:2379/v3/kv/range",
];

/// Writes an archive of these images to standard output. An image whose layers were discarded is left out: Kubernetes pulled
/// it, and will pull it again. Without `--local`, ctr 2.1 may exit successfully before a large archive is complete.
const IMAGES: &str = r#"
set -eu
local=()
if ctr --namespace k8s.io images export --help | grep -q -e --local; then local=(--local); fi
complete=$(ctr --namespace k8s.io images check | awk '$4 == "complete" {print $1}')
names=()
for name; do
  if grep -qxF "$name" <<<"$complete"; then names+=("$name"); fi
done
[ ${#names[@]} = 0 ] || ctr --namespace k8s.io images export "${local[@]}" - "${names[@]}"
"#;

/// How long one node may take. Measured: a second, without large volumes and images.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Takes a node, which must run, into `folder`.
///
/// # Errors
/// Errors of the engine or the file system, or the message of a command in the node.
pub async fn node(engine: &Engine, name: &str, folder: &Path) -> anyhow::Result<Node> {
    let what = || format!("taking a snapshot of node {name}");
    let inspected = engine.docker.inspect_container(name, None).await.with_context(what)?;
    let changes = engine.docker.container_changes(name).await.with_context(what)?.unwrap_or_default();
    let mounts = inspected.mounts.iter().flatten().filter_map(|mount| mount.destination.as_deref());
    let mounts: Vec<&str> = mounts.collect();
    // `_2` is a deletion.
    let kept = changes.iter().filter(|change| change.kind != ChangeType::_2 && is_kept(&change.path, &mounts));
    let mut command = vec!["bash", "-c", SCRIPT, "bash", KUBELET];
    command.extend(kept.map(|change| change.path.trim_start_matches('/')));
    let container = container::kept(&inspected)?;
    let records = async {
        if !container::is_control_plane(&container) {
            return Ok(None);
        }
        let written = write(engine, name, &RECORDS, folder, format!("{name}.etcd.json")).await?;
        let path = folder.join(&written.file);
        // Now, not when the original may be gone.
        elsewhere(move || etcd::Records::read(&std::fs::read(path)?)).await?;
        anyhow::Ok(Some(written))
    };
    // First: with volumes, etcd is frozen afterwards.
    let records = records.await.with_context(what)?;
    let archive = archive(engine, name, &command, folder, format!("{name}.tar")).await.with_context(what)?;
    Ok(Node { name: name.to_owned(), container, archive, records, images: None })
}

/// Takes the images of a node that are not in `known`, which has containerd's names, or prefixes of them that end with `/`. None
/// if there are none.
///
/// # Errors
/// As for [`node`].
pub async fn images(
    engine: &Engine,
    name: &str,
    known: &[String],
    folder: &Path,
) -> anyhow::Result<Option<Archive>> {
    let what = || format!("saving the images of node {name}");
    let list = node::run(engine, name, &[&CTR[..], &["ls", "-q"]].concat()).await.with_context(what)?;
    let is = |image: &str, known: &str| image == known || (known.ends_with('/') && image.starts_with(known));
    let is_known = |image: &&str| image.starts_with("sha256:") || known.iter().any(|known| is(image, known));
    let images: Vec<&str> = list.lines().filter(|image| !is_known(image)).collect();
    if images.is_empty() {
        return Ok(None);
    }
    let command = [&["bash", "-c", IMAGES, "bash"], &images[..]].concat();
    let file = format!("{name}.images.tar");
    let archive = archive(engine, name, &command, folder, file).await.with_context(what)?;
    let empty = std::fs::metadata(folder.join(&archive.file)).with_context(what)?.len() == 0;
    Ok((!empty).then_some(archive))
}

/// Two blocks of zeros, which end every tar archive.
const END: [u8; 1024] = [0; 1024];

/// Writes the output of a command in a node, an archive or nothing, to a file.
async fn archive(
    engine: &Engine,
    name: &str,
    command: &[&str],
    folder: &Path,
    file: String,
) -> anyhow::Result<Archive> {
    let written = write(engine, name, command, folder, file).await?;
    let file = File::open(folder.join(&written.file))?;
    let size = file.metadata()?.len();
    let mut end = [1; END.len()];
    if size >= END.len() as u64 {
        file.read_exact_at(&mut end, size - END.len() as u64)?;
    }
    if size > 0 && end != END {
        return Err(Error::environment(format!("the archive {} of node {name} is incomplete", written.file))
            .evidence(format!("{size} bytes, without the end of an archive"))
            .hint("run the same command again")
            .into());
    }
    Ok(written)
}

/// Writes the output of a command in a node to a file.
async fn write(
    engine: &Engine,
    name: &str,
    command: &[&str],
    folder: &Path,
    file: String,
) -> anyhow::Result<Archive> {
    let mut writer = Hashed { file: state::begin_private(&folder.join(&file))?, sha256: Sha256::new() };
    node::run_into(engine, name, command, &mut writer, TIMEOUT).await?;
    writer.file.sync_all()?;
    Ok(Archive { file, sha256: digest::hex(&writer.sha256.finalize()) })
}

/// Whether a changed file of a container with these mounts is kept.
fn is_kept(path: &str, mounts: &[&str]) -> bool {
    // `/lib` is a link to `/usr/lib`: kind mounts `/lib/modules`, and the engine reports a change of `/usr/lib/modules`.
    let real = path.strip_prefix("/usr").filter(|rest| rest.starts_with("/lib/"));
    let is_in = |folder: &&str| {
        let within =
            |path: &str| path.strip_prefix(*folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        within(path) || real.is_some_and(within)
    };
    !NOT_KEPT.iter().chain(mounts).any(is_in)
}

/// Writes a file and computes its digest.
struct Hashed {
    file: File,
    sha256: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_engine_are_not_kept() {
        for path in ["/etc/kubernetes/pki/ca.key", "/kind/kubeadm.conf", "/etc", "/variable"] {
            assert!(is_kept(path, &["/data", "/lib/modules"]), "{path}");
        }
        for path in
            ["/var", "/var/lib/x", "/etc/hosts", "/run", "/kind/product_uuid", "/data/x", "/usr/lib/modules"]
        {
            assert!(!is_kept(path, &["/data", "/lib/modules"]), "{path}");
        }
    }
}
