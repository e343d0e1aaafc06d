//! The engine's resources: memory, CPUs, disk.

use std::path::Path;

use super::check::{Check, Judgement, Severity, gigabytes, good};
use super::facts::{Facts, Space};
use super::{inotify, limits};

/// What a node writes, at least and usually: its containerd stores and unpacks the images of Kubernetes, Istio and
/// the samples. Measured: 1.85 GB.
const DISK_A_NODE: (u64, u64) = (1_500_000_000, 1_900_000_000);
/// The size of the images on the engine, if it lacks some of them, at least and usually. Measured: 1.4 GB.
const DISK_IMAGES: (u64, u64) = (1_200_000_000, 2_000_000_000);
/// What is written over time, and what an existing environment still needs.
const DISK_SPARE: u64 = 1_000_000_000;
/// The size of the archive of images that is exported for the nodes. Measured: 0.4 GB.
const DISK_ARCHIVE: u64 = 700_000_000;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "memory.low",
        finds: "the engine has less memory than the clusters use (blocks) or than is recommended (warns)",
        tested: "recorded: an engine's responses, modified",
        judge: memory,
    },
    Check {
        id: "memory.used",
        finds: "other programs use so much of the engine's memory that the clusters do not fit",
        tested: "real: the test lab's engine with another /proc/meminfo mounted",
        judge: memory_used,
    },
    Check {
        id: "cpu.low",
        finds: "the engine has a single CPU",
        tested: "recorded: an engine's responses, modified",
        judge: processors,
    },
    Check {
        id: "disk.low",
        finds: "the engine's disk has no space for nodes and images (blocks), or little (warns)",
        tested: "real: the test lab's engine with a small disk mounted over its directory",
        judge: disk,
    },
    Check {
        id: "disk.state",
        finds: "the disk with the state directory has no space for the archive of images",
        tested: "real: a state directory on a small disk",
        judge: state_disk,
    },
    inotify::CHECK,
    limits::CHECK,
];

/// A shortage does not block the repair of an existing environment.
fn blocks(facts: &Facts) -> Severity {
    if facts.wanted.exists { Severity::Warns } else { Severity::Blocks }
}

fn memory(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = &facts.engine else { return good() };
    let (used, wanted) = (facts.wanted.size.memory, facts.wanted.size.memory_wanted);
    if engine.memory >= wanted {
        return good();
    }
    let what = format!("the engine has {} of memory", gigabytes(engine.memory));
    let evidence = format!("docker info: Total Memory {} bytes", engine.memory);
    let cure = format!("{}; or use fewer clusters", more_memory(&engine.system));
    match engine.memory < used {
        true => Judgement::found(
            blocks(facts),
            what,
            evidence,
            format!("{} with mesh and samples use {} when idle", facts.clusters(), gigabytes(used)),
            cure,
        ),
        false => Judgement::found(
            Severity::Warns,
            what,
            evidence,
            format!(
                "for {}, {} is recommended; with less, pods are killed under load",
                facts.clusters(),
                gigabytes(wanted)
            ),
            cure,
        ),
    }
}

/// Returns how to give the engine more memory.
fn more_memory(system: &str) -> &'static str {
    match system {
        "Docker Desktop" => "raise its limit: Docker Desktop, Settings, Resources, Memory limit",
        _ => "give the engine more memory (with Colima: colima stop && colima start --memory 6)",
    }
}

fn memory_used(facts: &Facts) -> Vec<Judgement> {
    let Some(available) = facts.same_kernel().and_then(|host| host.memory_available) else { return good() };
    let used = facts.wanted.size.memory;
    if facts.wanted.exists || available >= used {
        return good();
    }
    Judgement::found(
        Severity::Warns,
        format!("only {} of memory is available", gigabytes(available)),
        format!("/proc/meminfo: MemAvailable {} kB", available / 1024),
        format!("{} with mesh and samples use {} when idle", facts.clusters(), gigabytes(used)),
        "check what uses it: ps -eo rss,comm --sort=-rss | head; other environments: kindmesh list",
    )
}

fn processors(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = facts.engine.as_ref().filter(|engine| engine.cpus == 1) else { return good() };
    Judgement::found(
        Severity::Warns,
        "the engine has a single CPU",
        "docker info: CPUs: 1",
        "with a single CPU, kindmesh up takes minutes, and waits may time out",
        format!(
            "give {} more CPUs, at least two (with Colima: colima stop && colima start --cpu 4), and allow more time: \
                kindmesh up --timeout 30m",
            if engine.system == "Docker Desktop" { "Docker Desktop" } else { "the engine" }
        ),
    )
}

fn disk(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = &facts.engine else { return good() };
    let Some(Space { folder, free }) = &facts.disk else {
        return Judgement::unknown(format!(
            "the engine's disk: its directory {} is not on this host, and the engine does not report its size; \
                see docker system df",
            engine.folder
        ));
    };
    let images = if facts.images.is_empty() { (0, 0) } else { DISK_IMAGES };
    if let Some(disk) = &facts.image_disk {
        let nodes = (facts.wanted.nodes * DISK_A_NODE.0, facts.wanted.nodes * DISK_A_NODE.1);
        let of_nodes = format!("the volumes of {} nodes take {}", facts.wanted.nodes, gigabytes(nodes.1));
        let of_images = format!(
            "containerd stores the engine's images there; those that are missing take {}",
            gigabytes(images.1)
        );
        let mut all = on_disk(facts, (folder, *free), nodes, ("the engine's disk", of_nodes));
        // What has been pulled and unpacked needs no more space.
        if images.1 > 0 {
            all.extend(on_disk(
                facts,
                (&disk.folder, disk.free),
                images,
                ("the disk of the engine's images", of_images),
            ));
        }
        return all;
    }
    let least = facts.wanted.nodes * DISK_A_NODE.0 + images.0;
    let wanted = facts.wanted.nodes * DISK_A_NODE.1 + images.1;
    let consequence = format!("{} nodes and their images take {}", facts.wanted.nodes, gigabytes(wanted));
    on_disk(facts, (folder, *free), (least, wanted), ("the engine's disk", consequence))
}

