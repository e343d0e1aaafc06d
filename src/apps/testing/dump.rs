//! The evidence of a failed test: a summary in the test's output, everything in a directory.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};

use super::{Namespace, Side, shared};
use crate::cluster::mesh::envoy;
use crate::cluster::pods as states;
use crate::diagnose::bundle::namespace;

/// The variable with the directory of evidence.
const FOLDER_VARIABLE: &str = "KINDMESH_DUMP";
/// How long gathering may take: a failed test must end.
const TIMEOUT: Duration = Duration::from_secs(45);
/// How much of each log is in the test's output, in lines.
const LINES: i64 = 15;

/// Writes the state of a test's namespace to a directory, prints a summary, and returns the path.
pub(super) async fn dump(namespace: &Namespace, failure: &str) -> String {
    let folder = folder(namespace.name());
    let look = async {
        let mut text = format!("the test failed\n{failure}\n");
        for side in &namespace.mesh().sides {
            short(namespace, side, &mut text).await;
        }
        let clients = namespace.mesh().clients();
        let (files, missing) = namespace::files(&clients, namespace.name()).await;
        (text, files, missing)
    };
    let Ok((text, files, missing)) = tokio::time::timeout(TIMEOUT, look).await else {
        return format!("nothing could be collected within {} s", TIMEOUT.as_secs());
    };
    let mut all = text.clone();
    for line in &missing {
        let _ = writeln!(all, "missing: {line}");
    }
    let written = files.iter().map(|(path, content)| (path.clone(), content.as_slice()));
    let written = written.chain([("failure.txt".to_owned(), all.as_bytes())]).try_for_each(|(path, content)| {
        let path = folder.join(path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, content)
    });
    let kept = match shared::keeps() {
        true => format!("; namespace {} is kept", namespace.name()),
        false => String::new(),
    };
    let said = match written {
        Ok(()) => format!("evidence written to {} ({} files){kept}", folder.display(), files.len() + 1),
        Err(error) => format!("the evidence could not be written to {}: {error}{kept}", folder.display()),
    };
    show(&format!("{text}{said}"));
    said
}

/// Returns the directory for a namespace's evidence: `KINDMESH_DUMP`, else `target/kindmesh` of the tested
/// package.
fn folder(namespace: &str) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let target = || set("CARGO_TARGET_DIR").or_else(|| Some(set("CARGO_MANIFEST_DIR")?.join("target")));
    let base = set(FOLDER_VARIABLE).or_else(|| Some(target()?.join("kindmesh")));
    base.unwrap_or_else(|| std::env::temp_dir().join("kindmesh")).join(namespace)
}

#[expect(clippy::print_stderr, reason = "the test harness keeps it, and shows it with the test that failed")]
fn show(text: &str) {
    eprintln!("{text}");
}

/// Returns a summary of one cluster: pods, warnings, and the ends of logs.
async fn short(namespace: &Namespace, side: &Side, text: &mut String) {
    let pods: Api<Pod> = Api::namespaced(side.client.clone(), namespace.name());
    let _ = writeln!(text, "--- {} ---", side.name);
    let found = match pods.list(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(error) => {
            let _ = writeln!(text, "pods could not be listed: {error}");
            return;
        }
    };
    for pod in &found {
        let state = if states::is_ready(pod) { "ready".into() } else { states::state(pod).join("; ") };
        let _ = writeln!(text, "pod {}: {}", pod.name_any(), if state.is_empty() { "not ready" } else { &state });
    }
    let events: Api<Event> = Api::namespaced(side.client.clone(), namespace.name());
    for event in events.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
        if event.type_.as_deref() != Some("Normal") {
            let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
            let about = event.involved_object.name.unwrap_or_default();
            let _ = writeln!(text, "event {about}: {reason}: {}", message.trim());
        }
    }
    for pod in &found {
        let containers = pod.spec.iter().flat_map(|spec| {
            let init = spec.init_containers.iter().flatten();
            init.chain(&spec.containers).map(|container| container.name.clone())
        });
        for container in containers.filter(|name| name != "istio-init" && name != "istio-validation") {
            let parameters =
                LogParams { container: Some(container.clone()), tail_lines: Some(LINES), ..LogParams::default() };
            let log = pods.logs(&pod.name_any(), &parameters).await.unwrap_or_default();
            // Of a proxy only its access log: the rest is about its start.
            let lines = log.lines().filter(|line| container != envoy::CONTAINER || line.starts_with('['));
            for line in lines {
                let _ = writeln!(text, "log {} {container}: {line}", pod.name_any());
            }
        }
    }
}
