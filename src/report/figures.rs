//! The results of `bench`, as text for a terminal and as a page.

use super::{Style, Table};
use crate::diagnose::bench::{Bench, Figures, Measured, Path, Row};

pub mod html;

/// The columns of figures.
const COLUMNS: [&str; 8] = ["CALLS", "FAILED", "CALLS/S", "P50", "P90", "P99", "MAX", "MEAN"];

/// Returns the table for a terminal.
pub fn text(bench: &Bench, style: Style) -> String {
    let mut table = Table::new(["PATH", "TRANSPORT"].into_iter().chain(COLUMNS));
    for row in &bench.rows {
        let mut cells = vec![path(row), transport(row).to_owned()];
        match &row.result {
            Measured::Figures(figures) => cells.extend(self::cells(figures)),
            Measured::NotPossible(_) => cells.extend(COLUMNS.map(|_| "–".to_owned())),
        }
        table.row(cells);
    }
    let mut text = format!("{}\n{}", table.render(style), conditions(bench));
    for row in &bench.rows {
        if let Some(remark) = remark(row) {
            text.push_str(&format!("\n{remark}"));
        }
    }
    text
}

/// Returns which clusters the calls of a row cross.
fn path(row: &Row) -> String {
    let Row { from, to, .. } = row;
    match row.path {
        Path::Inside => format!("inside {from}"),
        Path::Flat => format!("{from} → {to}, same network"),
        Path::Gateway => format!("{from} → {to}, through the gateway"),
    }
}

fn transport(row: &Row) -> &'static str {
    if row.mtls { "mTLS" } else { "plain, no proxies" }
}

fn cells(figures: &Figures) -> [String; 8] {
    let Figures { calls, failed, throughput, latency_millis: latency, .. } = figures;
    let millis = [latency.p50, latency.p90, latency.p99, latency.max, latency.mean];
    let [p50, p90, p99, max, mean] = millis.map(|millis| format!("{millis:.2}"));
    [calls.to_string(), failed.to_string(), format!("{throughput:.1}"), p50, p90, p99, max, mean]
}

/// Returns what was measured, in one line.
fn conditions(bench: &Bench) -> String {
    let Bench { protocol, qps, connections, seconds, image, .. } = bench;
    let rate = match qps {
        0 => "as many calls as possible".to_owned(),
        qps => format!("{qps} calls per second"),
    };
    format!(
        "Latencies in ms. {protocol}, {rate} on {connections} connections for {seconds} s each; load generator {image}"
    )
}

/// Returns the results of a row with failed calls, or why there are none.
fn remark(row: &Row) -> Option<String> {
    let remark = match &row.result {
        Measured::Figures(figures) if figures.failed > 0 => {
            let Figures { calls, failed, results, .. } = figures;
            let results: Vec<_> = results.iter().map(|(result, calls)| format!("{calls} × {result}")).collect();
            format!("{failed} of {calls} calls failed: {}", results.join(", "))
        }
        Measured::Figures(_) => return None,
        Measured::NotPossible(why) => format!("not possible: {why}"),
    };
    Some(format!("{}, {}: {remark}", path(row), transport(row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::bench::{Latency, Protocol};

    /// Results of two clusters on two networks, with text that would break out of a page if it were not escaped.
    pub fn sample() -> Bench {
        let figures = |p50: f64, failed| {
            let latency_millis = Latency { p50, p90: 2.0 * p50, p99: 4.0 * p50, max: 10.0 * p50, mean: 1.2 * p50 };
            let results = [("200".to_owned(), 1000 - failed), ("<503>".to_owned(), failed)];
            Measured::Figures(Figures {
                calls: 1000,
                failed,
                results: results.into_iter().filter(|(_, calls)| *calls > 0).collect(),
                throughput: 199.8,
                latency_millis,
            })
        };
        let row =
            |path, to: &str, mtls, result| Row { path, from: "cluster1".into(), to: to.into(), mtls, result };
        let why = "a gateway passes on mutual TLS only";
        Bench {
            schema_version: 1,
            environment: "<kindmesh>".into(),
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
            istio: "1.31.1".into(),
            image: "fortio/fortio:1.68.0".into(),
            protocol: Protocol::Http,
            qps: 200,
            connections: 4,
            seconds: 5,
            rows: vec![
                row(Path::Inside, "cluster1", true, figures(1.5, 0)),
                row(Path::Inside, "cluster1", false, figures(0.25, 0)),
                row(Path::Flat, "cluster3", true, figures(1.75, 0)),
                row(Path::Flat, "cluster3", false, figures(0.3, 0)),
                row(Path::Gateway, "cluster2", true, figures(2.5, 7)),
                row(Path::Gateway, "cluster2", false, Measured::NotPossible(why.into())),
            ],
        }
    }

    #[test]
    fn the_table_has_every_path_and_column() {
        insta::assert_snapshot!(text(&sample(), Style::plain()));
    }

    #[test]
    fn the_document_has_the_same_figures() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&sample()).unwrap());
    }

    #[test]
    fn the_page_escapes_names_and_shows_bars() {
        let page = html::page(&sample());
        assert!(!page.contains("<kindmesh>") && !page.contains("<503>"), "{page}");
        insta::assert_snapshot!(page);
    }
}
