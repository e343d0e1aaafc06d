//! The facts about the host's kernel, from `/proc`.

use std::path::Path;
use std::str::FromStr;

use super::facts::{Host, Space};

/// Where the kernel reports them.
pub(super) const PROC: &str = "/proc";

/// Reads the facts below `proc`.
pub(super) fn look(proc: &Path) -> Host {
    let read = |path: &str| std::fs::read_to_string(proc.join(path)).unwrap_or_default();
    let memory = read("meminfo");
    Host {
        name: read("sys/kernel/hostname").trim().to_owned(),
        kernel: read("sys/kernel/osrelease").trim().to_owned(),
        memory: kilobytes(&memory, "MemTotal:").unwrap_or_default(),
        memory_available: kilobytes(&memory, "MemAvailable:"),
        watches: number(&read("sys/fs/inotify/max_user_watches")),
        watchers: number(&read("sys/fs/inotify/max_user_instances")),
        forwarding: number::<u8>(&read("sys/net/ipv4/ip_forward")).map(|on| on != 0),
        filters_bridges: number::<u8>(&read("sys/net/bridge/bridge-nf-call-iptables")).map(|on| on != 0),
        neighbours: number(&read("sys/net/ipv4/neigh/default/gc_thresh3")),
        connections: number(&read("sys/net/netfilter/nf_conntrack_max")),
        container: container(&read("self/cgroup"), |path| Path::new(path).exists()),
        interfaces: read("net/dev")
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect(),
    }
}

/// Returns what shows that this process runs in a container: a file that the container engine or Kubernetes creates, or its
/// cgroup.
fn container(cgroup: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
    const FILES: [&str; 3] =
        ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io/serviceaccount/token"];
    const CGROUPS: [&str; 3] = ["/docker/", "/kubepods", "/libpod-"];
    let file = FILES.into_iter().find(|file| exists(file)).map(str::to_owned);
    let of_container = |line: &&str| CGROUPS.iter().any(|name| line.contains(name));
    file.or_else(|| Some(format!("cgroup {}", cgroup.lines().find(of_container)?)))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// Returns the value of a line of `meminfo`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(number::<u64>(line.trim().trim_end_matches("kB"))? * 1024)
}

/// Returns the free space of a directory's disk.
pub(super) fn space(folder: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(Space { folder: folder.to_owned(), free: found.f_bavail * found.f_frsize })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_facts_are_read_and_missing_ones_are_unknown() {
        let proc = tempfile::tempdir().unwrap();
        let container = super::container("", |path| Path::new(path).exists());
        assert_eq!(look(proc.path()), Host { container: container.clone(), ..Host::default() });
        for (path, text) in [
            ("meminfo", "MemTotal:       24683656 kB\nMemFree:        1 kB\nMemAvailable:   22938000 kB\n"),
            ("sys/kernel/hostname", "vm\n"),
            ("sys/kernel/osrelease", "6.18.44\n"),
            ("sys/fs/inotify/max_user_watches", "8192\n"),
            ("sys/fs/inotify/max_user_instances", "128\n"),
            ("sys/net/ipv4/ip_forward", "0\n"),
            ("sys/net/ipv4/neigh/default/gc_thresh3", "1024\n"),
            ("sys/net/netfilter/nf_conntrack_max", "262144\n"),
            ("net/dev", "Inter-|   Receive\n face |bytes\n    lo: 1 2\ndocker0: 3 4\n"),
        ] {
            let path = proc.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let seen = Host {
            name: "vm".into(),
            kernel: "6.18.44".into(),
            memory: 24683656 * 1024,
            memory_available: Some(22938000 * 1024),
            watches: Some(8192),
            watchers: Some(128),
            forwarding: Some(false),
            filters_bridges: None,
            neighbours: Some(1024),
            connections: Some(262_144),
            container,
            interfaces: vec!["lo".into(), "docker0".into()],
        };
        assert_eq!(look(proc.path()), seen);
    }

    #[test]
    fn containers_are_recognized_by_their_files_or_their_cgroup() {
        let nothing = |_: &str| false;
        assert_eq!(container("0::/user.slice/session-1.scope\n", nothing), None);
        assert_eq!(container("0::/init.scope\n", |path| path == "/.dockerenv").as_deref(), Some("/.dockerenv"));
        let pod = container("1:cpu:/kubepods/besteffort/pod1\n", nothing);
        assert_eq!(pod.as_deref(), Some("cgroup 1:cpu:/kubepods/besteffort/pod1"));
    }
}