/// Judges the free space of the disk with a directory: what is written there, at least and usually, in bytes.
fn on_disk(
    facts: &Facts,
    (folder, free): (&Path, u64),
    (least, wanted): (u64, u64),
    (disk, consequence): (&str, String),
) -> Vec<Judgement> {
    let severity = match free {
        free if facts.wanted.exists && free >= DISK_SPARE => return good(),
        free if free < least => blocks(facts),
        free if free < wanted + DISK_SPARE => Severity::Warns,
        _ => return good(),
    };
    Judgement::found(
        severity,
        format!("{disk} has {} free", gigabytes(free)),
        format!("free space of the disk with {}", folder.display()),
        consequence,
        "check what uses it: docker system df; delete what is unused: docker system prune",
    )
}

fn state_disk(facts: &Facts) -> Vec<Judgement> {
    let Some(state) = facts.state.as_ref().filter(|state| state.space.free < DISK_ARCHIVE) else { return good() };
    Judgement::found(
        blocks(facts),
        format!("the disk with the state directory has {} free", gigabytes(state.space.free)),
        format!("free space of the disk with {}", state.space.folder.display()),
        format!("images for the nodes are stored there temporarily: up to {}", gigabytes(DISK_ARCHIVE)),
        format!(
            "free some space: du -xh {} | sort -h | tail; or set XDG_STATE_HOME to a directory on another disk",
            state.space.folder.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor::facts::RegistryAnswer;
    use crate::diagnose::doctor::judge;
    use crate::diagnose::doctor::testing::{engine, found, golden, good, missing_image, only};

    #[test]
    fn low_memory_blocks_only_new_environments() {
        let mut facts = good();
        engine(&mut facts).memory = 2_000_000_000;
        facts.host.memory = 2_000_000_000;
        golden("memory_low", &facts);
        engine(&mut facts).memory = 1_000_000_000;
        facts.host.memory = 1_000_000_000;
        golden("memory_too_low", &facts);
        facts.wanted.exists = true;
        assert_eq!(only(&facts, "memory.low").severity, Severity::Warns);
    }

    #[test]
    fn memory_of_others_counts_only_for_a_new_environment() {
        let mut facts = good();
        facts.host.memory_available = Some(900_000_000);
        golden("memory_used", &facts);
        facts.wanted.exists = true;
        assert_eq!(found(&facts), "");
    }

    #[test]
    fn one_processor_is_slow() {
        let mut facts = good();
        engine(&mut facts).cpus = 1;
        golden("one_processor", &facts);
    }

    #[test]
    fn disk_check_counts_only_missing_data() {
        let mut facts = good();
        facts.disk.as_mut().unwrap().free = 4_500_000_000;
        assert_eq!(only(&facts, "disk.low").severity, Severity::Warns);
        facts.images = vec![missing_image(RegistryAnswer::There(Vec::new()))];
        facts.disk.as_mut().unwrap().free = 4_000_000_000;
        golden("disk_low", &facts);
        facts.images.clear();
        assert_eq!(only(&facts, "disk.low").severity, Severity::Warns);
        facts.disk.as_mut().unwrap().free = 2_900_000_000;
        assert_eq!(only(&facts, "disk.low").severity, Severity::Blocks);
        facts.wanted.exists = true;
        assert_eq!(found(&facts), "");
        facts.disk.as_mut().unwrap().free = 1_000;
        assert_eq!(only(&facts, "disk.low").severity, Severity::Warns);
        facts = good();
        facts.state.as_mut().unwrap().space.free = 100_000_000;
        golden("disk_state", &facts);
    }

    #[test]
    fn images_may_be_on_another_disk() {
        let mut facts = good();
        facts.images = vec![missing_image(RegistryAnswer::There(Vec::new()))];
        facts.image_disk = Some(Space { folder: "/var/lib/containerd".into(), free: 1_000_000_000 });
        golden("disk_images", &facts);
        // The directory of the engine needs space for the volumes only.
        facts.image_disk.as_mut().unwrap().free = 50_000_000_000;
        facts.disk.as_mut().unwrap().free = 4_900_000_000;
        assert_eq!(found(&facts), "");
        facts.disk.as_mut().unwrap().free = 2_000_000_000;
        assert_eq!(only(&facts, "disk.low").severity, Severity::Blocks);
    }

    #[test]
    fn remote_engine_ignores_facts_of_the_host() {
        let mut facts = good();
        engine(&mut facts).kernel = "6.6.0-linuxkit".into();
        (facts.host.watches, facts.host.memory_available) = (Some(1), Some(1));
        facts.disk = None;
        let report = judge(&facts);
        assert_eq!(report.findings, []);
        assert_eq!(report.unknown.len(), 2, "{:?}", report.unknown);
    }
}
