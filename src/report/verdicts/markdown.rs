//! Markdown, mainly for the summary of a GitHub workflow.

use crate::diagnose::verify::{Status, Subject, Verdicts};
use crate::report::escape;

/// Returns the report: a table, and the folded evidence below it.
pub fn report(command: &str, verdicts: &Verdicts, subject: &Subject) -> String {
    let Verdicts { passed, failed, skipped, .. } = verdicts;
    let clusters: Vec<_> = subject.clusters.iter().map(|cluster| escape::markdown(&cluster.name)).collect();
    let mut text = format!(
        "## {command}: {passed} passed, {failed} failed, {skipped} skipped\n\n\
         Environment {} ({}), Istio {}, {} in {} s\n\n\
         | id | claim | verdict | seconds |\n|---|---|---|---:|\n",
        escape::code(&verdicts.environment),
        clusters.join(", "),
        escape::markdown(&subject.istio),
        subject.started,
        subject.seconds
    );
    for verdict in &verdicts.checks {
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            escape::code(&verdict.id),
            escape::markdown(&verdict.claim),
            mark(verdict.status),
            verdict.seconds
        ));
    }
    for verdict in &verdicts.checks {
        let open = if verdict.status == Status::Failed { " open" } else { "" };
        text.push_str(&format!(
            "\n<details{open}><summary>{} {}</summary>\n\n{}",
            mark(verdict.status),
            escape::code(&verdict.id),
            escape::fenced(&verdict.evidence.join("\n"))
        ));
        if let Some(hint) = &verdict.hint {
            text.push_str(&format!("\n{}\n", escape::markdown(hint)));
        }
        text.push_str("\n</details>\n");
    }
    text
}

fn mark(status: Status) -> &'static str {
    match status {
        Status::Passed => "✓ passed",
        Status::Failed => "✗ failed",
        Status::Skipped => "– skipped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verdicts::VERIFY;
    use crate::report::verdicts::tests::{hostile, sample};

    #[test]
    fn a_table_and_the_evidence() {
        let (verdicts, subject) = sample();
        let text = report(VERIFY, &verdicts, &subject);
        assert!(text.starts_with("## kindmesh verify: 1 passed, 1 failed, 1 skipped\n"), "{text}");
        assert!(
            text.contains("| <code>mtls.strict</code> | what mtls.strict \\| claims | ✗ failed | 1.25 |\n"),
            "{text}"
        );
        assert!(text.contains("```text\n<script>&\n100% not\nreset\n```\n\nlook for policies\n"), "{text}");
        assert_eq!(text.matches("<details open>").count(), 1);
    }

    #[test]
    fn hostile_text_stays_text() {
        let (verdicts, subject) = hostile();
        let text = report(VERIFY, &verdicts, &subject);
        let lines: Vec<_> = text.lines().collect();
        let table: Vec<_> = lines.iter().filter(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 2 + verdicts.checks.len());
        for row in table {
            // As GitHub splits rows: a backslash escapes the next character.
            let row = row.replace("\\\\", "").replace("\\|", "");
            assert_eq!(row.matches('|').count(), 5, "{row}");
        }
        // Markup is inside fences only, and the evidence cannot end a fence.
        let mut fenced = false;
        for line in lines {
            fenced ^= line.starts_with("````");
            assert!(fenced || !line.contains("<script>"), "{line}");
        }
        assert!(!fenced && !text.contains('\u{1b}'));
    }
}
