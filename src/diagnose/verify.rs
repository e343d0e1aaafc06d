//! Claims about the mesh. Each is tested on the running environment, has evidence, and can fail.
//!
//! ```text
//! a test namespace in every cluster,      ─► checks, in parallel ─► verdicts
//! with probes in and outside the mesh        one file each
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::base::error::Error;
use crate::base::event::{Event, Events, Outcome, round};
use crate::base::interrupt::Interrupt;
use crate::cluster::environment::Environment;
use crate::spec::Spec;

mod authz_identity;
mod balance;
mod balance_replicas;
mod breaker;
mod breaker_closes;
mod breaker_opens;
mod check;
mod failover_locality;
mod link_pods;
mod mesh_synced;
mod mtls_identity;
mod mtls_strict;
mod name_absent;
mod name_stub;
mod namespaces;
mod network_apart;
mod probe;
mod protocol;
mod protocol_grpc;
mod protocol_http2;
mod protocol_tcp;
mod protocol_websocket;
mod retry_transient;
mod telemetry_counted;
mod timeout_504;
mod trace_carried;
mod trust_root;

pub use crate::base::verdict::{Status, Subject, SubjectCluster, Verdict, Verdicts};
pub use check::Check;
use check::{Trial, Undecided};
use namespaces::TestNamespaces;

/// All checks, the lowest layer first.
pub const CHECKS: [Check; 21] = [
    link_pods::CHECK,
    network_apart::CHECK,
    trust_root::CHECK,
    mesh_synced::CHECK,
    name_absent::CHECK,
    name_stub::CHECK,
    balance_replicas::CHECK,
    mtls_identity::CHECK,
    mtls_strict::CHECK,
    authz_identity::CHECK,
    timeout_504::CHECK,
    retry_transient::CHECK,
    breaker_opens::CHECK,
    breaker_closes::CHECK,
    failover_locality::CHECK,
    trace_carried::CHECK,
    telemetry_counted::CHECK,
    protocol_http2::CHECK,
    protocol_grpc::CHECK,
    protocol_tcp::CHECK,
    protocol_websocket::CHECK,
];

/// Options of a verification.
#[derive(Debug, Clone)]
pub struct Options {
    /// The checks to run, as [`select`] returns them.
    pub checks: Vec<&'static Check>,
    /// Manifests that replace the checks' own, by the check's ID.
    pub manifests: BTreeMap<String, String>,
    /// The number of runs; a claim that fails once has failed.
    pub repeat: u32,
    /// Whether to stop at the first failure.
    pub fail_fast: bool,
    /// Whether to keep the namespaces for inspection.
    pub keep: bool,
    /// The timeout of the setup, and of each check.
    pub timeout: Duration,
}

/// Returns the checks that IDs or prefixes of IDs name, or all, without those to skip.
///
/// # Errors
/// A usage error for a name that no check has.
pub fn select(wanted: &[String], skip: &[String]) -> Result<Vec<&'static Check>, Error> {
    let named = |check: &Check, names: &[String]| names.iter().any(|name| check.id.starts_with(name.as_str()));
    for name in wanted.iter().chain(skip) {
        if name.is_empty() || !CHECKS.iter().any(|check| check.id.starts_with(name.as_str())) {
            let ids: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
            return Err(
                Error::usage(format!("check \"{name}\" not found")).hint(format!("use one of {}", ids.join(", ")))
            );
        }
    }
    // A constant promoted to a static: checks are shared by reference.
    static ALL: [Check; 21] = CHECKS;
    let chosen = ALL.iter().filter(|check| (wanted.is_empty() || named(check, wanted)) && !named(check, skip));
    Ok(chosen.collect())
}

/// Reads a directory's manifests that replace the checks' own: files `ID.yaml`.
///
/// # Errors
/// A usage error for a file that belongs to no check.
pub fn manifests(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let what = || format!("reading {}", folder.display());
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if !matches!(path.extension().and_then(|end| end.to_str()), Some("yaml" | "yml")) {
            continue;
        }
        let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if !CHECKS.iter().any(|check| check.id == id) {
            return Err(Error::usage(format!("{} is not named after a check", path.display()))
                .hint(
                    "name each file after the check whose policies it replaces, such as timeout.504.yaml; \
                        kindmesh verify --list shows the names",
                )
                .into());
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        crate::cluster::mesh::apply::objects(&text).with_context(|| format!("reading {}", path.display()))?;
        found.insert(id, text);
    }
    if found.is_empty() {
        return Err(Error::usage(format!("{} contains no manifests", folder.display())).into());
    }
    Ok(found)
}

