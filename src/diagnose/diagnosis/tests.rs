//! Causes, their texts, and what is shown as evidence.

use super::rules::{CAUSES, NEVER_PASS, SYMPTOMS};
use super::*;

mod recorded;

fn rules() -> impl Iterator<Item = &'static Rule> {
    CAUSES.iter().chain(SYMPTOMS)
}

fn cause_of(of: Source, line: &str) -> Option<&'static str> {
    diagnose(&Evidence { sections: vec![Section::new(of, "here", [line.to_owned()])] }).map(|cause| cause.id)
}

fn sentence(of: Source, line: &str) -> String {
    diagnose(&Evidence { sections: vec![Section::new(of, "here", [line.to_owned()])] }).unwrap().sentence
}

#[test]
fn healthy_output_has_no_cause() {
    for (of, line) in [
        (Source::Node, "Node e-a-control-plane status is now: NodeHasNoDiskPressure"),
        (Source::Node, "Node e-a-control-plane status is now: NodeHasSufficientMemory"),
        (Source::Node, r#"I1124 eviction_manager.go:163] "Starting eviction manager""#),
        (Source::Istiod, "info\tads\tEDS: PUSH for node:sample-caller resources:20"),
        (Source::Log, r#"{"level":"INFO","fields":{"message":"listening"}}"#),
        (Source::Error, "timed out after 240 s waiting for istiod to be ready"),
        (Source::Error, "0 of 1 ready"),
    ] {
        assert_eq!(cause_of(of, line), None, "{line}");
    }
}

#[test]
fn same_text_means_different_causes_by_source() {
    let refused = r#"Get "https://127.0.0.1:43345/api": dial tcp 127.0.0.1:43345: connect: connection refused"#;
    assert_eq!(cause_of(Source::Istiod, refused), Some("remote-secret.loopback"));
    assert_eq!(
        cause_of(Source::Node, refused),
        None,
        "a kubelet logs this about its own API server while that starts"
    );
    assert_eq!(cause_of(Source::Log, "lookup x: no such host"), None);
}

#[test]
fn docs_match_the_code() {
    let cpu = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available";
    assert_eq!(sentence(Source::State, cpu), "no node has enough cpu left for the pod's request");
    let pull = r#"discovery: ImagePullBackOff Back-off pulling image "nosuch:1""#;
    assert_eq!(sentence(Source::State, pull), "the node cannot pull the image nosuch:1");
    let log =
        Section::new(Source::Log, "log of discovery", ["one".into(), "fatal: no cacerts".into(), String::new()]);
    let state = Section::new(Source::State, "pod istiod-1", ["discovery: CrashLoopBackOff back-off 20s".into()]);
    let cause = diagnose(&Evidence { sections: vec![state, log] }).unwrap();
    assert_eq!(cause.sentence, "the container discovery has crashed; its last log line: fatal: no cacerts");
    assert_eq!(cause.found_in, "pod istiod-1");
}

#[test]
fn more_specific_cause_decides() {
    let evidence = Evidence {
        sections: vec![
            Section::new(Source::State, "pod a", [r#"app: ImagePullBackOff Back-off pulling image "a:1""#.into()]),
            Section::new(
                Source::Event,
                "events",
                ["toomanyrequests: You have reached your pull rate limit".into()],
            ),
        ],
    };
    assert_eq!(diagnose(&evidence).unwrap().id, "image.rate-limit");
}

#[test]
fn current_state_ranks_before_logs_and_causes_before_symptoms() {
    let cause = |sections: Vec<Section>| diagnose(&Evidence { sections }).map(|cause| cause.id);
    let denied =
        || Section::new(Source::Proxy, "proxy", ["\"POST / HTTP/1.1\" 403 - rbac RBAC: access denied".into()]);
    let answer = |text: &str| Section::new(Source::Answer, "the call", [text.to_owned()]);
    assert_eq!(cause(vec![denied(), answer("no route to host")]), Some("link.broken"));
    assert_eq!(cause(vec![denied(), answer("status 500")]), Some("policy.denied"));
    let few = || Section::new(Source::Error, "the error", ["last status: 0 of 2 endpoints are known".into()]);
    let istiod = "dial tcp 172.30.0.3:6443: connect: no route to host".to_owned();
    assert_eq!(cause(vec![few(), Section::new(Source::Istiod, "istiod", [istiod])]), Some("remote.unreachable"));
    assert_eq!(cause(vec![few()]), Some("endpoints.none"));
    let crashes = || Section::new(Source::State, "pod", ["kube-proxy: CrashLoopBackOff back-off 10s".into()]);
    let log = Section::new(Source::Log, "log", ["failed complete: too many open files".into()]);
    assert_eq!(cause(vec![crashes(), log]), Some("inotify.limit"));
    assert_eq!(cause(vec![crashes()]), Some("container.crashes"));
    // Every pod of a new cluster waited for its node at first.
    let before = "FailedScheduling: 0/1 nodes are available: 1 node(s) had untolerated taint".to_owned();
    assert_eq!(cause(vec![Section::new(Source::Event, "events", [before]), crashes()]), Some("container.crashes"));
}

#[test]
fn every_placeholder_is_filled() {
    for rule in rules() {
        for template in [rule.sentence, rule.hint] {
            let open = template.matches('{').count();
            let filled = ["{1}", "{of}", "{log}"].map(|word| template.matches(word).count()).iter().sum::<usize>();
            assert_eq!(open, filled, "{}", rule.id);
        }
        assert!(!rule.sentence.ends_with('.') && !rule.told_by.is_empty(), "{}", rule.id);
    }
    let mut ids: Vec<_> = rules().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rules().count());
}

#[test]
fn error_gets_evidence_cause_and_next_command() {
    let error = anyhow::Error::from(
        Error::environment("timed out after 9 s waiting for istiod").evidence("last status: 0 of 1"),
    );
    let state =
        Section::new(Source::State, "pod istiod-1", ["0/1 nodes are available: 1 Insufficient cpu.".into()]);
    let error = explain(error, &Evidence { sections: vec![state] });
    let error = by_its_words(error, " --name shop");
    let found = error::find(&error).unwrap();
    assert_eq!(found.cause, Some("pod.unschedulable"));
    assert_eq!(
        found.message,
        "timed out after 9 s waiting for istiod: no node has enough cpu left for the pod's request"
    );
    let evidence = ["last status: 0 of 1", "pod istiod-1:", "  0/1 nodes are available: 1 Insufficient cpu."];
    assert_eq!(found.evidence, evidence);
    assert!(found.hint.as_deref().unwrap().ends_with("then kindmesh up --name shop"));
    // Flags are added only once.
    let hint = found.hint.clone();
    let again = by_its_words(error, " --name shop");
    assert_eq!(error::find(&again).unwrap().hint, hint);
}

#[test]
fn other_kinds_of_errors_are_unchanged() {
    let error = anyhow::Error::from(Error::usage("no space left on device").hint("another"));
    let error = by_its_words(error, "");
    assert_eq!(error::find(&error).unwrap().hint.as_deref(), Some("another"));
    assert_eq!(error::find(&error).unwrap().cause, None);
}

#[test]
fn foreign_errors_get_their_cause_by_text() {
    let error = anyhow::anyhow!("No space left on device (os error 28)").context("writing /x/kindmesh.yaml");
    let error = by_its_words(error, "");
    assert_eq!(error::find(&error).unwrap().cause, Some("disk.full"));
    assert_eq!(
        format!("{error:#}"),
        "a disk is full: writing /x/kindmesh.yaml: No space left on device (os error 28)"
    );
}

#[test]
fn deciding_line_is_always_shown() {
    let lines: Vec<String> =
        std::iter::once("toomanyrequests".to_owned()).chain((0..20).map(|n| n.to_string())).collect();
    let evidence = Evidence { sections: vec![Section::new(Source::Event, "events", lines)] };
    let shown = evidence.shown(Some("toomanyrequests"));
    assert_eq!(shown, "events:\n  toomanyrequests\n  14\n  15\n  16\n  17\n  18\n  19");
}

#[test]
fn causes_that_never_pass_are_causes() {
    assert!(NEVER_PASS.iter().all(|id| CAUSES.iter().any(|rule| rule.id == *id)));
}

/// Readers search the page for the text that they see.
#[test]
fn the_page_has_every_cause() {
    let page = include_str!("../../../docs/troubleshooting.md");
    for rule in rules() {
        assert!(page.contains(&format!("`{}`", rule.id)), "{} is not in docs/troubleshooting.md", rule.id);
    }
    // The only cause without a pattern.
    let known = |id: &str| id == crate::base::wait::TOO_LATE || rules().any(|rule| rule.id == id);
    let named = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(id, _)| id);
    for id in named {
        assert!(known(id), "docs/troubleshooting.md names {id}, which no rule has");
    }
}

#[test]
fn refusals_of_pods_are_shown_once() {
    let told =
        |pod: &str| format!("FailedCreate: pods \"{pod}\" is forbidden: violates PodSecurity \"restricted\"");
    let events = Section::new(Source::Event, "events of web", [told("web-a"), told("web-b")]);
    let shown = Evidence { sections: vec![events] }.shown(None);
    assert_eq!(shown, format!("events of web:\n  {}", told("web-a")));
}

#[test]
fn repeated_events_are_shown_once() {
    let state = Section::new(Source::State, "pod a", ["0/1 nodes are available: 1 Insufficient cpu.".into()]);
    let told = "FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.".to_owned();
    let events = Section::new(Source::Event, "events", [told, "Unhealthy: probe failed".into()]);
    let shown = Evidence { sections: vec![state, events] }.shown(None);
    assert_eq!(
        shown,
        "pod a:\n  0/1 nodes are available: 1 Insufficient cpu.\nevents:\n  Unhealthy: probe failed"
    );
}
