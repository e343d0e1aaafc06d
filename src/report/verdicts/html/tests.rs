use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;
use crate::diagnose::verify::SubjectCluster;
use crate::report::verdicts::tests::{hostile, sample};

/// Elements without an end tag.
const VOID: [&str; 1] = ["meta"];

/// Returns the name of every element, in order; panics if one is not closed by its own end tag.
fn elements(text: &str) -> Vec<String> {
    let mut reader = Reader::from_str(text.strip_prefix("<!DOCTYPE html>\n").unwrap());
    // HTML syntax: `<details open>`, `<meta …>`.
    reader.config_mut().check_end_names = false;
    let (mut open, mut all) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => {
                let name = String::from_utf8(tag.name().0.to_vec()).unwrap();
                all.push(name.clone());
                if !VOID.contains(&name.as_str()) {
                    open.push(name);
                }
            }
            Event::Empty(tag) => all.push(String::from_utf8(tag.name().0.to_vec()).unwrap()),
            Event::End(tag) => assert_eq!(open.pop().unwrap().as_bytes(), tag.name().0),
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    all
}

#[test]
fn document_is_self_contained() {
    let (verdicts, subject) = sample();
    let text = report(&verdicts, &subject);
    let all = elements(&text);
    for missing in ["script", "link", "img", "iframe", "image", "use", "a"] {
        assert!(!all.iter().any(|name| name == missing), "{missing}");
    }
    for part in ["url(", "@import", "src=", "href", "http:", "https:"] {
        assert!(!text.contains(part), "{part}");
    }
    assert_eq!(all.iter().filter(|name| *name == "svg").count(), 2);
}

#[test]
fn claims_show_their_verdicts() {
    let (verdicts, subject) = sample();
    let text = report(&verdicts, &subject);
    for part in [
        "<h1>kindmesh verify: 1 of 3 claims failed</h1>",
        "<li class=\"passed\"><b>1</b> ✓ passed</li>",
        "<dt>Started</dt><dd><time datetime=\"2026-01-02T03:04:05Z\">2026-01-02 03:04:05 UTC</time></dd>",
        "<dt>Duration</dt><dd>20.5 s</dd>",
        "<dt>Node image</dt><dd>kindest/node:v1.36.4</dd>",
        "<span class=\"status passed\">✓ passed</span> <code>link.pods</code> <span class=\"seconds\">1.25 s</span>",
        "<p class=\"hint\"><b>Hint:</b> look for policies</p>\n<details open>",
        "<li>&lt;script&gt;&amp;</li>\n<li class=\"why\">100% not\nreset</li>",
        "<p><b>Skipped:</b> no producer</p>\n<details>",
        "✗ mTLS failed",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(text.matches("<details open>").count(), 1);
}

#[test]
fn hostile_text_stays_text() {
    let (verdicts, subject) = sample();
    let (bad, bad_subject) = hostile();
    let text = report(&bad, &bad_subject);
    // The same elements as in a document of harmless text.
    assert_eq!(elements(&text), elements(&report(&verdicts, &subject)));
    assert!(!text.contains(['\0', '\u{1b}', '\u{202e}']));
}

#[test]
fn drawings_of_one_to_five_clusters_stay_in_bounds() {
    let (verdicts, mut subject) = sample();
    for number in 0..=5 {
        let cluster = |index: usize| SubjectCluster {
            name: format!("cluster{index}-{}", "n".repeat(40)),
            region: "r".repeat(40),
            zone: "z".into(),
            nodes: index,
            caller: index == 0,
            producer: index + 1 == number,
        };
        subject.clusters = (0..number).map(cluster).collect();
        let text = report(&verdicts, &subject);
        elements(&text);
        assert_eq!(text.matches("class=\"box\"").count(), 2 * number);
        // One arrow in each drawing.
        assert_eq!(text.matches("class=\"head\"").count(), if number == 0 { 0 } else { 2 });
    }
}

#[test]
fn without_a_caller_no_call_is_possible() {
    let (verdicts, mut subject) = sample();
    subject.clusters[0].caller = false;
    assert!(!report(&verdicts, &subject).contains("class=\"head\""));
}

#[test]
fn durations_are_human_readable() {
    assert_eq!(
        [0.0, 1.254, 59.9, 60.2, 125.0].map(duration),
        ["0 s", "1.25 s", "59.9 s", "1 min 0 s", "2 min 5 s"]
    );
}

#[test]
fn headline_counts_claims() {
    let of = |statuses: &[Status]| {
        let mut checks = Vec::new();
        for status in statuses {
            checks.push(Verdict { status: *status, ..sample().0.checks.remove(0) });
        }
        headline(&Verdicts::new("kindmesh", checks))
    };
    assert_eq!(of(&[]), "no claim was checked");
    assert_eq!(of(&[Status::Passed, Status::Passed]), "2 of 2 claims hold");
    assert_eq!(of(&[Status::Passed, Status::Skipped]), "1 of 2 claims hold, 1 skipped");
}
