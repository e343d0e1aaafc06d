//! The results of `experiment`: as text for a terminal, as a document and as a page.

use super::verdicts::{self, ReportFile, junit, markdown};
use super::{Style, Table};
use crate::lifecycle::experiment::{Results, Tally};

pub mod html;
mod picture;

/// Returns the command, as reports name it.
pub fn command(results: &Results) -> String {
    format!("kindmesh experiment {}", results.experiment)
}

/// Writes a report.
///
/// # Errors
/// The file system's errors.
pub fn write(file: &ReportFile, results: &Results) -> anyhow::Result<()> {
    let Results { verdicts, subject, .. } = results;
    file.save(|kind| {
        Ok(match kind {
            verdicts::Kind::Junit => junit::report(&command(results), verdicts, subject)?,
            verdicts::Kind::Html => html::page(results),
            verdicts::Kind::Json => serde_json::to_string(results)? + "\n",
            verdicts::Kind::Markdown => markdown::report(&command(results), verdicts, subject),
        })
    })
}

/// Returns the results for a terminal: what happened, the calls, and the verdicts.
pub fn text(results: &Results, style: Style, verbose: bool) -> String {
    let mut table = Table::new(["FROM", "TO", "WHAT"]);
    for one in &results.happened {
        let time = |time: f64| format!("{time:.1} s");
        table.row([time(one.begin), one.end.map_or_else(|| "–".to_owned(), time), one.what.clone()]);
    }
    let verdicts = verdicts::text::summary(&results.verdicts, style, verbose);
    format!("{}\n{}\n\n{verdicts}", table.render(style).trim_end(), calls(&results.tally))
}

/// Returns the calls in one line.
fn calls(tally: &Tally) -> String {
    let latency = tally.latency_millis.map_or_else(String::new, |latency| {
        format!(
            "; p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, maximum {:.1} ms",
            latency.p50, latency.p90, latency.p99, latency.max
        )
    });
    let Tally { sent, answered, lost, lost_percent, .. } = tally;
    format!("{sent} calls: {answered} answered, {lost} lost ({lost_percent:.2} %){latency}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::verdict::{Status, Subject, Verdict, Verdicts};
    use crate::lifecycle::experiment::{Happened, Sending};
    use crate::sample::Sent;

    /// Results with text that would break out of a page if it were not escaped.
    fn sample() -> Results {
        let call = |number: u32| {
            let at_millis = f64::from(number) * 500.0;
            let lost = (10_000.0..14_000.0).contains(&at_millis);
            Sent {
                at_millis,
                millis: if at_millis < 10_000.0 { 4.0 + f64::from(number % 3) } else { 250.0 },
                status: if lost { None } else { Some(200) },
                reason: lost.then(|| "<no response>".into()),
            }
        };
        let sent: Vec<Sent> = (0..60).map(call).collect();
        let verdict = |id: &str, status, hint: Option<&str>| Verdict {
            id: id.into(),
            claim: "at most 2 % of the <calls> are lost".into(),
            status,
            seconds: 30.0,
            evidence: vec!["8 of 60 calls were lost: 13.33 %".into()],
            hint: hint.map(str::to_owned),
        };
        let (_, subject) = verdicts::tests::sample();
        Results {
            schema_version: 1,
            experiment: "lossy-link".into(),
            description: Some("packets are <lost>".into()),
            policies: vec!["retry".into()],
            calls: Sending {
                from: "cluster1".into(),
                url: "http://sample-producer.sample:8080/producer/messages".into(),
                qps: 2,
                seconds: 30.0,
            },
            tally: Tally::of(&sent),
            happened: vec![
                Happened { what: "link cut between <a> and b".into(), begin: 10.0, end: Some(14.25) },
                Happened { what: "rollout of sample-producer in cluster2".into(), begin: 20.0, end: None },
            ],
            verdicts: Verdicts::new(
                "<shop>",
                vec![verdict("lost", Status::Failed, Some("look <there>")), verdict("p99", Status::Passed, None)],
            ),
            subject: Subject { seconds: 48.5, ..subject },
            p99_limit: Some(300.0),
            sent,
        }
    }

    #[test]
    fn text_has_times_counts_and_verdicts() {
        insta::assert_snapshot!(text(&sample(), Style::plain(), false));
    }

    #[test]
    fn the_page_escapes_text_and_shows_calls_and_faults() {
        let page = html::page(&sample());
        for hostile in ["<no response>", "<shop>", "<calls>", "<lost>", "<a>", "<there>"] {
            assert!(!page.contains(hostile), "{hostile}");
        }
        insta::assert_snapshot!(page);
    }

    #[test]
    fn a_page_without_an_answer_has_no_latency() {
        let mut results = sample();
        for call in &mut results.sent {
            call.status = None;
        }
        results.tally = Tally::of(&results.sent);
        assert!(html::page(&results).contains("No call was answered"));
    }

    #[test]
    fn every_kind_is_written() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, contains) in [
            ("junit", "<testsuite name=\"kindmesh experiment lossy-link\" tests=\"2\""),
            ("html", "<svg"),
            ("json", r#""what":"rollout of sample-producer in cluster2","begin":20.0,"end":null"#),
            ("markdown", "## kindmesh experiment lossy-link: 1 passed, 1 failed, 0 skipped"),
        ] {
            let path = folder.path().join(kind);
            write(&format!("{kind}={}", path.display()).parse().unwrap(), &sample()).unwrap();
            let written = std::fs::read_to_string(path).unwrap();
            assert!(written.contains(contains), "{written}");
        }
    }
}
