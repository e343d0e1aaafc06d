//! A self-contained HTML file: to attach to a ticket, to keep with a build, to print.

use crate::diagnose::verify::{Status, Subject, Verdict, Verdicts};
use crate::report::escape::html as escape;
use crate::report::page;

mod topology;

/// The style of pages with verdicts.
pub(in crate::report) const STYLE: &str = include_str!("html/style.css");

/// Returns the report: a document without scripts and without external resources.
pub fn report(verdicts: &Verdicts, subject: &Subject) -> String {
    let environment = escape(&verdicts.environment);
    let headline = headline(verdicts);
    let style = format!("{STYLE}{}", topology::style(subject.clusters.len()));
    let counts = counts(verdicts);
    let facts = facts(verdicts, subject);
    let topology = topology::figure(verdicts, subject);
    let claims = claims(verdicts);
    let main = format!("<h1>kindmesh verify: {headline}</h1>\n{counts}{facts}{topology}<h2>Claims</h2>\n{claims}");
    page::document(&format!("kindmesh verify {environment}: {headline}"), &style, &main)
}

/// Returns the numbers of verdicts.
pub(in crate::report) fn counts(verdicts: &Verdicts) -> String {
    let counts = [
        count(Status::Passed, verdicts.passed),
        count(Status::Failed, verdicts.failed),
        count(Status::Skipped, verdicts.skipped),
    ];
    format!("<ul class=\"counts\">\n{}</ul>\n", counts.concat())
}

/// Returns every verdict with its evidence.
pub(in crate::report) fn claims(verdicts: &Verdicts) -> String {
    verdicts.checks.iter().enumerate().map(|(index, verdict)| claim(index, verdict)).collect()
}

fn headline(verdicts: &Verdicts) -> String {
    let Verdicts { passed, failed, skipped, checks, .. } = verdicts;
    match (checks.len(), failed, skipped) {
        (0, ..) => "no claim was checked".to_owned(),
        (all, 0, 0) => format!("{passed} of {all} claims hold"),
        (all, 0, _) => format!("{passed} of {all} claims hold, {skipped} skipped"),
        (all, ..) => format!("{failed} of {all} claims failed"),
    }
}

fn mark(status: Status) -> &'static str {
    match status {
        Status::Passed => "✓",
        Status::Failed => "✗",
        Status::Skipped => "–",
    }
}

fn count(status: Status, number: usize) -> String {
    // Color draws attention, so a count of zero has none.
    let class = if number == 0 { "none" } else { status.as_str() };
    format!("<li class=\"{class}\"><b>{number}</b> {} {}</li>\n", mark(status), status.as_str())
}

/// Returns where and when.
pub(in crate::report) fn facts(verdicts: &Verdicts, subject: &Subject) -> String {
    let started = subject.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let facts = [
        ("Environment", escape(&verdicts.environment)),
        ("Istio", escape(&subject.istio)),
        ("Node image", escape(&subject.node_image)),
        ("Started", format!("<time datetime=\"{}\">{started}</time>", subject.started)),
        ("Duration", duration(subject.seconds)),
    ];
    let facts = facts.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n")).concat();
    format!("<dl class=\"facts card\">\n{facts}</dl>\n")
}

fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{} s", (seconds * 100.0).round() / 100.0);
    }
    let whole = seconds.round();
    format!("{} min {} s", (whole / 60.0).floor(), whole % 60.0)
}

fn claim(index: usize, verdict: &Verdict) -> String {
    let Verdict { id, claim, status, seconds, evidence, hint } = verdict;
    let word = status.as_str();
    let mut text = format!(
        "<article class=\"claim card claim-{word}\" id=\"claim-{}\">\n<div class=\"head-line\">\
         <span class=\"status {word}\">{} {word}</span> <code>{}</code> <span class=\"seconds\">{}</span></div>\n\
         <p>{}</p>\n",
        index + 1,
        mark(*status),
        escape(id),
        duration(*seconds),
        escape(claim),
    );
    // Evidence of a skipped claim is folded, but the reason for the missing verdict is visible.
    if let (Status::Skipped, Some(why)) = (status, evidence.last()) {
        text.push_str(&format!("<p><b>Skipped:</b> {}</p>\n", escape(why)));
    }
    if let (Status::Failed, Some(hint)) = (status, hint) {
        text.push_str(&format!("<p class=\"hint\"><b>Hint:</b> {}</p>\n", escape(hint)));
    }
    text.push_str(&details(*status, evidence));
    text.push_str("</article>\n");
    text
}

fn details(status: Status, evidence: &[String]) -> String {
    let Some((last, before)) = evidence.split_last() else {
        return "<p class=\"missing\">No evidence recorded.</p>\n".to_owned();
    };
    let open = if status == Status::Failed { " open" } else { "" };
    let why = if status == Status::Passed { "" } else { " class=\"why\"" };
    let before: String = before.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
    format!(
        "<details{open}><summary>Evidence</summary>\n<ul class=\"evidence\">\n{before}<li{why}>{}</li>\n</ul>\n\
         </details>\n",
        escape(last)
    )
}

#[cfg(test)]
mod tests;
