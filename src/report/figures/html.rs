//! The results as a self-contained page.

use super::{COLUMNS, cells, conditions, path, remark, transport};
use crate::diagnose::bench::{Bench, Measured, Row};
use crate::report::escape::html as escape;
use crate::report::page::document;

const STYLE: &str = include_str!("style.css");

/// Returns a document without scripts and without external resources.
pub fn page(bench: &Bench) -> String {
    let title = format!("kindmesh bench {}", escape(&bench.environment));
    let started = bench.started.strftime("%Y-%m-%d %H:%M:%S UTC");
    let header: String = COLUMNS.iter().map(|column| format!("<th class=\"number\">{column}</th>")).collect();
    let longest = bench.rows.iter().filter_map(p99).fold(f64::EPSILON, f64::max);
    let rows: String = bench.rows.iter().map(|row| self::row(row, longest)).collect();
    let remarks: String = bench
        .rows
        .iter()
        .filter_map(remark)
        .map(|remark| format!("<p class=\"remark\">{}</p>\n", escape(&remark)))
        .collect();
    let main = format!(
        "<h1>{title}</h1>\n<p>{}; Istio {}; {started}</p>\n<div class=\"scroll\"><table>\n<tr><th>PATH</th>\
         <th>TRANSPORT</th>{header}<th>P50 AND P99</th></tr>\n{rows}</table></div>\n{remarks}\
         <p>mTLS: both pods have a proxy. Plain: neither has one, and the call goes to the address of the pod.</p>\n",
        escape(&conditions(bench)),
        escape(&bench.istio),
    );
    document(&title, STYLE, &main)
}

fn p99(row: &Row) -> Option<f64> {
    match &row.result {
        Measured::Figures(figures) => Some(figures.latency_millis.p99),
        Measured::NotPossible(_) => None,
    }
}

fn row(row: &Row, longest: f64) -> String {
    let rest = match &row.result {
        Measured::Figures(figures) => {
            let cells: String =
                cells(figures).iter().map(|cell| format!("<td class=\"number\">{cell}</td>")).collect();
            let bar = |class: &str, millis: f64| {
                format!("<i class=\"{class}\" style=\"width:{:.1}%\"></i>", 100.0 * millis / longest)
            };
            let latency = figures.latency_millis;
            format!("{cells}<td class=\"bars\">{}{}</td>", bar("p99", latency.p99), bar("p50", latency.p50))
        }
        Measured::NotPossible(_) => "<td class=\"number\">–</td>".repeat(COLUMNS.len()) + "<td></td>",
    };
    format!("<tr><td>{}</td><td>{}</td>{rest}</tr>\n", escape(&path(row)), transport(row))
}
