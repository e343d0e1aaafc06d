//! JUnit XML, which every CI reads.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::verify::{Status, Subject, Verdicts};

/// The report: one suite, one test case a check.
///
/// # Errors
/// When it cannot be written as XML.
pub fn report(verdicts: &Verdicts, subject: &Subject) -> anyhow::Result<String> {
    let mut suite = TestSuite::new("kindmesh verify");
    suite.set_time(Duration::from_secs_f64(subject.seconds));
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
        case.set_time(Duration::from_secs_f64(verdict.seconds));
        if verdict.status == Status::Passed {
            case.set_system_out(all);
        }
        suite.add_test_case(case);
    }
    let mut report = Report::new("kindmesh");
    report.add_test_suite(suite);
    Ok(report.to_string()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verdicts::tests::sample;

    #[test]
    fn each_check_is_a_test_case() {
        let (verdicts, subject) = sample();
        let text = report(&verdicts, &subject).unwrap();
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
