//! JUnit XML, which every CI system reads.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::diagnose::verify::{Status, Subject, Verdicts};

/// Returns the report: one suite, named after the command, one test case for each verdict.
///
/// # Errors
/// If it cannot be written as XML.
pub fn report(command: &str, verdicts: &Verdicts, subject: &Subject) -> anyhow::Result<String> {
    let mut suite = TestSuite::new(command);
    suite.set_time(duration(subject.seconds));
    for verdict in &verdicts.checks {
        let last = verdict.evidence.last().cloned().unwrap_or_default();
        let all = verdict.evidence.join("\n");
        let mut status = match verdict.status {
            Status::Passed => TestCaseStatus::success(),
            Status::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Status::Skipped => TestCaseStatus::skipped(),
        };
        if verdict.status != Status::Passed {
            status.set_message(last);
        }
        if verdict.status == Status::Failed {
            status.set_type("claim").set_description(all.clone());
        }
        let mut case = TestCase::new(verdict.id.clone(), status);
        case.set_classname(format!("kindmesh.{}", verdicts.environment));
        case.set_time(duration(verdict.seconds));
        if verdict.status == Status::Passed {
            case.set_system_out(all);
        }
        suite.add_test_case(case);
    }
    let mut report = Report::new("kindmesh");
    report.add_test_suite(suite);
    Ok(without_skipped(&report.to_string()?))
}

/// The schema of Jenkins' xunit plugin allows the number of skipped tests on suites, but not on their parent,
/// where quick-junit also writes it.
fn without_skipped(report: &str) -> String {
    let Some((before, root)) = report.split_once("<testsuites ") else { return report.to_owned() };
    let Some((attributes, rest)) = root.split_once('>') else { return report.to_owned() };
    let kept: Vec<_> = attributes.split(' ').filter(|attribute| !attribute.starts_with("skipped=")).collect();
    format!("{before}<testsuites {}>{rest}", kept.join(" "))
}

/// A negative or invalid duration must not prevent the report.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quick_xml::events::{BytesStart, Event};
    use quick_xml::{Reader, XmlVersion};

    use super::*;
    use crate::report::verdicts::VERIFY;
    use crate::report::verdicts::tests::{hostile, sample};

    /// The subset of Jenkins' JUnit schema that the report uses: an element, its parent, its attributes, and its
    /// required attributes.
    const SCHEMA: [(&str, &str, &[&str], &[&str]); 6] = [
        ("testsuites", "", &["name", "time", "tests", "failures", "errors", "disabled"], &[]),
        (
            "testsuite",
            "testsuites",
            &["name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id"],
            &["name"],
        ),
        ("testcase", "testsuite", &["name", "assertions", "time", "classname", "status"], &["name", "classname"]),
        ("failure", "testcase", &["type", "message"], &[]),
        ("skipped", "testcase", &["message"], &[]),
        ("system-out", "testcase", &[], &[]),
    ];

    /// One element: its name, its attributes and its text.
    type Element = (String, BTreeMap<String, String>, String);

    fn element(tag: &BytesStart, parent: &str) -> Element {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let name = text(tag.name().0);
        let (_, within, allowed, needed) = SCHEMA.iter().find(|(known, ..)| *known == name).unwrap();
        assert_eq!(parent, *within, "the parent of {name}");
        let attribute = |attribute: quick_xml::events::attributes::Attribute| {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).unwrap().into_owned();
            (text(attribute.key.as_ref()), value)
        };
        let attributes: BTreeMap<_, _> = tag.attributes().map(|found| attribute(found.unwrap())).collect();
        for key in attributes.keys() {
            assert!(allowed.contains(&key.as_str()), "{name} has no {key}");
        }
        for key in *needed {
            assert!(attributes.contains_key(*key), "{name} needs {key}");
        }
        (name, attributes, String::new())
    }

    /// Every element, as the schema allows it.
    fn parse(xml: &str) -> Vec<Element> {
        let mut reader = Reader::from_str(xml);
        let (mut all, mut open): (Vec<Element>, Vec<usize>) = (Vec::new(), Vec::new());
        loop {
            let event = reader.read_event().unwrap();
            let parent = open.last().map(|index| all[*index].0.clone()).unwrap_or_default();
            match event {
                Event::Start(tag) => {
                    open.push(all.len());
                    all.push(element(&tag, &parent));
                }
                Event::Empty(tag) => all.push(element(&tag, &parent)),
                Event::End(_) => drop(open.pop().unwrap()),
                Event::Text(text) if !open.is_empty() => {
                    all[*open.last().unwrap()].2.push_str(&text.decode().unwrap());
                }
                Event::GeneralRef(name) => {
                    let name = format!("&{};", name.decode().unwrap());
                    let text = quick_xml::escape::unescape(&name).unwrap();
                    all[*open.last().unwrap()].2.push_str(&text);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        all
    }

    #[test]
    fn the_schema_allows_it() {
        let (verdicts, subject) = sample();
        let all = parse(&report(VERIFY, &verdicts, &subject).unwrap());
        let names: Vec<_> = all.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            ["testsuites", "testsuite", "testcase", "system-out", "testcase", "failure", "testcase", "skipped"]
        );
        assert_eq!(all[5].2, "<script>&\n100% not\nreset");
        assert_eq!(all[7].1["message"], "no producer");
    }

    #[test]
    fn hostile_text_stays_text() {
        let (mut verdicts, mut subject) = hostile();
        verdicts.checks[0].seconds = f64::NAN;
        subject.seconds = -1.0;
        let all = parse(&report(VERIFY, &verdicts, &subject).unwrap());
        assert_eq!(all.len(), 8);
        assert!(all[2].1["name"].starts_with("</pre></details><script>"), "{all:?}");
        assert!(!all[5].2.contains(['\0', '\u{1b}']));
    }

    #[test]
    fn each_check_is_a_test_case() {
        let (verdicts, subject) = sample();
        let text = report(VERIFY, &verdicts, &subject).unwrap();
        for part in [
            r#"<testsuite name="kindmesh verify" tests="3" skipped="1" errors="0" failures="1" time="20.500">"#,
            r#"<testcase name="link.pods" classname="kindmesh.kindmesh" time="1.250">"#,
            "<system-out>10.0.0.1 → 10.0.0.2: seen</system-out>",
            r#"type="claim">&lt;script&gt;&amp;"#,
            r#"<skipped message="no producer"/>"#,
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