/// Runs the checks. What was created for them is deleted in any case, also after an interrupt.
///
/// # Errors
/// If the environment cannot be reached, or the probes cannot be started; a claim that does not hold is a verdict,
/// not an error.
pub async fn verify(
    environment: &Environment,
    options: &Options,
    events: &Events,
    interrupt: &Interrupt,
) -> anyhow::Result<(Verdicts, Subject)> {
    let started = (jiff::Timestamp::now(), Instant::now());
    let options = &Options { checks: applicable(&options.checks, &environment.spec)?, ..options.clone() };
    let mut all: Vec<Verdict> = Vec::new();
    for number in 1..=options.repeat {
        let verdicts = once(environment, options, events, interrupt).await?;
        if number == 1 {
            all = verdicts;
        } else {
            all = all.into_iter().zip(verdicts).map(|(first, again)| worse(first, again, number)).collect();
        }
        if options.fail_fast && all.iter().any(|verdict| verdict.status == Status::Failed) {
            break;
        }
    }
    let verdicts = Verdicts::new(environment.name(), all);
    Ok((verdicts, subject(environment, started.0, started.1.elapsed())))
}

/// Returns the checks whose claims are about environments like this one: some depend on whether clusters share a network.
///
/// # Errors
/// A usage error if there is none.
pub fn applicable(checks: &[&'static Check], spec: &Spec) -> Result<Vec<&'static Check>, Error> {
    let chosen: Vec<_> = checks.iter().copied().filter(|check| applies(check, spec)).collect();
    match (chosen.is_empty(), checks.first()) {
        (true, Some(first)) => Err(Error::usage(format!(
            "check {} does not apply to environment {}: {}",
            first.id,
            spec.name,
            if first.id == "network.apart" {
                "all its clusters share one network"
            } else {
                "no clusters share a network"
            }
        ))),
        _ => Ok(chosen),
    }
}

fn applies(check: &Check, spec: &Spec) -> bool {
    let networks: Vec<_> = spec.clusters.iter().map(|cluster| spec.network_of(cluster)).collect();
    let distinct: BTreeSet<_> = networks.iter().collect();
    match check.id {
        "link.pods" => distinct.len() < networks.len(),
        "network.apart" => distinct.len() > 1,
        _ => true,
    }
}

/// Returns which of two verdicts on a claim counts: a failure, otherwise the later one.
fn worse(first: Verdict, again: Verdict, number: u32) -> Verdict {
    if first.status == Status::Failed {
        return first;
    }
    let mut again = again;
    if again.status == Status::Failed {
        again.evidence.insert(0, format!("in run {number}"));
    }
    again
}

async fn once(
    environment: &Environment,
    options: &Options,
    events: &Events,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Verdict>> {
    let bench = TestNamespaces::open(environment.clone()).await?;
    let armed = interrupt.arm("deleting the test namespaces");
    let tried = async {
        bench.make(events, tokio::time::Instant::now() + options.timeout).await?;
        anyhow::Ok(try_all(&bench, options, events).await)
    };
    let result = tokio::select! {
        result = tried => result,
        () = interrupt.requested() => Err(Error::environment("interrupted").into()),
    };
    let removed = if options.keep {
        events.note(format!("--keep: namespace {} is kept in every cluster", bench.namespace));
        Ok(())
    } else {
        let step = events.step("remove-probes", None);
        step.run(async |_| Ok(Outcome::changed(bench.remove().await?))).await
    };
    drop(armed);
    let verdicts = result?;
    removed?;
    Ok(verdicts)
}

async fn try_all(bench: &TestNamespaces, options: &Options, events: &Events) -> Vec<Verdict> {
    let mut running: FuturesUnordered<_> = options
        .checks
        .iter()
        .enumerate()
        .map(|(index, check)| async move { (index, try_one(bench, check, options, events).await) })
        .collect();
    let mut verdicts: BTreeMap<usize, Verdict> = BTreeMap::new();
    while let Some((index, verdict)) = running.next().await {
        let failed = verdict.status == Status::Failed;
        events.send(Event::CheckFinished { verdict: verdict.clone() });
        verdicts.insert(index, verdict);
        if failed && options.fail_fast {
            break;
        }
    }
    drop(running);
    for (index, check) in options.checks.iter().enumerate() {
        verdicts.entry(index).or_insert_with(|| Verdict {
            id: check.id.into(),
            claim: check.claim.into(),
            status: Status::Skipped,
            seconds: 0.0,
            evidence: vec!["another check failed before this one ended (--fail-fast)".into()],
            hint: None,
        });
    }
    verdicts.into_values().collect()
}

async fn try_one(bench: &TestNamespaces, check: &Check, options: &Options, events: &Events) -> Verdict {
    events.send(Event::CheckStarted { id: check.id.into() });
    let started = Instant::now();
    let manifest = options.manifests.get(check.id).map_or(check.manifest, String::as_str);
    let deadline = tokio::time::Instant::now() + options.timeout;
    let (result, mut evidence) = match Trial::new(bench, manifest, deadline) {
        Ok(trial) => {
            let result = tokio::time::timeout_at(deadline, (check.run)(&trial)).await;
            let late = || Err(anyhow::anyhow!("no result within {} s", options.timeout.as_secs()));
            (result.unwrap_or_else(|_| late()), trial.evidence())
        }
        Err(error) => (Err(error), Vec::new()),
    };
    let status = match &result {
        Ok(()) => Status::Passed,
        Err(error) if error.is::<Undecided>() => Status::Skipped,
        Err(_) => Status::Failed,
    };
    if let Err(error) = &result {
        let seen = crate::base::error::find(error).map(|error| error.evidence.join("; ")).unwrap_or_default();
        let why = format!("{error:#}");
        evidence.push(if seen.is_empty() { why } else { format!("{why}; {seen}") });
    }
    Verdict {
        id: check.id.into(),
        claim: check.claim.into(),
        status,
        seconds: round(started.elapsed()),
        evidence,
        hint: (status == Status::Failed).then(|| check.hint.into()),
    }
}

/// Returns what was verified, and when.
pub(crate) fn subject(environment: &Environment, started: jiff::Timestamp, took: Duration) -> Subject {
    let spec = &environment.spec;
    let cluster = |cluster: &crate::spec::Cluster| {
        let here = |names: &[crate::spec::Label]| names.contains(&cluster.name);
        SubjectCluster {
            name: cluster.name.to_string(),
            region: cluster.region.clone(),
            zone: cluster.zone.clone(),
            nodes: 1 + usize::from(cluster.workers),
            caller: here(&spec.samples.caller.clusters),
            producer: here(&spec.samples.producer.clusters),
        }
    };
    Subject {
        started,
        seconds: round(took),
        istio: environment.istio_versions(),
        node_image: spec.node_images(),
        clusters: spec.clusters.iter().map(cluster).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply;

    #[test]
    fn checks_are_selected_by_prefix() {
        let ids = |wanted: &[&str], skip: &[&str]| -> Vec<&str> {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            select(&owned(wanted), &owned(skip)).unwrap().iter().map(|check| check.id).collect()
        };
        assert_eq!(ids(&[], &[]).len(), CHECKS.len());
        assert_eq!(ids(&["mtls"], &[]), ["mtls.identity", "mtls.strict"]);
        assert_eq!(ids(&["mtls", "link.pods"], &["mtls.s"]), ["link.pods", "mtls.identity"]);
        assert!(select(&["mtsl".into()], &[]).unwrap_err().hint.unwrap().contains("mtls.strict"));
        assert!(select(&[String::new()], &[]).is_err());
    }

    #[test]
    fn every_manifest_parses_and_has_a_side() {
        for check in &CHECKS {
            for object in apply::objects(check.manifest).unwrap() {
                assert_eq!(object.metadata.namespace.as_deref(), Some("kindmesh-verify"), "{}", check.id);
            }
        }
    }

    #[test]
    fn a_failure_in_any_run_counts() {
        let verdict = |status| Verdict {
            id: "a".into(),
            claim: String::new(),
            status,
            seconds: 1.0,
            evidence: vec!["x".into()],
            hint: None,
        };
        let failed = worse(verdict(Status::Passed), verdict(Status::Failed), 2);
        assert_eq!(
            (failed.status, failed.evidence),
            (Status::Failed, vec!["in run 2".to_owned(), "x".to_owned()])
        );
        assert_eq!(worse(verdict(Status::Failed), verdict(Status::Passed), 2).status, Status::Failed);
    }

    /// The table in docs/verify.md; `INSTA_UPDATE=always cargo test` writes it.
    #[test]
    fn the_documentation_lists_every_check() {
        const BEGIN: &str = "<!-- made by `cargo test`, from src/diagnose/verify/ -->\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, _) = text.split_once(BEGIN).unwrap();
        let mut wanted = format!("{before}{BEGIN}| id | claim | evidence | sabotage |\n|---|---|---|---|\n");
        for Check { id, claim, evidence, sabotage, .. } in &CHECKS {
            wanted.push_str(&format!("| `{id}` | {claim} | {evidence} | {sabotage} |\n"));
        }
        if std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always") {
            std::fs::write(&path, &wanted).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), wanted);
    }
}
