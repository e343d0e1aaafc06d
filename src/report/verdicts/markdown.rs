//! Markdown, for the summary of a GitHub workflow above all.

use crate::verify::{Status, Subject, Verdicts};

/// The report: a table, and the evidence folded below it.
pub fn report(verdicts: &Verdicts, subject: &Subject) -> String {
    let Verdicts { environment, passed, failed, skipped, .. } = verdicts;
    let clusters: Vec<_> = subject.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let mut text = format!(
        "## kindmesh verify: {passed} passed, {failed} failed, {skipped} skipped\n\n\
         Environment `{environment}` ({}), Istio {}, {} in {} s\n\n\
         | | check | claim | seconds |\n|---|---|---|---:|\n",
        clusters.join(", "),
        subject.istio,
        subject.started,
        subject.seconds
    );
    for verdict in &verdicts.checks {
        let claim = verdict.claim.replace('|', "\\|");
        text.push_str(&format!(
            "| {} | `{}` | {claim} | {} |\n",
            mark(verdict.status),
            verdict.id,
            verdict.seconds
        ));
    }
    for verdict in &verdicts.checks {
        let open = if verdict.status == Status::Failed { " open" } else { "" };
        let evidence = verdict.evidence.join("\n");
        // A fence longer than any that the evidence holds.
        let mut fence = "```".to_owned();
        while evidence.contains(&fence) {
            fence.push('`');
        }
        text.push_str(&format!(
            "\n<details{open}><summary>{} <code>{}</code></summary>\n\n{fence}text\n{evidence}\n{fence}\n",
            mark(verdict.status),
            verdict.id
        ));
        if let Some(hint) = &verdict.hint {
            text.push_str(&format!("\n{hint}\n"));
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
    use crate::report::verdicts::tests::sample;

    #[test]
    fn a_table_and_the_evidence() {
        let (verdicts, subject) = sample();
        let text = report(&verdicts, &subject);
        assert!(text.starts_with("## kindmesh verify: 1 passed, 1 failed, 1 skipped\n"), "{text}");
        assert!(text.contains("| ✗ failed | `mtls.strict` | what mtls.strict \\| claims | 1.25 |\n"), "{text}");
        assert!(text.contains("```text\n<script>&\n100% not\nreset\n```\n\nlook for policies\n"), "{text}");
        assert_eq!(text.matches("<details open>").count(), 1);
    }
}
