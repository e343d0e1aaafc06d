//! The results as a self-contained page.

use super::picture::picture;
use super::{calls, command};
use crate::lifecycle::experiment::{Loss, Results};
use crate::report::escape::html as escape;
use crate::report::page::document;
use crate::report::verdicts::html as verdicts;

const STYLE: &str = include_str!("style.css");

/// Returns a document without scripts and without external resources.
pub fn page(results: &Results) -> String {
    let headline = match results.verdicts.failed {
        0 => "every expectation holds".to_owned(),
        failed => format!("{failed} of {} expectations failed", results.verdicts.checks.len()),
    };
    let title = escape(&format!("{}: {headline}", command(results)));
    let description =
        results.description.as_ref().map_or_else(String::new, |text| format!("<p>{}</p>\n", escape(text)));
    let main = format!(
        "<h1>{title}</h1>\n{description}{}{}<p class=\"sent\">{}</p>\n{}{}<h2>Expectations</h2>\n{}",
        verdicts::counts(&results.verdicts),
        verdicts::facts(&results.verdicts, &results.subject),
        sending(results),
        picture(results),
        losses(&results.tally.losses),
        verdicts::claims(&results.verdicts),
    );
    document(&title, &format!("{}{STYLE}", verdicts::STYLE), &main)
}

/// Returns what was sent, and how it went.
fn sending(results: &Results) -> String {
    let sending = &results.calls;
    let policies = match results.policies.as_slice() {
        [] => String::new(),
        some => format!(" Policies: {}.", some.join(", ")),
    };
    escape(&format!(
        "{} calls per second for {} s from {} to {}.{policies} {}.",
        sending.qps,
        sending.seconds,
        sending.from,
        sending.url,
        calls(&results.tally)
    ))
}

fn losses(losses: &[Loss]) -> String {
    if losses.is_empty() {
        return String::new();
    }
    let row = |loss: &Loss| {
        format!(
            "<tr><td class=\"number\">{}</td><td class=\"number\">{:.1} s</td><td class=\"number\">{:.1} s</td><td>{}</td></tr>\n",
            loss.calls,
            loss.first,
            loss.last,
            escape(&loss.why)
        )
    };
    format!(
        "<h2>Lost calls</h2>\n<div class=\"scroll card\"><table>\n<tr><th class=\"number\">Calls</th><th class=\"number\">First sent</th>\
         <th class=\"number\">Last sent</th><th>Result</th></tr>\n{}</table></div>\n",
        losses.iter().map(row).collect::<String>()
    )
}
