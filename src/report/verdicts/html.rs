//! One self-contained page: no script, nothing from elsewhere; for a phone, a screen and paper.

use crate::verify::{Status, Subject, SubjectCluster, Verdict, Verdicts};

const STYLE: &str = include_str!("report.css");

/// The page.
pub fn report(verdicts: &Verdicts, subject: &Subject) -> String {
    let environment = escaped(&verdicts.environment);
    let counts = format!("{} passed, {} failed, {} skipped", verdicts.passed, verdicts.failed, verdicts.skipped);
    let clusters: String = subject.clusters.iter().map(cluster).collect();
    let checks: String = verdicts.checks.iter().map(check).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>kindmesh verify: {counts}</title><style>{STYLE}</style></head>\n<body>\
         <h1>kindmesh verify: {counts}</h1>\n\
         <dl><dt>environment</dt><dd>{environment}</dd><dt>Istio</dt><dd>{}</dd><dt>nodes</dt><dd>{}</dd>\
         <dt>begun</dt><dd>{}</dd><dt>took</dt><dd>{} s</dd></dl>\n\
         <figure class=\"clusters\"><figcaption>One Docker network, one mesh, one root of trust</figcaption>\
         {clusters}</figure>\n{checks}</body></html>\n",
        escaped(&subject.istio),
        escaped(&subject.node_image),
        subject.started,
        subject.seconds,
    )
}

fn cluster(cluster: &SubjectCluster) -> String {
    let SubjectCluster { name, region, zone, nodes, caller, producer } = cluster;
    let mut runs = vec!["istiod"];
    runs.extend(caller.then_some("caller → calls by mutual TLS"));
    runs.extend(producer.then_some("→ producer, answers"));
    let runs: String = runs.iter().map(|what| format!("<span>{what}</span>")).collect();
    let nodes = if *nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
    format!(
        "<div class=\"cluster\"><b>{}</b><span>{}, {}, {nodes}</span>{runs}</div>",
        escaped(name),
        escaped(region),
        escaped(zone)
    )
}

fn check(verdict: &Verdict) -> String {
    let (class, words, open) = match verdict.status {
        Status::Passed => ("passed", "✓ passed", ""),
        Status::Failed => ("failed", "✗ failed", " open"),
        Status::Skipped => ("skipped", "– skipped", " open"),
    };
    let hint = verdict.hint.as_ref().map(|hint| format!("<p>{}</p>", escaped(hint))).unwrap_or_default();
    format!(
        "<section class=\"check {class}\"><strong>{words}</strong> <code>{}</code> <small>{} s</small>\
         <p>{}</p>{hint}<details{open}><summary>evidence</summary><pre>{}</pre></details></section>\n",
        escaped(&verdict.id),
        verdict.seconds,
        escaped(&verdict.claim),
        escaped(&verdict.evidence.join("\n"))
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verdicts::tests::sample;

    #[test]
    fn everything_is_escaped_and_nothing_comes_from_elsewhere() {
        let (verdicts, subject) = sample();
        let page = report(&verdicts, &subject);
        assert!(page.contains("&lt;script&gt;&amp;") && !page.contains("<script"), "{page}");
        assert!(!page.contains("http") && !page.contains("url("), "{page}");
        // Folded where the claim holds, open where somebody has to look.
        assert_eq!((page.matches("<details>").count(), page.matches("<details open>").count()), (1, 2));
    }
}
